"""What a generator of test vectors replaces and watches: randomness that follows from a label, bad shares, draws of
noise, and the values on their way into the encryption.

TEST ONLY.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

import secureagg as sa
from secureagg import contribution as contribution_module
from secureagg.he.deal import Dealer

__all__ = ["add_noise", "bad_shares_for", "contribute", "drawn_in", "randomness", "seeded"]


def randomness(label: str) -> Callable[[int], bytes]:
    """Return what takes the place of `os.urandom` under `seeded(label)`, from its start."""
    key = hashlib.sha256(b"secureagg test vector: " + label.encode()).digest()
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return lambda count: stream.update(bytes(count))


@contextmanager
def seeded(label: str) -> Iterator[None]:
    """Replace the operating system's randomness by a stream that follows from `label`. Never outside a test."""
    draw = randomness(label)

    class SeededKey:
        @staticmethod
        def generate() -> X25519PrivateKey:
            return X25519PrivateKey.from_private_bytes(draw(32))

    with (
        patch.object(os, "urandom", draw),
        patch.object(contribution_module, "X25519PrivateKey", SeededKey),
        patch.dict(os.environ, SECUREAGG_THREADS="1"),  # which frame draws which errors is open otherwise
    ):
        yield


@contextmanager
def bad_shares_for(members: Sequence[int]) -> Iterator[None]:
    """Make the client deal these members shares that are off its polynomials by one, in the first element."""

    honest = Dealer.shares

    def shares(self: Dealer, member_id: int) -> bytes:
        packed = honest(self, member_id)
        if member_id not in members:
            return packed
        width = self._sharing.element_bits
        number = int.from_bytes(packed, "little")
        first = number % 2**width
        return (number - first + (first + 1) % self._sharing.modulus).to_bytes(len(packed), "little")

    with patch.object(Dealer, "shares", shares):
        yield


@contextmanager
def drawn_in(plan: sa.RoundPlan) -> Iterator[list[int]]:
    """Keep what is drawn of the plan's noise, in order; nothing without noise."""
    drawn: list[int] = []
    if plan.noise is None:
        yield drawn
        return
    kind = type(plan.noise)
    honest = kind.draw

    def draw(self: Any, size: int, stream: Any = None) -> np.ndarray[Any, Any]:
        values = honest(self, size, stream)
        drawn.extend(values.tolist())
        return values

    with patch.object(kind, "draw", draw):
        yield drawn


def contribute(
    session: sa.Session, identity: sa.Identity, update: list[np.ndarray[Any, Any]], weight: int
) -> tuple[bytes, list[int]]:
    """Return a contribution and the grid values in it."""
    payload, seen = watched(lambda: sa.contribute(session, identity, update, weight))
    assert seen[-1] == weight
    return payload, seen[:-1]


def add_noise(session: sa.Session, member: sa.CommitteeMember) -> tuple[bytes, list[int]]:
    """Return a member's contribution of noise and the noise in it."""
    payload, seen = watched(lambda: member.add_noise(session))
    assert seen[-1] == 0
    return payload, seen[:-1]


def watched(contribution: Callable[[], bytes]) -> tuple[bytes, list[int]]:
    """Return a contribution and the coordinates in it, the weight last, seen on their way into the encryption."""
    seen: list[int] = []
    encrypt = contribution_module.Encryptor.encrypt

    def encrypting(self: Any, frame: Any, values: np.ndarray[Any, Any], *filled: Any) -> bytearray:
        seen.extend(values.tolist())
        return encrypt(self, frame, values, *filled)

    with patch.object(contribution_module.Encryptor, "encrypt", encrypting):
        payload = contribution()
    return payload, seen
