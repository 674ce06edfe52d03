"""Rows of too high degree, columns changed or chosen, responses that fit as many columns as any can.

Where a lie passes with a probability that tests can see, at toy sizes, it is compared with the exact value and with
the bound of `soundness_terms`.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from secureagg.errors import EncodingError
from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk import validity
from secureagg.zk.proof import Proof
from secureagg.zk.relations import Places
from secureagg.zk.soundness import Shape
from tests.zk import toy
from tests.zk.cheating import DEGREE, LINEAR, PRODUCT, SUM, Challenges, Forger, Positions
from tests.zk.instances import honest
from tests.zk.lying import Claim, Liar, refused
from tests.zk.toy import Q, Words, bits, toy_shape

SHAPE = toy_shape(64, 8, 30, first=3)
TINY = toy_shape(16, 4, 2)
TRIALS = 200
CASE = honest(value_limit=700)
PLACES = Places(CASE.statement)


def toy_refused(forger: Forger, why: str, x: Words | None = None, total: int | None = None) -> None:
    proven = toy.forge(forger, bits(forger.shape) if x is None else x, total)
    with pytest.raises(EncodingError, match=re.escape(why)):
        toy.verify(forger.shape, *proven)


class HighMask(Forger):
    """One mask has degree k'."""

    mask = 0

    def draw_masks(self) -> Words:
        masks = super().draw_masks()
        masks[self.mask, self.shape.degree] = 1
        return masks


@pytest.mark.parametrize(
    ("mask", "why"),
    [(0, DEGREE), (1, LINEAR), (2, DEGREE), (3, LINEAR), (4, PRODUCT), (5, PRODUCT)] + [(m, DEGREE) for m in (6, 7, 8)],
)
def test_mask_of_too_high_degree_is_refused(mask: int, why: str) -> None:
    """S, T twice, T_b twice, P three times. A response has no place for what T and T_b alone would add to it."""
    forger = HighMask(SHAPE, Q)
    forger.mask = mask
    toy_refused(forger, why)


class HighPair(Forger):
    """T has degree k', S takes it away again: S + Z_H·T is as it should be."""

    repetition = 0

    def draw_masks(self) -> Words:
        masks, k = super().draw_masks(), self.shape.degree
        masks[2 * self.repetition + 1, k] = 1
        masks[2 * self.repetition, k] = masks[2 * self.repetition, k + self.shape.message_length] = Q - 1
        return masks


@pytest.mark.parametrize("repetition", range(2))
def test_masks_of_too_high_degree_that_cancel_are_refused(repetition: int) -> None:
    forger = HighPair(SHAPE, Q)
    forger.repetition = repetition
    toy_refused(forger, DEGREE)


class HighRow(Liar):
    """A row has a degree of its own, and the right values on H."""

    oracle_number, row, degree = 0, 0, CASE.statement.shape.degree

    def blinded(self, which: int, messages: Words) -> Words:
        polynomials = super().blinded(which, messages)
        if which == self.oracle_number:
            for at in (self.degree, self.degree - self.shape.message_length):  # Z_H·X^(degree − ℓ)
                polynomials[self.row, at] = (int(polynomials[self.row, at]) + 1) % Q
        return polynomials


@pytest.mark.parametrize(
    ("row", "why"),
    [(PLACES.values.start, LINEAR), (PLACES.errors.start, LINEAR), (PLACES.dealt.start, DEGREE),
     (PLACES.multiplicities.start, DEGREE), (PLACES.bits.start, PRODUCT), (PLACES.inverses.start, PRODUCT)],
)  # fmt: skip
def test_row_of_too_high_degree_is_refused(row: int, why: str) -> None:
    """Rows that are multiplied do not fit the responses; of the others only the proximity test knows."""
    liar = HighRow(Claim.of(CASE))
    second = row - CASE.statement.shape.rows.first
    liar.oracle_number, liar.row = (0, row) if second < 0 else (1, second)
    refused(CASE.statement, liar.prove(), why)


def test_degree_just_below_the_bound_is_accepted() -> None:
    """k' − 1 is what masks have; a row may have it too."""

    forger = HighRow(Claim.of(CASE))
    forger.row, forger.degree = PLACES.dealt.start, CASE.statement.shape.degree - 1
    proven = forger.prove()
    validity.verify(CASE.statement, proven.instance, proven.root, proven.proof)


class Spoiled(Forger):
    """Changes one mask of the proximity test, and nothing else, in the first `columns` columns."""

    columns = 8

    def codewords(self, which: int, polynomials: Words) -> Words:
        codewords = super().codewords(which, polynomials)
        if which:
            changed = codewords[-1, : self.columns].copy()
            codewords[-1, : self.columns] = fq.add(Q, changed, np.ones_like(changed))
        return codewords


def passed(
    kind: type[Forger], shape: Shape, why: str, *, trials: int = TRIALS, wrong: bool = False, **settings: int
) -> int:
    """Return how many of the proofs pass; the others are refused by this check."""
    count, x = 0, bits(shape)
    for seed in range(trials):
        forger = kind(shape, Q, seed)
        for name, value in settings.items():
            setattr(forger, name, value)
        proven = toy.forge(forger, x, toy.total_of(x) + 1 if wrong else None)
        try:
            toy.verify(shape, *proven)
            count += 1
        except EncodingError as refusal:
            if why not in str(refusal):
                raise
    return count


def matches(count: int, good: int, shape: Shape) -> float:
    """Return the probability that all queries are among `good` columns; assert that the count is within 4 σ of it."""
    expected = math.comb(good, shape.queries) / math.comb(shape.length, shape.queries)
    assert abs(count - TRIALS * expected) <= 4 * math.sqrt(TRIALS * expected * (1 - expected))  # 1 in 16000 each
    return expected


@pytest.mark.parametrize("columns", [1, 8, 32])
def test_changed_columns_are_found_as_often_as_they_are_queried(columns: int) -> None:
    matches(passed(Spoiled, TINY, DEGREE, columns=columns), TINY.length - columns, TINY)


def test_as_many_changed_columns_as_cannot_be_decoded_pass_within_the_bound() -> None:
    columns = (TINY.length - TINY.degree + 1) // 2
    expected = matches(passed(Spoiled, TINY, DEGREE, columns=columns), TINY.length - columns, TINY)
    assert expected <= ((1 + TINY.degree / TINY.length) / 2) ** TINY.queries


class BestLinear(Forger):
    """Adds to the response a polynomial with the missing sum over H that is zero at as many columns as possible."""

    def answers(self, challenges: Challenges) -> tuple[Words, Words, Words]:
        linear, quotients, proximity = self.true_answers(challenges)
        zero = np.zeros(self.shape.linear_degree, dtype=np.uint64)
        zero[0] = 1
        for x in rs.points(self.code)[: zero.size - 1].tolist():
            moved = np.roll(zero, 1)
            zero = fq.subtract(Q, moved, fq.scale(Q, zero, x))
        for i, deficit in enumerate(self.deficits(challenges)):
            factor = deficit * pow(self.sum_on_h(zero), -1, Q)
            linear[i] = fq.add(Q, linear[i].copy(), fq.scale(Q, zero, factor))
        return linear, quotients, proximity


def test_best_answer_to_a_false_linear_relation_passes_within_the_bound() -> None:
    """It differs in all but 2ℓ + 2t − 1 columns: two polynomials below 2k' agree in no more than 2k' − 1."""
    good = TINY.linear_degree - 1
    expected = matches(passed(BestLinear, TINY, LINEAR, wrong=True), good, TINY)
    assert expected <= (2 * TINY.degree / TINY.length) ** TINY.queries


def test_true_answer_to_a_false_linear_relation_never_passes() -> None:
    assert passed(Forger, TINY, SUM, trials=20, wrong=True) == 0


class Elsewhere(Forger):
    """Opens the columns next to those queried, of one oracle."""

    which = 0

    def others(self, positions: Positions) -> Positions:
        return (positions + 1) % self.shape.length

    def opened(self, answered: Proof, positions: Positions) -> Proof:
        shown = [self.others(positions) if number == self.which else positions for number in range(2)]
        return replace(answered, openings=(self.first.open(shown[0], positions), self.second.open(shown[1], positions)))


class Twice(Elsewhere):
    """Opens the first queried column in place of the second one too."""

    def others(self, positions: Positions) -> Positions:
        return np.concatenate([positions[:1], positions[:1], positions[2:]])


class Swapped(Elsewhere):
    """Opens the first two queried columns in each other's place."""

    def others(self, positions: Positions) -> Positions:
        return np.concatenate([positions[1::-1], positions[2:]])


@pytest.mark.parametrize("which", range(2))
@pytest.mark.parametrize("kind", [Elsewhere, Twice, Swapped])
def test_columns_other_than_those_queried_are_refused(kind: type[Elsewhere], which: int) -> None:
    forger = kind(SHAPE, Q)
    forger.which = which
    toy_refused(forger, f"an opened column of the {('first', 'second')[which]} oracle is not the committed one")


class Recomputed(Forger):
    """Opens columns that are not committed: those of the truth, of rows it has not committed to."""

    which = 0

    def codewords(self, which: int, polynomials: Words) -> Words:
        codewords = super().codewords(which, polynomials)
        if which != self.which:
            return codewords
        self.clean = codewords.copy()
        codewords[0] = self.uniform(self.shape.length)
        return codewords

    def opened(self, answered: Proof, positions: Positions) -> Proof:
        proof = super().opened(answered, positions)
        openings = list(proof.openings)
        columns = np.ascontiguousarray(self.clean[:, positions])
        openings[self.which] = replace(openings[self.which], columns=columns)
        return replace(proof, openings=(openings[0], openings[1]))


@pytest.mark.parametrize("which", range(2))
def test_columns_that_fit_all_tests_but_not_the_root_are_refused(which: int) -> None:
    forger = Recomputed(SHAPE, Q)
    forger.which = which
    toy_refused(forger, f"an opened column of the {('first', 'second')[which]} oracle is not the committed one")


class Exchanging(Forger):
    """Gives a repetition's challenge the answer to another one's; linear answers add up again, by a constant."""

    what, one, other, patched = 0, 0, 1, False

    def answers(self, challenges: Challenges) -> tuple[Words, Words, Words]:
        answers = self.true_answers(challenges)
        responses = answers[self.what]
        responses[[self.one, self.other]] = responses[[self.other, self.one]]
        if self.patched:
            for i, test in enumerate(challenges.linear):
                missing = test.target + int(self.sums[i]) - self.sum_on_h(answers[0][i])
                constant = missing * pow(self.shape.message_length, -1, Q)
                answers[0][i, 0] = (int(answers[0][i, 0]) + constant) % Q
        return answers


@pytest.mark.parametrize(
    ("what", "one", "other", "patched", "why"),
    [(0, 0, 1, False, SUM), (0, 0, 1, True, LINEAR), (1, 0, 1, False, PRODUCT)]
    + [(2, a, b, False, DEGREE) for a, b in ((0, 1), (1, 2), (0, 2))],
)
def test_answer_to_another_repetition_is_refused(what: int, one: int, other: int, patched: bool, why: str) -> None:
    forger = Exchanging(SHAPE, Q)
    forger.what, forger.one, forger.other, forger.patched = what, one, other, patched
    toy_refused(forger, why)


def test_oracles_exchanged_are_refused() -> None:
    """Both have eleven rows with their masks. The second is committed first, masks and all, then the first."""
    shape = toy_shape(64, 8, 32, first=11)
    x, forger = bits(shape), Forger(shape, Q)
    total, gamma = toy.total_of(x), 5
    y = toy.inverses(shape, x, gamma)
    masks = forger.draw_masks()
    first = forger.oracle(0, np.concatenate([forger.blinded(1, y), masks]))
    second = forger.oracle(1, forger.blinded(0, x))

    class Given(Forger):
        def blinded(self, which: int, messages: Words) -> Words:
            return second.polynomials[: shape.rows.second]

        def draw_masks(self) -> Words:
            return second.polynomials[shape.rows.second :]

    given = Given(shape, Q)
    given.first = first
    transcript, relations = toy.begin(first.tree.root, total, shape)
    proof = given.respond(y, transcript, relations)
    with pytest.raises(EncodingError, match=re.escape(SUM)):
        toy.verify(shape, first.tree.root, total, proof)
