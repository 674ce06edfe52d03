"""A validity proof's numbers and bytes, as the slow verifier reads them: sizes, decoding, trees, challenges.

Python integers, and no code of the library.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import astuple, dataclass
from fractions import Fraction

from tests.zk.slow_arithmetic import (
    Cubic,
    Row,
    Transcript,
    expansion_key,
    field_elements,
    le,
    require,
    sha256,
    words,
    words_bytes,
)

ROWS_OF_R = 128
LINEAR, PRODUCTS, PROXIMITY, SHARES = 2, 2, 3, 3  # repetitions
MASKS = 2 * LINEAR + PRODUCTS + PROXIMITY


@dataclass(frozen=True)
class Numbers:
    """The statement's numbers, in the order in which the transcript takes them."""

    degree: int
    keys: int
    chunks_per_key: int
    coefficients: int
    fields: int
    field_bits: int
    delta: int
    values: int
    max_weight: int
    norm_bound: int
    error_bound: int
    value_limit: int
    threshold: int
    prime: int


@dataclass(frozen=True)
class Public:
    """What one proof is about; sid and label: of the expansion that the a_j come from."""

    context: bytes
    sid: bytes
    label: str
    ciphertext: Row
    combination: list[Row]
    check: list[Row]


# Sizes


class Sizes:
    """What follows from the statement's numbers and from ℓ, n, t; with the inequalities soundness rests on."""

    def __init__(self, s: Numbers, ell: int, n: int, t: int) -> None:
        q = s.prime
        self.s, self.ell, self.n, self.t = s, ell, n, t
        self.chunks = -(-s.coefficients // s.degree)
        self.secrets = s.keys * s.degree
        self.dealt = s.threshold * (self.secrets + SHARES) + 1
        self.table = 2 * s.value_limit + 1 if s.value_limit else 0
        self.m = projection_bits(s.norm_bound + s.error_bound)
        self.least_weight = 1 if s.max_weight else 0  # a contribution of noise alone has no weight
        spread = s.max_weight - self.least_weight
        self.widths = (s.norm_bound.bit_length(), s.error_bound.bit_length(), spread.bit_length())
        self.bits = ROWS_OF_R * (self.m + 1) + self.widths[0] + self.widths[1] + 2 * self.widths[2]
        counts = (s.values, s.coefficients, self.dealt, self.table, self.bits)
        self.v, self.e, self.d, self.mult, self.b = (-(-count // ell) for count in counts)
        self.inverses = 3 * self.v if self.table else 0
        self.first = self.v + self.e + self.d + self.mult
        self.second = self.b + self.inverses
        self.k = ell + 2 * t
        self.quadratic = 2 * ell + 2 * t
        levels = [2**level for level in range(n.bit_length() - 1)]  # parents at each level
        self.path = 32 * sum(min(t, parents) for parents in levels)
        responses = LINEAR * (1 + self.quadratic) + (PRODUCTS + PROXIMITY) * self.k
        self.elements = responses + t * (self.first + self.second + MASKS)
        self.packed = 104 * -(-self.elements // 16)
        self.bytes = 32 + self.packed + 2 * (16 * t + self.path)

        require(q % 2**18 == 1 and 2**51 < q < 2**52 and pow(2, q - 1, q) == 1, "statement: prime")
        require(q % 3 == 1 and pow(7, (q - 1) // 3, q) != 1, "statement: 7 is a cube")
        require(s.values + 1 <= s.fields * s.coefficients, "statement: the weight has no place")
        require(self.chunks <= s.keys * s.chunks_per_key, "statement: a chunk without a key")
        require(81 * 4**self.m + 2 ** max(self.widths[:2]) < q, "statement: a norm could wrap")
        require(2 ** (self.widths[2] + 1) < q, "statement: a weight could wrap")
        require(ell & (ell - 1) == 0 and n & (n - 1) == 0 and ell >= 16 and 4 * ell <= n <= 2**17, "shape: ℓ, n")
        require(t >= 1 and 2 * t <= ell and self.quadratic <= n, "shape: t")
        require(self.error() <= Fraction(1, 2**100), "shape: soundness")

    def error(self) -> Fraction:
        """The sum of all terms of docs/proofs/soundness.md."""
        q, n, k = self.s.prime, self.n, self.k
        column = max(Fraction(n + k, 2 * n), Fraction(2 * k, n))
        poles = self.v * self.ell + self.table if self.table else 0
        terms = [Fraction(1, 2**ROWS_OF_R), Fraction(2, q**2), Fraction(n, q) ** 3, Fraction(n + 254, q**3)]
        return sum([*terms, column**self.t, Fraction(poles, q**3)], Fraction(0))


def projection_bits(norm_squared: int) -> int:
    """The smallest m with 2^m > 1 + ⌊√(34·norm²)⌋; 34 exceeds ln(2·128·2^41)."""
    return next(m for m in itertools.count() if 2**m > 1 + math.isqrt(34 * norm_squared))


# The proof's bytes and the trees


def check_public(z: Sizes, public: Public) -> None:
    lengths = (len(public.ciphertext), *map(len, public.combination), *map(len, public.check))
    require(lengths == (z.s.coefficients, *[z.secrets] * SHARES, *[SHARES] * z.s.threshold), "instance: lengths")
    for row in (public.ciphertext, *public.combination, *public.check):
        require(0 <= min(row) <= max(row) < z.s.prime, "instance: not reduced")


@dataclass(frozen=True)
class Proof:
    root: bytes
    sums: Row
    linear: list[Row]
    quotients: list[Row]
    proximity: list[Row]
    columns: list[list[Row]]  # of both oracles, row by row
    salts: list[list[bytes]]
    paths: list[bytes]


def parse(z: Sizes, encoded: bytes) -> Proof:
    require(len(encoded) == z.bytes, "proof: length")
    numbers: Row = []
    for start in range(32, 32 + z.packed, 104):
        group = int.from_bytes(encoded[start : start + 104], "little")
        numbers += [group >> 52 * i & (2**52 - 1) for i in range(16)]
    require(max(numbers) < z.s.prime, "proof: an element is not reduced")
    require(not any(numbers[z.elements :]), "proof: padding of the elements")
    rest = iter(numbers)

    def matrix(rows: int, width: int) -> list[Row]:
        return [list(itertools.islice(rest, width)) for _ in range(rows)]

    sums = matrix(1, LINEAR)[0]
    linear, quotients, proximity = matrix(LINEAR, z.quadratic), matrix(PRODUCTS, z.k), matrix(PROXIMITY, z.k)
    columns = [matrix(z.first, z.t), matrix(z.second + MASKS, z.t)]
    salts, paths, at = [], [], 32 + z.packed
    for _ in range(2):
        salts.append([encoded[at + 16 * i :][:16] for i in range(z.t)])
        paths.append(encoded[at + 16 * z.t :][: z.path])
        at += 16 * z.t + z.path
    return Proof(encoded[:32], sums, linear, quotients, proximity, columns, salts, paths)


def check_tree(n: int, positions: Row, leaves: list[bytes], path: bytes, root: bytes, which: str) -> None:
    """Level by level from the leaves up, from left to right: what is not computed is taken off the path."""
    level, at = dict(zip(positions, leaves, strict=True)), 0
    while n > 1:
        above = {}
        for parent in sorted({position // 2 for position in level}):
            pair = []
            for child in (2 * parent, 2 * parent + 1):
                if child not in level:
                    level[child], at = path[at : at + 32], at + 32
                pair.append(level[child])
            above[parent] = sha256(b"\x01", *pair)
        level, n = above, n // 2
    require(level[0] == root, f"{which} oracle: root")
    require(not any(path[at:]), f"{which} oracle: padding of the path")


# Challenges


@dataclass(frozen=True)
class Challenges:
    """All that the transcript gives, in the order in which it is drawn."""

    projection: bytes
    alpha: Cubic
    linear: bytes
    products: bytes
    proximity: bytes
    positions: Row


def draw(z: Sizes, public: Public, root: bytes, proof: Proof) -> Challenges:
    transcript = Transcript(b"secureagg v1 validity")
    transcript.absorb(b"statement", *(le(number, 16) for number in astuple(z.s)))
    transcript.absorb(b"context", public.context)
    transcript.absorb(b"polynomials", expansion_key(public.sid, public.label))
    transcript.absorb(b"ciphertext", sha256(words_bytes(public.ciphertext)))
    transcript.absorb(b"first root", root)
    transcript.absorb(b"combination", *map(words_bytes, public.combination))
    transcript.absorb(b"check", *map(words_bytes, public.check))
    projection = transcript.challenge(b"projection")
    a0, a1, a2 = field_elements(transcript.challenge(b"lookup"), "alpha", 3, z.s.prime)
    transcript.absorb(b"second root", proof.root)
    transcript.absorb(b"sums of masks", words_bytes(proof.sums))
    linear, products, proximity = (transcript.challenge(label) for label in (b"linear", b"products", b"proximity"))
    transcript.absorb(b"responses", *map(words_bytes, [*proof.linear, *proof.quotients, *proof.proximity]))
    positions = query_positions(transcript.challenge(b"queries"), z)
    return Challenges(projection, (a0, a1, a2), linear, products, proximity, positions)


def query_positions(seed: bytes, z: Sizes) -> Row:
    """The low bits of word after word, until there are t different ones; then in ascending order."""
    key, found = expansion_key(seed, "positions/queries"), set[int]()
    for at in itertools.count():
        if len(found) == z.t:
            return sorted(found)
        found.add(words(key, at, 1)[0] % z.n)
    raise AssertionError
