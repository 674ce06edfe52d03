"""From what was released to (ε, δ); dp-accounting does the composing.

Gaussian events compose as privacy loss distributions (`PLDAccountant`), and so do rounded sums by the mechanisms that
stand for them (`rounded_sums`). As soon as one event has only a Rényi curve, all compose in Rényi divergence: the curve
is added to that of `RdpAccountant`, whose own conversion to (ε, δ) is used (Canonne, Kamath, Steinke, NeurIPS 2020,
Proposition 12); so it is for ε in the hundreds. Rounded sums have both, and the smaller ε is told. All numbers are
upper bounds.

Relations: what add-or-remove gives holds for zero-out, since sums differ by one clip. Under replace they differ by
two. Without sampling that halves every noise multiplier; it is done here, because dp-accounting 0.4.3 does not do it.
With Poisson sampling, 0.6 has its own distributions for replace; where the library has none (0.4.3, or beside a Rényi
curve), group privacy for two stands: (ε, δ) gives (2ε, (1 + e^ε)·δ), as P ≤ e^ε·(e^ε·P″ + δ) + δ: valid and looser.

Works with dp-accounting 0.4.3 to 0.6, the extra `secureagg[dp]`, which is loaded at the first number asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.client_sampling import Adversary
from secureagg.dp.dp_events import GaussianUses, PrivacyEvent
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import Relation, require_member
from secureagg.dp.rounded_sums import Blur, RoundedGaussianSum
from secureagg.errors import MissingExtraError, ParameterError

__all__ = [
    "Events",
    "Guarantee",
    "accountant",
    "common_relation",
    "delta",
    "dp_event",
    "epsilon",
    "quick_epsilon",
    "renyi_budget",
    "renyi_divergence",
    "require_delta",
    "require_epsilon",
]

Events = PrivacyEvent | Sequence[PrivacyEvent]

# The library's own default orders, written out so that both versions use the same ones.
_ORDERS = (*(1 + x / 10 for x in range(1, 100)), *map(float, range(11, 64)), 128.0, 256.0, 512.0, 1024.0)
_QUICK_ORDERS = (*map(float, range(2, 64)), 128.0, 256.0)
_WIDEST_LOSS = 150.0
_HIGHEST_EPSILON = 500.0  # e^ε is still a float
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
        whom = "" if self.adversary is Adversary.PARTICIPANTS else ", against who sees the models alone"
        return f"ε = {self.epsilon:.4g} at δ = {self.delta:.3g} ({self.relation}{whom})"


_Curve = DiscreteGaussianSum | SkellamSum | RoundedGaussianSum


class _Composition(NamedTuple):
    """Events reduced to what accountants take; equal uses are counted together."""

    relation: Relation
    uses: tuple[GaussianUses, ...]
    curves: tuple[tuple[_Curve, int], ...]
    slack: float


def epsilon(events: Events, delta: float) -> float:
    """Return an upper bound on ε at this δ, in (0, 1), for the events composed; inf if there is none.

    Raises: ParameterError for events of different relations; MissingExtraError without dp-accounting.
    """
    require_delta(delta)
    return _epsilon(_compose(_listed(events)), float(delta), quick=False)


def quick_epsilon(events: Events, delta: float) -> float:
    """Return `epsilon`'s bound by Rényi divergence at a few orders: a little looser, and many times quicker."""
    require_delta(delta)
    return _epsilon(_compose(_listed(events)), float(delta), quick=True)


def delta(events: Events, epsilon: float) -> float:
    """Return an upper bound on δ at this ε > 0, at most 1, for the events composed."""
    require_epsilon("epsilon", epsilon)
    composition = _compose(_listed(events))
    bound = _Bound(composition, quick=False)
    found = min(1.0, bound.delta(float(epsilon)) + _overflow(composition.slack, epsilon))
    return _blurred_delta(composition, float(epsilon), found)


def accountant(events: Events) -> str:
    """Return what composes these events: PLD or RDP."""
    composition = _compose(_listed(events))
    standing = _standing(composition)
    return "PLD" if _by_loss(composition if standing is None else standing[0]) else "RDP"


def dp_event(events: Events) -> Any:
    """Return the events as one `DpEvent`, for an accountant of the add-or-remove relation.

    Raises: ParameterError if dp-accounting has no such event: Rényi curves, and replace with Poisson sampling.
    """
    composition = _compose(_listed(events))
    if composition.curves:
        raise ParameterError("dp-accounting has no event for sums with discrete Gaussian or Skellam noise")
    if composition.relation is Relation.REPLACE and _sampled(composition):
        raise ParameterError("an add-or-remove accountant has no event for Poisson sampling under replace")
    return _library_event(composition.uses, composition.relation.distance)


def common_relation(events: Iterable[PrivacyEvent]) -> Relation | None:
    """Return the relation of all events, or None if there are none. Raises: ParameterError if they differ."""
    relations = sorted({event.relation for event in events})
    if len(relations) > 1:
        raise ParameterError(f"events of different neighbouring relations do not compose: {', '.join(relations)}")
    return relations[0] if relations else None


def renyi_divergence(events: Events, order: float) -> float:
    """Return the events' Rényi divergence of this order: it adds up even if events are chosen adaptively.

    Raises: ParameterError for Poisson sampling under replace, which has no curve here.
    """
    composition = _compose(_listed(events))
    if composition.relation is Relation.REPLACE and _sampled(composition):
        raise ParameterError("Poisson sampling under relation=replace has no Rényi curve; use add-or-remove")
    return float(_curve(composition, composition.relation.distance, (float(order),))[0])


def renyi_budget(epsilon: float, delta: float) -> tuple[float, float]:
    """Return (α, B) such that (α, B)-RDP implies (ε, δ)-DP, at the order whose B / α is largest.

    B = ε − ln(1 − 1/α) + ln(α·δ)/(α − 1) (Canonne, Kamath, Steinke 2020, Proposition 12). The order depends on nothing
    but (ε, δ), as a filter's must, and is the best one for mechanisms whose divergence is linear in α.
    """
    require_epsilon("epsilon", epsilon)
    require_delta(delta)
    budgets = {a: epsilon - math.log1p(-1 / a) + math.log(a * delta) / (a - 1) for a in _ORDERS}
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
    if isinstance(epsilon, bool) or not isinstance(epsilon, int | float) or not 0 < epsilon <= _HIGHEST_EPSILON:
        raise ParameterError(f"{name} must be a number above 0, at most {_HIGHEST_EPSILON:g}, not {epsilon!r}")


def _listed(events: Events) -> tuple[PrivacyEvent, ...]:
    return (events,) if isinstance(events, PrivacyEvent) else tuple(events)


def _compose(events: tuple[PrivacyEvent, ...]) -> _Composition:
    uses: dict[GaussianUses, int] = {}
    curves: dict[_Curve, int] = {}
    slack = 0.0
    for event in events:
        if isinstance(event, _Curve):
            curves[event] = curves.get(event, 0) + 1
            slack += 0.0 if isinstance(event, DiscreteGaussianSum) else event.slack
        elif isinstance(event, PrivacyEvent):
            used = event.uses()
            uses[used._replace(times=1)] = uses.get(used._replace(times=1), 0) + used.times
            slack += event.slack
        else:
            raise ParameterError(f"events must be privacy events, not {type(event).__name__}")
    relation = common_relation(events) or Relation.ADD_OR_REMOVE
    counted = tuple(use._replace(times=times) for use, times in uses.items())
    return _Composition(
        relation, counted, tuple((event, times * event.count) for event, times in curves.items()), slack
    )


def _epsilon(composition: _Composition, delta: float, quick: bool) -> float:
    if not composition.uses and not composition.curves:
        return 0.0
    bound, slack = _Bound(composition, quick), composition.slack
    found = _least(bound.epsilon, lambda limit: delta - _overflow(slack, limit)) if slack else bound.epsilon(delta)
    return found if quick else min(found, _blurred_epsilon(composition, delta))


def _least(epsilon: Callable[[float], float], allowed: Callable[[float], float]) -> float:
    """Return ε = epsilon(allowed(limit)) for a limit ≥ ε, nearly the least; inf if none is found.

    allowed: the δ left for the mechanism if its ε may be up to this limit, which falls as the limit grows; so
    ε ≤ limit proves that allowed(ε) ≥ the δ that was used.
    """
    return _least_fixed(lambda limit: epsilon(left) if (left := allowed(limit)) > 0 else math.inf)


def _least_fixed(epsilon: Callable[[float], float]) -> float:
    """Return epsilon(limit) for a limit it does not exceed, nearly the least; inf if none is found."""
    limit = 0.0
    for _ in range(50):
        found = epsilon(limit)
        if found <= limit or math.isinf(found):
            return found
        limit = found * (1 + 1e-6)
    return math.inf


def _blurred_epsilon(composition: _Composition, delta: float) -> float:
    """Return ε by the loss distributions of the Gaussian mechanisms that stand for rounded sums; inf without those.

    δ = e^η·left + (1 + e^ε)·missed + what the sums' own slack takes (`Blur.epsilon`), with (1 + e^ε)·missed a
    thousandth of it.
    """
    standing = _standing(composition)
    if standing is None or not _by_loss(standing[0]):
        return math.inf
    mechanisms, blur = standing
    bound = _Bound(mechanisms, quick=False)

    def epsilon(limit: float) -> float:
        # Past e^500 the limit would no longer bound what is missed; a tiny δ has no share left that is a float.
        missed = _missed(delta, limit) if limit <= _HIGHEST_EPSILON else 0.0
        if missed == 0:
            return math.inf
        blurred = blur.epsilon(missed)
        left = ((1 - _MISSED_SHARE) * delta - _overflow(composition.slack, limit)) * math.exp(-blurred)
        return bound.epsilon(left) + blurred if left > 0 else math.inf

    return _least_fixed(epsilon)


def _blurred_delta(composition: _Composition, epsilon: float, found: float) -> float:
    """Return the least δ that those mechanisms prove, starting from one that is `found` already."""
    standing = _standing(composition)
    if standing is None or not _by_loss(standing[0]):
        return found
    mechanisms, blur = standing
    bound = _Bound(mechanisms, quick=False)
    for _ in range(5):  # whatever is taken for missed proves a δ; a thousandth of that δ is nearly the best
        missed = _missed(found, epsilon)
        blurred = blur.epsilon(missed) if 0 < missed < 1 else math.inf
        if blurred >= epsilon:
            break
        others = missed * (1 + math.exp(epsilon)) + _overflow(composition.slack, epsilon)
        before, found = found, min(found, math.exp(blurred) * bound.delta(epsilon - blurred) + others)
        if found >= before * (1 - 1e-6):
            break
    return found


def _missed(delta: float, epsilon: float) -> float:
    return _MISSED_SHARE * delta / (1 + math.exp(epsilon))


def _standing(composition: _Composition) -> tuple[_Composition, Blur] | None:
    """Return the composition with Gaussian mechanisms in place of rounded sums, and how close it is to them.

    None if there are no rounded sums, or other sums too, which have nothing but Rényi curves.
    """
    uses: dict[GaussianUses, int] = {use._replace(times=1): use.times for use in composition.uses}
    total = None
    for event, count in composition.curves:
        if not isinstance(event, RoundedGaussianSum):
            return None
        once = event.uses()._replace(times=1)
        uses[once] = uses.get(once, 0) + count
        total = event.blur * count if total is None else total + event.blur * count
    if total is None:
        return None
    counted = tuple(use._replace(times=times) for use, times in uses.items())
    return composition._replace(uses=counted, curves=()), total


def _by_loss(composition: _Composition) -> bool:
    """Return whether loss distributions serve: there are some, and they fit into memory."""
    if composition.curves:
        return False
    distance = 1 if _sampled(composition) else composition.relation.distance
    return _Renyi(composition, distance, _QUICK_ORDERS).get_epsilon(1e-5) <= _WIDEST_LOSS


def _overflow(slack: float, epsilon: float) -> float:
    return slack * (1 + math.exp(min(epsilon, _HIGHEST_EPSILON))) if slack else 0.0


class _Bound:
    """The (ε, δ) curve of a composition; `quick`: by Rényi divergence even where loss distributions are tighter."""

    def __init__(self, composition: _Composition, quick: bool) -> None:
        relation, uses = composition.relation, composition.uses
        doubled = relation is Relation.REPLACE and _sampled(composition)
        self._grouped = doubled
        if quick or not _by_loss(composition):
            distance = 1 if doubled else relation.distance
            self._by: _Accountant = _Renyi(composition, distance, _QUICK_ORDERS if quick else _ORDERS)
        elif doubled and _supports_replace():
            self._by, self._grouped = _loss_distribution(uses, 1, True), False
        else:
            self._by = _loss_distribution(uses, 1 if doubled else relation.distance, False)

    def epsilon(self, delta: float) -> float:
        if not self._grouped:
            return float(self._by.get_epsilon(delta))
        return 2 * _least(self._by.get_epsilon, lambda limit: delta / (1 + math.exp(min(limit, _HIGHEST_EPSILON))))

    def delta(self, epsilon: float) -> float:
        if not self._grouped:
            return float(self._by.get_delta(epsilon))
        return (1 + math.exp(epsilon / 2)) * float(self._by.get_delta(epsilon / 2))


class _Renyi:
    """Rényi divergences at fixed orders, converted by the library."""

    def __init__(self, composition: _Composition, distance: int, orders: tuple[float, ...]) -> None:
        if distance != composition.relation.distance and composition.curves:
            # Group privacy doubles everything at the end, so the curves are those of one clip.
            single = Relation.ZERO_OUT
            curves = tuple((_under(event, single), count) for event, count in composition.curves)
            composition = composition._replace(curves=curves)
        self._orders, self._divergences = orders, _curve(composition, distance, orders)

    def get_epsilon(self, delta: float) -> float:
        module = _library().rdp.rdp_privacy_accountant
        return float(module.compute_epsilon(self._orders, self._divergences, delta)[0])

    def get_delta(self, epsilon: float) -> float:
        module = _library().rdp.rdp_privacy_accountant
        # The library takes ln(1 − e^−r), which is no number where e^−r is 1 in floats.
        divergences = np.maximum(self._divergences, 2.0**-52)
        return float(module.compute_delta(self._orders, divergences, epsilon)[0])


_Accountant = Any  # a library's accountant, or _Renyi: get_epsilon(δ) and get_delta(ε)


def _under(event: _Curve, relation: Relation) -> _Curve:
    return replace(event, relation=relation)


def _curve(composition: _Composition, distance: int, orders: tuple[float, ...]) -> NDArray[np.float64]:
    library = _library()
    theirs = library.rdp.RdpAccountant(list(orders))
    if composition.uses:
        theirs.compose(_library_event(composition.uses, distance))
    total: NDArray[np.float64] = np.asarray(theirs.rdp, dtype=np.float64)
    for event, count in composition.curves:
        total = total + count * event.curve(np.array(orders))
    return total


@lru_cache(maxsize=8)
def _loss_distribution(uses: tuple[GaussianUses, ...], distance: int, replacing: bool) -> _Accountant:
    library = _library()
    relations = library.NeighboringRelation
    found = library.pld.PLDAccountant(relations.REPLACE_ONE if replacing else relations.ADD_OR_REMOVE_ONE)
    return found.compose(_library_event(uses, distance))


@lru_cache(maxsize=1)
def _supports_replace() -> bool:
    library = _library()
    asked = library.pld.PLDAccountant(library.NeighboringRelation.REPLACE_ONE)
    return bool(asked.supports(library.PoissonSampledDpEvent(0.5, library.GaussianDpEvent(1.0))))


def _library_event(uses: tuple[GaussianUses, ...], distance: int) -> Any:
    library = _library()
    parts = []
    for use in uses:
        event = library.GaussianDpEvent(use.noise_multiplier / distance)
        if use.sampling_rate < 1:
            event = library.PoissonSampledDpEvent(use.sampling_rate, event)
        parts.append(library.SelfComposedDpEvent(event, use.times))
    return parts[0] if len(parts) == 1 else library.ComposedDpEvent(parts)


def _sampled(composition: _Composition) -> bool:
    return any(use.sampling_rate < 1 for use in composition.uses)


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        return import_module("dp_accounting")
    except ModuleNotFoundError as error:
        raise MissingExtraError("dp-accounting", "dp") from error
