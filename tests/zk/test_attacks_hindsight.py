"""Fiat–Shamir: responses chosen after the queries, so that they are right there and nowhere else.

Each would be believed if the response it is about were not absorbed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk.proof import Proof
from tests.zk.cheating import COLUMN, Challenges, Positions, Words
from tests.zk.instances import PRIME, honest
from tests.zk.lying import Claim, Liar, refused

Q = PRIME
CASE = honest()
S = CASE.statement
FALSE = replace(Claim.of(CASE), ciphertext=fq.add(Q, CASE.ciphertext, np.eye(1, S.coefficients, dtype=np.uint64)[0]))


def vanishing_at(points: list[int]) -> list[int]:
    """Return the coefficients of Π (X − x)."""
    polynomial = [1]
    for x in points:
        polynomial = [(a - x * b) % Q for a, b in zip([0, *polynomial], [*polynomial, 0], strict=True)]
    return polynomial


class Hindsight(Liar):
    """Knows the queries, and answers so that only they are right."""

    def vanishing(self, positions: Positions) -> list[int]:
        return vanishing_at(rs.points(self.code)[positions].tolist())


class LateLinear(Hindsight):
    """Adds a polynomial that is zero at the queries, and whose sum over H is what is missing."""

    def hindsight(self, answered: Proof, challenges: Challenges, positions: Positions) -> Proof:
        linear = answered.linear.copy()
        zero = np.zeros(self.shape.linear_degree, dtype=np.uint64)
        zero[: self.shape.queries + 1] = self.vanishing(positions)
        for i, deficit in enumerate(self.deficits(challenges)):
            factor = deficit * pow(self.sum_on_h(zero), -1, Q)
            linear[i] = fq.add(Q, linear[i].copy(), fq.scale(Q, zero, factor))
        return replace(answered, linear=linear)


class LateQuotient(Hindsight):
    """A bit is 2; the quotient goes through what it should be at the queries."""

    def digits(self, seed: bytes) -> Words:
        digits = super().digits(seed)
        at = next(i for i in range(14) if digits[i : i + 2].tolist() == [0, 1])
        digits[at : at + 2] = (2, 0)
        return digits

    def hindsight(self, answered: Proof, challenges: Challenges, positions: Positions) -> Proof:
        points = rs.points(self.code)[positions].tolist()
        rows, wrong, quotients = self.rows(), self.true_answers(challenges)[1], answered.quotients.copy()
        vanishing = rs.vanishing(self.code)[positions]
        inverse = np.array([pow(z, -1, Q) for z in vanishing.tolist()], dtype=np.uint64)
        zero = self.vanishing(positions)
        basis, weights = bases(points, zero)
        for i, test in enumerate(challenges.products):
            right = fq.multiply(Q, rows.products(Q, test)[positions], inverse)
            right = fq.add(Q, right, rs.extend(self.code, self.masks[4 + i][None])[0, positions])
            have = rs.extend(self.code, wrong[i][None])[0, positions]
            missing = fq.multiply(Q, fq.subtract(Q, right, have), weights)
            quotients[i, : len(points)] = fq.add(Q, quotients[i, : len(points)].copy(), fq.combine(Q, basis, missing))
        return replace(answered, quotients=quotients)


def bases(points: list[int], zero: list[int]) -> tuple[Words, Words]:
    """Return Π_j≠i (X − x_j), row by row, and 1 over each one's value at x_i."""
    rows, weights = [], []
    for x in points:
        row, carry = [0] * len(points), 0
        for i in range(len(points), 0, -1):
            carry = (zero[i] + x * carry) % Q
            row[i - 1] = carry
        value = 0
        for coefficient in reversed(row):
            value = (value * x + coefficient) % Q
        rows.append(row)
        weights.append(pow(value, -1, Q))
    return np.array(rows, dtype=np.uint64), np.array(weights, dtype=np.uint64)


class LateProximity(Hindsight):
    """A mask has degree k'; the leading coefficient is taken away together with a polynomial zero at the queries."""

    def draw_masks(self) -> Words:
        masks = super().draw_masks()
        masks[-3:, self.shape.degree] = 1
        return masks

    def hindsight(self, answered: Proof, challenges: Challenges, positions: Positions) -> Proof:
        k, t = self.shape.degree, self.shape.queries
        zero = np.zeros(k, dtype=np.uint64)  # X^(k' − t) times it, less its leading coefficient
        zero[k - t :] = self.vanishing(positions)[:t]
        proximity = answered.proximity.copy()
        for i, row in enumerate(challenges.proximity):
            leading = sum(row[-3:].tolist())
            proximity[i] = fq.subtract(Q, proximity[i].copy(), fq.scale(Q, zero, leading))
        return replace(answered, proximity=proximity)


@pytest.mark.parametrize(
    ("liar", "claim"), [(LateLinear, FALSE), (LateQuotient, Claim.of(CASE)), (LateProximity, Claim.of(CASE))]
)
def test_response_chosen_after_the_queries_is_refused(liar: type[Hindsight], claim: Claim) -> None:
    refused(S, liar(claim).prove(), COLUMN)
