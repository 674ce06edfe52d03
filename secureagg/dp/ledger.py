"""The ledger: every release of one party about one unit's data, debited before its noise can be released.

    with Ledger("hospital.ledger", budget=(8.0, 1e-5), relation=Relation.ZERO_OUT, planned=[event]) as ledger:
        ledger.debit(one_round, "round 7")      # durable, or BudgetExhausted
        …                                       # and only now release anything

Who stops, or chooses the next event, after seeing what was released, needs a filter that is valid then. Two are:

With `planned`, the events are fixed before anything is released, and the budget covers all of them. Only they can be
debited, so ordinary composition, by loss distributions, holds; to stop earlier is post-processing.

Without, events may depend on all that was released. Admitted is what keeps their Rényi divergences of *one* order,
fixed in the file's first line, within B, where (α, B)-RDP implies (ε, 0.99·δ). This is a valid filter by Feldman and
Zrnic, "Individual privacy accounting via a Rényi filter", NeurIPS 2021, Theorem 4.3 (with Theorem 3.1). To take the
best of several orders, or loss distributions, for events chosen adaptively is not valid for free (Rogers, Roth, Ullman,
Vadhan, NeurIPS 2016). 0.01·δ is kept for Poisson batches that were truncated and for values that were drawn anew.

The ledger holds events and notes, never a client's values. It protects who keeps it: a client's own makes that client
refuse a round; an aggregator's protects nobody from the aggregator.
"""

from __future__ import annotations

import math
import os
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import TracebackType

from secureagg.dp.accounting import Guarantee, common_relation, epsilon, renyi_budget, renyi_divergence, require_epsilon
from secureagg.dp.client_sampling import Adversary
from secureagg.dp.dp_events import PrivacyEvent, event_from_fields, event_to_fields, single
from secureagg.dp.ledger_file import LedgerFile
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted, EncodingError, ParameterError

__all__ = ["Debit", "Ledger"]

_VERSION = 2
_SLACK_SHARE = 0.01
_LONGEST_TEXT = 200


@dataclass(frozen=True)
class Debit:
    """One line of a ledger."""

    event: PrivacyEvent
    note: str


class Ledger:
    """The ledger in the file `path`, made if it is not there. Its first debit fixes the terms it must be reopened with.

    budget: (ε, δ) for everything that is ever debited. unit: whose data, in words, such as a federation and a data set.
    adversary: whom it protects against. Events that are amplified by the sampling of clients go into a ledger against
    models-alone, and nowhere else (`dp_events.seen_by`); rounds whose noise the aggregator adds into one against
    recipients, or models-alone. For a plan's rounds it is `plan.noise.adversary`.

    Several threads may debit at once; a forked process may not.
    Raises: ParameterError for other terms than the file's, a file open elsewhere, or a plan beyond the budget;
    EncodingError for a damaged file, or one of another format version.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        budget: tuple[float, float],
        relation: Relation,
        *,
        adversary: Adversary = Adversary.PARTICIPANTS,
        planned: Sequence[PrivacyEvent] | None = None,
        unit: str = "",
    ) -> None:
        self.budget = Guarantee(*budget, relation, adversary)
        require_epsilon("budget ε", self.budget.epsilon)
        self.unit = _checked_text("unit", unit)
        self._filter = _Adaptive(self.budget) if planned is None else _Planned(self.budget, tuple(planned))
        self._lock = threading.Lock()  # from what is admitted to what is recorded; close() may not come between
        self._file = LedgerFile(path)
        try:
            self._debits = self._read()
        except BaseException:
            self.close()
            raise

    def debit(self, event: PrivacyEvent, note: str = "") -> None:
        """Record an event, durably, before it happens.

        note: public words, such as a round's number; at most 200 printable characters, and never a client's values.
        Raises: BudgetExhausted, and then nothing is recorded; ParameterError for another neighbouring relation, and
        where nothing can be recorded durably.
        """
        _checked_text("note", note)
        self.require_kind(event)
        self._file.require_own()  # before the lock, which a forked process may have inherited held
        with self._lock:
            self._filter.admit(self.events, event)
            if not self._file.bodies:
                self._file.append(self._terms())
            self._file.append({"event": event_to_fields(event), "note": note})
            self._debits.append(Debit(event, note))

    def affords(self, event: PrivacyEvent) -> bool:
        """Return whether `debit` would admit the event."""
        self.require_kind(event)
        try:
            self._filter.admit(self.events, event)
        except BudgetExhausted:
            return False
        return True

    def spent(self) -> Guarantee:
        """Return ε of all events debited, composed, at the budget's δ.

        It is a guarantee by itself if the events were planned; of events chosen adaptively, only the budget is.
        """
        return replace(self.budget, epsilon=epsilon(self.events, self.budget.delta))

    def remaining(self) -> Guarantee:
        """Return the budget's ε less what is spent. Rounds to come cost less than their ε alone: ε does not add up."""
        return replace(self.budget, epsilon=max(0.0, self.budget.epsilon - self.spent().epsilon))

    @property
    def events(self) -> tuple[PrivacyEvent, ...]:
        """All events debited, in order."""
        return tuple(debit.event for debit in self._debits)

    @property
    def head(self) -> str:
        """A hash of the whole ledger, to be kept elsewhere by who fears for its last lines."""
        return self._file.head

    def close(self) -> None:
        """Release the file."""
        with self._lock if self._file.is_own else nullcontext():
            self._file.close()

    def __iter__(self) -> Iterator[Debit]:
        return iter(tuple(self._debits))

    def __len__(self) -> int:
        return len(self._debits)

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Ledger({str(self._file.path)!r}, {self.budget}, {len(self)} debits)"

    def require_kind(self, event: PrivacyEvent) -> None:
        """Raise ParameterError for an event this ledger has no place for, however little was spent: one of another
        relation, or that does not hold against its adversary.
        """
        if not isinstance(event, PrivacyEvent):
            raise ParameterError(f"event must be a privacy event, not {type(event).__name__}")
        if event.relation is not self.budget.relation:
            raise ParameterError(f"an event for {event.relation}, and this ledger is for {self.budget.relation}")
        _require_adversary((event,), self.budget)

    def _terms(self) -> dict[str, object]:
        return {
            "version": _VERSION,
            "unit": self.unit,
            "relation": str(self.budget.relation),
            "adversary": str(self.budget.adversary),
            "epsilon": float(self.budget.epsilon),
            "delta": float(self.budget.delta),
            "filter": self._filter.terms(),
        }

    def _read(self) -> list[Debit]:
        if not self._file.bodies:
            return []
        terms, *bodies = self._file.bodies
        if terms.get("version") != _VERSION:
            raise EncodingError(
                f"the ledger {self._file.path} has format version {terms.get('version')!r}, and this library reads "
                f"version {_VERSION}; open it with the version of secureagg that wrote it"
            )
        if terms != self._terms():
            names = [name for name, value in self._terms().items() if terms.get(name) != value]
            raise ParameterError(
                f"the ledger {self._file.path} was made with other terms ({', '.join(names)}); open it with those, or "
                "give what is planned anew a file of its own"
            )
        return [_debit_of(body) for body in bodies]


class _Planned:
    """Admits what was planned, once."""

    def __init__(self, budget: Guarantee, planned: tuple[PrivacyEvent, ...]) -> None:
        if not planned:
            raise ParameterError("planned holds no events; leave it out to choose them as you go")
        if common_relation(planned) is not budget.relation:
            raise ParameterError(f"the planned events are not about {budget.relation}, the ledger's relation")
        _require_adversary(planned, budget)
        cost = epsilon(planned, budget.delta)
        if cost > budget.epsilon:
            raise ParameterError(f"the planned events cost ε = {cost:.4g} > budget ε = {budget.epsilon:.4g}")
        self._planned = planned

    def terms(self) -> dict[str, object]:
        return {"planned": [event_to_fields(event) for event in self._planned]}

    def admit(self, debited: Sequence[PrivacyEvent], event: PrivacyEvent) -> None:
        wanted = single(event)
        planned, used = _uses(self._planned)[wanted], _uses((*debited, event))[wanted]
        if used > planned:
            raise BudgetExhausted(f"{used} > {planned} planned uses of this {type(event).__name__}")


class _Adaptive:
    """Admits while the Rényi divergences of one order stay within a bound."""

    def __init__(self, budget: Guarantee) -> None:
        self._budget = budget
        self._order, self._bound = renyi_budget(budget.epsilon, (1 - _SLACK_SHARE) * budget.delta)

    def terms(self) -> dict[str, object]:
        return {"order": self._order, "bound": self._bound}

    def admit(self, debited: Sequence[PrivacyEvent], event: PrivacyEvent) -> None:
        events = (*debited, event)
        spent = renyi_divergence(events, self._order)
        if not spent <= self._bound:
            raise BudgetExhausted(f"divergence {spent:.4g} of order {self._order:g} > {self._bound:.4g}, the budget")
        slack = sum(getattr(one, "slack", 0.0) for one in events) * (1 + math.exp(self._budget.epsilon))
        if slack > _SLACK_SHARE * self._budget.delta:
            kept = _SLACK_SHARE * self._budget.delta
            raise BudgetExhausted(f"δ = {slack:.3g} for truncated batches or values drawn anew > {kept:.3g}")


def _uses(events: Sequence[PrivacyEvent]) -> Counter[PrivacyEvent]:
    """Return how often each mechanism meets one unit: steps, rounds, or epochs begun in shuffled batches."""
    counts: Counter[PrivacyEvent] = Counter()
    for event in events:
        used = event.count if isinstance(event, DiscreteGaussianSum | SkellamSum) else event.uses().times
        counts[single(event)] += used
    return counts


def _require_adversary(events: Sequence[PrivacyEvent], budget: Guarantee) -> None:
    for event in events:
        against = getattr(event, "adversary", Adversary.PARTICIPANTS)
        if not against.covers(budget.adversary):
            why = (
                "; the aggregator adds this noise, which protects nobody from the aggregator: have a ledger with "
                "adversary=plan.noise.adversary count it, or use distributed noise"
            )
            raise ParameterError(
                f"an event against {against} only, in a ledger against {budget.adversary}"
                + (why if against is Adversary.RECIPIENTS else "")
            )


def _debit_of(body: dict[str, object]) -> Debit:
    note = body.get("note")
    if set(body) != {"event", "note"} or not isinstance(note, str):
        raise EncodingError("a line of the ledger is no debit")
    return Debit(event_from_fields(body["event"]), note)


def _checked_text(name: str, text: str) -> str:
    if not isinstance(text, str) or len(text) > _LONGEST_TEXT or not text.isprintable():
        raise ParameterError(f"{name} must be text of at most {_LONGEST_TEXT} printable characters")
    return text
