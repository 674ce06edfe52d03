"""Rounds with proofs against bad dealings, a dishonest aggregator and lying members: the sum is right or refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg import aggregator as aggregator_module
from secureagg.errors import EncodingError, FaultyClientError, ParameterError, QuorumError, UnattributedFault
from secureagg.exchange import REVEAL, Request, RevealAnswer, ShareCheck
from secureagg.he.deal import Dealer
from secureagg.he.sharing import pack_elements, unpack_elements
from secureagg.payload import ContributionView, Header
from secureagg.tally import _challenge, _InnerProducts
from secureagg.tally import tally as make_tally
from secureagg.verification import Verdict, verify_many
from tests.cheating import signed_answer, signed_check
from tests.federation import Federation, answers_of, same
from tests.proving import FIVE, asked, finished, forged, parts_of, proven_federation
from tests.zk.cheating import SUM
from tests.zk.lying import Claim

LIAR = 2


@pytest.fixture
def everyone() -> Iterator[Federation]:
    """Five members, any four of whom open the sum; one may be corrupt."""
    with proven_federation(committee=FIVE) as made:
        yield made


def signed(everyone: Federation, **changes: Any) -> bytes:
    return forged(everyone, LIAR, **changes).signed(everyone.session, everyone.clients[LIAR])


def sum_with(everyone: Federation, payload: bytes) -> sa.Result:
    """Return the result of a round in which clients 0 and 1 are honest and this payload is admitted."""
    aggregator = everyone.aggregator([0, 1])
    assert aggregator.admit(payload) == LIAR
    return finished(everyone, aggregator)


# Dealings: the proof says nothing about what is in a box, the members do.


class TooHigh(Dealer):
    """Shares on polynomials of degree t, which open, to five members, to the right key."""

    def shares(self, member_id: int) -> bytes:
        count, p, x = self._sharing.secrets + self._sharing.repetitions, self._sharing.modulus, member_id + 1
        honest = unpack_elements(self._sharing, super().shares(member_id), count).astype(object)
        top = np.array([7 * i + 1 for i in range(count)], dtype=object) * x**self._sharing.threshold
        return pack_elements(self._sharing, ((honest + top) % p).astype(np.int64))


def off_by_one(everyone: Federation, cheated: tuple[int, ...], place: int) -> Callable[[int, list[bytes]], bytes]:
    """Return the alteration of one element of these members' shares."""
    sharing = everyone.plan.sharing

    def plain(member: int, shares: list[bytes]) -> bytes:
        elements = unpack_elements(sharing, shares[member], sharing.secrets + sharing.repetitions)
        elements[place] = (elements[place] + (member in cheated)) % sharing.modulus
        return pack_elements(sharing, elements)

    return plain


BAD_BOXES: dict[str, dict[str, Any]] = {
    "shares of too high a degree": {"deal": TooHigh},
    "shares of the next member": {"plain": lambda member, shares: shares[(member + 1) % 5]},
    "zero shares": {"plain": lambda member, shares: bytes(len(shares[member]))},
    "not canonical": {"plain": lambda member, shares: b"\xff" * len(shares[member])},
    "a box altered": {"spoil": lambda member, box: bytes([box[0] ^ 1]) + box[1:]},
    "no box": {"spoil": lambda member, box: bytes(len(box))},
}


@pytest.mark.parametrize("changes", BAD_BOXES.values(), ids=BAD_BOXES)
def test_a_bad_dealing_leaves_its_client_out(everyone: Federation, changes: dict[str, Any]) -> None:
    """Its proof is true of what it commits to; all members complain, and the sum is that of the others."""
    result = sum_with(everyone, signed(everyone, **changes))
    assert result.refused == {LIAR: "dealt bad shares: members [0, 1, 2, 3, 4] complain"}
    assert result.clients == (0, 1) and same(result.mean, everyone.expected([0, 1]))


@pytest.mark.parametrize("place", [0, 63, 64, 65], ids=["first", "last", "mask", "second mask"])
@pytest.mark.parametrize("cheated", [(3,), (0, 4)])
def test_bad_shares_to_some_members(everyone: Federation, place: int, cheated: tuple[int, ...]) -> None:
    """To one: the four others open the sum with it. To two: an honest one of them complains, and it is left out."""
    payload = signed(everyone, plain=off_by_one(everyone, cheated, place))
    result = sum_with(everyone, payload)
    if len(cheated) == 1:
        assert result.refused == {} and same(result.mean, everyone.expected([0, 1, LIAR]))
    else:
        assert result.refused == {LIAR: f"dealt bad shares: members {list(cheated)} complain"}
        assert same(result.mean, everyone.expected([0, 1]))


@pytest.mark.parametrize(("first", "second"), [(0, 1), (1, 4)])
def test_two_members_with_each_others_shares(everyone: Federation, first: int, second: int) -> None:
    swapped = {first: second, second: first}
    result = sum_with(everyone, signed(everyone, plain=lambda member, shares: shares[swapped.get(member, member)]))
    assert result.refused == {LIAR: f"dealt bad shares: members {[first, second]} complain"}


@pytest.mark.parametrize("commits_to", ["the dealt key", "the key in use"])
def test_shares_of_another_key_are_refused_at_admission(everyone: Federation, commits_to: str) -> None:
    """Every member would be content: the share check is of what was dealt, and so is one of the commitments."""

    def committed(claim: Claim) -> Claim:
        return claim if commits_to == "the dealt key" else claim.telling(dealt={0: int(claim.dealt[0]) - 1})

    with pytest.raises(FaultyClientError) as caught:
        everyone.aggregator([0]).admit(signed(everyone, key_step=1, claim=committed))
    assert caught.value.client_id == LIAR and SUM in caught.value.reason


def test_shares_of_another_key_beside_a_true_proof_leave_their_client_out(everyone: Federation) -> None:
    """All shares of one coefficient are off by one, so that they open together, to another key: T is the proof's."""
    result = sum_with(everyone, signed(everyone, plain=off_by_one(everyone, (0, 1, 2, 3, 4), 0)))
    assert result.refused == {LIAR: "dealt bad shares: members [0, 1, 2, 3, 4] complain"}
    assert same(result.mean, everyone.expected([0, 1]))


class OneMask(Dealer):
    """Both repetitions of the share check under one mask: their difference is public, and tells of this key alone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.masks[:, 1] = self.masks[:, 0]


def test_a_mask_used_twice_harms_its_owner_alone(everyone: Federation) -> None:
    """Nobody can refuse it without looking for it, and the sum is right."""
    result = sum_with(everyone, signed(everyone, deal=OneMask))
    assert result.refused == {} and same(result.mean, everyone.expected([0, 1, LIAR]))


# What corrupt members may say.


@pytest.mark.parametrize("complaints", [(0,), (0, 1, 2)])
def test_a_false_complaint_is_passed_over_while_t_others_report(
    everyone: Federation, complaints: tuple[int, ...]
) -> None:
    aggregator = everyone.aggregator([0, 1, 2])
    check = aggregator.share_check()
    reports = [member.check(everyone.session, check) for member in everyone.members]
    reports[3] = signed_check(everyone, reports[3], complaints=complaints)
    request = aggregator.close(reports)
    answers = answers_of([everyone.members[m] for m in (0, 1, 2, 4)], everyone.session, request)
    result = aggregator.open(answers)
    assert result.refused == {} and same(result.mean, everyone.expected([0, 1, 2]))


def test_a_false_complaint_counts_where_a_member_is_away(everyone: Federation) -> None:
    """Exactly t report: the client is left out, but not blamed. c corrupt members decide about that, not the sum."""
    aggregator = everyone.aggregator([0, 1, 2])
    check = aggregator.share_check()
    reports = [everyone.members[m].check(everyone.session, check) for m in (0, 1, 3, 4)]
    reports[2] = signed_check(everyone, reports[2], complaints=(1,))
    request = aggregator.close(reports)
    result = aggregator.open(answers_of([everyone.members[m] for m in (0, 1, 3, 4)], everyone.session, request))
    assert result.refused == {1: "left out, in dispute: members [3] complain"} and result.faults == {}
    assert same(result.mean, everyone.expected([0, 2]))


def lying(everyone: Federation, answer: bytes, place: int, step: int) -> bytes:
    """Return a member's answer with one share sum changed, signed properly."""
    sharing = everyone.plan.sharing
    shares = unpack_elements(sharing, RevealAnswer.from_bytes(answer, everyone.session).sums, sharing.secrets)
    shares[place] = (shares[place] + step) % sharing.modulus
    return signed_answer(everyone, answer, sums=pack_elements(sharing, shares))


@pytest.mark.parametrize("place", [0, 63])
@pytest.mark.parametrize("step", [1, -1, 2**51])
def test_a_false_share_sum_is_found_by_the_residuals(everyone: Federation, place: int, step: int) -> None:
    """128 coefficients under the key, as few as there may be: with five answers the liar is outvoted, if not named;
    with exactly t nothing is opened. One step in one share is a multiple of a Lagrange coefficient in the key."""
    assert everyone.plan.packing.coefficients == 2 * everyone.plan.packing.ring.degree
    aggregator = everyone.aggregator([0, 1, 3])
    request = asked(everyone, aggregator)
    answers = answers_of(everyone.members, everyone.session, request)
    answers[1] = lying(everyone, answers[1], place, step)
    result = aggregator.open(answers)
    assert (result.disagreeing, result.faults) == ((1,), {})  # five answers, but t + c = 5 honest ones would name it
    assert same(result.mean, everyone.expected([0, 1, 3]))
    for away in (0, 2, 3, 4):
        with pytest.raises(UnattributedFault, match=r"no 4 of them open the sum|the residual|[Nn]othing was decoded"):
            aggregator.open([answer for member, answer in enumerate(answers) if member != away])


@pytest.mark.parametrize("step", [1, -1, 3])
def test_a_key_sum_that_is_off_by_little_opens_nothing(everyone: Federation, step: int) -> None:
    """A lie of a member that changes the key sum by as little as there is: one coefficient, by one."""
    p, points = everyone.plan.sharing.modulus, (1, 2, 3, 4)
    aggregator = everyone.aggregator([0, 1, 3])
    request = asked(everyone, aggregator)
    answers = answers_of(everyone.members[:4], everyone.session, request)
    weight = 1  # of member 0's share in the key sum: Lagrange's coefficient at 0
    for other in points[1:]:
        weight = weight * other * pow(other - 1, -1, p) % p
    answers[0] = lying(everyone, answers[0], 5, step * pow(weight, -1, p) % p)
    with pytest.raises(UnattributedFault, match=r"[Nn]othing was decoded"):
        aggregator.open(answers)


def test_a_liar_among_many_is_named() -> None:
    """Nine members, t = 7, c = 1: eight agree."""
    committee = sa.Committee(size=9, threshold=7, assumed_corrupt=1)
    with proven_federation(committee=committee) as everyone:
        aggregator = everyone.aggregator([0, 1, 3])
        answers = answers_of(everyone.members, everyone.session, asked(everyone, aggregator))
        answers[6] = lying(everyone, answers[6], 7, 1)
        result = aggregator.open(answers)
        assert result.faults == {6: "its share sum is not on the polynomial that opens the sum"}
        assert same(result.mean, everyone.expected([0, 1, 3]))


def test_an_answer_with_elements_of_q_or_more_names_its_member(everyone: Federation) -> None:
    aggregator = everyone.aggregator([0, 1])
    answers = answers_of(everyone.members, everyone.session, asked(everyone, aggregator))
    sharing = everyone.plan.sharing
    noncanonical = everyone.plan.packing.ring.modulus.to_bytes(7, "little").ljust(sharing.answer_bytes, b"\0")
    answers[3] = signed_answer(everyone, answers[3], sums=noncanonical)
    result = aggregator.open(answers)
    assert result.faults == {3: "a field element is not in canonical form"}
    assert same(result.mean, everyone.expected([0, 1]))


# What a dishonest aggregator may do.


def test_members_asked_about_different_sets_do_not_add_up(everyone: Federation) -> None:
    """Each member answers once, and for the set it was shown."""
    everything, fewer = everyone.aggregator([0, 1, 2]), everyone.aggregator([0, 1])
    requests = [asked(everyone, each) for each in (everything, fewer)]
    answers = [
        member.respond(everyone.session, requests[m % 2]) for m, member in enumerate(everyone.members)
    ]  # 0, 2 and 4 about three clients
    for aggregator, note in ((everything, "3 of 4 needed"), (fewer, "2 of 4 needed")):
        with pytest.raises(QuorumError, match=f"{note}.*about another set of clients"):
            aggregator.open(answers)
    for m, member in enumerate(everyone.members):
        with pytest.raises(ParameterError, match="already answered under this roster, for another set"):
            member.respond(everyone.session, requests[1 - m % 2])


def without(parts: ContributionView) -> Callable[[int], ContributionView]:
    return lambda client_id: parts


@pytest.mark.parametrize("field", ["commitment", "proof", "check"])
def test_a_header_altered_on_the_way_to_the_members_is_refused(everyone: Federation, field: str) -> None:
    """Nothing of what a client signed can be changed for a member to accept."""
    aggregator = everyone.aggregator([0, 1])
    view = aggregator._spool.view

    def altered(client_id: int) -> ContributionView:
        honest = view(client_id)
        if client_id == 0:
            return honest
        header = Header.from_bytes(honest.header(), everyone.session)
        value = getattr(header, field)
        encoded = replace(header, **{field: value[:-1] + bytes([value[-1] ^ 1])}).to_bytes(everyone.session.sid)

        def read(offset: int, length: int) -> bytes | memoryview:
            return encoded if offset == 0 else honest._read(offset, length)

        return ContributionView(everyone.plan, read, honest.length)

    request = Request(everyone.session, REVEAL, [0, 1], altered)
    for member in everyone.members:
        with pytest.raises(EncodingError, match="the signature of this"):
            member.respond(everyone.session, request)


@pytest.mark.parametrize("times", [0, 2])
def test_a_client_dropped_or_counted_twice_in_the_sum_opens_nothing(everyone: Federation, times: int) -> None:
    """The members answer for the clients of the request; a sum of others is under another key."""
    aggregator = everyone.aggregator([0, 1, 3])
    request = asked(everyone, aggregator)
    for index in range(len(everyone.plan.packing.frames)):
        change = aggregator._sum.total.subtract if times == 0 else aggregator._sum.total.add
        change(index, aggregator._spool.view(1).frame(index))
    with pytest.raises(UnattributedFault, match=r"[Nn]othing was decoded"):
        aggregator.open(answers_of(everyone.members, everyone.session, request))


@pytest.mark.parametrize("swap", ["own", "copied"])
def test_a_ciphertext_replaced_after_admission_opens_nothing(everyone: Federation, swap: str) -> None:
    aggregator = everyone.aggregator([0, 1, 3])
    request = asked(everyone, aggregator)
    other = parts_of(everyone.session, everyone.contribution(1 if swap == "own" else 0))
    for index, frame in enumerate(other.frames):
        aggregator._sum.total.subtract(index, aggregator._spool.view(1).frame(index))
        aggregator._sum.total.add(index, frame)
    with pytest.raises(UnattributedFault, match=r"[Nn]othing was decoded"):
        aggregator.open(answers_of(everyone.members, everyone.session, request))


def test_an_aggregator_that_does_not_verify_is_found_by_an_auditor(
    everyone: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Members see no proof and sum what they were dealt. Whoever has the contributions can verify them all again."""
    cheat = signed(everyone, grid=[900] * 18)
    payloads = [everyone.contribution(0), everyone.contribution(1), cheat]
    monkeypatch.setattr(aggregator_module, "verify_parts", lambda session, view, header: None)
    aggregator = sa.Aggregator(everyone.session)
    for payload in payloads:
        aggregator.admit(payload)
    check = aggregator.share_check()
    reports = [member.check(everyone.session, check) for member in everyone.members]
    assert all(ShareCheck.from_bytes(each, everyone.session).complaints == () for each in reports)
    result = aggregator.open(answers_of(everyone.members, everyone.session, aggregator.close(reports)))
    assert result.clients == (0, 1, 2) and float(result.mean[0].min()) * everyone.plan.quantiser.scale > 100
    verdicts = verify_many(everyone.session, payloads)
    assert verdicts[:2] == [Verdict(0, None), Verdict(1, None)] and verdicts[2].client_id == LIAR
    assert (verdicts[2].reason or "").startswith("proof: ")


def test_a_sum_chosen_after_r_is_refused(everyone: Federation, tmp_path: Path) -> None:
    """A change of Σc to which r is orthogonal, both times, would pass if r were not drawn from Σc."""
    aggregator = everyone.aggregator([0, 1, 3], spool=tmp_path)
    result = aggregator.open(answers_of(everyone.members, everyone.session, asked(everyone, aggregator)))
    honest, session, packing = result.tally or b"", everyone.session, everyone.plan.packing
    start, (q,) = len(honest) - packing.ciphertext_bytes, packing.ring.primes
    digests = [
        (i, Header.from_bytes(aggregator._spool.view(i).header(), session).dealing().digest(session.sid))
        for i in (0, 1, 3)
    ]
    challenge = _challenge(session, digests, [honest[start:]])

    def products(ciphertext: bytes) -> tuple[int, ...]:
        frames = packing.frames
        return _InnerProducts(session, challenge).of(lambda i: ciphertext[frames[i].start :][: frames[i].size])

    def numbers(*first: int) -> bytes:
        return sum(x << (52 * i) for i, x in enumerate(first)).to_bytes(packing.ciphertext_bytes, "little")

    (a0, b0), (a1, b1), (a2, b2) = (products(numbers(*([0] * i + [1]))) for i in range(3))
    change = ((a1 * b2 - a2 * b1) % q, (a2 * b0 - a0 * b2) % q, (a0 * b1 - a1 * b0) % q)  # the cross product
    assert products(numbers(*change)) == (0, 0)
    total = int.from_bytes(honest[start:], "little")
    words = [(total >> (52 * i)) % 2**52 for i in range(packing.coefficients)]
    words[:3] = [(word + step) % q for word, step in zip(words, change, strict=False)]
    altered = numbers(*words)
    assert altered != honest[start:] and products(altered) == products(honest[start:])
    with pytest.raises(UnattributedFault, match="the published sum is not the sum of the contributions it lists"):
        sa.verify_tally(session, honest[:start] + altered)
    sa.verify_tally(session, honest)


@pytest.mark.parametrize("fate", ["dropped", "another in its place"])
def test_a_client_finds_that_its_contribution_is_not_in_the_tally(
    everyone: Federation, tmp_path: Path, fate: str
) -> None:
    mine = everyone.contribution(1)
    aggregator = everyone.aggregator([0, 2, 3] if fate == "dropped" else [0, 1, 2], spool=tmp_path)
    request = asked(everyone, aggregator)
    aggregator.open(answers_of(everyone.members, everyone.session, request))
    published = b"".join(make_tally(everyone.session, request, aggregator._sum.total.frame, aggregator._spool.view))
    with pytest.raises(UnattributedFault, match=r"this client's own contribution is not .*: the aggregator changed"):
        sa.verify_tally(everyone.session, published, mine=mine)
    with pytest.raises(FaultyClientError, match="client 1: its contribution is not"):
        sa.verify_tally(everyone.session, published, contributions=[mine])
