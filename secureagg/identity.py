"""Secret keys of one party, its long-term identity, and a way to ask whether it holds them.

Nothing here has a `repr` that shows a secret, and nothing can be pickled.
"""

from __future__ import annotations

import hmac
import os
import threading
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from secureagg.errors import EncodingError, ParameterError
from secureagg.roster import Label, PublicIdentity, signed_message
from secureagg.wire import Writer

__all__ = ["Identity", "KeyChallenge"]

SEED_BYTES = 32


class Identity:
    """A party's long-term keys, all derived from one 32-byte seed (HKDF-SHA256, RFC 5869).

    Guarantees: the seed appears in no repr, error or pickle; keep it where the host keeps its secrets.
    """

    __slots__ = ("_agreement", "_claimed", "_lock", "_seed", "_signing", "public")

    def __init__(self, seed: bytes) -> None:
        if not isinstance(seed, bytes) or len(seed) != SEED_BYTES:
            raise ParameterError(f"an identity's seed is {SEED_BYTES} bytes; use Identity.generate()")
        self._seed = seed
        self._signing = Ed25519PrivateKey.from_private_bytes(_derive(seed, b"secureagg v1 signing"))
        self._agreement = X25519PrivateKey.from_private_bytes(_derive(seed, b"secureagg v1 agreement"))
        self._claimed: set[tuple[bytes, int]] = set()
        self._lock = threading.Lock()
        self.public: bytes = (
            self._signing.public_key().public_bytes_raw() + self._agreement.public_key().public_bytes_raw()
        )

    @classmethod
    def generate(cls) -> Identity:
        """Return a new identity from the operating system's randomness."""
        return cls(os.urandom(SEED_BYTES))

    def to_seed(self) -> bytes:
        """Return the 32 secret bytes, for the host to store; `Identity(seed)` restores them."""
        return self._seed

    def sign(self, label: Label, message: bytes) -> bytes:
        """Return an Ed25519 signature (64 bytes) of `message` for this purpose."""
        return self._signing.sign(signed_message(label, message))

    def agree(self, peer: X25519PublicKey) -> bytes:
        """Return the X25519 shared secret with `peer`. Raises ValueError for a low-order point."""
        return self._agreement.exchange(peer)

    def confirm(self, challenge: bytes, message: bytes) -> bytes:
        """Return 32 bytes that show whoever made this `KeyChallenge` that this party holds its X25519 secret.

        Raises: EncodingError if `challenge` is no X25519 key or a low-order point.
        """
        try:
            secret = self._agreement.exchange(X25519PublicKey.from_public_bytes(challenge))
        except ValueError as error:
            raise EncodingError("the challenge is no X25519 key that a secret can be agreed with") from error
        return _confirmation(secret, challenge, self.public, message)

    def claim(self, roster: bytes, round_number: int) -> None:
        """Note that this party contributes to a round; refuse a second time for one roster and round number.

        Kept in this object: a host that rebuilds the identity after a crash gives the retried round a new number.
        """
        with self._lock:
            if (roster, round_number) in self._claimed:
                raise ParameterError(
                    f"this identity has already contributed to round {round_number} under this roster; "
                    "a retried round takes a new round number"
                )
            self._claimed.add((roster, round_number))

    def __repr__(self) -> str:
        return f"Identity(public={self.public.hex()[:16]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Identity is not pickled; store to_seed() where you keep secrets")


class KeyChallenge:
    """A fresh question to parties: do you hold the secret of your X25519 key? No signature by the other key shows that.

    They answer with `Identity.confirm`. Only who made the challenge can check: key confirmation, NIST SP 800-56A
    revision 3, section 5.9. public: 32 bytes to send them.
    """

    __slots__ = ("_key", "public")

    def __init__(self) -> None:
        self._key = X25519PrivateKey.generate()
        self.public: bytes = self._key.public_key().public_bytes_raw()

    def __repr__(self) -> str:
        return f"KeyChallenge(public={self.public.hex()[:16]}…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a KeyChallenge is not pickled; make another")

    def verify(self, party: PublicIdentity, message: bytes, confirmation: bytes) -> None:
        """Return None if `party` confirmed `message` for this challenge; raise EncodingError otherwise."""
        try:
            secret = self._key.exchange(X25519PublicKey.from_public_bytes(party.encoded[32:]))
        except ValueError as error:
            raise EncodingError("the X25519 key of this identity is a low-order point") from error
        if not hmac.compare_digest(_confirmation(secret, self.public, party.encoded, message), confirmation):
            raise EncodingError("this identity's X25519 key is not confirmed; it may be somebody else's")


def _confirmation(secret: bytes, challenge: bytes, public: bytes, message: bytes) -> bytes:
    info = Writer().blob(b"secureagg v1 key confirmation").raw(challenge).raw(public).raw(message).getvalue()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)


def _derive(seed: bytes, label: bytes) -> bytes:
    return HKDFExpand(SHA256(), SEED_BYTES, label).derive(seed)
