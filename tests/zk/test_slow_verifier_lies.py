"""The verifier beside one that shares no code with it: both refuse what the real prover proves of false witnesses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from secureagg.errors import ParameterError
from secureagg.zk import iop, merkle, validity
from secureagg.zk.statement import Statement
from tests.zk.instances import PRIME, Case, Proven, encrypt, honest, prove
from tests.zk.slow_arithmetic import Row, invert
from tests.zk.slow_format import ROWS_OF_R
from tests.zk.slow_verifier import ternary
from tests.zk.verdicts import reason, sizes


def project(statement: Statement, seed: bytes, vector: Row) -> Row:
    found = [0] * ROWS_OF_R
    for x, (plus, minus) in zip(vector, ternary(seed), strict=False):
        for k in plus:
            found[k] += x
        for k in minus:
            found[k] -= x
    return [p % statement.prime for p in found]


def digits(x: int, width: int, whole: bool) -> Row:
    """Return the low bits of x mod q; with `whole`, the highest of them holds all that is left of x, no bit then."""
    x %= PRIME
    low = [x >> b & 1 for b in range(width)]
    if whole and width:
        low[-1] = x >> (width - 1)
    return low


def lie(case: Case, *, whole: bool = False, forge: bool = False, shift: int = 0) -> Proven:
    """Prove whatever the witness holds, with residues in place of its integers.

    whole: all linear relations hold, by bits that are none; forge: the lookup's sum holds, by an inverse that is none;
    shift: is added to the first element of T.
    """
    s, z, w, q = case.statement, sizes(case.statement), case.witness, PRIME
    v, e = ([x % q for x in part.tolist()] for part in (w.values, w.errors))

    def rows(*parts: tuple[Row, int]) -> Any:
        padded = [x for part, count in parts for x in part + [0] * (count * z.ell - len(part))]
        return np.array(padded, dtype=np.uint64).reshape(-1, z.ell)

    padded_v = v + [0] * (z.v * z.ell - len(v))
    counts = [padded_v.count(a % q) for a in range(-s.value_limit, s.value_limit + 1)] if z.table else []
    dealt = [*w.polynomials.reshape(-1).tolist(), *w.masks.reshape(-1).tolist(), w.weight % q]
    prover = iop.Prover(s.shape, q)
    root = prover.commit(rows((v, z.v), (e, z.e), (dealt, z.d), (counts, z.mult)))
    instance = case.instance_for(root)
    instance.check[0, 0] = (int(instance.check[0, 0]) + shift) % q
    transcript, relations, seed = validity.begin(s, instance, root)
    slacks = [(p + 2**z.m, z.m + 1) for p in project(s, seed, padded_v + e)]
    norms = (s.norm_bound - sum(x * x for x in v), s.error_bound - sum(x * x for x in e))
    slacks += zip((*norms, w.weight - z.least_weight, s.max_weight - w.weight), (*z.widths, z.widths[2]), strict=True)
    bits = [bit for x, width in slacks for bit in digits(x, width, whole)]
    inverses: Row = []
    if z.table:
        a0, a1, a2 = relations._alpha.tolist()
        known = {x: invert(((a0 - x) % q, a1, a2), q) for x in {*padded_v, *range(s.value_limit + 1)}}
        known |= {-x % q: invert(((a0 + x) % q, a1, a2), q) for x in range(s.value_limit + 1)}
        h = [known[x] for x in padded_v]
        if forge:
            table = [known[a % q] for a in range(-s.value_limit, s.value_limit + 1)]
            short = [sum(m * x[i] for m, x in zip(counts, table, strict=True)) - sum(x[i] for x in h) for i in range(3)]
            h[0] = ((h[0][0] + short[0]) % q, (h[0][1] + short[1]) % q, (h[0][2] + short[2]) % q)
        for j in range(0, len(h), z.ell):
            inverses += [x[i] for i in range(3) for x in h[j : j + z.ell]]
    proof = prover.respond(rows((bits, z.b), (inverses, z.inverses)), transcript, relations)
    return Proven(root, instance, proof)


def tight(case: Case, norm: int = 0, error: int = 0) -> Case:
    """Return the case with bounds that its values miss by `norm` and its errors by `error`."""
    w = case.witness
    bounds = {"norm_bound": int(w.values @ w.values) - norm, "error_bound": int(w.errors @ w.errors) - error}
    return replace(case, statement=replace(case.statement, **bounds))


def changed(case: Case, part: str, at: int, new: int) -> Any:
    copy = getattr(case.witness, part).copy()
    copy.reshape(-1)[at] = new
    return copy


def ranged(outside: int | None) -> Case:
    """Return a case with the range argument, with one value beyond its table."""
    case = honest(values=40, value_limit=200, seed=5)
    return case if outside is None else case.lying(values=changed(case, "values", 0, outside))


def halves(case: Case) -> Case:
    """Return the case with 1/2 mod q in place of every value: the ciphertext holds Δ/2 times one, the norm is d/4."""
    s, half = case.statement, np.full(case.statement.values, (PRIME + 1) // 2)
    doubled = replace(case.witness, values=np.ones_like(half), weight=2 * case.witness.weight)
    ciphertext = encrypt(replace(s, delta=s.delta // 2), case.polynomials, doubled)
    return replace(case, witness=replace(case.witness, values=half), ciphertext=ciphertext)


def beyond_the_weight(case: Case) -> Case:
    """Return the case with a one in the coordinate after the weight's, which no plan reads."""
    s = case.statement
    widened = replace(s, values=s.values + 1)
    witness = replace(case.witness, values=np.append(case.witness.values, 1), weight=1)
    added = encrypt(widened, case.polynomials, witness).astype(np.int64)
    moved = encrypt(s, case.polynomials, replace(case.witness, weight=1)).astype(np.int64)
    assert np.count_nonzero(added != moved) == 1  # coordinate d holds 1 in both, d + 1 is 1 in one of them
    return replace(case, ciphertext=added.astype(np.uint64))


BASE = honest(values=40, threshold=3, max_weight=4, weight=2, seed=4)
NOISE = honest(values=40, threshold=3, max_weight=0, weight=0, seed=4)
SUM, BITS = "linear: sum over H", "products: response"
LIES: dict[str, tuple[Callable[[], Proven], str]] = {
    "nothing": (lambda: lie(BASE), ""),
    "nothing, in a range": (lambda: lie(ranged(None)), ""),
    "norms just within their bounds": (lambda: lie(tight(BASE)), ""),
    "a norm beyond its bound by one": (lambda: lie(tight(BASE, norm=1)), SUM),
    "a norm beyond its bound by one, and no bits": (lambda: lie(tight(BASE, norm=1), whole=True), BITS),
    "errors beyond their bound by one": (lambda: lie(tight(BASE, error=1)), SUM),
    "errors beyond their bound by one, and no bits": (lambda: lie(tight(BASE, error=1), whole=True), BITS),
    "one huge error": (lambda: lie(BASE.lying(errors=changed(BASE, "errors", 3, 2**45))), SUM),
    "one huge error, and no bits": (
        lambda: lie(BASE.lying(errors=changed(BASE, "errors", 3, 2**45)), whole=True),
        BITS,
    ),
    "one huge value": (lambda: lie(BASE.lying(values=changed(BASE, "values", 3, 2**30)), whole=True), BITS),
    "half-integers": (lambda: lie(halves(BASE)), SUM),
    "half-integers, and no bits": (lambda: lie(halves(BASE), whole=True), BITS),
    "a weight of zero": (lambda: lie(BASE.lying(weight=0)), SUM),
    "a weight of zero, and no bits": (lambda: lie(BASE.lying(weight=0), whole=True), BITS),
    "a weight beyond its limit": (lambda: lie(BASE.lying(weight=5)), SUM),
    "a weight beyond its limit, and no bits": (lambda: lie(BASE.lying(weight=5), whole=True), BITS),
    "noise alone": (lambda: lie(NOISE), ""),
    "noise with a weight": (lambda: lie(NOISE.lying(weight=1)), SUM),
    "noise with a weight, and no bits to hide it in": (lambda: lie(NOISE.lying(weight=-1), whole=True), SUM),
    "noise with a weight that is encrypted alone": (
        lambda: lie(replace(NOISE, ciphertext=NOISE.lying(weight=1).ciphertext)),
        SUM,
    ),
    "another weight than encrypted": (lambda: lie(BASE.lying(weight=3, encrypted=False)), SUM),
    "another value than encrypted": (
        lambda: lie(BASE.lying(values=changed(BASE, "values", 39, 7), encrypted=False)),
        SUM,
    ),
    "another error than encrypted": (
        lambda: lie(BASE.lying(errors=changed(BASE, "errors", 20, 3), encrypted=False)),
        SUM,
    ),
    "another key shared than encrypted under": (
        lambda: lie(BASE.lying(polynomials=changed(BASE, "polynomials", 5, 3), encrypted=False)),
        SUM,
    ),
    "a message after the weight": (lambda: lie(beyond_the_weight(BASE)), SUM),
    "another check than the shares'": (lambda: lie(BASE, shift=1), SUM),
    "a value above the table": (lambda: lie(ranged(201)), SUM),
    "a value above the table, and a forged inverse": (lambda: lie(ranged(201), forge=True), BITS),
    "a value below the table": (lambda: lie(ranged(-201)), SUM),
    "a value below the table, and a forged inverse": (lambda: lie(ranged(-201), forge=True), BITS),
}


def statement_of(name: str) -> Statement:
    if "noise" in name:
        return NOISE.statement
    if "table" in name or "range" in name:
        return ranged(None).statement
    bounds = {"norms just": (0, 0), "a norm": (1, 0), "errors": (0, 1)}
    found = [tight(BASE, *miss) for start, miss in bounds.items() if name.startswith(start)]
    return (found or [BASE])[0].statement


@pytest.mark.parametrize("name", LIES)
def test_both_refuse_a_lie(name: str) -> None:
    make, expected = LIES[name]
    assert reason(statement_of(name), make()) == expected


def test_the_prover_proves_no_lie_by_itself() -> None:
    for case in (
        tight(BASE, norm=1),
        tight(BASE, error=1),
        BASE.lying(weight=0),
        BASE.lying(weight=5),
        ranged(201),
        NOISE.lying(weight=1),
    ):
        with pytest.raises(ParameterError):
            prove(case)


def test_both_refuse_a_row_of_high_degree() -> None:
    leaves = merkle.leaves

    def spoilt(columns: Any, salts: bytes) -> Any:
        columns[0] = np.random.default_rng(6).integers(0, PRIME, columns.shape[1], dtype=np.uint64)
        return leaves(columns, salts)

    with patch.object(merkle, "leaves", spoilt):
        proven = prove(BASE)
    assert reason(BASE.statement, proven) == "proximity: response"


def test_both_refuse_a_response_that_adds_up_to_what_is_wanted() -> None:
    """The constant of a false statement's response makes its sum over H right, and its values at the queries wrong."""
    case = BASE.lying(weight=0)
    shape, linear = case.statement.shape, iop.Prover._linear

    def corrected(self: Any, i: int, test: Any, messages: Any, prefix: Any, masks: Any) -> Any:
        response = linear(self, i, test, messages, prefix, masks)
        wanted = test.target + iop._sum_on_h(shape, PRIME, masks[2 * i])
        short = (wanted - iop._sum_on_h(shape, PRIME, response)) * pow(shape.message_length, -1, PRIME)
        response[0] = (int(response[0]) + short) % PRIME
        return response

    with patch.object(iop.Prover, "_linear", corrected):
        assert reason(case.statement, lie(case)) == "linear: response"
