"""Public keys of a federation's clients and committee members, and the verification of what they sign.

A public identity is 64 bytes: an Ed25519 verification key and an X25519 key. Position in the roster is the id. Who
may be on it is for the host system to vouch: to this library a Sybil is one more client.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import overload

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from secureagg.errors import EncodingError, ParameterError
from secureagg.wire import Reader, Writer

__all__ = ["SIGNATURE_BYTES", "Identities", "Label", "PublicIdentity", "Roster", "signed_message"]

SIGNATURE_BYTES = 64
_IDENTITY_BYTES = 64
_HALF = 32
_MAGIC = b"SArs"
_VERSION = 1


class Label(Enum):
    """What a signature is about; a signature for one purpose never verifies for another."""

    CONTRIBUTION = b"secureagg v1 contribution"
    ENROLMENT = b"secureagg v1 enrolment"
    PREKEY = b"secureagg v1 prekey"
    SHARE_CHECK = b"secureagg v1 share check"
    REVEAL = b"secureagg v1 reveal"


def signed_message(label: Label, message: bytes) -> bytes:
    """Return the bytes that are signed: the length-prefixed label, then the message."""
    return Writer().blob(label.value).raw(message).getvalue()


@dataclass(frozen=True)
class PublicIdentity:
    """The 64 public bytes of one party: Ed25519 key ‖ X25519 key.

    Raises: ParameterError if the bytes are not 64. An Ed25519 key off the curve never verifies; a member's low-order
    X25519 point is refused by `Session`.
    """

    encoded: bytes

    def __post_init__(self) -> None:
        if not isinstance(self.encoded, bytes) or len(self.encoded) != _IDENTITY_BYTES:
            raise ParameterError("a public identity is 64 bytes; give Identity.public")

    def verify(self, label: Label, message: bytes, signature: bytes) -> None:
        """Return None if this party signed `message` under `label`; raise EncodingError otherwise."""
        try:
            key = Ed25519PublicKey.from_public_bytes(self.encoded[:32])
            key.verify(signature, signed_message(label, message))
        except (InvalidSignature, ValueError) as error:
            raise EncodingError(f"the signature of this {label.name.lower().replace('_', ' ')} is wrong") from error


@dataclass(frozen=True)
class Identities(Sequence[PublicIdentity]):
    """Public identities in order. What is in memory is their 64 bytes each; objects are made when asked for."""

    encoded: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.encoded) // _IDENTITY_BYTES

    @overload
    def __getitem__(self, index: int) -> PublicIdentity: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[PublicIdentity, ...]: ...
    def __getitem__(self, index: int | slice) -> PublicIdentity | tuple[PublicIdentity, ...]:
        if isinstance(index, slice):
            return tuple(self[position] for position in range(len(self))[index])
        start = _IDENTITY_BYTES * range(len(self))[index]
        return PublicIdentity(self.encoded[start : start + _IDENTITY_BYTES])

    def position(self, public: bytes) -> int | None:
        """Return where these 64 bytes stand as an identity, or None."""
        start = self.encoded.find(public) if len(public) == _IDENTITY_BYTES else -1
        while start % _IDENTITY_BYTES and start >= 0:  # found across two identities
            start = self.encoded.find(public, start + 1)
        return None if start < 0 else start // _IDENTITY_BYTES


@dataclass(frozen=True)
class Roster:
    """Who may take part: public identities (64 bytes each) of clients and of committee members, in order.

    Raises: ParameterError if an identity is malformed, or stands twice among clients or among members. A party may
    be a client and a member at once.
    """

    clients: Identities
    committee: Identities

    def __init__(self, clients: Iterable[bytes], committee: Iterable[bytes]) -> None:
        object.__setattr__(self, "clients", _identities("client", clients))
        object.__setattr__(self, "committee", _identities("committee member", committee))

    def to_bytes(self) -> bytes:
        """Encode: magic, version, both counts (4 bytes each), then 64 bytes an identity."""
        return b"".join(self._parts())

    def _parts(self) -> tuple[bytes, bytes, bytes]:
        counts = Writer().raw(_MAGIC).integer(_VERSION, 1).integer(len(self.clients), 4).integer(len(self.committee), 4)
        return counts.getvalue(), self.clients.encoded, self.committee.encoded

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> Roster:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "roster")
        reader.magic(_MAGIC, _VERSION)
        clients, members = reader.integer(4), reader.integer(4)
        if reader.remaining != 64 * (clients + members):
            raise reader.error(f"{reader.remaining} bytes of identities, {64 * (clients + members)} expected")
        try:
            return cls((bytes(reader.raw(64)) for _ in range(clients)), (bytes(reader.raw(64)) for _ in range(members)))
        except ParameterError as error:
            raise reader.error(str(error)) from error

    def digest(self) -> bytes:
        """SHA-256 of the canonical bytes: the roster under which a member answers once per round number."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.digest()


def _identities(role: str, encoded: Iterable[bytes]) -> Identities:
    joined = bytearray()
    for each in encoded:
        joined += PublicIdentity(each).encoded
    identities = Identities(bytes(joined))
    del joined  # a roster may be large, and the sorted copy takes its place
    # Both halves must be new: a shared half would let one party stand for two.
    # Numpy drops zeros at the end, which keeps strings of one length apart all the same.
    halves = np.sort(np.frombuffer(identities.encoded, dtype=f"S{_HALF}"))
    if (halves[1:] == halves[:-1]).any():
        _require_distinct(role, identities)
    return identities


def _require_distinct(role: str, identities: Identities) -> None:
    """Name the first identity that shares a half with an earlier one; its own two halves may be alike."""
    first: dict[bytes, int] = {}
    for position, identity in enumerate(identities):
        for half in (identity.encoded[:_HALF], identity.encoded[_HALF:]):
            if first.setdefault(half, position) != position:
                raise ParameterError(f"{role}s {first[half]} and {position} have the same key; each party stands once")
