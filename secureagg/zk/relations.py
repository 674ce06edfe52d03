"""The public side of a validity proof: from challenges to the tests that R1–R5 become (docs/proofs/statement.md).

Rows, in order: values v, errors e, dealt elements (polynomials, masks, weight) and, with the range argument,
multiplicities; then the bits and, with the range argument, three rows of inverses for each row of values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from secureagg.ring import ntt
from secureagg.ring.masks import fill_public
from secureagg.ring.ntt import Words
from secureagg.ring.xof import PublicExpansion
from secureagg.zk import field as fq
from secureagg.zk import lookup, projection
from secureagg.zk.iop import LinearTest, Product, ProductTest
from secureagg.zk.soundness import LINEAR_REPETITIONS, PRODUCT_REPETITIONS, PROJECTION_ROWS, SHARE_REPETITIONS
from secureagg.zk.statement import EXTENSION, Statement
from secureagg.zk.transcript import field_elements

__all__ = ["Instance", "Places", "ValidityRelations"]

_BLOCK_CHUNKS = 16


@dataclass(frozen=True)
class Instance:
    """What one client's proof is about, all public.

    context: what the contribution is bound to (session, sender, digests of everything sent before the proof);
    polynomials: the session's a_j; ciphertext: uint64[n_c], chunk by chunk; combination: ρ', uint64[3, keys·N];
    check: T, uint64[threshold, 3].
    """

    context: bytes
    polynomials: PublicExpansion
    ciphertext: Words
    combination: Words
    check: Words


@dataclass(frozen=True)
class Places:
    """Which rows hold what, numbered through both oracles."""

    statement: Statement

    @cached_property
    def _starts(self) -> tuple[int, ...]:
        s, length = self.statement, self.statement.shape.message_length
        counts = [-(-count // length) for count in (s.values, s.coefficients, s.dealt, s.table, s.bits)]
        return tuple(np.cumsum([0, *counts]).tolist())

    @property
    def values(self) -> range:
        """Rows of v."""
        return range(self._starts[1])

    @property
    def errors(self) -> range:
        """Rows of e."""
        return range(self._starts[1], self._starts[2])

    @property
    def dealt(self) -> range:
        """Rows of the dealing polynomials, their masks and the weight."""
        return range(self._starts[2], self._starts[3])

    @property
    def multiplicities(self) -> range:
        """Rows of the table's multiplicities."""
        return range(self._starts[3], self._starts[4])

    @property
    def bits(self) -> range:
        """Rows of bits."""
        return range(self._starts[4], self._starts[5])

    @property
    def inverses(self) -> range:
        """Rows of 1/(α − v), three for each row of v."""
        count = EXTENSION * len(self.values) if self.statement.table else 0
        return range(self._starts[5], self._starts[5] + count)

    @property
    def total(self) -> int:
        """Rows of both oracles, masks not counted."""
        return self.inverses.stop


class ValidityRelations:
    """R1–R5 with the challenges drawn after the first oracle: `Relations` for the proof system.

    projection_seed: of R; alpha: uint64[3], of the range argument.
    """

    def __init__(self, statement: Statement, instance: Instance, projection_seed: bytes, alpha: Words) -> None:
        self._statement, self._instance = statement, instance
        self._projection_seed, self._alpha = projection_seed, alpha
        self._places = Places(statement)

    @cached_property
    def inverse_table(self) -> Words:
        """1/(α − a) for the table's entries: uint64[3, 2C + 1]."""
        return lookup.inverses(self._alpha, self._statement.value_limit, self._statement.prime)

    def linear_tests(self, seed: bytes) -> list[LinearTest]:
        """Return the random combinations of all linear relations and of both norms, one a repetition."""
        s, q = self._statement, self._statement.prime
        drawn = [self._coefficients(seed, repetition) for repetition in range(LINEAR_REPETITIONS)]
        positions = s.shape.message_length * self._places.errors.stop
        gammas = np.stack([each.projection for each in drawn])
        folded = projection.transposed(self._projection_seed, positions, gammas, q)
        keys = self._transposed_keys([each.ciphertext for each in drawn])
        return [self._linear_test(each, *parts) for each, *parts in zip(drawn, folded, keys, strict=True)]

    def _coefficients(self, seed: bytes, repetition: int) -> _Coefficients:
        s = self._statement
        counts = (s.coefficients, PROJECTION_ROWS, 2, 2, s.threshold * SHARE_REPETITIONS, EXTENSION)
        drawn = field_elements(seed, f"repetition {repetition}", sum(counts), s.prime)
        parts = np.split(drawn, np.cumsum(counts)[:-1])
        ciphertext, gammas, norms, weight, shares, looked_up = parts
        shares = shares.reshape(s.threshold, SHARE_REPETITIONS)
        return _Coefficients(ciphertext, gammas, norms, weight, shares, looked_up)

    def _linear_test(self, drawn: _Coefficients, folded: Words, keys: Words) -> LinearTest:
        s, q, places, instance = self._statement, self._statement.prime, self._places, self._instance
        functional = np.zeros((places.total, s.shape.message_length), dtype=np.uint64)
        messages = self._message_coefficients(drawn.ciphertext)  # R1 and the projection
        projected = functional[: places.errors.stop].reshape(-1)
        projected[: s.values] = messages[: s.values]
        start = s.shape.message_length * places.errors.start
        projected[start : start + s.coefficients] = drawn.ciphertext
        projected[:] = fq.add(q, projected, folded)
        dealt = [fq.combine(q, instance.combination, row) for row in drawn.shares]  # R5
        dealt[0] = fq.add(q, dealt[0], keys)
        weight = (int(messages[s.values]) + int(drawn.weight[0]) + int(drawn.weight[1])) % q
        everything = np.concatenate([*dealt, drawn.shares.reshape(-1), np.array([weight], dtype=np.uint64)])
        _rows(functional, places.dealt)[: s.dealt] = everything
        _rows(functional, places.bits)[: s.bits] = self._bit_coefficients(drawn)
        if s.table:
            table = fq.combine(q, self.inverse_table, drawn.lookup)
            _rows(functional, places.multiplicities)[: s.table] = fq.subtract(q, np.zeros_like(table), table)
            functional[places.inverses.start :] = np.tile(drawn.lookup, len(places.values))[:, None]
        tau = [int(each) for each in drawn.norms]
        return LinearTest(functional, ((places.values, tau[0]), (places.errors, tau[1])), self._target(drawn))

    def _target(self, drawn: _Coefficients) -> int:
        """Return what the combined relations must add up to."""
        s, q, instance = self._statement, self._statement.prime, self._instance
        target = fq.dot(q, drawn.ciphertext, instance.ciphertext)
        gammas: list[int] = drawn.projection.tolist()
        target -= sum(gammas) << s.projection_bits
        target += int(drawn.norms[0]) * s.norm_bound + int(drawn.norms[1]) * s.error_bound
        target += int(drawn.weight[0]) * s.min_weight + int(drawn.weight[1]) * s.max_weight
        target += fq.dot(q, drawn.shares.reshape(-1), np.ascontiguousarray(instance.check).reshape(-1))
        return target % q

    def _message_coefficients(self, rho: Words) -> Words:
        """Return ρ times Δ·2^(Wk), in the order of the coordinates: field by field within each chunk."""
        s, q = self._statement, self._statement.prime
        out = np.empty(s.fields * s.coefficients, dtype=np.uint64)
        whole = s.coefficients // s.degree * s.degree
        for k in range(s.fields):
            scaled = fq.scale(q, rho, (s.delta << (s.field_bits * k)) % q)
            out[: s.fields * whole].reshape(-1, s.fields, s.degree)[:, k] = scaled[:whole].reshape(-1, s.degree)
            out[s.fields * whole :].reshape(s.fields, -1)[k] = scaled[whole:]
        return out

    def _transposed_keys(self, rhos: list[Words]) -> list[Words]:
        """Return Σ_j a_jᵀ·ρ_j for each repetition: uint64[keys·N].

        Multiplication by a(X) transposed is multiplication by a(X^-1), that is σ·a·σ with the automorphism X → X^-1.
        """
        s, q = self._statement, self._statement.prime
        chunks = -(-s.coefficients // s.degree)
        sums = np.zeros((len(rhos), s.keys, s.degree), dtype=np.uint64)
        for key in range(s.keys):
            stop = min((key + 1) * s.chunks_per_key, chunks)
            for first in range(key * s.chunks_per_key, stop, _BLOCK_CHUNKS):
                last = min(first + _BLOCK_CHUNKS, stop)
                public = np.empty((last - first, 1, s.degree), dtype=np.uint64)
                fill_public(public, self._instance.polynomials, first, (q,))
                for repetition, rho in enumerate(rhos):
                    block = np.zeros((last - first) * s.degree, dtype=np.uint64)
                    part = rho[first * s.degree : last * s.degree]
                    block[: part.size] = part
                    turned = _turn(q, block.reshape(-1, s.degree))[:, None]
                    ntt.forward(turned, (q,))
                    product = fq.inner_products(q, turned[:, 0], public[:, 0])
                    sums[repetition, key] = fq.add(q, sums[repetition, key], product)
        ntt.inverse(sums.reshape(-1, 1, s.degree), (q,))
        return [_turn(q, each).reshape(-1) for each in sums]

    def _bit_coefficients(self, drawn: _Coefficients) -> Words:
        """Return the coefficients of all bits: −γ_k·2^b, then τ·2^b of both norms, then ∓ω·2^b of the weight."""
        s, q = self._statement, self._statement.prime
        gammas = [[-(gamma << b) % q for b in range(s.projection_bits + 1)] for gamma in drawn.projection.tolist()]
        parts = [value for row in gammas for value in row]
        for factor, width in (
            (int(drawn.norms[0]), s.norm_bits),
            (int(drawn.norms[1]), s.error_bits),
            (-int(drawn.weight[0]), s.weight_bits),
            (int(drawn.weight[1]), s.weight_bits),
        ):
            parts += [(factor << b) % q for b in range(width)]
        return np.array(parts, dtype=np.uint64)

    def product_tests(self, seed: bytes) -> list[ProductTest]:
        """Return bit² = bit and (α − v)·h = 1, randomly combined, one a repetition."""
        return [self._product_test(seed, repetition) for repetition in range(PRODUCT_REPETITIONS)]

    def _product_test(self, seed: bytes, repetition: int) -> ProductTest:
        s, q, places = self._statement, self._statement.prime, self._places
        count = len(places.bits) + len(places.inverses)
        beta = field_elements(seed, f"repetition {repetition}", count, q)
        bits, inverses = beta[: len(places.bits)], beta[len(places.bits) :].reshape(-1, EXTENSION)
        weights = np.zeros(places.total, dtype=np.uint64)
        weights[places.bits.start : places.bits.stop] = fq.subtract(q, np.zeros_like(bits), bits)
        products, constant = [Product(places.bits, places.bits, bits[:, None])], 0
        if s.table:
            matrix = np.array(lookup.multiplication_matrix(self._alpha, q), dtype=np.uint64)
            columns = [fq.combine(q, np.ascontiguousarray(inverses.T), matrix[:, m].copy()) for m in range(EXTENSION)]
            weights[places.inverses.start :] = np.stack(columns, axis=1).reshape(-1)
            products.append(Product(places.values, places.inverses, fq.subtract(q, np.zeros_like(inverses), inverses)))
            constant = -sum(inverses[:, 0].tolist()) % q
        return ProductTest(tuple(products), weights, constant)


@dataclass(frozen=True)
class _Coefficients:
    """One repetition's coefficients: of R1, of the projection, of both norms, of R4, of R5, of the lookup."""

    ciphertext: Words
    projection: Words
    norms: Words
    weight: Words
    shares: Words
    lookup: Words


def _turn(prime: int, rows: Words) -> Words:
    """Return the rows' images under X → X^-1: coefficient i becomes −coefficient N − i."""
    turned = np.empty_like(rows)
    turned[..., 0] = rows[..., 0]
    reversed_rows = rows[..., :0:-1]
    turned[..., 1:] = fq.subtract(prime, np.zeros_like(reversed_rows), reversed_rows)
    return turned


def _rows(functional: Words, rows: range) -> Words:
    return functional[rows.start : rows.stop].reshape(-1)
