"""Lies about the ciphertext and the key: R1 and R5. Whatever the lie leaves true is proven honestly after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secureagg.zk import validity
from secureagg.zk.soundness import SHARE_REPETITIONS
from tests.zk.cheating import COLUMN, LINEAR, SUM
from tests.zk.instances import PRIME, Case, honest
from tests.zk.lying import Claim, Liar, Patching, coordinate_place, refused
from tests.zk.toy import Words

Q = PRIME
CASE = honest(values=40, threshold=3, coefficients=48)
S = CASE.statement
ways = pytest.mark.parametrize(("liar", "why"), [(Liar, SUM), (Patching, LINEAR)])


def added(claim: Claim, at: int, amount: int) -> Claim:
    """Return the claim with another ciphertext."""
    ciphertext = claim.ciphertext.copy()
    ciphertext[at] = (int(ciphertext[at]) + amount) % Q
    return replace(claim, ciphertext=ciphertext)


@ways
@pytest.mark.parametrize("at", [0, 15, 16, 40, S.coefficients - 1])
@pytest.mark.parametrize("amount", [1, -1, Q // 2])
def test_ciphertext_of_something_else_is_refused(at: int, amount: int, liar: type[Liar], why: str) -> None:
    refused(S, liar(added(Claim.of(CASE), at, amount)).prove(), why)


@ways
@pytest.mark.parametrize("coordinate", [0, 17, S.values - 1, S.values, S.values + 1, 95])
def test_message_other_than_values_weight_and_zeros_is_refused(coordinate: int, liar: type[Liar], why: str) -> None:
    """The last two coordinates are beyond the weight, where no row holds anything."""
    at, field = coordinate_place(S, coordinate)
    refused(S, liar(added(Claim.of(CASE), at, S.delta << (S.field_bits * field))).prove(), why)


@ways
def test_values_exchanged_are_refused(liar: type[Liar], why: str) -> None:
    """Two coordinates of one coefficient: their norm stays."""
    claim = Claim.of(CASE)
    assert coordinate_place(S, 0)[0] == coordinate_place(S, 16)[0]
    values = {0: int(claim.values[16]), 16: int(claim.values[0])}
    refused(S, liar(claim.telling(values=values, encrypted=False)).prove(), why)


@ways
def test_errors_that_take_over_a_value_are_refused(liar: type[Liar], why: str) -> None:
    claim = Claim.of(CASE).telling(errors={0: int(CASE.witness.errors[0]) + 1}, encrypted=False)
    refused(S, liar(claim).prove(), why)


@ways
def test_ciphertext_of_another_client_is_refused(liar: type[Liar], why: str) -> None:
    """With one's own witness; then with one's own proof as it is."""
    theirs = honest(values=40, threshold=3, coefficients=48, seed=1).ciphertext
    refused(S, liar(replace(Claim.of(CASE), ciphertext=theirs)).prove(), why)
    proven = Liar(Claim.of(CASE)).prove()
    refused(S, replace(proven, instance=replace(proven.instance, ciphertext=theirs)), COLUMN)


@ways
def test_vector_cut_short_is_refused(liar: type[Liar], why: str) -> None:
    """The last coordinate is encrypted and not committed."""
    last = S.values - 1
    claim = Claim.of(CASE)
    assert claim.values[last]
    refused(S, liar(claim.telling(values={last: 0}, encrypted=False)).prove(), why)


def test_proof_for_fewer_coordinates_is_refused() -> None:
    """It is true of the shorter vector with the weight behind it, and of the same sizes."""
    short = honest(values=39, threshold=3, coefficients=48)
    assert short.statement.shape == S.shape
    proven = Liar(Claim.of(short)).prove()
    validity.verify(short.statement, proven.instance, proven.root, proven.proof)
    refused(S, proven, COLUMN)


@ways
@pytest.mark.parametrize("at", [0, S.degree - 1])
def test_key_other_than_the_ciphertexts_is_refused(at: int, liar: type[Liar], why: str) -> None:
    """Committed, and in the share check: as the committee would see it, only R1 is false."""
    key = int(CASE.witness.polynomials[0, at])
    refused(S, liar(Claim.of(CASE).telling(dealt={at: key + 1})).prove(), why)


class Dealing(Liar):
    """Answers the share check for polynomials, or masks, other than the committed ones."""

    entry = 0

    def check_of(self, combination: Words) -> Words:
        truth = self.claim
        self.claim = truth.telling(dealt={self.entry: int(truth.dealt[self.entry]) + 1})
        check = super().check_of(combination)
        self.claim = truth
        return check


@pytest.mark.parametrize("polynomial", range(S.threshold))
@pytest.mark.parametrize("at", [0, S.degree - 1])
def test_polynomial_dealt_other_than_the_committed_one_is_refused(polynomial: int, at: int) -> None:
    liar = Dealing(Claim.of(CASE))
    liar.entry = polynomial * S.degree + at
    refused(S, liar.prove(), SUM)


@pytest.mark.parametrize("polynomial", range(S.threshold))
@pytest.mark.parametrize("repetition", range(SHARE_REPETITIONS))
def test_mask_dealt_other_than_the_committed_one_is_refused(polynomial: int, repetition: int) -> None:
    liar = Dealing(Claim.of(CASE))
    liar.entry = S.threshold * S.secrets + SHARE_REPETITIONS * polynomial + repetition
    refused(S, liar.prove(), SUM)


class Checking(Liar):
    """Changes one entry of T."""

    entry = (0, 0)

    def check_of(self, combination: Words) -> Words:
        check = super().check_of(combination)
        check[self.entry] = (int(check[self.entry]) + 1) % Q
        return check


@pytest.mark.parametrize("entry", [(k, r) for k in range(S.threshold) for r in range(SHARE_REPETITIONS)])
def test_each_entry_of_the_share_check_is_proven(entry: tuple[int, int]) -> None:
    liar = Checking(Claim.of(CASE))
    liar.entry = entry
    refused(S, liar.prove(), SUM)


class Exchanging(Liar):
    """Gives the first repetition of the share check the last one's answer, and the other way round."""

    def check_of(self, combination: Words) -> Words:
        return np.ascontiguousarray(super().check_of(combination)[:, ::-1])


def test_repetitions_of_the_share_check_exchanged_are_refused() -> None:
    refused(S, Exchanging(Claim.of(CASE)).prove(), SUM)


KEYS = honest(values=120, keys=2, degree=16, coefficients=64)


def test_each_key_has_its_own_chunks() -> None:
    """The first key in place of the second, in the rows and in the share check."""
    s = KEYS.statement
    proven = Liar(Claim.of(KEYS)).prove()
    validity.verify(s, proven.instance, proven.root, proven.proof)
    first = KEYS.witness.polynomials[0, : s.degree].tolist()
    claim = Claim.of(KEYS).telling(dealt=dict(enumerate(first, s.degree)))
    refused(s, Liar(claim).prove(), SUM)


def test_chunks_exchanged_are_refused() -> None:
    s = KEYS.statement
    chunks = KEYS.ciphertext.reshape(-1, s.degree)[[1, 0, 2, 3]].reshape(-1).copy()
    refused(s, Liar(replace(Claim.of(KEYS), ciphertext=chunks)).prove(), SUM)


@pytest.mark.parametrize("case", [CASE, KEYS, honest(values=70, degree=64)], ids=["threshold 3", "2 keys", "N = 64"])
def test_padding_that_no_relation_reads_changes_nothing(case: Case) -> None:
    """Behind the weight, in the rows of the dealing."""
    claim = Claim.of(case).telling(dealt={case.statement.dealt: 12345})
    proven = Liar(claim).prove()
    validity.verify(case.statement, proven.instance, proven.root, proven.proof)


SHORT = honest(values=150, degree=64, coefficients=80)


@ways
@pytest.mark.parametrize("coordinate", [128, 143, 144, 149, 150, 151, 159])
def test_last_chunk_that_is_shorter_has_fields_of_its_own_length(coordinate: int, liar: type[Liar], why: str) -> None:
    s = SHORT.statement
    at, field = coordinate_place(s, coordinate)
    assert (at, field) == (64 + (coordinate - 128) % 16, (coordinate - 128) // 16)
    refused(s, liar(added(Claim.of(SHORT), at, s.delta << (s.field_bits * field))).prove(), why)
    if coordinate < s.values:
        proven = liar(Claim.of(SHORT).telling(values={coordinate: 1})).prove()
        validity.verify(s, proven.instance, proven.root, proven.proof)
