"""The numbers of a statement, and what it, its instances and its witnesses are refused for."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.ring.params import MAX_DEGREE, MIN_DEGREE
from secureagg.zk import soundness, validity
from secureagg.zk.relations import Places
from secureagg.zk.statement import Statement
from secureagg.zk.validity import Prover, Witness
from tests.zk.instances import PRIME, Case, honest, prove

CASE = honest(max_weight=5, threshold=3, value_limit=700)
S, W = CASE.statement, CASE.witness


def refused(case: Case, why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        Prover(case.statement, case.witness)


@pytest.mark.parametrize(("max_weight", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4), (1000, 10)])
def test_weight_bits_hold_all_weights_and_no_more(max_weight: int, bits: int) -> None:
    statement = replace(S, max_weight=max_weight)
    assert (statement.weight_bits, statement.min_weight) == (bits, 1)
    assert 1 << bits >= max_weight > (1 << bits) // 2


def test_noise_alone_has_no_weight() -> None:
    statement = replace(S, max_weight=0)
    assert (statement.weight_bits, statement.min_weight) == (0, 0)
    for weight in (-1, 1):
        refused(replace(CASE, statement=statement, witness=replace(W, weight=weight)), r"outside \[0, max_weight\]")


def test_numbers_follow_from_the_fields() -> None:
    m = S.projection_bits
    assert m == soundness.projection_bits(S.norm_bound + S.error_bound)
    assert 1 << S.norm_bits > S.norm_bound >= 1 << (S.norm_bits - 1)
    assert 1 << S.error_bits > S.error_bound >= 1 << (S.error_bits - 1)
    assert S.bits == 128 * (m + 1) + S.norm_bits + S.error_bits + 2 * 3
    assert S.secrets == S.keys * S.degree
    assert S.dealt == 3 * (S.secrets + soundness.SHARE_REPETITIONS) + 1
    assert S.table == 2 * 700 + 1
    assert replace(S, value_limit=0).table == 0


@given(
    values=st.integers(1, 10**6),
    threshold=st.integers(1, 9),
    limit=st.integers(0, 5000),
    degree=st.sampled_from([16, 2048]),
)
def test_rows_hold_everything_and_no_row_is_empty(values: int, threshold: int, limit: int, degree: int) -> None:
    coefficients = -(-(values + 1) // 32) * 16
    sizes = {
        "values": values,
        "coefficients": coefficients,
        "degree": degree,
        "chunks_per_key": -(-coefficients // degree),
    }
    s = replace(S, threshold=threshold, value_limit=limit, **sizes)
    shape, places = s.shape, Places(s)
    assert shape.rows.first == places.bits.start
    assert shape.rows.second == places.total - places.bits.start
    ell = shape.message_length
    kinds = (places.values, places.errors, places.dealt, places.multiplicities, places.bits)
    for rows, count in zip(kinds, (values, coefficients, s.dealt, s.table, s.bits), strict=True):
        assert ell * len(rows) >= count > ell * (len(rows) - 1)
    assert len(places.inverses) == (3 * len(places.values) if limit else 0)
    ranges = [*kinds, places.inverses]
    assert all(before.stop == after.start for before, after in pairwise(ranges))
    assert s.soundness_bits >= 100
    assert ell >= MIN_DEGREE and shape.length <= MAX_DEGREE


@pytest.mark.parametrize("limit", [0, 700])
def test_proof_has_the_stated_length(limit: int) -> None:
    case = honest(value_limit=limit)
    assert len(prove(case).proof) == case.statement.proof_bytes


def test_range_argument_has_a_term_of_its_own() -> None:
    ell = S.shape.message_length
    poles = ell + S.table
    assert S.soundness_terms["range lookup"] == pytest.approx(3 * np.log2(PRIME) - np.log2(poles))
    assert "range lookup" not in replace(S, value_limit=0).soundness_terms


def test_values_and_weight_fit_the_coefficients_exactly() -> None:
    room = S.fields * S.coefficients
    assert replace(S, values=room - 1).values == room - 1
    with pytest.raises(ParameterError, match="do not fit"):
        replace(S, values=room)


def test_chunks_fit_the_keys_exactly() -> None:
    chunks = -(-S.coefficients // S.degree)
    assert replace(S, chunks_per_key=chunks).chunks_per_key == chunks
    with pytest.raises(ParameterError, match=f"{chunks} chunks 1 keys"):
        replace(S, chunks_per_key=chunks - 1)
    assert replace(S, keys=chunks, chunks_per_key=1).keys == chunks
    with pytest.raises(ParameterError, match="keys for 1 each"):
        replace(S, keys=chunks - 1, chunks_per_key=1)


@pytest.mark.parametrize("max_weight", [-1, 1 << 32, PRIME])
def test_weights_that_could_wrap_are_refused(max_weight: int) -> None:
    with pytest.raises(ParameterError, match="max_weight"):
        replace(S, max_weight=max_weight)
    assert replace(S, max_weight=(1 << 32) - 1).weight_bits == 32
    assert (replace(S, max_weight=0).min_weight, replace(S, max_weight=0).weight_bits) == (0, 0)


def wraps(norm_bound: int, error_bound: int) -> bool:
    """Return whether a sum of squares below 81·4^m less a bound can be another one mod q."""
    m = soundness.projection_bits(norm_bound + error_bound)
    return 81 * 4**m + 2 ** max(norm_bound.bit_length(), error_bound.bit_length()) >= PRIME


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3))
def test_bounds_that_could_wrap_are_refused(norm: int, error: int, step: int) -> None:
    bounds = {"norm_bound": (1 << norm) - 2 + step, "error_bound": (1 << error) - 2 + step}
    bounds = {name: max(1, bound) for name, bound in bounds.items()}
    if wraps(**bounds):
        with pytest.raises(ParameterError, match="could wrap mod q"):
            replace(S, **bounds)
    else:
        assert replace(S, **bounds).projection_bits


def test_largest_norm_that_does_not_wrap() -> None:
    """The two norms of one class: identities mod q are identities of integers up to here."""
    low, high = 1, PRIME
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if wraps(middle, S.error_bound) else (middle, high)
    assert replace(S, norm_bound=low).norm_bound == low
    with pytest.raises(ParameterError, match="could wrap"):
        replace(S, norm_bound=low + 1)
    m = soundness.projection_bits(low + S.error_bound)
    assert 2 << m < PRIME // 4  # the lemma's own conditions hold wherever this one does


ARRAYS = {"ciphertext": 0, "combination": 1, "check": 0}


@pytest.mark.parametrize("name", ARRAYS)
def test_instance_of_other_sizes_is_refused(name: str) -> None:
    proven = prove(CASE)
    array = getattr(proven.instance, name)
    for other in (array[:-1], np.concatenate([array, array]), array[None]):
        instance = replace(proven.instance, **{name: other})
        with pytest.raises(ParameterError, match="instance's arrays"):
            validity.verify(S, instance, proven.root, proven.proof)
        prover = Prover(S, W)
        prover.commit()
        with pytest.raises(ParameterError, match="instance's arrays"):
            prover.prove(instance)


@pytest.mark.parametrize("name", ["values", "errors", "polynomials", "masks"])
def test_witness_of_other_sizes_is_refused(name: str) -> None:
    other = getattr(W, name)[:-1]
    refused(replace(CASE, witness=replace(W, **{name: other})), "witness's arrays")


@pytest.mark.parametrize(("name", "bound"), [("values", "norm_bound"), ("errors", "error_bound")])
def test_prover_refuses_a_norm_beyond_the_bound(name: str, bound: str) -> None:
    squared = int((getattr(W, name) ** 2).sum())
    Prover(replace(S, **{bound: squared}), W)
    refused(replace(CASE, statement=replace(S, **{bound: squared - 1})), "beyond the statement's L2 bounds")


def test_prover_adds_huge_squares_up_exactly() -> None:
    """2^32 squared is zero mod 2^64."""
    values = np.zeros(S.values, dtype=np.int64)
    values[0] = 1 << 32
    refused(replace(CASE, statement=replace(S, value_limit=0), witness=replace(W, values=values)), "L2 bounds")
    values[0] = -(1 << 62)
    refused(replace(CASE, statement=replace(S, value_limit=0), witness=replace(W, values=values)), "L2 bounds")


@pytest.mark.parametrize("sign", [1, -1])
def test_prover_refuses_a_value_beyond_the_limit(sign: int) -> None:
    values = np.zeros(S.values, dtype=np.int64)
    values[3] = sign * 700
    Prover(S, replace(W, values=values))
    values[3] = sign * 701
    refused(replace(CASE, witness=replace(W, values=values)), "beyond the statement's limit")


@pytest.mark.parametrize("weight", [-1, 0, 6])
def test_prover_refuses_a_weight_outside(weight: int) -> None:
    refused(replace(CASE, witness=replace(W, weight=weight)), r"weight is outside \[1, max_weight\]")


@pytest.mark.parametrize("weight", range(1, 6))
def test_every_weight_inside_is_proven(weight: int) -> None:
    proven = prove(CASE.lying(weight=weight))
    validity.verify(S, proven.instance, proven.root, proven.proof)


def test_prover_and_witness_show_nothing() -> None:
    assert repr(Prover(S, W)) == "Prover(secret)"
    assert repr(W) == "Witness()"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Prover(S, W))
    assert isinstance(W, Witness) and isinstance(S, Statement)
