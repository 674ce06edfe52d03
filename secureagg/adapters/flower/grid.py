"""A grid whose training rounds are private: what a strategy gets back is the mean, and who is not in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from secureagg.adapters.flower import envelope
from secureagg.adapters.flower.coordinates import Tensors, applied, extended, layout_of, means_in
from secureagg.adapters.flower.engine import (
    Array,
    ArrayRecord,
    Error,
    Grid,
    Message,
    MetricRecord,
    RecordDict,
    strategy,
)
from secureagg.adapters.flower.enrolment import Enrolment
from secureagg.adapters.flower.round import PrivateRound
from secureagg.adapters.flower.strategies import require_sum
from secureagg.adapters.flower.task import require_one_task, task_of
from secureagg.adapters.flower.terms import Terms
from secureagg.aggregator import Result
from secureagg.checks import require_whole
from secureagg.dp.ledger import Ledger
from secureagg.errors import BudgetExhausted, FaultyMemberError, ParameterError, QuorumError, UnattributedFault
from secureagg.roster import Roster
from secureagg.session import Session

__all__ = ["SecureGrid"]

_log = logging.getLogger("flwr")


class SecureGrid(Grid):  # type: ignore[misc]
    """`grid`, with private training: `strategy.start(grid=SecureGrid(grid, strategy, terms), …)`.

    strategy: the one that will use it, which is refused if it needs single updates. terms: as on the nodes.
    committee_nodes: node ids of the committee, which may be nodes that never train; without them the first nodes that
    are asked to train. prekey_rounds: how many rounds ahead members publish keys for. spool: a directory in which
    every round leaves what `secureagg verify` reads. ledger: the server's, for the models it releases: a round that it
    cannot afford does not begin.

    Of a strategy's train messages, one round is made: every node that is in the sum replies with the same model, the
    one received plus the mean; the first of them with Σw as its weight and the others with 0, so that a weighted mean
    of them is that model bit for bit. Every other node replies with an error, also all of them if the sum could not be
    opened. Other messages pass.

    Guarantees: the server never holds a key that opens one node's contribution. Raises: ParameterError, from here and
    from `send_and_receive`, for what can never work.
    """

    def __init__(
        self,
        grid: Grid,
        strategy: strategy.Strategy,
        terms: Terms,
        *,
        committee_nodes: Sequence[int] | None = None,
        prekey_rounds: int = 64,
        spool: str | os.PathLike[str] | None = None,
        ledger: Ledger | None = None,
    ) -> None:
        require_sum(strategy)
        require_whole("prekey_rounds", prekey_rounds, 1, envelope.MAX_PREKEYS)
        if committee_nodes is not None and len(set(committee_nodes)) != terms.committee.size:
            raise ParameterError(
                f"committee_nodes has {len(set(committee_nodes))} nodes, the terms' committee {terms.committee.size}"
            )
        if getattr(strategy, "weighted_by_key", terms.weighted_by) != terms.weighted_by:
            raise ParameterError(
                f"the strategy weighs by {strategy.weighted_by_key!r}, the terms by {terms.weighted_by!r}"
            )
        self._grid = grid
        self._terms = terms
        self._spool = None if spool is None else Path(spool)
        self._ledger = ledger
        self._enrolment = Enrolment(grid, terms.committee.size, committee_nodes, prekey_rounds)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Return the replies to these messages; `timeout` holds for each exchange of a private round."""
        given = list(messages)
        train = {int(m.metadata.dst_node_id): m for m in given if envelope.is_train(m)}
        rest = [m for m in given if not envelope.is_train(m)]
        if len(train) + len(rest) != len(given):
            raise ParameterError("a node is asked to train twice in one round; a private round takes each once")
        passed = list(self._grid.send_and_receive(rest, timeout=timeout)) if rest else []
        return passed + (self._train(train, timeout) if train else [])

    def _train(self, messages: Mapping[int, Message], timeout: float | None) -> list[Message]:
        """Run one private round over these nodes' messages."""
        model = _Model.of(messages.values())
        require_one_task(messages.values())
        message_type = str(next(iter(messages.values())).metadata.message_type)
        try:
            failures = self._enrolment.enrol(list(messages), message_type, timeout)
        except QuorumError as error:
            return _refused(messages, dict.fromkeys(messages, f"no round: {error}"), {})
        settings, enrolled = b"", [node for node in messages if node not in failures]
        if enrolled:
            settings, odd = self._enrolment.settings(enrolled)
            failures |= odd
        cohort = {node: message for node, message in messages.items() if node not in failures}
        if len(cohort) < self._terms.quorum:
            reason = f"no round: {len(cohort)} nodes are enrolled, the quorum is {self._terms.quorum}"
            return _refused(messages, dict.fromkeys(messages, reason) | failures, {})
        try:
            current = self._round(model, cohort, settings)
        except (BudgetExhausted, FaultyMemberError) as error:
            return _refused(messages, dict.fromkeys(messages, f"no round: {error}") | failures, {})
        current.collect(cohort, timeout)
        current.failures |= failures
        try:
            result = current.open(message_type, timeout)
            replies = self._replies(messages, model, current, result)
        except (BudgetExhausted, QuorumError, FaultyMemberError, UnattributedFault) as error:
            return self._lost(messages, current, error)
        for member_id, reason in result.faults.items():
            _log.warning("secureagg: committee node %d: %s", self._enrolment.committee[member_id], reason)
        return replies

    def _round(self, model: _Model, cohort: Mapping[int, Message], settings: bytes) -> PrivateRound:
        """Return the round over these nodes, its session made."""
        known, nodes = self._enrolment, list(cohort)
        plan = self._terms.plan(layout_of(model.names, model.tensors), len(nodes))
        if self._ledger is not None and not self._ledger.affords(plan.privacy_event()):
            # Closing the round would refuse as well, but only once every node has trained and sent in vain.
            raise BudgetExhausted(f"{len(self._ledger)} rounds are debited of the server's {self._ledger.budget}")
        session = Session(
            plan,
            Roster((known.identities[node] for node in nodes), (known.identities[node] for node in known.committee)),
            prekeys=known.prekeys(),
            round_number=known.round_number,
            model=extended(self._terms, model.tensors),
            task=task_of(cohort[nodes[0]], settings),
        )
        spool = None if self._spool is None else self._spool / str(known.round_number)
        return PrivateRound(self._grid, known, session, nodes, spool, self._ledger)

    def _lost(self, messages: Mapping[int, Message], current: PrivateRound, error: Exception) -> list[Message]:
        """Return errors for everybody: the round was not opened."""
        _log.warning("secureagg: the round was not opened: %s", error)
        reasons = dict.fromkeys(messages, f"the round was not opened: {error}") | current.failures
        return _refused(messages, reasons, current.errors)

    def _replies(
        self, messages: Mapping[int, Message], model: _Model, current: PrivateRound, result: Result
    ) -> list[Message]:
        mean, metrics = means_in(self._terms, current.session.plan, result.mean)
        arrays = model.record(applied(model.tensors, mean))
        nodes = [current.nodes[client_id] for client_id in result.clients]
        weights = [result.total_weight] + [0] * (len(nodes) - 1)
        contents = {
            node: RecordDict({model.key: arrays, "metrics": MetricRecord({self._terms.weighted_by: weight, **metrics})})
            for node, weight in zip(nodes, weights, strict=True)
        }
        good = [Message(content, reply_to=messages[node]) for node, content in contents.items()]
        others = {node: message for node, message in messages.items() if node not in contents}
        return good + _refused(others, current.failures, current.errors)

    def set_run(self, run: Any) -> None:
        self._grid.set_run(run)

    @property
    def run(self) -> Any:
        return self._grid.run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return self._grid.create_message(content, message_type, dst_node_id, group_id, ttl)

    def get_node_ids(self) -> Iterable[int]:
        ids: Iterable[int] = self._grid.get_node_ids()
        return ids

    def get_nodes(self) -> Iterable[Any]:
        nodes: Iterable[Any] = self._grid.get_nodes()
        return nodes

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Pass on messages; nodes refuse to train for one that is not of a private round."""
        ids: Iterable[str] = self._grid.push_messages(messages)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        replies: Iterable[Message] = self._grid.pull_messages(message_ids)
        return replies


@dataclass(frozen=True)
class _Model:
    """The one model of a round: the record's key, the arrays' names, and the arrays."""

    key: str
    names: list[str]
    tensors: Tensors

    @classmethod
    def of(cls, messages: Iterable[Message]) -> _Model:
        """Return what all these messages carry. Raises: ParameterError if it is not the same for all."""
        records = [envelope.the_arrays(message.content, "a train message of the strategy") for message in messages]
        key, record = records[0]
        for _, other in records[1:]:
            if other is not record and other.object_id != record.object_id:
                raise ParameterError("the strategy sends nodes different models; a private round starts from one")
        return cls(key, list(record.keys()), [array.numpy() for array in record.values()])

    def record(self, tensors: Tensors) -> ArrayRecord:
        return ArrayRecord({name: Array(tensor) for name, tensor in zip(self.names, tensors, strict=True)})


def _refused(messages: Mapping[int, Message], reasons: Mapping[int, str], errors: Mapping[int, Error]) -> list[Message]:
    """Return an error for each message, from the node it went to: the node's own where there is one."""
    return [
        Message(errors[node], reply_to=message) if node in errors else envelope.refusal(message, reasons[node])
        for node, message in messages.items()
    ]
