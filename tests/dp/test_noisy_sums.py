"""The Rényi bounds of noisy integer sums beside the true divergences, summed over the integers in logarithms."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations_with_replacement

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum, gaussian_sum_distance
from secureagg.dp.relation import Relation

Law = NDArray[np.float64]  # ln P(−N) … ln P(N)

DISCRETE = DiscreteGaussianSum(
    noise_std_grid=40.0, honest=50, l2_bound_grid=100.0, dimension=1000, rounds=3, relation=Relation.ZERO_OUT
)
SKELLAM = SkellamSum(
    noise_variance_grid=1600.0, honest=50, l2_bound_grid=100.0, dimension=1000, rounds=3, relation=Relation.ZERO_OUT
)
REACH = 300  # beyond it no sum below has a part of 10^-19
ORDERS = (1.5, 2.0, 3.0, 8.0, 16.0)
SHAPES = [(1, 1), (1, 9), (2, 2), (3, 4), (3, 9), (9, 9)]  # dimension, squared L2 sensitivity


def convolved(a: Law, b: Law) -> Law:
    out = np.full(a.size + b.size - 1, -np.inf)
    for i, weight in enumerate(b):
        out[i : i + a.size] = np.logaddexp(out[i : i + a.size], a + weight)
    middle = out.size // 2
    return out[middle - REACH : middle + REACH + 1]


def gaussian_law(variance: float) -> Law:
    logs = -(np.arange(-REACH, REACH + 1) ** 2) / (2 * variance)
    return logs - np.logaddexp.reduce(logs)


def gaussian_sum_law(sigma: float, n: int) -> Law:
    one = gaussian_law(sigma**2)
    total = one
    for _ in range(n - 1):
        total = convolved(total, one)
    return total


def skellam_law(variance: float) -> Law:
    """A Poisson(v/2) minus another."""
    k = np.arange(2 * REACH + 1)
    poisson = k * math.log(variance / 2) - variance / 2 - np.array([math.lgamma(j + 1) for j in k])
    return convolved(poisson, poisson[::-1])


def divergence(law: Law, shift: int, order: float) -> float:
    """D_α of the law and of its shift; either way round, as the law is symmetric."""
    if shift == 0:
        return 0.0
    terms = order * law[:-shift] + (1 - order) * law[shift:]
    assert max(terms[0], terms[-1]) < terms.max() - 45  # what lies beyond the reach does not count
    return float(np.logaddexp.reduce(terms) / (order - 1))


def worst_divergence(law: Law, dimension: int, l2_squared: int, order: float) -> float:
    """The largest D_α over all whole vectors of this norm: coordinates are independent, so their divergences add."""
    alone = [divergence(law, shift, order) for shift in range(math.isqrt(l2_squared) + 1)]
    vectors = combinations_with_replacement(range(len(alone)), dimension)
    return max(sum(alone[x] for x in vector) for vector in vectors if sum(x * x for x in vector) <= l2_squared)


def discrete(sigma: float, n: int, dimension: int, l2_squared: int) -> DiscreteGaussianSum:
    return replace(
        DISCRETE, noise_std_grid=sigma, honest=n, dimension=dimension, l2_bound_grid=math.sqrt(l2_squared), rounds=1
    )


def skellam(variance: float, n: int, dimension: int, l2_squared: int) -> SkellamSum:
    return replace(
        SKELLAM,
        noise_variance_grid=variance,
        honest=n,
        dimension=dimension,
        l2_bound_grid=math.sqrt(l2_squared),
        rounds=1,
    )


def bound(event: DiscreteGaussianSum | SkellamSum, order: float) -> float:
    return float(event.curve(np.array([order]))[0])


def tau(sigma: float, n: int) -> float:
    """Kairouz, Liu, Steinke, Theorem 1, eq. 3."""
    return 10 * sum(math.exp(-2 * (math.pi * sigma) ** 2 * k / (k + 1)) for k in range(1, n))


class TestAgainstTheLaws:
    @pytest.mark.parametrize(("dimension", "l2_squared"), SHAPES)
    @pytest.mark.parametrize(("sigma", "n"), [(0.5, 2), (0.5, 6), (0.6, 3), (0.7, 4), (1.0, 4), (2.0, 2), (3.0, 1)])
    def test_sum_of_discrete_gaussians(self, sigma: float, n: int, dimension: int, l2_squared: int) -> None:
        law = gaussian_sum_law(sigma, n)
        for order in ORDERS:
            exact = worst_divergence(law, dimension, l2_squared, order)
            assert bound(discrete(sigma, n, dimension, l2_squared), order) >= exact * (1 - 1e-9)

    @pytest.mark.parametrize("order", [2.0, 5.0])
    def test_where_tau_vanishes_the_bound_is_the_divergence(self, order: float) -> None:
        for sigma, n in ((3.0, 1), (2.0, 2), (2.5, 4)):
            exact = worst_divergence(gaussian_sum_law(sigma, n), 3, 4, order)
            assert bound(discrete(sigma, n, 3, 4), order) == pytest.approx(exact, rel=1e-6)

    @pytest.mark.parametrize(("sigma", "n"), [(0.5, 2), (0.5, 6), (0.5, 30), (0.6, 4), (0.8, 3), (1.0, 2), (1.0, 5)])
    def test_sums_are_within_half_tau_of_a_discrete_gaussian_at_every_point(self, sigma: float, n: int) -> None:
        """What the second bound rests on, in logarithms, to 25 grid steps and at every residue."""
        near = slice(REACH - 25, REACH + 26)
        apart = np.abs(gaussian_sum_law(sigma, n) - gaussian_law(n * sigma**2))[near].max()
        assert 1e-7 < apart <= gaussian_sum_distance(sigma, n) / 2
        assert gaussian_sum_distance(sigma, n) == pytest.approx(tau(sigma, n), rel=1e-12)

    @pytest.mark.parametrize(("dimension", "l2_squared"), SHAPES)
    @pytest.mark.parametrize(("variance", "n"), [(0.25, 1), (1.0, 1), (1.0, 4), (5.0, 5), (36.0, 4)])
    def test_skellam(self, variance: float, n: int, dimension: int, l2_squared: int) -> None:
        law = skellam_law(variance * n)
        for order in ORDERS:
            exact = worst_divergence(law, dimension, l2_squared, order)
            found = bound(skellam(variance, n, dimension, l2_squared), order)
            assert found >= exact * (1 - 1e-9)
            if variance * n >= 100 and order == int(order):
                assert found <= exact * 1.05


class TestAgainstThePapers:
    """The papers' bounds, written once more with (Δ₁, Δ₂) as google-research/federated's distributed_dp takes them."""

    CASES = [(d, l2) for d in (1, 10, 10_000) for l2 in (1.0, 3.5, 200.0)]  # noqa: RUF012

    @pytest.mark.parametrize(("dimension", "l2"), CASES)
    @pytest.mark.parametrize(("sigma", "n"), [(0.5, 2), (0.7, 30), (1.0, 100), (1.5, 1000), (20.0, 10)])
    def test_discrete_gaussian(self, sigma: float, n: int, dimension: int, l2: float) -> None:
        """Proposition 14's three terms: never below them, and above by no more than the fraction adds to the first."""
        event = replace(discrete(sigma, n, dimension, 1), l2_bound_grid=l2)
        l1, scale, t = l2 * min(math.sqrt(dimension), l2), math.sqrt(n) * sigma, tau(sigma, n)
        for order in ORDERS:
            terms = (
                order / 2 * (l2 / scale) ** 2 + t * dimension,
                order / 2 * ((l2 / scale) ** 2 + 2 * l1 / scale * t + t**2 * dimension),
                order / 2 * (l2 / scale + math.sqrt(dimension) * t) ** 2,
            )
            assert terms[1] <= terms[2] * (1 + 1e-12)
            least, added = min(terms), t * dimension / 2 / (order - 1)
            assert least * (1 - 1e-12) <= bound(event, order) <= min(terms[0] + added, terms[1]) * (1 + 1e-12)

    @pytest.mark.parametrize(("dimension", "l2"), CASES)
    @pytest.mark.parametrize("mu", [0.5, 30.0, 4e4])
    def test_skellam(self, mu: float, dimension: int, l2: float) -> None:
        """Corollary 3.6, on the grid itself (scale 1)."""
        event = replace(skellam(mu / 8, 8, dimension, 1), l2_bound_grid=l2)
        l1 = l2 * min(math.sqrt(dimension), l2)
        for a in (2, 3, 17, 256):
            extra = min(((2 * a - 1) * l2**2 + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
            assert bound(event, float(a)) == pytest.approx(a / (2 * mu) * l2**2 + extra, rel=1e-12)


class TestCurves:
    def test_tau_counts_every_contributor(self) -> None:
        """Its sum by a loop, in the middle term, at σ = 1/2 where it matters."""
        event = replace(DISCRETE, noise_std_grid=0.5, honest=40, l2_bound_grid=3.0, dimension=5)
        scale, t = math.sqrt(40) * 0.5, tau(0.5, 40)
        near = (3 / scale) ** 2 + 2 * (math.sqrt(5) * 3 / scale) * t + t**2 * 5
        assert bound(event, 1.5) == pytest.approx(min(0.75 * near, 0.75 * (3 / scale) ** 2 + t * 10))

    @pytest.mark.parametrize("make", [lambda: DISCRETE, lambda: SKELLAM])
    def test_replace_doubles_both_sensitivities(self, make: Callable[[], DiscreteGaussianSum | SkellamSum]) -> None:
        event = make()
        doubled = replace(event, l2_bound_grid=200.0)
        orders = np.array([2.0, 7.0])
        assert replace(event, relation=Relation.REPLACE).curve(orders) == pytest.approx(doubled.curve(orders))

    def test_a_skellam_order_between_whole_ones_takes_the_next(self) -> None:
        low, between, high = SKELLAM.curve(np.array([2.0, 2.1, 3.0]))
        assert low < between == high
