"""What the committee is asked about a set of contributions, and what its members answer.

| message | from → to | says |
|---|---|---|
| Request | aggregator → member | the dealings (headers less ciphertext) of a set of clients, with the member's boxes |
| ShareCheck | member → aggregator | whom this member complains about (robust mode) |
| RevealAnswer | member → aggregator | the sum of its shares over the requested set, or its complaints |

Canonical and signed as contributions are (`payload`).
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
from secureagg.payload import ContributionView, Dealing, Header, digest_of, require_session
from secureagg.plan import DIGEST_BYTES
from secureagg.roster import SIGNATURE_BYTES, Label
from secureagg.session import Session
from secureagg.wire import Reader, Writer

__all__ = [
    "CHECK",
    "EVERY_MEMBER",
    "REVEAL",
    "Request",
    "RequestHeader",
    "RevealAnswer",
    "ShareCheck",
    "read_exactly",
    "request_digest",
    "request_entries",
]

_VERSION = 1
_REQUEST_MAGIC, _CHECK_MAGIC, _ANSWER_MAGIC = b"SArq", b"SAch", b"SAan"

CHECK, REVEAL = 0, 1  # what a request asks for
EVERY_MEMBER = 255  # a request that carries the boxes of all members, for transports that broadcast


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
        writer = Writer().raw(_REQUEST_MAGIC).integer(_VERSION, 1).raw(sid).integer(self.kind, 1)
        return writer.integer(self.member_id, 1).integer(self.count, 4).getvalue()

    @classmethod
    def read(cls, reader: Reader, session: Session) -> RequestHeader:
        """Decode; refuse bytes of another session."""
        reader.magic(_REQUEST_MAGIC, _VERSION)
        require_session(reader, session)
        header = cls(reader.integer(1), reader.integer(1), reader.integer(4))
        if header.kind not in (CHECK, REVEAL):
            raise reader.error(f"kind {header.kind} is unknown")
        return header


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
        return Writer().raw(_CHECK_MAGIC).integer(_VERSION, 1).raw(self.message(sid)).raw(self.signature).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, session: Session) -> ShareCheck:
        """Decode and verify; EncodingError if it is malformed, of another session or not signed by that member."""
        reader = Reader(encoded, "share check")
        reader.magic(_CHECK_MAGIC, _VERSION)
        require_session(reader, session)
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
        return Writer().raw(_ANSWER_MAGIC).integer(_VERSION, 1).raw(self.message(sid)).raw(self.signature).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, session: Session) -> RevealAnswer:
        """Decode and verify; EncodingError if it is malformed, of another session or not signed by that member."""
        reader = Reader(encoded, "reveal answer")
        reader.magic(_ANSWER_MAGIC, _VERSION)
        require_session(reader, session)
        member_id, request = reader.integer(1), bytes(reader.raw(DIGEST_BYTES))
        complaints = _ascending_ids(reader, session)
        sums = bytes(reader.blob())
        if len(sums) != (0 if complaints else session.plan.sharing.answer_bytes):
            raise reader.error(f"{len(sums)} bytes of share sums with {len(complaints)} complaints")
        answer = cls(member_id, request, sums, complaints, bytes(reader.raw(SIGNATURE_BYTES)))
        reader.end()
        _verify_member(session, Label.REVEAL, member_id, answer.message(session.sid), answer.signature)
        return answer


def request_digest(sid: bytes, dealings: Iterable[Dealing]) -> bytes:
    """Return the digest that names a set of contributions: what every answer to a request is about."""
    return digest_of(chain([b"secureagg v1 request", sid], (dealing.digest(sid) for dealing in dealings)))


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


def _ascending_ids(reader: Reader, session: Session) -> tuple[int, ...]:
    ids = tuple(reader.integer(4) for _ in range(reader.integer(4)))
    if any(a >= b for a, b in pairwise(ids)) or (ids and ids[-1] >= session.plan.contributors):
        raise reader.error("client ids are not ascending ids of the roster")
    return ids


def _verify_member(session: Session, label: Label, member_id: int, message: bytes, signature: bytes) -> None:
    if member_id >= len(session.roster.committee):
        raise EncodingError(f"committee member {member_id} is not on the roster of {len(session.roster.committee)}")
    session.roster.committee[member_id].verify(label, message, signature)
