"""One private round over a grid: contributions, the committee's noise, share checks with proofs, answers, the sum."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from secureagg.adapters.flower import envelope
from secureagg.adapters.flower.engine import Error, Grid, Message, RecordDict
from secureagg.adapters.flower.enrolment import Enrolment
from secureagg.adapters.flower.exchange import replies
from secureagg.aggregator import Aggregator, Result
from secureagg.checks import printable
from secureagg.dp.ledger import Ledger
from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    QuorumError,
    UnattributedFault,
)
from secureagg.exchange import Request
from secureagg.payload import Header
from secureagg.session import Session

__all__ = ["PrivateRound"]

_log = logging.getLogger("flwr")


@dataclass
class PrivateRound:
    """A round of one session; client i of the roster is node `nodes[i]`.

    `failures` says by node why it is not in the sum; `errors` holds the errors that nodes, or Flower for them,
    answered with.
    """

    grid: Grid
    enrolment: Enrolment
    session: Session
    nodes: Sequence[int]
    spool: Path | None
    ledger: Ledger | None = None
    failures: dict[int, str] = field(default_factory=dict)
    errors: dict[int, Error] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._aggregator = Aggregator(self.session, spool=self.spool, ledger=self.ledger)
        self._record = self.session.to_bytes()

    def collect(self, messages: Mapping[int, Message], timeout: float | None) -> None:
        """Send each node its message with the session in it, and admit what comes back, one after the other."""
        for message in messages.values():
            content = RecordDict(dict(message.content.items()))
            content.update(envelope.marked(envelope.CONTRIBUTE, session=self._record))
            message.content = content
        self.failures |= dict.fromkeys(messages, "no contribution came in time")
        for node, reply in replies(self.grid, list(messages.values()), timeout):
            if reply.has_error():
                self.errors[node] = reply.error
                self.failures[node] = str(reply.error.reason)
                continue
            try:
                self._admit(self.nodes.index(node), reply)
                del self.failures[node]
            except (EncodingError, FaultyClientError) as error:
                self.failures[node] = error.reason if isinstance(error, FaultyClientError) else str(error)

    def _admit(self, contributor: int, reply: Message) -> None:
        """Admit what a node sent as this contributor, a client or from id `clients` on a member with its noise."""
        payload = envelope.payload_in(reply)
        claimed = Header.from_bytes(payload[: self.session.plan.header_bytes], self.session).client_id
        if claimed != contributor:
            raise EncodingError("the contribution is another node's")
        self._aggregator.admit(io.BytesIO(payload))

    def open(self, message_type: str, timeout: float | None) -> Result:
        """Let the committee open the sum.

        As soon as enough members have answered, it is tried: members that are away cost no time then; a wrong answer
        makes it wait for more. Noise and share checks wait for them ten seconds longer: who gave no noise can answer
        nothing else, and is not asked. Raises: as `Aggregator.close` and `Aggregator.open`.
        """
        reports, needed = None, self.session.plan.committee.members_needed
        if self.session.plan.noise_members:
            self._collect_noise(message_type, timeout)
        if self.session.plan.committee.mode == "robust":
            check = self._aggregator.share_check()
            reports = list(self._answers(envelope.CHECK, check, message_type, timeout, enough=needed))
        request = self._aggregator.close(reports)
        result = self._first(self._answers(envelope.REVEAL, request, message_type, timeout))
        for client_id, reason in result.refused.items():
            self.failures[self.nodes[client_id]] = reason
        return result

    def _collect_noise(self, message_type: str, timeout: float | None) -> None:
        """Admit the members' noise. Raises: QuorumError if too few clients contributed; nobody is asked then."""
        self._aggregator.require_clients()
        members = {node: member_id for member_id, node in enumerate(self.enrolment.committee)}
        messages = [
            Message(self._asking(envelope.NOISE, node), dst_node_id=node, message_type=message_type) for node in members
        ]
        enough = self.session.plan.committee.members_needed
        for node, reply in self._good(replies(self.grid, messages, timeout, enough=enough)):
            try:
                self._admit(self.session.plan.clients + members[node], reply)
            except (EncodingError, FaultyMemberError) as error:
                _log.warning("secureagg: committee node %d: its noise: %s", node, error)

    def _first(self, answers: Iterator[bytes]) -> Result:
        """Return what the answers open, once they do."""
        needed, received = self.session.plan.committee.members_needed, []
        failed: QuorumError | FaultyMemberError | UnattributedFault = QuorumError("no committee member answered")
        for answer in answers:
            received.append(answer)
            if len(received) < needed:
                failed = QuorumError(f"{len(received)} committee members answered, {needed} are needed")
                continue
            try:
                return self._aggregator.open(received)
            except (QuorumError, FaultyMemberError, UnattributedFault) as error:
                failed = error
        raise failed

    def _answers(
        self, phase: str, request: Request, message_type: str, timeout: float | None, *, enough: int | None = None
    ) -> Iterator[bytes]:
        """Ask every member who can answer; yield what they answer as it comes."""
        members = {member_id: self.enrolment.committee[member_id] for member_id in self._aggregator.asked}
        messages = [
            Message(
                envelope.attached(self._asking(phase, node), request.for_member(member_id)),
                dst_node_id=node,
                message_type=message_type,
            )
            for member_id, node in members.items()
        ]
        for node, reply in self._good(replies(self.grid, messages, timeout, enough=enough)):
            try:
                answer = envelope.payload_in(reply)
                if phase == envelope.REVEAL:
                    self.enrolment.keep(node, envelope.parts_in(reply, "prekeys"))
            except EncodingError as error:
                _log.warning("secureagg: committee node %d: %s", node, error)
                continue
            yield answer

    @staticmethod
    def _good(received: Iterator[tuple[int, Message]]) -> Iterator[tuple[int, Message]]:
        """Yield the replies of members that are no errors, and log the others."""
        for node, reply in received:
            if reply.has_error():
                _log.warning("secureagg: committee node %d: %s", node, printable(str(reply.error.reason)))
            else:
                yield node, reply

    def _asking(self, phase: str, node: int) -> RecordDict:
        first, count = self.enrolment.wanted(node) if phase == envelope.REVEAL else (0, 0)
        return envelope.marked(phase, session=self._record, first=first, count=count)
