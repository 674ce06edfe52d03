"""The validity proof: these ciphertexts are well-formed encryptions, under the key shared with the committee, of a
vector within the plan's L2 bound. docs/proofs/ has a note for each claim.

Commit, learn the share check's challenge from the commitment, answer it, prove:

    prover = Prover(statement, witness)
    root = prover.commit()
    … ρ' from everything sent so far and `root`; T_k = ⟨ρ', r_k⟩ + μ_k …
    proof = prover.prove(instance)          verify(statement, instance, root, proof)
"""

from __future__ import annotations

import hashlib
from dataclasses import astuple, dataclass, field
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring.ntt import Words
from secureagg.wire import Writer
from secureagg.zk import iop, lookup, projection
from secureagg.zk.relations import Instance, Places, ValidityRelations
from secureagg.zk.soundness import SHARE_REPETITIONS
from secureagg.zk.statement import EXTENSION, Statement
from secureagg.zk.transcript import Transcript, field_elements

__all__ = ["Instance", "Prover", "Witness", "begin", "verify"]

_LABEL = "secureagg v1 validity"


@dataclass(frozen=True)
class Witness:
    """What only the client knows. `repr` shows nothing.

    values: int64[d]; errors: int64[n_c]; polynomials: uint64[threshold, keys·N], the first of them the one-time keys;
    masks: uint64[threshold, 3]; weight.
    """

    values: NDArray[np.int64] = field(repr=False)
    errors: NDArray[np.int64] = field(repr=False)
    polynomials: Words = field(repr=False)
    masks: Words = field(repr=False)
    weight: int = field(repr=False)


class Prover:
    """Proves one contribution. Commits again, with fresh blinding, as often as it is asked to."""

    def __init__(self, statement: Statement, witness: Witness) -> None:
        _check(statement, witness)
        self._statement, self._witness = statement, witness
        self._places = Places(statement)
        self._iop = iop.Prover(statement.shape, statement.prime)
        self._root = b""

    def commit(self) -> bytes:
        """Return the root of the first oracle: values, errors, dealing, weight."""
        s, w, places = self._statement, self._witness, self._places
        rows = np.zeros((places.bits.start, s.shape.message_length), dtype=np.uint64)
        _flat(rows, places.values)[: s.values] = _reduce(w.values, s.prime)
        _flat(rows, places.errors)[: s.coefficients] = _reduce(w.errors, s.prime)
        dealt = [w.polynomials.reshape(-1), w.masks.reshape(-1), np.array([w.weight], dtype=np.uint64)]
        _flat(rows, places.dealt)[: s.dealt] = np.concatenate(dealt)
        if s.table:
            padded = s.shape.message_length * len(places.values)
            counts = lookup.multiplicities(w.values, s.value_limit)
            counts[s.value_limit] += np.uint64(padded - s.values)  # the padding of the value rows is zero
            _flat(rows, places.multiplicities)[: s.table] = counts
        self._root = self._iop.commit(rows)
        return self._root

    def prove(self, instance: Instance) -> bytes | None:
        """Return the proof, or None if the projection does not fit its bits (docs/proofs/completeness.md: probability
        2^-41): then commit again.

        Once a commitment; ParameterError if `commit` was not called since the last proof.
        """
        s, w, places = self._statement, self._witness, self._places
        if not self._root:
            raise ParameterError("commit() comes before each prove(): a commitment is good for one proof")
        transcript, relations, seed = begin(s, instance, self._root)
        length = s.shape.message_length
        padded = np.zeros(length * places.errors.stop, dtype=np.int64)
        padded[: s.values] = w.values
        padded[length * places.errors.start :][: s.coefficients] = w.errors
        projected = projection.project(seed, padded) + (1 << s.projection_bits)
        if projected.min() < 0 or projected.max() >> (s.projection_bits + 1):
            return None
        rows = np.zeros((places.total - places.bits.start, length), dtype=np.uint64)
        rows[: len(places.bits)].reshape(-1)[: s.bits] = self._bits(projected)
        if s.table:
            indices = padded[: length * len(places.values)].reshape(-1, 1, length) + s.value_limit
            table = relations.inverse_table
            inverses = np.concatenate([table[i][indices] for i in range(EXTENSION)], axis=1)
            rows[len(places.bits) :] = inverses.reshape(-1, length)
        self._root = b""
        return self._iop.respond(rows, transcript, relations)

    def _bits(self, projected: NDArray[np.int64]) -> Words:
        s, w = self._statement, self._witness
        parts = [_bits(projected, s.projection_bits + 1).reshape(-1)]
        for value, width in (
            (s.norm_bound - _norm_squared(w.values), s.norm_bits),
            (s.error_bound - _norm_squared(w.errors), s.error_bits),
            (w.weight - s.min_weight, s.weight_bits),
            (s.max_weight - w.weight, s.weight_bits),
        ):
            parts.append(_bits(np.array([value], dtype=np.int64), width).reshape(-1))
        return np.concatenate(parts)

    def __repr__(self) -> str:
        return "Prover(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Prover holds a client's update and is not pickled")


def verify(statement: Statement, instance: Instance, root: bytes, proof: bytes | memoryview) -> None:
    """Return None if the proof convinces that R1–R5 hold for this instance and the commitment `root`.

    Raises: EncodingError naming the check that failed; ParameterError if the instance does not fit the statement.
    """
    transcript, relations, _ = begin(statement, instance, root)
    iop.verify(statement.shape, statement.prime, root, proof, transcript, relations)


def begin(statement: Statement, instance: Instance, root: bytes) -> tuple[Transcript, ValidityRelations, bytes]:
    """Absorb everything public, and draw what the second oracle depends on."""
    s = statement
    expected = ((s.coefficients,), (SHARE_REPETITIONS, s.secrets), (s.threshold, SHARE_REPETITIONS))
    if (instance.ciphertext.shape, instance.combination.shape, instance.check.shape) != expected:
        raise ParameterError(f"the instance's arrays have not the statement's shapes {expected}")
    if any((part >= np.uint64(s.prime)).any() for part in (instance.ciphertext, instance.combination, instance.check)):
        raise EncodingError("proof: the instance holds an element that is not below q")
    transcript = Transcript(_LABEL)
    writer = Writer()
    for number in astuple(s):
        writer.integer(number, 16)
    transcript.absorb("statement", writer.getvalue())
    transcript.absorb("context", instance.context)
    transcript.absorb("polynomials", instance.polynomials.identity)
    transcript.absorb("ciphertext", hashlib.sha256(np.ascontiguousarray(instance.ciphertext).data).digest())
    transcript.absorb("first root", root)
    transcript.absorb("combination", np.ascontiguousarray(instance.combination).tobytes())
    transcript.absorb("check", np.ascontiguousarray(instance.check).tobytes())
    seed = transcript.challenge("projection")
    alpha = field_elements(transcript.challenge("lookup"), "alpha", EXTENSION, s.prime)
    return transcript, ValidityRelations(s, instance, seed, alpha), seed


def _check(s: Statement, w: Witness) -> None:
    """Raise ParameterError if the witness is not one: a proof of it would be refused."""
    shapes = ((s.values,), (s.coefficients,), (s.threshold, s.secrets), (s.threshold, SHARE_REPETITIONS))
    if (w.values.shape, w.errors.shape, w.polynomials.shape, w.masks.shape) != shapes:
        raise ParameterError(f"the witness's arrays have not the statement's shapes {shapes}")
    if _norm_squared(w.values) > s.norm_bound or _norm_squared(w.errors) > s.error_bound:
        raise ParameterError("the values or errors are beyond the statement's L2 bounds")
    if s.table and max(int(w.values.max()), -int(w.values.min())) > s.value_limit:
        raise ParameterError("a value is beyond the statement's limit")
    if not s.min_weight <= w.weight <= s.max_weight:
        raise ParameterError(f"the weight is outside [{s.min_weight}, max_weight]")


def _norm_squared(values: NDArray[np.int64]) -> int:
    """Return Σ x² exactly; float64 would round, int64 could wrap for entries no update holds."""
    largest = max(int(values.max()), -int(values.min()))
    if largest * largest * values.size >= 1 << 63:
        return sum(int(x) * int(x) for x in values.tolist())
    return int(np.einsum("i,i->", values, values))


def _reduce(values: NDArray[np.int64], prime: int) -> Words:
    """Return the residues of |values| < q."""
    return np.where(values < 0, values + prime, values).astype(np.uint64)


def _bits(values: NDArray[np.int64], width: int) -> Words:
    """Return the bits of non-negative values, least significant first: uint64[values, width]."""
    return ((values[:, None] >> np.arange(width)) & 1).astype(np.uint64)


def _flat(rows: Words, places: range) -> Words:
    return rows[places.start : places.stop].reshape(-1)
