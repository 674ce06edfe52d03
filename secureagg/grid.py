"""What is encrypted, coordinate by coordinate, the weight after the last value: a client's update on the grid, clipped,
weighted, rounded and with its noise, or a committee member's noise alone.

Where a bound is proven of it, or privacy rests on one, all of it is rounded first, with its noise, again and again
until it is within the bound (conditional rounding, Kairouz, Liu and Steinke, ICML 2021); otherwise each part is made
when it is encrypted.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.clipping import clip_factor
from secureagg.dp.rotation import Rotation
from secureagg.errors import ParameterError
from secureagg.layout import Layout, Weights
from secureagg.plan import RoundPlan
from secureagg.ring import workers
from secureagg.ring.xof import SecretSpan, SecretStream

__all__ = ["GridNoise", "GridUpdate", "put_on_grid"]

_BLOCK = 1 << 16
_HUGE = 1e-300  # of l2_clip: factors below this are those of updates longer than 1e300
_SHRUNK = 2.0**-64  # a power of two, so that no digit changes; what gets too small by it is far below a grid step


def put_on_grid(
    plan: RoundPlan,
    sid: bytes,
    update: Weights,
    weight: int = 1,
    rounding_rng: np.random.Generator | None = None,
    noise: SecretStream | None = None,
) -> GridUpdate:
    """Return what a client encrypts of its update: checked, clipped, rotated if the plan says so, and on the grid.

    sid: the session's id, which the rotation follows from; weight: in [1, max_weight]; the rest as in `GridUpdate`.
    Raises: ParameterError for an update that does not fit the layout or is not finite.
    """
    plan.layout.check_shapes(update)
    layout, vector = plan.layout.joined, plan.layout.join(update)
    try:
        clip = clip_factor(layout, vector, plan.l2_clip)
    except ParameterError:
        plan.layout.check_finite(update)  # names the tensor as the caller knows it
        raise
    shrunk = 1.0
    if plan.rotate:
        flat = layout.gather(vector, 0, layout.size)
        if clip < _HUGE * plan.l2_clip:
            # No partial sum of the rotation is above ‖x‖₁/√L ≤ ‖x‖₂ ≤ l2_clip / clip, which could be beyond a float64.
            shrunk = _SHRUNK
            flat *= shrunk
        flat = Rotation(layout.size, sid).apply(flat)
        layout, vector = Layout.of([flat]), [flat]
    return GridUpdate(plan, layout, vector, clip, weight, rounding_rng, noise, shrunk=shrunk)


class GridUpdate:
    """One client's update on the plan's grid. Secret: `repr` shows nothing.

    vector: checked tensors of `layout`, which has the coordinates of the plan's; clip: the factor of the L2 clipping;
    shrunk: what vector was multiplied by already, which clip counts too. rounding_rng seeds the rounding, and noise is
    where the noise's words come from; both are the operating system's unless given, which is for audits and tests.

    Guarantees: a coordinate without noise is rounded the same however it is asked for. If `plan.conditional`,
    Σv² ≤ `plan.norm_bound` and |v| ≤ `plan.coordinate_bound`.
    """

    def __init__(
        self,
        plan: RoundPlan,
        layout: Layout,
        vector: Weights,
        clip: float,
        weight: int,
        rounding_rng: np.random.Generator | None,
        noise: SecretStream | None = None,
        *,
        shrunk: float = 1.0,
    ) -> None:
        self._plan, self._layout, self._vector = plan, layout, vector
        self.weight, self.clip = weight, clip
        self._factor = clip / shrunk
        self._noise = noise
        self._stream = SecretStream(None if rounding_rng is None else rounding_rng.bytes(32))
        self._span = self._stream.reserve(plan.packing.coordinates)
        self._rounded: NDArray[np.int64] | None = None
        self._clamped = 0
        self._lock = threading.Lock()
        if plan.conditional:
            self._rounded = self._within()

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
        values, clamped = self._plan.quantiser.quantise(gathered, self._factor, share, words.view(np.uint32))
        if (noise := self._plan.noise) is not None and noise.noise_by == "clients":
            values += noise.draw(values.size, self._noise)
        return values, clamped

    def _within(self) -> NDArray[np.int64]:
        """Return all values, rounded until they are within the bounds: at most one time in 2^10 more than once, where
        privacy rests on them one in 2^58.
        """
        plan = self._plan
        rounded = np.empty(self._layout.size, dtype=np.int64)
        while True:
            largest, squares = self._fill(rounded)
            if squares <= plan.norm_bound and largest <= plan.coordinate_bound:
                return rounded
            self._span = self._stream.reserve(plan.packing.coordinates)

    def _fill(self, rounded: NDArray[np.int64]) -> tuple[int, int]:
        """Round all values into `rounded`; return the largest |v| and Σv², exactly."""
        clamped = [0] * -(-rounded.size // _BLOCK)

        def fill(start: int, stop: int) -> None:
            for index in range(start, stop):
                first, last = index * _BLOCK, min((index + 1) * _BLOCK, rounded.size)
                rounded[first:last], clamped[index] = self._round(self._span, first, last)

        workers.run(fill, len(clamped))
        self._clamped = sum(clamped)
        return _extent(rounded)

    def __repr__(self) -> str:
        return "GridUpdate(secret)"


class GridNoise:
    """One committee member's noise on the plan's grid, weight 0. Secret: `repr` shows nothing.

    Requires: a plan whose committee adds noise. Guarantees: with proofs within what is proven of it. stream: where its
    words come from if not the operating system.
    """

    weight = 0

    def __init__(self, plan: RoundPlan, stream: SecretStream | None = None) -> None:
        assert plan.noise is not None and plan.noise_members
        self._noise, self._size, self._stream = plan.noise, plan.layout.size, stream
        self._values: NDArray[np.int64] | None = None
        if (statement := plan.statement_of(plan.clients)) is not None:
            while self._values is None:  # but with probability 2^-59
                drawn = self._noise.draw(self._size, stream)
                largest, squares = _extent(drawn)
                if squares <= statement.norm_bound and largest <= statement.value_limit:
                    self._values = drawn

    @property
    def values(self) -> NDArray[np.int64]:
        """All d values; with proofs only."""
        assert self._values is not None
        return self._values

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        """Return coordinates [first, last), the weight after the last value. Ask for each once."""
        weighted = first <= self._size < last
        first, end = min(first, self._size), min(last, self._size)
        values = self._noise.draw(end - first, self._stream) if self._values is None else self._values[first:end]
        return np.append(values, self.weight) if weighted else values

    def __repr__(self) -> str:
        return "GridNoise(secret)"


def _extent(values: NDArray[np.int64]) -> tuple[int, int]:
    """Return the largest |v| and Σv², exactly."""
    largest = max(int(values.max()), -int(values.min()))
    # A block's sum stays below 2^63 while |v| < 2^23.
    step = _BLOCK if largest < 1 << 23 else max(1, (1 << 62) // (largest * largest))
    blocks = (values[start : start + step] for start in range(0, values.size, step))
    return largest, sum(int(np.einsum("i,i->", block, block)) for block in blocks)
