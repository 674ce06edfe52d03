"""Inversion sampling of a discrete Gaussian from uniform words. Not constant-time: tables are read where the secret
word points, and the loop ends when it is found.
"""

from __future__ import annotations

import numpy as np
from numba.core.types import int32 as i4
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, writable

__all__ = ["invert"]


@kernel(i8, readable(u8, 1), readable(u8, 1), readable(i4, 1), u8, i8, writable(i8, 1))
def invert(
    words: NDArray[np.uint64],
    high: NDArray[np.uint64],
    guide: NDArray[np.int32],
    guide_shift: np.uint64,
    lowest: np.int64,
    out: NDArray[np.int64],
) -> int:
    """out = lowest + the number of thresholds below each word; return how many words equal one.

    `high`: the rising thresholds' high words, then 2^64 − 1. `guide[g]`: the number of them below g·2^guide_shift.
    """
    ties = 0
    for j in range(words.size):
        word = words[j]
        k = np.uint64(guide[word >> guide_shift])
        while high[k] < word:
            k += np.uint64(1)
        ties += high[k] == word
        out[j] = lowest + np.int64(k)
    return ties
