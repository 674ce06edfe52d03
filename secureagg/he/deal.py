"""Dealing a one-time key to the committee: Shamir's polynomials, and the boxes that carry each member its shares.

Secret side: clients seal, members unseal. The aggregator imports nothing from here.
Shamir 1979; the share check is the random linear combination of Feldman-style dealings with a published, masked
combination instead of commitments (docs/protocol.md, Share check).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from secureagg.errors import EncodingError
from secureagg.he.sharing import Sharing, check_combination, combine, pack_elements
from secureagg.wire import Writer

__all__ = ["BoxContext", "Dealer", "seal", "unseal"]

_ZERO_NONCE = bytes(12)


class Dealer:
    """The Shamir polynomials of one key: degree t − 1, one for each secret and for each mask of the share check.

    secrets: int64[sharing.secrets], small and centred; reduced mod p here.

    Secret, for the prover alone: `polynomials`, int64[t, secrets] in [0, p), row k the coefficients of x^k, so that
    row 0 is the secrets mod p; `masks`, int64[t, repetitions], likewise. Whoever has row 0 has the key.
    """

    __slots__ = ("_sharing", "masks", "polynomials")

    def __init__(self, sharing: Sharing, secrets: NDArray[np.int64]) -> None:
        p, t = sharing.modulus, sharing.threshold
        self._sharing = sharing
        self.polynomials = _uniform(p, (t, sharing.secrets))
        self.polynomials[0] = secrets % p
        self.masks = _uniform(p, (t, sharing.repetitions))

    def shares(self, member_id: int) -> bytes:
        """Return the packed shares of one member: the polynomials, then the masks, at x = member_id + 1."""
        x, p = member_id + 1, self._sharing.modulus
        coefficients = np.concatenate([self.polynomials, self.masks], axis=1)
        value = np.zeros(coefficients.shape[1], dtype=np.int64)
        for row in coefficients[::-1]:
            value = (value * x + row) % p  # below 2^60: x ≤ 254 and p < 2^52
        return pack_elements(self._sharing, value)

    def check(self, challenge: bytes) -> bytes:
        """Return the packed check polynomials T_k = ⟨ρ, r_k⟩ + μ_k, k = 0 … t − 1.

        Uniform given everything else that is sent, because each repetition has a mask of its own.
        """
        combination = check_combination(self._sharing, challenge)
        published = (combine(self._sharing, self.polynomials, combination) + self.masks) % self._sharing.modulus
        return pack_elements(self._sharing, published.reshape(-1))

    def __repr__(self) -> str:
        return "Dealer(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Dealer holds a one-time key and is not pickled")


def _uniform(modulus: int, shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return uniform field elements from the operating system: 128 bits reduced mod p, bias below p/2^128."""
    from secureagg.he import sharing_kernels

    words = np.frombuffer(os.urandom(16 * shape[0] * shape[1]), dtype=np.uint64).reshape(2, -1)
    high, low = (words % np.uint64(modulus)).astype(np.int64)
    sharing_kernels.add_scaled(low, np.int64(2**64 % modulus), high, np.int64(modulus))
    elements: NDArray[np.int64] = low.reshape(shape)
    return elements


class BoxContext:
    """What a box is bound to: session, sender, receiver and every key in it."""

    __slots__ = ("associated", "member_long_term", "member_prekey")

    def __init__(self, sid: bytes, client_id: int, member_id: int, member_public: bytes, prekey: bytes) -> None:
        writer = Writer().blob(b"secureagg v1 box").raw(sid).integer(client_id, 4).integer(member_id, 1)
        self.associated = writer.raw(member_public).raw(prekey).getvalue()
        self.member_long_term = member_public[32:]
        self.member_prekey = prekey


def seal(context: BoxContext, ephemeral: X25519PrivateKey, plain: bytes) -> bytes:
    """Return `plain` sealed to a member: ciphertext and 16-byte tag. `ephemeral` is fresh for each contribution."""
    secrets = [
        ephemeral.exchange(X25519PublicKey.from_public_bytes(key))
        for key in (context.member_prekey, context.member_long_term)
    ]
    associated = context.associated + ephemeral.public_key().public_bytes_raw()
    # The key is used for this one message, so a fixed nonce never repeats under it.
    return ChaCha20Poly1305(_box_key(secrets, associated)).encrypt(_ZERO_NONCE, plain, associated)


def unseal(
    context: BoxContext,
    prekey: X25519PrivateKey,
    long_term: Callable[[X25519PublicKey], bytes],
    ephemeral: bytes,
    box: bytes,
) -> bytes:
    """Return what is in a box; `long_term` is the member's X25519 agreement.

    Raises: EncodingError if it was not sealed for this member, sender and session.
    """
    try:
        public = X25519PublicKey.from_public_bytes(ephemeral)
        secrets = [prekey.exchange(public), long_term(public)]
        associated = context.associated + ephemeral
        return ChaCha20Poly1305(_box_key(secrets, associated)).decrypt(_ZERO_NONCE, box, associated)
    except (InvalidTag, ValueError) as error:
        raise EncodingError("the box does not open") from error


def _box_key(secrets: list[bytes], associated: bytes) -> bytes:
    """Derive the box key from both agreements: a stolen prekey alone opens nothing, nor does a stolen identity."""
    return HKDF(SHA256(), 32, salt=None, info=associated).derive(b"".join(secrets))
