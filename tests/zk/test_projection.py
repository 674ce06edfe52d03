"""The projection and its transpose against plain integers, and the law of R's entries."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.ring.params import PRIMES
from secureagg.zk import projection
from tests.ring import reference

Q = PRIMES[0]
SEED = bytes(range(32))
LONG = 3 * (1 << 13) + 5  # more than three blocks


def matrix(positions: int, first: int = 0) -> list[list[int]]:
    """Return R, 128 rows, from the expansion's words one by one."""
    key = reference.public_key(SEED, "projection")
    columns = []
    for i in range(first, first + positions):
        b1, b2 = (
            reference.keystream_word(key, 4 * i + w) | reference.keystream_word(key, 4 * i + w + 1) << 64
            for w in (0, 2)
        )
        columns.append([(b1 >> k & 1) - (b2 >> k & 1) for k in range(128)])
    return [list(row) for row in zip(*columns, strict=True)] if columns else [[] for _ in range(128)]


SMALL = matrix(300)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 300])
@pytest.mark.parametrize("largest", [1, 1000, 1 << 40])
def test_projection_is_that_of_integers(count: int, largest: int) -> None:
    values = np.random.default_rng([count, largest]).integers(-largest, largest, count, endpoint=True)
    x = values.tolist()
    expected = [sum(map(int.__mul__, row[:count], x)) for row in SMALL]
    assert projection.project(SEED, values).tolist() == expected


@pytest.mark.parametrize("reps", [1, 2, 3, 4])
@pytest.mark.parametrize(("first", "count"), [(0, 40), (17, 25), (299, 1), (5, 0)])
def test_transposed_is_that_of_integers(reps: int, first: int, count: int) -> None:
    """The largest γ among them: there, sums of 256 entries are as large as they get."""
    gammas = np.random.default_rng(reps).integers(0, Q, (reps, 128), dtype=np.uint64)
    gammas[-1] = Q - 1
    columns = list(zip(*SMALL, strict=True))[first : first + count]
    expected = [[sum(map(int.__mul__, g, column)) % Q for column in columns] for g in gammas.tolist()]
    assert projection.transposed(SEED, count, gammas, Q, first).tolist() == expected


@given(
    st.lists(st.integers(-(1 << 40), 1 << 40), max_size=300), st.lists(st.integers(0, Q - 1), min_size=1, max_size=128)
)
def test_one_is_the_transpose_of_the_other(x: list[int], some: list[int]) -> None:
    gamma = (some * 128)[:128]
    projected = projection.project(SEED, np.array(x, dtype=np.int64)).tolist()
    folded = projection.transposed(SEED, len(x), np.array([gamma], dtype=np.uint64), Q)[0].tolist()
    assert (sum(map(int.__mul__, gamma, projected)) - sum(map(int.__mul__, folded, x))) % Q == 0


def test_extreme_values_of_a_long_vector_are_exact() -> None:
    """Values ±2^40 that agree with row 0 of R, so that its sum is as large as sums get."""
    unit = np.zeros((1, 128), dtype=np.uint64)
    unit[0, 0] = 1
    row = projection.transposed(SEED, LONG, unit, Q)[0].astype(np.int64)
    row[row == Q - 1] = -1
    assert set(row.tolist()) == {-1, 0, 1}
    projected = projection.project(SEED, row << 40)
    assert int(projected[0]) == int(np.abs(row).sum()) << 40
    assert np.array_equal(projected, projection.project(SEED, row) << 40)


def test_results_do_not_depend_on_threads_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(5)
    values = random.integers(-(1 << 30), 1 << 30, LONG)
    gammas = random.integers(0, Q, (2, 128), dtype=np.uint64)
    projected, folded = projection.project(SEED, values), projection.transposed(SEED, LONG, gammas, Q)
    for threads, block in (("1", 1 << 13), ("2", 1000), ("5", 4097)):
        monkeypatch.setenv("SECUREAGG_THREADS", threads)
        monkeypatch.setattr(projection, "_BLOCK", block)
        assert np.array_equal(projection.project(SEED, values), projected)
        assert np.array_equal(projection.transposed(SEED, LONG, gammas, Q), folded)
        parts = [projection.transposed(SEED, count, gammas, Q, first) for first, count in ((0, 9999), (9999, 0))]
        parts.append(projection.transposed(SEED, LONG - 9999, gammas, Q, 9999))
        assert np.array_equal(np.concatenate(parts, axis=1), folded)


def chi_square(entries: np.ndarray[tuple[int, ...], np.dtype[np.int64]], law: tuple[float, float, float]) -> float:
    """Return Pearson's statistic of counts of −1, 0, 1; two degrees of freedom."""
    observed = [int((entries == value).sum()) for value in (-1, 0, 1)]
    return sum((seen - entries.size * p) ** 2 / (entries.size * p) for seen, p in zip(observed, law, strict=True))


def test_entries_are_ternary_with_half_of_them_zero() -> None:
    """Accepts ¼, ½, ¼ and refuses laws close to it, with the 1 − 10^-6 quantile of χ² with two degrees, 27.6."""
    entries = np.array(matrix(1500))
    assert chi_square(entries, (0.25, 0.5, 0.25)) < 27.6
    assert chi_square(entries, (0.24, 0.52, 0.24)) > 27.6
    assert chi_square(entries, (0.26, 0.5, 0.24)) > 27.6
    assert chi_square(entries, (1 / 3, 1 / 3, 1 / 3)) > 27.6


def test_seeds_give_other_matrices() -> None:
    values = np.arange(100)
    assert not np.array_equal(projection.project(SEED, values), projection.project(bytes(32), values))


@pytest.mark.parametrize("value", [(1 << 63) // 3 + 1, -(1 << 63) // 3 - 1, -(1 << 63)])
def test_values_too_large_are_refused_without_being_shown(value: int) -> None:
    with pytest.raises(ParameterError, match=r"D·max\|values\| < 2\^63 fails for D = 3") as caught:
        projection.project(SEED, np.array([0, value, 1]))
    assert str(value) not in str(caught.value)


def test_arrays_of_another_form_are_refused() -> None:
    with pytest.raises(ParameterError, match="needed"):
        projection.project(SEED, np.zeros(3))  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="needed"):
        projection.project(SEED, np.zeros((3, 3), dtype=np.int64))
    with pytest.raises(ParameterError, match=r"uint64\[reps, 128\] needed"):
        projection.transposed(SEED, 3, np.zeros((2, 127), dtype=np.uint64), Q)
    with pytest.raises(ParameterError, match="even positions"):
        projection.transposed(SEED, 3, np.zeros((2, 128), dtype=np.uint64), Q, first=-1)
