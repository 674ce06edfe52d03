"""Rosters: one place for each party, canonical bytes, and signatures that verify for nothing else."""

from __future__ import annotations

import hashlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError
from secureagg.roster import Label, PublicIdentity, Roster
from tests.federation import seeded

CLIENTS = [seeded(f"client {i}").public for i in range(4)]
MEMBERS = [seeded(f"member {i}").public for i in range(3)]


@given(st.integers(0, 4), st.integers(0, 3))
def test_bytes_come_back(clients: int, members: int) -> None:
    roster = Roster(CLIENTS[:clients], MEMBERS[:members])
    encoded = roster.to_bytes()
    counts = clients.to_bytes(4, "little") + members.to_bytes(4, "little")
    assert encoded == b"SArs\x01" + counts + b"".join(CLIENTS[:clients] + MEMBERS[:members])
    assert Roster.from_bytes(encoded) == roster
    assert roster.digest() == hashlib.sha256(encoded).digest()


def test_position_is_the_id() -> None:
    assert Roster(CLIENTS, MEMBERS).digest() != Roster(CLIENTS[::-1], MEMBERS).digest()
    assert [identity.encoded for identity in Roster(iter(CLIENTS), MEMBERS).clients] == CLIENTS


def test_a_party_may_be_client_and_member() -> None:
    Roster(CLIENTS, [CLIENTS[0]])


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, 64)], ids=["signing", "agreement"])
@pytest.mark.parametrize("role", ["client", "committee member"])
def test_a_party_stands_once(half: slice, role: str) -> None:
    """A shared half would let one party stand for two."""
    copied = bytearray(CLIENTS[2])
    copied[half] = CLIENTS[0][half]
    identities = [*CLIENTS[:2], bytes(copied)]
    with pytest.raises(ParameterError, match=f"{role}s 0 and 2 have the same key; each party stands once"):
        Roster(identities, MEMBERS) if role == "client" else Roster(CLIENTS, identities)


@pytest.mark.parametrize("identity", [b"", bytes(63), bytes(65), "x" * 64, bytearray(64)], ids=repr)
def test_an_identity_is_64_bytes(identity: bytes) -> None:
    with pytest.raises(ParameterError, match="a public identity is 64 bytes"):
        Roster([identity], MEMBERS)


@pytest.mark.parametrize(
    ("altered", "message"),
    [
        (lambda e: b"SArt" + e[4:], "starts with b'SArt', expected b'SArs'"),
        (lambda e: e[:4] + b"\x02" + e[5:], "format version 2 is unknown"),
        (lambda e: e[:-1], "447 bytes of identities, 448 expected"),
        (lambda e: e + b"\0", "449 bytes of identities, 448 expected"),
        (lambda e: e[:5] + b"\xff" * 8 + e[13:], "448 bytes of identities, 549755813760 expected"),
        (lambda e: e[:13] + e[13:77] * 2 + e[141:], "clients 0 and 1 have the same key"),
        (lambda e: e[:8], "truncated"),
        (lambda e: b"", "truncated"),
    ],
)
def test_other_bytes_are_refused(altered: object, message: str) -> None:
    with pytest.raises(EncodingError, match=f"roster: .*{message}"):
        Roster.from_bytes(altered(Roster(CLIENTS, MEMBERS).to_bytes()))


def test_a_signature_covers_signer_label_and_message() -> None:
    signer, public = seeded("client 0"), PublicIdentity(CLIENTS[0])
    signature = signer.sign(Label.CONTRIBUTION, b"message")
    public.verify(Label.CONTRIBUTION, b"message", signature)
    wrong = [
        (PublicIdentity(CLIENTS[1]), Label.CONTRIBUTION, b"message", signature),
        (public, Label.SHARE_CHECK, b"message", signature),
        (public, Label.CONTRIBUTION, b"massage", signature),
        (public, Label.CONTRIBUTION, b"message", signature[:-1]),
        (public, Label.CONTRIBUTION, b"message", b""),
        (public, Label.CONTRIBUTION, b"message", bytes([signature[0] ^ 1]) + signature[1:]),
        (PublicIdentity(b"\xff" * 64), Label.CONTRIBUTION, b"message", signature),
        (PublicIdentity(bytes(64)), Label.CONTRIBUTION, b"message", signature),
    ]
    for identity, label, message, given_signature in wrong:
        with pytest.raises(EncodingError, match=f"signature of this {label.name.lower().replace('_', ' ')} is wrong"):
            identity.verify(label, message, given_signature)


def test_labels_are_no_prefixes_of_each_other() -> None:
    """The label is length-prefixed as well, so this is a second line."""
    values = [label.value for label in Label]
    assert not any(a != b and b.startswith(a) for a in values for b in values)


def test_a_party_takes_its_64_bytes_and_no_more() -> None:
    encoded = Roster((hashlib.sha512(b"%d" % i).digest() for i in range(10_000)), MEMBERS).to_bytes()
    tracemalloc.start()
    roster = Roster.from_bytes(encoded)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(roster.clients) == 10_000 and kept < 65 * 10_000


def test_a_party_is_found_where_it_stands() -> None:
    """Also where its bytes occur across two others before."""
    across = CLIENTS[0][1:] + CLIENTS[1][:1]
    clients = Roster([*CLIENTS[:2], across, CLIENTS[2]], MEMBERS).clients
    assert [clients.position(each) for each in (*CLIENTS[:2], across, *CLIENTS[2:])] == [0, 1, 2, 3, None]
    assert clients.position(b"") is None and clients.position(CLIENTS[0][:32]) is None
    assert (clients[-1].encoded, clients[1:3]) == (CLIENTS[2], (clients[1], clients[2]))
    with pytest.raises(IndexError):
        clients[4]


def test_the_halves_of_one_identity_may_be_alike() -> None:
    """Compared with other identities only; halves that differ in a zero at the end do too."""
    Roster([CLIENTS[0][:32] * 2, CLIENTS[1]], MEMBERS)
    Roster([b"a" * 31 + b"\0" + b"b" * 32, b"a" * 32 + b"b" * 31 + b"\0"], MEMBERS)
