"""Folding polynomials onto cosets, and sums of products mod a 52-bit prime q over the rows of a matrix.

A matrix comes as a flat array and the distance between its rows, so that some columns of a wider one need no copy.
Sums are taken column by column, each thread its own block of columns, which stays in the first-level cache while the
rows stream by.
"""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, scalar, writable

__all__ = ["combine", "fold", "inner_products"]

_Word = np.uint64
_Words = NDArray[np.uint64]

_0, _26, _32, _51 = (np.uint64(k) for k in (0, 26, 32, 51))
_LOW = np.uint64(0xFFFFFFFF)
_LIMB = np.uint64((1 << 26) - 1)
_LAZY_TERMS = 1 << 9  # of less than 4q < 2^54: together below 2^63
_LAZY_ROWS = 1 << 10  # two products of 26-bit limbs a row: together below 2^63

_RO1, _RO2, _RW1, _RW3 = readable(u8, 1), readable(u8, 2), writable(u8, 1), writable(u8, 3)


@scalar
def _times(x: _Word, w: _Word, companion: _Word, q: _Word) -> _Word:
    """x·w mod q in [0, 4q) for any x and w < q; companion = ⌊w·2^64/q⌋ (ring/ntt_kernels.py derives the bound)."""
    x1, x0, y1, y0 = x >> _32, x & _LOW, companion >> _32, companion & _LOW
    return x * w - (x1 * y1 + ((x1 * y0) >> _32) + ((x0 * y1) >> _32)) * q


@scalar
def _canonical(x: _Word, q: _Word, ratio: _Word) -> _Word:
    """x mod q in [0, q) for any x < 2^64; ratio = ⌊2^83/q⌋."""
    x -= ((x >> _32) * ratio >> _51) * q
    return min(x, x - q)


@kernel(void, _RO2, _RO2, _RO1, _RO1, _RO1, _RW3)
def fold(low: _Words, high: _Words, factors: _Words, companions: _Words, constants: _Words, out: _Words) -> None:
    """out[i, j] = low[i] + factors[j]·high[i], padded with zeros; takes [0, q), gives words below 5q.

    low: [rows, ≤ width]; high: [rows, ≤ width of low]; out: [rows, factors, width].
    """
    q = constants[0]
    both, width = high.shape[1], low.shape[1]
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            w, companion = factors[j], companions[j]
            a, b, row = low[i], high[i], out[i, j]
            for k in range(both):
                row[k] = a[k] + _times(b[k], w, companion, q)
            row[both:width] = a[both:width]
            row[width:] = _0


@kernel(void, _RO1, i8, _RO1, _RO1, _RO1, _RW1)
def combine(
    rows: _Words, stride: int, coefficients: _Words, companions: _Words, constants: _Words, out: _Words
) -> None:
    """out[j] = Σ_i coefficients[i]·rows[i·stride + j] mod q. Takes rows of any words."""
    q, ratio = constants[0], constants[1]
    width = out.size
    out[:] = _0
    for i in range(coefficients.size):
        w, companion, row = coefficients[i], companions[i], rows[i * stride : i * stride + width]
        for j in range(width):
            out[j] += _times(row[j], w, companion, q)
        if i % _LAZY_TERMS == _LAZY_TERMS - 1 or i == coefficients.size - 1:
            for j in range(width):
                out[j] = _canonical(out[j], q, ratio)


@kernel(void, _RO1, i8, _RO1, i8, i8, _RO1, _RW1)
def inner_products(
    left: _Words, left_stride: int, right: _Words, right_stride: int, rows: int, constants: _Words, out: _Words
) -> None:
    """out[j] = Σ_(i < rows) left[i·left_stride + j]·right[i·right_stride + j] mod q, words in [0, 2^52).

    a·b = a1·b1·2^52 + (a1·b0 + a0·b1)·2^26 + a0·b0 in limbs of 26 bits; the three sums are reduced now and then.
    constants: q, ⌊2^83/q⌋, then 2^26 and 2^52 mod q, each with its companion.
    """
    q, ratio = constants[0], constants[1]
    middle_weight, middle_companion, top_weight, top_companion = constants[2], constants[3], constants[4], constants[5]
    width = out.size
    top, middle = np.zeros(width, dtype=np.uint64), np.zeros(width, dtype=np.uint64)
    out[:] = _0
    for first in range(0, rows, _LAZY_ROWS):
        for i in range(first, min(first + _LAZY_ROWS, rows)):
            a = left[i * left_stride : i * left_stride + width]
            b = right[i * right_stride : i * right_stride + width]
            for j in range(width):
                a1, a0, b1, b0 = a[j] >> _26, a[j] & _LIMB, b[j] >> _26, b[j] & _LIMB
                top[j] += a1 * b1
                middle[j] += a1 * b0 + a0 * b1
                out[j] += a0 * b0
        for j in range(width):
            top[j] = _canonical(top[j], q, ratio)
            middle[j] = _canonical(middle[j], q, ratio)
            out[j] = _canonical(out[j], q, ratio)
    for j in range(width):
        total = out[j] + _times(middle[j], middle_weight, middle_companion, q)
        out[j] = _canonical(total + _times(top[j], top_weight, top_companion, q), q, ratio)
