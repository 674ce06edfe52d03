"""Which examples a batch holds, drawn from the operating system's randomness."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.binomial import binomial_tail
from secureagg.dp.dp_events import MAX_TRUNCATION_PROBABILITY
from secureagg.dp.dpsgd.backend import keras
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

__all__ = ["FixedSizeBatches", "PoissonBatches"]

_MULTIPLE = 8


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]
    """Examples x [n, …] and y [n, …] and a stream of secret words."""

    def __init__(self, x: NDArray[Any], y: NDArray[Any], stream: SecretStream | None) -> None:
        super().__init__()
        if len(x) != len(y) or len(x) == 0:
            raise ParameterError(f"{len(x)} inputs and {len(y)} labels; both must be of the same n ≥ 1 examples")
        self._x, self._y = np.asarray(x), np.asarray(y)
        self._stream = stream or SecretStream()

    def _words(self, count: int) -> NDArray[np.uint64]:
        words = np.empty(count, dtype=np.uint64)
        self._stream.fill(words)
        return words


class PoissonBatches(_Batches):
    """Batches (x, y, mask) that hold each example independently with probability expected_batch / n, drawn anew.

    Rate, number of batches and capacity follow from n, which is public with them; what a batch holds stays secret.
    All have `capacity` rows: the examples drawn, then rows of zeros whose mask is 0. If more are drawn than fit, a
    uniformly random `capacity` of them stay, and `truncations` counts the batch. That is no longer Poisson sampling:
    over T batches, (1 + e^ε)·T·truncation_probability is added to δ (Chua et al., NeurIPS 2024). Unless given, capacity
    is the smallest multiple of 8 for which truncation_probability ≤ MAX_TRUNCATION_PROBABILITY, 2^-40.
    An epoch is n / expected_batch batches, rounded; Keras draws one more to learn their shapes, and discards it.
    """

    def __init__(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        expected_batch: float,
        *,
        capacity: int | None = None,
        stream: SecretStream | None = None,
    ) -> None:
        super().__init__(x, y, stream)
        n = len(self._x)
        if not 1 <= expected_batch <= n:
            raise ParameterError(f"expected_batch={expected_batch}: must be within 1 … n={n}")
        if capacity is not None and capacity < expected_batch:
            raise ParameterError(
                f"capacity={capacity} < expected_batch={expected_batch}: half the batches would be truncated"
            )
        self.expected_batch = expected_batch
        self.rate = expected_batch / n
        self.capacity = capacity or _smallest_capacity(n, self.rate)
        self.truncation_probability = binomial_tail(n, self.rate, self.capacity)
        self.truncations = 0

    def __len__(self) -> int:
        return max(1, round(len(self._x) / self.expected_batch))

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        chosen = self._draw()
        mask = np.zeros(self.capacity, dtype=np.float32)
        mask[: len(chosen)] = 1
        return _padded(self._x, chosen, self.capacity), _padded(self._y, chosen, self.capacity), mask

    def _draw(self) -> NDArray[np.intp]:
        # A word is below ⌊rate·2^64⌋ with that probability to within 2^-64.
        chosen = np.flatnonzero(self._words(len(self._x)) <= np.uint64(min(int(self.rate * 2**64), 2**64 - 1)))
        if len(chosen) > self.capacity:
            self.truncations += 1
            chosen = np.sort(chosen[np.argsort(self._words(len(chosen)))[: self.capacity]])
        return chosen


class FixedSizeBatches(_Batches):
    """Batches (x, y) of exactly `expected_batch` examples, in a new random order every epoch; the rest is left out.

    `passes`: how many orders were begun, so that no example was in more batches than that. `fit` begins one an epoch;
    a loop of one's own calls `on_epoch_begin` before batch 0.
    """

    def __init__(
        self, x: NDArray[Any], y: NDArray[Any], expected_batch: float, *, stream: SecretStream | None = None
    ) -> None:
        super().__init__(x, y, stream)
        if not (expected_batch == int(expected_batch) and 1 <= expected_batch <= len(self._x)):
            raise ParameterError(f"expected_batch={expected_batch}: must be an integer within 1 … n={len(self._x)}")
        self.expected_batch = int(expected_batch)
        self.passes = 0
        self._order = np.argsort(self._words(len(self._x)))  # Keras looks at the shapes of batches before any epoch

    def __len__(self) -> int:
        return len(self._x) // self.expected_batch

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any]]:
        chosen = self._order[index * self.expected_batch : (index + 1) * self.expected_batch]
        return self._x[chosen], self._y[chosen]

    def on_epoch_begin(self) -> None:
        """Shuffle. Called by Keras before it asks for an epoch's batches: what it asks for early, it discards."""
        self.passes += 1
        self._order = np.argsort(self._words(len(self._x)))


def _padded(values: NDArray[Any], chosen: NDArray[np.intp], capacity: int) -> NDArray[Any]:
    batch = np.zeros((capacity, *values.shape[1:]), dtype=values.dtype)
    np.take(values, chosen, axis=0, out=batch[: len(chosen)])
    return batch


def _smallest_capacity(n: int, rate: float) -> int:
    capacity = math.ceil(rate * n / _MULTIPLE) * _MULTIPLE
    while capacity < n and binomial_tail(n, rate, capacity) > MAX_TRUNCATION_PROBABILITY:
        capacity += _MULTIPLE
    return min(capacity, n)
