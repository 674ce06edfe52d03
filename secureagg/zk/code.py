"""The Reed–Solomon code of the proofs, on all cores.

A message is ℓ values on H = {x : x^ℓ = −1}, in the order of `ring.ntt`'s NTT form; its codeword is the values of the
polynomial through them, blinded, on D = {x : x^n = −1}, in the order of NTT form too. H and D share no point.

Block j of B consecutive positions of D, B a power of two, is the coset {x : x^B = c_j}: there a polynomial is its
remainder mod X^B − c_j, and one transform of size B, with roots of its own, evaluates it. So a short polynomial is
extended block by block, and a prefix of D is a domain of its own.

Matrices are uint64[rows, columns] in [0, q), C-ordered or some columns of such a matrix. No argument is changed,
unless a function says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import ntt, workers
from secureagg.ring.ntt import Words
from secureagg.ring.params import MAX_DEGREE, MIN_DEGREE, check_primes, minimal_root
from secureagg.zk.field import check_shape, companions, multiply, scale

__all__ = [
    "Code",
    "columns_at",
    "encode",
    "extend",
    "interpolate",
    "interpolate_prefix",
    "inverse_vanishing",
    "points",
    "vanishing",
]

_BLOCK_WORDS = 1 << 15  # of codewords at a time: 256 KiB, which the second-level cache holds


@dataclass(frozen=True)
class Code:
    """Polynomials over F_q, their values on H (ℓ points, x^ℓ = −1) and on D (n points, x^n = −1).

    `queries`, t: how many columns of blinded codewords say nothing about the messages.

    Requires: powers of two 16 ≤ ℓ and 4ℓ ≤ n ≤ 2^17; 1 ≤ t ≤ ℓ/2.
    """

    prime: int
    message_length: int
    length: int
    queries: int

    def __post_init__(self) -> None:
        check_primes((self.prime,))
        ell, n, t = self.message_length, self.length, self.queries
        if not (_is_domain(ell) and _is_domain(n) and 4 * ell <= n):
            raise ParameterError(f"ℓ = {ell}, n = {n}: powers of two, {MIN_DEGREE} ≤ ℓ and 4ℓ ≤ n ≤ {MAX_DEGREE}")
        if not 1 <= t <= ell // 2:
            raise ParameterError(f"t = {t}: 1 ≤ t ≤ ℓ/2 = {ell // 2} is needed")

    @property
    def degree(self) -> int:
        """k' = ℓ + 2t, which bounds the number of coefficients of every blinded row."""
        return self.message_length + 2 * self.queries


@dataclass(frozen=True)
class _Blocks:
    """The cosets that cover a prefix of D. Read-only arrays.

    roots, inverse_roots: uint64[blocks, B] as `ring.ntt` has them; bases: uint64[blocks], c_j; all with companions.
    constants: uint64[blocks, 5], the row of `ntt.Tables` for degree B, repeated.
    """

    roots: Words
    root_companions: Words
    inverse_roots: Words
    inverse_root_companions: Words
    bases: Words
    constants: Words


@lru_cache(maxsize=32)
def _blocks(prime: int, length: int, size: int, width: int) -> _Blocks:
    """Return the blocks of B = `width` positions that make up the first `size` of D.

    The transform of size n has ψ^rev(k) at k = m + i for group i of m. Those of block j are, at the level where it
    has m' groups, number j·m' + i of (n/B)·m'.
    """
    t = ntt.tables((prime,), length)
    index = np.empty((size // width, width), dtype=np.intp)
    index[:, 0] = 0  # the transform has no group 0
    groups = 1
    while groups < width:
        first = (length // width + np.arange(size // width)) * groups
        index[:, groups : 2 * groups] = first[:, None] + np.arange(groups)
        groups *= 2
    # x^B at the first position of each block: ψ^(B·(2·rev(k) + 1)).
    psi = minimal_root(prime, 2 * length)
    starts = [int(root) for root in t.roots[0, :size:width]]
    bases = np.array([pow(root * root * psi, width, prime) for root in starts], dtype=np.uint64)
    constants = np.repeat(ntt.tables((prime,), width).constants, size // width, axis=0)
    arrays = (
        t.roots[0][index],
        t.root_companions[0][index],
        t.inverse_roots[0][index],
        t.inverse_root_companions[0][index],
        bases,
        constants,
    )
    for array in arrays:
        array.flags.writeable = False
    return _Blocks(*arrays)


def interpolate(code: Code, rows: Words) -> None:
    """Turn rows of values on H, uint64[r, ℓ], into the coefficients of the polynomials through them, in place."""
    check_shape(rows, (len(rows), code.message_length))
    ntt.inverse(rows[:, None, :], (code.prime,))


def extend(code: Code, coefficients: Words, size: int | None = None) -> Words:
    """Return the values uint64[r, size] at the first `size` points of D, all n of them by default.

    coefficients: uint64[r, w], w ≤ size; size: a power of two.
    """
    size = _prefix(code, size)
    r, w = coefficients.shape
    if w > size:
        raise ParameterError(f"w = {w} coefficients on {size} points: w ≤ size is needed")
    width = max(MIN_DEGREE, 1 << max(w.bit_length() - 1, 0))
    blocks = _blocks(code.prime, code.length, size, width)
    out = np.empty((r, size), dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        part = coefficients[start:stop]
        _evaluate(part[:, :width], part[:, width:], blocks.bases, blocks, out[start:stop])

    workers.run(piece, r, _block_rows(size))
    return out


def interpolate_prefix(code: Code, values: Words) -> Words:
    """Return the coefficients uint64[r, size] of the polynomials with these values at the first `size` points of D."""
    from secureagg.ring import ntt_kernels

    size = _prefix(code, values.shape[1])
    blocks = _blocks(code.prime, code.length, size, size)
    out = np.array(values, order="C")

    def piece(start: int, stop: int) -> None:
        block = out[start:stop, None, :]
        ntt_kernels.inverse(block, blocks.inverse_roots, blocks.inverse_root_companions, blocks.constants)

    workers.run(piece, len(out), _block_rows(size))
    return out


def encode(code: Code, rows: Words, blinding: Words, out: Words | None = None) -> Words:
    """Return the codewords uint64[r, n] of û + Z_H·b, with û through a row of values on H and b of degree below t.

    rows: uint64[r, ℓ]; blinding: uint64[r, t], the coefficients of b; out: where to write the codewords. Of uniform b,
    any t columns of the result say nothing about the rows: Z_H has no zero on D.
    """
    check_shape(rows, (len(rows), code.message_length))
    check_shape(blinding, (len(rows), code.queries))
    blocks = _message_blocks(code)
    factors = blocks.bases + np.uint64(1)  # Z_H on the block; below q, as H and D share no point
    out = np.empty((len(rows), code.length), dtype=np.uint64) if out is None else out
    check_shape(out, (len(rows), code.length))

    def piece(start: int, stop: int) -> None:
        block = rows[start:stop].copy()
        interpolate(code, block)
        _evaluate(block, blinding[start:stop], factors, blocks, out[start:stop])

    workers.run(piece, len(out), _block_rows(code.length))
    return out


def columns_at(code: Code, rows: Words, positions: NDArray[np.intp]) -> Words:
    """Return the values uint64[r, t] at D[positions] of the polynomials through rows of values on H, not blinded.

    rows: uint64[r, ℓ]; positions: integers[t] in [0, n). No more than a few codewords are held at a time.
    """
    check_shape(rows, (len(rows), code.message_length))
    if positions.size and not 0 <= positions.min() <= positions.max() < code.length:
        raise ParameterError(f"positions from {positions.min()} to {positions.max()}: [0, {code.length}) is needed")
    blocks = _message_blocks(code)
    out = np.empty((len(rows), positions.size), dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        block = rows[start:stop].copy()
        interpolate(code, block)
        values = np.empty((stop - start, code.length), dtype=np.uint64)
        _evaluate(block, block[:, :0], blocks.bases, blocks, values)
        np.take(values, positions, axis=1, out=out[start:stop])

    workers.run(piece, len(out), _block_rows(code.length))
    return out


def _message_blocks(code: Code) -> _Blocks:
    return _blocks(code.prime, code.length, code.length, code.message_length)


def _evaluate(low: Words, high: Words, factors: Words, blocks: _Blocks, out: Words) -> None:
    """out[i] = the values of low + factors[j]·high on block j, for every j; on the calling thread."""
    from secureagg.ring import ntt_kernels
    from secureagg.zk import code_kernels

    low, high = np.ascontiguousarray(low), np.ascontiguousarray(high)
    constants = blocks.constants
    shoup = companions(factors, constants[:1])
    by_block = out.reshape(len(out), *blocks.roots.shape)
    code_kernels.fold(low, high, factors, shoup, constants[0], by_block)
    ntt_kernels.forward(by_block, blocks.roots, blocks.root_companions, constants)


def points(code: Code) -> Words:
    """Return the points of D in the order of codewords: uint64[n]."""
    roots = ntt.tables((code.prime,), code.length).roots[0]
    return scale(code.prime, multiply(code.prime, roots, roots), minimal_root(code.prime, 2 * code.length))


def vanishing(code: Code, size: int | None = None) -> Words:
    """Return Z_H = X^ℓ + 1 at the first `size` points of D, all n of them by default; nowhere zero."""
    return np.repeat(_message_blocks(code).bases + np.uint64(1), code.message_length)[: _prefix(code, size)]


def inverse_vanishing(code: Code, size: int | None = None) -> Words:
    """Return 1/Z_H at the first `size` points of D, all n of them by default."""
    values = [pow(int(base) + 1, -1, code.prime) for base in _message_blocks(code).bases]
    return np.repeat(np.array(values, dtype=np.uint64), code.message_length)[: _prefix(code, size)]


def _is_domain(size: int) -> bool:
    return MIN_DEGREE <= size <= MAX_DEGREE and not size & (size - 1)


def _prefix(code: Code, size: int | None) -> int:
    """Return `size`, by default n, if the first so many points of D are a coset."""
    if size is None:
        return code.length
    if not _is_domain(size) or size > code.length:
        raise ParameterError(f"size = {size}: a power of two in [{MIN_DEGREE}, n = {code.length}] is needed")
    return size


def _block_rows(size: int) -> int:
    return max(1, _BLOCK_WORDS // size)
