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
from secureagg.dp.clipping import (
    clip_factor,
    clip_layers,
    clip_update,
    l2_norm,
    overall_clip,
    per_layer_factors,
    shared_clip,
)
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


def test_squares_that_round_alike_do_not_add_up_to_a_longer_update() -> None:
    """Equal values round the same way at every addition; a running sum would be off by 10^-11 in the worst case."""
    for value in np.random.default_rng(0).uniform(1, 2, 40):
        update = [np.full(1 << 17, value)]
        _, norm = l2_norm(Layout.of(update), update)
        assert abs(Fraction(norm) ** 2 / (2**17 * Fraction(value) ** 2) - 1) < Fraction(1, 10**14)


def check_no_longer(clipped: NDArray[Any], given: NDArray[Any], factor: float, bound: float) -> None:
    """A tensor is within its bound, keeps its kind, and no value of it has grown."""
    assert clipped.dtype == given.dtype and clipped.shape == given.shape
    square, limit = exact_square([clipped]), Fraction(bound) ** 2
    assert square <= (limit if factor < 1 else limit * (1 + Fraction(1, 10**12)) ** 2)
    assert (np.abs(clipped) <= np.abs(given)).all()
    assert factor < 1 or clipped is given


@given(UPDATES, BOUNDS)
@settings(max_examples=80)
def test_an_update_clipped_in_its_own_dtypes_is_within_the_bound(update: list[NDArray[Any]], bound: float) -> None:
    layout = Layout.of(update)
    try:
        clipped, factor = clip_update(layout, update, bound)
    except ParameterError:
        assert exact_square(update) > Fraction(bound) ** 2 * 10**570
        return
    limit = Fraction(bound) ** 2
    assert exact_square(clipped) <= (limit if factor < 1 else limit * (1 + Fraction(1, 10**12)) ** 2)
    assert clip_factor(layout, clipped, bound) == 1.0
    for index, tensor in enumerate(clipped):
        check_no_longer(tensor, update[index], factor, max(bound, float(np.sqrt(float(exact_square([tensor]))))))


@given(UPDATES, st.lists(BOUNDS, min_size=3, max_size=3))
@settings(max_examples=80)
def test_every_tensor_is_within_its_own_bound_and_the_whole_within_theirs(
    update: list[NDArray[Any]], bounds: list[float]
) -> None:
    layout, bounds = Layout.of(update), bounds[: len(update)]
    try:
        clipped, factors = clip_layers(layout, update, bounds)
    except ParameterError:
        assert exact_square(update) > Fraction(min(bounds)) ** 2 * 10**570
        return
    for tensor, given_tensor, factor, bound in zip(clipped, update, factors, bounds, strict=True):
        check_no_longer(tensor, given_tensor, factor, bound)
    assert exact_square(clipped) <= Fraction(overall_clip(bounds)) ** 2
    assert clip_factor(layout, clipped, overall_clip(bounds)) == 1.0


@given(UPDATES, BOUNDS)
@settings(max_examples=80)
def test_bounds_shared_out_by_size_keep_the_whole_within_the_clip(update: list[NDArray[Any]], bound: float) -> None:
    layout = Layout.of(update)
    bounds = shared_clip(layout, bound)
    assert sum(Fraction(each) ** 2 for each in bounds) <= Fraction(bound) ** 2
    for each, tensor in zip(bounds, update, strict=True):
        assert each == pytest.approx(bound * math.sqrt(tensor.size / layout.size), rel=1e-11)
    try:
        clipped, _ = clip_layers(layout, update, bounds)
    except ParameterError:
        assert exact_square(update) > Fraction(min(filter(None, bounds))) ** 2 * 10**570
        return
    assert exact_square(clipped) <= Fraction(bound) ** 2
    assert clip_factor(layout, clipped, bound) == 1.0  # so `contribute` leaves it as it is


def test_layers_by_hand() -> None:
    update = [np.array([3.0, 4.0]), np.zeros((0, 2), np.float32), np.array(0.5, np.float16), np.zeros(2)]
    clipped, factors = clip_layers(Layout.of(update), update, (2.5, 0.0, 1.0, 1e-3))
    assert factors == (pytest.approx(0.5, rel=1e-11), 1.0, 1.0, 1.0)
    np.testing.assert_allclose(clipped[0], [1.5, 2.0], rtol=1e-11)
    assert [tensor is given_tensor for tensor, given_tensor in zip(clipped, update, strict=True)] == [
        False,
        *[True] * 3,
    ]
    assert per_layer_factors(Layout.of(update), update, (2.5, 0.0, 1.0, 1e-3)) == factors


def test_rounding_to_nearest_would_lengthen_a_float16_update() -> None:
    """The same factor and a plain cast: the reason why values are rounded towards zero."""
    update = [np.full(64, 1.001, np.float16)]
    layout, bound = Layout.of(update), 0.9999
    clipped, factor = clip_update(layout, update, bound)
    nearest = [(update[0].astype(np.float64) * factor).astype(np.float16)]
    assert exact_square(nearest) > Fraction(bound) ** 2 >= exact_square(clipped)


def test_the_norm_of_many_layers_is_that_of_each() -> None:
    """One layer that is too long does not shorten the others, unlike under a clip of the whole."""
    update = [np.full(4, 100.0), np.full(4, 0.1)]
    layout = Layout.of(update)
    (_, kept), _ = clip_layers(layout, update, shared_clip(layout, 1.0))
    (_, shortened), _ = clip_update(layout, update, 1.0)
    assert kept is update[1]
    assert np.abs(shortened).max() < 0.001


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_none_is_refused_with_its_tensor(value: float) -> None:
    update = [np.zeros(2), np.array([1.0, value])]
    layout = Layout.of(update)
    for clip in (
        lambda: clip_update(layout, update, 1.0),
        lambda: clip_layers(layout, update, (1.0, 1.0)),
        lambda: per_layer_factors(layout, update, (1.0, 1.0)),
        lambda: clip_factor(layout, update, 1.0),
    ):
        with pytest.raises(ParameterError, match="tensor 1 holds NaN or an infinity"):
            clip()


def test_a_layer_beyond_float64_is_refused_with_its_index() -> None:
    update = [np.zeros(2), np.array([1e308])]
    with pytest.raises(ParameterError, match="tensor 1: the update is too large to be clipped"):
        clip_layers(Layout.of(update), update, (1.0, 1.0))


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ((1.0,), "1 l2_clips for 2 tensors"),
        ((1.0, 0.0), r"l2_clips\[1\] must be a number in"),
        ((-1.0, 1.0), r"l2_clips\[0\]"),
        ((1.0, math.nan), r"l2_clips\[1\]"),
        ((math.inf, 1.0), r"l2_clips\[0\]"),
        ((1.0, True), r"l2_clips\[1\]"),
    ],
)
def test_bounds_that_are_none_are_refused(bounds: tuple[float, ...], reason: str) -> None:
    update = [np.zeros(2), np.zeros(3)]
    with pytest.raises(ParameterError, match=reason):
        clip_layers(Layout.of(update), update, bounds)


@pytest.mark.parametrize("bounds", [(), (0.0, 0.0), (1.0, -1.0), (math.nan, 1.0), (1e200,)])
def test_bounds_of_which_nothing_is_the_whole_are_refused(bounds: tuple[float, ...]) -> None:
    with pytest.raises(ParameterError, match="l2_clips"):
        overall_clip(bounds)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_no_clip_can_be_shared_out(bound: float) -> None:
    with pytest.raises(ParameterError, match="l2_clip"):
        shared_clip(Layout(((2,),), ("float32",)), bound)
