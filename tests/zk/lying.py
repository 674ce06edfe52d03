"""Liars about updates: a claim of what the first oracle holds, true or not, and a prover of it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pytest

from secureagg.errors import EncodingError
from secureagg.zk import field as fq
from secureagg.zk import projection, validity
from secureagg.zk.relations import Instance, Places, ValidityRelations
from secureagg.zk.soundness import SHARE_REPETITIONS
from secureagg.zk.statement import Statement
from secureagg.zk.transcript import Transcript
from tests.zk.cheating import Challenges, Forger, Words
from tests.zk.instances import Case, Proven

__all__ = ["Claim", "Liar", "Patching", "Repair", "coordinate_place", "refused"]

Repair = Literal["bits", "digits"]


@dataclass(frozen=True)
class Claim:
    """What a liar's first oracle holds, as field elements, with the padding; and the ciphertext it is about.

    values, errors, dealt, counts: uint64, whole rows of V, E, S and M.
    """

    case: Case
    values: Words
    errors: Words
    dealt: Words
    counts: Words
    ciphertext: Words

    @classmethod
    def of(cls, case: Case) -> Claim:
        """Return the truth."""
        s, w, places = case.statement, case.witness, Places(case.statement)
        ell = s.shape.message_length

        def padded(values: Words, rows: range) -> Words:
            return np.pad(values, (0, ell * len(rows) - len(values)))

        values = padded((w.values % s.prime).astype(np.uint64), places.values)
        counts = np.zeros(s.table, dtype=np.uint64)
        if s.table:
            all_values = np.pad(w.values, (0, len(values) - s.values))
            counts = np.bincount(all_values + s.value_limit, minlength=s.table).astype(np.uint64)
        dealt = np.concatenate([w.polynomials.reshape(-1), w.masks.reshape(-1), np.array([w.weight], dtype=np.uint64)])
        errors = padded((w.errors % s.prime).astype(np.uint64), places.errors)
        padded_counts = padded(counts, places.multiplicities)
        return cls(case, values, errors, padded(dealt, places.dealt), padded_counts, case.ciphertext)

    @property
    def statement(self) -> Statement:
        """What is claimed."""
        return self.case.statement

    def telling(
        self,
        *,
        values: dict[int, int] | None = None,
        errors: dict[int, int] | None = None,
        dealt: dict[int, int] | None = None,
        counts: dict[int, int] | None = None,
        encrypted: bool = True,
    ) -> Claim:
        """Return the claim with other entries, any integers; the ciphertext follows values and errors, if `encrypted`.

        Positions from `values` or `coefficients` on are padding, which no ciphertext holds.
        """
        s, q, ciphertext = self.statement, self.statement.prime, self.ciphertext.tolist()
        for i, x in (values or {}).items():
            if encrypted and i < s.values:
                at, field = coordinate_place(s, i)
                ciphertext[at] += (s.delta << (s.field_bits * field)) * (x - int(self.values[i]))
        for i, x in (errors or {}).items():
            if encrypted and i < s.coefficients:
                ciphertext[i] += x - int(self.errors[i])
        return replace(
            self,
            values=_changed(self.values, values, q),
            errors=_changed(self.errors, errors, q),
            dealt=_changed(self.dealt, dealt, q),
            counts=_changed(self.counts, counts, q),
            ciphertext=np.array([c % q for c in ciphertext], dtype=np.uint64),
        )

    def messages(self) -> Words:
        """Return the first oracle's rows."""
        ell = self.statement.shape.message_length
        return np.concatenate([self.values, self.errors, self.dealt, self.counts]).reshape(-1, ell)


class Liar(Forger):
    """Proves a claim, true or not.

    repair: what it does where a number has not the bits it should have: "bits", it commits to its lowest ones, so a
    linear relation is false; or "digits", its lowest bit takes all that is missing, so the bit is none.
    """

    instance: Instance
    relations: ValidityRelations

    def __init__(self, claim: Claim, *, repair: Repair = "digits", seed: int = 0) -> None:
        super().__init__(claim.statement.shape, claim.statement.prime, seed)
        self.claim, self.statement, self.repair = claim, claim.statement, repair
        self.places = Places(claim.statement)

    def prove(self) -> Proven:
        """Return the root, the instance and the proof."""
        root = self.commit(self.claim.messages())
        self.instance = self.make_instance(root)
        transcript, self.relations, seed = self.begin(root)
        proof = self.respond(self.second_messages(seed), transcript, self.relations)
        return Proven(self.first.tree.root, self.instance, proof)

    def begin(self, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
        """Return the transcript after everything public, the relations, the projection's seed."""
        return validity.begin(self.statement, self.instance, root)

    def make_instance(self, root: bytes) -> Instance:
        """Return the instance: ρ' from the root, T as an honest prover of this claim computes it."""
        instance = replace(self.claim.case, ciphertext=self.claim.ciphertext).instance_for(root)
        return replace(instance, check=self.check_of(instance.combination))

    def check_of(self, combination: Words) -> Words:
        """Return T_k = ⟨ρ', r_k⟩ + μ_k."""
        s, q = self.statement, self.prime
        polynomials = self.claim.dealt[: s.threshold * s.secrets].reshape(s.threshold, s.secrets)
        masks = self.claim.dealt[s.threshold * s.secrets : s.dealt - 1].reshape(s.threshold, -1).tolist()
        check = [
            [(fq.dot(q, combination[r], polynomials[k]) + masks[k][r]) % q for r in range(SHARE_REPETITIONS)]
            for k in range(s.threshold)
        ]
        return np.array(check, dtype=np.uint64)

    def second_messages(self, seed: bytes) -> Words:
        """Return the second oracle's rows."""
        rows = np.zeros((self.places.total - self.places.bits.start, self.shape.message_length), dtype=np.uint64)
        bits = len(self.places.bits)
        rows[:bits].reshape(-1)[:] = np.pad(self.digits(seed), (0, rows[:bits].size - self.statement.bits))
        if self.statement.table:
            rows[bits:] = self.inverses()
        return rows

    def numbers(self, seed: bytes) -> list[tuple[int, int]]:
        """Return everything that is shown to be in a range, mod q, with its bits: first the projections."""
        s, q = self.statement, self.prime
        values, errors = self.claim.values.tolist(), self.claim.errors.tolist()
        weight = int(self.claim.dealt[s.dealt - 1])
        numbers = [((p + (1 << s.projection_bits)) % q, s.projection_bits + 1) for p in self.projected(seed)]
        numbers.append(((s.norm_bound - sum(v * v for v in values)) % q, s.norm_bits))
        numbers.append(((s.error_bound - sum(e * e for e in errors)) % q, s.error_bits))
        return [*numbers, ((weight - s.min_weight) % q, s.weight_bits), ((s.max_weight - weight) % q, s.weight_bits)]

    def projected(self, seed: bytes) -> list[int]:
        """Return R(v ‖ e) mod q of any field elements, in two halves that the library's sums can hold."""
        x = np.concatenate([self.claim.values, self.claim.errors]).astype(np.int64)
        low, high = (projection.project(seed, part).tolist() for part in (x & ((1 << 26) - 1), x >> 26))
        return [(a + (b << 26)) % self.prime for a, b in zip(low, high, strict=True)]

    def digits(self, seed: bytes) -> Words:
        """Return all bits, least significant first, or what stands in their place."""
        out: list[int] = []
        for number, width in self.numbers(seed):
            digits = [number >> b & 1 for b in range(width)]
            if number >> width and self.repair == "digits" and width:
                digits = [number] + [0] * (width - 1)
            out += digits
        return np.array(out, dtype=np.uint64)

    def inverses(self) -> Words:
        """Return the rows of 1/(α − v), three to each row of v."""
        known = {int(v): self.inverse(int(v)) for v in set(self.claim.values.tolist())}
        per_value = np.array([known[v] for v in self.claim.values.tolist()], dtype=np.uint64)
        ell = self.shape.message_length
        return np.ascontiguousarray(per_value.reshape(-1, ell, 3).transpose(0, 2, 1)).reshape(-1, ell)

    def inverse(self, value: int) -> tuple[int, int, int]:
        """Return 1/(α − value) in F_q[Y]/(Y³ − 7)."""
        q, (a0, b1, b2) = self.prime, (int(a) for a in self.relations._alpha)
        b0 = a0 - value
        c0, c1, c2 = b0 * b0 - 7 * b1 * b2, 7 * b2 * b2 - b0 * b1, b1 * b1 - b0 * b2
        norm = pow(b0 * c0 + 7 * (b1 * c2 + b2 * c1), -1, q)
        return c0 * norm % q, c1 * norm % q, c2 * norm % q


class Patching(Liar):
    """A liar whose linear responses add up, by a constant added to each."""

    def answers(self, challenges: Challenges) -> tuple[Words, Words, Words]:
        linear, quotients, proximity = self.true_answers(challenges)
        for i, deficit in enumerate(self.deficits(challenges)):
            constant = deficit * pow(self.shape.message_length, -1, self.prime)
            linear[i, 0] = (int(linear[i, 0]) + constant) % self.prime
        return linear, quotients, proximity


def refused(statement: Statement, proven: Proven, why: str) -> None:
    """Assert that the verifier refuses, and that this check does it."""
    with pytest.raises(EncodingError, match=re.escape(why)):
        validity.verify(statement, proven.instance, proven.root, proven.proof)


def coordinate_place(s: Statement, coordinate: int) -> tuple[int, int]:
    """Return the coefficient and the field that hold a coordinate: field by field within each chunk."""
    chunk, within = divmod(coordinate, s.fields * s.degree)
    size = min(s.degree, s.coefficients - chunk * s.degree)
    field, offset = divmod(within, size)
    return chunk * s.degree + offset, field


def _changed(entries: Words, changes: dict[int, int] | None, prime: int) -> Words:
    changed = entries.copy()
    for i, x in (changes or {}).items():
        changed[i] = x % prime
    return changed
