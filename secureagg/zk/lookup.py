"""The range argument: every value is an entry of the table −C … C, by logarithmic derivatives.

Σ_j 1/(α − v_j) = Σ_a m_a/(α − a) for a random α, with the multiplicities m_a committed before α is drawn (Haböck,
eprint 2022/1530, Lemma 5; docs/proofs/soundness.md, Lookup). The field of q elements is too small for α, so it is
drawn from F_q[Y]/(Y³ − 7), whose elements are three rows' worth of F_q: uint64[3, …], constant first.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError
from secureagg.ring.ntt import Words
from secureagg.zk import field as fq

__all__ = ["NON_CUBE", "inverses", "multiplication_matrix", "multiplicities"]

NON_CUBE = 7  # no cube mod PRIMES[0], and 3 divides q − 1, so Y³ − 7 is irreducible


def multiplicities(values: NDArray[np.int64], limit: int) -> Words:
    """Return how often each of −C … C occurs: uint64[2C + 1]. Requires: |values| ≤ C = `limit`."""
    return np.bincount(values + limit, minlength=2 * limit + 1).astype(np.uint64)


def multiplication_matrix(alpha: Words, prime: int) -> list[list[int]]:
    """Return the matrix of h ↦ α·h on coordinate columns: (α·h)_i = Σ_m matrix[i][m]·h_m."""
    a0, a1, a2 = (int(a) for a in alpha)
    g1, g2 = NON_CUBE * a1 % prime, NON_CUBE * a2 % prime
    return [[a0, g2, g1], [a1, a0, g2], [a2, a1, a0]]


def inverses(alpha: Words, limit: int, prime: int) -> Words:
    """Return 1/(α − a) for a = −C … C: uint64[3, 2C + 1].

    1/β = (b0² − 7b1b2, 7b2² − b0b1, b1² − b0b2)/N with the norm N = b0³ + 7b1³ + 49b2³ − 21·b0b1b2, which is zero for
    β = 0 alone. Raises: EncodingError if α lies in F_q, which a hash does with probability 2^-104.
    """
    q, (a0, b1, b2) = prime, (int(a) for a in alpha)
    if not (b1 or b2):
        raise EncodingError("proof: the challenge of the range argument lies in the base field")
    table = np.arange(-limit, limit + 1, dtype=np.int64)
    b0 = ((a0 - table) % q).astype(np.uint64)
    square = fq.multiply(q, b0, b0)
    c0 = _shift(q, square, -NON_CUBE * b1 * b2)
    c1 = _shift(q, fq.scale(q, b0, -b1 % q), NON_CUBE * b2 * b2)
    c2 = _shift(q, fq.scale(q, b0, -b2 % q), b1 * b1)
    # N = b0·c0 + 7·(b1·c2 + b2·c1)
    tail = fq.add(q, fq.scale(q, c2, NON_CUBE * b1 % q), fq.scale(q, c1, NON_CUBE * b2 % q))
    norm = _inverse(q, fq.add(q, fq.multiply(q, b0, c0), tail))
    return np.stack([fq.multiply(q, component, norm) for component in (c0, c1, c2)])


def _shift(prime: int, values: Words, constant: int) -> Words:
    return fq.add(prime, values, np.full_like(values, constant % prime))


def _inverse(prime: int, values: Words) -> Words:
    """Return values^(q − 2): about a hundred products of whole arrays."""
    result = np.ones_like(values)
    for bit in bin(prime - 2)[2:]:
        result = fq.multiply(prime, result, result)
        if bit == "1":
            result = fq.multiply(prime, result, values)
    return result
