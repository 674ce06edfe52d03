"""The mean of clipped updates with floating-point Gaussian noise: what private sums with noise are held against.

It is a baseline of learning, and no privacy claim: the server sees every update, the noise follows from a seed, and a
floating-point normal shows in its low bits what it was added to (Mironov, CCS 2012).
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from fl_core.aggregation import Aggregate, PlainMean, Round, Weights
from fl_core.errors import ParameterError, Refused

__all__ = ["FloatNoiseMean"]

_NOISE = 6  # first entropy word of this stream; the engine's own are 1 to 3, and adapters and tools have 4 and 5


class FloatNoiseMean:
    """`PlainMean` of updates clipped to `l2_clip`, all layers together, plus N(0, (noise_multiplier·l2_clip / n)²).

    n: clients in the mean. noise_multiplier: standard deviation of the noise of the *sum*, ÷ l2_clip; 0 clips only.
    Weights must be 1, as the noise is sized for that. Makes no privacy claim. Raises: ParameterError unless l2_clip > 0
    and noise_multiplier ≥ 0 are finite.
    """

    def __init__(self, l2_clip: float, noise_multiplier: float, seed: int) -> None:
        if not (0 < l2_clip < math.inf and 0 <= noise_multiplier < math.inf):
            raise ParameterError(f"l2_clip={l2_clip}, noise_multiplier={noise_multiplier}: must be finite, > 0 and ≥ 0")
        self.l2_clip = l2_clip
        self.noise_multiplier = noise_multiplier
        self.seed = seed

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> "FloatNoiseRound":
        rng = np.random.default_rng([_NOISE, self.seed, round_number])
        inner = PlainMean().begin(round_number, model, cohort)
        return FloatNoiseRound(inner, self.l2_clip, self.noise_multiplier, rng)


class FloatNoiseRound:
    """A `Round` of `FloatNoiseMean`."""

    def __init__(self, inner: Round, l2_clip: float, noise_multiplier: float, rng: np.random.Generator) -> None:
        self._inner = inner
        self._l2_clip = l2_clip
        self._noise_multiplier = noise_multiplier
        self._rng = rng

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        if weight != 1:
            raise Refused(client, "weight must be 1, for which the noise is sized")
        return self._inner.contribute(client, _clipped(update, self._l2_clip), weight)

    def admit(self, client: int, payload: bytes) -> None:
        self._inner.admit(client, payload)

    def finish(self) -> Aggregate:
        aggregate = self._inner.finish()
        std = self._noise_multiplier * self._l2_clip / len(aggregate.clients)
        mean = [(layer + self._rng.normal(0, std, layer.shape)).astype(layer.dtype) for layer in aggregate.mean]
        return replace(aggregate, mean=mean)


def _clipped(update: Weights, l2_clip: float) -> Weights:
    """The update, scaled down to the clip if its norm is beyond; as it is if that is no number, to be refused."""
    norm = math.sqrt(math.fsum(float(np.square(layer, dtype=np.float64).sum()) for layer in update))
    if not l2_clip < norm < math.inf:
        return update
    return [np.asarray(layer * (l2_clip / norm), dtype=layer.dtype) for layer in update]
