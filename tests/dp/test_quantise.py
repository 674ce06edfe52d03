"""Quantising: unbiased, within the grid for every input, and exactly what the definition says."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.dp.quantise import Quantiser, norm_squared_bound
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


def real_bound(clip: float, d: int, deviation: Decimal) -> Decimal:
    """Return min(C_g² + d/4 + deviation·(C_g + √d/2), (C_g + √d)²), to hundreds of digits."""
    exact, root = Decimal(clip), Decimal(d).sqrt()
    return min(exact * exact + Decimal(d) / 4 + deviation * (exact + root / 2), (exact + root) ** 2)


@given(st.floats(1e-3, 1e12), st.integers(1, 2**40))
@example(1.0, 1)
@settings(max_examples=200)
def test_the_norm_bound_is_the_real_one_rounded_down(clip: float, d: int) -> None:
    """Or one less where that is a whole number: (1 + √1)² = 4 allows 4 or 3."""
    with localcontext(Context(prec=300)):
        real = real_bound(clip, d, (20 * Decimal(2).ln()).sqrt())
        assert norm_squared_bound(clip, d) in {int(real), math.ceil(real) - 1}


@pytest.mark.parametrize(("clip", "d"), [(1e300, 1), (8e306, 2**40), (5e-324, 7), (2.0**60, 2**40), (3.0, 4)])
def test_the_norm_bound_never_exceeds_the_real_one(clip: float, d: int) -> None:
    """Also for grids beyond reason, and where the real bound is a whole number: (3 + √4)² = 25 allows 25 or 24."""
    with localcontext(Context(prec=2000)):
        real = real_bound(clip, d, (20 * Decimal(2).ln()).sqrt())
        found = norm_squared_bound(clip, d)
        assert found <= real and found >= real * (1 - Decimal("1e-30")) - 1


def longer_than(bound: float, vector: NDArray[np.float64], draws: int) -> int:
    """Return how many of `draws` roundings of a vector in grid steps have a squared norm above `bound`."""
    quantiser, longer = Quantiser(24, float(2**23 - 1)), 0  # one step a unit
    for seed in range(draws):
        found, _ = quantiser.quantise(vector, 1.0, 1.0, words(vector.size, seed))
        longer += int((found**2).sum()) > bound
    return longer


def shaped(shape: str, d: int, clip: float) -> NDArray[np.float64]:
    """Return a vector of norm `clip`, or just below."""
    rng = np.random.default_rng(5)
    if shape == "halves":  # every coordinate half a step off the grid: the most variance
        vector = np.zeros(d)
        vector[: min(d, int(4 * clip**2))] = 0.5
        vector[0] = 0.5 + math.floor(math.sqrt(max(0.0, clip**2 - (vector[1:] ** 2).sum())) - 0.5)
        return vector
    if shape == "spike":
        vector = np.zeros(d)
        vector[0] = clip
        return vector
    vector = rng.normal(size=d) if shape == "normal" else np.ones(d)
    return vector * (clip / np.linalg.norm(vector))


@pytest.mark.parametrize("shape", ["normal", "equal", "halves", "spike"])
@pytest.mark.parametrize(("d", "clip"), [(1, 1.5), (16, 10.3), (1000, 25.7), (1000, 4000.1), (5000, 36.0)])
def test_a_rounding_is_within_the_bound_nearly_always(shape: str, d: int, clip: float) -> None:
    """2000 roundings, longer with probability ≤ 2^-10 each: 1.95 expected, 14 or more with probability < 10^-7."""
    vector = shaped(shape, d, clip)
    assert np.linalg.norm(vector) <= clip * (1 + 1e-12)
    assert longer_than(norm_squared_bound(clip, d), vector, 2000) < 14


def test_the_expectation_alone_would_not_do() -> None:
    """C_g² + d/4 without a deviation is exceeded by nearly half of the roundings of halves."""
    vector = shaped("halves", 1000, 25.7)
    assert longer_than(float((vector**2).sum()) + 250, vector, 2000) > 800


@given(st.integers(1, 50), st.floats(0.1, 100), st.integers(0, 2**32))
@settings(max_examples=100)
def test_no_rounding_is_beyond_clip_and_root_d(d: int, clip: float, seed: int) -> None:
    """The second bound holds for every word, so where it is the smaller one nothing is ever redrawn."""
    vector = np.random.default_rng(seed).normal(size=d)
    vector *= clip / np.linalg.norm(vector)
    found, _ = Quantiser(24, float(2**23 - 1)).quantise(vector, 1.0, 1.0, words(d, seed))
    assert math.sqrt(int((found**2).sum())) <= (clip + math.sqrt(d)) * (1 + 1e-12)
