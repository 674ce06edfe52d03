"""The oracle proof on a toy statement: what is true is accepted, each kind of lie meets its test."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.zk import iop
from secureagg.zk.proof import Proof, proof_bytes
from secureagg.zk.soundness import Shape
from tests.zk import toy
from tests.zk.cheating import COLUMN, DEGREE, LINEAR, PRODUCT, SUM, Forger
from tests.zk.toy import Q, bits, toy_shape

SHAPE = toy_shape(64, 8, 32)
WIDE = toy_shape(64, 8, 32, first=3)


def honest_proof(shape: Shape, seed: int = 0) -> tuple[bytes, int, bytes]:
    x, prover = bits(shape, seed), iop.Prover(shape, Q)
    root, total = prover.commit(x), toy.total_of(x)
    transcript, relations = toy.begin(root, total, shape)
    return root, total, prover.respond(toy.inverses(shape, x, relations.gamma), transcript, relations)


def refused(shape: Shape, proven: tuple[bytes, int, bytes], why: str) -> None:
    with pytest.raises(EncodingError, match=re.escape(why)):
        toy.verify(shape, *proven)


@given(
    length=st.sampled_from([16, 32, 64]),
    expansion=st.sampled_from([4, 8]),
    queries=st.integers(1, 8),
    rows=st.tuples(st.integers(1, 20), st.integers(1, 20)).map(lambda r: (max(r), min(r))),
)
def test_true_statement_is_accepted(length: int, expansion: int, queries: int, rows: tuple[int, int]) -> None:
    shape = toy_shape(length, expansion, queries, *rows)
    root, total, proof = honest_proof(shape)
    assert len(proof) == proof_bytes(shape)
    toy.verify(shape, root, total, proof)


def test_two_independent_provers_satisfy_one_verifier() -> None:
    toy.verify(SHAPE, *honest_proof(SHAPE))
    toy.verify(SHAPE, *toy.forge(Forger(SHAPE, Q), bits(SHAPE)))


def test_responses_of_both_provers_are_the_same_but_for_masks() -> None:
    """Σ_H of a linear response less its mask's is the target, whoever answered."""
    for root, total, proof in (honest_proof(SHAPE), toy.forge(Forger(SHAPE, Q), bits(SHAPE))):
        decoded = Proof.from_bytes(SHAPE, Q, proof)
        transcript, relations = toy.begin(root, total, SHAPE)
        iop._absorb_second(transcript, decoded.root, decoded.sums)
        tests = relations.linear_tests(transcript.challenge("linear"))
        forger = Forger(SHAPE, Q)
        found = [(forger.sum_on_h(each) - int(s)) % Q for each, s in zip(decoded.linear, decoded.sums, strict=True)]
        assert found == [test.target for test in tests]


def root_of_square(square: int) -> int | None:
    """Return a square root mod q by Cipolla's algorithm, None if there is none."""
    square %= Q
    if pow(square, (Q - 1) // 2, Q) != 1:
        return None
    a = next(a for a in range(1, Q) if pow(a * a - square, (Q - 1) // 2, Q) == Q - 1)
    w = a * a - square

    def times(x: tuple[int, int], y: tuple[int, int]) -> tuple[int, int]:
        return (x[0] * y[0] + x[1] * y[1] * w) % Q, (x[0] * y[1] + x[1] * y[0]) % Q

    result, base, exponent = (1, 0), (a, 1), (Q + 1) // 2
    while exponent:
        result, base, exponent = times(result, base) if exponent & 1 else result, times(base, base), exponent >> 1
    return result[0]


@pytest.mark.parametrize("start", [2, (Q + 1) // 2, Q - 50])
def test_entries_that_are_no_bits_but_fit_all_sums_are_refused(start: int) -> None:
    """z and w with z² − z = −(w² − w), so Σ x² = Σ x holds; the total is theirs."""
    for z in range(start, start + 60):
        root = root_of_square(1 - 4 * (z * z - z))
        if root is not None and z not in (0, 1):
            break
    x = bits(WIDE)
    x[2, 5], x[2, 6] = z % Q, (1 + root) * pow(2, -1, Q) % Q
    assert sum(v * v - v for v in x.reshape(-1).tolist()) % Q == 0
    refused(WIDE, toy.forge(Forger(WIDE, Q), x), PRODUCT)


def test_another_total_is_refused() -> None:
    x = bits(SHAPE)
    refused(SHAPE, toy.forge(Forger(SHAPE, Q), x, toy.total_of(x) + 1), SUM)


def test_product_across_oracles_with_the_right_sum_is_refused() -> None:
    def spoil(y: toy.Words) -> toy.Words:
        y[1, 3], y[1, 4] = (int(y[1, 3]) + 1) % Q, (int(y[1, 4]) - 1) % Q
        return y

    refused(SHAPE, toy.forge(Forger(SHAPE, Q), bits(SHAPE), spoil=spoil), PRODUCT)


class Answering(Forger):
    """Alters one coefficient of one response, `what` of `linear`, `quotients`, `proximity`."""

    what, repetition, coefficient = 0, 0, 1

    def answers(self, challenges: iop._Challenges) -> tuple[toy.Words, toy.Words, toy.Words]:
        answers = self.true_answers(challenges)
        entry = answers[self.what][self.repetition]
        entry[self.coefficient] = (int(entry[self.coefficient]) + 1) % Q
        return answers


@pytest.mark.parametrize(
    ("what", "repetition", "coefficient", "why"),
    [(0, r, 0, SUM) for r in range(2)]
    + [(0, r, c, LINEAR) for r in range(2) for c in (1, SHAPE.linear_degree - 1)]
    + [(1, r, c, PRODUCT) for r in range(2) for c in (0, SHAPE.degree - 1)]
    + [(2, r, c, DEGREE) for r in range(3) for c in (0, SHAPE.degree - 1)],
)
def test_each_response_of_each_repetition_is_checked(what: int, repetition: int, coefficient: int, why: str) -> None:
    forger = Answering(SHAPE, Q)
    forger.what, forger.repetition, forger.coefficient = what, repetition, coefficient
    refused(SHAPE, toy.forge(forger, bits(SHAPE)), why)


def test_proof_of_one_commitment_is_none_of_another() -> None:
    root, total, proof = honest_proof(SHAPE)
    other, _, _ = honest_proof(SHAPE)
    refused(SHAPE, (other, total, proof), COLUMN)
    refused(SHAPE, (root, total + 1, proof), COLUMN)


def test_each_commitment_is_blinded_afresh() -> None:
    prover = iop.Prover(SHAPE, Q)
    assert len({prover.commit(bits(SHAPE)) for _ in range(4)}) == 4
    assert len({honest_proof(SHAPE) for _ in range(4)}) == 4


def test_prover_shows_nothing() -> None:
    prover = iop.Prover(SHAPE, Q)
    prover.commit(bits(SHAPE))
    assert repr(prover) == "Prover(secret)"
    assert prover._first is not None
    shown = repr(prover._first)
    assert "messages" not in shown and "blinding" not in shown and "salts" not in shown


def test_challenges_of_all_repetitions_are_drawn_before_any_response(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is absorbed between them, so that no repetition can be tried again alone."""
    root, total, proof = honest_proof(SHAPE)
    calls: list[str] = []
    absorb, challenge = iop.Transcript.absorb, iop.Transcript.challenge

    def absorbing(self: iop.Transcript, label: str, part: bytes | memoryview) -> None:
        calls.append(f"absorb {label}")
        absorb(self, label, part)

    def drawing(self: iop.Transcript, label: str) -> bytes:
        calls.append(f"draw {label}")
        return challenge(self, label)

    monkeypatch.setattr(iop.Transcript, "absorb", absorbing)
    monkeypatch.setattr(iop.Transcript, "challenge", drawing)
    toy.verify(SHAPE, root, total, proof)
    before = ["absorb total", "absorb first root", "draw gamma", "absorb second root", "absorb sums of masks"]
    assert calls == [*before, "draw linear", "draw products", "draw proximity", "absorb responses", "draw queries"]


def test_coefficients_of_repetitions_and_rows_differ() -> None:
    """Independent ones: no two equal; of the proximity masks each repetition has its own, once."""
    transcript, relations = toy.begin(bytes(32), 1, SHAPE)
    challenges = iop._Challenges.draw(SHAPE, Q, transcript, relations)
    drawn = challenges.proximity
    assert drawn.shape == (3, SHAPE.rows.first + SHAPE.second_rows)
    others = drawn[:, :-3]
    assert drawn[:, -3:].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert others.all() and len(set(others.reshape(-1).tolist())) == others.size
    first, second = challenges.linear
    assert not np.array_equal(first.functional, second.functional)
    assert first.squares[0][1] != second.squares[0][1]
