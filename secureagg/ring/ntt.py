"""Number-theoretic transforms and products of elements of R_q, in place, on all cores.

Values are `uint64[chunks, primes, N]` in C order, canonical (below the prime of their row), either as coefficients or
in NTT form: position k of NTT form holds the value at ψ^(2·rev(k) + 1), with ψ the smallest primitive 2N-th root and
rev the bit reversal, exactly as SEAL has it. N need not be a ring's degree: any power of two from 16 to 2^17.

Every function changes its first argument and returns None, unless it says otherwise. Long arrays are shared among
the threads of `workers`; called from inside a piece of such work, a function just runs there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import workers
from secureagg.ring.params import MAX_DEGREE, MIN_DEGREE, check_primes, minimal_root

__all__ = [
    "Tables",
    "Words",
    "block_chunks",
    "check_words",
    "companions",
    "forward",
    "inverse",
    "multiply",
    "multiply_fixed",
    "tables",
]

Words = NDArray[np.uint64]

_BLOCK_WORDS = 1 << 15  # 256 KiB at a time: few enough waits for the GIL, and later passes meet it in cache


@dataclass(frozen=True)
class Tables:
    """What the kernels need to know of a ring. Read-only arrays.

    roots, inverse_roots: uint64[primes, N], ψ^rev(k) and ψ^−rev(k), each with ⌊w·2^64/q⌋ as its companion.
    constants: uint64[primes, 5], in each row q, ⌊2^83/q⌋, ⌊2^115/q⌋, N^−1 mod q and ⌊(N^−1 mod q)·2^64/q⌋.
    """

    roots: Words
    root_companions: Words
    inverse_roots: Words
    inverse_root_companions: Words
    constants: Words


@lru_cache(maxsize=32)
def tables(primes: tuple[int, ...], degree: int) -> Tables:
    """Return the tables of Z_q[X]/(X^N + 1), q = Π primes; made once per process.

    Requires: distinct primes in (2^51, 2^52), each ≡ 1 mod 2^18; N = `degree` a power of two in [16, 2^17].
    """
    check_primes(primes)
    if not MIN_DEGREE <= degree <= MAX_DEGREE or degree & (degree - 1):
        raise ParameterError(f"rows of N = {degree}: a power of two with {MIN_DEGREE} ≤ N ≤ {MAX_DEGREE} is needed")
    order = _bit_reversal(degree)
    constants = np.array([_constants(q, degree) for q in primes], dtype=np.uint64)
    roots, inverse_roots = np.empty((2, len(primes), degree), dtype=np.uint64)
    for p, q in enumerate(primes):
        psi = minimal_root(q, 2 * degree)
        roots[p] = _powers(psi, degree, q)[order]
        inverse_roots[p] = _powers(pow(psi, -1, q), degree, q)[order]
    arrays = (roots, _companions(roots, constants), inverse_roots, _companions(inverse_roots, constants), constants)
    for array in arrays:
        array.flags.writeable = False
    return Tables(*arrays)


def _constants(q: int, degree: int) -> list[int]:
    n_inverse = pow(degree, -1, q)
    return [q, (1 << 83) // q, (1 << 115) // q, n_inverse, (n_inverse << 64) // q]


def _powers(base: int, count: int, q: int) -> Words:
    powers = [1]
    for _ in range(count - 1):
        powers.append(powers[-1] * base % q)
    return np.array(powers, dtype=np.uint64)


def _bit_reversal(degree: int) -> NDArray[np.intp]:
    order = np.zeros(1, dtype=np.intp)
    while order.size < degree:
        order = np.concatenate((2 * order, 2 * order + 1))
    return order


def forward(values: Words, primes: tuple[int, ...]) -> None:
    """Turn coefficients into NTT form."""
    from secureagg.ring import ntt_kernels

    t = _tables_for(values, primes)

    def piece(start: int, stop: int) -> None:
        ntt_kernels.forward(values[start:stop], t.roots, t.root_companions, t.constants)

    workers.run(piece, len(values), block_chunks(values))


def inverse(values: Words, primes: tuple[int, ...]) -> None:
    """Turn NTT form into coefficients."""
    from secureagg.ring import ntt_kernels

    t = _tables_for(values, primes)

    def piece(start: int, stop: int) -> None:
        ntt_kernels.inverse(values[start:stop], t.inverse_roots, t.inverse_root_companions, t.constants)

    workers.run(piece, len(values), block_chunks(values))


def multiply(values: Words, others: Words, primes: tuple[int, ...]) -> None:
    """values *= others, element by element mod each prime: the ring's product if both are in NTT form."""
    from secureagg.ring import ntt_kernels

    constants = _tables_for(values, primes).constants
    check_words(others, primes, values.shape)

    def piece(start: int, stop: int) -> None:
        ntt_kernels.multiply(values[start:stop], others[start:stop], constants)

    workers.run(piece, len(values), block_chunks(values))


def companions(fixed: Words, primes: tuple[int, ...]) -> Words:
    """Return ⌊w·2^64/q⌋ for the canonical words of `fixed`: uint64[primes, N], as `multiply_fixed` needs them."""
    check_words(fixed[None], primes)
    return _companions(fixed, tables(primes, fixed.shape[1]).constants)


def _companions(fixed: Words, constants: Words) -> Words:
    from secureagg.ring import ntt_kernels

    out = np.empty_like(fixed)
    ntt_kernels.companions(fixed, constants, out)
    return out


def multiply_fixed(values: Words, fixed: Words, fixed_companions: Words, primes: tuple[int, ...]) -> None:
    """values *= fixed, the same uint64[primes, N] for every chunk; about twice as fast as `multiply`.

    Requires: fixed_companions = companions(fixed, primes).
    """
    from secureagg.ring import ntt_kernels

    constants = _tables_for(values, primes).constants
    check_words(fixed[None], primes, (1, *values.shape[1:]))

    def piece(start: int, stop: int) -> None:
        ntt_kernels.multiply_fixed(values[start:stop], fixed, fixed_companions, constants)

    workers.run(piece, len(values), block_chunks(values))


def _tables_for(values: Words, primes: tuple[int, ...]) -> Tables:
    check_words(values, primes)
    return tables(primes, values.shape[2])


def check_words(values: Words, primes: tuple[int, ...], shape: tuple[int, ...] | None = None) -> None:
    """Raise ParameterError unless `values` is a C-ordered uint64[chunks, primes, N], of this shape if one is given."""
    fits = values.ndim == 3 and values.shape[1] == len(primes) and shape in (None, values.shape)
    if not (fits and values.dtype == np.uint64 and values.flags.c_contiguous):
        expected = f"chunks, {len(primes)}, N" if shape is None else ", ".join(map(str, shape))
        raise ParameterError(f"{values.dtype}{list(values.shape)} given, C-ordered uint64[{expected}] needed")


def block_chunks(values: Words) -> int:
    """Return how many chunks of uint64[chunks, primes, N] a thread should take at a time."""
    return max(1, _BLOCK_WORDS // max(1, values.shape[1] * values.shape[2]))
