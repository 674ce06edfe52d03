"""Elements of F_q in arrays: products and sums, by element, by row and by column, on all cores.

Matrices are uint64[rows, columns] in [0, q), C-ordered or some columns of such a matrix. No argument is changed.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from secureagg.errors import ParameterError
from secureagg.ring import ntt, residues, workers
from secureagg.ring.ntt import Words
from secureagg.ring.params import MIN_DEGREE

__all__ = [
    "add",
    "check_shape",
    "combine",
    "companions",
    "dot",
    "inner_products",
    "multiply",
    "scale",
    "subtract",
    "sums_of_squares",
]

_BLOCK_COLUMNS = 1 << 10  # three sums of 8 KiB and a piece of a row or two: the first-level cache holds them
_DOT_COLUMNS = 1 << 8


def combine(prime: int, rows: Words, coefficients: Words) -> Words:
    """Return Σ_i coefficients[i]·rows[i] mod q: uint64[w], from uint64[r, w] and uint64[r]."""
    from secureagg.zk import code_kernels

    check_shape(coefficients, (len(rows),))
    flat, stride = _flat(rows)
    constants = _constants(prime)
    factors = np.ascontiguousarray(coefficients)
    shoup = companions(factors, constants[None])
    out = np.empty(rows.shape[1], dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        code_kernels.combine(flat[start:], stride, factors, shoup, constants, out[start:stop])

    workers.run(piece, out.size, _BLOCK_COLUMNS)
    return out


def inner_products(prime: int, left: Words, right: Words) -> Words:
    """Return Σ_i left[i]·right[i] mod q, column by column: uint64[w], from two uint64[r, w]."""
    from secureagg.zk import code_kernels

    check_shape(right, left.shape)
    left_flat, left_stride = _flat(left)
    right_flat, right_stride = _flat(right)
    rows = len(left)
    constants = _limb_constants(prime)
    out = np.empty(left.shape[1], dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        code_kernels.inner_products(
            left_flat[start:], left_stride, right_flat[start:], right_stride, rows, constants, out[start:stop]
        )

    workers.run(piece, out.size, _BLOCK_COLUMNS)
    return out


def sums_of_squares(prime: int, rows: Words) -> Words:
    """Return Σ_i rows[i]² mod q, column by column: uint64[w]."""
    return inner_products(prime, rows, rows)


def dot(prime: int, left: Words, right: Words) -> int:
    """Return Σ_j left[j]·right[j] mod q of two uint64[w]; fastest where 256 divides w."""
    shape = (-1, math.gcd(left.size, _DOT_COLUMNS))
    check_shape(right, left.shape)
    left, right = np.ascontiguousarray(left), np.ascontiguousarray(right)
    sums: list[int] = inner_products(prime, left.reshape(shape), right.reshape(shape)).tolist()
    return sum(sums) % prime


def multiply(prime: int, values: Words, others: Words) -> Words:
    """Return values·others mod q, element by element, of any one shape."""
    from secureagg.ring import ntt_kernels

    check_shape(others, values.shape)
    constants = _constants(prime)[None]
    out = np.array(values, order="C")
    rows, factors = _rows(out), _rows(np.ascontiguousarray(others))

    def piece(start: int, stop: int) -> None:
        ntt_kernels.multiply(rows[start:stop], factors[start:stop], constants)

    workers.run(piece, len(rows), ntt.block_chunks(rows))
    return out


def scale(prime: int, values: Words, factor: int) -> Words:
    """Return factor·values mod q, of any shape, for any integer factor."""
    from secureagg.ring import ntt_kernels

    constants = _constants(prime)[None]
    out = np.array(values, order="C")
    rows = _rows(out)
    factor %= prime
    fixed = np.full(rows.shape[1:], factor, dtype=np.uint64)
    companions = np.full(rows.shape[1:], (factor << 64) // prime, dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        ntt_kernels.multiply_fixed(rows[start:stop], fixed, companions, constants)

    workers.run(piece, len(rows), ntt.block_chunks(rows))
    return out


def add(prime: int, values: Words, others: Words) -> Words:
    """Return values + others mod q, element by element, of any one shape."""
    check_shape(others, values.shape)
    out = np.array(values, order="C")
    residues.add(_rows(out), _rows(np.ascontiguousarray(others)), (prime,))
    return out


def subtract(prime: int, values: Words, others: Words) -> Words:
    """Return values − others mod q, element by element, of any one shape."""
    check_shape(others, values.shape)
    out = np.array(values, order="C")
    residues.subtract(_rows(out), _rows(np.ascontiguousarray(others)), (prime,))
    return out


def _rows(values: Words) -> Words:
    """View a contiguous array of any shape as the kernels of `ring` take it: uint64[rows, 1, columns]."""
    return values.reshape(math.prod(values.shape[:-1]), 1, values.shape[-1])


def _flat(rows: Words) -> tuple[Words, int]:
    """View a matrix, or some columns of one, as (the words from its first to its last, words from row to row)."""
    count, width = rows.shape
    item = np.dtype(np.uint64).itemsize
    step, inner = rows.strides if rows.size else (0, item)  # those of an empty array mean nothing
    if rows.dtype != np.uint64 or (width > 1 and inner != item) or step < 0 or step % item:
        raise ParameterError(f"{rows.dtype}{list(rows.shape)} given, uint64 with whole rows or slices of them needed")
    words = (count - 1) * (step // item) + width if rows.size else 0
    return np.lib.stride_tricks.as_strided(rows, (words,), (item,), writeable=False), step // item


def companions(fixed: Words, constants: Words) -> Words:
    """Return ⌊w·2^64/q⌋ of each word of `fixed`; constants: a row of `ntt.Tables`, in one more dimension."""
    from secureagg.ring import ntt_kernels

    out = np.empty(fixed.size, dtype=np.uint64)
    ntt_kernels.companions(fixed[None], constants, out[None])
    return out


def _constants(prime: int) -> Words:
    """q and its reciprocals, which are the same whatever the degree: the row of `ntt.Tables`."""
    constants: Words = ntt.tables((prime,), MIN_DEGREE).constants[0]
    return constants


@lru_cache(maxsize=16)
def _limb_constants(prime: int) -> Words:
    weights = [(1 << 26) % prime, (1 << 52) % prime]
    constants = [prime, (1 << 83) // prime]
    for weight in weights:
        constants += [weight, (weight << 64) // prime]
    return np.array(constants, dtype=np.uint64)


def check_shape(values: Words, shape: tuple[int, ...]) -> None:
    """Raise ParameterError unless `values` is a uint64 array of this shape."""
    if values.shape != shape or values.dtype != np.uint64:
        raise ParameterError(f"{values.dtype}{list(values.shape)} given, uint64{list(shape)} needed")
