"""What a contribution is on the wire: header, ciphertext frames, one sealed box a member and, with proofs, the proof.

Canonical, versioned bytes with every length derived from the plan; `docs/wire-format.md` gives them. A signature covers
the session id, the sender's id and everything the message says; the label in front of it says what kind it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from secureagg.errors import EncodingError
from secureagg.plan import DIGEST_BYTES, RoundPlan
from secureagg.roster import SIGNATURE_BYTES, Label
from secureagg.session import Session
from secureagg.wire import Reader, Writer

__all__ = [
    "ContributionView",
    "Dealing",
    "Header",
    "digest_of",
    "require_length",
    "require_possible_length",
    "require_session",
]

_MAGIC, _VERSION = b"SAco", 1


def digest_of(parts: Iterable[bytes]) -> bytes:
    """SHA-256 of the concatenation of fixed-length parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


@dataclass(frozen=True)
class Dealing:
    """What a member needs of a contribution to verify its own box alone: all that is signed, ciphertext by digest.

    client_id: the contributor's id, from `plan.clients` on a committee member's with noise; ciphertext: digest of the
    frame digests; ephemeral: the contribution's X25519 key; boxes: digest of each member's box; check: the packed
    share-check polynomials T (he/sharing.py). With proofs: commitment, the root of what the client committed to before
    it knew the challenge; proof, the proof's digest; both empty without.
    """

    client_id: int
    signature: bytes
    ephemeral: bytes
    ciphertext: bytes
    boxes: tuple[bytes, ...]
    check: bytes
    commitment: bytes = b""
    proof: bytes = b""

    def challenge(self, sid: bytes) -> bytes:
        """Return what the share check's random combination is drawn from: all that is fixed before T is known."""
        writer = Writer().raw(sid).integer(self.client_id, 4).raw(self.ciphertext).raw(self.ephemeral)
        return digest_of([writer.getvalue(), *self.boxes, self.commitment])

    def message(self, sid: bytes) -> bytes:
        """Return what the client signs."""
        return self.challenge(sid) + self.check + self.proof

    def digest(self, sid: bytes) -> bytes:
        """Return the digest that names this contribution in requests, answers and the tally."""
        return digest_of([self.message(sid), self.signature])

    def verify(self, session: Session) -> None:
        """Raise EncodingError unless its contributor signed it for this session."""
        session.contributor(self.client_id).verify(Label.CONTRIBUTION, self.message(session.sid), self.signature)

    def write(self, writer: Writer) -> None:
        """Append the encoding used in requests."""
        writer.integer(self.client_id, 4).raw(self.signature).raw(self.ephemeral).raw(self.ciphertext)
        for box in self.boxes:
            writer.raw(box)
        writer.raw(self.check).raw(self.commitment).raw(self.proof)

    @classmethod
    def read(cls, reader: Reader, plan: RoundPlan) -> Dealing:
        """Read `write`."""
        proof = DIGEST_BYTES if plan.proofs else 0
        return cls(
            client_id=reader.integer(4),
            signature=bytes(reader.raw(SIGNATURE_BYTES)),
            ephemeral=bytes(reader.raw(32)),
            ciphertext=bytes(reader.raw(DIGEST_BYTES)),
            boxes=_digests(reader, plan.committee.size),
            check=bytes(reader.raw(plan.sharing.check_bytes)),
            commitment=bytes(reader.raw(proof)),
            proof=bytes(reader.raw(proof)),
        )

    @staticmethod
    def encoded_bytes(plan: RoundPlan) -> int:
        """Return the length of `write`."""
        digests = 1 + plan.committee.size + (2 if plan.proofs else 0)
        return 4 + SIGNATURE_BYTES + 32 + DIGEST_BYTES * digests + plan.sharing.check_bytes


@dataclass(frozen=True)
class Header:
    """The first `plan.header_bytes` of a contribution. Frames, boxes and, with proofs, the proof follow, nothing else.

    The last two fields as in `Dealing`.
    """

    client_id: int
    signature: bytes
    ephemeral: bytes
    frames: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    check: bytes
    commitment: bytes = b""
    proof: bytes = b""

    def dealing(self) -> Dealing:
        """Return what members see of it."""
        return Dealing(
            client_id=self.client_id,
            signature=self.signature,
            ephemeral=self.ephemeral,
            ciphertext=digest_of(self.frames),
            boxes=self.boxes,
            check=self.check,
            commitment=self.commitment,
            proof=self.proof,
        )

    def to_bytes(self, sid: bytes) -> bytes:
        """Encode."""
        writer = Writer().raw(_MAGIC).integer(_VERSION, 1).raw(sid).integer(self.client_id, 4)
        writer.raw(self.signature).raw(self.ephemeral)
        for digest in (*self.frames, *self.boxes):
            writer.raw(digest)
        return writer.raw(self.check).raw(self.commitment).raw(self.proof).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview, session: Session) -> Header:
        """Decode; refuse bytes of another session. The signature is verified by `Dealing.verify`."""
        reader = Reader(encoded, "contribution")
        reader.magic(_MAGIC, _VERSION)
        require_session(reader, session)
        plan = session.plan
        proof = DIGEST_BYTES if plan.proofs else 0
        header = cls(
            client_id=reader.integer(4),
            signature=bytes(reader.raw(SIGNATURE_BYTES)),
            ephemeral=bytes(reader.raw(32)),
            frames=_digests(reader, len(plan.packing.frames)),
            boxes=_digests(reader, plan.committee.size),
            check=bytes(reader.raw(plan.sharing.check_bytes)),
            commitment=bytes(reader.raw(proof)),
            proof=bytes(reader.raw(proof)),
        )
        reader.end()
        return header


class ContributionView:
    """A contribution's parts by their place; `read(offset, length)` returns its bytes, from memory or a file.

    length: of the whole, which is right for its contributor once `verification.verify_header` has passed.
    """

    def __init__(self, plan: RoundPlan, read: Callable[[int, int], bytes | memoryview], length: int) -> None:
        self._plan = plan
        self._read = read
        self.length = length

    def header(self) -> bytes | memoryview:
        """Return the bytes before the ciphertext."""
        return self._read(0, self._plan.header_bytes)

    def frame(self, index: int) -> bytes | memoryview:
        """Return one ciphertext frame."""
        frame = self._plan.packing.frames[index]
        return self._read(self._plan.header_bytes + frame.start, frame.size)

    def box(self, member_id: int) -> bytes | memoryview:
        """Return one member's box."""
        boxes = self._plan.header_bytes + self._plan.packing.ciphertext_bytes
        return self._read(boxes + member_id * self._plan.box_bytes, self._plan.box_bytes)

    def proof(self) -> bytes | memoryview:
        """Return the proof; empty without proofs."""
        return self._read(self._plan.proof_start, self.length - self._plan.proof_start)


def require_length(length: int, expected: int) -> None:
    """Raise EncodingError unless a contribution has the bytes of its contributor's."""
    if length != expected:
        raise EncodingError(f"contribution: {length} bytes, {expected} expected")


def require_possible_length(length: int, plan: RoundPlan) -> None:
    """Raise EncodingError unless a contribution of this plan can have so many bytes."""
    if length != plan.contribution_bytes(plan.contributors - 1):
        require_length(length, plan.bytes_per_client)


def require_session(reader: Reader, session: Session) -> None:
    """Read a session id; raise EncodingError unless it is this session's."""
    if bytes(reader.raw(32)) != session.sid:
        raise reader.error("made for another session: plan, roster, prekeys, round number or model differ")


def _digests(reader: Reader, count: int) -> tuple[bytes, ...]:
    # From a list: a tuple made of a generator is cut to size, and CPython keeps up to 2000 of those for each length.
    return tuple([bytes(reader.raw(DIGEST_BYTES)) for _ in range(count)])
