"""Random signs and Walsh–Hadamard transforms in place, on float32 and float64.

Levels are merged in pairs (radix 4), the first three in one pass over groups of eight. Slices are taken so that LLVM
sees streams of their own and makes vectors of the inner loops; indices are unsigned for the same reason.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numba.core.types import float32 as f4
from numba.core.types import float64 as f8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import inlined, kernel, readable, writable

__all__ = [
    "flip_32",
    "flip_64",
    "transform_columns_32",
    "transform_columns_64",
    "transform_rows_32",
    "transform_rows_64",
]

_Float = TypeVar("_Float", np.float32, np.float64)

_0, _1, _2, _3, _4, _5, _6, _7, _8, _63 = (np.uint64(k) for k in (0, 1, 2, 3, 4, 5, 6, 7, 8, 63))


def _flip(values: NDArray[_Float], words: NDArray[np.uint64], scale: _Float, out: NDArray[_Float]) -> None:
    """out[i] = ±scale·values[i], minus where bit i mod 64 of word ⌊i/64⌋ is set."""
    for first in range(_0, np.uint64(values.size), _63 + _1):
        word = words[first >> _6]
        piece, target = values[first : first + _63 + _1], out[first : first + _63 + _1]
        for j in range(np.uint64(piece.size)):
            target[j] = piece[j] * (-scale if (word >> j) & _1 else scale)


@inlined
def _two(a: NDArray[_Float], b: NDArray[_Float]) -> None:
    """One level."""
    for j in range(np.uint64(a.size)):
        x, y = a[j], b[j]
        a[j], b[j] = x + y, x - y


@inlined
def _four(a: NDArray[_Float], b: NDArray[_Float], c: NDArray[_Float], d: NDArray[_Float]) -> None:
    """Two levels."""
    for j in range(np.uint64(a.size)):
        w, x, y, z = a[j], b[j], c[j], d[j]
        p, q, r, s = w + x, w - x, y + z, y - z
        a[j], b[j], c[j], d[j] = p + r, q + s, p - r, q - s


@inlined
def _eights(row: NDArray[_Float]) -> None:
    """The levels of distance 1, 2 and 4."""
    for i in range(_0, np.uint64(row.size), _8):
        a, b, c, d = row[i], row[i + _1], row[i + _2], row[i + _3]
        e, f, g, h = row[i + _4], row[i + _5], row[i + _6], row[i + _7]
        a, b, c, d, e, f, g, h = a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h
        a, b, c, d, e, f, g, h = a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h
        row[i], row[i + _1], row[i + _2], row[i + _3] = a + e, b + f, c + g, d + h
        row[i + _4], row[i + _5], row[i + _6], row[i + _7] = a - e, b - f, c - g, d - h


def _transform_rows(rows: NDArray[_Float]) -> None:
    """Each row times the Walsh–Hadamard matrix (entries ±1); its length is a power of two."""
    length = np.uint64(rows.shape[1])
    for k in range(np.uint64(rows.shape[0])):
        row = rows[k]
        h = _1
        if length >= _8:
            _eights(row)
            h = _8
        while h << _1 < length:
            for i in range(_0, length, h << _2):
                _four(
                    row[i : i + h], row[i + h : i + _2 * h], row[i + _2 * h : i + _3 * h], row[i + _3 * h : i + _4 * h]
                )
            h <<= _2
        if h < length:
            _two(row[:h], row[h:])


def _transform_columns(rows: NDArray[_Float], first: np.uint64, last: np.uint64) -> None:
    """Columns first to last − 1 times the Walsh–Hadamard matrix; the number of rows is a power of two."""
    count = np.uint64(rows.shape[0])
    h = _1
    while h << _1 < count:
        for i in range(_0, count, h << _2):
            for k in range(i, i + h):
                _four(
                    rows[k, first:last],
                    rows[k + h, first:last],
                    rows[k + _2 * h, first:last],
                    rows[k + _3 * h, first:last],
                )
        h <<= _2
    if h < count:
        for k in range(h):
            _two(rows[k, first:last], rows[k + h, first:last])


flip_32 = kernel(void, readable(f4, 1), readable(u8, 1), f4, writable(f4, 1))(_flip)
flip_64 = kernel(void, readable(f8, 1), readable(u8, 1), f8, writable(f8, 1))(_flip)
transform_rows_32 = kernel(void, writable(f4, 2))(_transform_rows)
transform_rows_64 = kernel(void, writable(f8, 2))(_transform_rows)
transform_columns_32 = kernel(void, writable(f4, 2), u8, u8)(_transform_columns)
transform_columns_64 = kernel(void, writable(f8, 2), u8, u8)(_transform_columns)
