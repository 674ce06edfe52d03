"""Messages: canonical bytes, lengths known beforehand, signatures that cover all that is said."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import secureagg as sa
from secureagg.errors import EncodingError, ParameterError
from secureagg.messages import (
    CHECK,
    EVERY_MEMBER,
    REVEAL,
    ContributionView,
    Dealing,
    Header,
    RequestHeader,
    RevealAnswer,
    ShareCheck,
    read_exactly,
    request_digest,
    request_entries,
)
from secureagg.wire import Reader, Writer
from tests.cheating import Parts, signed_answer, signed_check
from tests.federation import Federation, federation

LITTLE = "little"


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(committee=sa.Committee(3, mode="robust")) as made:
        yield made


@pytest.fixture(scope="module")
def payload(everyone: Federation) -> bytes:
    return everyone.contribution(2)


@pytest.fixture(scope="module")
def reports(everyone: Federation) -> list[bytes]:
    check = everyone.aggregator([0, 1, 2, 3]).share_check()
    return [member.check(everyone.session, check) for member in everyone.members]


@pytest.fixture(scope="module")
def answer(everyone: Federation) -> bytes:
    aggregator = everyone.aggregator([0, 1, 2, 3])
    reports = [member.check(everyone.session, aggregator.share_check()) for member in everyone.members]
    return everyone.members[1].respond(everyone.session, aggregator.close(reports))


def test_a_contribution_is_these_bytes(everyone: Federation, payload: bytes) -> None:
    """Parsed by hand from docs/wire-format.md's order of fields."""
    plan, sid = everyone.plan, everyone.session.sid
    assert len(payload) == plan.bytes_per_client
    assert payload[:5] == b"SAco\x01" and payload[5:37] == sid and payload[37:41] == (2).to_bytes(4, LITTLE)
    signature, ephemeral, rest = payload[41:105], payload[105:137], payload[137:]
    frame_digests, box_digests, rest = rest[:32], [rest[32 * i : 32 * i + 32] for i in (1, 2, 3)], rest[128:]
    check, rest = rest[: plan.sharing.check_bytes], rest[plan.sharing.check_bytes :]
    frame, boxes = rest[: 64 * 52 // 8], rest[64 * 52 // 8 :]
    assert hashlib.sha256(frame).digest() == frame_digests
    for member in range(3):
        box = boxes[member * plan.box_bytes : (member + 1) * plan.box_bytes]
        assert hashlib.sha256(box).digest() == box_digests[member]
    said = sid + (2).to_bytes(4, LITTLE) + hashlib.sha256(frame_digests).digest() + ephemeral + b"".join(box_digests)
    message = hashlib.sha256(said).digest() + check
    label = b"secureagg v1 contribution"
    key = Ed25519PublicKey.from_public_bytes(everyone.clients[2].public[:32])
    key.verify(signature, len(label).to_bytes(4, LITTLE) + label + message)


def test_headers_and_dealings_come_back(everyone: Federation, payload: bytes) -> None:
    plan, sid = everyone.plan, everyone.session.sid
    header = Header.from_bytes(payload[: plan.header_bytes], everyone.session)
    assert header.to_bytes(sid) == payload[: plan.header_bytes]
    dealing, writer = header.dealing(), Writer()
    dealing.verify(everyone.session)
    dealing.write(writer)
    assert len(writer.getvalue()) == Dealing.encoded_bytes(plan)
    assert Dealing.read(Reader(writer.getvalue(), "dealing"), plan) == dealing
    view = ContributionView(plan, lambda offset, length: payload[offset : offset + length], len(payload))
    parts = Parts.of(everyone.session, payload)
    assert (view.header(), view.frame(0)) == (payload[: plan.header_bytes], parts.frames[0])
    assert tuple(view.box(member) for member in range(3)) == parts.boxes


def test_a_dealing_is_bound_to_every_field(everyone: Federation, payload: bytes) -> None:
    dealing = Parts.of(everyone.session, payload).header.dealing()
    changes = [
        {"client_id": 1},
        {"ephemeral": bytes(32)},
        {"ciphertext": bytes(32)},
        {"boxes": (dealing.boxes[1], dealing.boxes[0], dealing.boxes[2])},
        {"check": bytes(len(dealing.check))},
        {"signature": bytes(64)},
    ]
    digests = {dealing.digest(everyone.session.sid), dealing.digest(everyone.session_of(2).sid)}
    for change in changes:
        altered = replace(dealing, **change)
        digests.add(altered.digest(everyone.session.sid))
        with pytest.raises(EncodingError, match="the signature of this contribution is wrong"):
            altered.verify(everyone.session)
    assert len(digests) == 2 + len(changes)
    with pytest.raises(EncodingError, match="the signature of this contribution is wrong"):
        dealing.verify(everyone.session_of(2))
    with pytest.raises(EncodingError, match="client 4 is not on the roster of 4"):
        replace(dealing, client_id=4).verify(everyone.session)


def test_the_challenge_is_drawn_before_the_check_is_known(everyone: Federation, payload: bytes) -> None:
    """It depends on all that is signed but the check polynomials, so a dealer cannot choose them after it."""
    sid, dealing = everyone.session.sid, Parts.of(everyone.session, payload).header.dealing()
    assert replace(dealing, check=b"", signature=b"").challenge(sid) == dealing.challenge(sid)
    others = [{"client_id": 1}, {"ephemeral": bytes(32)}, {"ciphertext": bytes(32)}, {"boxes": (bytes(32),) * 3}]
    challenges = {dealing.challenge(sid), dealing.challenge(bytes(32))}
    assert len(challenges | {replace(dealing, **change).challenge(sid) for change in others}) == 6


def refuse(header: bytes, session: sa.Session, message: str) -> None:
    with pytest.raises(EncodingError, match=f"contribution: .*{message}"):
        Header.from_bytes(header, session)


def test_other_headers_are_refused(everyone: Federation, payload: bytes) -> None:
    session, header = everyone.session, payload[: everyone.plan.header_bytes]
    refuse(header[:-1], session, "truncated")
    refuse(header + b"\0", session, "1 trailing bytes")
    refuse(b"SArq" + header[4:], session, "starts with b'SArq', expected b'SAco'")
    refuse(header[:4] + b"\2" + header[5:], session, "format version 2 is unknown, this library reads version 1")
    refuse(header, everyone.session_of(2), "made for another session: plan, roster, prekeys, round number or model")
    refuse(b"", session, "truncated: 4 bytes expected at offset 0, 0 left")


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
