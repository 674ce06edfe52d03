"""A committee member: what it reveals, to which request, and how often."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

import secureagg as sa
from secureagg.errors import EncodingError, ParameterError, QuorumError
from secureagg.exchange import CHECK, EVERY_MEMBER, REVEAL, RequestHeader, RevealAnswer, ShareCheck
from secureagg.he.sharing import key_sum, unpack_elements
from secureagg.payload import Dealing
from secureagg.session import Prekey
from secureagg.wire import Writer
from tests.cheating import Parts, dealt, off_by_one
from tests.federation import Federation, federation, seeded


@pytest.fixture
def everyone() -> Iterator[Federation]:
    with federation(quorum=2) as made:
        yield made


def request_of(
    everyone: Federation,
    payloads: list[bytes],
    *,
    kind: int = REVEAL,
    member: int = EVERY_MEMBER,
    alter: Callable[[Parts], Parts] = lambda parts: parts,
) -> bytes:
    """Return a request as any aggregator could write it: for these contributions, each altered first."""
    writer = Writer().raw(RequestHeader(kind, member, len(payloads)).to_bytes(everyone.session.sid))
    for payload in payloads:
        parts = alter(Parts.of(everyone.session, payload))
        parts.header.dealing().write(writer)
        for box in parts.boxes if member == EVERY_MEMBER else (parts.boxes[member],):
            writer.raw(box)
    return writer.getvalue()


def payloads_of(everyone: Federation) -> list[bytes]:
    return [everyone.contribution(client_id) for client_id in range(everyone.plan.clients)]


def test_an_answer_is_the_sum_of_its_shares(everyone: Federation) -> None:
    """Answers over {0, 1} and over {0, 1, 2} of three rounds add up as shares do; the sum opens to Σs."""
    payloads = payloads_of(everyone)
    request = request_of(everyone, payloads)
    answers = [
        RevealAnswer.from_bytes(m.respond(everyone.session, request), everyone.session) for m in everyone.members
    ]
    sharing = everyone.plan.sharing
    shares = [unpack_elements(sharing, answer.sums, sharing.secrets) for answer in answers]
    # Degree 2, at 0; the sum of four small keys is small.
    opened = (3 * shares[0] - 3 * shares[1] + shares[2]) % sharing.modulus
    assert np.array_equal(opened, key_sum(sharing, (0, 1, 2), dict(enumerate(shares))) % sharing.modulus)
    assert len({answer.request for answer in answers}) == 1
    assert [answer.member_id for answer in answers] == [0, 1, 2]


def test_files_bytes_and_requests_are_answered_alike(everyone: Federation) -> None:
    request = everyone.aggregator().close()
    member = everyone.members[1]
    answer = member.respond(everyone.session, request)
    for form in (bytes(request), request.for_member(1), io.BytesIO(bytes(request)), bytearray(request.for_member(1))):
        assert member.respond(everyone.session, form) == answer


def test_a_member_answers_once_per_round_number(everyone: Federation) -> None:
    """The same request again: the same bytes, also after a restart. Any other set: refused."""
    payloads, member = payloads_of(everyone), everyone.members[0]
    request, fewer = request_of(everyone, payloads), request_of(everyone, payloads[:3])
    other = request_of(everyone, [*payloads[:3], everyone.contribution(3)])  # another contribution of client 3
    answer = member.respond(everyone.session, request)
    for instance in (member, everyone.restarted(0)):
        assert instance.respond(everyone.session, request) == answer
        for different in (fewer, other):
            with pytest.raises(ParameterError, match="round 1 was already answered under this roster, for another set"):
                instance.respond(everyone.session, different)


def test_another_plan_or_model_for_the_same_round_number_is_not_answered(everyone: Federation) -> None:
    """The journal goes by roster and round number, so a changed plan does not buy a second answer."""
    everyone.members[0].respond(everyone.session, request_of(everyone, payloads_of(everyone)))
    with federation(quorum=3) as others:
        session = everyone.session_of(1, plan=others.plan)
        others.session = session
        payloads = [everyone.contribution(i, session=session) for i in range(4)]
        with pytest.raises(ParameterError, match="already answered under this roster"):
            everyone.members[0].respond(session, request_of(others, payloads))


def test_the_prekey_is_erased_and_boxes_stay_closed(everyone: Federation) -> None:
    """After its answer a member, with all keys it has left, can open none of the round's boxes again."""
    payloads, member = payloads_of(everyone), everyone.members[0]
    member.respond(everyone.session, request_of(everyone, payloads))
    assert member._journal.stored_prekey(1) is None
    with pytest.raises(ParameterError, match="holds no prekey for round 1: it was never published, or the round is"):
        member.check(everyone.session, request_of(everyone, payloads, kind=CHECK))
    # A journal restored without its answers does not help either.
    thief = sa.CommitteeMember(everyone.member_identities[0], journal=everyone.directory / "stolen")
    with pytest.raises(ParameterError, match="holds no prekey for round 1"):
        thief.respond(everyone.session, request_of(everyone, payloads))
    thief.prekey(1)
    with pytest.raises(ParameterError, match="the session holds another prekey of this member for round 1"):
        thief.respond(everyone.session, request_of(everyone, payloads))


def test_prekeys_are_stable_signed_and_per_round(everyone: Federation) -> None:
    member = everyone.members[0]
    assert member.prekey(5) == member.prekey(5) == everyone.restarted(0).prekey(5)
    keys = {Prekey.from_bytes(member.prekey(number)).key for number in range(5)}
    assert len(keys) == 5
    assert Prekey.from_bytes(member.prekey(7)).round_number == 7
    for number in (-1, 2**63, 1.5, True, None, "../../prekey"):
        with pytest.raises(ParameterError, match="round_number must be a whole number"):
            member.prekey(number)


def test_a_retired_round_is_closed_for_good(everyone: Federation) -> None:
    """Nobody answered round 1; once given up, its boxes stay closed for whoever gets the member's keys."""
    payloads, member = payloads_of(everyone), everyone.members[0]
    member.prekey(2)
    member.retire(1)
    with pytest.raises(ParameterError, match="holds no prekey for round 1"):
        member.respond(everyone.session, request_of(everyone, payloads))
    assert member._journal.stored_prekey(2) is not None


@pytest.mark.parametrize("clients", [0, 1])
def test_fewer_than_the_quorum_are_not_opened(everyone: Federation, clients: int) -> None:
    payloads, member = payloads_of(everyone), everyone.members[0]
    with pytest.raises(QuorumError, match=f"{clients} clients requested, the quorum is 2; nothing revealed"):
        member.respond(everyone.session, request_of(everyone, payloads[:clients]))
    # Nor one client counted twice, nor a count that says more than there is.
    with pytest.raises(EncodingError, match="not in ascending order, each once"):
        member.respond(everyone.session, request_of(everyone, [payloads[0], payloads[0]]))
    inflated = request_of(everyone, payloads[:1]).replace(
        bytes([REVEAL, EVERY_MEMBER, 1]), bytes([REVEAL, EVERY_MEMBER, 2])
    )
    with pytest.raises(EncodingError, match="truncated"):
        member.respond(everyone.session, inflated)
    assert member._journal.stored_prekey(1) is not None


def replaced_box(parts: Parts) -> Parts:
    return replace(parts, boxes=(parts.boxes[1], parts.boxes[0], parts.boxes[2]))


def with_header(**changes: object) -> Callable[[Parts], Parts]:
    return lambda parts: replace(parts, header=replace(parts.header, **changes))


@pytest.mark.parametrize(
    ("alter", "message"),
    [
        (replaced_box, "the box of client 0 is not the one it signed"),
        (with_header(ephemeral=bytes(32)), "the signature of this contribution is wrong"),
        (with_header(signature=bytes(64)), "the signature of this contribution is wrong"),
        (with_header(frames=(bytes(32),)), "the signature of this contribution is wrong"),
        (with_header(check=bytes(42)), "the signature of this contribution is wrong"),
    ],
)
@pytest.mark.parametrize("kind", [CHECK, REVEAL])
def test_a_dealing_the_aggregator_altered_is_refused(
    everyone: Federation, alter: Callable[[Parts], Parts], message: str, kind: int
) -> None:
    """Not a complaint about the client: nobody but the aggregator can be to blame."""
    request = request_of(everyone, payloads_of(everyone), kind=kind, alter=alter)
    ask = everyone.members[0].check if kind == CHECK else everyone.members[0].respond
    with pytest.raises(EncodingError, match=message):
        ask(everyone.session, request)


def test_contributions_of_another_session_are_refused(everyone: Federation) -> None:
    """Signed by the right clients for another round, and given new clothes by the aggregator."""
    other = everyone.session_of(2)
    replayed = [everyone.contribution(i, session=other) for i in range(2)]
    dressed = [everyone.session.sid.join([p[:5], p[37:]]) for p in replayed]
    with pytest.raises(EncodingError, match="the signature of this contribution is wrong"):
        everyone.members[0].respond(everyone.session, request_of(everyone, dressed))
    with pytest.raises(EncodingError, match="request: made for another session"):
        everyone.members[0].respond(other, request_of(everyone, payloads_of(everyone)))


def test_strangers_answer_nothing(everyone: Federation) -> None:
    stranger = sa.CommitteeMember(seeded("stranger"), journal=everyone.directory / "stranger")
    for ask in (stranger.respond, stranger.check):
        with pytest.raises(ParameterError, match="not a committee member on the roster"):
            ask(everyone.session, request_of(everyone, payloads_of(everyone)))


@pytest.mark.parametrize("place", ["first share", "a share", "last share", "mask"])
def test_bad_shares_are_complained_about(everyone: Federation, place: str) -> None:
    """Signed and sealed properly, but off the polynomial: the member names the client, and reveals nothing."""

    def wrong(elements: np.ndarray, modulus: int) -> np.ndarray:
        index = {"first share": 0, "a share": 30, "last share": 63, "mask": -1}[place]
        return np.roll(off_by_one(np.roll(elements, -index), modulus), index)

    payloads = [*payloads_of(everyone)[:3], dealt(everyone, 3, members=[1], wrong=wrong)]
    complaints = []
    for member in everyone.members:
        report = member.check(everyone.session, request_of(everyone, payloads, kind=CHECK))
        complaints.append(ShareCheck.from_bytes(report, everyone.session).complaints)
    assert complaints == [(), (3,), ()]
    answer = RevealAnswer.from_bytes(
        everyone.members[1].respond(everyone.session, request_of(everyone, payloads)), everyone.session
    )
    assert (answer.complaints, answer.sums) == ((3,), b"")
    # Nothing was revealed, so the member still answers for the others.
    answer = everyone.members[1].respond(everyone.session, request_of(everyone, payloads[:3]))
    assert RevealAnswer.from_bytes(answer, everyone.session).complaints == ()


def complaints_of(everyone: Federation, payloads: list[bytes]) -> list[tuple[int, ...]]:
    request = request_of(everyone, payloads, kind=CHECK)
    reports = [member.check(everyone.session, request) for member in everyone.members]
    return [ShareCheck.from_bytes(report, everyone.session).complaints for report in reports]


def test_boxes_that_do_not_open_are_complained_about(everyone: Federation) -> None:
    flipped = dealt(everyone, 0, members=[1], spoil=lambda box: box[:-1] + bytes([box[-1] ^ 1]))
    noise = dealt(everyone, 1, members=[0, 2], spoil=lambda box: bytes(len(box)))
    assert complaints_of(everyone, [flipped, noise, *payloads_of(everyone)[2:]]) == [(1,), (0,), (1,)]


def test_the_check_is_bound_to_all_boxes(everyone: Federation) -> None:
    """A box, or the ephemeral key, exchanged after the check polynomials were drawn: every member sees it."""
    parts = [Parts.of(everyone.session, payload) for payload in payloads_of(everyone)]
    swapped = replaced_box(parts[0]).signed(everyone.session, everyone.clients[0])
    one = replace(parts[1], boxes=(bytes(94), *parts[1].boxes[1:])).signed(everyone.session, everyone.clients[1])
    low = replace(parts[2], header=replace(parts[2].header, ephemeral=bytes(32)))
    payloads = [swapped, one, low.signed(everyone.session, everyone.clients[2]), everyone.contribution(3)]
    assert complaints_of(everyone, payloads) == [(0, 1, 2)] * 3


def test_a_check_can_be_repeated_and_costs_no_answer(everyone: Federation) -> None:
    payloads, member = payloads_of(everyone), everyone.members[0]
    request = request_of(everyone, payloads, kind=CHECK)
    assert member.check(everyone.session, request) == member.check(everyone.session, request)
    smaller = request_of(everyone, payloads[:2])
    assert RevealAnswer.from_bytes(member.respond(everyone.session, smaller), everyone.session).sums


def test_the_order_of_entries_is_fixed(everyone: Federation) -> None:
    payloads = payloads_of(everyone)
    with pytest.raises(EncodingError, match="ascending"):
        everyone.members[0].respond(everyone.session, request_of(everyone, payloads[::-1]))


def test_a_dealing_is_as_long_as_it_says(everyone: Federation) -> None:
    assert Dealing.encoded_bytes(everyone.plan) == 4 + 64 + 32 + 32 + 3 * 32 + everyone.plan.sharing.check_bytes


def test_a_member_is_not_pickled(everyone: Federation) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(everyone.members[0])
