"""From what was released to (ε, δ).

`composition` composes the events. Rounded sums have two bounds, by their Rényi curves and by the loss distributions of
the mechanisms that stand for them (`rounded_sums`), and the smaller ε is told. All numbers are upper bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from secureagg.dp.client_sampling import Adversary
from secureagg.dp.composition import (
    HIGHEST_EPSILON,
    ORDERS,
    Bound,
    Composition,
    Events,
    by_loss,
    common_relation,
    compose,
    least,
    least_fixed,
    renyi_curve,
    sampled,
    stand_in,
)
from secureagg.dp.relation import Relation, require_member
from secureagg.errors import ParameterError

__all__ = [
    "HIGHEST_EPSILON",
    "Events",
    "Guarantee",
    "accountant",
    "common_relation",
    "delta",
    "epsilon",
    "quick_epsilon",
    "renyi_budget",
    "renyi_divergence",
    "require_delta",
    "require_epsilon",
]

_WHOM = {
    Adversary.PARTICIPANTS: "",
    Adversary.RECIPIENTS: ", against who sees the noisy means, not against the aggregator",
    Adversary.MODELS_ALONE: ", against who sees the models alone",
}
_MISSED_SHARE = 1e-3  # of δ, left for where rounded sums are not close to the mechanisms that stand for them


@dataclass(frozen=True)
class Guarantee:
    """(ε, δ), never without the neighbouring relation it is about and whom it holds against."""

    epsilon: float
    delta: float
    relation: Relation
    adversary: Adversary = Adversary.PARTICIPANTS

    def __post_init__(self) -> None:
        require_delta(self.delta)
        if not isinstance(self.relation, Relation):
            raise ParameterError(f"relation must be a Relation, not {self.relation!r}")
        require_member("adversary", self.adversary, Adversary)
        if isinstance(self.epsilon, bool) or not isinstance(self.epsilon, int | float) or not self.epsilon >= 0:
            raise ParameterError(f"epsilon must be a number of at least 0, not {self.epsilon!r}")

    def __str__(self) -> str:
        return f"ε = {self.epsilon:.4g} at δ = {self.delta:.3g} ({self.relation}{_WHOM[self.adversary]})"


def epsilon(events: Events, delta: float) -> float:
    """Return an upper bound on ε at this δ, in (0, 1), for the events composed; inf if there is none.

    Raises: ParameterError for events of different relations; MissingExtraError without dp-accounting.
    """
    require_delta(delta)
    return _epsilon(compose(events), float(delta), quick=False)


def quick_epsilon(events: Events, delta: float) -> float:
    """Return `epsilon`'s bound by Rényi divergence at a few orders: a little looser, and many times quicker."""
    require_delta(delta)
    return _epsilon(compose(events), float(delta), quick=True)


def delta(events: Events, epsilon: float) -> float:
    """Return an upper bound on δ at this ε > 0, at most 1, for the events composed."""
    require_epsilon("epsilon", epsilon)
    composition = compose(events)
    bound = Bound(composition, quick=False)
    found = min(1.0, bound.delta(float(epsilon)) + _slack_delta(composition.slack, epsilon))
    return _blurred_delta(composition, float(epsilon), found)


def accountant(events: Events) -> str:
    """Return what composes these events: PLD or RDP."""
    composition = compose(events)
    standing = stand_in(composition)
    return "PLD" if by_loss(composition if standing is None else standing[0]) else "RDP"


def renyi_divergence(events: Events, order: float) -> float:
    """Return the events' Rényi divergence of this order: it adds up even if events are chosen adaptively.

    Raises: ParameterError for Poisson sampling under replace, which has no curve here.
    """
    composition = compose(events)
    if composition.relation is Relation.REPLACE and sampled(composition):
        raise ParameterError("Poisson sampling under relation=replace has no Rényi curve; use add-or-remove")
    return float(renyi_curve(composition, composition.relation.distance, (float(order),))[0])


def renyi_budget(epsilon: float, delta: float) -> tuple[float, float]:
    """Return (α, B) such that (α, B)-RDP implies (ε, δ)-DP, at the order whose B / α is largest.

    B = ε − ln(1 − 1/α) + ln(α·δ)/(α − 1) (Canonne, Kamath, Steinke 2020, Proposition 12). The order depends on nothing
    but (ε, δ), as a filter's must, and is the best one for mechanisms whose divergence is linear in α.
    """
    require_epsilon("epsilon", epsilon)
    require_delta(delta)
    budgets = {a: epsilon - math.log1p(-1 / a) + math.log(a * delta) / (a - 1) for a in ORDERS}
    order = max(budgets, key=lambda a: budgets[a] / a)
    if budgets[order] <= 0:
        raise ParameterError(f"epsilon={epsilon:g} at delta={delta:g} leaves no Rényi budget; raise either")
    return order, budgets[order]


def require_delta(delta: float) -> None:
    """Raise ParameterError unless 0 < δ < 1."""
    if isinstance(delta, bool) or not isinstance(delta, int | float) or not 0 < delta < 1:
        raise ParameterError(f"delta must be a number above 0 and below 1, not {delta!r}")


def require_epsilon(name: str, epsilon: float) -> None:
    """Raise ParameterError unless 0 < ε ≤ 500."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon <= HIGHEST_EPSILON:
        raise ParameterError(f"{name} must be a number above 0, at most {HIGHEST_EPSILON:g}, not {epsilon!r}")


def _epsilon(composition: Composition, delta: float, quick: bool) -> float:
    if not composition.uses and not composition.curves:
        return 0.0
    bound, slack = Bound(composition, quick), composition.slack
    found = least(bound.epsilon, lambda limit: delta - _slack_delta(slack, limit)) if slack else bound.epsilon(delta)
    return found if quick else min(found, _blurred_epsilon(composition, delta))


def _blurred_epsilon(composition: Composition, delta: float) -> float:
    """Return ε by the loss distributions of the Gaussian mechanisms that stand for rounded sums; inf without those.

    δ = e^η·left + (1 + e^ε)·missed + what the sums' own slack takes (`Blur.epsilon`), with (1 + e^ε)·missed a
    thousandth of it.
    """
    standing = stand_in(composition)
    if standing is None or not by_loss(standing[0]):
        return math.inf
    mechanisms, blur = standing
    bound = Bound(mechanisms, quick=False)

    def epsilon(limit: float) -> float:
        # Past e^500 the limit would no longer bound what is missed; a tiny δ has no share left that is a float.
        missed = _missed(delta, limit) if limit <= HIGHEST_EPSILON else 0.0
        if missed == 0:
            return math.inf
        blurred = blur.epsilon(missed)
        left = ((1 - _MISSED_SHARE) * delta - _slack_delta(composition.slack, limit)) * math.exp(-blurred)
        return bound.epsilon(left) + blurred if left > 0 else math.inf

    return least_fixed(epsilon)


def _blurred_delta(composition: Composition, epsilon: float, found: float) -> float:
    """Return the least δ that those mechanisms prove, starting from one that is `found` already."""
    standing = stand_in(composition)
    if standing is None or not by_loss(standing[0]):
        return found
    mechanisms, blur = standing
    bound = Bound(mechanisms, quick=False)
    for _ in range(5):  # whatever is taken for missed proves a δ; a thousandth of that δ is nearly the best
        missed = _missed(found, epsilon)
        blurred = blur.epsilon(missed) if 0 < missed < 1 else math.inf
        if blurred >= epsilon:
            break
        others = missed * (1 + math.exp(epsilon)) + _slack_delta(composition.slack, epsilon)
        before, found = found, min(found, math.exp(blurred) * bound.delta(epsilon - blurred) + others)
        if found >= before * (1 - 1e-6):
            break
    return found


def _missed(delta: float, epsilon: float) -> float:
    return _MISSED_SHARE * delta / (1 + math.exp(epsilon))


def _slack_delta(slack: float, epsilon: float) -> float:
    """Return the δ that truncated batches, rounds without a release and values drawn anew cost at this ε."""
    return slack * (1 + math.exp(min(epsilon, HIGHEST_EPSILON))) if slack else 0.0
