"""Negacyclic number-theoretic transforms and products mod a 52-bit prime q, on 64-bit words.

Butterflies are Harvey's (J. Symb. Comp. 2014, arXiv:1205.2926): a product with a known w uses Shoup's companion
w' = ⌊w·2^64/q⌋ and is left unreduced. We depart from the paper in two ways, both paid for by the 12 spare bits:

- the high word of x·w' comes from three 32 × 32 bit products, too small by less than 3, so that every loop is plain
  integer code which LLVM turns into vector instructions; a product is then below 4q instead of 2q;
- sums are not reduced between levels at all. Forward, values grow by 4q a level, to less than 70q at N = 2^17.
  Inverse, they double; a row is reduced once it has passed 2^10·q, and 2^12·q < 2^64 is never passed.

Levels are merged in pairs (radix 4). LLVM makes vectors of them in three ways, hence three loops: distances below 4
by interleaved access; distance 8 because it is literal and the four streams are seen to be apart; larger ones
because that is tested at run time, which pays for long streams only.

Indices are unsigned or start a slice: numba tests other signed ones for being negative, which stops vectors. In
numba an unsigned word and a literal make a float, hence the named words.
"""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import inlined, kernel, readable, scalar, writable

__all__ = ["add_signed", "companions", "forward", "inverse", "multiply", "multiply_fixed"]

_Word = np.uint64
_Words = NDArray[np.uint64]
_Four = tuple[_Word, _Word, _Word, _Word]

_0, _1, _2, _3, _4, _8, _12, _16, _24, _32, _51 = (np.uint64(k) for k in (0, 1, 2, 3, 4, 8, 12, 16, 24, 32, 51))
_LOW = np.uint64(0xFFFFFFFF)
_REDUCE_ABOVE = np.uint64(1 << 10)


@scalar
def _high(x: _Word, y: _Word) -> _Word:
    """An integer h with 0 ≤ x·y/2^64 − h < 3: the low product and the fractions of two others are dropped."""
    x1, x0, y1, y0 = x >> _32, x & _LOW, y >> _32, y & _LOW
    return x1 * y1 + ((x1 * y0) >> _32) + ((x0 * y1) >> _32)


@scalar
def _times(x: _Word, w: _Word, companion: _Word, q: _Word) -> _Word:
    """x·w mod q, in [0, 4q), for any x < 2^64 and w < q.

    x·w/q exceeds x·w'/2^64 by less than 1, and that exceeds `_high` by less than 3. All modulo 2^64.
    """
    return x * w - _high(x, companion) * q


@scalar
def _canonical(x: _Word, q: _Word, ratio: _Word) -> _Word:
    """x mod q, in [0, q), for any x < 2^64; `ratio` = ⌊2^83/q⌋, 32 bits since q > 2^51.

    x/q exceeds (x >> 32)·ratio/2^51 by less than 2^-18, so the quotient is short by at most one.
    """
    x -= (((x >> _32) * ratio) >> _51) * q
    return min(x, x - q)  # below q the difference wraps to a large word


@inlined
def _inverse_four(
    x0: _Word, x1: _Word, x2: _Word, x3: _Word,
    w0: _Word, c0: _Word, w1: _Word, c1: _Word, w2: _Word, c2: _Word, q: _Word, bound: _Word,
) -> _Four:  # fmt: skip
    """Two inverse levels on four words below bound·q, bound ≥ 2; results are below 4·bound·q."""
    offset = bound * q
    y0, y1 = x0 + x1, _times(x0 + offset - x1, w0, c0, q)
    y2, y3 = x2 + x3, _times(x2 + offset - x3, w1, c1, q)
    z2 = _times(y0 + offset + offset - y2, w2, c2, q)
    z3 = _times(y1 + offset + offset - y3, w2, c2, q)
    return y0 + y2, y1 + y3, z2, z3


@inlined
def _inverse_near(row: _Words, w: _Words, c: _Words, q: _Word) -> None:
    """The levels of distance 1 and 2; from below 2q to below 8q."""
    groups = np.uint64(row.size) // _4
    for i in range(groups):
        k, j = groups + i, _4 * i
        row[j], row[j + _1], row[j + _2], row[j + _3] = _inverse_four(
            row[j], row[j + _1], row[j + _2], row[j + _3],
            w[k + k], c[k + k], w[k + k + _1], c[k + k + _1], w[k], c[k], q, _2,
        )  # fmt: skip


@inlined
def _inverse_eight(row: _Words, w: _Words, c: _Words, q: _Word, bound: _Word) -> None:
    """The levels of distance 8 and 16; from below bound·q to below 4·bound·q."""
    groups = np.uint64(row.size) // _32
    for i in range(groups):
        k, first = groups + i, _32 * i
        w0, c0, w1, c1, w2, c2 = w[k + k], c[k + k], w[k + k + _1], c[k + k + _1], w[k], c[k]
        for j in range(first, first + _8):
            row[j], row[j + _8], row[j + _16], row[j + _24] = _inverse_four(
                row[j], row[j + _8], row[j + _16], row[j + _24], w0, c0, w1, c1, w2, c2, q, bound
            )


@inlined
def _inverse_far(row: _Words, w: _Words, c: _Words, q: _Word, t: int, bound: _Word) -> None:
    """The levels of distance t and 2t; from below bound·q to below 4·bound·q."""
    groups = row.size // (4 * t)
    for i in range(groups):
        k, first = groups + i, 4 * t * i
        w0, c0, w1, c1, w2, c2 = w[2 * k], c[2 * k], w[2 * k + 1], c[2 * k + 1], w[k], c[k]
        r0, r1 = row[first : first + t], row[first + t : first + 2 * t]
        r2, r3 = row[first + 2 * t : first + 3 * t], row[first + 3 * t : first + 4 * t]
        for j in range(t):
            r0[j], r1[j], r2[j], r3[j] = _inverse_four(r0[j], r1[j], r2[j], r3[j], w0, c0, w1, c1, w2, c2, q, bound)


@inlined
def _inverse_pair(row: _Words, w: _Words, c: _Words, q: _Word, t: int, bound: _Word) -> None:
    """The level of distance t; from below bound·q to below 2·bound·q, bound ≥ 2."""
    groups = row.size // (2 * t)
    for i in range(groups):
        w0, c0, first = w[groups + i], c[groups + i], 2 * t * i
        r0, r1 = row[first : first + t], row[first + t : first + 2 * t]
        for j in range(t):
            x0, x1 = r0[j], r1[j]
            r0[j], r1[j] = x0 + x1, _times(x0 + bound * q - x1, w0, c0, q)


@inlined
def _inverse_row(row: _Words, w: _Words, c: _Words, constants: _Words) -> None:
    q, ratio, n_inverse, n_companion = constants[0], constants[1], constants[3], constants[4]
    _inverse_near(row, w, c, q)
    _inverse_pair(row, w, c, q, 4, _8)
    t, bound = 8, _16
    if row.size >= 32:
        _inverse_eight(row, w, c, q, bound)
        t, bound = 32, _4 * bound
    while t < row.size:
        if bound > _REDUCE_ABOVE:
            for j in range(row.size):
                row[j] = _canonical(row[j], q, ratio)
            bound = _2
        if 4 * t <= row.size:
            _inverse_far(row, w, c, q, t, bound)
            t, bound = 4 * t, _4 * bound
        else:
            _inverse_pair(row, w, c, q, t, bound)
            t = 2 * t
    for j in range(row.size):
        x = _times(row[j], n_inverse, n_companion, q)
        x = min(x, x - q - q)
        row[j] = min(x, x - q)


@inlined
def _forward_four(
    x0: _Word, x1: _Word, x2: _Word, x3: _Word,
    w0: _Word, c0: _Word, w1: _Word, c1: _Word, w2: _Word, c2: _Word, q: _Word,
) -> _Four:  # fmt: skip
    """Two forward levels on four words, which grow by 8q."""
    q4 = _4 * q
    y2, y3 = _times(x2, w2, c2, q), _times(x3, w2, c2, q)
    z1, z3 = _times(x1 + y3, w0, c0, q), _times(x1 + q4 - y3, w1, c1, q)
    y0, y2 = x0 + y2, x0 + q4 - y2
    return y0 + z1, y0 + q4 - z1, y2 + z3, y2 + q4 - z3


@inlined
def _forward_near(row: _Words, w: _Words, c: _Words, q: _Word) -> None:
    """The levels of distance 2 and 1."""
    groups = np.uint64(row.size) // _4
    for i in range(groups):
        k, j = groups + i, _4 * i
        row[j], row[j + _1], row[j + _2], row[j + _3] = _forward_four(
            row[j], row[j + _1], row[j + _2], row[j + _3],
            w[k + k], c[k + k], w[k + k + _1], c[k + k + _1], w[k], c[k], q,
        )  # fmt: skip


@inlined
def _forward_eight(row: _Words, w: _Words, c: _Words, q: _Word) -> None:
    """The levels of distance 16 and 8."""
    groups = np.uint64(row.size) // _32
    for i in range(groups):
        k, first = groups + i, _32 * i
        w0, c0, w1, c1, w2, c2 = w[k + k], c[k + k], w[k + k + _1], c[k + k + _1], w[k], c[k]
        for j in range(first, first + _8):
            row[j], row[j + _8], row[j + _16], row[j + _24] = _forward_four(
                row[j], row[j + _8], row[j + _16], row[j + _24], w0, c0, w1, c1, w2, c2, q
            )


@inlined
def _forward_far(row: _Words, w: _Words, c: _Words, q: _Word, t: int) -> None:
    """The levels of distance 2t and t."""
    groups = row.size // (4 * t)
    for i in range(groups):
        k, first = groups + i, 4 * t * i
        w0, c0, w1, c1, w2, c2 = w[2 * k], c[2 * k], w[2 * k + 1], c[2 * k + 1], w[k], c[k]
        r0, r1 = row[first : first + t], row[first + t : first + 2 * t]
        r2, r3 = row[first + 2 * t : first + 3 * t], row[first + 3 * t : first + 4 * t]
        for j in range(t):
            r0[j], r1[j], r2[j], r3[j] = _forward_four(r0[j], r1[j], r2[j], r3[j], w0, c0, w1, c1, w2, c2, q)


@inlined
def _forward_pair(row: _Words, w: _Words, c: _Words, q: _Word, t: int) -> None:
    """The level of distance t; values grow by 4q."""
    groups = row.size // (2 * t)
    for i in range(groups):
        w0, c0, first = w[groups + i], c[groups + i], 2 * t * i
        r0, r1 = row[first : first + t], row[first + t : first + 2 * t]
        for j in range(t):
            x0, y1 = r0[j], _times(r1[j], w0, c0, q)
            r0[j], r1[j] = x0 + y1, x0 + _4 * q - y1


@inlined
def _forward_row(row: _Words, w: _Words, c: _Words, constants: _Words) -> None:
    q, ratio = constants[0], constants[1]
    t = row.size // 2
    while t >= 64:
        _forward_far(row, w, c, q, t // 2)
        t = t // 4
    if t == 32:
        _forward_pair(row, w, c, q, t)
        t = 16
    if t == 16:
        _forward_eight(row, w, c, q)
    if t == 8:
        _forward_pair(row, w, c, q, t)
    _forward_pair(row, w, c, q, 4)
    _forward_near(row, w, c, q)
    for j in range(row.size):
        row[j] = _canonical(row[j], q, ratio)


_RO2, _RO3, _RW2, _RW3 = readable(u8, 2), readable(u8, 3), writable(u8, 2), writable(u8, 3)


@kernel(void, _RW3, _RO2, _RO2, _RO2)
def forward(values: _Words, roots: _Words, companion: _Words, constants: _Words) -> None:
    """Each row to NTT form, in [0, q). Takes values below 2^63.

    `roots`, `companion`: [primes, N], powers of the 2N-th root in bit-reversed order and their companions;
    `constants`: [primes, 5] as in `ntt.Tables`.
    """
    for i in range(values.shape[0]):
        for p in range(values.shape[1]):
            _forward_row(values[i, p], roots[p], companion[p], constants[p])


@kernel(void, _RW3, _RO2, _RO2, _RO2)
def inverse(values: _Words, roots: _Words, companion: _Words, constants: _Words) -> None:
    """Each row from NTT form to coefficients, in [0, q). Takes values below 2q."""
    for i in range(values.shape[0]):
        for p in range(values.shape[1]):
            _inverse_row(values[i, p], roots[p], companion[p], constants[p])


@kernel(void, _RO2, _RO2, _RW2)
def companions(fixed: _Words, constants: _Words, out: _Words) -> None:
    """⌊w·2^64/q⌋ for rows of w in [0, q).

    With ν = ⌊2^115/q⌋, w·2^64/q exceeds 2·(2^12·w)·ν/2^64 by less than 2, and that exceeds 2·`_high` by less than 6.
    The quotient of the remainder completes it; the remainder is −h·q modulo 2^64.
    """
    for p in range(fixed.shape[0]):
        q, ratio, nu = constants[p, 0], constants[p, 1], constants[p, 2]
        for j in range(fixed.shape[1]):
            h = _2 * _high(fixed[p, j] << _12, nu)
            rest = _0 - h * q
            missing = ((rest >> _32) * ratio) >> _51
            rest -= missing * q
            out[p, j] = h + missing + (_1 if rest >= q else _0)


@kernel(void, _RW3, _RO2, _RO2, _RO2)
def multiply_fixed(values: _Words, fixed: _Words, companion: _Words, constants: _Words) -> None:
    """values *= fixed, every chunk by the same [primes, N] in [0, q). Takes any words, gives [0, q)."""
    for i in range(values.shape[0]):
        for p in range(values.shape[1]):
            q = constants[p, 0]
            for j in range(values.shape[2]):
                x = _times(values[i, p, j], fixed[p, j], companion[p, j], q)
                x = min(x, x - q - q)
                values[i, p, j] = min(x, x - q)


@kernel(void, _RW3, _RO3, _RO2)
def multiply(values: _Words, others: _Words, constants: _Words) -> None:
    """values *= others, element by element, both in [0, q).

    Barrett: with ν = ⌊2^115/q⌋, h ≈ (a·b/2^52)·2ν/2^64 estimates a·b/q. The inner quotient is short by less than 3,
    which counts less than twice over (2^52/q < 2); ν costs less than 1 and the outer quotient 3: a·b − h·q < 10q.
    """
    for i in range(values.shape[0]):
        for p in range(values.shape[1]):
            q, ratio, nu = constants[p, 0], constants[p, 1], constants[p, 2]
            for j in range(values.shape[2]):
                a, b = values[i, p, j], others[i, p, j]
                h = _high(_high(a << _12, b) << _1, nu)
                values[i, p, j] = _canonical(a * b - h * q, q, ratio)


@kernel(void, _RW3, readable(i8, 2), _RO2)
def add_signed(values: _Words, integers: NDArray[np.int64], constants: _Words) -> None:
    """values += integers[chunks, N], the same for every prime; values in [0, q), integers any."""
    for i in range(values.shape[0]):
        for p in range(values.shape[1]):
            q, ratio = constants[p, 0], constants[p, 1]
            for j in range(values.shape[2]):
                signed = integers[i, j]
                size = _canonical(np.uint64(-signed if signed < 0 else signed), q, ratio)
                x = values[i, p, j] + (q - size if signed < 0 else size)
                values[i, p, j] = min(x, x - q)
