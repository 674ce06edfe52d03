"""What a proof shows: nothing but that it holds. A simulator, statistics at a toy size, and exact linear algebra.

All challenges are fixed here, by programming the oracle: `Transcript.challenge` returns what a seed and its label say.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring.xof import SecretStream
from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk import iop, merkle, validity
from secureagg.zk.code import Code
from secureagg.zk.proof import Proof
from secureagg.zk.soundness import MASK_ROWS, Shape
from secureagg.zk.transcript import Transcript, distinct_positions
from tests.zk import toy
from tests.zk.cheating import Forger, Oracle
from tests.zk.instances import PRIME, honest, prove
from tests.zk.toy import Q, Words, bits, toy_shape

TINY = toy_shape(16, 4, 2, first=1, second=1)
SEED = b"tests/zk challenges"


def programmed(label: str, seed: bytes = SEED) -> bytes:
    return hashlib.sha256(seed + label.encode()).digest()


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """Program the random oracle."""
    monkeypatch.setattr(Transcript, "challenge", lambda self, label: programmed(label))


def positions_of(shape: Shape) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return distinct_positions(programmed("queries"), "queries", shape.queries, shape.length)


def simulated(shape: Shape, relations: iop.Relations, seed: int) -> tuple[bytes, bytes]:
    """Return a root and a proof, from public things and the challenges alone: there is no witness here.

    Columns, responses and sums are uniform; the masks' entries in the opened columns are what they then have to be.
    """
    random, q = np.random.default_rng(seed), PRIME
    forger = Forger(shape, q, seed)
    positions, vanishing = positions_of(shape), rs.vanishing(forger.code)
    challenges = iop._Challenges.draw(shape, q, Transcript("simulator"), relations)
    first = random.integers(0, q, (shape.rows.first, shape.length), dtype=np.uint64)
    second = random.integers(0, q, (shape.second_rows, shape.length), dtype=np.uint64)
    columns = iop._Rows((first, second[: shape.rows.second]))
    linear = forger.uniform(2, shape.linear_degree)
    quotients, proximity = forger.uniform(2, shape.degree), forger.uniform(3, shape.degree)
    sums = [(forger.sum_on_h(each) - test.target) % q for each, test in zip(linear, challenges.linear, strict=True)]
    masks = second[shape.rows.second :]
    for i, test in enumerate(challenges.linear):  # S = response − Σ L·u − Σ τ·u² − Z_H·T
        functional = rs.columns_at(forger.code, test.functional, np.arange(shape.length))
        found = fq.inner_products(q, functional, np.concatenate(columns.parts))
        for part in (columns.squares(q, test), fq.multiply(q, vanishing, masks[2 * i + 1].copy())):
            found = fq.add(q, found, part)
        masks[2 * i] = fq.subtract(q, rs.extend(forger.code, linear[i][None])[0], found)
    for i, product in enumerate(challenges.products):  # T_b = response − F/Z_H
        exact = fq.multiply(q, columns.products(q, product), rs.inverse_vanishing(forger.code))
        masks[4 + i] = fq.subtract(q, rs.extend(forger.code, quotients[i][None])[0], exact)
    for i, row in enumerate(challenges.proximity):  # P = word − Σ r·u
        everything = fq.combine(q, np.concatenate([first, second])[:-3], row[:-3])
        masks[6 + i] = fq.subtract(q, rs.extend(forger.code, proximity[i][None])[0], everything)
    oracles = []
    for codewords in (first, second):
        salts = random.bytes(merkle.SALT_BYTES * shape.length)
        oracles.append(Oracle(codewords, codewords, salts, merkle.Tree(merkle.leaves(codewords, salts))))
    openings = (oracles[0].open(positions, positions), oracles[1].open(positions, positions))
    root = oracles[1].tree.root
    proof = Proof(root, np.array(sums, dtype=np.uint64), linear, quotients, proximity, openings)
    return oracles[0].tree.root, proof.to_bytes(shape, q)


@pytest.mark.usefixtures("oracle")
def test_toy_is_simulated_without_a_witness() -> None:
    shape = toy_shape(64, 8, 30)
    for total in (1, 10**9):  # any total at all, also one that no bits have
        _, relations = toy.begin(bytes(32), total, shape)
        root, proof = simulated(shape, relations, total)
        toy.verify(shape, root, total, proof)


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize("limit", [0, 700])
def test_validity_is_simulated_without_a_witness(limit: int) -> None:
    """With a ciphertext and a share check that are nothing but random."""
    case = honest(value_limit=limit)
    s, random = case.statement, np.random.default_rng(limit)
    instance = case.instance_for(bytes(32))
    ciphertext, check = (random.integers(0, PRIME, a.shape, dtype=np.uint64) for a in (case.ciphertext, instance.check))
    instance = replace(instance, ciphertext=ciphertext, check=check)
    _, relations, _ = validity.begin(s, instance, bytes(32))
    root, proof = simulated(s.shape, relations, 1)
    validity.verify(s, instance, root, proof)


def test_simulation_convinces_nobody_whose_challenges_are_not_programmed(monkeypatch: pytest.MonkeyPatch) -> None:
    shape = toy_shape(64, 8, 30)
    with monkeypatch.context() as patched:
        patched.setattr(Transcript, "challenge", lambda self, label: programmed(label))
        _, relations = toy.begin(bytes(32), 1, shape)
        root, proof = simulated(shape, relations, 0)
    with pytest.raises(EncodingError, match="first oracle"):
        toy.verify(shape, root, 1, proof)


# Statistics: two witnesses with one total, under the same challenges.

SAMPLES = 250
MODULI = (2, 3, 8)
FALSE_ALARM = 1e-6  # of a comparison as a whole, shared among all its chi-square tests


def witnesses(shape: Shape) -> tuple[Words, Words]:
    """Return two with the total 3: {3} and {1, 2}."""
    one, other = np.zeros((2, shape.rows.first, shape.message_length), dtype=np.uint64)
    one[0, 2] = 1
    other[0, :2] = 1
    return one, other


def view(shape: Shape, proof: bytes) -> Words:
    """Return all elements of a proof, and the responses modulo Z_H, that is what they are on H."""
    decoded = Proof.from_bytes(shape, Q, proof)
    columns = [opening.columns.reshape(-1) for opening in decoded.openings]
    parts = [decoded.sums, *decoded.linear, *decoded.quotients, *decoded.proximity, *columns]
    ell = shape.message_length
    for response in (*decoded.linear, *decoded.quotients, *decoded.proximity):
        rest = np.zeros(ell, dtype=np.uint64)
        for start in range(0, response.size, ell):
            block = np.pad(response[start : start + ell], (0, ell - len(response[start : start + ell])))
            rest = (fq.subtract if start // ell % 2 else fq.add)(Q, rest, block)
        parts.append(rest)
    return np.concatenate(parts)


def sampled(shape: Shape, x: Words, first_seed: int, monkeypatch: pytest.MonkeyPatch) -> Words:
    """Return the views of many honest proofs: uint64[samples, elements]."""
    views = []
    for seed in range(first_seed, first_seed + SAMPLES):
        monkeypatch.setattr(iop, "SecretStream", lambda seed=seed: SecretStream(seed.to_bytes(32, "little")))
        prover = iop.Prover(shape, Q)
        transcript, relations = toy.begin(prover.commit(x), toy.total_of(x), shape)
        y = toy.inverses(shape, x, relations.gamma)
        views.append(view(shape, prover.respond(y, transcript, relations)))
    return np.array(views)


def chi_square_tail(statistic: float, freedom: int) -> float:
    """Return P(χ² ≥ statistic) by Wilson and Hilferty's cube root, which errs by less than a factor 2 here."""
    z = ((statistic / freedom) ** (1 / 3) - 1 + 2 / (9 * freedom)) / math.sqrt(2 / (9 * freedom))
    return math.erfc(z / math.sqrt(2)) / 2


def differ(one: Words, other: Words) -> bool:
    """Return whether residues of some element have different frequencies in the two samples."""
    tails = []
    for modulus in MODULI:
        for a, b in zip((one % np.uint64(modulus)).T, (other % np.uint64(modulus)).T, strict=True):
            x, y = (np.bincount(part.astype(np.int64), minlength=modulus) for part in (a, b))
            statistic = float((((x - y) ** 2) / np.maximum(x + y, 1)).sum())
            tails.append(chi_square_tail(statistic, modulus - 1))
    return min(tails) * len(tails) < FALSE_ALARM / 2


@pytest.mark.usefixtures("oracle")
def test_views_of_two_witnesses_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = witnesses(TINY)
    assert not differ(sampled(TINY, one, 0, monkeypatch), sampled(TINY, other, SAMPLES, monkeypatch))


@pytest.mark.usefixtures("oracle")
@pytest.mark.parametrize("left", ["no masks", "no blinding"])
def test_views_without_randomness_differ(left: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail."""
    uniform = iop._uniform

    def partly(stream: SecretStream, shape: tuple[int, int], prime: int) -> Words:
        drawn = uniform(stream, shape, prime)
        return drawn * np.uint64((shape[0] == MASK_ROWS) == (left == "no blinding"))

    monkeypatch.setattr(iop, "_uniform", partly)
    one, other = witnesses(TINY)
    assert differ(sampled(TINY, one, 0, monkeypatch), sampled(TINY, other, SAMPLES, monkeypatch))


# Linear algebra: whatever one witness shows, the other one shows under other randomness, and equally often.


class Given(Forger):
    """Draws nothing: blinding and masks are given."""

    blinding: Words
    mask_coefficients: Words

    def blinded(self, which: int, messages: Words) -> Words:
        ell, t = self.shape.message_length, self.shape.queries
        out = np.zeros((len(messages), self.shape.length), dtype=np.uint64)
        low = messages.copy()
        rs.interpolate(self.code, low)
        out[:, :ell] = low
        mine = self.blinding[which : which + 1]
        out[:, :t] = fq.add(Q, low[:, :t].copy(), mine)
        out[:, ell : ell + t] = mine
        return out

    def draw_masks(self) -> Words:
        masks = np.zeros((MASK_ROWS, self.shape.length), dtype=np.uint64)
        masks[:, : self.shape.degree] = self.mask_coefficients
        return masks


def shown(x: Words, blinding: Words, masks: Words) -> list[int]:
    """Return all elements of the proof."""
    forger = Given(TINY, Q)
    forger.blinding, forger.mask_coefficients = blinding, masks
    _, _, proof = toy.forge(forger, x)
    decoded = Proof.from_bytes(TINY, Q, proof)
    columns = [opening.columns for opening in decoded.openings]
    parts = (decoded.sums, decoded.linear, decoded.quotients, decoded.proximity, *columns)
    return [int(v) for part in parts for v in part.reshape(-1).tolist()]


def blinding_that_shows(columns: Sequence[Words], messages: Sequence[Words]) -> Words:
    """Return the one blinding with which these messages have these columns: t equations in t unknowns."""
    code, positions = Code(Q, 16, 64, 2), positions_of(TINY)
    points, vanishing = rs.points(code)[positions].tolist(), rs.vanishing(code)[positions].tolist()
    out = []
    for column, message in zip(columns, messages, strict=True):
        plain = rs.columns_at(code, message, positions)[0].tolist()
        wanted = column.reshape(-1).tolist()
        a, b = ((w - p) * pow(z, -1, Q) % Q for w, p, z in zip(wanted, plain, vanishing, strict=True))
        slope = (a - b) * pow(points[0] - points[1], -1, Q) % Q
        out.append([(a - slope * points[0]) % Q, slope])
    return np.array(out, dtype=np.uint64)


def rank(rows: Sequence[Sequence[int]]) -> int:
    """Return the rank mod q, by Gaussian elimination."""
    left, found = np.array(rows, dtype=object), 0
    for column in range(left.shape[1]):
        pivots = np.flatnonzero(left[found:, column])
        if not pivots.size:
            continue
        at = found + int(pivots[0])
        left[[found, at]] = left[[at, found]]
        left[found] = left[found] * pow(int(left[found, column]), -1, Q) % Q
        below = left[found + 1 :]
        below[:] = (below - below[:, column : column + 1] * left[found]) % Q
        found += 1
        if found == len(left):
            break
    return found


@pytest.fixture(scope="module")
def responses() -> tuple[list[list[int]], list[int]]:
    """Return what each coefficient of a mask adds to the view, and the difference of two witnesses' views.

    Their rows' columns are the same, by the choice of the second one's blinding.
    """
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Transcript, "challenge", lambda self, label: programmed(label))
        return effects_and_difference()


def effects_and_difference() -> tuple[list[list[int]], list[int]]:
    random = np.random.default_rng(1)
    masks = random.integers(0, Q, (MASK_ROWS, TINY.degree), dtype=np.uint64)
    blinding = random.integers(0, Q, (2, TINY.queries), dtype=np.uint64)
    one, other = witnesses(TINY)
    start = shown(one, blinding, masks)
    effects = []
    for i in range(MASK_ROWS):
        for j in range(TINY.degree):
            changed = masks.copy()
            changed[i, j] = (int(changed[i, j]) + 1) % Q
            effects.append([(a - b) % Q for a, b in zip(shown(one, blinding, changed), start, strict=True)])
    _, relations = toy.begin(bytes(32), 3, TINY)
    t = TINY.queries
    columns = np.array(start[-t * (1 + TINY.second_rows) :], dtype=np.uint64).reshape(-1, t)[:2]
    messages = [other, toy.inverses(TINY, other, relations.gamma)]
    again = blinding_that_shows(list(columns), messages)
    difference = [(a - b) % Q for a, b in zip(shown(other, again, masks), start, strict=True)]
    return effects, difference


def test_masks_span_all_that_the_verifier_does_not_check(responses: tuple[list[list[int]], list[int]]) -> None:
    """The view of the masks has full rank: all elements but the rows' columns, less one for each public equation."""
    effects, difference = responses
    t, equations = TINY.queries, 2 + (2 + 2 + 3) * TINY.queries
    free = TINY.elements - 2 * t - equations
    assert rank(effects) == free
    assert any(difference)
    assert rank([*effects, difference]) == free  # other masks make the second witness show the same


@pytest.mark.parametrize("mask", range(MASK_ROWS))
def test_without_any_one_mask_witnesses_can_be_told_apart(
    mask: int, responses: tuple[list[list[int]], list[int]]
) -> None:
    """Each is needed: with it zero, the two witnesses' views lie in different cosets."""
    effects, difference = responses
    left = effects[: mask * TINY.degree] + effects[(mask + 1) * TINY.degree :]
    assert rank([*left, difference]) == rank(left) + 1


def test_opened_columns_of_a_row_are_a_bijection_of_its_blinding() -> None:
    """t columns, t coefficients: Z_H(x_j)·x_j^i is invertible, as no query lies on H."""
    code, positions = Code(Q, 16, 64, 2), positions_of(TINY)
    assert rs.vanishing(code).all()
    points, vanishing = rs.points(code)[positions].tolist(), rs.vanishing(code)[positions].tolist()
    assert rank([[z * pow(x, i, Q) % Q for x, z in zip(points, vanishing, strict=True)] for i in range(2)]) == 2


# What must not be used twice.


def test_salts_and_blinding_are_never_repeated() -> None:
    """16 bytes a column, in both oracles and in every commitment."""
    prover, salts, blinding = iop.Prover(TINY, Q), [], []
    for _ in range(5):
        prover.commit(bits(TINY))
        assert prover._first is not None
        salts += [prover._first.salts[i : i + 16] for i in range(0, len(prover._first.salts), 16)]
        blinding += prover._first.blinding.reshape(-1).tolist()
    assert len(set(salts)) == len(salts) == 5 * TINY.length
    assert len(set(blinding)) == len(blinding)


def test_oracles_of_one_proof_have_different_salts() -> None:
    x, prover = bits(TINY), iop.Prover(TINY, Q)
    transcript, relations = toy.begin(prover.commit(x), 1, TINY)
    decoded = Proof.from_bytes(TINY, Q, prover.respond(toy.inverses(TINY, x, relations.gamma), transcript, relations))
    salts = [o.salts[i : i + 16] for o in decoded.openings for i in range(0, len(o.salts), 16)]
    assert len(set(salts)) == len(salts) == 2 * TINY.queries


def test_commitment_is_answered_once() -> None:
    """The columns of two answers would be more than the blinding hides."""
    x, prover = bits(TINY), iop.Prover(TINY, Q)
    transcript, relations = toy.begin(prover.commit(x), 1, TINY)
    y = toy.inverses(TINY, x, relations.gamma)
    prover.respond(y, transcript, relations)
    with pytest.raises(AssertionError):
        prover.respond(y, transcript, relations)


def test_commitment_is_good_for_one_proof() -> None:
    case = honest()
    prover = validity.Prover(case.statement, case.witness)
    with pytest.raises(ParameterError, match="a commitment is good for one proof"):
        prover.prove(prove(case).instance)
    instance = case.instance_for(prover.commit())
    assert prover.prove(instance)
    with pytest.raises(ParameterError, match="a commitment is good for one proof"):
        prover.prove(instance)
    assert prover.prove(case.instance_for(prover.commit()))
