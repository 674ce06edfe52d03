"""A contributor's own ledger: what rounds with noise may cost it, asked before it trains, debited before it sends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from secureagg.dp.ledger import Ledger
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted
from secureagg.plan import RoundPlan

__all__ = ["ledger_of", "require_budget"]


@contextmanager
def ledger_of(plan: RoundPlan, path: Path, unit: str) -> Iterator[Ledger | None]:
    """Hold the ledger in this file, made for all rounds of the plan's noise if there is none; without noise None.

    It is against whom the noise holds: all but the server, where the server adds it. unit: whose data, as in `Ledger`.
    Raises: ParameterError for a file that is open elsewhere, or was made for rounds that cost something else;
    EncodingError for a damaged one.
    """
    if (noise := plan.noise) is None:
        yield None
        return
    budget, planned = (noise.epsilon, noise.delta), [plan.privacy_event(noise.rounds)]
    with Ledger(path, budget, Relation.ZERO_OUT, adversary=noise.adversary, planned=planned, unit=unit) as ledger:
        yield ledger


def require_budget(plan: RoundPlan, ledger: Ledger | None) -> None:
    """Raise BudgetExhausted for a round that the ledger's keeper cannot afford, before the work of training."""
    if ledger is not None and not ledger.affords(plan.privacy_event()):
        raise BudgetExhausted(f"the privacy budget is used up: {len(ledger)} rounds are debited of {ledger.budget}")
