"""Stochastic rounding of clamped, scaled values to integers."""

from __future__ import annotations

import numpy as np
from numba.core.types import float64 as f8
from numba.core.types import int64 as i8
from numba.core.types import uint32 as u4
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, writable

__all__ = ["round_stochastically"]

_UNIT = 2.0**-32


@kernel(i8, readable(f8, 1), f8, f8, f8, readable(u4, 1), writable(i8, 1))
def round_stochastically(
    values: NDArray[np.float64],
    bound: float,
    factor: float,
    limit: float,
    words: NDArray[np.uint32],
    out: NDArray[np.int64],
) -> int:
    """out = ⌊y⌋ or ⌈y⌉ with E[out] = y, y = factor · clamp(value, ±bound); return how many were clamped.

    ⌈y⌉ is taken when a uniform 32-bit word is below the fraction of y, so the expectation is off by at most 2^-32.
    `limit` catches the last-bit excess of factor·bound over C.
    """
    clamped = 0
    for i in range(values.size):
        x = values[i]
        clamped += 1 if abs(x) > bound else 0
        y = factor * min(max(x, -bound), bound)
        y = min(max(y, -limit), limit)
        low = np.floor(y)
        out[i] = np.int64(low) + (1 if words[i] * _UNIT < y - low else 0)
    return clamped
