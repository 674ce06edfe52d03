"""What crosses between the parties: canonical, versioned bytes with every length derived from the plan.

| message | from → to | says |
|---|---|---|
| Contribution | client → aggregator | header, ciphertext frames, one sealed box a member, the proof |
| Request | aggregator → member | the dealings (headers less ciphertext) of a set of clients, with the member's boxes |
| ShareCheck | member → aggregator | whom this member complains about (robust mode) |
| RevealAnswer | member → aggregator | the sum of its shares over the requested set, or its complaints |
| Tally | aggregator → anyone | the encrypted sum and how each contribution enters it |

`docs/wire-format.md` gives the bytes. A signature covers the session id, the sender's id and everything the message
says; the label in front of it says what kind of message it is.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from typing import BinaryIO

from secureagg.errors import EncodingError, ParameterError
from secureagg.ids import ClientIds
from secureagg.plan import DIGEST_BYTES, RoundPlan
from secureagg.roster import SIGNATURE_BYTES, Label
from secureagg.session import Session
from secureagg.wire import Reader, Writer

__all__ = [
    "ContributionView",
    "Dealing",
    "Header",
    "Request",
    "RequestHeader",
    "RevealAnswer",
    "ShareCheck",
    "digest_of",
    "read_exactly",
    "request_digest",
    "request_entries",
    "require_length",
    "require_possible_length",
]

VERSION = 1
CONTRIBUTION_MAGIC = b"SAco"
REQUEST_MAGIC = b"SArq"
CHECK_MAGIC = b"SAch"
ANSWER_MAGIC = b"SAan"

CHECK, REVEAL = 0, 1  # what a request asks for
EVERY_MEMBER = 255  # a request that carries the boxes of all members, for transports that broadcast


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
        writer = Writer().raw(CONTRIBUTION_MAGIC).integer(VERSION, 1).raw(sid).integer(self.client_id, 4)
        writer.raw(self.signature).raw(self.ephemeral)
        for digest in (*self.frames, *self.boxes):
            writer.raw(digest)
        return writer.raw(self.check).raw(self.commitment).raw(self.proof).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview, session: Session) -> Header:
        """Decode; refuse bytes of another session. The signature is verified by `Dealing.verify`."""
        reader = Reader(encoded, "contribution")
        reader.magic(CONTRIBUTION_MAGIC, VERSION)
        _same_session(reader, session)
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


@dataclass(frozen=True)
class RequestHeader:
    """What stands before the entries of a request: what is asked, of whom, and how many clients follow.

    member_id: whose boxes the entries carry, or EVERY_MEMBER.
    """

    kind: int
    member_id: int
    count: int

    BYTES = 4 + 1 + 32 + 1 + 1 + 4

    def to_bytes(self, sid: bytes) -> bytes:
        """Encode."""
        writer = Writer().raw(REQUEST_MAGIC).integer(VERSION, 1).raw(sid).integer(self.kind, 1)
        return writer.integer(self.member_id, 1).integer(self.count, 4).getvalue()

    @classmethod
    def read(cls, reader: Reader, session: Session) -> RequestHeader:
        """Decode; refuse bytes of another session."""
        reader.magic(REQUEST_MAGIC, VERSION)
        _same_session(reader, session)
        header = cls(reader.integer(1), reader.integer(1), reader.integer(4))
        if header.kind not in (CHECK, REVEAL):
            raise reader.error(f"kind {header.kind} is unknown")
        return header


@dataclass(frozen=True)
class ShareCheck:
    """A member's signed complaints: the clients among the checked ones whose shares it could not accept."""

    member_id: int
    request: bytes
    complaints: tuple[int, ...]
    signature: bytes = b""

    def message(self, sid: bytes) -> bytes:
        """Return what the member signs."""
        writer = Writer().raw(sid).integer(self.member_id, 1).raw(self.request).integer(len(self.complaints), 4)
        for client_id in self.complaints:
            writer.integer(client_id, 4)
        return writer.getvalue()

    def to_bytes(self, sid: bytes) -> bytes:
        """Encode: magic, version, the signed message, signature."""
        return Writer().raw(CHECK_MAGIC).integer(VERSION, 1).raw(self.message(sid)).raw(self.signature).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, session: Session) -> ShareCheck:
        """Decode and verify; EncodingError if it is malformed, of another session or not signed by that member."""
        reader = Reader(encoded, "share check")
        reader.magic(CHECK_MAGIC, VERSION)
        _same_session(reader, session)
        member_id, request = reader.integer(1), bytes(reader.raw(DIGEST_BYTES))
        complaints = _ascending_ids(reader, session)
        report = cls(member_id, request, complaints, bytes(reader.raw(SIGNATURE_BYTES)))
        reader.end()
        _verify_member(session, Label.SHARE_CHECK, member_id, report.message(session.sid), report.signature)
        return report


@dataclass(frozen=True)
class RevealAnswer:
    """A member's signed answer to a reveal request: its packed share sums, or (nothing revealed) its complaints.

    Exactly one of `sums` and `complaints` is non-empty.
    """

    member_id: int
    request: bytes
    sums: bytes
    complaints: tuple[int, ...]
    signature: bytes = b""

    def message(self, sid: bytes) -> bytes:
        """Return what the member signs."""
        writer = Writer().raw(sid).integer(self.member_id, 1).raw(self.request)
        writer.integer(len(self.complaints), 4)
        for client_id in self.complaints:
            writer.integer(client_id, 4)
        return writer.blob(self.sums).getvalue()

    def to_bytes(self, sid: bytes) -> bytes:
        """Encode: magic, version, the signed message, signature."""
        return Writer().raw(ANSWER_MAGIC).integer(VERSION, 1).raw(self.message(sid)).raw(self.signature).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, session: Session) -> RevealAnswer:
        """Decode and verify; EncodingError if it is malformed, of another session or not signed by that member."""
        reader = Reader(encoded, "reveal answer")
        reader.magic(ANSWER_MAGIC, VERSION)
        _same_session(reader, session)
        member_id, request = reader.integer(1), bytes(reader.raw(DIGEST_BYTES))
        complaints = _ascending_ids(reader, session)
        sums = bytes(reader.blob())
        if len(sums) != (0 if complaints else session.plan.sharing.answer_bytes):
            raise reader.error(f"{len(sums)} bytes of share sums with {len(complaints)} complaints")
        answer = cls(member_id, request, sums, complaints, bytes(reader.raw(SIGNATURE_BYTES)))
        reader.end()
        _verify_member(session, Label.REVEAL, member_id, answer.message(session.sid), answer.signature)
        return answer


def read_exactly(source: BinaryIO, length: int, what: str) -> bytes:
    """Return the next `length` bytes of a file. Raises: EncodingError if it ends before."""
    found = source.read(length)
    if len(found) != length:
        raise EncodingError(f"{what}: truncated: {length} bytes expected, {len(found)} left")
    return found


def request_entries(
    source: BinaryIO, session: Session, header: RequestHeader, member_id: int
) -> Iterator[tuple[Dealing, bytes]]:
    """Yield (dealing, box of member `member_id`) of each client of a request, in ascending order of client.

    Raises: EncodingError if an entry is malformed, out of order, or its box is not the one the client signed.
    """
    plan, previous = session.plan, -1
    length = Dealing.encoded_bytes(plan)
    carried = range(plan.committee.size) if header.member_id == EVERY_MEMBER else (header.member_id,)
    if member_id not in carried:
        raise EncodingError(f"request: made for committee member {header.member_id}, this is {member_id}")
    for _ in range(header.count):
        dealing = Dealing.read(Reader(read_exactly(source, length, "request"), "request"), plan)
        boxes = {member: read_exactly(source, plan.box_bytes, "request") for member in carried}
        box = boxes[member_id]
        if dealing.client_id <= previous:
            raise EncodingError("request: clients are not in ascending order, each once")
        if hashlib.sha256(box).digest() != dealing.boxes[member_id]:
            raise EncodingError(f"request: the box of client {dealing.client_id} is not the one it signed")
        previous = dealing.client_id
        yield dealing, box
    if source.read(1):
        raise EncodingError("request: trailing bytes")


def _digests(reader: Reader, count: int) -> tuple[bytes, ...]:
    # From a list: a tuple made of a generator is cut to size, and CPython keeps up to 2000 of those for each length.
    return tuple([bytes(reader.raw(DIGEST_BYTES)) for _ in range(count)])


def _same_session(reader: Reader, session: Session) -> None:
    if bytes(reader.raw(32)) != session.sid:
        raise reader.error("made for another session: plan, roster, prekeys, round number or model differ")


def _ascending_ids(reader: Reader, session: Session) -> tuple[int, ...]:
    ids = tuple(reader.integer(4) for _ in range(reader.integer(4)))
    if any(a >= b for a, b in pairwise(ids)) or (ids and ids[-1] >= session.plan.contributors):
        raise reader.error("client ids are not ascending ids of the roster")
    return ids


def _verify_member(session: Session, label: Label, member_id: int, message: bytes, signature: bytes) -> None:
    if member_id >= len(session.roster.committee):
        raise EncodingError(f"committee member {member_id} is not on the roster of {len(session.roster.committee)}")
    session.roster.committee[member_id].verify(label, message, signature)


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


class Request:
    """What the aggregator asks of members about a set of contributions; written entry by entry, never held whole.

    `for_member` and `write` give one member's copy; `bytes(request)` gives one that any member can read, with the
    boxes of all.
    """

    def __init__(
        self, session: Session, kind: int, clients: Iterable[int], view: Callable[[int], ContributionView]
    ) -> None:
        self._session = session
        self._kind = kind
        self.clients = clients if isinstance(clients, ClientIds) else ClientIds(clients)
        self._view = view

    def write(self, target: BinaryIO, member_id: int = EVERY_MEMBER) -> None:
        """Write the request for one member (or for all) to a binary file."""
        plan = self._session.plan
        carried = range(plan.committee.size) if member_id == EVERY_MEMBER else (member_id,)
        if member_id != EVERY_MEMBER and not 0 <= member_id < plan.committee.size:
            raise ParameterError(f"there is no committee member {member_id}; the committee has {plan.committee.size}")
        target.write(RequestHeader(self._kind, member_id, len(self.clients)).to_bytes(self._session.sid))
        for dealing, view in self._entries():
            writer = Writer()
            dealing.write(writer)
            for member in carried:
                writer.raw(view.box(member))
            target.write(writer.getvalue())

    def for_member(self, member_id: int) -> bytes:
        """Return the request for one member."""
        buffer = io.BytesIO()
        self.write(buffer, member_id)
        return buffer.getvalue()

    def __bytes__(self) -> bytes:
        return self.for_member(EVERY_MEMBER)

    def digest(self) -> bytes:
        """Return the digest of the set, which answers name."""
        return request_digest(self._session.sid, (dealing for dealing, _ in self._entries()))

    def _entries(self) -> Iterator[tuple[Dealing, ContributionView]]:
        for client_id in self.clients:
            view = self._view(client_id)
            yield Header.from_bytes(view.header(), self._session).dealing(), view


def request_digest(sid: bytes, dealings: Iterable[Dealing]) -> bytes:
    """Return the digest that names a set of contributions: what every answer to a request is about."""
    return digest_of(chain([b"secureagg v1 request", sid], (dealing.digest(sid) for dealing in dealings)))
