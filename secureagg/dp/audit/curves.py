"""Families of trade-off curves that an audit tests, each ordered by how little it hides.

A mechanism is f-DP if telling two neighbours apart with false alarms α misses at least f(α) (Dong, Roth & Su 2022).
Audits need f̄⁻¹, where f̄(x) = 1 − f(x): of an event of probability y under one neighbour, at least f̄⁻¹(y) is left under
the other. All curves here are symmetric. Roundings go towards a smaller f̄⁻¹, so that a test is never too eager.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any, Protocol

import numpy as np

from secureagg.checks import require_between, require_whole
from secureagg.errors import MissingExtraError, ParameterError

__all__ = [
    "Curves",
    "GaussianCurves",
    "Inverse",
    "SubsampledGaussianCurves",
    "gaussian_epsilon",
    "gaussian_mu",
    "normal_cdf",
    "normal_quantile",
]

Inverse = Callable[[float], float]

MAX_MU = 16.0  # ε = 190 at δ = 1e-5: no privacy
_BISECTIONS = 60
_LOSS_STEP = 4e-3  # of the privacy loss; rounding it costs `epsilon` at most that much a step
_LEAST_DELTA = 1e-12  # of a sampled curve's lines; leaving lines out only lowers the envelope
_SLACK = 1e-12  # of erfc and of the normal quantile (Wichura's AS 241), both within some 1e-15 relatively

normal_quantile: Callable[[float], float] = NormalDist().inv_cdf


def normal_cdf(x: float) -> float:
    """Return Φ(x), also in the lower tail to within a few units in the last place."""
    return math.erfc(-x / math.sqrt(2)) / 2


class Curves(Protocol):
    """Curves by `strength` > 0; a larger strength hides less: f̄⁻¹ falls and ε grows with it."""

    @property
    def max_strength(self) -> float:
        """The largest strength that is tried."""
        ...

    def inverse(self, strength: float) -> Inverse:
        """Return y ↦ f̄⁻¹(y), rounded down, for y in (0, 1)."""
        ...

    def epsilon(self, strength: float) -> float:
        """Return the ε, rounded down, at the family's δ."""
        ...


@dataclass(frozen=True)
class GaussianCurves:
    """μ-Gaussian DP: f̄⁻¹(y) = Φ(Φ⁻¹(y) − μ); the strength is μ (Dong et al., arXiv 1905.02383, eq. 6)."""

    delta: float
    max_strength: float = MAX_MU

    def inverse(self, strength: float) -> Inverse:
        shift = strength * (1 + _SLACK) + _SLACK
        return lambda y: normal_cdf(normal_quantile(y) - shift)

    def epsilon(self, strength: float) -> float:
        return gaussian_epsilon(strength, self.delta)


@dataclass(frozen=True)
class SubsampledGaussianCurves:
    """`steps` releases of a sum that holds an example with probability `rate` each; the strength is 1/noise_multiplier.

    The curve is the envelope of (ε, δ(ε)) from dp-accounting's privacy loss distribution, add or remove one, both
    directions. δ(ε) is rounded up for `inverse` and down for `epsilon`.
    """

    delta: float
    rate: float
    steps: int
    max_strength: float = 8.0

    def __post_init__(self) -> None:
        require_between("rate", self.rate, 1e-4, 1)
        require_whole("steps", self.steps, 1, 10_000)

    def inverse(self, strength: float) -> Inverse:
        loss = _loss(strength, self.rate, self.steps, True)
        epsilons = np.linspace(0, float(loss.get_epsilon_for_delta(_LEAST_DELTA)), 200)
        deltas = np.asarray(loss.get_delta_for_epsilon(epsilons)) * (1 + _SLACK)
        growth = np.exp(epsilons)

        def inverse(y: float) -> float:
            # δ + e^ε·x and 1 − e^−ε·(1 − δ − x) both bound f̄(x) (Dong et al., eq. 5).
            bound = max(float(((y - deltas) / growth).max()), float((1 - deltas - growth * (1 - y)).max()))
            return max(0.0, bound * (1 - _SLACK))

        return inverse

    def epsilon(self, strength: float) -> float:
        return float(_loss(strength, self.rate, self.steps, False).get_epsilon_for_delta(self.delta))

    def noise_multiplier(self, epsilon: float) -> float:
        """Return the least noise multiplier, to within 1e-4 of it, that is (ε, δ)-DP, rounded up.

        Raises: ParameterError if none below 1000 or above 1/8 is.
        """
        low, high = 1 / self.max_strength, 1000.0
        if not self._spent(low) > epsilon > self._spent(high):
            raise ParameterError(f"no noise_multiplier in [{low:g}, {high:g}] gives epsilon={epsilon:g}")
        while high / low > 1.0001:
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self._spent(middle) > epsilon else (low, middle)
        return high

    def _spent(self, noise_multiplier: float) -> float:
        return float(_loss(1 / noise_multiplier, self.rate, self.steps, True).get_epsilon_for_delta(self.delta))


def gaussian_epsilon(mu: float, delta: float) -> float:
    """Return the least ε ≥ 0 for which μ-Gaussian DP implies (ε, δ)-DP (Dong et al., Corollary 2.13)."""
    if mu <= 0 or _gaussian_delta(mu, 0.0) <= delta:
        return 0.0
    low, high = 0.0, 1.0
    while _gaussian_delta(mu, high) > delta:
        low, high = high, 2 * high
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if _gaussian_delta(mu, middle) > delta else (low, middle)
    return low


def gaussian_mu(epsilon: float, delta: float) -> float:
    """Return the largest μ, rounded down, for which μ-Gaussian DP implies (ε, δ)-DP."""
    low, high = 0.0, MAX_MU
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if gaussian_epsilon(middle, delta) > epsilon else (middle, high)
    return low


def _gaussian_delta(mu: float, epsilon: float) -> float:
    tail = normal_cdf(-mu / 2 - epsilon / mu)
    grown = math.exp(epsilon + math.log(tail)) if tail > 0 else 0.0
    return normal_cdf(mu / 2 - epsilon / mu) - grown


@lru_cache(maxsize=256)
def _loss(strength: float, rate: float, steps: int, pessimistic: bool) -> Any:
    try:
        from dp_accounting.pld import (  # type: ignore[import-untyped,unused-ignore]
            privacy_loss_distribution as losses,
        )
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "dp_accounting":
            raise
        raise MissingExtraError("dp-accounting", "dp") from error
    one = losses.from_gaussian_mechanism(
        1 / strength,
        pessimistic_estimate=pessimistic,
        value_discretization_interval=_LOSS_STEP,
        sampling_prob=rate,
        use_connect_dots=pessimistic,  # dp-accounting knows no optimistic version of it
    )
    return one.self_compose(steps)
