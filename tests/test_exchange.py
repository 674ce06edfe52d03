"""Requests and what members answer: canonical bytes, signatures that cover all that is said."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest

import secureagg as sa
from secureagg.errors import EncodingError, ParameterError
from secureagg.exchange import (
    CHECK,
    EVERY_MEMBER,
    REVEAL,
    RequestHeader,
    RevealAnswer,
    ShareCheck,
    read_exactly,
    request_digest,
    request_entries,
)
from secureagg.payload import Dealing
from secureagg.wire import Reader
from tests.cheating import signed_answer, signed_check
from tests.federation import Federation, federation

LITTLE = "little"


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(committee=sa.Committee(3, mode="robust")) as made:
        yield made


@pytest.fixture(scope="module")
def reports(everyone: Federation) -> list[bytes]:
    check = everyone.aggregator([0, 1, 2, 3]).share_check()
    return [member.check(everyone.session, check) for member in everyone.members]


@pytest.fixture(scope="module")
def answer(everyone: Federation) -> bytes:
    aggregator = everyone.aggregator([0, 1, 2, 3])
    reports = [member.check(everyone.session, aggregator.share_check()) for member in everyone.members]
    return everyone.members[1].respond(everyone.session, aggregator.close(reports))


def test_a_request_for_one_and_for_all(everyone: Federation) -> None:
    """Each member's copy holds its own boxes; the broadcast one all of them; both name the same set."""
    session, request = everyone.session, everyone.aggregator([3, 0, 2]).share_check()
    assert request.clients == (0, 2, 3)
    length, box = Dealing.encoded_bytes(everyone.plan), everyone.plan.box_bytes
    for member in (0, 1, 2):
        mine, broadcast = request.for_member(member), bytes(request)
        assert (len(mine), len(broadcast)) == (43 + 3 * (length + box), 43 + 3 * (length + 3 * box))
        found = []
        for encoded in (mine, broadcast):
            source = io.BytesIO(encoded)
            header = RequestHeader.read(Reader(source.read(RequestHeader.BYTES), "request"), session)
            assert header.to_bytes(session.sid) == encoded[:43]
            entries = list(request_entries(source, session, header, member))
            assert [dealing.client_id for dealing, _ in entries] == [0, 2, 3]
            assert request_digest(session.sid, [dealing for dealing, _ in entries]) == request.digest()
            found.append([bytes(box) for _, box in entries])
        assert found[0] == found[1]
    for member in (3, -1, 254):
        with pytest.raises(ParameterError, match=f"there is no committee member {member}; the committee has 3"):
            request.for_member(member)


def test_other_requests_are_refused(everyone: Federation) -> None:
    session, request = everyone.session, everyone.aggregator([0, 1, 2]).share_check()
    encoded, size = request.for_member(1), Dealing.encoded_bytes(everyone.plan) + everyone.plan.box_bytes
    entries = [encoded[43 + i * size : 43 + (i + 1) * size] for i in range(3)]

    def of(kind: int = CHECK, member: int = 1, count: int = 3, body: bytes = b"".join(entries)) -> bytes:
        return RequestHeader(kind, member, count).to_bytes(session.sid) + body

    assert of() == encoded
    altered_box = bytearray(b"".join(entries))
    altered_box[-1] ^= 1
    cases = [
        (of(kind=2), "kind 2 is unknown"),
        (of(kind=REVEAL), "kind 1 given where kind 0 is answered"),
        (of(member=0), "made for committee member 0, this is 1"),
        (of(member=EVERY_MEMBER), "truncated|the box of client 0|ascending"),
        (of(count=2), "trailing bytes"),
        (of(count=4), "truncated"),
        (of(count=2**32 - 1), "truncated"),
        (of()[:-1], "truncated"),
        (of() + b"\0", "trailing bytes"),
        (of(body=b"".join([entries[1], entries[0], entries[2]])), "not in ascending order, each once"),
        (of(body=b"".join([entries[0], entries[0], entries[2]])), "not in ascending order, each once"),
        (of(body=bytes(altered_box)), "the box of client 2 is not the one it signed"),
        (b"SArx" + of()[4:], "starts with b'SArx'"),
        (of()[:4] + b"\2" + of()[5:], "version 2 is unknown"),
        (everyone.session_of(2).sid.join([of()[:5], of()[37:]]), "made for another session"),
        (of()[:42], "truncated"),
        (b"", "truncated"),
    ]
    for altered, message in cases:
        with pytest.raises(EncodingError, match=message):
            everyone.members[1].check(session, altered)
    assert everyone.members[1].check(session, encoded)


def test_share_checks_come_back(everyone: Federation, reports: list[bytes]) -> None:
    sid = everyone.session.sid
    report = ShareCheck.from_bytes(reports[2], everyone.session)
    assert (report.member_id, report.complaints, report.to_bytes(sid)) == (2, (), reports[2])
    complaining = signed_check(everyone, reports[2], complaints=(0, 3))
    said = sid + b"\2" + report.request + (2).to_bytes(4, LITTLE) + (0).to_bytes(4, LITTLE) + (3).to_bytes(4, LITTLE)
    assert complaining[:-64] == b"SAch\x01" + said
    assert ShareCheck.from_bytes(complaining, everyone.session).complaints == (0, 3)


@pytest.mark.parametrize("complaints", [(3, 0), (1, 1), (4,), (2**32 - 1,)])
def test_complaints_are_ascending_clients_of_the_roster(
    everyone: Federation, reports: list[bytes], complaints: tuple[int, ...]
) -> None:
    with pytest.raises(EncodingError, match="share check: client ids are not ascending ids of the roster"):
        ShareCheck.from_bytes(signed_check(everyone, reports[0], complaints=complaints), everyone.session)


def test_answers_come_back(everyone: Federation, answer: bytes) -> None:
    sid, session = everyone.session.sid, everyone.session
    found = RevealAnswer.from_bytes(answer, session)
    assert (found.member_id, found.complaints, len(found.sums)) == (1, (), everyone.plan.sharing.answer_bytes)
    sums = len(found.sums).to_bytes(4, LITTLE) + found.sums
    assert answer[:-64] == b"SAan\x01" + sid + b"\1" + found.request + bytes(4) + sums
    complaining = signed_answer(everyone, answer, sums=b"", complaints=(0, 2))
    assert RevealAnswer.from_bytes(complaining, session).complaints == (0, 2)


def test_an_answer_says_sums_or_complaints(everyone: Federation, answer: bytes) -> None:
    sums = RevealAnswer.from_bytes(answer, everyone.session).sums
    for changes, message in (
        ({"complaints": (1,)}, f"{len(sums)} bytes of share sums with 1 complaints"),
        ({"sums": b""}, "0 bytes of share sums with 0 complaints"),
        ({"sums": sums[:-1]}, f"{len(sums) - 1} bytes of share sums with 0 complaints"),
        ({"sums": sums + b"\0"}, f"{len(sums) + 1} bytes of share sums"),
        ({"sums": b"", "complaints": (2, 1)}, "not ascending"),
    ):
        with pytest.raises(EncodingError, match=f"reveal answer: .*{message}"):
            RevealAnswer.from_bytes(signed_answer(everyone, answer, **changes), everyone.session)


def test_members_messages_are_bound_to_their_sender(everyone: Federation, reports: list[bytes], answer: bytes) -> None:
    """Relabelled as another member's, with a foreign session, or one kind given for the other: refused."""
    for encoded, kind in ((reports[1], ShareCheck), (answer, RevealAnswer)):
        for altered, message in (
            (encoded[:37] + b"\0" + encoded[38:], "the signature of this .* is wrong"),
            (encoded[:37] + b"\3" + encoded[38:], "committee member 3 is not on the roster of 3"),
            (encoded[:-1], "truncated"),
            (encoded + b"\0", "trailing"),
            (encoded[:5] + bytes(32) + encoded[37:], "another session"),
            (b"SAxx" + encoded[4:], "starts with"),
            (encoded[:4] + b"\7" + encoded[5:], "version 7"),
        ):
            with pytest.raises(EncodingError, match=message):
                kind.from_bytes(altered, everyone.session)
        with pytest.raises(EncodingError, match="starts with"):
            (RevealAnswer if kind is ShareCheck else ShareCheck).from_bytes(encoded, everyone.session)


def test_read_exactly() -> None:
    assert read_exactly(io.BytesIO(b"abc"), 2, "request") == b"ab"
    with pytest.raises(EncodingError, match="request: truncated: 4 bytes expected, 3 left"):
        read_exactly(io.BytesIO(b"abc"), 4, "request")
