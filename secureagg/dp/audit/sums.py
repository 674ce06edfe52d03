"""Noisy sums of clipped updates to audit, sound or with a seeded bug.

A canary is a client whose update, ten times too long, points along a coordinate of its own, forwards and backwards in
turn over the rounds, so that it is noise which differs from round to round that hides it, and nothing else. In one run
all canaries are in the same sums. Alone, each is in sums of its own, beside `others` clients that it opposes: only so
can it be seen whether few clients get noise too, and whether the sum is divided by their number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_whole
from secureagg.dp.audit.curves import gaussian_mu
from secureagg.dp.audit.run import Claim
from secureagg.dp.clipping import clip_factor
from secureagg.dp.noise import discrete_gaussian, skellam
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError
from secureagg.events import Event, Observer
from secureagg.layout import Layout
from secureagg.ring.xof import SecretStream

__all__ = ["NoisySums", "SumBug", "SumNoise"]

CLIP_GRID = 1024  # grid steps; at these σ, some 10^3, both laws on the grid differ from the normal's curve by < 10^-5
_TOO_LONG = 10.0
_OTHERS = 16


class SumNoise(StrEnum):
    """The samplers that ship. GAUSSIAN is DP-SGD's normal on a fine grid and needs TensorFlow."""

    GAUSSIAN = "gaussian"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    SKELLAM = "skellam"


class SumBug(StrEnum):
    """What can be wrong with a noisy sum."""

    HALF_NOISE = "half-noise"
    LESS_NOISE = "less-noise"
    MISSING_SHARE = "missing-share"
    NOISE_ONCE = "noise-once"
    SAME_SEED = "same-seed"
    NO_CLIP = "no-clip"
    CLIP_SUM = "clip-sum"
    CLIP_AFTER_NOISE = "clip-after-noise"
    NOISE_OVER_COUNT = "noise-over-count"
    ACTUAL_COUNT = "actual-count"
    NO_NOISE_ALONE = "no-noise-alone"
    WRONG_RELATION = "wrong-relation"

    @property
    def alone(self) -> bool:
        """Whether it shows only where each canary is in sums of its own."""
        return self in (SumBug.LESS_NOISE, SumBug.MISSING_SHARE, SumBug.ACTUAL_COUNT, SumBug.NO_NOISE_ALONE)


@dataclass
class NoisySums:
    """A `Mechanism`: `rounds` sums, with noise for the claim by their Gaussian composition, and the best scores.

    observe: is told of every round.
    Requires: for `WRONG_RELATION`, a claim for REPLACE, whose noise the bug sizes for zeros.
    """

    claim: Claim
    noise: SumNoise = SumNoise.DISCRETE_GAUSSIAN
    bug: SumBug | None = None
    alone: bool = False
    rounds: int = 8
    stream: SecretStream = field(default_factory=SecretStream, repr=False)
    observe: Observer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_whole("rounds", self.rounds, 2, 1000)
        if self.rounds % 2:
            raise ParameterError(f"rounds={self.rounds}: must be even, for as many forwards as backwards")
        if self.bug is SumBug.WRONG_RELATION and self.claim.relation is not Relation.REPLACE:
            raise ParameterError("wrong-relation is a bug of claims for Relation.REPLACE")
        if self.bug is not None and self.bug.alone and not self.alone:
            raise ParameterError(f"{self.bug} shows only where canaries are alone")
        spread = 2 if self.claim.relation is Relation.REPLACE else 1
        sized = 1 if self.bug is SumBug.WRONG_RELATION else spread
        # μ of T rounds is √T·Δ/σ: squares of μ add up (Dong, Roth & Su 2022).
        self._std = CLIP_GRID * sized * math.sqrt(self.rounds) / gaussian_mu(self.claim.epsilon, self.claim.delta)
        self._others = 0 if not self.alone or self.bug is SumBug.NO_NOISE_ALONE else _OTHERS

    def __call__(self, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far what was released leans towards each canary, summed over rounds and centred."""
        scores = np.zeros(len(present))
        for number in range(self.rounds):
            sign = 1 - 2 * (number % 2)
            scores += sign * (self._release(present, sign, number) - sign * self._expected_others)
            if self.observe is not None:
                self.observe(Event("audit", number + 1, self.rounds))
        toward = -scores if self.alone else scores
        middle = self.rounds * CLIP_GRID / 2 if self.claim.relation is Relation.ZERO_OUT else 0.0
        return toward - middle

    @property
    def _expected_others(self) -> float:
        return float(self._others * CLIP_GRID)

    def _release(self, present: NDArray[np.bool_], sign: int, number: int) -> NDArray[np.float64]:
        """Return one noisy sum, in grid steps; float64 holds every integer here exactly."""
        absent = -1 if self.claim.relation is Relation.REPLACE else 0
        direction = -sign if self.alone else sign
        sums = np.where(present, 1.0, absent) * (direction * self._length()) + sign * self._expected_others
        counts = self._others + present if self.alone else np.full(len(present), present.sum())
        if self.bug is SumBug.CLIP_SUM:
            sums *= min(1.0, CLIP_GRID * max(1, int(present.sum())) / max(1.0, float(np.linalg.norm(sums))))
        noise = self._noise(len(sums), number)
        if self.bug is SumBug.NOISE_OVER_COUNT:
            noise = noise / np.maximum(counts, 1)
        if self.bug is SumBug.NO_NOISE_ALONE:
            noise = np.where(counts <= 1, 0.0, noise)
        noisy = sums + noise
        if self.bug is SumBug.CLIP_AFTER_NOISE:
            noisy *= min(1.0, CLIP_GRID * len(present) / float(np.linalg.norm(noisy)))
        if self.bug is SumBug.ACTUAL_COUNT:
            noisy *= self._others / counts
        released: NDArray[np.float64] = noisy
        return released

    def _length(self) -> float:
        """Return the length of a canary's update on the grid, after clipping to 1."""
        update = [np.array([_TOO_LONG], dtype=np.float64)]
        unclipped = (SumBug.NO_CLIP, SumBug.CLIP_SUM, SumBug.CLIP_AFTER_NOISE)
        factor = 1.0 if self.bug in unclipped else clip_factor(Layout(((1,),), ("float64",)), update, 1.0)
        return float(np.rint(_TOO_LONG * factor * CLIP_GRID))

    def _noise(self, size: int, number: int) -> NDArray[np.float64]:
        if self.bug is SumBug.NOISE_ONCE and number > 0:
            return np.zeros(size)
        stream = self.stream.substream(f"round {0 if self.bug is SumBug.SAME_SEED else number}")
        if self.bug is SumBug.MISSING_SHARE:  # of two parties, each of which adds half the variance
            return self._draw(size, self._std / math.sqrt(2), stream)
        scale = {SumBug.HALF_NOISE: 0.5, SumBug.LESS_NOISE: 0.8}.get(self.bug, 1.0) if self.bug else 1.0
        return self._draw(size, scale * self._std, stream)

    def _draw(self, size: int, std: float, stream: SecretStream) -> NDArray[np.float64]:
        match self.noise:
            case SumNoise.DISCRETE_GAUSSIAN:
                return discrete_gaussian(size, std, stream).astype(np.float64)
            case SumNoise.SKELLAM:
                return skellam(size, std**2, stream).astype(np.float64)
            case SumNoise.GAUSSIAN:
                from secureagg.dp.dpsgd.noise import GaussianNoise  # imports TensorFlow

                normal = GaussianNoise(CLIP_GRID, std / CLIP_GRID, size, stream)
                return normal.draw().astype(np.float64) * normal.grid_step
