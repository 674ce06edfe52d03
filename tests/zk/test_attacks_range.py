"""Lies to the range argument: values outside the table, wrong multiplicities, inverses that are none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from secureagg.zk import lookup, validity
from secureagg.zk.relations import ValidityRelations
from secureagg.zk.transcript import Transcript
from tests.zk.cheating import LINEAR, PRODUCT, SUM
from tests.zk.instances import PRIME, honest
from tests.zk.lying import Claim, Liar, Patching, refused
from tests.zk.toy import Words

Q = PRIME
CASE = honest(value_limit=700)
S = CASE.statement
C = S.value_limit
ELL = S.shape.message_length


def telling(values: dict[int, int]) -> Claim:
    """Return the claim of a vector that is zero elsewhere, with the multiplicities of what is in the table."""
    claim = Claim.of(CASE).telling(values=dict.fromkeys(range(S.values), 0) | values)
    counts = dict.fromkeys(range(S.table), 0)
    for value in claim.values.tolist():
        signed = value - Q if value > Q // 2 else value
        if abs(signed) <= C:
            counts[signed + C] += 1
    return claim.telling(counts=counts)


class Borrowing(Liar):
    """Uses the inverse that belongs to C for whatever is outside."""

    def inverse(self, value: int) -> tuple[int, int, int]:
        signed = value - Q if value > Q // 2 else value
        return super().inverse(signed if abs(signed) <= C else C)


def test_values_at_both_ends_are_accepted() -> None:
    claim = telling({0: C, 1: -C, 39: C})
    proven = Liar(claim).prove()
    validity.verify(S, proven.instance, proven.root, proven.proof)


@pytest.mark.parametrize(("liar", "why"), [(Liar, SUM), (Patching, LINEAR)])
@pytest.mark.parametrize("value", [C + 1, -C - 1, 2 * C])
@pytest.mark.parametrize("counted", [None, 0, S.table - 1, S.table])
def test_value_outside_with_its_true_inverse_is_refused(
    value: int, counted: int | None, liar: type[Liar], why: str
) -> None:
    """Its norm, projection and encryption are right. It is counted as nothing, as an entry, or in the padding."""
    claim = telling({5: value})
    if counted is not None:
        claim = claim.telling(counts={counted: int(claim.counts[counted]) + 1})
    refused(S, liar(claim).prove(), why)


@pytest.mark.parametrize("value", [C + 1, -C - 1, 2 * C])
@pytest.mark.parametrize("at", [0, 39])
def test_value_outside_with_the_inverse_of_another_is_refused(value: int, at: int) -> None:
    claim = telling({at: value})
    claim = claim.telling(counts={2 * C: int(claim.counts[2 * C]) + 1})
    refused(S, Borrowing(claim).prove(), PRODUCT)


def test_padding_of_values_is_looked_up_too() -> None:
    claim = telling({}).telling(values={S.values + 3: C + 1})
    claim = claim.telling(counts={C: int(claim.counts[C]) - 1, 2 * C: 1})
    refused(S, Borrowing(claim).prove(), PRODUCT)


@pytest.mark.parametrize(("at", "more"), [(0, 1), (C, -1), (2 * C, 1), (C, Q - 5)])
def test_wrong_multiplicity_is_refused(at: int, more: int) -> None:
    claim = telling({0: 5, 1: -5})
    refused(S, Liar(claim.telling(counts={at: int(claim.counts[at]) + more})).prove(), SUM)


def test_multiplicities_exchanged_are_refused() -> None:
    claim = telling({0: 5, 1: 5, 2: 6})
    refused(S, Liar(claim.telling(counts={C + 5: 1, C + 6: 2})).prove(), SUM)


class Shifting(Liar):
    """Adds Y^component/(α − v) to one inverse and takes it from another, of equal values.

    All sums stay right, and (α − v)·h = 1 is false in this component alone.
    """

    component = 0

    def inverses(self) -> Words:
        rows = super().inverses()
        assert self.claim.values[2] == self.claim.values[3]
        shift = list(self.inverse(int(self.claim.values[2])))
        for _ in range(self.component):
            shift = [7 * shift[2] % Q, shift[0], shift[1]]
        for i, x in enumerate(shift):
            rows[i, 2], rows[i, 3] = (int(rows[i, 2]) + x) % Q, (int(rows[i, 3]) - x) % Q
        return rows


@pytest.mark.parametrize("component", range(3))
def test_inverse_that_is_none_is_refused(component: int) -> None:
    liar = Shifting(telling({0: 5}))
    liar.component = component
    refused(S, liar.prove(), PRODUCT)


class Foreseeing(Liar):
    """Knows α, and chooses multiplicities with which two of the three components of the sum are right."""

    alpha = (3**30 % Q, 5**20 % Q, 7**17 % Q)
    wrong = 0

    def begin(self, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
        transcript, relations, seed = super().begin(root)
        assert tuple(relations._alpha.tolist()) == self.alpha
        return transcript, relations, seed

    @classmethod
    def claim_of(cls, claim: Claim, wrong: int) -> Claim:
        """Return the claim with two multiplicities changed: those of −C and 1 − C."""
        table = lookup.inverses(np.array(cls.alpha, dtype=np.uint64), C, Q).tolist()
        forger = cls(claim)
        forger.relations = ValidityRelations(S, forger.make_instance(bytes(32)), b"", np.array(cls.alpha, np.uint64))
        missing = forger.inverse(C + 1)
        first, second = (component for component in range(3) if component != wrong)
        a, b, c, d = table[first][0], table[first][1], table[second][0], table[second][1]
        inverse = pow(a * d - b * c, -1, Q)
        x = (missing[first] * d - missing[second] * b) * inverse % Q
        y = (missing[second] * a - missing[first] * c) * inverse % Q
        return claim.telling(counts={0: int(claim.counts[0]) + x, 1: int(claim.counts[1]) + y})


@pytest.mark.parametrize("wrong", range(3))
def test_each_component_of_the_sum_counts(wrong: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """α is fixed by the test: with one that is drawn after the multiplicities nobody gets two components right."""
    drawn = validity.field_elements

    def fixed(seed: bytes, label: str, count: int, prime: int) -> Words:
        if label == "alpha":
            return np.array(Foreseeing.alpha, dtype=np.uint64)
        return drawn(seed, label, count, prime)

    monkeypatch.setattr(validity, "field_elements", fixed)
    claim = Foreseeing.claim_of(telling({5: C + 1}), wrong)
    refused(S, Foreseeing(claim).prove(), SUM)


def test_limit_is_the_statements() -> None:
    """A proof under a wider table is none under this one."""
    wide = replace(CASE, statement=replace(S, value_limit=C + 1))
    assert wide.statement.shape == S.shape
    claim = Claim.of(wide).telling(values={5: C + 1})
    proven = Liar(replace(claim, counts=recounted(claim))).prove()
    validity.verify(wide.statement, proven.instance, proven.root, proven.proof)
    refused(S, proven, "first oracle")


def recounted(claim: Claim) -> Words:
    limit = claim.statement.value_limit
    signed = np.where(claim.values > Q // 2, claim.values.astype(np.int64) - Q, claim.values.astype(np.int64))
    return np.bincount(signed + limit, minlength=len(claim.counts)).astype(np.uint64)


class Afterwards(Liar):
    """Chooses three multiplicities when α is known, and commits again: its sum is then right in all components."""

    def begin(self, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
        _, self.relations, _ = super().begin(root)
        table = [row[:3] for row in self.relations.inverse_table.tolist()]
        changes = solved(table, list(self.inverse(C + 1)))
        self.claim = self.claim.telling(
            counts={at: int(self.claim.counts[at]) + change for at, change in enumerate(changes)}
        )
        return super().begin(self.commit(self.claim.messages()))


def solved(matrix: list[list[int]], right: list[int]) -> list[int]:
    """Return x with matrix·x = right mod q."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    for i in range(len(rows)):
        pivot = next(j for j in range(i, len(rows)) if rows[j][i])
        rows[i], rows[pivot] = rows[pivot], rows[i]
        inverse = pow(rows[i][i], -1, Q)
        rows[i] = [x * inverse % Q for x in rows[i]]
        for j in range(len(rows)):
            if j != i:
                rows[j] = [(x - rows[j][i] * y) % Q for x, y in zip(rows[j], rows[i], strict=True)]
    return [row[-1] for row in rows]


def test_multiplicities_chosen_after_the_challenge_are_refused() -> None:
    """α is another one then."""
    refused(S, Afterwards(telling({5: C + 1})).prove(), SUM)
