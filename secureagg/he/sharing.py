"""Shamir sharing of the one-time keys: the field, the points, and what an answer weighs. No secret passes here.

Member m (counted from 0) stands at point x = m + 1. Without proofs the field is F_p, p the smallest prime above twice
the largest key sum; with proofs it is F_q, q the ring's prime, over which the proof speaks about key and shares alike.
Shares and answers are packed at the width of the prime. Everything here is exact for every prime below 2^52.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring.masks import fill_public
from secureagg.ring.params import check_primes
from secureagg.ring.xof import PublicExpansion

__all__ = [
    "Sharing",
    "check_combination",
    "combine",
    "evaluate_from",
    "key_sum",
    "lagrange_at",
    "pack_elements",
    "unpack_elements",
    "verify_shares",
]

CHECK_BITS = 104  # a wrong share passes the share check with probability ≤ 2^-104
UNION_BITS = 8  # over F_q, where proofs rest on it: some wrong share of up to 254 passes with probability ≤ 2^-104
SMALL_MODULUS = 2**32


@dataclass(frozen=True)
class Sharing:
    """How one contribution's key of `secrets` integers is shared among `members`, `threshold` of whom reconstruct.

    Requires: modulus prime, modulus > 2·max|Σ key coefficient| and > members; 1 ≤ threshold ≤ members ≤ 254; modulus
    below 2^32, or one of the ring's 52-bit primes.
    """

    secrets: int
    modulus: int
    members: int
    threshold: int

    def __post_init__(self) -> None:
        if not 1 <= self.threshold <= self.members < self.modulus:
            raise ParameterError(
                f"sharing needs 1 ≤ threshold ≤ members < modulus; got {self.threshold}, {self.members}, {self.modulus}"
            )
        if self.modulus >= SMALL_MODULUS:
            check_primes((self.modulus,))

    def add(self, total: NDArray[np.int64], shares: NDArray[np.int64]) -> None:
        """total += shares mod p, in place, so that any number of shares can be added. Requires: both in [0, p)."""
        total += shares
        total -= self.modulus * (total >= self.modulus)

    @property
    def element_bits(self) -> int:
        """Bits of a packed field element."""
        return (self.modulus - 1).bit_length()

    @property
    def repetitions(self) -> int:
        """Random linear combinations in the share check: ⌈104 / log2 p⌉, and ⌈112 / log2 q⌉ = 3 over F_q."""
        bits = CHECK_BITS + (UNION_BITS if self.modulus >= SMALL_MODULUS else 0)
        return math.ceil(bits / math.log2(self.modulus))

    @property
    def share_bytes(self) -> int:
        """Bytes of one member's shares: `secrets` share elements and one mask element a repetition."""
        return -(-(self.secrets + self.repetitions) * self.element_bits // 8)

    @property
    def answer_bytes(self) -> int:
        """Bytes of one member's share sums."""
        return -(-self.secrets * self.element_bits // 8)

    @property
    def check_bytes(self) -> int:
        """Bytes of the published check polynomials T: `threshold` coefficients a repetition."""
        return -(-self.repetitions * self.threshold * self.element_bits // 8)


def pack_elements(sharing: Sharing, elements: NDArray[np.int64]) -> bytes:
    """Return field elements packed at `element_bits`, least significant bit first, zero-padded to a byte.

    Requires: every element in [0, p).
    """
    from secureagg.he import sharing_kernels

    packed = np.zeros(-(-elements.size * sharing.element_bits // 8), dtype=np.uint8)
    sharing_kernels.pack(elements, np.uint64(sharing.element_bits), packed)
    return packed.tobytes()


def unpack_elements(sharing: Sharing, packed: bytes, count: int) -> NDArray[np.int64]:
    """Return `count` field elements as int64[count].

    Raises: EncodingError if the length is wrong, an element is p or more, or a padding bit is set.
    """
    from secureagg.he import sharing_kernels

    expected = -(-count * sharing.element_bits // 8)
    if len(packed) != expected:
        raise EncodingError(f"{len(packed)} bytes of field elements, {expected} expected")
    elements = np.empty(count, dtype=np.int64)
    padding = sharing_kernels.unpack(np.frombuffer(packed, dtype=np.uint8), np.uint64(sharing.element_bits), elements)
    if padding or (elements >= sharing.modulus).any():
        raise EncodingError("a field element is not in canonical form")
    return elements


def check_combination(sharing: Sharing, challenge: bytes) -> NDArray[np.int64]:
    """Return the random combination ρ of the share check: int64[repetitions, secrets], each in [0, p).

    For p < 2^32 expanded from 64-bit words mod p: each element's bias is below p/2^64, which costs the check nothing
    measurable. Over F_q that bias would be 2^-12, so words are cut to 52 bits and refused where they are not below q
    (`ring.masks`), which leaves none.
    """
    expansion = PublicExpansion(challenge, "share check")
    words = np.empty((1, 1, sharing.repetitions * sharing.secrets), dtype=np.uint64)
    if sharing.modulus < SMALL_MODULUS:
        expansion.fill(0, words)
        words %= np.uint64(sharing.modulus)
    else:
        fill_public(words, expansion, 0, (sharing.modulus,))
    return words.reshape(sharing.repetitions, sharing.secrets).view(np.int64)


def combine(sharing: Sharing, rows: NDArray[np.int64], combination: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return ⟨combination_r, row_k⟩ mod p: int64[k, r] of int64[k, secrets] and int64[r, secrets], all in [0, p)."""
    from secureagg.he import sharing_kernels

    out = np.empty((len(rows), len(combination)), dtype=np.int64)
    sharing_kernels.combine(rows, combination, np.int64(sharing.modulus), out)
    return out


def verify_shares(sharing: Sharing, member_id: int, challenge: bytes, check: bytes, plain: bytes) -> NDArray[np.int64]:
    """Return one member's shares, int64[secrets], if they lie on the published check polynomials.

    ⟨ρ, share⟩ + mask share = Σ_k T_k x^k for every repetition. When every honest member's shares pass, all of them
    lie on one polynomial of degree < t, but with probability ≤ p^(−repetitions) ≤ 2^-CHECK_BITS: a dealing off any such
    polynomial makes the combination one too, except for a 1/p fraction of ρ, and ρ is drawn after the boxes are fixed.
    With proofs the polynomials are committed and T is proven, so each member's acceptance says that its shares are of
    the key that encrypts (docs/proofs/shares.md).
    Raises: EncodingError otherwise.
    """
    p, x = sharing.modulus, member_id + 1
    elements = unpack_elements(sharing, plain, sharing.secrets + sharing.repetitions)
    shares, masks = elements[: sharing.secrets], elements[sharing.secrets :]
    published = unpack_elements(sharing, check, sharing.repetitions * sharing.threshold)
    expected = np.zeros(sharing.repetitions, dtype=np.int64)
    for coefficients in published.reshape(sharing.threshold, sharing.repetitions)[::-1]:
        expected = (expected * x + coefficients) % p
    found = combine(sharing, shares[None], check_combination(sharing, challenge))[0]
    if not np.array_equal((found + masks) % p, expected):
        raise EncodingError("the shares do not lie on the published check polynomials")
    return shares


def lagrange_at(sharing: Sharing, points: Sequence[int], at: int) -> list[int]:
    """Return the Lagrange coefficients mod p that carry values at `points` to the value at `at`."""
    p, coefficients = sharing.modulus, []
    for i in points:
        numerator = denominator = 1
        for j in points:
            if i != j:
                numerator = numerator * (at - j) % p
                denominator = denominator * (i - j) % p
        coefficients.append(numerator * pow(denominator, -1, p) % p)
    return coefficients


def evaluate_from(
    sharing: Sharing, members: Sequence[int], sums: Mapping[int, NDArray[np.int64]], at: int
) -> NDArray[np.int64]:
    """Return the polynomial through these members' share sums, evaluated at point `at`: int64[secrets] in [0, p)."""
    from secureagg.he import sharing_kernels

    points = [member + 1 for member in members]
    total, p = np.zeros(sharing.secrets, dtype=np.int64), np.int64(sharing.modulus)
    for member, coefficient in zip(members, lagrange_at(sharing, points, at), strict=True):
        sharing_kernels.add_scaled(total, np.int64(coefficient), sums[member], p)
    return total


def key_sum(sharing: Sharing, members: Sequence[int], sums: Mapping[int, NDArray[np.int64]]) -> NDArray[np.int64]:
    """Return Σs, centred in (−p/2, p/2), from exactly `threshold` members' share sums."""
    value = evaluate_from(sharing, members, sums, 0)
    return np.where(value > sharing.modulus // 2, value - sharing.modulus, value)
