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

from secureagg.errors import ParameterError
from secureagg.layout import Layout, Weights

__all__ = ["clip_factor", "l2_norm"]

_BLOCK = 1 << 20  # coordinates looked at in one go


def l2_norm(layout: Layout, update: Weights) -> tuple[float, float]:
    """Return (m, r) with ‖update‖₂ = m·r: m the largest |value|, or 1 where squaring it is safe; never overflows.

    Requires: `layout.check(update)` passed. Memory: one block of 2^20 coordinates.
    """
    blocks = range(0, layout.size, _BLOCK)
    largest = max(float(np.abs(_block(layout, update, start)).max()) for start in blocks)
    if largest == 0:
        return 1.0, 0.0
    unit = 1.0 if 1e-120 < largest < 1e120 else largest
    squares = math.fsum(
        float(np.dot(block, block)) for start in blocks for block in [_block(layout, update, start) / unit]
    )
    return unit, math.sqrt(squares)


def clip_factor(layout: Layout, update: Weights, l2_clip: float) -> float:
    """Return the factor in (0, 1] that brings the update's L2 norm to at most `l2_clip`.

    Raises: ParameterError if the update is so large that no float64 factor does.
    """
    unit, relative = l2_norm(layout, update)
    if relative == 0 or unit * relative <= l2_clip:
        return 1.0
    # Each of the sums above is off by at most a few hundred units in the last place; 1e-12 covers them.
    factor = l2_clip / unit / relative * (1 - 1e-12)
    if factor < 1e-290:
        raise ParameterError("the update is too large to be clipped in float64; check the training that made it")
    return factor


def _block(layout: Layout, update: Weights, start: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return layout.gather(update, start, min(layout.size, start + _BLOCK))
