"""Lies about sizes: vectors that are too long, integers that are none, padding that is not empty, bits that are none.

Every claim is encrypted as it is told, and all that the lie leaves true is proven honestly.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from secureagg.errors import EncodingError
from secureagg.zk import validity
from tests.zk.cheating import LINEAR, PRODUCT, SUM
from tests.zk.instances import PRIME, honest
from tests.zk.lying import Claim, Liar, Patching, Repair, coordinate_place, refused
from tests.zk.toy import Words

Q = PRIME
CASE = honest(max_weight=3, weight=2)
S = CASE.statement
HALF = (Q + 1) // 2
ROOT = pow(7, (Q - 1) // 4, Q)  # of −1: 7 is no square
VALUES, ERRORS = range(S.values), range(S.coefficients)

# How a liar goes on, and what then refuses it.
WAYS: list[tuple[type[Liar], Repair, str]] = [
    (Liar, "bits", SUM),
    (Patching, "bits", LINEAR),
    (Liar, "digits", PRODUCT),
]
ways = pytest.mark.parametrize(("liar", "repair", "why"), WAYS)


def only_values(entries: dict[int, int], *, norm_bound: int = S.norm_bound) -> Claim:
    """Return the claim of a vector that is zero elsewhere."""
    case = replace(CASE, statement=replace(S, norm_bound=norm_bound))
    return Claim.of(case).telling(values=dict.fromkeys(VALUES, 0) | entries)


def only_errors(entries: dict[int, int], *, error_bound: int = S.error_bound) -> Claim:
    """Return the claim of errors that are zero elsewhere."""
    case = replace(CASE, statement=replace(S, error_bound=error_bound))
    return Claim.of(case).telling(errors=dict.fromkeys(ERRORS, 0) | entries)


def norm_squared(entries: dict[int, int]) -> int:
    return sum(x * x for x in entries.values()) % Q


def accepted(claim: Claim) -> None:
    proven = Liar(claim).prove()
    validity.verify(claim.statement, proven.instance, proven.root, proven.proof)


def test_root_is_one_of_minus_one() -> None:
    assert ROOT * ROOT % Q == Q - 1


def test_truth_is_accepted_of_a_liar_too() -> None:
    accepted(Claim.of(CASE))


SPREAD = {i: 400 * (-1) ** i for i in range(36)}
UNEVEN = {0: 1200, 7: -800, 39: 1}


@ways
@pytest.mark.parametrize("entries", [{0: 2000}, {39: -2000}, SPREAD, UNEVEN], ids=["first", "last", "spread", "uneven"])
def test_norm_of_the_bound_passes_and_one_more_does_not(
    entries: dict[int, int], liar: type[Liar], repair: Repair, why: str
) -> None:
    squared = norm_squared(entries)
    accepted(only_values(entries, norm_bound=squared))
    claim = only_values(entries, norm_bound=squared - 1)
    refused(claim.statement, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("entries", [{0: 90}, {31: -90}, dict.fromkeys(range(32), 15)], ids=["first", "last", "spread"])
def test_errors_of_the_bound_pass_and_one_more_does_not(
    entries: dict[int, int], liar: type[Liar], repair: Repair, why: str
) -> None:
    squared = norm_squared(entries)
    accepted(only_errors(entries, error_bound=squared))
    claim = only_errors(entries, error_bound=squared - 1)
    refused(claim.statement, liar(claim, repair=repair).prove(), why)


def wrapping() -> dict[int, int]:
    """Return x and y with x² + y² = q + a little: their norm is small mod q."""
    x = math.isqrt(Q)
    return {3: x, 4: math.isqrt(Q - x * x) + 1}


QUARTERS = {i: pow(4, -1, Q) * (-1) ** i for i in range(16)}  # Σ = 16/16
OUTSIDE = {
    "four halves": dict.fromkeys(range(4), HALF),
    "halves rounded down": dict.fromkeys(range(4), (Q - 1) // 2),
    "halves of both signs": {0: HALF, 1: -HALF, 2: (Q - 1) // 2, 3: -(Q - 1) // 2},
    "many halves": dict.fromkeys(range(36), HALF),
    "odd halves": {0: 3 * HALF, 1: 5 * HALF, 2: HALF, 3: HALF},
    "quarters": QUARTERS,
    "a root of minus one": {0: 10**12, 1: 10**12 * ROOT},
    "squares that wrap": wrapping(),
    "far apart": {0: 10**12, 39: 10**12 * ROOT},
}


@ways
@pytest.mark.parametrize("name", OUTSIDE)
def test_long_vector_of_small_norm_mod_q_is_refused(name: str, liar: type[Liar], repair: Repair, why: str) -> None:
    """Their norm relation holds, so the projection alone stands in the way."""
    entries = OUTSIDE[name]
    assert norm_squared(entries) <= S.norm_bound
    claim = only_values(entries)
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("name", ["four halves", "halves of both signs", "odd halves", "a root of minus one"])
def test_errors_of_small_norm_mod_q_are_refused(name: str, liar: type[Liar], repair: Repair, why: str) -> None:
    assert norm_squared(OUTSIDE[name]) <= S.error_bound
    claim = only_errors(OUTSIDE[name])
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("scale", [1, 2])
def test_errors_divided_by_a_power_of_two_are_refused(scale: int, liar: type[Liar], repair: Repair, why: str) -> None:
    """e = x·2^-a for odd x, 4^a of them: Σ e² is a small integer, and times 2^a all of them are."""
    errors = {i: (1 if i % 2 else -1) * pow(2**scale, -1, Q) for i in range(4**scale)}
    assert norm_squared(errors) == 1
    claim = only_errors(errors)
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("at", [S.values, S.shape.message_length - 1])
def test_values_padding_that_makes_up_for_the_norm_is_refused(
    at: int, liar: type[Liar], repair: Repair, why: str
) -> None:
    """x in the vector and x·√−1 in the padding: only a projection that covers the padding sees it."""
    claim = Claim.of(CASE).telling(values={0: 10**12, at: 10**12 * ROOT})
    assert sum(v * v for v in claim.values.tolist()) % Q <= S.norm_bound
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("at", [S.coefficients, S.shape.message_length - 1])
def test_errors_padding_that_makes_up_for_the_norm_is_refused(
    at: int, liar: type[Liar], repair: Repair, why: str
) -> None:
    claim = Claim.of(CASE).telling(errors={0: 10**12, at: 10**12 * ROOT})
    assert sum(e * e for e in claim.errors.tolist()) % Q <= S.error_bound
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize(("values", "errors"), [({S.values: 3100}, {}), ({}, {S.coefficients: 200})])
def test_padding_counts_in_the_norms(
    values: dict[int, int], errors: dict[int, int], liar: type[Liar], repair: Repair, why: str
) -> None:
    """Of a size that the projection lets through."""
    claim = Claim.of(CASE).telling(values=values, errors=errors)
    refused(S, liar(claim, repair=repair).prove(), why)


@ways
@pytest.mark.parametrize("weight", [0, S.max_weight + 1, HALF, Q - 1])
def test_weight_outside_its_range_is_refused(weight: int, liar: type[Liar], repair: Repair, why: str) -> None:
    """0 breaks w ≥ 1 alone, max_weight + 1 breaks w ≤ max_weight alone: both widths hold 0 to 3. It is encrypted."""
    refused(S, liar(weighing(weight), repair=repair).prove(), why)


def weighing(weight: int) -> Claim:
    claim = Claim.of(CASE)
    ciphertext = claim.ciphertext.copy()
    offset = S.values - S.fields * S.degree  # of the coordinate in the second chunk, whose first field it is in
    assert 0 <= offset < S.degree
    at = S.degree + offset
    ciphertext[at] = (int(ciphertext[at]) + S.delta * (weight - CASE.witness.weight)) % Q
    return replace(claim.telling(dealt={S.dealt - 1: weight}), ciphertext=ciphertext)


@pytest.mark.parametrize("weight", [1, 2, 3])
def test_weights_inside_are_accepted(weight: int) -> None:
    accepted(weighing(weight))


def test_weight_needs_no_bits_where_it_is_one() -> None:
    case = honest()
    assert case.statement.weight_bits == 0
    accepted(Claim.of(case))
    claim = Claim.of(case).telling(dealt={case.statement.dealt - 1: 2})
    at = case.statement.degree + case.statement.values - 2 * case.statement.degree
    claim.ciphertext[at] = (int(claim.ciphertext[at]) + case.statement.delta) % Q
    refused(case.statement, Liar(claim).prove(), SUM)


NOISE = honest(max_weight=0, weight=0)


def noise_of(weight: int, claimed: int) -> Claim:
    """Return the claim that a contribution of noise has one weight, of a ciphertext that holds another."""
    claim, s = Claim.of(NOISE), NOISE.statement
    ciphertext = claim.ciphertext.copy()
    at, field = coordinate_place(s, s.values)
    ciphertext[at] = (int(ciphertext[at]) + (s.delta << (s.field_bits * field)) * weight) % Q
    return replace(claim.telling(dealt={s.dealt - 1: claimed}), ciphertext=ciphertext)


def test_noise_has_no_weight_and_needs_no_bits_for_it() -> None:
    s = NOISE.statement
    assert (s.min_weight, s.weight_bits) == (0, 0)
    accepted(noise_of(0, 0))


@pytest.mark.parametrize(("liar", "why"), [(Liar, SUM), (Patching, LINEAR)])
@pytest.mark.parametrize("weight", [1, -1, 2, HALF])
@pytest.mark.parametrize("told", [True, False], ids=["told", "hidden"])
def test_noise_with_a_weight_is_refused(weight: int, told: bool, liar: type[Liar], why: str) -> None:
    """Told of in the first oracle, which only breaks w = 0, or in the ciphertext alone, which only breaks that."""
    refused(NOISE.statement, liar(noise_of(weight, weight if told else 0)).prove(), why)


@pytest.mark.parametrize(("liar", "why"), [(Liar, SUM), (Patching, LINEAR)])
def test_the_weight_of_noise_alone_is_told_without_being_sent_and_refused(liar: type[Liar], why: str) -> None:
    refused(NOISE.statement, liar(noise_of(0, 1)).prove(), why)


@pytest.mark.parametrize(("proven", "verified"), [(1, 0), (0, 1)])
def test_a_proof_for_noise_is_none_for_an_update_nor_the_other_way_round(proven: int, verified: int) -> None:
    """Both statements have the same lengths: what is claimed enters the challenges, and the weight the target."""
    case = honest(max_weight=proven, weight=proven)
    other = replace(case.statement, max_weight=verified)
    assert other.proof_bytes == case.statement.proof_bytes
    sent = Liar(Claim.of(case)).prove()
    with pytest.raises(EncodingError):
        validity.verify(other, sent.instance, sent.root, sent.proof)


class OddBits(Liar):
    """Writes 2 for two bits 0, 1 or −1 for 1, 0, so that the number stays what it is, in one row of bits."""

    row, digit = 0, 2

    def digits(self, seed: bytes) -> Words:
        digits = super().digits(seed)
        ell, width = self.shape.message_length, self.statement.projection_bits + 1
        pair = (0, 1) if self.digit == 2 else (1, 0)
        starts = np.cumsum([0] + [w for _, w in self.numbers(seed)]).tolist()
        inside = set(range(len(digits) - 1)) - {start - 1 for start in starts}
        places = range(ell * self.row, min(ell * (self.row + 1), len(digits) - 1))
        at = next(i for i in places if i in inside and tuple(digits[i : i + 2].tolist()) == pair)
        digits[at : at + 2] = (2, 0) if self.digit == 2 else (Q - 1, 1)
        assert width > 1
        return digits


@pytest.mark.parametrize("digit", [2, -1])
@pytest.mark.parametrize("row", range(-(-S.bits // S.shape.message_length)))
def test_digit_that_is_no_bit_is_refused(row: int, digit: int) -> None:
    liar = OddBits(Claim.of(CASE))
    liar.row, liar.digit = row, digit
    refused(S, liar.prove(), PRODUCT)


class PaddedBits(Liar):
    """Writes something behind the last bit."""

    def second_messages(self, seed: bytes) -> Words:
        rows = super().second_messages(seed)
        rows.reshape(-1)[self.statement.bits] = 2
        return rows


def test_padding_of_bits_has_to_be_bits() -> None:
    assert S.bits % S.shape.message_length
    refused(S, PaddedBits(Claim.of(CASE)).prove(), PRODUCT)


class OffByOne(Liar):
    """Commits to the bits of a number other than the true one: one more, one less at the top of the range."""

    which = 0

    def numbers(self, seed: bytes) -> list[tuple[int, int]]:
        numbers = super().numbers(seed)
        number, width = numbers[self.which]
        numbers[self.which] = (number + 1 if number + 1 < 1 << width else number - 1, width)
        return numbers


@pytest.mark.parametrize("which", [0, 1, 63, 64, 127, 128, 129, 130, 131])
def test_bits_of_another_number_are_refused(which: int) -> None:
    """The projections, then both norms, then both ends of the weight."""
    liar = OffByOne(Claim.of(CASE))
    liar.which = which
    refused(S, liar.prove(), SUM)
