"""Places within the cells of a wide noise law. Not constant-time: what is read and computed depends on secret words."""

from __future__ import annotations

import numpy as np
from numba.core.types import float64 as f8
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, writable

__all__ = ["place"]

_1, _2, _63 = np.uint64(1), np.uint64(2), np.uint64(63)
_SIXTH = 1.0 / 6.0


@kernel(i8, readable(u8, 1), readable(f8, 1), u8, f8, writable(i8, 1), writable(i8, 1))
def place(
    words: NDArray[np.uint64],
    nodes: NDArray[np.float64],
    bits: np.uint64,
    margin: float,
    out: NDArray[np.int64],
    unsettled: NDArray[np.int64],
) -> int:
    """Replace each cell c in `out` by ±x, x = c·2^bits + r, or note why not; return how many notes there are.

    A word is u ‖ sign ‖ r, of 63 − bits, 1 and `bits` bits. x stands if (u + ξ)/2^(63−bits) < f(x)/f(c·2^bits) for a
    uniform ξ in [0, 1) not drawn here, and +0 only. `nodes[c + 1]` is f(c·2^bits). Note j: refused; note −1 − j: not
    decided by u, c is left in place. `margin` bounds 2^(bits−63) and the error of the cubic through four nodes.
    """
    low = (_1 << bits) - _1
    unit, width = 1.0 / np.float64(_1 << (_63 - bits)), 1.0 / np.float64(_1 << bits)
    notes = 0
    for j in range(words.size):
        word = words[j]
        cell = np.uint64(out[j])
        r = word & low
        negative = (word >> bits) & _1
        height = np.float64(word >> (bits + _1)) * unit * nodes[cell + _1]
        x = np.int64((cell << bits) | r)
        if height + margin < nodes[cell + _2] and x > 0:
            out[j] = -x if negative else x
            continue
        t = np.float64(r) * width
        outer = (t + 1.0) * (t - 2.0) * 0.5
        inner = t * (t - 1.0) * _SIXTH
        curve = outer * ((t - 1.0) * nodes[cell + _1] - t * nodes[cell + _2])
        curve += inner * ((t + 1.0) * nodes[cell + _2 + _1] - (t - 2.0) * nodes[cell])
        if (x == 0 and negative) or height - margin > curve:
            unsettled[notes] = j
            notes += 1
        elif height + margin < curve:
            out[j] = -x if negative else x
        else:
            unsettled[notes] = -1 - j
            notes += 1
    return notes
