"""Sums of updates that were rounded at random to a grid, with discrete Gaussian noise: what one sum costs.

Rounding an update x to integers v makes it longer, by up to d/4 in the square; a bound on v would pay for that with
noise. But rounding is random and unbiased, and noise of many steps hides it: the sum is nearly the one of a Gaussian
mechanism on x itself. docs/proofs/rounding.md proves what stands here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between, require_whole
from secureagg.dp.client_sampling import Adversary
from secureagg.dp.noisy_sums import gaussian_sum_distance
from secureagg.dp.relation import LARGEST, MAX_COUNT, MAX_DIMENSION, GaussianUses, Relation, require_member
from secureagg.errors import ParameterError

__all__ = ["LEAST_SUM_STD", "Blur", "RoundedGaussianSum"]

LEAST_SUM_STD = 8.0  # grid steps: then e^(−2π²s²) < 10^-548, and what it multiplies is not seen in a float
_SMOOTHING_VARIANCE = 4.0  # r²: the part of the noise that turns a continuous Gaussian into a discrete one
_SMOOTHING_DISTANCE = 5 * math.exp(-2 * math.pi**2 * _SMOOTHING_VARIANCE)  # ω of the note, for r² = 4
_HIGHEST_PRODUCT = 0.25  # k·b up to which the closeness is used


@dataclass(frozen=True)
class Blur:
    """How close transcripts P are to those P̃ of the Gaussian mechanisms that stand for them.

    In both directions and for every whole k in [2, highest], the divergence of order k is at most slope·k, but for
    factors e^±pointwise, which bound likelihood ratios of both neighbours together.
    """

    slope: float
    highest: float
    pointwise: float

    def __add__(self, other: Blur) -> Blur:
        """Return the closeness of both transcripts together; divergences add up, also of adaptive rounds."""
        return Blur(self.slope + other.slope, min(self.highest, other.highest), self.pointwise + other.pointwise)

    def __mul__(self, rounds: int) -> Blur:
        """Return the closeness of this many such rounds."""
        return Blur(rounds * self.slope, self.highest, rounds * self.pointwise)

    def epsilon(self, missed: float) -> float:
        """Return η: what (ε, δ) says of P̃, (ε + η, e^η·δ + (1 + e^ε)·missed) says of P, for missed in (0, 1).

        P(S) ≤ e^η·P̃(S) + missed for every event S, and the other way round, by Markov's inequality for the likelihood
        ratio's power k − 1: η = slope·k + ln(1/missed)/(k − 1). Pointwise factors multiply what is missed as well, so
        it is taken e^−pointwise smaller here.
        """
        log = self.pointwise - math.log(missed)
        order = max(2, math.floor(min(1 + math.sqrt(log / self.slope), self.highest)))
        return self.slope * order + self.pointwise + log / (order - 1)


@dataclass(frozen=True, kw_only=True)
class RoundedGaussianSum:
    """A sum of updates, each rounded to integers by itself, to which `honest` parties added discrete Gaussians.

    noise_std_grid: σ of one party's noise, in grid steps, at least 1/2. honest: parties whose noise is in the sum and
    unknown to the adversary. l2_clip_grid: C_g, the L2 bound of an update *before* it is rounded, in grid steps.
    redrawn_probability: that in one round the rounding, or the noise of any honest party, is drawn anew (beyond a bound
    that is proven of it); each round adds (1 + e^ε) times it to δ. dimension: d coordinates of what is rounded, padding
    included. rounds: how many sums. adversary: who knows none of this noise, and sees no sum without it.

    Requires: √honest·σ ≥ 8 steps; rounding that is unbiased to within 2^-32 steps, a coordinate by itself, to one of
    the two neighbours, by words the adversary does not know and which nothing else depends on but through the sums: no
    error feedback. Relation: zero-out, whose neighbour is the zero vector, which rounding leaves alone.

    With s² = honest·σ², b = 1/s² and κ = 1/(1 − αb/4), whole orders α < 4/b cost at most

        αb/2·C_g²·(1 + κ²·(α − 1)·b/4) + d·κ²·αb²/16 + dτ·(α − 1/2)/(α − 1)        Lemma 3 of the note

    in either direction. τ: how far a sum of discrete Gaussians is from one (`gaussian_sum_distance`). Between whole
    orders (α − 1)·D_α is convex, so a straight line bounds it. `uses` and `blur` give the tighter loss distributions
    (Lemmas 1, 2 and 4).
    """

    noise_std_grid: float
    honest: int
    l2_clip_grid: float
    dimension: int
    rounds: int
    relation: Relation
    redrawn_probability: float = 0.0
    adversary: Adversary = Adversary.PARTICIPANTS

    def __post_init__(self) -> None:
        require_between("noise_std_grid", self.noise_std_grid, 0.5, LARGEST)
        require_whole("honest", self.honest, 1, MAX_COUNT)
        require_between("l2_clip_grid", self.l2_clip_grid, 1e-9, LARGEST)
        require_whole("dimension", self.dimension, 1, MAX_DIMENSION)
        require_whole("rounds", self.rounds, 1, MAX_COUNT)
        require_between("redrawn_probability", self.redrawn_probability, 0, 1)
        require_member("relation", self.relation, Relation)
        require_member("adversary", self.adversary, Adversary)
        if self.relation is not Relation.ZERO_OUT:
            raise ParameterError(
                f"relation={self.relation}: rounding is hidden against a neighbour that rounding leaves alone, the "
                "zero vector; use zero-out"
            )
        if self.sum_std < LEAST_SUM_STD:
            raise ParameterError(
                f"√honest·noise_std_grid ≥ {LEAST_SUM_STD:g} fails: {self.sum_std:.3g} grid steps of noise do not "
                "hide the rounding; use a finer grid (more value_bits, or a smaller value_bound)"
            )

    @property
    def count(self) -> int:
        """Rounds."""
        return self.rounds

    @property
    def slack(self) -> float:
        """What multiplies 1 + e^ε in δ, beyond the mechanism's own."""
        return self.rounds * self.redrawn_probability

    @property
    def sum_std(self) -> float:
        """s = √honest·σ, in grid steps."""
        return math.sqrt(self.honest) * self.noise_std_grid

    @property
    def _norm(self) -> float:
        """Bound on the norm of what rounding expects: words of 32 bits miss x by 2^-32 a coordinate."""
        return self.l2_clip_grid * (1 + 1e-9) + math.sqrt(self.dimension) * 2.0**-32

    def curve(self, orders: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return float64[orders], bounds on the Rényi divergence of one round; inf where the lemma says nothing."""
        below, above = np.floor(orders), np.ceil(orders)
        low, high = (self._log_moment(whole) for whole in (below, above))
        share = orders - below
        with np.errstate(invalid="ignore"):
            total: NDArray[np.float64] = np.where(share > 0, (1 - share) * low + share * high, low) / (orders - 1)
        return total

    def _log_moment(self, whole: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return bounds on (α − 1)·D_α for whole orders; 0 at α = 1."""
        b = self.sum_std**-2
        shrink = 1 - whole * b / 4
        usable = shrink > 0
        square = np.where(usable, shrink, 1.0) ** -2
        plain = whole * b / 2 * self._norm**2 * (1 + square * (whole - 1) * b / 4)
        rounding = self.dimension * square * whole * b**2 / 16
        tau = self.dimension * gaussian_sum_distance(self.noise_std_grid, self.honest)
        found = (whole - 1) * (plain + rounding) + np.where(whole > 1, tau * (whole - 0.5), 0.0)
        moment: NDArray[np.float64] = np.where(usable, found, np.inf)
        return moment

    def uses(self) -> GaussianUses:
        """Return the Gaussian mechanism that stands for this one: noise of variance s² − 4 on updates of norm C_g."""
        continuous = math.sqrt(self.sum_std**2 - _SMOOTHING_VARIANCE)
        return GaussianUses(continuous / self._norm, 1.0, self.rounds)

    @property
    def blur(self) -> Blur:
        """How close one round is to that mechanism."""
        b = self.sum_std**-2
        # For k·b ≤ 1/4 both directions are below d·k·b²/16 times κ² ≤ 1/(1 − 1/16)² (Lemmas 1 and 2).
        slope = self.dimension * b**2 / 16 / (1 - _HIGHEST_PRODUCT / 4) ** 2
        tau = gaussian_sum_distance(self.noise_std_grid, self.honest)
        return Blur(slope, _HIGHEST_PRODUCT / b, self.dimension * (tau + 2 * _SMOOTHING_DISTANCE))
