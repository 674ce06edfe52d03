"""The ternary projection and its transpose, from the bits of R as projection.py lays them out."""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, scalar, writable

__all__ = ["project", "transposed"]

_Word = np.uint64
_Words = NDArray[np.uint64]
_Integers = NDArray[np.int64]

_8, _16, _32, _51, _BYTE = (np.uint64(k) for k in (8, 16, 32, 51, 255))


@scalar
def _canonical(x: _Word, q: _Word, ratio: _Word) -> _Word:
    """x mod q in [0, q) for any x < 2^64; ratio = ⌊2^83/q⌋ (ring/ntt_kernels.py derives it)."""
    x -= ((x >> _32) * ratio >> _51) * q
    return min(x, x - q)


@kernel(void, readable(u8, 2), readable(i8, 1), readable(u8, 1), writable(i8, 2))
def project(bits: _Words, values: _Integers, masks: _Words, out: _Integers) -> None:
    """out[h, k] += Σ_i (bit k of bits[i, h] − bit k of bits[i, 2 + h])·values[i], modulo 2^64.

    bits: [positions, 4]; masks: 2^k for k < 64, from memory because LLVM then tests a vector of bits at once.
    """
    for h in range(2):
        total = out[h]
        for i in range(values.size):
            plus, minus, x = bits[i, h], bits[i, h + 2], values[i]
            for k in range(64):
                y = total[k] + (x if plus & masks[k] else 0)
                total[k] = y - (x if minus & masks[k] else 0)


@kernel(void, readable(u8, 2), readable(u8, 3), u8, u8, writable(u8, 2))
def transposed(bits: _Words, sums: _Words, q: _Word, ratio: _Word, out: _Words) -> None:
    """out[r, i] = Σ_k (bit k of b1 − bit k of b2)·γ_(r, k) mod q for two repetitions r, rows k < 128 at position i.

    bits: [positions, 4]; sums: [16, 256, 2], for every byte of 128 bits the sum mod q of the γ its bits select, next
    to each other for the two repetitions. The method of four Russians.
    """
    for i in range(out.shape[1]):
        first, second = _16 * q, _16 * q
        for h in range(2):
            plus, minus = bits[i, h], bits[i, h + 2]
            for k in range(8):
                added = sums[8 * h + k, plus & _BYTE]
                taken = sums[8 * h + k, minus & _BYTE]
                first += added[0] - taken[0]
                second += added[1] - taken[1]
                plus, minus = plus >> _8, minus >> _8
        out[0, i] = _canonical(first, q, ratio)
        out[1, i] = _canonical(second, q, ratio)
