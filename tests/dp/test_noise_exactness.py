"""The tables' distance from the laws recomputed in integers, and decisions a word or a float leaves open, forced."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.dp import noise
from secureagg.dp.noise import MAX_UNIT, MIN_UNIT, NoiseTable, noise_table
from secureagg.dp.noise_laws import GAUSSIAN, LAPLACE, SKELLAM
from tests.dp.noise_reference import law
from tests.ring.reference import exp_negative, keystream_word

LAWS = {"gaussian": GAUSSIAN, "laplace": LAPLACE, "skellam": SKELLAM}
NARROW = [
    ("gaussian", 0.5), ("gaussian", 6.6), ("gaussian", 100.0), ("laplace", 0.5), ("laplace", 20.0),
    ("skellam", 0.01), ("skellam", 0.25), ("skellam", 100.0),
]  # fmt: skip
WIDE = [("gaussian", 300.0), ("laplace", 300.0), ("skellam", 70_000.0)]
WIDER = [*WIDE, ("gaussian", 10_000.0), ("gaussian", float(MAX_UNIT)), ("laplace", float(MAX_UNIT)), ("skellam", 1e8)]
SEED = bytes(range(32))
ALL_ONES = (1 << 64) - 1


def table_of(name: str, parameter: float) -> NoiseTable:
    return noise_table(LAWS[name], parameter)


def shares(name: str, parameter: float) -> Callable[[int, int], Fraction]:
    """Return (x, start) ↦ P(x)/P(start), within 2^-150 or so of it."""
    exact = Fraction(str(parameter))
    if name == "skellam":
        values = law(name, parameter, int(14 * parameter**0.5), 300)
        return lambda x, start: Fraction(values[x], values[start])
    if name == "laplace":
        return lambda x, start: Fraction(exp_negative((x - start) / exact, 200), 1 << 200)
    return lambda x, start: Fraction(exp_negative((x * x - start * start) / (2 * exact * exact), 200), 1 << 200)


class Words:
    """Chosen words and the words for when they do not decide; None where one must not be needed."""

    def __init__(self, pairs: list[tuple[int, int | None]]) -> None:
        self.pairs = pairs

    def fill(self, offset: int, out: NDArray[np.uint64]) -> None:
        out[:] = np.array([word for word, _ in self.pairs[offset : offset + out.size]], dtype=np.uint64)

    def spare(self, index: int) -> int:
        spare = self.pairs[index][1]
        assert spare is not None, "a word that decides by itself was not enough"
        return spare


@pytest.mark.parametrize(("name", "parameter"), NARROW)
def test_a_narrow_table_is_as_close_to_its_law_as_it_says(name: str, parameter: float) -> None:
    """Statistical distance in integers of 2^-220, far tails included."""
    table, bits = table_of(name, parameter), 220
    assert table.bits == 0
    tail = -table.lowest
    exact = law(name, parameter, 2 * tail + 20, bits)
    edges = [0, *(t << (bits - 128) for t in table.thresholds), 1 << bits]
    found = [b - a for a, b in pairwise(edges)]
    assert len(found) == 2 * tail + 1
    difference = sum(abs(p - exact[abs(x)]) for x, p in enumerate(found, start=-tail))
    distance = Fraction(difference + 2 * sum(exact[tail + 1 :]), 2 << bits)
    assert Fraction(1, 1 << table.distance_bits + 4) < distance <= Fraction(1, 1 << table.distance_bits)
    assert table.distance_bits >= 116


@pytest.mark.parametrize(("name", "parameter"), WIDE)
def test_a_wide_table_is_as_close_to_its_law_as_it_says(name: str, parameter: float) -> None:
    """The law of what stands, from the cells' thresholds and the exact acceptance counts, in rational numbers."""
    table, bits = table_of(name, parameter), 300
    assert table.bits > 0 and table.lowest == 0
    width, cells = 1 << table.bits, len(table.thresholds) + 1
    exact = law(name, parameter, 2 * cells * width, bits)
    chosen = [b - a for a, b in pairwise((0, *table.thresholds, 1 << 128))]
    precision = 127 - table.bits
    weights = [
        chosen[x // width] * ((exact[x] << precision) // exact[x - x % width]) for x in range(cells * width)
    ]  # of x, and of −x if x > 0
    total = weights[0] + 2 * sum(weights[1:])
    sides = [abs(Fraction(w, total) - Fraction(p, 1 << bits)) for w, p in zip(weights, exact, strict=False)]
    distance = (sides[0] + 2 * sum(sides[1:]) + Fraction(2 * sum(exact[cells * width :]), 1 << bits)) / 2
    assert Fraction(1, 1 << table.distance_bits + 6) < distance <= Fraction(1, 1 << table.distance_bits)
    assert table.distance_bits >= 116


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("unit", [MIN_UNIT, Fraction(127), Fraction(256), Fraction(1 << 20), MAX_UNIT])
def test_every_width_keeps_100_bits(name: str, unit: Fraction) -> None:
    table = noise_table(LAWS[name], unit**2 if name == "skellam" else unit)
    assert table.distance_bits >= (100 if unit == MAX_UNIT else 112)
    assert table.margin < 2**-28 or not table.bits


@pytest.mark.parametrize(("name", "parameter"), NARROW)
def test_thresholds_are_symmetric(name: str, parameter: float) -> None:
    """P(x ≤ k) + P(x ≤ −k − 1) = 1, within the rounding of two thresholds."""
    thresholds = table_of(name, parameter).thresholds
    mirrored = [(1 << 128) - t for t in reversed(thresholds)]
    assert all(abs(a - b) <= 1 for a, b in zip(thresholds, mirrored, strict=True))


@pytest.mark.parametrize(("name", "parameter"), [*NARROW, *WIDER])
def test_every_tie_with_a_threshold_is_broken_by_the_second_word(name: str, parameter: float) -> None:
    """Every threshold, one below and one above, and both ends; then places next to thresholds where a second word
    must not be asked for."""
    table = table_of(name, parameter)
    near = (u for t in table.thresholds for u in (t - 1, t, t + 1))
    numbers = [u for u in near if 0 <= u < 1 << 128] + [0, (1 << 128) - 1]
    out = np.empty(len(numbers), dtype=np.int64)
    noise._draw_indices(out, Words([(0, None)] * 2 + [(u >> 64, u & ALL_ONES) for u in numbers]), 2, table)
    assert out.tolist() == [table.lowest + bisect_right(table.thresholds, u) for u in numbers]
    assert out[-2:].tolist() == [table.lowest, table.lowest + len(table.thresholds)]  # the tails
    beside = {(t >> 64) + step for t in table.thresholds for step in (-1, 1)} - set(table.high.tolist())
    words = sorted(word for word in beside if 0 <= word <= ALL_ONES)
    out = np.empty(len(words), dtype=np.int64)
    noise._draw_indices(out, Words([(word, None) for word in words]), 0, table)
    assert out.tolist() == [table.lowest + bisect_right(table.thresholds, word << 64) for word in words]


def settle(table: NoiseTable, cells: list[int], pairs: list[tuple[int, int | None]]) -> list[int | None]:
    """Return what each cell and word gives, as words 2, 3, … of a span; None if refused."""
    out = np.array(cells, dtype=np.int64)
    refused = set(noise._settle(out, Words([(0, None)] * 2 + pairs), 2, table).tolist())
    return [None if j in refused else x for j, x in enumerate(out.tolist())]


@pytest.mark.parametrize(("name", "parameter"), WIDER)
def test_near_the_curve_64_more_bits_decide_and_elsewhere_floats_are_right(name: str, parameter: float) -> None:
    """Words whose height is the exact share of x: with the next 64 bits just below and just above it, and heights
    from twice the margin on, where no more bits may be needed. In cells from the first to the last."""
    table, share = table_of(name, parameter), shares(name, parameter)
    width, last, scale = 1 << table.bits, len(table.thresholds), 1 << (63 - table.bits)
    cells, pairs, expected = [], [], []
    for cell in sorted({0, 1, 2, last - 1, last, *range(3, last, last // 12)}):
        start = cell * width
        for r in {0, 1, width // 2, width - 1} - ({0} if cell == 0 else set()):
            x, negative = start + r, (cell + r) % 2
            edge = int(share(x, start) * scale * 2**64) if r else scale << 64  # the first number refused
            margin = int(2 * Fraction(table.margin) / share(start, 0) * scale) + 1
            near = [(u >> 64, u & ALL_ONES) for u in (edge - 1, edge)]
            far = [((edge >> 64) - margin, None), ((edge >> 64) + margin, None)]
            for u, spare in [*near, *far]:
                if 0 <= u < scale:
                    cells.append(cell)
                    pairs.append((((u << 1 | negative) << table.bits) | r, spare))
                    expected.append((-x if negative else x) if u << 64 | (spare or 0) < edge else None)
    assert settle(table, cells, pairs) == expected


@pytest.mark.parametrize(("name", "parameter"), WIDER)
def test_zero_has_one_sign_and_the_sign_bit_mirrors_all_others(name: str, parameter: float) -> None:
    table = table_of(name, parameter)
    last, width = len(table.thresholds), 1 << table.bits
    cells, places = [0, 0, 3, last, last], [0, width - 1, 1, 0, width - 1]
    positive = settle(table, cells, [(r, 0) for r in places])
    assert positive == [cell * width + r for cell, r in zip(cells, places, strict=True)]
    negative = settle(table, cells, [(width | r, 0) for r in places])
    assert negative == [None, *(-x for x in positive[1:] if x is not None)]


class Reserved:
    """A stream that hands out prepared spans."""

    def __init__(self, *spans: list[int]) -> None:
        self.spans = list(spans)

    def reserve(self, words: int) -> Words:
        span = self.spans.pop(0)
        assert len(span) == words
        return Words([(word, None) for word in span])


def test_what_is_refused_is_drawn_again_in_order_until_it_stands() -> None:
    """Four draws near 0, where word 0 gives cell 0 and place r: −0 is refused, twice for the last."""
    table = table_of("gaussian", 10_000.0)
    minus_zero = 1 << table.bits
    stream = Reserved([1, 1, 1, 1], [minus_zero, 5, minus_zero, minus_zero], [1] * 3, [7, 8, minus_zero], [1], [9])
    out = np.empty(4, dtype=np.int64)
    noise._fill(out, stream, table)  # type: ignore[arg-type]
    assert out.tolist() == [7, 5, 8, 9] and not stream.spans


@pytest.mark.parametrize(("name", "parameter"), [("gaussian", 6.6), ("gaussian", 1000.0), ("skellam", 1e5)])
def test_draws_are_those_of_the_definition(name: str, parameter: float) -> None:
    """600 draws from the seed, recomputed from the keystream with exact shares."""
    from secureagg.ring import SecretStream

    table, count, out = table_of(name, parameter), 600, np.empty(600, dtype=np.int64)
    noise._fill(out, SecretStream(SEED), table)
    indices = [bisect_right(table.thresholds, keystream_word(SEED, i) << 64) for i in range(count)]
    if not table.bits:
        assert out.tolist() == [table.lowest + i for i in indices]
        return
    share, stood = shares(name, parameter), 0
    for j, cell in enumerate(indices):
        word = keystream_word(SEED, count + j)
        rest, r = divmod(word, 1 << table.bits)
        x = (cell << table.bits) + r
        if Fraction(rest >> 1, 1 << (63 - table.bits)) < share(x, cell << table.bits):
            stood += 1
            assert out[j] == (-x if rest & 1 else x)
    assert count - 20 <= stood <= count
