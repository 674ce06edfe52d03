"""Draws that accept their own law and refuse others, pinned draws of a seed, and what is refused.

Seeds are fixed, so no test fails by chance; error rates are those of a fresh seed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.dp.noise import (
    MAX_UNIT,
    Parameter,
    discrete_gaussian,
    discrete_laplace,
    noise_table,
    skellam,
)
from secureagg.dp.noise_laws import GAUSSIAN, LAPLACE, SKELLAM
from secureagg.errors import ParameterError
from secureagg.ring import SecretStream
from tests.dp.noise_reference import skellam_law

Sampler = Callable[[int, Parameter, SecretStream | None], NDArray[np.int64]]

SEED = bytes(range(32))
DRAWS = 1_000_000
SAMPLERS: dict[str, Sampler] = {"gaussian": discrete_gaussian, "laplace": discrete_laplace, "skellam": skellam}
UNITS = [0.5, 1.0, 3.2, 20.0, 300.0, 1000.0, 10_000.0]  # σ, scale, √variance; cells of several values from 256 on
EVERY = [(name, unit) for name in SAMPLERS for unit in UNITS]


def sampled(name: str, unit: float, size: int = DRAWS, seed: bytes = SEED) -> NDArray[np.int64]:
    """Return draws of the law with this unit."""
    parameter = Fraction(str(unit)) ** 2 if name == "skellam" else unit
    return SAMPLERS[name](size, parameter, SecretStream(seed))


@cache
def probabilities(name: str, unit: float) -> NDArray[np.float64]:
    """Return P(0), P(1), … in floats, to beyond all that a million draws show; Skellam's from integers."""
    reach = int((30 if name == "laplace" else 8) * unit) + 30
    x = np.arange(reach + 1, dtype=np.float64)
    if name == "skellam":
        return np.array([p / 2**100 for p in skellam_law(Fraction(str(unit)) ** 2, reach, 100)])
    weights = np.exp(-x / unit) if name == "laplace" else np.exp(-(x**2) / (2 * unit**2))
    found: NDArray[np.float64] = weights / (weights[0] + 2 * weights[1:].sum())
    return found


def chi_square_excess(sample: NDArray[np.int64], name: str, unit: float) -> float:
    """Return χ² of the sample against a law, over the point beyond which an exact sample lies with probability e^-20
    = 2·10^-9 (Laurent and Massart 2000, Lemma 1: χ²_f ≥ f + 2√(ft) + 2t has probability ≤ e^-t).

    Values are binned as integers by ⌊unit/64⌋ or one by one, as far as 20 of a bin are expected.
    """
    law, width = probabilities(name, unit), max(int(unit / 64), 1)
    law = law[: law.size // width * width]
    bins = law.reshape(-1, width).sum(axis=1)  # of x ≥ 0; of x < 0 they begin at −1
    mirrored = np.append(law[1:], 0.0).reshape(-1, width).sum(axis=1)
    reach = int(np.flatnonzero(np.minimum(bins, mirrored) * sample.size >= 20)[-1]) + 1
    place = np.clip(sample // width, -reach - 1, reach)
    counts = np.bincount(place + reach + 1, minlength=2 * reach + 2)
    expected = np.concatenate([[mirrored[reach:].sum()], mirrored[:reach][::-1], bins[:reach], [bins[reach:].sum()]])
    expected *= sample.size
    statistic, freedom, t = float(((counts - expected) ** 2 / expected).sum()), float(counts.size - 1), 20.0
    return statistic - (freedom + 2 * (freedom * t) ** 0.5 + 2 * t)


@pytest.mark.parametrize(("name", "unit"), EVERY)
def test_a_million_draws_have_their_own_law_and_no_other(name: str, unit: float) -> None:
    """Accepts the unit (false alarm 2·10^-9); refuses ⅔ and 1.5 of it, and 3 % more or less."""
    sample = sampled(name, unit)
    assert chi_square_excess(sample, name, unit) <= 0
    for factor in (2 / 3, 1.5, 0.97, 1.03):
        assert chi_square_excess(sample, name, round(unit * factor, 6)) > 0


@pytest.mark.parametrize("variance", [0.25, 1.0, 4.0])
def test_skellam_and_gaussian_of_the_same_variance_are_told_apart(variance: float) -> None:
    unit = variance**0.5
    assert chi_square_excess(sampled("skellam", unit), "gaussian", unit) > 0
    assert chi_square_excess(sampled("gaussian", unit), "skellam", unit) > 0


@pytest.mark.parametrize(
    ("name", "unit"), [*EVERY, *((name, float(2**power)) for name in SAMPLERS for power in (20, 32))]
)
def test_moments(name: str, unit: float) -> None:
    """Mean, mean square and sign within 6 standard errors (2·10^-9 each). The widest laws' moments are those of their
    limits, off by less than 10^-8 of themselves."""
    sample = sampled(name, unit) / unit
    if unit > 10_000:
        square, fourth = (2.0, 24.0) if name == "laplace" else (1.0, 3.0)
    else:
        law = probabilities(name, unit)
        x = np.arange(law.size) / unit
        square, fourth = float(2 * (law * x**2).sum()), float(2 * (law * x**4).sum())
    assert abs(sample.mean()) <= 6 * math.sqrt(square / DRAWS)
    assert abs(np.square(sample).mean() - square) <= 6 * math.sqrt((fourth - square**2) / DRAWS)
    assert abs(np.sign(sample).mean()) <= 6 / math.sqrt(DRAWS)


@pytest.mark.parametrize(("name", "unit"), [("gaussian", 3.2), ("gaussian", 1000.0), ("laplace", 300.0)])
def test_neighbouring_draws_are_uncorrelated(name: str, unit: float) -> None:
    """Each lag's correlation is within 6/√n but for 2·10^-9 of seeds."""
    sample = sampled(name, unit).astype(np.float64)
    sample /= sample.std()
    for lag in (1, 2, 3, 32_768):
        assert abs(float(sample[:-lag] @ sample[lag:])) <= 6 * DRAWS**0.5


def test_skellams_add_up() -> None:
    """Two of variance 2 are one of variance 4, as shares of noise must be (false alarm 2·10^-9)."""
    total = sampled("skellam", 2**0.5) + sampled("skellam", 2**0.5, seed=bytes(32))
    # √2 is read as a decimal, so that the variance is 2 to within 10^-15 of it.
    assert chi_square_excess(total, "skellam", 2.0) <= 0


@pytest.mark.parametrize(
    ("name", "unit"), [("gaussian", 6.6), ("gaussian", 1000.0), ("laplace", 500.0), ("skellam", 300.0)]
)
def test_draws_do_not_depend_on_threads(name: str, unit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    size, found = 300_001, []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("SECUREAGG_THREADS", threads)
        found.append(sampled(name, unit, size))
    assert np.array_equal(found[0], found[1]) and np.array_equal(found[0], found[2])


VECTORS = {
    ("gaussian", 0.5): (
        [0, 0, 1, 0, 0, 0],
        "92cd1e7a15c708c6d954471c5aa48d08a6923ddf1eb7ee5db0a5a2727beed88e",
    ),
    ("gaussian", 6.6): (
        [6, 0, 8, -5, 4, 2],
        "7d10d8fdad3821d5612f78f2b2c1c5252935b646cb9368b1b8acf43c02a7ea65",
    ),
    ("gaussian", 10000.0): (
        [13257, -6823, 16347, -3063, 11303, -8446],
        "14ec299e737fb068e8c64be051308a1501d3a229c748956d0b7ca7c0d6dee572",
    ),
    ("laplace", 20.0): (
        [20, 0, 32, -15, 13, 4],
        "6520006aee5aec7b086157a5032a28220605c95287ee93b417320a6a9bfba53d",
    ),
    ("laplace", 1000.0): (
        [-1681, 703, -2275, 279, 1351, -918],
        "3f3c40749ad5fd8f6a162b194271f827cc1dfce2b9ea30ab34e9845b74956368",
    ),
    ("skellam", 0.25): (
        [0, 0, 1, 0, 0, 0],
        "be3c7d0797e115fb23974549d6d643d24a32793e7e7d91d7c0b66d37d4cbffb2",
    ),
    ("skellam", 100.0): (
        [9, 0, 13, -7, 6, 3],
        "c198629e62f455269cd893b9221638869b08c01b128068241d37311189dff892",
    ),
    ("skellam", 100000000.0): (
        [13257, -6823, 16347, -3063, 11303, -8446],
        "14ec299e737fb068e8c64be051308a1501d3a229c748956d0b7ca7c0d6dee572",
    ),
}


@pytest.mark.parametrize(("name", "parameter"), VECTORS)
def test_draws_of_a_seed_stay_what_they_are(name: str, parameter: float) -> None:
    """The first six of a seed, and SHA-256 of 10^5 as little-endian int64."""
    first, digest = VECTORS[name, parameter]
    found = SAMPLERS[name](100_000, parameter, SecretStream(SEED))
    assert found[:6].tolist() == first
    assert hashlib.sha256(found.astype("<i8").tobytes()).hexdigest() == digest


def test_draws_are_fresh_without_a_stream_and_go_on_with_one() -> None:
    """Equal with probability below 2^-150."""
    stream = SecretStream(SEED)
    found = [discrete_gaussian(50, 6.6), discrete_gaussian(50, 6.6)]
    found += [discrete_gaussian(50, 6.6, stream), discrete_gaussian(50, 6.6, stream)]
    assert len({sample.tobytes() for sample in found}) == 4


@pytest.mark.parametrize("name", SAMPLERS)
def test_sizes_and_types(name: str) -> None:
    assert sampled(name, 3.0, 0).shape == (0,)
    for size in (1, 3, np.int64(5)):
        found = SAMPLERS[name](size, 1e5, None)
        assert found.shape == (size,) and found.dtype == np.int64 and found.flags.c_contiguous


def test_the_widest_draws_stay_far_inside_int64() -> None:
    assert np.abs(sampled("laplace", float(MAX_UNIT))).max() < 1 << 40
    table = noise_table(LAPLACE, MAX_UNIT)
    assert (len(table.thresholds) + 1) << table.bits < 1 << 40  # P(|x| beyond) is 0


def test_numbers_are_the_decimals_they_print_as() -> None:
    tenth = noise_table(GAUSSIAN, Fraction(1, 10))
    for same in (0.1, Decimal("0.1"), np.float64(0.1), np.float32(0.1)):
        assert noise_table(GAUSSIAN, same) is tenth  # type: ignore[arg-type]
    assert noise_table(SKELLAM, np.int64(10**9)) is noise_table(SKELLAM, 1e9)  # type: ignore[arg-type]
    assert noise_table(GAUSSIAN, Fraction(0.1)).parameter != tenth.parameter


NO_NUMBERS = [0.0, -1.0, float("nan"), float("inf"), -float("inf"), Decimal("NaN"), True, "3", None, 3j, [1.0], 10**400]


@pytest.mark.parametrize(("name", "argument"), [("gaussian", "sigma"), ("laplace", "scale"), ("skellam", "variance")])
@pytest.mark.parametrize("wrong", NO_NUMBERS, ids=lambda wrong: str(wrong)[:6])
def test_parameters_out_of_range_and_other_things_are_refused(name: str, argument: str, wrong: object) -> None:
    with pytest.raises(ParameterError, match=f"^{argument} must be a number in"):
        SAMPLERS[name](3, wrong, None)  # type: ignore[arg-type]


def test_ranges_end_where_they_say() -> None:
    for sampler, low, high in ((discrete_gaussian, 1 / 16, 2.0**32), (skellam, 1 / 256, 2**64)):
        sampler(3, low), sampler(3, high)
        for wrong in (low * 0.999, high * 1.001):
            with pytest.raises(ParameterError, match="must be a number in"):
                sampler(3, wrong)


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("size", [-1, 1.5, float("nan"), True, "7", None, 1 << 41])
def test_sizes_that_are_none_are_refused(name: str, size: object) -> None:
    with pytest.raises(ParameterError, match=r"^size must be a whole number in"):
        SAMPLERS[name](size, 3.0, None)  # type: ignore[arg-type]


def test_another_generator_is_refused() -> None:
    with pytest.raises(ParameterError, match=r"^rng must be a SecretStream or None, not a Generator"):
        discrete_gaussian(3, 3.0, np.random.default_rng(0))  # type: ignore[arg-type]
