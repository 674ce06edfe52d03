"""Integer sums to which several parties add noise, and what one sum costs in Rényi divergence.

What is counted is the *honest contributors of the least noise that can happen*: who drops out or colludes adds none,
so `honest_contributors` takes the quorum, not the parties planned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between, require_whole
from secureagg.dp.relation import (
    LARGEST,
    MAX_COUNT,
    MAX_DIMENSION,
    Relation,
    require_member,
    require_positive,
    require_sampling_rate,
)
from secureagg.errors import ParameterError

__all__ = ["DiscreteGaussianSum", "SkellamSum", "gaussian_sum_distance", "honest_contributors"]


@dataclass(frozen=True, kw_only=True)
class DiscreteGaussianSum:
    """A sum of integer vectors to which `honest` contributors each added discrete Gaussian noise, `rounds` times.

    noise_std_grid: σ, the parameter of one contributor's noise, at least 1/2. honest: n, those whose noise is in the
    sum and unknown to the adversary (`honest_contributors`). l2_bound_grid: of one client's vector after rounding.

    The sum of n discrete Gaussians is not one, but within a factor e^±(τ/2) of N_Z(0, nσ²) at every point, with
    τ = 10·Σ_{k=1}^{n−1} exp(−2π²σ²·k/(k+1)) (Kairouz, Liu, Steinke, ICML 2021, arXiv 2102.06387, eq. 3). With
    s = √n·σ and sensitivities Δ₂, Δ₁ of d coordinates, order α is the smaller of

        α/2·(Δ₂²/s² + 2·Δ₁·τ/s + τ²·d)                  Proposition 14, second term; its third is never less
        α/2·Δ₂²/s² + τ·d·(α − 1/2)/(α − 1)              from P' ≤ e^(τ/2)·P and Q' ≥ e^(−τ/2)·Q at each coordinate

    and τ = 0 gives N_Z's own, the Gaussian's (Canonne, Kamath, Steinke, NeurIPS 2020). Depart: Proposition 14's first
    term has τ·d without the fraction; ours holds at every order by the one line of proof beside it, and is larger.
    """

    noise_std_grid: float
    honest: int
    l2_bound_grid: float
    dimension: int
    rounds: int
    relation: Relation

    def __post_init__(self) -> None:
        require_between("noise_std_grid", self.noise_std_grid, 0.5, LARGEST)  # Proposition 14: σ ≥ 1/2
        _check_sum(self)

    @property
    def count(self) -> int:
        """Rounds."""
        return self.rounds

    def curve(self, orders: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[orders], bounds on the Rényi divergence of one round."""
        sum_std = math.sqrt(self.honest) * self.noise_std_grid
        l1, l2 = _sensitivities(self)
        tau = gaussian_sum_distance(self.noise_std_grid, self.honest)
        plain = (l2 / sum_std) ** 2
        close = plain + 2 * l1 / sum_std * tau + tau**2 * self.dimension
        far = orders / 2 * plain + tau * self.dimension * (orders - 0.5) / (orders - 1)
        return np.minimum(orders / 2 * close, far)


@dataclass(frozen=True, kw_only=True)
class SkellamSum:
    """A sum of integer vectors to which `honest` contributors each added Skellam noise, `rounds` times.

    noise_variance_grid: of one contributor's noise; sums of Skellams are Skellam, so μ = honest·noise_variance_grid.
    redrawn_probability: that one round's rounding or noise is drawn anew; each round adds (1 + e^ε) times it to δ.
    Fields otherwise as in `DiscreteGaussianSum`. For whole α > 1 the order is at most

        α·Δ₂²/(2μ) + min(((2α − 1)·Δ₂² + 6·Δ₁)/(4μ²), 3·Δ₁/(2μ))

    (Agarwal, Kairouz, Liu, NeurIPS 2021, Theorem 3.5 and, for vectors, Corollary 3.6). Other orders take the next whole
    one's: a Rényi divergence never falls with its order.
    """

    noise_variance_grid: float
    honest: int
    l2_bound_grid: float
    dimension: int
    rounds: int
    relation: Relation
    redrawn_probability: float = 0.0

    def __post_init__(self) -> None:
        require_positive("noise_variance_grid", self.noise_variance_grid)
        require_between("redrawn_probability", self.redrawn_probability, 0, 1)
        _check_sum(self)

    @property
    def count(self) -> int:
        """Rounds."""
        return self.rounds

    @property
    def slack(self) -> float:
        """What multiplies 1 + e^ε in δ, beyond the mechanism's own."""
        return self.rounds * self.redrawn_probability

    def curve(self, orders: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[orders], bounds on the Rényi divergence of one round."""
        mu = self.honest * self.noise_variance_grid
        l1, l2 = _sensitivities(self)
        whole = np.maximum(np.ceil(orders), 2)
        extra = np.minimum(((2 * whole - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
        total: NDArray[np.float64] = whole * l2**2 / (2 * mu) + extra
        return total


def honest_contributors(quorum: int, assumed_corrupt: int) -> int:
    """Return how many honest parties' noise is in any sum that is opened: quorum − assumed_corrupt.

    Parties that drop out are beyond the quorum; those that collude know their own noise and may add none.
    """
    require_whole("quorum", quorum, 1, MAX_COUNT)
    require_whole("assumed_corrupt", assumed_corrupt, 0, MAX_COUNT)
    if assumed_corrupt >= quorum:
        raise ParameterError(f"assumed_corrupt={assumed_corrupt} must be below quorum={quorum}: nobody's noise is left")
    return quorum - assumed_corrupt


def _check_sum(event: DiscreteGaussianSum | SkellamSum) -> None:
    require_whole("honest", event.honest, 1, MAX_COUNT)
    require_between("l2_bound_grid", event.l2_bound_grid, 1, LARGEST)
    require_whole("dimension", event.dimension, 1, MAX_DIMENSION)
    require_whole("rounds", event.rounds, 1, MAX_COUNT)
    require_member("relation", event.relation, Relation)
    require_sampling_rate(1.0, event.relation)


def _sensitivities(event: DiscreteGaussianSum | SkellamSum) -> tuple[float, float]:
    """Return (Δ₁, Δ₂). Differences are integers x, so ‖x‖₁ ≤ min(√d·‖x‖₂, ‖x‖₂²)."""
    l2 = event.relation.distance * event.l2_bound_grid
    return min(math.sqrt(event.dimension) * l2, l2**2), l2


def gaussian_sum_distance(sigma: float, n: int) -> float:
    """Return τ: the sum of n discrete Gaussians of σ ≥ 1/2 is within e^±(τ/2) of one of √n·σ, at every point.

    τ = 10·Σ_{k=1}^{n−1} exp(−2π²σ²·k/(k+1)) (Kairouz, Liu, Steinke, ICML 2021, arXiv 2102.06387, eq. 3).
    """
    if n == 1:
        return 0.0
    counted = np.arange(1, min(n, 1 << 20), dtype=np.float64)
    terms = np.exp(-2 * (math.pi * sigma) ** 2 * counted / (counted + 1))
    # Terms fall with k, so the last one counted stands for all that follow.
    return float(10 * (terms.sum() + (n - 1 - counted.size) * terms[-1]))
