"""Small statements for the tests of the validity proof, with honest witnesses and the ciphertexts that belong to them.

    case = honest(values=40, degree=16, threshold=2)
    proven = prove(case)
    validity.verify(case.statement, proven.instance, proven.root, proven.proof)

A lie is a case with something replaced (`dataclasses.replace`, `Case.lying`), proven with `forced=True`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from secureagg.ring import ntt, residues
from secureagg.ring.masks import fill_masks
from secureagg.ring.params import PRIMES, SIGMA
from secureagg.ring.xof import PublicExpansion
from secureagg.zk import field as fq
from secureagg.zk import validity
from secureagg.zk.soundness import SHARE_REPETITIONS
from secureagg.zk.statement import Statement
from secureagg.zk.transcript import field_elements
from secureagg.zk.validity import Instance, Prover, Witness

__all__ = ["PRIME", "SID", "Case", "Proven", "encrypt", "honest", "prove"]

PRIME = PRIMES[0]
SID = b"tests/zk session"
FIELDS, FIELD_BITS, DELTA = 2, 16, 5000
CLIP = 3000.0  # L2, in grid steps

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Case:
    """A statement, what its prover knows and the ciphertext uint64[n_c] it has sent."""

    statement: Statement
    witness: Witness
    ciphertext: Words
    polynomials: PublicExpansion
    context: bytes = b"tests/zk context"

    def instance_for(self, root: bytes) -> Instance:
        """Return the public side of a proof that begins with this root: ρ' of it, and T = ⟨ρ', r_k⟩ + μ_k."""
        s, w = self.statement, self.witness
        drawn = field_elements(root, "tests/zk combination", SHARE_REPETITIONS * s.secrets, s.prime)
        rho = drawn.reshape(SHARE_REPETITIONS, s.secrets)
        check = [
            [(fq.dot(s.prime, row, w.polynomials[k]) + int(w.masks[k, r])) % s.prime for r, row in enumerate(rho)]
            for k in range(s.threshold)
        ]
        return Instance(self.context, self.polynomials, self.ciphertext, rho, np.array(check, dtype=np.uint64))

    def lying(self, *, encrypted: bool = True, **changes: Any) -> Case:
        """Return the case with parts of the witness replaced; the ciphertext is made of them, if `encrypted`."""
        witness = replace(self.witness, **changes)
        ciphertext = encrypt(self.statement, self.polynomials, witness) if encrypted else self.ciphertext
        return replace(self, witness=witness, ciphertext=ciphertext)


@dataclass(frozen=True)
class Proven:
    """What is sent and received: the first root, the instance it leads to, the proof."""

    root: bytes
    instance: Instance
    proof: bytes


def honest(
    *,
    values: int = 40,
    degree: int = 16,
    keys: int = 1,
    threshold: int = 2,
    max_weight: int = 1,
    weight: int = 1,
    value_limit: int = 0,
    coefficients: int | None = None,
    seed: int = 0,
) -> Case:
    """Return a true statement about `values` random values and errors, under keys of `degree` coefficients.

    value_limit: C of the range argument, 0 without it. coefficients: n_c, by default the fewest that hold the values
    and the weight, two a coefficient: at least one chunk a key, the last one a multiple of 16 if there is one key.
    """
    random = np.random.default_rng(seed)
    needed = -(-(values + 1) // FIELDS)
    unit = 16 if keys == 1 else degree
    sent = coefficients or max(keys * degree, -(-needed // unit) * unit)
    chunks = -(-sent // degree)
    statement = Statement(
        degree=degree,
        keys=keys,
        chunks_per_key=-(-chunks // keys),
        coefficients=sent,
        fields=FIELDS,
        field_bits=FIELD_BITS,
        delta=DELTA,
        values=values,
        max_weight=max_weight,
        norm_bound=int(CLIP**2 + values / 4 + 3.72 * (CLIP + math.sqrt(values) / 2)),
        error_bound=_error_bound(sent),
        value_limit=value_limit,
        threshold=threshold,
        prime=PRIME,
    )
    direction = random.normal(size=values)
    v = np.rint(0.9 * CLIP * direction / np.linalg.norm(direction)).astype(np.int64)
    if value_limit:
        v = np.clip(v, -value_limit, value_limit)
    errors = np.rint(random.normal(0, 0.9 * SIGMA, sent)).astype(np.int64)
    keys_drawn = np.rint(random.normal(0, SIGMA, statement.secrets)).astype(np.int64)
    polynomials = random.integers(0, PRIME, (threshold, statement.secrets), dtype=np.uint64)
    polynomials[0] = keys_drawn % PRIME
    masks = random.integers(0, PRIME, (threshold, SHARE_REPETITIONS), dtype=np.uint64)
    witness = Witness(v, errors, polynomials, masks, weight)
    public = PublicExpansion(SID, "public polynomials")
    return Case(statement, witness, encrypt(statement, public, witness), public)


def encrypt(statement: Statement, public: PublicExpansion, witness: Witness) -> Words:
    """Return c_j = a_j·s + e + Δ·Σ_k 2^(Wk)·v_k for all chunks: uint64[n_c]."""
    s = statement
    chunks = -(-s.coefficients // s.degree)
    total = np.empty((chunks, 1, s.degree), dtype=np.uint64)
    for key in range(s.keys):
        secret = witness.polynomials[0, key * s.degree : (key + 1) * s.degree].reshape(1, 1, -1).copy()
        ntt.forward(secret, (s.prime,))
        first = key * s.chunks_per_key
        part = total[first : min(first + s.chunks_per_key, chunks)]
        fill_masks(part, public, first, secret[0], (s.prime,))
    added = np.zeros(chunks * s.degree, dtype=np.int64)
    added[: s.coefficients] = _messages(s, witness) * s.delta + witness.errors
    residues.add_signed(total, added.reshape(chunks, s.degree), (s.prime,))
    return total.reshape(-1)[: s.coefficients].copy()


def _messages(s: Statement, witness: Witness) -> Integers:
    coordinates = [*witness.values.tolist(), witness.weight]
    coordinates += [0] * (s.fields * s.coefficients - len(coordinates))
    message = np.zeros(s.coefficients, dtype=np.int64)
    for start in range(0, s.coefficients, s.degree):
        n = min(s.degree, s.coefficients - start)
        for k in range(s.fields):
            at = s.fields * start + k * n
            message[start : start + n] += np.array(coordinates[at : at + n], dtype=np.int64) << (s.field_bits * k)
    return message


def prove(case: Case, *, forced: bool = False) -> Proven:
    """Prove a case; `forced` switches off the prover's own check of its witness, so that it proves a lie.

    Raises: OverflowError if the projection does not fit its bits, which a lie can make likely.
    """
    if forced:
        with patch.object(validity, "_check", lambda statement, witness: None):
            prover = Prover(case.statement, case.witness)
    else:
        prover = Prover(case.statement, case.witness)
    root = prover.commit()
    instance = case.instance_for(root)
    proof = prover.prove(instance)
    if proof is None:
        raise OverflowError("the projection does not fit its bits")
    return Proven(root, instance, proof)


def _error_bound(coefficients: int) -> int:
    x = 40 * math.log(2)
    return int(SIGMA**2 * (coefficients + 2 * math.sqrt(coefficients * x) + 2 * x))
