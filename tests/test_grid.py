"""Conditional rounding: an update on the grid is within the bound that is proven, and rounded as without proofs."""

from __future__ import annotations

import math
import pickle
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

import secureagg as sa
from secureagg import grid as grid_module
from secureagg import plan as plan_module
from secureagg.dp.clipping import clip_factor
from secureagg.errors import ParameterError
from secureagg.grid import GridUpdate, put_on_grid
from tests.federation import quantised, toy_plan, toy_update

HALVES = sa.Layout(((16,),), ("float64",))


def plan_of(proofs: bool = True, **changes: Any) -> sa.RoundPlan:
    fields = {"proofs": proofs, "l2_clip": 1.0, "value_bound": None}
    return toy_plan(**fields | changes)


def rounded(plan: sa.RoundPlan, update: list[Any], weight: int = 1, seed: int = 0) -> GridUpdate:
    clip = clip_factor(plan.layout, update, plan.l2_clip)
    return GridUpdate(plan, plan.layout, update, clip, weight, np.random.default_rng(seed))


def halves(plan: sa.RoundPlan) -> list[Any]:
    """Sixteen coordinates half a grid step large: each rounds to 0 or 1 with probability 1/2."""
    return [np.full(16, 0.5 / plan.quantiser.scale)]


def attempt(number: int, seed: int) -> list[int]:
    """Return what `halves` rounds to at the numbered attempt, by docs/protocol.md, in plain numbers.

    An attempt has the 17 words of its coordinates to itself, so it starts 9 blocks of AES behind the one before.
    """
    key = np.random.default_rng(seed).bytes(32)
    stream = Cipher(algorithms.AES(key), modes.CTR((9 * number).to_bytes(16, "big"))).encryptor().update(bytes(64))
    return [int(int.from_bytes(stream[4 * i : 4 * i + 4], "little") / 2**32 < 0.5) for i in range(16)]


@pytest.mark.parametrize("bound", [2, 4, 6])
def test_rounding_is_drawn_again_until_the_bound_holds(monkeypatch: pytest.MonkeyPatch, bound: int) -> None:
    """A bound of 2, 4, 6 where Σv² is binomial with mean 8: one attempt in 500, in 26, in 4 is short enough."""
    monkeypatch.setattr(plan_module, "norm_squared_bound", lambda *sizes: bound)
    plan, attempts = plan_of(layout=HALVES), []
    for seed in range(30):
        values = rounded(plan, halves(plan), seed=seed).values.tolist()
        tried = next(n for n in range(20_000) if sum(attempt(n, seed)) <= bound)
        assert values == attempt(tried, seed) and sum(v * v for v in values) <= bound
        attempts.append(tried)
    chance = sum(math.comb(16, k) for k in range(bound + 1)) / 2**16
    assert len(set(attempts)) > 3 and 0.4 < chance * (1 + sum(attempts) / 30) < 2


def test_an_attempt_that_is_exactly_at_the_bound_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    first = sum(attempt(0, 3))
    monkeypatch.setattr(plan_module, "norm_squared_bound", lambda *sizes: first)
    plan = plan_of(layout=HALVES)
    assert rounded(plan, halves(plan), seed=3).values.tolist() == attempt(0, 3)
    monkeypatch.setattr(plan_module, "norm_squared_bound", lambda *sizes: first - 1)
    plan = plan_of(layout=HALVES)
    assert rounded(plan, halves(plan), seed=3).values.tolist() != attempt(0, 3)


@given(st.integers(0, 10**6), st.sampled_from([2, 5, 12, 18]), st.sampled_from([0.05, 0.3, 5.0]))
@settings(max_examples=20)
def test_the_bound_holds_for_every_update(seed: int, value_bits: int, size: float) -> None:
    """Far below the clip, near it, and clipped: also where the grid is so coarse that rounding is most of it."""
    plan = plan_of(value_bits=value_bits, max_weight=3)
    update = toy_update(seed, size=size)
    for weight in (1, 3):
        values = rounded(plan, update, weight, seed).values
        assert sum(v * v for v in values.tolist()) <= plan.statement.norm_bound
        assert abs(values).max() <= plan.value_limit


@pytest.mark.parametrize("weight", [1, 3, 5])
@pytest.mark.parametrize("block", [4, 8, 1 << 16])
def test_the_first_attempt_takes_the_words_that_it_takes_without_proofs(
    monkeypatch: pytest.MonkeyPatch, weight: int, block: int
) -> None:
    monkeypatch.setattr(grid_module, "_BLOCK", block)  # and however many threads round it
    update = toy_update(4)
    for bound in (None, 0.15):
        with_proofs, without = (plan_of(proofs, max_weight=5, value_bound=bound) for proofs in (True, False))
        expected = quantised(without, update, weight, np.random.default_rng(7))
        assert rounded(with_proofs, update, weight, 7).values.tolist() == expected
        assert rounded(without, update, weight, 7).between(0, 19).tolist() == [*expected, weight]


def test_rounding_is_unbiased_without_conditioning() -> None:
    """800 roundings of 18 values, none drawn again: every mean within 4.5 standard errors; those of ⌊y⌋ are not."""
    plan, update = plan_of(value_bits=6, value_bound=0.25), toy_update(9)
    exact = np.concatenate([tensor.ravel() for tensor in update]).astype(np.float64) * plan.quantiser.scale
    fractions = exact - np.floor(exact)
    drawn = np.array([rounded(plan, update, seed=seed).values for seed in range(800)])
    assert (drawn * drawn).sum(axis=1).max() < plan.statement.norm_bound
    error = np.sqrt(fractions * (1 - fractions) / 800)
    assert (np.abs(drawn.mean(axis=0) - exact) < 4.5 * error).all()
    assert not (np.abs(np.floor(exact) - exact) < 4.5 * error).any()
    assert set((drawn - np.floor(exact)).ravel().tolist()) == {0.0, 1.0}


def test_clamped_coordinates_are_counted_once_however_often_they_are_rounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = plan_of(layout=HALVES, value_bound=0.5)
    update = halves(plan)
    update[0][[2, 11]] = 0.6, -0.7
    for bound in (None, 2 * plan.value_limit**2 + 3):  # as it is, and after many attempts
        if bound is not None:
            monkeypatch.setattr(plan_module, "norm_squared_bound", lambda *sizes, b=bound: b)
        grid = rounded(plan_of(layout=HALVES, value_bound=0.5), update)
        assert grid.clamped == 2 and abs(grid.values[[2, 11]]).tolist() == [plan.value_limit] * 2
    without = rounded(plan_of(False, layout=HALVES, value_bound=0.5), update)
    assert without.clamped == 0
    without.between(0, 8)
    assert without.clamped == 1
    without.between(8, 17)
    assert without.clamped == 2


@given(st.sets(st.sampled_from(range(4, 100, 4))), st.booleans())
@settings(max_examples=40)
def test_parts_put_together_are_the_whole(cuts: set[int], proofs: bool) -> None:
    """Any cuts, also behind the end, where nothing is left: d values, then the weight, each once."""
    plan = plan_of(proofs, layout=sa.Layout(((70,),), ("float32",)), max_weight=9)
    update = [np.linspace(-0.1, 0.1, 70, dtype=np.float32)]
    whole = rounded(plan, update, 7).between(0, 71).tolist()
    assert len(whole) == 71 and whole[-1] == 7
    grid = rounded(plan, update, 7)
    places = [0, *sorted(cut for cut in cuts if cut < 71), 71]
    parts = [grid.between(first, last).tolist() for first, last in pairwise(places)]
    assert [v for part in parts for v in part] == whole
    if proofs:
        assert grid.values.tolist() == whole[:-1]


@pytest.mark.parametrize("size", [64, 100])
@pytest.mark.parametrize(
    ("l2_clip", "largest"),
    [(1.0, 1e280), (1e20, 1e300), (1e100, 1e306), (1e100, 1.7e308), (1e150, 1e300), (1e150, 1.7e308)],
)
def test_rotating_the_largest_updates_overflows_nowhere(l2_clip: float, size: int, largest: float) -> None:
    """They come out as an update of the same direction and of ordinary length does, up to a rounding."""
    direction = np.random.default_rng(1).choice([-1.0, 1.0, 0.25], size)
    plan = sa.RoundPlan(
        layout=sa.Layout.of([direction]),
        clients=10, quorum=5, l2_clip=l2_clip, value_bits=8, committee=sa.Committee(3), rotate=True,
    )  # fmt: skip
    huge, plain = (
        put_on_grid(plan, bytes(32), [direction * times], rounding_rng=np.random.default_rng(2))
        for times in (largest, 2 * l2_clip)
    )
    assert np.abs(huge.between(0, size) - plain.between(0, size)).max() <= 1
    assert math.sqrt(np.square(huge.between(0, size)).sum()) <= plan.clip_grid + math.sqrt(size)
    assert huge.clip == pytest.approx(l2_clip / largest / np.linalg.norm(direction))


def test_an_update_shows_nothing_of_itself() -> None:
    plan = plan_of()
    grid = rounded(plan, toy_update(1))
    assert repr(grid) == str(grid) == "GridUpdate(secret)"
    with pytest.raises((TypeError, ParameterError)):
        pickle.dumps(grid)
