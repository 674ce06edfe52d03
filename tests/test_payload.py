"""Contributions on the wire: canonical bytes, lengths known beforehand, a signature that covers all that is said."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import secureagg as sa
from secureagg.errors import EncodingError
from secureagg.payload import ContributionView, Dealing, Header
from secureagg.wire import Reader, Writer
from tests.cheating import Parts
from tests.federation import Federation, federation

LITTLE = "little"


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(committee=sa.Committee(3, mode="robust")) as made:
        yield made


@pytest.fixture(scope="module")
def payload(everyone: Federation) -> bytes:
    return everyone.contribution(2)


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
