"""The table's distance from the exact law, ties and tails forced, and draws that accept σ and refuse others."""

from __future__ import annotations

from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import SecretStream, fill_gaussian, gaussian, gaussian_table
from tests.ring import reference

SEED = bytes(range(32))
SIGMAS = [0.5, 1.0, 3.2, 6.6, 20.0]


def draws(sigma: float, count: int) -> NDArray[np.int64]:
    """Return draws from the fixed seed."""
    out = np.empty(count, dtype=np.int64)
    fill_gaussian(out, SecretStream(SEED), sigma)
    return out


def exact(sigma: float) -> Fraction:
    """Return σ as the decimal it prints as."""
    return Fraction(repr(sigma))


@pytest.mark.parametrize("sigma", SIGMAS)
def test_table_is_as_close_to_the_exact_law_as_it_says(sigma: float) -> None:
    """Statistical distance recomputed in integers of 2^-220, far tails included."""
    table, bits = gaussian_table(sigma), 220
    one = 1 << bits
    law = reference.gaussian_law(exact(sigma), 2 * table.tail + 10, bits)
    edges = [0, *(t << (bits - 128) for t in table.thresholds), one]
    found = [b - a for a, b in pairwise(edges)]
    assert len(found) == 2 * table.tail + 1
    difference = sum(abs(p - law[abs(x)]) for x, p in enumerate(found, start=-table.tail))
    beyond = 2 * sum(law[table.tail + 1 :])
    distance = Fraction(difference + beyond, 2 * one)
    assert distance <= Fraction(1, 1 << table.distance_bits)
    assert distance > Fraction(1, 1 << table.distance_bits + 3)  # what is said is not far from the truth either
    assert table.distance_bits >= 120


def test_wide_table_keeps_110_bits() -> None:
    assert gaussian_table(1024.0).distance_bits >= 110


@pytest.mark.parametrize("sigma", SIGMAS)
def test_thresholds_rise_and_are_symmetric(sigma: float) -> None:
    """P(x ≤ k) + P(x ≤ −k − 1) = 1, within the rounding of two thresholds."""
    thresholds = gaussian_table(sigma).thresholds
    assert all(a <= b for a, b in pairwise(thresholds)) and thresholds[0] > 0
    mirrored = [(1 << 128) - t for t in reversed(thresholds)]
    assert all(abs(a - b) <= 1 for a, b in zip(thresholds, mirrored, strict=True))


class Words:
    """Chosen words and, for ties, chosen second words."""

    def __init__(self, pairs: list[tuple[int, int]]) -> None:
        self.pairs = pairs

    def fill(self, offset: int, out: NDArray[np.uint64]) -> None:
        out[:] = np.array([high for high, _ in self.pairs[offset : offset + out.size]], dtype=np.uint64)

    def spare(self, index: int) -> int:
        return self.pairs[index][1]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_tie_is_broken_by_the_second_word(sigma: float) -> None:
    """Every threshold, one below and one above: all but a few share its first 64 bits."""
    table = gaussian_table(sigma)
    near = (u for t in table.thresholds for u in (t - 1, t, t + 1))
    numbers = [u for u in near if 0 <= u < 1 << 128] + [0, (1 << 128) - 1]
    out = np.empty(len(numbers), dtype=np.int64)
    gaussian._draw(out, Words([(u >> 64, u & ((1 << 64) - 1)) for u in numbers]), 0, table)
    assert out.tolist() == [bisect_right(table.thresholds, u) - table.tail for u in numbers]
    assert out[-2:].tolist() == [-table.tail, table.tail]


@pytest.mark.parametrize("sigma", SIGMAS)
def test_words_next_to_every_threshold_and_bucket(sigma: float) -> None:
    """Without a tie the second word must not matter: it is one that would give another answer if it were used."""
    table = gaussian_table(sigma)
    places = {t >> 64 for t in table.thresholds} | {g << table.guide_shift for g in range(len(table.guide))}
    candidates = {(place + step) % (1 << 64) for place in places for step in (-1, 0, 1)}
    words = sorted(candidates - set(table.high.tolist()))
    out = np.empty(len(words), dtype=np.int64)
    gaussian._draw(out, Words([(word, -1) for word in words]), 0, table)
    assert out.tolist() == [bisect_right(table.thresholds, word << 64) - table.tail for word in words]


def test_draws_are_the_inversion_of_the_streams_words() -> None:
    table = gaussian_table(6.6)
    words = [reference.keystream_word(SEED, i) for i in range(300)]
    expected = [bisect_right(table.thresholds, word << 64) - table.tail for word in words]
    assert draws(6.6, 300).tolist() == expected


@pytest.mark.parametrize("threads", ["1", "4"])
def test_draws_do_not_depend_on_threads(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREAGG_THREADS", threads)
    out = draws(6.6, 100_003)
    one_by_one = np.empty_like(out)
    span, table = SecretStream(SEED).reserve(out.size), gaussian_table(6.6)
    for start in range(0, out.size, 1000):
        gaussian._draw(one_by_one[start : start + 1000], span, start, table)
    assert np.array_equal(out, one_by_one)


def chi_square_excess(sample: NDArray[np.int64], sigma: float) -> float:
    """Return χ² of the sample against σ's law, over the point beyond which an exact sample lies with probability
    e^-20 = 2·10^-9 (Laurent and Massart 2000, Lemma 1: χ²_f ≥ f + 2√(ft) + 2t has probability ≤ e^-t)."""
    law = [p / (1 << 100) for p in reference.gaussian_law(exact(sigma), 40 * int(sigma + 1), 100)]
    reach = max(x for x, p in enumerate(law) if p * sample.size >= 20)
    clipped = np.clip(sample, -reach - 1, reach + 1)
    counts = np.bincount(clipped + reach + 1, minlength=2 * reach + 3)
    outside = sum(law[reach + 1 :])
    expected = sample.size * np.array([outside, *law[reach:0:-1], *law[: reach + 1], outside])
    statistic, freedom, t = float(((counts - expected) ** 2 / expected).sum()), float(counts.size - 1), 20.0
    return statistic - (freedom + 2 * (freedom * t) ** 0.5 + 2 * t)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_million_draws_have_their_own_law_and_no_other(sigma: float) -> None:
    """Accepts σ (false alarm 2·10^-9 for a fresh seed); refuses ⅔σ, 1.5σ, and σ wrong by 3 %."""
    sample = draws(sigma, 1_000_000)
    assert chi_square_excess(sample, sigma) <= 0
    for wrong in (sigma * 2 / 3, sigma * 1.5, sigma * 0.97, sigma * 1.03):
        assert chi_square_excess(sample, wrong) > 0


def test_neighbouring_draws_are_uncorrelated() -> None:
    """Each lag's correlation of 10^6 independent draws is within 6/√n but for 2·10^-9 of seeds."""
    sample = draws(6.6, 1_000_000).astype(np.float64) / 6.6
    for lag in (1, 2, 3, 8192):
        assert abs(float(sample[:-lag] @ sample[lag:])) <= 6 * sample.size**0.5


def test_shapes_and_nothing() -> None:
    out = np.empty((3, 5, 7), dtype=np.int64)
    fill_gaussian(out, SecretStream(SEED), 6.6)
    assert np.array_equal(out.ravel(), draws(6.6, 105))
    fill_gaussian(np.empty(0, dtype=np.int64), SecretStream(SEED), 6.6)


def test_draws_differ_from_call_to_call() -> None:
    stream, first, second = SecretStream(SEED), *np.empty((2, 50), dtype=np.int64)
    fill_gaussian(first, stream, 6.6)
    fill_gaussian(second, stream, 6.6)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("sigma", [0.0, -1.0, 0.49, 1025.0, float("nan"), float("inf")])
def test_sigma_outside_the_tables_range_is_refused(sigma: float) -> None:
    with pytest.raises(ParameterError, match="between"):
        gaussian_table(sigma)


@pytest.mark.parametrize("out", [np.empty(8, np.int32), np.empty(8, np.float64), np.empty(16, np.int64)[::2]])
def test_targets_of_another_form_are_refused(out: NDArray[np.int64]) -> None:
    with pytest.raises(ParameterError, match="int64 needed"):
        fill_gaussian(out, SecretStream(SEED), 6.6)
