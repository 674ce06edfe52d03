"""Residues mod 52-bit primes that need no multiplication: sums, lifts, and packing at 52 bits each.

Sixteen residues fill thirteen 64-bit words; residue i of a row starts at bit 52·i, little-endian. The loops over a
group have literal lengths and are unrolled, so every shift is a constant. Packed words may stand at any byte address.
"""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import kernel, readable, writable

__all__ = ["add", "add_packed", "centre", "pack", "subtract", "truncate", "unpack"]

_Word = np.uint64
_Words = NDArray[np.uint64]

_GROUP, _GROUP_WORDS, _BITS, _WORD_BITS = 16, 13, 52, 64
_MASK = np.uint64((1 << _BITS) - 1)
_0, _1 = np.uint64(0), np.uint64(1)

_PRIMES, _RO3, _RW3 = readable(u8, 1), readable(u8, 3), writable(u8, 3)
_PACKED, _PACKED_OUT = readable(u8, 3, aligned=False), writable(u8, 3, aligned=False)


@kernel(void, _RW3, _RO3, _PRIMES)
def add(total: _Words, values: _Words, primes: _Words) -> None:
    """total += values, both in [0, q)."""
    for c in range(total.shape[0]):
        for p in range(total.shape[1]):
            q = primes[p]
            for j in range(total.shape[2]):
                x = total[c, p, j] + values[c, p, j]
                total[c, p, j] = min(x, x - q)


@kernel(void, _RW3, _RO3, _PRIMES)
def subtract(total: _Words, values: _Words, primes: _Words) -> None:
    """total −= values, both in [0, q)."""
    for c in range(total.shape[0]):
        for p in range(total.shape[1]):
            q = primes[p]
            for j in range(total.shape[2]):
                x = total[c, p, j] - values[c, p, j]
                total[c, p, j] = min(x, x + q)


@kernel(void, _RO3, _PRIMES, writable(i8, 3))
def centre(values: _Words, primes: _Words, out: NDArray[np.int64]) -> None:
    """The representatives in [−(q−1)/2, (q−1)/2]."""
    for c in range(values.shape[0]):
        for p in range(values.shape[1]):
            q = primes[p]
            for j in range(values.shape[2]):
                x = values[c, p, j]
                out[c, p, j] = np.int64(x - q if x > q >> _1 else x)


@kernel(u8, _RW3, _PRIMES)
def truncate(values: _Words, primes: _Words) -> _Word:
    """Keep the low 52 bits of every word; return how many are then not below their prime."""
    refused = _0
    for c in range(values.shape[0]):
        for p in range(values.shape[1]):
            q = primes[p]
            for j in range(values.shape[2]):
                x = values[c, p, j] & _MASK
                values[c, p, j] = x
                refused += _1 if x >= q else _0
    return refused


@kernel(u8, _PACKED, _PRIMES, _RW3)
def unpack(packed: _Words, primes: _Words, out: _Words) -> _Word:
    """Fill `out`: [chunks, primes, n], n a multiple of 16; return how many residues are not below their prime."""
    refused = _0
    for c in range(out.shape[0]):
        for p in range(out.shape[1]):
            q, source, row = primes[p], packed[c, p], out[c, p]
            for group in range(row.size // _GROUP):
                word, left = _0, 0
                taken = _GROUP_WORDS * group
                for i in range(_GROUP):
                    if left < _BITS:
                        following = source[np.uint64(taken)]
                        taken += 1
                        x = (word | following << np.uint64(left)) & _MASK
                        word = following >> np.uint64(_BITS - left)
                        left += _WORD_BITS - _BITS
                    else:
                        x = word & _MASK
                        word = word >> np.uint64(_BITS)
                        left -= _BITS
                    refused += _1 if x >= q else _0
                    row[np.uint64(_GROUP * group + i)] = x
    return refused


@kernel(u8, _PACKED, _PRIMES, _RW3)
def add_packed(packed: _Words, primes: _Words, total: _Words) -> _Word:
    """total += what `unpack` would give, in one pass; return how many residues are not below their prime.

    If any is not, `total` is no longer in [0, q) and must be thrown away.
    """
    refused = _0
    for c in range(total.shape[0]):
        for p in range(total.shape[1]):
            q, source, row = primes[p], packed[c, p], total[c, p]
            for group in range(row.size // _GROUP):
                word, left = _0, 0
                taken = _GROUP_WORDS * group
                for i in range(_GROUP):
                    if left < _BITS:
                        following = source[np.uint64(taken)]
                        taken += 1
                        x = (word | following << np.uint64(left)) & _MASK
                        word = following >> np.uint64(_BITS - left)
                        left += _WORD_BITS - _BITS
                    else:
                        x = word & _MASK
                        word = word >> np.uint64(_BITS)
                        left -= _BITS
                    refused += _1 if x >= q else _0
                    j = np.uint64(_GROUP * group + i)
                    x += row[j]
                    row[j] = min(x, x - q)
    return refused


@kernel(void, _RO3, _PACKED_OUT)
def pack(values: _Words, packed: _Words) -> None:
    """The inverse of `unpack`. Requires values below 2^52."""
    for c in range(values.shape[0]):
        for p in range(values.shape[1]):
            row, target = values[c, p], packed[c, p]
            for group in range(row.size // _GROUP):
                word, filled = _0, 0
                out = _GROUP_WORDS * group
                for i in range(_GROUP):
                    x = row[np.uint64(_GROUP * group + i)]
                    word |= x << np.uint64(filled)
                    filled += _BITS
                    if filled >= _WORD_BITS:
                        target[np.uint64(out)] = word
                        out += 1
                        filled -= _WORD_BITS
                        word = x >> np.uint64(_BITS - filled)
