"""An update on the grid: clipped, weighted and rounded, coordinate by coordinate, the weight after the last value.

With proofs all of it is rounded first, again and again until its norm is within the bound that is proven (conditional
rounding, Kairouz, Liu and Steinke, ICML 2021); without, each part is rounded when it is encrypted.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from secureagg.layout import Layout, Weights
from secureagg.plan import RoundPlan
from secureagg.ring import workers
from secureagg.ring.xof import SecretSpan, SecretStream

__all__ = ["GridUpdate"]

_BLOCK = 1 << 16


class GridUpdate:
    """One client's update on the plan's grid. Secret: `repr` shows nothing.

    vector: checked tensors of `layout`, which has the coordinates of the plan's; clip: the factor of the L2 clipping;
    rounding_rng seeds the rounding, which otherwise takes its words from the operating system.

    Guarantees: a coordinate is rounded the same however it is asked for. With proofs Σv² ≤ B².
    """

    def __init__(
        self,
        plan: RoundPlan,
        layout: Layout,
        vector: Weights,
        clip: float,
        weight: int,
        rounding_rng: np.random.Generator | None,
    ) -> None:
        self._plan, self._layout, self._vector = plan, layout, vector
        self.weight = weight
        self._clip = clip
        self._stream = SecretStream(None if rounding_rng is None else rounding_rng.bytes(32))
        self._span = self._stream.reserve(plan.packing.coordinates)
        self._rounded: NDArray[np.int64] | None = None
        self._clamped = 0
        self._lock = threading.Lock()
        if plan.statement is not None:
            self._rounded = self._within(plan.statement.norm_bound)

    @property
    def clamped(self) -> int:
        """How many coordinates were clamped, of those that were rounded so far."""
        return self._clamped

    @property
    def values(self) -> NDArray[np.int64]:
        """All d values; with proofs only."""
        assert self._rounded is not None
        return self._rounded

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        """Return coordinates [first, last), the weight after the last value; `first` is even. Ask for each once."""
        size = self._layout.size
        weighted = first <= size < last
        first, end = min(first, size), min(last, size)
        if first == end:
            values = np.empty(0, dtype=np.int64)
        elif self._rounded is None:
            values, clamped = self._round(self._span, first, end)
            with self._lock:
                self._clamped += clamped
        else:
            values = self._rounded[first:end]
        return np.append(values, self.weight) if weighted else values

    def _round(self, span: SecretSpan, first: int, end: int) -> tuple[NDArray[np.int64], int]:
        words = np.empty(2 * -(-(end - first) // 4), dtype=np.uint64)  # whole blocks of the stream, two values a word
        span.fill(first // 2, words)
        share = self.weight / self._plan.max_weight
        gathered = self._layout.gather(self._vector, first, end)
        return self._plan.quantiser.quantise(gathered, self._clip, share, words.view(np.uint32))

    def _within(self, norm_bound: int) -> NDArray[np.int64]:
        """Return all values, rounded until Σv² ≤ B²: at most one time in 2^10 more than once."""
        rounded = np.empty(self._layout.size, dtype=np.int64)
        while self._fill(rounded) > norm_bound:
            self._span = self._stream.reserve(self._plan.packing.coordinates)
        return rounded

    def _fill(self, rounded: NDArray[np.int64]) -> int:
        """Round all values into `rounded`; return Σv², exactly."""
        clamped = [0] * -(-rounded.size // _BLOCK)
        squares = [0] * len(clamped)

        def fill(start: int, stop: int) -> None:
            for index in range(start, stop):
                first, last = index * _BLOCK, min((index + 1) * _BLOCK, rounded.size)
                rounded[first:last], clamped[index] = self._round(self._span, first, last)
                # |v| < 2^23, so a block's sum is at most 2^62.
                squares[index] = int(np.einsum("i,i->", rounded[first:last], rounded[first:last]))

        workers.run(fill, len(clamped))
        self._clamped = sum(clamped)
        return sum(squares)

    def __repr__(self) -> str:
        return "GridUpdate(secret)"
