"""A toy statement for the oracle proof: bits x with a public weighted sum, and y = 1/(γ + x) for a later γ.

It needs all that `iop` offers: two oracles, linear relations and squares, products within and across oracles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secureagg.ring.params import PRIMES
from secureagg.zk import field as fq
from secureagg.zk import iop
from secureagg.zk.iop import LinearTest, Product, ProductTest
from secureagg.zk.soundness import Rows, Shape
from secureagg.zk.transcript import Transcript, field_elements
from tests.zk.cheating import Forger

__all__ = ["Bits", "Q", "begin", "bits", "forge", "inverses", "total_of", "toy_shape", "verify"]

Q = PRIMES[0]
Words = NDArray[np.uint64]
F = TypeVar("F", bound=Forger)


def toy_shape(length: int = 16, expansion: int = 4, queries: int = 2, first: int = 2, second: int = 2) -> Shape:
    """Return a shape far too small to be sound, unless asked otherwise."""
    return Shape(length, expansion * length, queries, Rows(first, second))


def bits(shape: Shape, seed: int = 0) -> Words:
    """Return a witness: uint64[first, ℓ]."""
    return np.random.default_rng(seed).integers(0, 2, (shape.rows.first, shape.message_length), dtype=np.uint64)


@dataclass(frozen=True)
class Bits:
    """x_i² = x_i, Σ (i + 1)·x_i = `total`, and (γ + x)·y = 1 for the first rows, as many as hold y.

    Also Σ x² − Σ x = 0 and Σ y = Σ (1/γ + x·(1/(γ + 1) − 1/γ)), which follow.
    """

    shape: Shape
    total: int
    gamma: int

    def linear_tests(self, seed: bytes) -> list[LinearTest]:
        return [self._linear(*field_elements(seed, f"{i}", 3, Q).tolist()) for i in range(2)]

    def _linear(self, a: int, b: int, tau: int) -> LinearTest:
        first, second, ell = self.shape.rows.first, self.shape.rows.second, self.shape.message_length
        functional = np.zeros((first + second, ell), dtype=np.uint64)
        weights = np.arange(1, first * ell + 1, dtype=np.uint64).reshape(first, ell)
        functional[:first] = fq.add(Q, fq.scale(Q, weights, a), np.full_like(weights, -tau % Q))
        zero, one = pow(self.gamma, -1, Q), pow(self.gamma + 1, -1, Q)
        functional[:second] = fq.add(Q, functional[:second], np.full_like(weights[:second], b * (zero - one) % Q))
        functional[first:] = b
        target = (a * self.total + b * zero * second * ell) % Q
        return LinearTest(functional, ((range(first), tau),), target)

    def product_tests(self, seed: bytes) -> list[ProductTest]:
        return [self._product(field_elements(seed, f"{i}", self.shape.rows.first + 1, Q)) for i in range(2)]

    def _product(self, beta: Words) -> ProductTest:
        first, second = self.shape.rows.first, self.shape.rows.second
        mine, other = beta[:first], np.full(second, beta[-1], dtype=np.uint64)
        weights = np.concatenate([fq.subtract(Q, np.zeros_like(mine), mine), fq.scale(Q, other, self.gamma)])
        squares = Product(range(first), range(first), mine[:, None].copy())
        across = Product(range(second), range(first, first + second), other[:, None].copy())
        return ProductTest((squares, across), weights, -second * int(beta[-1]) % Q)


def begin(root: bytes, total: int, shape: Shape) -> tuple[Transcript, Bits]:
    """Return the transcript and the statement after the first oracle."""
    transcript = Transcript("tests/zk toy")
    transcript.absorb("total", total.to_bytes(8, "little"))
    transcript.absorb("first root", root)
    gamma = int(field_elements(transcript.challenge("gamma"), "gamma", 1, Q)[0])
    return transcript, Bits(shape, total, gamma)


def total_of(x: Words) -> int:
    """Return Σ (i + 1)·x_i."""
    return sum((i + 1) * value for i, value in enumerate(x.reshape(-1).tolist())) % Q


def inverses(shape: Shape, x: Words, gamma: int) -> Words:
    """Return y, for as many rows of x as there are."""
    known = {value: pow(gamma + value, -1, Q) for value in set(x.reshape(-1).tolist())}
    return np.array([[known[v] for v in row] for row in x[: shape.rows.second].tolist()], dtype=np.uint64)


def forge(
    forger: F, x: Words, total: int | None = None, spoil: Callable[[Words], Words] = lambda y: y
) -> tuple[bytes, int, bytes]:
    """Return root, total and proof of what a forger makes of x (and of `spoil` of y)."""
    root = forger.commit(x)
    total = total_of(x) if total is None else total
    transcript, relations = begin(root, total, forger.shape)
    proof = forger.respond(spoil(inverses(forger.shape, x, relations.gamma)), transcript, relations)
    return root, total, proof


def verify(shape: Shape, root: bytes, total: int, proof: bytes) -> None:
    """Return None or raise, as `iop.verify`."""
    transcript, relations = begin(root, total, shape)
    iop.verify(shape, Q, root, proof, transcript, relations)
