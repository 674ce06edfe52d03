"""Fiat–Shamir: what is chosen after a challenge that should depend on it.

Each liar here would be believed if the item it is named after were not absorbed: it knows the challenges, and picks
the item so that everything else adds up. All of them fail because the queries then fall on other columns.
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, fields, replace
from itertools import pairwise

import numpy as np
import pytest

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring.xof import PublicExpansion
from secureagg.zk import code as rs
from secureagg.zk import field as fq
from secureagg.zk import relations, validity
from secureagg.zk.relations import Instance, ValidityRelations
from secureagg.zk.statement import Statement
from secureagg.zk.transcript import Transcript, field_elements
from tests.zk.cheating import COLUMN, Challenges
from tests.zk.instances import PRIME, SID, Proven, honest
from tests.zk.lying import Claim, Liar, refused
from tests.zk.toy import Words

Q = PRIME
CASE = honest(max_weight=3)
S = CASE.statement
FALSE = replace(Claim.of(CASE), ciphertext=fq.add(Q, CASE.ciphertext, np.eye(1, S.coefficients, dtype=np.uint64)[0]))


def cross(a: list[int], b: list[int]) -> list[int]:
    """Return a vector orthogonal to both, of three entries."""
    return [(a[i - 2] * b[i - 1] - a[i - 1] * b[i - 2]) % Q for i in range(3)]


class Recording(ValidityRelations):
    """Keeps the seed of the linear challenges."""

    seed = b""

    def linear_tests(self, seed: bytes) -> list[validity.iop.LinearTest]:
        self.seed = seed
        return super().linear_tests(seed)


class Late(Liar):
    """Knows the coefficients of all relations when it reconsiders."""

    relations: Recording

    def begin(self, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
        transcript, relations, seed = super().begin(root)
        return transcript, Recording(self.statement, self.instance, seed, relations._alpha), seed

    def coefficients_drawn(self) -> list[relations._Coefficients]:
        return [self.relations._coefficients(self.relations.seed, repetition) for repetition in range(2)]


def honest_proof() -> Proven:
    return Liar(Claim.of(CASE)).prove()


def test_other_context_is_refused() -> None:
    proven = honest_proof()
    for context in (b"", CASE.context + b"\0", CASE.context[:-1], b"tests/zk Context"):
        refused(S, replace(proven, instance=replace(proven.instance, context=context)), COLUMN)


class Renamed(PublicExpansion):
    """The same words under another name."""

    @property
    def identity(self) -> bytes:
        return hashlib.sha256(super().identity).digest()


def test_other_identity_of_the_polynomials_is_refused() -> None:
    proven = honest_proof()
    for polynomials in (Renamed(SID, "public polynomials"), PublicExpansion(SID, "others")):
        refused(S, replace(proven, instance=replace(proven.instance, polynomials=polynomials)), COLUMN)


def test_number_that_no_relation_depends_on_counts() -> None:
    """With one key it has all chunks, however many a key may have."""
    refused(replace(S, chunks_per_key=S.chunks_per_key + 1), honest_proof(), COLUMN)


@pytest.mark.parametrize("name", [field.name for field in fields(Statement)])
def test_each_number_of_the_statement_counts(name: str) -> None:
    proven = honest_proof()
    for step in (1, -1, 16):
        try:
            other = replace(S, **{name: getattr(S, name) + step})
            with pytest.raises((EncodingError, ParameterError, OverflowError)):
                validity.verify(other, proven.instance, proven.root, proven.proof)
        except (ParameterError, ValueError, OverflowError):
            pass  # there is no such statement
        if name in ("norm_bound", "error_bound", "delta", "field_bits"):
            refused(other, proven, COLUMN)


class LateCiphertext(Late):
    """Adds to three coefficients what both combinations of R1 do not see."""

    def reconsider(self, challenges: Challenges) -> Challenges:
        first, second = (drawn.ciphertext[:3].tolist() for drawn in self.coefficients_drawn())
        ciphertext = self.instance.ciphertext.copy()
        ciphertext[:3] = fq.add(Q, ciphertext[:3].copy(), np.array(cross(first, second), dtype=np.uint64))
        self.instance = replace(self.instance, ciphertext=ciphertext)
        return challenges


class LateRoot(Late):
    """Commits to another key, which both linear combinations do not tell from the true one."""

    def reconsider(self, challenges: Challenges) -> Challenges:
        row = self.places.dealt.start
        first, second = (test.functional[row, :3].tolist() for test in challenges.linear)
        changes = np.zeros((1, self.shape.message_length), dtype=np.uint64)
        changes[0, :3] = cross(first, second)
        rs.interpolate(self.code, changes)
        polynomials = self.first.polynomials.copy()
        low = polynomials[row, : changes.size].copy()
        polynomials[row, : changes.size] = fq.add(Q, low, changes[0])
        self.first = self.oracle(0, polynomials)
        return challenges


class LateMasks(Late):
    """Commits to masks that make up for a false relation; their sums stay as announced."""

    def reconsider(self, challenges: Challenges) -> Challenges:
        for i, deficit in enumerate(self.deficits(challenges)):
            self.masks[2 * i, 0] = (int(self.masks[2 * i, 0]) + deficit * pow(self.shape.message_length, -1, Q)) % Q
        count = self.shape.rows.second
        self.second = self.oracle(1, np.concatenate([self.second.polynomials[:count], self.masks]))
        return challenges


class LateSums(Late):
    """Announces sums of masks that make up for a false relation."""

    def reconsider(self, challenges: Challenges) -> Challenges:
        sums = [(int(s) - deficit) % Q for s, deficit in zip(self.sums, self.deficits(challenges), strict=True)]
        self.sums = np.array(sums, dtype=np.uint64)
        return challenges


class LateCheck(Late):
    """Publishes a T of which both combinations are those of the true one."""

    def reconsider(self, challenges: Challenges) -> Challenges:
        first, second = (drawn.shares.reshape(-1)[:3].tolist() for drawn in self.coefficients_drawn())
        check = self.instance.check.copy()
        check.reshape(-1)[:3] = fq.add(Q, check.reshape(-1)[:3].copy(), np.array(cross(first, second), np.uint64))
        self.instance = replace(self.instance, check=check)
        return challenges


class LateCombination(Late):
    """Publishes a wrong T, then a ρ' for which it is right in both combinations."""

    def check_of(self, combination: Words) -> Words:
        check = super().check_of(combination)
        check[0, 0] = (int(check[0, 0]) + 1) % Q
        return check

    def reconsider(self, challenges: Challenges) -> Challenges:
        polynomials = self.claim.case.witness.polynomials[:, :2].astype(object)
        shares = [drawn.shares[:, 0].astype(object) for drawn in self.coefficients_drawn()]
        (a, b), (c, d) = (((share[:, None] * polynomials).sum(axis=0) % Q).tolist() for share in shares)
        x, y = (int(share[0]) for share in shares)
        inverse = pow(a * d - b * c, -1, Q)
        combination = self.instance.combination.copy()
        change = [(x * d - y * b) * inverse % Q, (y * a - x * c) * inverse % Q]
        combination[0, :2] = fq.add(Q, combination[0, :2].copy(), np.array(change, dtype=np.uint64))
        self.instance = replace(self.instance, combination=combination)
        relations = Recording(self.statement, self.instance, *self.drawn_before())
        return replace(challenges, linear=relations.linear_tests(self.relations.seed))

    def drawn_before(self) -> tuple[bytes, Words]:
        return self.relations._projection_seed, self.relations._alpha


@pytest.mark.parametrize("liar", [LateCiphertext, LateRoot, LateCheck])
def test_item_chosen_after_the_challenges_is_refused(liar: type[Late]) -> None:
    refused(S, liar(Claim.of(CASE)).prove(), COLUMN)


@pytest.mark.parametrize("liar", [LateMasks, LateSums])
def test_masks_chosen_after_the_challenges_are_refused(liar: type[Late]) -> None:
    refused(S, liar(FALSE).prove(), COLUMN)


def test_combination_chosen_after_the_challenges_is_refused() -> None:
    refused(S, LateCombination(Claim.of(CASE)).prove(), COLUMN)


Item = tuple[str, bytes]


class ByHand(Liar):
    """Absorbs what a list says, item by item: by default what the verifier absorbs."""

    def items(self, root: bytes) -> list[Item]:
        instance: Instance = self.instance
        return [
            ("statement", b"".join(number.to_bytes(16, "little") for number in astuple(self.statement))),
            ("context", instance.context),
            ("polynomials", instance.polynomials.identity),
            ("ciphertext", hashlib.sha256(instance.ciphertext.astype("<u8").tobytes()).digest()),
            ("first root", root),
            ("combination", instance.combination.astype("<u8").tobytes()),
            ("check", instance.check.astype("<u8").tobytes()),
        ]

    def altered(self, items: list[Item]) -> list[Item]:
        return items

    def start(self) -> Transcript:
        return Transcript("secureagg v1 validity")

    def begin(self, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
        transcript = self.start()
        for label, part in self.altered(self.items(root)):
            transcript.absorb(label, part)
        seed = transcript.challenge("projection")
        alpha = field_elements(transcript.challenge("lookup"), "alpha", 3, Q)
        return transcript, ValidityRelations(self.statement, self.instance, seed, alpha), seed


def test_transcript_by_hand_is_the_verifiers() -> None:
    proven = ByHand(Claim.of(CASE)).prove()
    validity.verify(S, proven.instance, proven.root, proven.proof)


@pytest.mark.parametrize("which", range(7))
def test_item_left_out_empty_or_moved_is_refused(which: int) -> None:
    class LeftOut(ByHand):
        def altered(self, items: list[Item]) -> list[Item]:
            return items[:which] + items[which + 1 :]

    class Emptied(ByHand):
        def altered(self, items: list[Item]) -> list[Item]:
            return [*items[:which], (items[which][0], b""), *items[which + 1 :]]

    class Moved(ByHand):
        def altered(self, items: list[Item]) -> list[Item]:
            items[which], items[which - 1] = items[which - 1], items[which]
            return items

    class Lent(ByHand):
        """Its last byte goes to the next item: the same bytes in a row."""

        def altered(self, items: list[Item]) -> list[Item]:
            after = (which + 1) % 7
            items[after] = (items[after][0], items[which][1][-1:] + items[after][1])
            items[which] = (items[which][0], items[which][1][:-1])
            return items

    for liar in (LeftOut, Emptied, Moved, Lent):
        refused(S, liar(Claim.of(CASE)).prove(), COLUMN)


class AndQ(ByHand):
    """Adds q to one element of the instance: it means the same, and other bytes are absorbed."""

    name = "ciphertext"

    def make_instance(self, root: bytes) -> Instance:
        instance = super().make_instance(root)
        array = getattr(instance, self.name).copy()
        array.reshape(-1)[-1] += np.uint64(Q)
        return replace(instance, **{self.name: array})


@pytest.mark.parametrize("name", ["ciphertext", "combination", "check"])
def test_element_of_an_instance_of_q_or_more_is_refused(name: str) -> None:
    liar = AndQ(Claim.of(CASE))
    liar.name = name
    refused(S, liar.prove(), "the instance holds an element that is not below q")


class Short(Transcript):
    """Forgets half of every challenge."""

    def challenge(self, label: str) -> bytes:
        return super().challenge(label)[:16] + bytes(16)


def test_truncated_challenges_are_refused() -> None:
    class Truncating(ByHand):
        def start(self) -> Transcript:
            return Short("secureagg v1 validity")

    refused(S, Truncating(Claim.of(CASE)).prove(), COLUMN)


def test_proof_under_another_label_is_refused() -> None:
    class Other(ByHand):
        def start(self) -> Transcript:
            return Transcript("secureagg v1 noise")

    refused(S, Other(Claim.of(CASE)).prove(), COLUMN)


def test_repetitions_have_coefficients_of_their_own() -> None:
    case = honest(value_limit=700, max_weight=3)
    liar = Late(Claim.of(case))
    liar.prove()
    both = liar.coefficients_drawn()
    everything = [np.concatenate([np.asarray(part).reshape(-1) for part in astuple(drawn)]) for drawn in both]
    assert len(set(np.concatenate(everything).tolist())) == 2 * everything[0].size
    products = [np.concatenate([p.coefficients.reshape(-1) for p in test.products])
                for test in liar.relations.product_tests(bytes(32))]  # fmt: skip
    assert len(set(np.concatenate(products).tolist())) == 2 * products[0].size
    for row in (*everything, *products):  # independent, and not the powers of one
        ratios = {int(b) * pow(int(a), -1, Q) % Q for a, b in pairwise(row.tolist())}
        assert len(ratios) == row.size - 1
