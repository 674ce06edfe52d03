"""The numbers plans rely on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from secureagg.errors import ParameterError
from secureagg.ring import SecretStream, fill_gaussian, noise_squared_norm_bound, smoothing_parameter, tail_bound


@pytest.mark.parametrize(
    ("coefficients", "least"), [(200_000, "6.42"), (500_000, "6.45"), (50_000_000, "6.59")]
)  # security.md
def test_smoothing_parameter_gives_the_security_tables_numbers(coefficients: int, least: str) -> None:
    assert f"{2 * math.sqrt(2) * smoothing_parameter(coefficients):.2f}" == least


def test_sigma_carries_almost_seventy_million_coefficients() -> None:
    least, too_small = (2 * math.sqrt(2) * smoothing_parameter(count) for count in (69_900_000, 70_100_000))
    assert least <= 6.6 < too_small


@pytest.mark.parametrize("contributions", [1, 10, 1000, 10**6])
@pytest.mark.parametrize("coefficients", [1, 2048, 5 * 10**5, 10**8])
def test_tail_bound_is_the_smallest_that_the_tail_allows(contributions: int, coefficients: int) -> None:
    bound = tail_bound(6.6, contributions, coefficients)

    def log2_failure(x: int) -> float:
        return math.log2(2 * coefficients) - x * x / (2 * contributions * 6.6**2) / math.log(2)

    assert log2_failure(bound + 1) <= -40 + 1e-9
    assert log2_failure(bound) > -40 - 1e-9


def test_tail_bound_grows_with_everything() -> None:
    base = tail_bound(6.6, 100, 10**6)
    assert base < tail_bound(6.7, 100, 10**6)
    assert base < tail_bound(6.6, 110, 10**6)
    assert base < tail_bound(6.6, 100, 10**8)
    assert base < tail_bound(6.6, 100, 10**6, failure_bits=60)


def test_tail_bound_holds_and_is_not_lavish() -> None:
    """A million sums of 30: none beyond the bound, and the largest beyond half of it."""
    total = np.zeros(1_000_000, dtype=np.int64)
    draws, stream = np.empty_like(total), SecretStream(bytes(32))
    for _ in range(30):
        fill_gaussian(draws, stream, 6.6)
        total += draws
    bound = tail_bound(6.6, 30, total.size)
    assert bound // 2 < np.abs(total).max() <= bound


@pytest.mark.parametrize("arguments", [(0.0, 1, 1), (math.nan, 1, 1), (math.inf, 1, 1), (1.0, 0, 1), (1.0, 1, 0)])
def test_impossible_sums_are_refused(arguments: tuple[float, int, int]) -> None:
    with pytest.raises(ParameterError, match="positive"):
        tail_bound(*arguments)


@pytest.mark.parametrize("arguments", [(0, 128), (10, 0)])
def test_smoothing_of_nothing_is_refused(arguments: tuple[int, int]) -> None:
    with pytest.raises(ParameterError, match="smoothing parameter"):
        smoothing_parameter(*arguments)


@pytest.mark.parametrize("coefficients", [1, 16, 4096, 501760, 10**9])
@pytest.mark.parametrize("bits", [1, 40])
def test_squared_norm_bound_is_laurent_and_massarts(coefficients: int, bits: int) -> None:
    x = bits * math.log(2)
    real = 6.6**2 * (coefficients + 2 * math.sqrt(coefficients * x) + 2 * x)
    assert noise_squared_norm_bound(6.6, coefficients, bits) == pytest.approx(real, rel=1e-12, abs=1)
    assert noise_squared_norm_bound(6.6, coefficients, bits) <= real * (1 + 1e-12)


def longer(sigma: float, squared: int, draws: int = 4000, coefficients: int = 64) -> int:
    """Return how many of `draws` vectors of discrete Gaussians have a squared norm above `squared`."""
    out = np.empty((draws, coefficients), dtype=np.int64)
    fill_gaussian(out, SecretStream(bytes(32)), sigma)
    return int(((out**2).sum(axis=1) > squared).sum())


@pytest.mark.parametrize("sigma", [0.5, 1.0, 6.6])
def test_norms_stay_within_the_bound_as_often_as_stated(sigma: float) -> None:
    """4000 vectors at 2^-4: at most 250 expected, 350 or more with probability < 10^-9."""
    bound = noise_squared_norm_bound(sigma, 64, 4)
    assert longer(sigma, bound) < 350
    if sigma > 1:  # a narrower one is well below its bound, for the integers cut its tails
        assert longer(sigma * math.sqrt(1.5), bound) > 1000


@pytest.mark.parametrize("changes", [{"sigma": 0.0}, {"sigma": math.nan}, {"coefficients": 0}, {"failure_bits": 0}])
def test_norms_of_nothing_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match=r"norm bound of .* all must be positive"):
        noise_squared_norm_bound(**{"sigma": 6.6, "coefficients": 4} | changes)  # type: ignore[arg-type]
