"""Boxes open for exactly one member, sender and session; dealers keep their secrets."""

from __future__ import annotations

import copy
import os
import pickle
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from secureagg.errors import EncodingError
from secureagg.he.deal import BoxContext, Dealer, seal, unseal
from secureagg.he.sharing import Sharing, unpack_elements
from secureagg.identity import Identity
from tests.federation import seeded

LOW_ORDER = (
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
)


@dataclass(frozen=True)
class Box:
    """Everything that a box is bound to; each field can be replaced."""

    sid: bytes = bytes(range(32))
    client_id: int = 3
    member_id: int = 1
    member: Identity = field(default_factory=lambda: seeded("member 1"))
    prekey: X25519PrivateKey = field(default_factory=lambda: X25519PrivateKey.from_private_bytes(bytes(31) + b"\x01"))
    ephemeral: X25519PrivateKey = field(
        default_factory=lambda: X25519PrivateKey.from_private_bytes(bytes(31) + b"\x02")
    )

    def context(self) -> BoxContext:
        prekey = self.prekey.public_key().public_bytes_raw()
        return BoxContext(self.sid, self.client_id, self.member_id, self.member.public, prekey)

    def seal(self, plain: bytes) -> bytes:
        return seal(self.context(), self.ephemeral, plain)

    def open(self, box: bytes) -> bytes:
        ephemeral = self.ephemeral.public_key().public_bytes_raw()
        return unseal(self.context(), self.prekey, self.member.agree, ephemeral, box)


def test_a_box_opens_for_its_member() -> None:
    assert Box().open(Box().seal(b"shares")) == b"shares"
    assert len(Box().seal(b"shares")) == 6 + 16


def test_a_box_is_what_the_wire_format_says() -> None:
    """Rebuilt from the definition: HKDF of both agreements, info and associated data the same."""
    box = Box()
    prekey, ephemeral = (key.public_key().public_bytes_raw() for key in (box.prekey, box.ephemeral))
    associated = b"\x10\0\0\0secureagg v1 box"[:4] + b"secureagg v1 box" + box.sid + b"\3\0\0\0\1" + box.member.public
    associated += prekey + ephemeral
    shared = box.prekey.exchange(box.ephemeral.public_key()) + box.member.agree(box.ephemeral.public_key())
    key = HKDF(SHA256(), 32, salt=None, info=associated).derive(shared)
    assert box.seal(b"shares") == ChaCha20Poly1305(key).encrypt(bytes(12), b"shares", associated)


@pytest.mark.parametrize(
    "change",
    [
        {"sid": bytes(32)},
        {"client_id": 4},
        {"member_id": 2},
        {"member": seeded("member 2")},
        {"prekey": X25519PrivateKey.from_private_bytes(bytes(31) + b"\x03")},
        {"ephemeral": X25519PrivateKey.from_private_bytes(bytes(31) + b"\x04")},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_box_bound_to_anything_else_does_not_open(change: dict[str, object]) -> None:
    """A box made for another session, sender, member or key; also a member's box given to the other."""
    for sealed, opened in ((Box(), replace(Box(), **change)), (replace(Box(), **change), Box())):
        with pytest.raises(EncodingError, match="the box does not open"):
            opened.open(sealed.seal(b"shares"))


def test_neither_key_alone_opens_a_box() -> None:
    """A thief of the prekey lacks the identity, a thief of the identity lacks the prekey."""
    box = Box().seal(b"shares")
    context, ephemeral = Box().context(), Box().ephemeral.public_key().public_bytes_raw()
    thief = seeded("thief")
    with pytest.raises(EncodingError, match="does not open"):
        unseal(context, Box().prekey, thief.agree, ephemeral, box)
    with pytest.raises(EncodingError, match="does not open"):
        unseal(context, X25519PrivateKey.generate(), Box().member.agree, ephemeral, box)


def test_every_byte_of_a_box_counts() -> None:
    box = Box().seal(b"shares")
    for position in range(len(box)):
        altered = bytearray(box)
        altered[position] ^= 1 << (position % 8)
        with pytest.raises(EncodingError, match="does not open"):
            Box().open(bytes(altered))
    for altered in (box[:-1], box[1:], box + b"\0", b"", box[:15]):
        with pytest.raises(EncodingError, match="does not open"):
            Box().open(altered)


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_low_order_ephemeral_keys_open_nothing(point: bytes) -> None:
    with pytest.raises(EncodingError, match="does not open"):
        unseal(Box().context(), Box().prekey, Box().member.agree, point, Box().seal(b"shares"))


def test_polynomials_are_fresh() -> None:
    """Two dealings of one key to a member who is short of the threshold have nothing in common."""
    sharing, secrets = Sharing(64, 223, 3, 2), np.arange(64) - 32
    shares = [unpack_elements(sharing, Dealer(sharing, secrets).shares(0), 64 + sharing.repetitions) for _ in range(2)]
    assert (shares[0] == shares[1]).sum() < 10


def test_coefficients_are_uniform(monkeypatch: pytest.MonkeyPatch) -> None:
    """χ² of 20 000 shares of 0 over F_7 (6 degrees of freedom, p < 10^-5), seeded."""
    rng = np.random.default_rng(1)
    monkeypatch.setattr(os, "urandom", rng.bytes)
    sharing = Sharing(20_000, 7, 3, 2)
    elements = unpack_elements(
        sharing, Dealer(sharing, np.zeros(20_000, dtype=np.int64)).shares(1), 20_000 + sharing.repetitions
    )
    counts = np.bincount(elements[:20_000], minlength=7)
    assert ((counts - 20_000 / 7) ** 2).sum() / (20_000 / 7) < 35


def test_a_dealer_is_neither_shown_nor_pickled() -> None:
    dealer = Dealer(Sharing(4, 223, 3, 2), np.arange(4))
    assert repr(dealer) == "Dealer(secret)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(dealer)
