"""Quantising: unbiased, within the grid for every input, and exactly what the definition says."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.dp.quantise import Quantiser
from secureagg.errors import ParameterError

Rounder = Callable[[float, NDArray[np.uint32]], NDArray[np.int64]]
VALUES = st.lists(
    st.one_of(st.floats(-2, 2), st.sampled_from([0.0, -0.0, 1.0, -1.0, 1e308, -1e308, 5e-324, 1e-20])),
    min_size=1,
    max_size=20,
)
SHARES = st.sampled_from([1.0, 0.5, 1 / 3, 2**-31])
CLIPS = st.sampled_from([1.0, 0.999, 1 / 3, 1e-6, 1e-290])


def words(count: int, seed: int = 0) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)


@given(st.integers(2, 24), st.sampled_from([1.0, 0.37, 1e-150, 1e150]), VALUES, SHARES, CLIPS, st.integers(0, 2**32))
@settings(max_examples=300)
def test_values_are_those_of_the_definition(
    value_bits: int, bound: float, values: list[float], share: float, clip: float, seed: int
) -> None:
    """⌊y⌋ or ⌈y⌉ by the word, y = scale·share·clip·u clamped; |v| ≤ C always; what is clamped is counted."""
    quantiser, drawn = Quantiser(value_bits, bound), words(len(values), seed)
    scaled = [value * bound if abs(value) < 1e10 else value for value in values]
    found, clamped = quantiser.quantise(np.array(scaled), clip, share, drawn)
    limit = 2 ** (value_bits - 1) - 1
    assert quantiser.limit == limit and quantiser.scale == limit / bound
    assert np.abs(found).max() <= math.ceil(share * limit) <= limit
    beyond = bound / clip
    assert clamped == sum(abs(value) > beyond for value in scaled)
    for value, word, v in zip(scaled, drawn.tolist(), found.tolist(), strict=True):
        y = quantiser.scale * share * clip * min(max(value, -beyond), beyond)
        y = min(max(y, -share * limit), share * limit)
        assert v == math.floor(y) + (word / 2**32 < y - math.floor(y))


def test_by_hand() -> None:
    """b = 3: C = 3, three steps to x_max = 1. The word decides between the neighbours."""
    values = np.array([0.5, 0.5, -0.5, -0.5, 1.0, -1.0, 0.0, 7.0, -7.0])
    half = 2**31
    drawn = np.array([half - 1, half, half - 1, half, 0, 0, 0, 0, 0], dtype=np.uint32)
    found, clamped = Quantiser(3, 1.0).quantise(values, 1.0, 1.0, drawn)
    assert found.tolist() == [2, 1, -1, -2, 3, -3, 0, 3, -3]
    assert clamped == 2


def test_grid_values_stay_as_they_are() -> None:
    """A value on the grid is not rounded, whatever the word (exact when the scale is a power of two)."""
    quantiser = Quantiser(5, 15 / 16)
    values = np.arange(-15, 16) / 16
    for word in (0, 2**32 - 1):
        found, clamped = quantiser.quantise(values, 1.0, 1.0, np.full(31, word, dtype=np.uint32))
        assert (found.tolist(), clamped) == (list(range(-15, 16)), 0)


def is_unbiased(rounder: Rounder, draws: int = 400_000) -> bool:
    """Return whether the mean of roundings is the value, at ten values within 5.3 deviations of it.

    A correct rounder fails with probability ≤ 10·1.2·10^-7 over seeds; here the seed is fixed. The standard error is
    √(f(1 − f)/draws), so a bias of 0.5 % of a step is seen at every fraction f.
    """
    for place, value in enumerate((0.03, 0.25, 0.5, 0.75, 0.97, -0.03, -0.25, -0.5, -0.97, 6.4)):
        fraction = value - math.floor(value)
        deviation = abs(float(rounder(value, words(draws, place)).mean()) - value)
        if deviation > 5.3 * math.sqrt(fraction * (1 - fraction) / draws):
            return False
    return True


def by_quantiser(value: float, drawn: NDArray[np.uint32]) -> NDArray[np.int64]:
    return Quantiser(4, 7.0).quantise(np.full(drawn.size, value), 1.0, 1.0, drawn)[0]


def test_rounding_is_unbiased() -> None:
    assert is_unbiased(by_quantiser)


@pytest.mark.parametrize(
    "biased",
    [
        lambda value, drawn: np.full(drawn.size, np.rint(value)),
        lambda value, drawn: np.full(drawn.size, np.trunc(value)),
        lambda value, drawn: np.floor(value) + (drawn / 2**32 * 0.995 < value - np.floor(value)),
        lambda value, drawn: np.floor(value) + (drawn / 2**32 + 0.005 < value - np.floor(value)),
    ],
    ids=["nearest", "towards zero", "half a percent up", "half a percent down"],
)
def test_biased_rounding_would_be_seen(biased: Rounder) -> None:
    assert not is_unbiased(biased)


def test_rounding_errors_of_neighbours_are_independent() -> None:
    """Correlation of 10^5 adjacent roundings of one value: within 5/√10^5."""
    found = Quantiser(8, 1.0).quantise(np.full(100_000, 0.3), 1.0, 1.0, words(100_000))[0].astype(float)
    assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 5 / math.sqrt(100_000)


@pytest.mark.parametrize("value_bits", [1, 25, 0, -3])
def test_grids_out_of_range_are_refused(value_bits: int) -> None:
    with pytest.raises(ParameterError, match=rf"value_bits must be in \[2, 24\], not {value_bits}"):
        Quantiser(value_bits, 1.0)
