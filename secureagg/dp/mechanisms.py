"""Noise for a round's sum, as a plan asks for it: which law, for which (ε, δ) over how many rounds, added by whom.

    RoundPlan(…, noise=sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=100))

A plan sizes the noise for what is sure to be in every sum that is opened: that of the parties who answer and are
honest. Whoever drops out or colludes counts as adding none, so dropouts never cost privacy. All noise is whole grid
steps from exact samplers, before the sum is decoded; what leaves a plan is one kind of event for the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between, require_whole
from secureagg.dp.accounting import epsilon, require_delta, require_epsilon
from secureagg.dp.calibration import EPSILON_MARGIN, calibrate_noise
from secureagg.dp.client_sampling import Adversary
from secureagg.dp.noise import discrete_gaussian, skellam
from secureagg.dp.noisy_sums import SkellamSum
from secureagg.dp.quantise import norm_squared_bound
from secureagg.dp.relation import MAX_COUNT, Relation
from secureagg.dp.rounded_sums import LEAST_SUM_STD, RoundedGaussianSum
from secureagg.errors import ParameterError
from secureagg.ring.bounds import noise_squared_norm_bound, tail_bound
from secureagg.ring.xof import SecretStream

__all__ = [
    "REDRAW_BITS",
    "CentralGaussian",
    "DistributedGaussian",
    "Exposure",
    "Mechanism",
    "NoiseBy",
    "Skellam",
    "mechanism_from_json",
]

NoiseBy = Literal["clients", "committee", "aggregator"]

REDRAW_BITS = 60  # a bound that is proven of noise or of rounding is missed, and the draw repeated, so rarely
_TAIL_BITS = 40  # noise of a sum is beyond its field with probability ≤ 2^-40
_LARGEST_STD = 2.0**29  # the samplers go further, but the accounting of Skellam not: variances up to 10^18


@dataclass(frozen=True)
class Exposure:
    """What a mechanism must hide in one sum, all in grid steps.

    l2_clip_grid: C_g, of an update before rounding; norm_bound: B² of it after rounding; dimension: d; honest: parties
    whose noise is in every sum that is opened; redrawn: probability that something of a round is drawn anew.
    """

    l2_clip_grid: float
    norm_bound: int
    dimension: int
    honest: int
    redrawn: float

    @classmethod
    def of(cls, l2_clip_grid: float, dimension: int, honest: int, *, conditional: bool) -> Self:
        """Return that of updates of these sizes; conditional: whether what misses a bound is drawn anew."""
        # Of each party whose noise is accounted for, rounding, noise in norm and noise in coordinates may be drawn
        # anew, at 2^-60 each. What the others add, drawn anew or not, is independent of the client: post-processing.
        return cls(
            l2_clip_grid=l2_clip_grid,
            norm_bound=norm_squared_bound(l2_clip_grid, dimension, REDRAW_BITS),
            dimension=dimension,
            honest=honest,
            redrawn=3 * honest * 2.0**-REDRAW_BITS if conditional else 0.0,
        )


@dataclass(frozen=True, kw_only=True)
class _Budgeted:
    """(ε, δ) for `rounds` rounds together, against zero-out: what a client's vector tells, when who took part is known.

    noise_by: "clients", each adding its share; "committee", each member one contribution of noise alone; None leaves
    it to the plan: the committee with proofs, the clients without. noise_std_grid: standard deviation of one party's
    noise in grid steps; None has the plan calibrate it, and a given one is held against ε.
    """

    epsilon: float
    delta: float
    rounds: int
    noise_by: NoiseBy | None = None
    noise_std_grid: float | None = None

    name: ClassVar[str]
    adversary: ClassVar[Adversary] = (
        Adversary.PARTICIPANTS
    )  # whom the guarantee holds against, and the ledgers it is for

    def __post_init__(self) -> None:
        require_epsilon("epsilon", self.epsilon)
        require_delta(self.delta)
        require_whole("rounds", self.rounds, 1, MAX_COUNT)
        if self.noise_by not in self.adders():
            raise ParameterError(f"noise_by is one of {', '.join(map(repr, self.adders()))}, not {self.noise_by!r}")
        if self.noise_std_grid is not None:
            require_between("noise_std_grid", self.noise_std_grid, 0.5, _LARGEST_STD)

    @classmethod
    def adders(cls) -> tuple[NoiseBy | None, ...]:
        """Return what noise_by may be."""
        return (None, "clients", "committee")

    def added_by(self, *, proofs: bool, members: int) -> NoiseBy:
        """Return who adds the noise in a plan with or without proofs, of a committee of this many members."""
        if self.noise_by is not None:
            return self.noise_by
        choice: NoiseBy = "committee" if proofs and members > 1 else "clients"
        return choice if choice in self.adders() else "aggregator"

    @classmethod
    def redraws(cls, *, proofs: bool) -> bool:
        """Return whether clients round, and draw their noise, until what they encrypt is within a bound."""
        return proofs

    @property
    def std(self) -> float:
        """The standard deviation of one party's noise, in grid steps. Requires: calibrated."""
        assert self.noise_std_grid is not None
        return self.noise_std_grid

    def to_json(self) -> dict[str, str | int | None]:
        """Return the fields as JSON values, floats in hexadecimal."""
        return {
            "mechanism": self.name,
            "epsilon": float(self.epsilon).hex(),
            "delta": float(self.delta).hex(),
            "rounds": self.rounds,
            "noise_by": self.noise_by,
            "noise_std_grid": None if self.noise_std_grid is None else float(self.noise_std_grid).hex(),
        }

    def event(self, exposure: Exposure, rounds: int | None = None) -> RoundedGaussianSum | SkellamSum:
        """Return what these rounds release, by default all of them. Requires: calibrated."""
        return self._event(self.std, exposure, self.rounds if rounds is None else rounds)

    def calibrated(self, exposure: Exposure, noise_by: NoiseBy) -> Self:
        """Return this mechanism with its noise, added by `noise_by`: calibrated, or as given if that is enough.

        Raises: ParameterError if no noise the samplers can make is enough, or the given one is not.
        """
        if self.noise_std_grid is None:
            std = _calibrated_std(self.name, self.epsilon, self.delta, self.rounds, exposure)
            return replace(self, noise_by=noise_by, noise_std_grid=std)
        found = _epsilon(self.event(exposure), self.delta)
        if found > self.epsilon:
            raise ParameterError(
                f"noise_std_grid={self.noise_std_grid:.6g} costs ε = {found:.4g} over {self.rounds} rounds, more than "
                f"epsilon={self.epsilon:g}; leave it out to have it calibrated"
            )
        return replace(self, noise_by=noise_by)

    @classmethod
    def _event(cls, std: float, exposure: Exposure, rounds: int) -> RoundedGaussianSum | SkellamSum:
        return RoundedGaussianSum(
            noise_std_grid=std,
            honest=exposure.honest,
            l2_clip_grid=exposure.l2_clip_grid,
            dimension=exposure.dimension,
            rounds=rounds,
            relation=Relation.ZERO_OUT,
            redrawn_probability=exposure.redrawn,
            adversary=cls.adversary,
        )

    @classmethod
    def _least_std(cls, honest: int) -> float:
        return max(0.5, LEAST_SUM_STD / math.sqrt(honest) * (1 + 1e-12))

    def draw(self, size: int, stream: SecretStream | None = None) -> NDArray[np.int64]:
        """Return int64[size], one party's noise, from the operating system's randomness unless a stream is given."""
        return discrete_gaussian(size, self.std, stream)

    def sum_bound(self, parties: int, dimension: int) -> int:
        """Return T: the noise of this many parties together stays within ±T, but with probability ≤ 2^-40."""
        return tail_bound(self.std, parties, dimension, _TAIL_BITS)

    def coordinate_bound(self, dimension: int) -> int:
        """Return T: one party's noise stays within ±T in all coordinates, but with probability ≤ 2^-60."""
        return tail_bound(self.std, 1, dimension, REDRAW_BITS)

    def norm_bound(self, dimension: int) -> int:
        """Return what the squared norm of one party's noise exceeds with probability ≤ 2^-60 only."""
        return noise_squared_norm_bound(self.std, dimension, REDRAW_BITS)


class DistributedGaussian(_Budgeted):
    """Discrete Gaussian noise in shares that add up inside the encrypted sum (Kairouz, Liu, Steinke, ICML 2021).

    Accounted by loss distributions as the Gaussian mechanism it is close to (docs/proofs/rounding.md).
    """

    name = "distributed-gaussian"


class CentralGaussian(_Budgeted):
    """Discrete Gaussian noise that the aggregator adds to the sum once it is decrypted, before it is decoded.

    It protects against those who see the mean, not against the aggregator, and is here for comparison and for systems
    whose aggregator is trusted. Ledgers that count it are kept against recipients, a client's own too, which then rests
    on the aggregator's adding its noise.
    """

    name = "central-gaussian"
    adversary = Adversary.RECIPIENTS

    @classmethod
    def adders(cls) -> tuple[NoiseBy | None, ...]:
        return (None, "aggregator")


class Skellam(_Budgeted):
    """Skellam noise in shares: sums of Skellams are Skellam, at any width (Agarwal, Kairouz, Liu, NeurIPS 2021).

    Accounted in Rényi divergence with the bound on the *rounded* update, so it costs more noise than the Gaussian. A
    client then rounds anew until it keeps to that bound, as with proofs.
    """

    name = "skellam"

    @classmethod
    def redraws(cls, *, proofs: bool) -> bool:
        """Return True: privacy rests on the bound of what is rounded."""
        return True

    @classmethod
    def _event(cls, std: float, exposure: Exposure, rounds: int) -> RoundedGaussianSum | SkellamSum:
        return SkellamSum(
            noise_variance_grid=std**2,
            honest=exposure.honest,
            l2_bound_grid=math.sqrt(exposure.norm_bound) * (1 + 1e-12),
            dimension=exposure.dimension,
            rounds=rounds,
            relation=Relation.ZERO_OUT,
            redrawn_probability=exposure.redrawn,
        )

    @classmethod
    def _least_std(cls, honest: int) -> float:
        return 0.5

    def draw(self, size: int, stream: SecretStream | None = None) -> NDArray[np.int64]:
        """Return int64[size], one party's noise, from the operating system's randomness unless a stream is given."""
        return skellam(size, self.std**2, stream)

    def sum_bound(self, parties: int, dimension: int) -> int:
        """Return T: the noise of this many parties together stays within ±T, but with probability ≤ 2^-40."""
        return _skellam_bound(parties * self.std**2, dimension, _TAIL_BITS)

    def coordinate_bound(self, dimension: int) -> int:
        """Return T: one party's noise stays within ±T in all coordinates, but with probability ≤ 2^-60."""
        return _skellam_bound(self.std**2, dimension, REDRAW_BITS)

    def norm_bound(self, dimension: int) -> int:
        """Return what the squared norm of one party's noise exceeds with probability ≤ 2^-60 only.

        Bernstein's inequality for x² ≤ T², T at half that probability, with E[x²] = v and E[x⁴] = 3v² + v.
        """
        v, log = self.std**2, (REDRAW_BITS + 1) * math.log(2)
        square = float(_skellam_bound(v, dimension, REDRAW_BITS + 1)) ** 2
        linear = square * log / 3
        return int(dimension * v + linear + math.sqrt(linear**2 + 2 * dimension * (3 * v**2 + v) * log)) + 1


Mechanism = DistributedGaussian | Skellam | CentralGaussian
_MECHANISMS: dict[str, type[DistributedGaussian] | type[Skellam] | type[CentralGaussian]] = {
    kind.name: kind for kind in (DistributedGaussian, Skellam, CentralGaussian)
}


def mechanism_from_json(fields: Mapping[str, object]) -> Mechanism:
    """Return the mechanism `to_json` made these of. Raises: KeyError, TypeError or ValueError for anything else."""
    values = dict(fields)
    kind = _MECHANISMS[str(values.pop("mechanism"))]
    for name in ("epsilon", "delta", "noise_std_grid"):
        if values[name] is not None:
            values[name] = float.fromhex(str(values[name]))
    return kind(**values)  # type: ignore[arg-type]  # the constructor checks them


@lru_cache(maxsize=64)
def _calibrated_std(name: str, target: float, delta: float, rounds: int, exposure: Exposure) -> float:
    kind = _MECHANISMS[name]
    return calibrate_noise(
        EPSILON_MARGIN * target,
        delta,
        lambda std: kind._event(std, exposure, rounds),
        minimum=kind._least_std(exposure.honest),
        maximum=_LARGEST_STD,
    )


@lru_cache(maxsize=64)
def _epsilon(event: RoundedGaussianSum | SkellamSum, delta: float) -> float:
    return epsilon(event, delta)


def _skellam_bound(variance: float, places: int, failure_bits: int) -> int:
    """Return T: |x| ≤ T in all `places` draws of a Skellam of this variance, but with probability ≤ 2^-failure_bits.

    Chernoff: P(x ≥ t) ≤ exp(v·(cosh s − 1) − s·t), least at s = asinh(t/v).
    """
    log = (math.log(2 * places) + failure_bits * math.log(2)) * (1 + 1e-9)

    def misses(t: float) -> bool:
        s = math.asinh(t / variance)
        return s * t - 2 * variance * math.sinh(s / 2) ** 2 < log

    low, high = 0, 1
    while misses(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if misses(middle) else (low, middle)
    return high
