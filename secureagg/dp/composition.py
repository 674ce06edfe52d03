"""Events composed, by dp-accounting: reduced to what its accountants take, and the (ε, δ) curve of that.

Gaussian events compose as privacy loss distributions (`PLDAccountant`). As soon as one event has only a Rényi curve,
all compose in Rényi divergence: the curve is added to that of `RdpAccountant`, whose own conversion to (ε, δ) is used
(Canonne, Kamath, Steinke, NeurIPS 2020, Proposition 12); so it is for ε in the hundreds. All numbers are upper bounds.

Relations: what add-or-remove gives holds for zero-out, since sums differ by one clip. Under replace they differ by
two. Without sampling that halves every noise multiplier; it is done here, because dp-accounting 0.4.3 does not do it.
With Poisson sampling, 0.6 has its own distributions for replace; where the library has none (0.4.3, or beside a Rényi
curve), group privacy for two stands: (ε, δ) gives (2ε, (1 + e^ε)·δ), as P ≤ e^ε·(e^ε·P″ + δ) + δ: valid and looser.

Works with dp-accounting 0.4.3 to 0.6, the extra `secureagg[dp]`, which is loaded at the first number asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import lru_cache
from importlib import import_module
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.dp_events import GaussianUses, PrivacyEvent
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import Relation
from secureagg.dp.rounded_sums import Blur, RoundedGaussianSum
from secureagg.errors import MissingExtraError, ParameterError

__all__ = [
    "HIGHEST_EPSILON",
    "ORDERS",
    "Bound",
    "Composition",
    "Events",
    "by_loss",
    "common_relation",
    "compose",
    "least",
    "least_fixed",
    "renyi_curve",
    "sampled",
    "stand_in",
]

Events = PrivacyEvent | Sequence[PrivacyEvent]

# The library's own default orders, written out so that both versions use the same ones.
ORDERS = (*(1 + x / 10 for x in range(1, 100)), *map(float, range(11, 64)), 128.0, 256.0, 512.0, 1024.0)
HIGHEST_EPSILON = 500.0  # e^ε is still a float
_QUICK_ORDERS = (*map(float, range(2, 64)), 128.0, 256.0)
_WIDEST_LOSS = 150.0

_Curve = DiscreteGaussianSum | SkellamSum | RoundedGaussianSum


class Composition(NamedTuple):
    """Events reduced to what accountants take; equal uses are counted together."""

    relation: Relation
    uses: tuple[GaussianUses, ...]
    curves: tuple[tuple[_Curve, int], ...]
    slack: float


def compose(events: Events) -> Composition:
    """Return one event or several, reduced. Raises: ParameterError for events of different relations."""
    events = (events,) if isinstance(events, PrivacyEvent) else tuple(events)
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
    return Composition(relation, counted, tuple((event, times * event.count) for event, times in curves.items()), slack)


def common_relation(events: Iterable[PrivacyEvent]) -> Relation | None:
    """Return the relation of all events, or None if there are none. Raises: ParameterError if they differ."""
    relations = sorted({event.relation for event in events})
    if len(relations) > 1:
        raise ParameterError(f"events of different neighbouring relations do not compose: {', '.join(relations)}")
    return relations[0] if relations else None


def stand_in(composition: Composition) -> tuple[Composition, Blur] | None:
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


def by_loss(composition: Composition) -> bool:
    """Return whether loss distributions serve: there are some, and they fit into memory."""
    if composition.curves:
        return False
    distance = 1 if sampled(composition) else composition.relation.distance
    return _Renyi(composition, distance, _QUICK_ORDERS).get_epsilon(1e-5) <= _WIDEST_LOSS


class Bound:
    """The (ε, δ) curve of a composition; `quick`: by Rényi divergence even where loss distributions are tighter."""

    def __init__(self, composition: Composition, quick: bool) -> None:
        relation, uses = composition.relation, composition.uses
        doubled = relation is Relation.REPLACE and sampled(composition)
        self._grouped = doubled
        if quick or not by_loss(composition):
            distance = 1 if doubled else relation.distance
            self._by: _Accountant = _Renyi(composition, distance, _QUICK_ORDERS if quick else ORDERS)
        elif doubled and _supports_replace():
            self._by, self._grouped = _loss_distribution(uses, 1, True), False
        else:
            self._by = _loss_distribution(uses, 1 if doubled else relation.distance, False)

    def epsilon(self, delta: float) -> float:
        if not self._grouped:
            return float(self._by.get_epsilon(delta))
        return 2 * least(self._by.get_epsilon, lambda limit: delta / (1 + math.exp(min(limit, HIGHEST_EPSILON))))

    def delta(self, epsilon: float) -> float:
        if not self._grouped:
            return float(self._by.get_delta(epsilon))
        return (1 + math.exp(epsilon / 2)) * float(self._by.get_delta(epsilon / 2))


class _Renyi:
    """Rényi divergences at fixed orders, converted by the library."""

    def __init__(self, composition: Composition, distance: int, orders: tuple[float, ...]) -> None:
        if distance != composition.relation.distance and composition.curves:
            # Group privacy doubles everything at the end, so the curves are those of one clip.
            single = Relation.ZERO_OUT
            curves = tuple((_under(event, single), count) for event, count in composition.curves)
            composition = composition._replace(curves=curves)
        self._orders, self._divergences = orders, renyi_curve(composition, distance, orders)

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


def renyi_curve(composition: Composition, distance: int, orders: tuple[float, ...]) -> NDArray[np.float64]:
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


def sampled(composition: Composition) -> bool:
    return any(use.sampling_rate < 1 for use in composition.uses)


@lru_cache(maxsize=1)
def _library() -> Any:
    try:
        return import_module("dp_accounting")
    except ModuleNotFoundError as error:
        raise MissingExtraError("dp-accounting", "dp") from error


def least(epsilon: Callable[[float], float], allowed: Callable[[float], float]) -> float:
    """Return ε = epsilon(allowed(limit)) for a limit ≥ ε, nearly the least; inf if none is found.

    allowed: the δ left for the mechanism if its ε may be up to this limit, which falls as the limit grows; so
    ε ≤ limit proves that allowed(ε) ≥ the δ that was used.
    """
    return least_fixed(lambda limit: epsilon(left) if (left := allowed(limit)) > 0 else math.inf)


def least_fixed(epsilon: Callable[[float], float]) -> float:
    """Return epsilon(limit) for a limit it does not exceed, nearly the least; inf if none is found."""
    limit = 0.0
    for _ in range(50):
        found = epsilon(limit)
        if found <= limit or math.isinf(found):
            return found
        limit = found * (1 + 1e-6)
    return math.inf
