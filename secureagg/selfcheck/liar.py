"""A prover that lies about one thing and then goes on as an honest one would, with challenges, shares and signature of
what it sends.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from secureagg.ring.ntt import Words
from secureagg.zk import iop, lookup, projection
from secureagg.zk.relations import Instance, Places
from secureagg.zk.statement import EXTENSION, Statement
from secureagg.zk.validity import Prover, Witness, begin

__all__ = ["Liar"]

_Integers = NDArray[np.int64]


class Liar(Prover):
    """Proves what `tell` makes of the truth. It checks nothing, and never commits again.

    Where a number has not the bits it should have, it commits to its lowest ones, so that a linear relation is false;
    or, if `hiding`, its lowest bit takes all that is missing, so that all relations hold and one bit is none. A value
    outside the table of the range argument is counted at the table's end.
    Requires: all entries below 2^51, so that no projection of a small statement wraps.
    """

    def __init__(
        self, statement: Statement, witness: Witness, *, tell: Callable[[Witness], Witness], hiding: bool
    ) -> None:
        # Not the honest prover's, which refuses a witness that is none.
        self._statement, self._witness, self._hiding = statement, tell(witness), hiding
        self._places = Places(statement)
        self._iop = iop.Prover(statement.shape, statement.prime)
        self._root = b""

    def commit(self) -> bytes:
        """Return the root of the first oracle, which holds what is told."""
        s, w, places = self._statement, self._witness, self._places
        rows = np.zeros((places.bits.start, s.shape.message_length), dtype=np.uint64)
        parts = [w.polynomials.reshape(-1), w.masks.reshape(-1), np.array([w.weight % s.prime], dtype=np.uint64)]
        for where, entries in (
            (places.values, (w.values % s.prime).astype(np.uint64)),
            (places.errors, (w.errors % s.prime).astype(np.uint64)),
            (places.dealt, np.concatenate(parts)),
            (places.multiplicities, self._counts()),
        ):
            rows[where.start : where.stop].reshape(-1)[: entries.size] = entries
        self._root = self._iop.commit(rows)
        return self._root

    def prove(self, instance: Instance) -> bytes:
        """Return the proof."""
        s, w, places = self._statement, self._witness, self._places
        transcript, relations, seed = begin(s, instance, self._root)
        length = s.shape.message_length
        padded = np.zeros(length * places.errors.stop, dtype=np.int64)
        padded[: s.values] = w.values
        padded[length * places.errors.start :][: s.coefficients] = w.errors
        projected = projection.project(seed, padded) + (1 << s.projection_bits)
        rows = np.zeros((places.total - places.bits.start, length), dtype=np.uint64)
        rows[: len(places.bits)].reshape(-1)[: s.bits] = self._digits(projected.tolist())
        if s.table:
            values = self._tabled(padded[: length * len(places.values)])
            indices = values.reshape(-1, 1, length) + s.value_limit
            found = np.concatenate([relations.inverse_table[i][indices] for i in range(EXTENSION)], axis=1)
            rows[len(places.bits) :] = found.reshape(-1, length)
        return self._iop.respond(rows, transcript, relations)

    def _counts(self) -> Words:
        s = self._statement
        if not s.table:
            return np.empty(0, dtype=np.uint64)
        values = np.zeros(s.shape.message_length * len(self._places.values), dtype=np.int64)
        values[: s.values] = self._witness.values
        return lookup.multiplicities(self._tabled(values), s.value_limit)

    def _tabled(self, values: _Integers) -> _Integers:
        return np.clip(values, -self._statement.value_limit, self._statement.value_limit)

    def _digits(self, projected: list[int]) -> Words:
        """Return all bits, least significant first, or what stands in their place."""
        s, w = self._statement, self._witness
        numbers = [(number, s.projection_bits + 1) for number in projected]
        numbers += [
            (s.norm_bound - sum(v * v for v in w.values.tolist()), s.norm_bits),
            (s.error_bound - sum(e * e for e in w.errors.tolist()), s.error_bits),
            (w.weight - 1, s.weight_bits),
            (s.max_weight - w.weight, s.weight_bits),
        ]
        digits: list[int] = []
        for number, width in numbers:
            residue = number % s.prime
            hidden = self._hiding and width and residue >> width
            digits += [residue, *[0] * (width - 1)] if hidden else [residue >> b & 1 for b in range(width)]
        return np.array(digits, dtype=np.uint64)
