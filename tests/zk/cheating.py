"""A prover that lies and then goes on as an honest one would: each step is a method, and an attack overrides one.

`Forger` knows rows, oracles and tests only; `lying.Liar` fills them for a validity statement. It holds every row as
the coefficients of a polynomial below n, so that nothing keeps it from too high a degree, and draws its blinding from
a seed. Labels and challenges come from the library: what is lied about is what is absorbed, not how.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk import iop, merkle
from secureagg.zk.code import Code
from secureagg.zk.proof import Opening, Proof
from secureagg.zk.soundness import LINEAR_REPETITIONS, MASK_ROWS, Shape
from secureagg.zk.transcript import Transcript

__all__ = ["COLUMN", "DEGREE", "LINEAR", "PRODUCT", "SUM", "Challenges", "Forger", "Oracle", "Positions", "Words"]

# What each check of the verifier says.
SUM = "the linear relations and norms do not add up"
LINEAR = "the linear test's response is not that of the committed rows"
PRODUCT = "the product test's response is not that of the committed rows"
DEGREE = "the committed rows are not all of low degree"
COLUMN = "first oracle"  # an opened column is not the committed one, or nodes are left over: the queries are elsewhere

Words = NDArray[np.uint64]
Positions = NDArray[np.int64]
Challenges = iop._Challenges
_PRODUCT_MASK = 2 * LINEAR_REPETITIONS


@dataclass(frozen=True)
class Oracle:
    """One oracle: what is answered from (polynomials, uint64[rows, n]) and what is committed (codewords)."""

    polynomials: Words
    codewords: Words
    salts: bytes
    tree: merkle.Tree

    def open(self, positions: Positions, at: Positions) -> Opening:
        """Return the columns at `positions`, with the path that belongs to `at`: the paths' lengths are then right."""
        salts = b"".join(self.salts[merkle.SALT_BYTES * i :][: merkle.SALT_BYTES] for i in positions.tolist())
        return Opening(np.ascontiguousarray(self.codewords[:, positions]), salts, self.tree.multiproof(at))


class Forger:
    """An honest prover of the oracle proof, until a method is overridden."""

    first: Oracle
    second: Oracle
    masks: Words
    sums: Words

    def __init__(self, shape: Shape, prime: int, seed: int = 0) -> None:
        self.shape, self.prime = shape, prime
        self.code = Code(prime, shape.message_length, shape.length, shape.queries)
        self.random = np.random.default_rng(seed)

    def commit(self, messages: Words) -> bytes:
        """Return the first oracle's root. messages: uint64[first, ℓ]."""
        self.first = self.oracle(0, self.blinded(0, messages))
        return self.first.tree.root

    def respond(self, messages: Words, transcript: Transcript, relations: iop.Relations) -> bytes:
        """Return the proof."""
        self.masks = self.draw_masks()
        self.second = self.oracle(1, np.concatenate([self.blinded(1, messages), self.masks]))
        self.sums = self.sums_of(self.masks)
        iop._absorb_second(transcript, self.second.tree.root, self.sums)
        challenges = Challenges.draw(self.shape, self.prime, transcript, relations)
        challenges = self.reconsider(challenges)
        nothing = Opening(self.masks[:0], b"", b"")
        answered = Proof(self.second.tree.root, self.sums, *self.answers(challenges), (nothing, nothing))
        positions = iop._positions(self.shape, transcript, answered)
        return self.opened(self.hindsight(answered, challenges, positions), positions).to_bytes(self.shape, self.prime)

    # Steps that an attack may override.

    def blinded(self, which: int, messages: Words) -> Words:
        """Return the rows' polynomials: those through the messages, plus a random multiple of Z_H."""
        ell, t = self.shape.message_length, self.shape.queries
        out = np.zeros((len(messages), self.shape.length), dtype=np.uint64)
        low, blinding = messages.copy(), self.uniform(len(messages), t)
        rs.interpolate(self.code, low)
        out[:, :ell] = low
        out[:, :t] = fq.add(self.prime, low[:, :t].copy(), blinding)
        out[:, ell : ell + t] = blinding
        return out

    def draw_masks(self) -> Words:
        """Return the masks' polynomials."""
        masks = np.zeros((MASK_ROWS, self.shape.length), dtype=np.uint64)
        masks[:, : self.shape.degree] = self.uniform(MASK_ROWS, self.shape.degree)
        return masks

    def codewords(self, which: int, polynomials: Words) -> Words:
        """Return what is committed."""
        return rs.extend(self.code, polynomials)

    def salts(self, which: int) -> bytes:
        """Return the salts of all columns."""
        return self.random.bytes(merkle.SALT_BYTES * self.shape.length)

    def sums_of(self, masks: Words) -> Words:
        """Return σ = Σ_H S."""
        return np.array([self.sum_on_h(each) for each in masks[0:_PRODUCT_MASK:2]], dtype=np.uint64)

    def reconsider(self, challenges: Challenges) -> Challenges:
        """Change what should have been fixed before the challenges."""
        return challenges

    def answers(self, challenges: Challenges) -> tuple[Words, Words, Words]:
        """Return the responses to linear, product and proximity tests."""
        return self.true_answers(challenges)

    def hindsight(self, answered: Proof, challenges: Challenges, positions: Positions) -> Proof:
        """Change what should have been fixed before the queries."""
        return answered

    # What they are made of.

    def uniform(self, *shape: int) -> Words:
        """Return uniform field elements."""
        return self.random.integers(0, self.prime, shape, dtype=np.uint64)

    def oracle(self, which: int, polynomials: Words) -> Oracle:
        """Return polynomials, committed."""
        codewords, salts = self.codewords(which, polynomials), self.salts(which)
        return Oracle(polynomials, codewords, salts, merkle.Tree(merkle.leaves(codewords, salts)))

    def opened(self, answered: Proof, positions: Positions) -> Proof:
        """Return the proof with the columns opened."""
        return replace(
            answered, openings=(self.first.open(positions, positions), self.second.open(positions, positions))
        )

    def rows(self) -> iop._Rows:
        """Return all rows without masks on D."""
        first = rs.extend(self.code, self.first.polynomials)
        second = rs.extend(self.code, self.second.polynomials[: self.shape.rows.second])
        return iop._Rows((first, second))

    def coefficients(self, values: Words) -> Words:
        """Return the n coefficients of the polynomial with these values on D."""
        return rs.interpolate_prefix(self.code, values[None])[0]

    def sum_on_h(self, polynomial: Words) -> int:
        """Return Σ over H: x^ℓ = −1 there, and all other powers add up to zero."""
        every = polynomial[:: self.shape.message_length].tolist()
        return self.shape.message_length * sum((-1) ** i * each for i, each in enumerate(every)) % self.prime

    def linear_polynomial(self, test: iop.LinearTest, rows: iop._Rows) -> Words:
        """Return Σ L_r·u_r + Σ τ·u_r²: n coefficients."""
        functional = test.functional.copy()
        rs.interpolate(self.code, functional)
        values = fq.inner_products(self.prime, rs.extend(self.code, functional), np.concatenate(rows.parts))
        return self.coefficients(fq.add(self.prime, values, rows.squares(self.prime, test)))

    def product_polynomial(self, test: iop.ProductTest, rows: iop._Rows) -> Words:
        """Return what has to vanish on H: n coefficients."""
        return self.coefficients(rows.products(self.prime, test))

    def times_vanishing(self, polynomial: Words) -> Words:
        """Return Z_H times it, all within n coefficients."""
        return fq.add(self.prime, polynomial, self.shifted(polynomial))

    def shifted(self, polynomial: Words) -> Words:
        """Return X^ℓ times it, mod X^n."""
        moved = np.zeros_like(polynomial)
        moved[self.shape.message_length :] = polynomial[: -self.shape.message_length]
        return moved

    def quotient(self, polynomial: Words) -> Words:
        """Return the quotient by Z_H; whatever remains is left out."""
        ell, rest = self.shape.message_length, polynomial.copy()
        out = np.zeros_like(rest)
        for start in range(len(rest) - ell, 0, -ell):  # blocks of ℓ coefficients, from the highest
            block = rest[start : start + ell].copy()
            out[start - ell : start] = block
            rest[start - ell : start] = fq.subtract(self.prime, rest[start - ell : start].copy(), block)
        return out

    def true_answers(self, challenges: Challenges) -> tuple[Words, Words, Words]:
        """Return what an honest prover of these polynomials answers, cut to the lengths the format has."""
        q, rows, shape = self.prime, self.rows(), self.shape
        linear = []
        for i, test in enumerate(challenges.linear):
            masked = fq.add(q, self.masks[2 * i], self.times_vanishing(self.masks[2 * i + 1]))
            linear.append(fq.add(q, self.linear_polynomial(test, rows), masked)[: shape.linear_degree])
        quotients = []
        for i, product in enumerate(challenges.products):
            quotient = self.quotient(self.product_polynomial(product, rows))
            quotients.append(fq.add(q, quotient, self.masks[_PRODUCT_MASK + i])[: shape.degree])
        everything = np.concatenate([self.first.polynomials, self.second.polynomials])
        proximity = [fq.combine(q, everything, row)[: shape.degree] for row in challenges.proximity]
        return np.stack(linear), np.stack(quotients), np.stack(proximity)

    def deficits(self, challenges: Challenges, rows: iop._Rows | None = None) -> list[int]:
        """Return target − Σ_H of each linear test without its mask: zero for a true statement."""
        rows = rows or self.rows()
        return [(t.target - self.sum_on_h(self.linear_polynomial(t, rows))) % self.prime for t in challenges.linear]
