"""Arithmetic mod a prime p < 2^52 on int64 elements in [0, p), exact although products do not fit 64 bits; packing."""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint8 as u1
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import inlined, kernel, readable, writable

__all__ = ["add_scaled", "combine", "pack", "unpack"]

_Integers = NDArray[np.int64]

_0, _1, _8 = np.uint64(0), np.uint64(1), np.uint64(8)

_BLOCK = 512  # products below 3p < 2^53.6 whose sum stays below 2^63


@inlined
def _times(a: np.int64, b: np.int64, p: np.int64, inverse: np.float64) -> np.int64:
    """a·b mod p up to a multiple of p, in (−2p, 3p).

    a, b and p are exact in float64, and the estimate of a·b/p < 2^52 takes three roundings of relative size 2^-53
    each, so it is off by less than 2, and its integer part by less than 3 on the low side. All modulo 2^64.
    """
    quotient = np.uint64(np.int64(np.float64(a) * np.float64(b) * inverse))
    return np.int64(np.uint64(a) * np.uint64(b) - quotient * np.uint64(p))


@kernel(void, readable(i8, 2), readable(i8, 2), i8, writable(i8, 2))
def combine(rows: _Integers, combination: _Integers, p: np.int64, out: _Integers) -> None:
    """out[k, r] = Σ_i rows[k, i]·combination[r, i] mod p, in [0, p)."""
    inverse, count = np.float64(1.0) / np.float64(p), rows.shape[1]
    for k in range(rows.shape[0]):
        for r in range(combination.shape[0]):
            total = np.int64(0)
            for start in range(0, count, _BLOCK):
                part = np.int64(0)
                for i in range(start, min(start + _BLOCK, count)):
                    part += _times(rows[k, i], combination[r, i], p, inverse)
                total = (total + part) % p
            out[k, r] = total


@kernel(void, writable(i8, 1), i8, readable(i8, 1), i8)
def add_scaled(total: _Integers, factor: np.int64, values: _Integers, p: np.int64) -> None:
    """total += factor·values mod p, in place."""
    inverse = np.float64(1.0) / np.float64(p)
    for i in range(total.size):
        total[i] = (total[i] + _times(values[i], factor, p, inverse)) % p


@kernel(void, readable(i8, 1), u8, writable(u1, 1))
def pack(elements: _Integers, width: np.uint64, packed: NDArray[np.uint8]) -> None:
    """Write elements of `width` ≤ 56 bits, least significant bit first, into just as many bytes as they need."""
    word, filled, put = _0, _0, 0
    for i in range(elements.size):
        word |= np.uint64(elements[i]) << filled
        filled += width
        while filled >= _8:
            packed[put] = np.uint8(word)
            put += 1
            word >>= _8
            filled -= _8
    if filled > _0:
        packed[put] = np.uint8(word)


@kernel(u8, readable(u1, 1), u8, writable(i8, 1))
def unpack(packed: NDArray[np.uint8], width: np.uint64, out: _Integers) -> np.uint64:
    """The inverse of `pack`; return the bits that pad the last byte, which should be zero."""
    word, filled, taken, mask = _0, _0, 0, (_1 << width) - _1
    for i in range(out.size):
        while filled < width:
            word |= np.uint64(packed[taken]) << filled
            taken += 1
            filled += _8
        out[i] = np.int64(word & mask)
        word >>= width
        filled -= width
    return word
