"""secureagg.he.tenseal_grid: the rounding, against exact rational arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.he.tenseal_grid import Grid
from secureagg.wire import Reader, Writer


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    """Requests of every size that a grid accepts."""
    magnitude = draw(st.floats(1e-6, 1e6))
    precision = magnitude * draw(st.floats(1e-9, 0.9))
    try:
        return Grid(draw(st.integers(1, 50)), magnitude, precision, draw(st.one_of(st.just(1.0), st.floats(1, 1e4))))
    except ParameterError:
        assume(False)
        raise


@given(grids(), st.data())
def test_the_mean_is_within_precision(grid: Grid, data: st.DataObject) -> None:
    """In exact arithmetic on the inputs; the extremes are drawn often, as hypothesis favours bounds."""
    count = data.draw(st.integers(1, min(grid.clients, 6)))
    values = [data.draw(st.floats(-grid.magnitude, grid.magnitude)) for _ in range(count)]
    weights = [data.draw(st.floats(1, grid.max_weight)) for _ in range(count)]
    sums = sum(grid.quantise(np.array([u]), w) for u, w in zip(values, weights, strict=True))
    mean = Fraction(float(grid.mean(sums, sum(grid.quantise_weight(w) for w in weights))[0]))
    exact = sum(Fraction(w) * Fraction(u) for u, w in zip(values, weights, strict=True)) / sum(map(Fraction, weights))
    assert abs(mean - exact) <= Fraction(grid.mean_error) <= Fraction(grid.precision)


def test_the_rounding_of_weights_is_part_of_the_bound() -> None:
    """K = 2: weight 1.74 becomes 1.5, and the error exceeds what rounding the value alone could do."""
    grid = Grid(1, 1.0, 0.6, 4.0)
    mean = grid.mean(grid.quantise(np.array([0.72]), 1.74), grid.quantise_weight(1.74))
    assert grid.step / 2 < abs(mean[0] - 0.72) <= grid.mean_error <= 0.6


def test_the_rounding_of_float64_is_part_of_the_bound() -> None:
    """Ties that all round up, and then a division that rounds up as well."""
    grid = Grid(3, 1.0, 2.0**-43, 1.0)
    errors = []
    for low in range(2**42 + 1, 2**42 + 21, 2):
        values = [(low + client // 2 * 2 + 0.5) * grid.step for client in range(3)]
        sums = sum(grid.quantise(np.array([value]), 1.0) for value in values)
        mean = grid.mean(sums, 3.0 * grid.unit_weight)
        errors.append(abs(Fraction(float(mean[0])) - sum(map(Fraction, values)) / 3))
    assert Fraction(grid.step) / 2 < max(errors) <= Fraction(grid.mean_error)


@given(grids(), st.data())
def test_the_bounds_hold_after_rounding(grid: Grid, data: st.DataObject) -> None:
    weight = data.draw(st.floats(1, grid.max_weight))
    value = data.draw(st.floats(-grid.magnitude, grid.magnitude))
    assert abs(grid.quantise(np.array([value]), weight)[0]) <= grid.contribution_bound
    assert grid.unit_weight <= grid.quantise_weight(weight) <= grid.contribution_bound
    assert grid.quantise(np.array([grid.magnitude]), grid.max_weight)[0] == grid.contribution_bound


@given(grids())
def test_the_step_is_a_power_of_two_and_not_needlessly_fine(grid: Grid) -> None:
    assert math.frexp(grid.step)[0] == 0.5
    assert grid.precision / 4 <= grid.step <= grid.precision
    assert grid.max_weight > 1 or grid.step > grid.precision / 2


@given(grids())
def test_bytes_round_trip(grid: Grid) -> None:
    writer = Writer()
    grid.write(writer)
    assert len(writer.getvalue()) == 28
    assert Grid.read(Reader(writer.getvalue(), "grid")) == grid


def test_whole_number_weights_are_exact() -> None:
    grid = Grid(3, 1.0, 1e-3, 1000.0)
    assert [grid.quantise_weight(w) / grid.unit_weight for w in (1, 2, 999, 1000)] == [1, 2, 999, 1000]


def test_a_weight_of_single_precision_is_not_rounded_to_it() -> None:
    grid = Grid(1, 1.0, 1e-9, 8.0)
    assert grid.quantise_weight(np.float32(3.3)) == np.rint(float(np.float32(3.3)) * grid.unit_weight)


def test_halves_round_to_even() -> None:
    grid = Grid(1, 1.0, 0.25, 1.0)
    assert grid.quantise(np.array([0.125, 0.375, -0.125, 0.25]), 1.0).tolist() == [0, 2, 0, 1]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ((0, 1.0, 1e-3, 1.0), "1 ≤ clients"),
        ((2**32, 1.0, 1e-3, 1.0), "clients ≤ 2\\^32"),
        ((1, 1.0, 1.0, 1.0), "precision < magnitude"),
        ((1, 1.0, 0.0, 1.0), "2\\^-200 ≤ precision"),
        ((1, 1.0, -1e-3, 1.0), "2\\^-200 ≤ precision"),
        ((1, math.inf, 1e-3, 1.0), "magnitude ≤ 2\\^200"),
        ((1, math.nan, 1e-3, 1.0), "precision < magnitude"),
        ((1, 1.0, math.nan, 1.0), "precision < magnitude"),
        ((1, 1.0, 1e-3, 0.5), "1 ≤ max_weight"),
        ((1, 1.0, 1e-3, math.nan), "1 ≤ max_weight"),
        ((1, 1.0, 1e-3, math.inf), "1 ≤ max_weight"),
        ((2, 1.0, 2.0**-45, 1.0), "magnitude / step ≤ 2\\^45 is required.*= 2\\^46.0"),
        ((1, 2.0**200, 2.0**-200, 2.0**200), "≤ 2\\^45"),
    ],
)
def test_requests_that_cannot_work_are_refused(request_: tuple[int, float, float, float], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Grid(*request_)


def test_the_largest_sum_is_accepted() -> None:
    assert Grid(1, 1.0, 2.0**-45, 1.0).sum_bound == 2**45


@pytest.mark.parametrize("weight", [0.999, 8.001, -1.0, 0.0, math.nan, math.inf])
def test_a_weight_outside_its_range_is_refused_without_being_quoted(weight: float) -> None:
    with pytest.raises(ParameterError, match="1 ≤ weight ≤ max_weight=8") as refused:
        Grid(2, 1.0, 1e-3, 8.0).quantise_weight(weight)
    assert f"{weight:g}" not in str(refused.value).replace("1 ≤ weight", "").replace("max_weight=8", "")


def test_a_value_above_the_magnitude_is_refused_by_index_and_not_quoted() -> None:
    grid = Grid(2, 1.0, 1e-3, 1.0)
    grid.check_magnitude([np.array([1.0, -1.0]), np.zeros((0, 2)), np.array(1.0, dtype=np.float16)])
    for bad in (np.array([0.0, 1.25]), np.array([[-1.25]], dtype=np.float32)):
        with pytest.raises(ParameterError, match=r"tensor 1 .*magnitude=1;") as refused:
            grid.check_magnitude([np.zeros(2), bad])
        assert "1.25" not in str(refused.value)
