"""L2 clipping: the clipped norm is within the bound for every update, checked in exact arithmetic."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from secureagg.dp import clipping
from secureagg.dp.clipping import clip_factor, l2_norm
from secureagg.errors import ParameterError
from secureagg.layout import Layout

FINITE = {"allow_nan": False, "allow_infinity": False}
EXTREMES = [0.0, -0.0, 5e-324, -1e-300, 1e-160, 1e-120, 1.0, -3.5, 1e120, 1e155, -1e285]
UPDATES = st.lists(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, max_side=5), elements=FINITE)
    ),
    min_size=1,
    max_size=3,
)
BOUNDS = st.sampled_from([1e-3, 0.1, 1.0, 7.25, 1e6])


def exact_square(update: list[NDArray[Any]]) -> Fraction:
    """Return ‖update‖² exactly."""
    return sum((Fraction(float(x)) ** 2 for tensor in update for x in tensor.ravel()), Fraction(0))


def check_clipping(update: list[NDArray[Any]], bound: float) -> None:
    try:
        factor = clip_factor(Layout.of(update), update, bound)
    except ParameterError:
        assert exact_square(update) > Fraction(bound) ** 2 * 10**570
        return
    square, limit = exact_square(update), Fraction(bound) ** 2
    assert 0 < factor <= 1
    if factor == 1:
        assert square <= limit * (1 + Fraction(1, 10**12)) ** 2
    else:
        assert Fraction(factor) ** 2 * square <= limit
        assert Fraction(factor) ** 2 * square >= limit * (1 - Fraction(1, 10**11))


@given(UPDATES, BOUNDS)
@settings(max_examples=300)
def test_the_clipped_norm_is_within_the_bound(update: list[NDArray[Any]], bound: float) -> None:
    check_clipping(update, bound)


@given(st.lists(st.sampled_from(EXTREMES), min_size=1, max_size=8), BOUNDS)
@settings(max_examples=200)
def test_extremes_are_clipped_all_the_same(values: list[float], bound: float) -> None:
    check_clipping([np.array(values)], bound)


@pytest.mark.parametrize(
    ("values", "bound", "factor"),
    [
        ([3.0, 4.0], 5.0, 1.0),
        ([3.0, 4.0], 2.5, 0.5),
        ([0.0, 0.0], 1.0, 1.0),
        ([1e200, 0.0], 1e199, 0.1),
        ([5e-324], 1e-3, 1.0),
        ([3e-200, 4e-200], 2.5, 1.0),
        (np.array([65504.0], dtype=np.float16), 65504.0, 1.0),
    ],
)
def test_by_hand(values: list[float], bound: float, factor: float) -> None:
    update = [np.asarray(values)]
    assert clip_factor(Layout.of(update), update, bound) == pytest.approx(factor, rel=1e-11)
    assert (factor == 1.0) == (clip_factor(Layout.of(update), update, bound) == 1.0)


@given(UPDATES)
@settings(max_examples=100)
def test_the_norm_is_that_of_exact_arithmetic(update: list[NDArray[Any]]) -> None:
    unit, relative = l2_norm(Layout.of(update), update)
    assert math.isfinite(relative)
    exact = exact_square(update)
    assert abs((Fraction(unit) * Fraction(relative)) ** 2 - exact) <= exact / 10**12


def test_blocks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A norm taken in blocks of 7 coordinates over several tensors is that of the whole."""
    update = [np.arange(20, dtype=np.float32).reshape(4, 5), np.full((), 3.0), np.full(9, -2.0, dtype=np.float16)]
    whole = l2_norm(Layout.of(update), update)
    monkeypatch.setattr(clipping, "_BLOCK", 7)
    assert l2_norm(Layout.of(update), update) == whole == (1.0, math.sqrt(2470 + 9 + 36))


def test_an_update_beyond_float64_is_refused() -> None:
    for update in ([np.array([1e308])], [np.full(100, 1.7e308)]):
        with pytest.raises(ParameterError, match="too large to be clipped"):
            clip_factor(Layout.of(update), update, 1.0)
