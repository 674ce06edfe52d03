"""Rounded sums: bounds beside exact divergences of the rounded law, what such a test refutes, laws, and refusals.

The exact law of v + N_Z(s) is a mixture of two discrete Gaussians; its divergences are sums over the integers
(`rounding_reference`), once in decimals too, to see that float64 is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.dp import rounded_sums
from secureagg.dp.accounting import epsilon
from secureagg.dp.noisy_sums import gaussian_sum_distance
from secureagg.dp.relation import Relation
from secureagg.dp.rounded_sums import Blur, RoundedGaussianSum
from tests.dp.rounding_reference import Logs, divergence, exact_epsilon, gaussian, hockey_stick, rounded

ZERO_OUT = Relation.ZERO_OUT
EVENT = RoundedGaussianSum(
    noise_std_grid=90.0, honest=64, l2_clip_grid=200.0, dimension=10**5, rounds=1, relation=ZERO_OUT
)
ORDERS = (1.1, 1.5, 2.0, 2.5, 3.0, 4.7, 8.0, 16.0, 32.0, 63.0, 128.0, 250.0)
SHIFTS = (0.5, 1e-3, 0.25, 0.75, 1.0, 1.5, 7.3)


def one(s: float, clip: float, rounds: int = 1) -> RoundedGaussianSum:
    """One coordinate, one party's noise."""
    return replace(EVENT, noise_std_grid=s, honest=1, l2_clip_grid=clip, dimension=1, rounds=rounds)


def worst(
    law: Callable[[float, float, int], Logs],
    bound: Callable[[RoundedGaussianSum, NDArray[np.float64]], NDArray[np.float64]],
    s: float,
    x: float,
) -> float:
    """Return the largest true divergence in either direction, as a part of its bound."""
    orders = np.array([order for order in ORDERS if order < 3.9 * s * s])
    bounds = bound(one(s, x), orders)
    found = 0.0
    for order, most in zip(orders, bounds, strict=True):
        reach = int(order * (x + 1) + 14 * s + 5)  # the integrand is centred at order·x or (1 − order)·x
        p, q = law(s, x, reach), gaussian(s, 0, reach)
        found = max(found, (max(divergence(p, q, order), divergence(q, p, order)) - 1e-13) / most)
    return found


def gaussian_epsilon(multiplier: float, times: int, at: float) -> float:
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(multiplier), times)
    return float(pld.PLDAccountant().compose(event).get_epsilon(at))


class TestTheReference:
    """What the exact divergences are worth."""

    @pytest.mark.parametrize(("s", "x", "order"), [(8, 0.5, 8), (8, 7.25, 32), (50, 0.125, 8)])
    def test_float64_is_enough(self, s: int, x: float, order: int) -> None:
        with localcontext(prec=50):
            low, share = math.floor(x), Decimal(x - math.floor(x))
            reach = int(order * (x + 1) + 15 * s)
            ys = range(-reach, reach + 1)
            halved = Decimal(-1) / (2 * s * s)
            q = [(halved * y * y).exp() for y in ys]
            p = [
                (1 - share) * (halved * (y - low) ** 2).exp() + share * (halved * (y - low - 1) ** 2).exp() for y in ys
            ]
            there = (sum(a**order / b ** (order - 1) for a, b in zip(p, q, strict=True)) / sum(q)).ln() / (order - 1)
            back = (sum(b**order / a ** (order - 1) for a, b in zip(p, q, strict=True)) / sum(q)).ln() / (order - 1)
            # Without a sum over the integers: E exp(b·Σ_{i<j} v_i·v_j), of which only how many are rounded up matters.
            moment = sum(
                math.comb(order, j)
                * share**j
                * (1 - share) ** (order - j)
                * (((low * order + j) ** 2 - low * low * (order - j) - (low + 1) ** 2 * j) * -halved).exp()
                for j in range(order + 1)
            )
            exact = moment.ln() / (order - 1)
            assert abs(there - exact) < Decimal("1e-40")
        logs, centred = rounded(s, x, reach), gaussian(s, 0, reach)
        assert abs(divergence(logs, centred, order) - float(there)) < 1e-13
        assert abs(divergence(centred, logs, order) - float(back)) < 1e-13


class TestRenyi:
    @pytest.mark.parametrize("s", [8.0, 9.7, 20.0, 50.0])
    def test_no_order_exceeds_the_curve_in_either_direction(self, s: float) -> None:
        for x in (*SHIFTS, s + 0.5, 3 * s + 0.25):
            assert worst(rounded, RoundedGaussianSum.curve, s, x) <= 1

    @settings(max_examples=25, deadline=None)
    @given(
        s=st.floats(8, 50),
        xs=st.lists(st.floats(-20, 20), min_size=1, max_size=5),
        order=st.floats(1.05, 60),
    )
    def test_several_coordinates(self, s: float, xs: list[float], order: float) -> None:
        event = replace(one(s, max(1e-9, math.hypot(*xs))), dimension=len(xs))
        reach = int(order * 21 + 14 * s + 5)
        p, q = [rounded(s, x, reach) for x in xs], gaussian(s, 0, reach)
        (bound,) = event.curve(np.array([order]))
        assert sum(divergence(law, q, order) for law in p) <= bound * (1 + 1e-9) + 1e-12
        assert sum(divergence(q, law, order) for law in p) <= bound * (1 + 1e-9) + 1e-12

    def test_noise_of_several_parties(self) -> None:
        """64 parties of σ = 1: the sum of their noise as it is, and not the discrete Gaussian it is close to."""
        law = np.exp(gaussian(1.0, 0, 8))
        noise = law
        for _ in range(63):
            noise = np.convolve(noise, law)
        middle = noise[noise.size // 2 - 80 : noise.size // 2 + 81]
        assert np.max(np.abs(np.log(middle) - gaussian(8.0, 0, 80))) <= gaussian_sum_distance(1.0, 64) / 2
        event = replace(one(8.0, 0.5), noise_std_grid=1.0, honest=64)
        p, q = np.log((middle[1:] + middle[:-1]) / 2), np.log(middle[1:])
        for order, bound in zip((1.5, 2.0, 3.0), event.curve(np.array([1.5, 2.0, 3.0])), strict=True):
            assert max(divergence(p, q, order), divergence(q, p, order)) <= bound

    def test_what_the_curve_adds_up(self) -> None:
        """Lemma 3 in other words, where d, τ and the words' 2^-32 all matter."""
        event = replace(EVENT, noise_std_grid=0.8, honest=150, l2_clip_grid=0.01, dimension=10**9)
        b, norm = 1 / (0.64 * 150), 0.01 * (1 + 1e-9) + math.sqrt(10**9) / 2**32
        tau = gaussian_sum_distance(0.8, 150)
        for order in (2, 9):
            kappa = 1 / (1 - order * b / 4)
            update = order * b / 2 * norm**2 * (1 + kappa**2 * (order - 1) * b / 4)
            rounding = 10**9 * (kappa**2 * order * b**2 / 16 + tau * (order - 0.5) / (order - 1))
            assert event.curve(np.array([float(order)]))[0] == pytest.approx(update + rounding, rel=1e-12)
        assert one(8.0, 0.01).curve(np.array([2.0])) < replace(one(8.0, 0.01), dimension=10**9).curve(np.array([2.0]))

    @pytest.mark.parametrize(("s", "loosest"), [(8.0, 0.992), (20.0, 0.998), (50.0, 0.9995)])
    def test_is_not_vacuous(self, s: float, loosest: float) -> None:
        for x in (0.5, 1.5, s + 0.5):
            reach = int(8 * (x + 1) + 14 * s)
            p, q = rounded(s, x, reach), gaussian(s, 0, reach)
            bounds = one(s, x).curve(np.array([2.0, 8.0]))
            assert divergence(p, q, 2.0) >= loosest * bounds[0]
            assert divergence(p, q, 8.0) >= loosest * bounds[1]


class TestWrongBoundsAreRefuted:
    """`worst` is above 1 for what is wrong; so the tests above can fail."""

    @pytest.mark.parametrize("s", [8.0, 20.0, 50.0])
    def test_rounding_for_nothing(self, s: float) -> None:
        def plain(event: RoundedGaussianSum, orders: NDArray[np.float64]) -> NDArray[np.float64]:
            return orders / 2 * (event.l2_clip_grid / event.sum_std) ** 2

        assert worst(rounded, plain, s, 0.5) > 1
        assert worst(rounded, plain, s, s + 0.5) > 1

    def test_without_the_variance_that_grows_with_the_order(self) -> None:
        def without(event: RoundedGaussianSum, orders: NDArray[np.float64]) -> NDArray[np.float64]:
            b = event.sum_std**-2
            return orders * b / 2 * event.l2_clip_grid**2 + orders * b**2 / 16 / (1 - orders * b / 4) ** 2

        assert worst(rounded, without, 8.0, 1.5) > 1

    @pytest.mark.parametrize("s", [8.0, 50.0])
    def test_words_that_are_known(self, s: float) -> None:
        assert worst(lambda s, x, reach: gaussian(s, 1, reach), RoundedGaussianSum.curve, s, 0.5) > 3

    @pytest.mark.parametrize("s", [8.0, 50.0])
    def test_biased_rounding(self, s: float) -> None:
        assert worst(lambda s, x, reach: rounded(s, x, reach, up=0.52), RoundedGaussianSum.curve, s, 0.5) > 1

    def test_noise_one_per_cent_short(self) -> None:
        def claimed(event: RoundedGaussianSum, orders: NDArray[np.float64]) -> NDArray[np.float64]:
            return replace(event, noise_std_grid=event.noise_std_grid / 0.99).curve(orders)

        assert worst(rounded, claimed, 20.0, 20.5) > 1

    def test_less_noise_than_is_accepted(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """At 2.5 steps the curve still holds, since Lemma 3 needs no 8; a plain Gaussian's is wrong by a tenth."""
        monkeypatch.setattr(rounded_sums, "LEAST_SUM_STD", 2.0)
        assert worst(rounded, RoundedGaussianSum.curve, 2.5, 0.5) <= 1
        assert worst(rounded, lambda event, orders: orders / 2 * (0.5 / 2.5) ** 2, 2.5, 0.5) > 1.1


class TestHockeyStick:
    """(ε, δ) in both directions."""

    @pytest.mark.parametrize(("s", "clip"), [(8.0, 0.5), (8.0, 8.5), (20.0, 1e-3), (20.0, 7.3), (50.0, 25.5)])
    def test_one_sum(self, s: float, clip: float) -> None:
        reach = int(20 * s + 2 * clip)
        q = gaussian(s, 0, reach)
        for at in (1e-3, 1e-6, 1e-9):
            claimed = epsilon(one(s, clip), at)
            for x in (clip, -clip, clip / 3, math.floor(clip) or clip / 2):
                p = rounded(s, x, reach)
                assert max(hockey_stick(p, q, claimed), hockey_stick(q, p, claimed)) <= at

    def test_two_coordinates(self) -> None:
        p1, p2, q = rounded(8.0, 0.5, 120), rounded(8.0, 3.3, 120), gaussian(8.0, 0, 120)
        p, both = np.add.outer(p1, p2).ravel(), np.add.outer(q, q).ravel()
        event = replace(one(8.0, math.hypot(0.5, 3.3)), dimension=2)
        for at in (1e-3, 1e-7):
            claimed = epsilon(event, at)
            assert max(hockey_stick(p, both, claimed), hockey_stick(both, p, claimed)) <= at

    @pytest.mark.parametrize(
        ("s", "x", "times", "loosest"),
        [(8.0, 0.5, 64, 0.90), (20.0, 2.5, 64, 0.93), (50.0, 7.5, 45, 0.985), (50.0, 50.5, 1, 0.985)],
    )
    def test_many_sums_or_coordinates(self, s: float, x: float, times: int, loosest: float) -> None:
        """As many rounds of one coordinate, or one of as many; ε is no more than this share too large."""
        reach, width = int(15 * s + x), 10 * max(1.0, math.sqrt(times) * x / s)
        p, q = rounded(s, x, reach), gaussian(s, 0, reach)
        true = max(exact_epsilon(a, b, times, width, 1e-5, up=True) for a, b in ((p, q), (q, p)))
        wide = replace(one(s, x * math.sqrt(times)), dimension=times)
        for event in (one(s, x, times), wide):
            assert loosest * epsilon(event, 1e-5) <= true <= epsilon(event, 1e-5)

    def test_the_plain_gaussian_is_refuted(self) -> None:
        """Rounding is nearly free, and not free: dropping its term tells an ε that is too small."""
        p, q = rounded(8.0, 0.5, 130), gaussian(8.0, 0, 130)
        assert exact_epsilon(p, q, 64, 10.0, 1e-5, up=False) > 1.01 * gaussian_epsilon(16.0, 64, 1e-5)

    def test_known_words_are_refuted(self) -> None:
        known, q = gaussian(50.0, 8, 800), gaussian(50.0, 0, 800)
        assert exact_epsilon(known, q, 45, 10.0, 1e-5, up=False) > epsilon(one(50.0, 7.5, 45), 1e-5)


class TestCloseness:
    @pytest.mark.parametrize("s", [8.0, 20.0, 50.0])
    def test_divergence_from_the_rounded_laws_own_mean(self, s: float) -> None:
        blur = one(s, 1.0).blur
        for x in SHIFTS:
            for order in (2, 3, math.floor(blur.highest) // 2, math.floor(blur.highest)):
                reach = int(14 * s + order)
                p, standing = rounded(s, x, reach), gaussian(s, x, reach)
                for one_way in (divergence(p, standing, order), divergence(standing, p, order)):
                    assert one_way <= blur.slope * order + 1e-14
        p, standing = rounded(s, 0.5, int(14 * s)), gaussian(s, 0.5, int(14 * s))
        assert divergence(p, standing, 2) > blur.slope * 2 / 10  # Hoeffding twice costs a factor of 4 or more

    @pytest.mark.parametrize("s", [8.0, 50.0])
    def test_what_is_missed(self, s: float) -> None:
        for x in (0.5, 0.1, 7.3):
            p, standing = rounded(s, x, int(20 * s)), gaussian(s, x, int(20 * s))
            for missed in (1e-2, 1e-5, 1e-9):
                eta = one(s, 8.0).blur.epsilon(missed)
                assert max(hockey_stick(p, standing, eta), hockey_stick(standing, p, eta)) <= missed

    def test_continuous_noise_and_a_small_discrete_one(self) -> None:
        """Lemma 4 by quadrature, at r² = 1/4, where ω = 5·exp(−2π²r²) is large enough to see."""
        r2, s, centre, step = 0.25, 8.0, 0.3, 1 / 64
        g, y = np.arange(-80, 80, step), np.arange(-30, 31)
        kernel = np.exp(-((np.arange(-90, 91)[:, None] - g) ** 2) / (2 * r2))
        kernel /= kernel.sum(axis=0)
        weights = np.exp(-((g - centre) ** 2) / (2 * (s * s - r2))) / math.sqrt(2 * math.pi * (s * s - r2)) * step
        law = np.log(kernel @ weights)[90 + y]
        apart = np.max(np.abs(law - gaussian(s, centre, 90)[90 + y]))
        assert 1e-5 < apart <= 5 * math.exp(-2 * math.pi**2 * r2)

    def test_what_stands_for_it(self) -> None:
        event = replace(EVENT, noise_std_grid=1.0, rounds=5)
        tau, omega = gaussian_sum_distance(1.0, 64), 5 * math.exp(-8 * math.pi**2)
        assert event.uses() == (pytest.approx(math.sqrt(60) / 200, rel=1e-8), 1.0, 5)
        assert one(8.0, 1e-9).uses().noise_multiplier == pytest.approx(math.sqrt(60) / (1e-9 + 2.0**-32))
        assert event.blur.pointwise == pytest.approx(10**5 * (tau + 2 * omega))
        assert event.blur.slope == pytest.approx(10**5 / 64**2 / 16 * (16 / 15) ** 2)
        assert event.blur.highest == 16
        assert 0 < replace(EVENT, noise_std_grid=90.0).blur.pointwise == pytest.approx(2e5 * omega)
        assert Blur(1.0, 16.0, 3.0) * 4 + Blur(0.5, 15.0, 7.0) == Blur(4.5, 15.0, 19.0)
        assert Blur(0.5, 15.0, 7.0) + Blur(1.0, 16.0, 3.0) == Blur(1.5, 15.0, 10.0)

    def test_order_is_nearly_the_best(self) -> None:
        for blur in (Blur(1e-6, 5000.0, 0.0), Blur(1e-3, 40.0, 0.1), Blur(2.0, 16.9, 0.0)):
            log = blur.pointwise + 9 * math.log(10)
            best = min(blur.slope * k + log / (k - 1) for k in range(2, int(blur.highest) + 1)) + blur.pointwise
            assert best * (1 - 1e-12) <= blur.epsilon(1e-9) <= 1.01 * best

    def test_no_order_but_the_second_helps_where_closeness_is_lost(self) -> None:
        lost = replace(EVENT, noise_std_grid=1.0, dimension=10**10, rounds=10**3)
        assert lost.blur.epsilon(1e-9) >= 2 * lost.blur.slope / 1000
        assert (Blur(1e6, 16.0, 0.0)).epsilon(1e-9) == pytest.approx(2e6 + 9 * math.log(10))

    def test_factors_at_every_point_multiply_what_is_missed_too(self) -> None:
        """Markov for e^−π·missed: the order's part of η grows by π/(k − 1), besides π itself."""
        near, far = Blur(1e-3, 11.0, 0.0).epsilon(1e-9), Blur(1e-3, 11.0, 0.5).epsilon(1e-9)
        assert far - near == pytest.approx(0.5 + 0.5 / 10)
