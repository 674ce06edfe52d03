"""How many bits of soundness a proof of given sizes has, term by term, and the smallest sizes that give enough.

Numbers in, bits out. Every term is the probability that one round of the interactive proof lets a false statement
pass; in the random-oracle model a prover who tries h hashes succeeds with at most h times their sum (BCS, Ben-Sasson,
Chiesa and Spooner, TCC 2016-B). docs/proofs/soundness.md derives each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from secureagg.errors import ParameterError
from secureagg.ring.params import MAX_DEGREE, MIN_DEGREE

__all__ = [
    "LINEAR_REPETITIONS",
    "MASK_ROWS",
    "PRODUCT_REPETITIONS",
    "PROJECTION_ROWS",
    "PROXIMITY_REPETITIONS",
    "REQUIRED_BITS",
    "SHARE_REPETITIONS",
    "Rows",
    "Shape",
    "choose_shape",
    "projection_bits",
    "projection_norm_bound",
    "soundness_terms",
    "total_bits",
]

REQUIRED_BITS = 100.0
LINEAR_REPETITIONS = PRODUCT_REPETITIONS = 2
SHARE_REPETITIONS = 3
PROXIMITY_REPETITIONS = 3
MAX_MEMBERS = 254  # each of whom a wrong share might pass
MASK_ROWS = 2 * LINEAR_REPETITIONS + PRODUCT_REPETITIONS + PROXIMITY_REPETITIONS

PROJECTION_ROWS = 128
_PROJECTION_FACTOR = 9  # ‖x‖ ≥ 9·2^m makes a row land in [−2^m, 2^m) with probability ≤ 1/2
_PROJECTION_TAIL = 34  # > 49·ln 2: an honest projection exceeds 2^m with probability ≤ 2^-41

_EXPANSIONS = (4, 8)  # n/ℓ
_SMALL_CODEWORDS = 1 << 22  # words; up to here a wider code costs time that nobody notices


@dataclass(frozen=True)
class Rows:
    """How many rows of ℓ elements the two oracles of a statement have, masks not counted."""

    first: int
    second: int


@dataclass(frozen=True)
class Shape:
    """The sizes of one proof: message length ℓ, code length n, queries t, rows of both oracles.

    Guarantees: `degree` k' = ℓ + 2t bounds every row's degree, and 2ℓ + 2t ≤ n.
    """

    message_length: int
    length: int
    queries: int
    rows: Rows

    @property
    def degree(self) -> int:
        """k' = ℓ + 2t: every row, also a mask, is a polynomial of a smaller degree."""
        return self.message_length + 2 * self.queries

    @property
    def linear_degree(self) -> int:
        """2ℓ + 2t: coefficients of a linear test's response."""
        return 2 * (self.message_length + self.queries)

    @property
    def second_rows(self) -> int:
        """Rows of the second oracle with its masks, which stand last."""
        return self.rows.second + MASK_ROWS

    @property
    def elements(self) -> int:
        """Field elements in a proof: the masks' sums, the responses, the opened columns."""
        responses = LINEAR_REPETITIONS * (1 + self.linear_degree)
        responses += (PRODUCT_REPETITIONS + PROXIMITY_REPETITIONS) * self.degree
        return responses + self.queries * (self.rows.first + self.second_rows)

    @property
    def path_nodes(self) -> int:
        """The most hashes one tree's multiproof can need: at a level of s nodes, t of them or every second one."""
        levels = (1 << level for level in range(1, self.length.bit_length()))
        return sum(min(self.queries, size // 2) for size in levels)


def projection_bits(norm_squared: int) -> int:
    """Return m with |p_k| < 2^m for all rows of an honest projection, but with probability ≤ 2^-41.

    A ternary row of x has E exp(s·⟨R, x⟩) = Π cosh²(s·x_i/2) ≤ exp(s²‖x‖²/4), so |⟨R, x⟩| ≥ z with probability at
    most 2·exp(−z²/‖x‖²); z² = 34·‖x‖² covers all rows, since ln(2·128·2^41) = 49·ln 2 < 34.
    """
    return (math.isqrt(_PROJECTION_TAIL * norm_squared) + 1).bit_length()


def projection_norm_bound(bits: int) -> int:
    """Return 81·4^m: a vector with |p_k| ≤ 2^m in all rows has a smaller squared norm, but with probability ≤ 2^-128.

    docs/proofs/projection.md: a row lands in an interval of width 2^(m+1) with probability ≤ 1/2 otherwise, either
    because one entry is at least 2^(m+1) in size or by the Berry–Esseen theorem (Shevtsova 2010, constant 0.56):
    (2/√π + 4·0.56·√2)/9 < 0.48.
    """
    return _PROJECTION_FACTOR**2 << (2 * bits)


def soundness_terms(shape: Shape, prime: int, lookup_poles: int) -> Mapping[str, float]:
    """Return the bits of each term: what a false statement is refused with, −log2 of the probability that it passes.

    lookup_poles: rows' positions plus table entries of the range argument, 0 without one.
    """
    q, n, k = math.log2(prime), shape.length, shape.degree
    rate = k / n
    passed = max((1 + rate) / 2, 2 * k / n)
    terms = {
        "projection": float(PROJECTION_ROWS),
        "share check": SHARE_REPETITIONS * q - math.log2(MAX_MEMBERS),
        "linear and norms": LINEAR_REPETITIONS * q,
        "products": PRODUCT_REPETITIONS * q,
        "proximity": PROXIMITY_REPETITIONS * (q - math.log2(n)),
        "undetected columns": PROXIMITY_REPETITIONS * q - math.log2(n),
        "queries": -shape.queries * math.log2(passed) if passed < 1 else 0.0,
    }
    if lookup_poles:
        terms["range lookup"] = 3 * q - math.log2(lookup_poles)
    return terms


def total_bits(terms: Mapping[str, float]) -> float:
    """Return −log2 of the sum of the terms' probabilities."""
    weakest = min(terms.values())
    return weakest - math.log2(sum(2 ** (weakest - bits) for bits in terms.values()))


def choose_shape(prime: int, rows: Mapping[int, Rows], lookup_poles: Mapping[int, int]) -> Shape:
    """Return the shape with the smallest proof among those of at least 100 bits.

    rows, lookup_poles: by message length ℓ, a power of two. A code of length 8ℓ instead of 4ℓ is considered while all
    codewords together stay below 2^22 words. Raises: ParameterError if no length reaches 100 bits.
    """
    found = []
    for message_length, needed in rows.items():
        for expansion in _EXPANSIONS:
            length = expansion * message_length
            words = length * (needed.first + needed.second + MASK_ROWS)
            if length > MAX_DEGREE or (expansion > _EXPANSIONS[0] and words > _SMALL_CODEWORDS):
                continue
            shape = _fewest_queries(message_length, length, needed, prime, lookup_poles[message_length])
            if shape is not None:
                found.append(shape)
    if not found:
        raise ParameterError(f"no code of length up to {MAX_DEGREE} proves this statement with {REQUIRED_BITS} bits")
    return min(found, key=lambda shape: 52 * shape.elements + 2 * 8 * (32 * shape.path_nodes + 16 * shape.queries))


def _fewest_queries(message_length: int, length: int, rows: Rows, prime: int, poles: int) -> Shape | None:
    for queries in range(1, message_length // 2 + 1):
        shape = Shape(message_length, length, queries, rows)
        if total_bits(soundness_terms(shape, prime, poles)) >= REQUIRED_BITS:
            return shape
    return None


def message_lengths() -> tuple[int, ...]:
    """Return the message lengths a code may have."""
    return tuple(1 << bits for bits in range(MIN_DEGREE.bit_length() - 1, MAX_DEGREE.bit_length() - 2))
