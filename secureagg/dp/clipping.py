"""L2 clipping of an update.

| update | result |
|---|---|
| norm ≤ l2_clip (to within 1e-12 of it), also zero | factor 1.0, unchanged |
| norm > l2_clip | factor l2_clip / norm, rounded down so that the clipped norm is never above the bound |
| a value whose square overflows | still clipped: the norm is taken of the update scaled by its largest value |
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.layout import Layout, Weights
from secureagg.ring import workers

__all__ = ["clip_factor", "l2_norm"]

_BLOCK = 1 << 17  # coordinates a thread looks at in one go; fixed, so that the sum does not depend on their number


def l2_norm(layout: Layout, update: Weights) -> tuple[float, float]:
    """Return (m, r) with ‖update‖₂ = m·r: m = 1 unless a square could overflow or vanish, then the largest |value|.

    Requires: `layout.check_shapes(update)` passed. Memory: a block of 2^17 coordinates a thread.
    Raises: ParameterError with the tensor's index for NaN or an infinity.
    """
    squares = _sum_of_squares(layout, update, 1.0)
    if 1e-200 < squares < 1e300:
        return 1.0, math.sqrt(squares)
    layout.check_finite(update)
    largest = max(float(np.abs(_block(layout, update, start)).max()) for start in range(0, layout.size, _BLOCK))
    return (largest, math.sqrt(_sum_of_squares(layout, update, largest))) if largest else (1.0, 0.0)


def clip_factor(layout: Layout, update: Weights, l2_clip: float) -> float:
    """Return the factor in (0, 1] that brings the update's L2 norm to at most `l2_clip`.

    Raises: as `l2_norm`; ParameterError if the update is so large that no float64 factor does.
    """
    unit, relative = l2_norm(layout, update)
    if relative == 0 or unit * relative <= l2_clip:
        return 1.0
    # Each of the sums above is off by at most a few hundred units in the last place; 1e-12 covers them.
    factor = l2_clip / unit / relative * (1 - 1e-12)
    if factor < 1e-290:
        raise ParameterError("the update is too large to be clipped in float64; check the training that made it")
    return factor


def _sum_of_squares(layout: Layout, update: Weights, unit: float) -> float:
    sums = [0.0] * -(-layout.size // _BLOCK)

    def add(first: int, last: int) -> None:
        for index in range(first, last):
            block = _block(layout, update, index * _BLOCK)
            if unit != 1.0:
                block /= unit
            with np.errstate(over="ignore", invalid="ignore"):
                sums[index] = float(np.einsum("i,i->", block, block))

    workers.run(add, len(sums))
    return math.fsum(sums) if all(map(math.isfinite, sums)) else math.inf


def _block(layout: Layout, update: Weights, start: int) -> NDArray[np.float64]:
    return layout.gather(update, start, min(layout.size, start + _BLOCK))
