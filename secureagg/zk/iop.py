"""The interactive oracle proof: rows of field elements committed twice, and three tests of what stands in them.

Independent of what is proven. A row is a polynomial of degree < k' that takes its ℓ elements on H = {x : x^ℓ = −1}
and is blinded by a multiple of Z_H = X^ℓ + 1; what is committed is its values on D, column by column (Ligero, Ames et
al., CCS 2017; docs/proofs/zero-knowledge.md for the masks). Two oracles, because rows of the second may depend on
challenges drawn after the first; the second also holds the masks, its last rows.

| test | shows | response |
|---|---|---|
| linear | Σ_H (Σ L_r·u_r + Σ τ_g·u_r²) is the target | that polynomial + S + Z_H·T, and Σ_H S beforehand |
| products | Σ β·u_a·u_b + Σ λ_r·u_r + c vanishes on H | its quotient by Z_H, + T_b |
| proximity | all rows, masks too, have degree < k' | a random combination of all rows, + P |

All challenges of all repetitions are drawn from one state of the transcript, before any response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError
from secureagg.ring import workers
from secureagg.ring.ntt import Words
from secureagg.ring.params import PRIME_BITS
from secureagg.ring.xof import SecretStream
from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk import merkle
from secureagg.zk.code import Code
from secureagg.zk.proof import HASH_BYTES, Opening, Proof
from secureagg.zk.soundness import LINEAR_REPETITIONS, MASK_ROWS, PROXIMITY_REPETITIONS, Shape
from secureagg.zk.transcript import Transcript, distinct_positions, field_elements

__all__ = ["LinearTest", "Product", "ProductTest", "Prover", "Relations", "verify"]

_BLOCK_ROWS = 16  # rows a thread extends at a time: a megabyte at ℓ = 4096
_FIRST_PRODUCT_MASK = 2 * LINEAR_REPETITIONS  # masks: S and T of each linear repetition, T_b of each product one, P


@dataclass(frozen=True)
class LinearTest:
    """Σ over H of Σ_r functional_r·u_r + Σ_(rows, τ) τ·u_r², which must equal `target`.

    functional: uint64[rows, ℓ], its values on H; squares: ranges of rows, each with the coefficient of their squares.
    """

    functional: Words
    squares: tuple[tuple[range, int], ...]
    target: int


@dataclass(frozen=True)
class Product:
    """Σ_i Σ_j β[i, j]·u_left[i]·u_right[w·i + j] with β = `coefficients`: uint64[len(left), w]."""

    left: range
    right: range
    coefficients: Words


@dataclass(frozen=True)
class ProductTest:
    """Σ products + Σ_r weights[r]·u_r + constant, which must vanish on H. weights: uint64[rows]."""

    products: tuple[Product, ...]
    weights: Words
    constant: int


class Relations(Protocol):
    """What a statement supplies once both oracles are committed: one test for each repetition.

    Rows are numbered through both oracles, first then second, masks not counted; a range lies within one of them.
    """

    def linear_tests(self, seed: bytes) -> Sequence[LinearTest]: ...

    def product_tests(self, seed: bytes) -> Sequence[ProductTest]: ...


@dataclass(frozen=True)
class _Rows:
    """The rows of both oracles, masks left out, somewhere: on H, at points of D, or as coefficients."""

    parts: tuple[Words, Words]

    def __getitem__(self, rows: range) -> Words:
        first = len(self.parts[0])
        if rows.start < first:
            return self.parts[0][rows.start : rows.stop]
        return self.parts[1][rows.start - first : rows.stop - first]

    def combine(self, prime: int, coefficients: Words) -> Words:
        """Return Σ coefficients[r]·u_r."""
        first = len(self.parts[0])
        sums = (fq.combine(prime, self.parts[0], coefficients[:first]),
                fq.combine(prime, self.parts[1], coefficients[first:]))  # fmt: skip
        return fq.add(prime, *sums)

    def squares(self, prime: int, test: LinearTest) -> Words:
        """Return Σ τ·u_r² of a linear test."""
        sums = [fq.scale(prime, fq.sums_of_squares(prime, self[rows]), tau) for rows, tau in test.squares]
        return _total(prime, sums)

    def products(self, prime: int, test: ProductTest) -> Words:
        """Return a product test's polynomial."""
        sums = [self.combine(prime, test.weights)]
        sums.append(np.full_like(sums[0], test.constant))
        for product in test.products:
            left, right = self[product.left], self[product.right]
            width = product.coefficients.shape[1]
            combined = np.empty_like(left)
            for i, row in enumerate(product.coefficients):
                combined[i] = fq.combine(prime, right[width * i : width * (i + 1)], row)
            sums.append(fq.inner_products(prime, left, combined))
        return _total(prime, sums)


@dataclass(frozen=True)
class _Challenges:
    """Everything the prover responds to, from one state of the transcript.

    proximity: uint64[3, all rows and masks]; of the three proximity masks each repetition takes its own, once.
    """

    linear: Sequence[LinearTest]
    products: Sequence[ProductTest]
    proximity: Words

    @classmethod
    def draw(cls, shape: Shape, prime: int, transcript: Transcript, relations: Relations) -> _Challenges:
        linear, products, seed = (transcript.challenge(label) for label in ("linear", "products", "proximity"))
        rows = shape.rows.first + shape.second_rows
        drawn = field_elements(seed, "rows", PROXIMITY_REPETITIONS * rows, prime).reshape(-1, rows)
        drawn[:, -PROXIMITY_REPETITIONS:] = np.eye(PROXIMITY_REPETITIONS, dtype=np.uint64)
        return cls(relations.linear_tests(linear), relations.product_tests(products), drawn)


@dataclass(frozen=True)
class _Oracle:
    """One committed oracle, on the prover's side. Secret, but for the root."""

    messages: Words = field(repr=False)
    blinding: Words = field(repr=False)
    codewords: Words = field(repr=False)
    salts: bytes = field(repr=False)
    tree: merkle.Tree = field(repr=False)

    def open(self, positions: NDArray[np.int64]) -> Opening:
        """Return the columns at these positions, with what shows that they were committed."""
        salts = np.frombuffer(self.salts, dtype=np.uint8).reshape(-1, merkle.SALT_BYTES)
        columns = np.ascontiguousarray(self.codewords[:, positions])
        return Opening(columns, salts[positions].tobytes(), self.tree.multiproof(positions))


class Prover:
    """Commits twice and answers once; to answer again it commits anew. Holds the witness's rows, shows nothing.

    docs/proofs/zero-knowledge.md: what is sent says nothing of the rows but that the tests hold.
    """

    def __init__(self, shape: Shape, prime: int) -> None:
        self._shape, self._prime, self._code = shape, prime, _code(shape, prime)
        self._stream = SecretStream()
        self._first: _Oracle | None = None

    def commit(self, rows: Words) -> bytes:
        """Commit to the first oracle's rows, uint64[first, ℓ]; return its root. Each call blinds afresh."""
        assert rows.shape == (self._shape.rows.first, self._shape.message_length)
        self._first = self._oracle(rows, np.empty((0, self._shape.degree), dtype=np.uint64))
        return self._first.tree.root

    def respond(self, rows: Words, transcript: Transcript, relations: Relations) -> bytes:
        """Commit to the second oracle's rows, uint64[second, ℓ], answer all tests; return the proof.

        Requires: the transcript has absorbed what `commit` returned, which has not been answered before.
        """
        shape, q, first = self._shape, self._prime, self._first
        assert first is not None and rows.shape == (shape.rows.second, shape.message_length)
        self._first = None  # one answer a commitment: the columns of two would say more than the blinding hides
        masks = _uniform(self._stream, (MASK_ROWS, shape.degree), q)
        second = self._oracle(rows, masks)
        sums = np.array([_sum_on_h(shape, q, s) for s in masks[0:_FIRST_PRODUCT_MASK:2]], dtype=np.uint64)
        _absorb_second(transcript, second.tree.root, sums)
        challenges = _Challenges.draw(shape, q, transcript, relations)
        messages = _Rows((first.messages, second.messages))
        blinding = _Rows((first.blinding, second.blinding))
        width = 2 * shape.message_length  # as many points of D as a response divided by Z_H has coefficients
        counts = (shape.rows.first, shape.rows.second)
        prefix = _Rows((first.codewords[: counts[0], :width], second.codewords[: counts[1], :width]))
        unopened = Proof(
            second.tree.root,
            sums,
            np.stack([self._linear(i, each, messages, prefix, masks) for i, each in enumerate(challenges.linear)]),
            np.stack([self._quotient(i, each, prefix, masks) for i, each in enumerate(challenges.products)]),
            np.stack([self._combination(row, messages, blinding, masks) for row in challenges.proximity]),
            (Opening(masks[:0], b"", b""), Opening(masks[:0], b"", b"")),
        )
        positions = _positions(shape, transcript, unopened)
        return replace(unopened, openings=(first.open(positions), second.open(positions))).to_bytes(shape, q)

    def _oracle(self, rows: Words, masks: Words) -> _Oracle:
        blinding = _uniform(self._stream, (len(rows), self._shape.queries), self._prime)
        codewords = np.empty((len(rows) + len(masks), self._shape.length), dtype=np.uint64)
        rs.encode(self._code, rows, blinding, codewords[: len(rows)])
        codewords[len(rows) :] = rs.extend(self._code, masks)
        salts = self._stream.draw_bytes(merkle.SALT_BYTES * self._shape.length)
        return _Oracle(rows, blinding, codewords, salts, merkle.Tree(merkle.leaves(codewords, salts)))

    def _linear(self, repetition: int, test: LinearTest, messages: _Rows, prefix: _Rows, masks: Words) -> Words:
        """Return a linear test's response: its values on H give it mod Z_H, those on 2ℓ points of D the quotient."""
        code, q, shape = self._code, self._prime, self._shape
        on_h, on_d = self._inner_products(test.functional, messages, prefix)
        low = fq.add(q, on_h, messages.squares(q, test))[None]
        rs.interpolate(code, low)
        on_d = fq.add(q, on_d, prefix.squares(q, test))
        on_d = fq.subtract(q, on_d, rs.extend(code, low, on_d.size)[0])
        quotient = fq.multiply(q, on_d, rs.inverse_vanishing(code, on_d.size))
        high = rs.interpolate_prefix(code, quotient[None])[0, : shape.degree]
        s, t = masks[2 * repetition], masks[2 * repetition + 1]
        return _times_vanishing(shape, q, fq.add(q, high, t), low[0], s)

    def _inner_products(self, functional: Words, messages: _Rows, prefix: _Rows) -> tuple[Words, Words]:
        """Return Σ L_r·u_r on H and on the prefix of D, a few rows at a time."""
        q, code = self._prime, self._code
        counts = (self._shape.rows.first, self._shape.rows.first + self._shape.rows.second)
        blocks = [range(i, min(i + _BLOCK_ROWS, stop)) for start, stop in zip((0, counts[0]), counts, strict=True)
                  for i in range(start, stop, _BLOCK_ROWS)]  # fmt: skip
        on_h = np.empty((len(blocks), self._shape.message_length), dtype=np.uint64)
        on_d = np.empty((len(blocks), 2 * self._shape.message_length), dtype=np.uint64)

        def add(first: int, last: int) -> None:
            for index in range(first, last):
                block = blocks[index]
                coefficients = functional[block.start : block.stop].copy()
                on_h[index] = fq.inner_products(q, coefficients, messages[block])
                rs.interpolate(code, coefficients)
                on_d[index] = fq.inner_products(q, rs.extend(code, coefficients, on_d.shape[1]), prefix[block])

        workers.run(add, len(blocks))
        ones = np.ones(len(blocks), dtype=np.uint64)
        return fq.combine(q, on_h, ones), fq.combine(q, on_d, ones)

    def _quotient(self, repetition: int, test: ProductTest, prefix: _Rows, masks: Words) -> Words:
        """Return a product test's response."""
        code, q = self._code, self._prime
        values = prefix.products(q, test)
        quotient = fq.multiply(q, values, rs.inverse_vanishing(code, values.size))
        coefficients = rs.interpolate_prefix(code, quotient[None])[0, : self._shape.degree]
        return fq.add(q, coefficients, masks[_FIRST_PRODUCT_MASK + repetition])

    def _combination(self, coefficients: Words, messages: _Rows, blinding: _Rows, masks: Words) -> Words:
        """Return the proximity test's response: rows are combined on H, their blindings and the masks apart."""
        code, q, count = self._code, self._prime, len(coefficients) - len(masks)
        low = messages.combine(q, coefficients[:count])[None]
        rs.interpolate(code, low)
        high = blinding.combine(q, coefficients[:count])
        return _times_vanishing(self._shape, q, high, low[0], fq.combine(q, masks, coefficients[count:]))

    def __repr__(self) -> str:
        return "Prover(secret)"


def verify(
    shape: Shape, prime: int, root: bytes, encoded: bytes | memoryview, transcript: Transcript, relations: Relations
) -> None:
    """Return None if the proof convinces; `transcript` has absorbed `root`, the first oracle's.

    Raises: EncodingError naming the check that failed.
    """
    q, code = prime, _code(shape, prime)
    proof = Proof.from_bytes(shape, q, encoded)
    _absorb_second(transcript, proof.root, proof.sums)
    challenges = _Challenges.draw(shape, q, transcript, relations)
    positions = _positions(shape, transcript, proof)
    for which, committed, opening in zip(("first", "second"), (root, proof.root), proof.openings, strict=True):
        _verify_opening(shape, positions, opening, committed, which)
    first, second = proof.openings[0].columns, proof.openings[1].columns
    columns, masks = _Rows((first, second[: shape.rows.second])), second[shape.rows.second :]
    vanishing = rs.vanishing(code)[positions]

    def at_queries(coefficients: Words) -> Words:
        values: Words = rs.extend(code, coefficients[None])[0, positions]
        return values

    for i, test in enumerate(challenges.linear):
        if _sum_on_h(shape, q, proof.linear[i]) != (test.target + int(proof.sums[i])) % q:
            raise EncodingError("proof: the linear relations and norms do not add up")
        found = fq.inner_products(q, rs.columns_at(code, test.functional, positions), np.concatenate(columns.parts))
        mask = fq.add(q, masks[2 * i], fq.multiply(q, vanishing, masks[2 * i + 1]))
        if not np.array_equal(at_queries(proof.linear[i]), _total(q, [found, columns.squares(q, test), mask])):
            raise EncodingError("proof: the linear test's response is not that of the committed rows")
    for i, product in enumerate(challenges.products):
        quotient = fq.subtract(q, at_queries(proof.quotients[i]), masks[_FIRST_PRODUCT_MASK + i])
        if not np.array_equal(fq.multiply(q, quotient, vanishing), columns.products(q, product)):
            raise EncodingError("proof: the product test's response is not that of the committed rows")
    for i, row in enumerate(challenges.proximity):
        combined = fq.add(q, columns.combine(q, row[: -len(masks)]), fq.combine(q, masks, row[-len(masks) :]))
        if not np.array_equal(at_queries(proof.proximity[i]), combined):
            raise EncodingError("proof: the committed rows are not all of low degree")


def _verify_opening(shape: Shape, positions: NDArray[np.int64], opening: Opening, root: bytes, which: str) -> None:
    salts = [opening.salts[i : i + merkle.SALT_BYTES] for i in range(0, len(opening.salts), merkle.SALT_BYTES)]
    columns = np.ascontiguousarray(opening.columns.T)
    leaves = [merkle.leaf(column, salt) for column, salt in zip(columns, salts, strict=True)]
    used = HASH_BYTES * merkle.proof_nodes(shape.length, positions)
    if any(opening.path[used:]):
        raise EncodingError(f"proof: the padding of the {which} oracle's path is not zero")
    if merkle.root_of(shape.length, positions, leaves, opening.path[:used]) != root:
        raise EncodingError(f"proof: an opened column of the {which} oracle is not the committed one")


def _code(shape: Shape, prime: int) -> Code:
    return Code(prime, shape.message_length, shape.length, shape.queries)


def _absorb_second(transcript: Transcript, root: bytes, sums: Words) -> None:
    transcript.absorb("second root", root)
    transcript.absorb("sums of masks", sums.tobytes())


def _positions(shape: Shape, transcript: Transcript, proof: Proof) -> NDArray[np.int64]:
    transcript.absorb("responses", proof.responses())
    return distinct_positions(transcript.challenge("queries"), "queries", shape.queries, shape.length)


def _total(prime: int, parts: Sequence[Words]) -> Words:
    total = parts[0]
    for part in parts[1:]:
        total = fq.add(prime, total, part)
    return total


def _times_vanishing(shape: Shape, prime: int, high: Words, *low: Words) -> Words:
    """Return the coefficients of (X^ℓ + 1)·high + Σ low."""
    start = shape.message_length
    total = np.zeros(max(start + high.size, *(part.size for part in low)), dtype=np.uint64)
    total[start : start + high.size] = high
    for part in (high, *low):
        total[: part.size] = fq.add(prime, total[: part.size], part)
    return total


def _sum_on_h(shape: Shape, prime: int, coefficients: Words) -> int:
    """Return Σ over H of a polynomial: x^ℓ = −1 there, and every other power sums to zero."""
    multiples: list[int] = coefficients[:: shape.message_length].tolist()
    return shape.message_length * (sum(multiples[::2]) - sum(multiples[1::2])) % prime


def _uniform(stream: SecretStream, shape: tuple[int, int], prime: int) -> Words:
    """Return uniform secret field elements: 52 bits of a word, drawn again where they are not below q."""
    cut = np.uint64((1 << PRIME_BITS) - 1)
    out = np.empty(shape, dtype=np.uint64)
    stream.fill(out)
    out &= cut
    while (refused := np.flatnonzero(out >= np.uint64(prime))).size:
        again = np.empty(refused.size, dtype=np.uint64)
        stream.fill(again)
        out.reshape(-1)[refused] = again & cut
    return out
