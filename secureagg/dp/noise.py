"""Exact integer noise: `discrete_gaussian`, `discrete_laplace` and `skellam`, from tables of 128-bit thresholds.

Narrow laws are inverted value by value, as in ring/gaussian.py. For a wide one the table chooses among cells of 2^b
neighbours by their highest weight, the place in the cell is uniform, and it stands with probability f(x)/f(cell's
start); otherwise all is drawn anew (von Neumann's rejection with the staircase hat of Devroye, "Non-Uniform Random
Variate Generation", 1986, VIII.2). A cell is at most 1/128 of the law's width (1/64 of Laplace's), so about one draw
in 300 is refused.

Floats decide only beyond a proven margin. The cubic through four nodes of a cell is within (3/128)·2^4b·max|f''''| of f
(Lagrange's remainder, at most (9/16)/4! of w⁴f''''); nearer to it than that, once in 10^7 draws or less, 64 more bits
and decimal arithmetic decide. Where 64 bits equal a threshold's, the next 64 decide.

The distance of a draw from the law on Z is computed with its table, and stands in `distance_bits`. Sampling is not
constant-time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import lru_cache
from itertools import accumulate, pairwise
from math import isfinite
from numbers import Rational, Real
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import as_whole
from secureagg.dp.noise_laws import DIGITS, GAUSSIAN, LAPLACE, SKELLAM, Law
from secureagg.errors import ParameterError
from secureagg.ring import workers
from secureagg.ring.xof import SecretStream

__all__ = [
    "MAX_UNIT",
    "MIN_UNIT",
    "NoiseTable",
    "Parameter",
    "discrete_gaussian",
    "discrete_laplace",
    "noise_table",
    "skellam",
]

Parameter = float | Decimal | Fraction

MIN_UNIT, MAX_UNIT = Fraction(1, 16), Fraction(1 << 32)  # of σ, of the scale, and of the variance's root

_THRESHOLD_BITS = 128
_SPARE_BITS = 64
_ARITHMETIC_SLACK = Decimal("1e-50")  # weights within 10^-80 of the truth, less than 10^5 of them, cut at 10^-55
_FLOAT_SLACK = 2.0**-46  # a dozen roundings of numbers below 4, each within 2^-52
_BLOCK = 1 << 15
_MAX_SIZE = 1 << 40


@dataclass(frozen=True, eq=False)
class NoiseTable:
    """One law. Index i = #{thresholds ≤ u} for u uniform in [0, 2^128) is the value `lowest` + i if bits = 0, and
    otherwise the cell [i·2^bits, (i + 1)·2^bits) of |x|.

    nodes: float64, f(−2^bits), f(0), f(2^bits), …; margin: see `noise_kernels.place`; both unused if bits = 0.
    distance_bits: the statistical distance between one draw and the exact law on Z is at most 2^−distance_bits.
    """

    law: Law
    parameter: Fraction
    bits: int
    lowest: int
    thresholds: tuple[int, ...] = field(repr=False)
    distance_bits: int
    high: NDArray[np.uint64] = field(repr=False)
    guide: NDArray[np.int32] = field(repr=False)
    guide_shift: int
    nodes: NDArray[np.float64] = field(repr=False)
    margin: float


class _Span(Protocol):
    """Reserved words, and one more per word for when it does not decide."""

    def fill(self, offset: int, out: NDArray[np.uint64]) -> None: ...

    def spare(self, index: int) -> int: ...


def discrete_gaussian(size: int, sigma: Parameter, rng: SecretStream | None = None) -> NDArray[np.int64]:
    """Return int64[size], independent draws with P(x) ∝ exp(−x²/2σ²) on Z.

    sigma: in [1/16, 2^32], read as the decimal it prints as. rng: a new stream from the operating system unless given.
    Guarantees: distance from exact draws at most size·2^−distance_bits of `noise_table(GAUSSIAN, sigma)`, which is
    100 or more, given uniform words; the draws depend on the stream's position alone, not on the number of threads.
    Raises: ParameterError naming `size` or `sigma`.
    """
    return _sample(size, noise_table(GAUSSIAN, sigma), rng)


def discrete_laplace(size: int, scale: Parameter, rng: SecretStream | None = None) -> NDArray[np.int64]:
    """Return int64[size], independent draws with P(x) ∝ exp(−|x|/scale) on Z; the rest as `discrete_gaussian`."""
    return _sample(size, noise_table(LAPLACE, scale), rng)


def skellam(size: int, variance: Parameter, rng: SecretStream | None = None) -> NDArray[np.int64]:
    """Return int64[size], independent differences of two Poisson(variance/2), P(x) = e^−v·I_|x|(v).

    variance: in [2^-8, 2^64]; the rest as `discrete_gaussian`.
    """
    return _sample(size, noise_table(SKELLAM, variance), rng)


def noise_table(law: Law, parameter: Parameter) -> NoiseTable:
    """Return the law's table; the 32 used last are kept. A new one takes up to half a second (Skellam, wide).

    Raises: ParameterError naming the law's parameter unless it is a number in range.
    """
    return _build(law, _exact(law, parameter))


def _exact(law: Law, given: Parameter) -> Fraction:
    """Return a number as the decimal it prints as, not as the binary fraction a float is."""
    power = 2 if law is SKELLAM else 1
    low, high = MIN_UNIT**power, MAX_UNIT**power
    number = None
    if isinstance(given, Rational):
        # numpy's integers would wrap in a fraction's arithmetic, Python's do not.
        number = Fraction(int(given.numerator), int(given.denominator))
    elif isinstance(given, Real | Decimal) and isfinite(given):
        number = Fraction(str(given))
    if number is not None and not isinstance(given, bool) and low <= number <= high:
        return number
    raise ParameterError(f"{law.name} must be a number in [{low}, {high}], not {given!r}")


@lru_cache(maxsize=32)
def _build(law: Law, parameter: Fraction) -> NoiseTable:
    unit = law.unit(parameter)
    bits = max(int(unit / law.resolution).bit_length() - 1, 0)
    step = 1 << bits
    with localcontext(Context(prec=DIGITS)):
        weights = law.values(parameter, step, int(law.reach(parameter) / step) + 4)
        side, beyond = _cut(weights, bits)
        outcomes = side if bits else [*reversed(side[1:]), *side]
        thresholds, rounding = _thresholds(outcomes)
        distance = rounding + beyond + _ARITHMETIC_SLACK  # moved between values, and from beyond to the ends
        if bits:
            # A candidate x has weight P(cell)·2^-bits·P(x stands). Rounding moves the first factor by twice the cells'
            # distance and the last by 2^−(63 − bits + 64); normalising divides by the share that stands. Of the cells'
            # weights f(0) + f(w) + … at least f(w) + … stands, less what −0 loses, at most half of cell 0.
            stands = 1 - side[0] / sum(side) * 3 / 2
            distance = (2 * distance + Decimal(2) ** (bits - 63 - _SPARE_BITS)) / stands + beyond
        distance_bits = int(-distance.ln() / Decimal(2).ln())
        before = weights[1] if law.even else 1 / weights[1]
    nodes = np.array([before, *weights[: len(side) + 2]], dtype=np.float64)
    margin = 3 / 128 * law.curvature * (step / unit) ** 4 * 1.001 + 2.0 ** (bits - 63) + _FLOAT_SLACK
    high, guide, shift = _guide(thresholds, unit / step)
    nodes.flags.writeable = False
    lowest = 0 if bits else 1 - len(side)
    return NoiseTable(law, parameter, bits, lowest, thresholds, distance_bits, high, guide, shift, nodes, margin)


def _cut(weights: list[Decimal], bits: int) -> tuple[list[Decimal], Decimal]:
    """Return the first n weights, with those beyond added to the last, and p with P(|x| ≥ n·2^bits) ≤ p ≤ 2^-128.

    n ≥ 1 is the least possible, so rounding leaves no threshold at 0 or 2^128. Where cells are meant, the weight
    f(c·2^bits) bounds those of its cell from above, and those of the cell before from below.
    """
    reach = list(accumulate(reversed(weights)))[::-1]
    total = reach[1] if bits else reach[1] + weights[0] / 2
    n = next(c for c in range(1, len(reach)) if reach[c] / total <= Decimal(2) ** -_THRESHOLD_BITS)
    return [*weights[: n - 1], reach[n - 1]], reach[n] / total


def _thresholds(outcomes: Sequence[Decimal]) -> tuple[tuple[int, ...], Decimal]:
    """Return thresholds for outcomes of these relative weights, and the distance their rounding makes."""
    total, scale = sum(outcomes), 1 << _THRESHOLD_BITS
    thresholds = tuple(int((p / total * scale).to_integral_value()) for p in accumulate(outcomes[:-1]))
    found = (Decimal(b - a) / scale for a, b in pairwise((0, *thresholds, scale)))
    differences = (abs(p - weight / total) for p, weight in zip(found, outcomes, strict=True))
    return thresholds, sum(differences, Decimal(0)) / 2


def _guide(thresholds: tuple[int, ...], width: float) -> tuple[NDArray[np.uint64], NDArray[np.int32], int]:
    """Return what `gaussian_kernels.invert` needs; `width`: indices a unit of the law has, 2^-6 thresholds a bucket."""
    high = np.array([t >> 64 for t in thresholds] + [(1 << 64) - 1], dtype=np.uint64)
    guide_bits = int(width).bit_length() + 6
    starts = np.arange(1 << guide_bits, dtype=np.uint64) << np.uint64(64 - guide_bits)
    guide = np.searchsorted(high[:-1], starts, side="left").astype(np.int32)
    high.flags.writeable = guide.flags.writeable = False
    return high, guide, 64 - guide_bits


def _sample(size: int, table: NoiseTable, rng: SecretStream | None) -> NDArray[np.int64]:
    if not (rng is None or isinstance(rng, SecretStream)):
        raise ParameterError(f"rng must be a SecretStream or None, not a {type(rng).__name__}")
    out = np.empty(as_whole("size", size, 0, _MAX_SIZE), dtype=np.int64)
    _fill(out, SecretStream() if rng is None else rng, table)
    return out


def _fill(out: NDArray[np.int64], stream: SecretStream, table: NoiseTable) -> None:
    """Fill a one-dimensional array. Refused places are drawn again in order, so threads make no difference."""
    indices = stream.reserve(out.size)
    places = stream.reserve(out.size) if table.bits else indices
    refused: dict[int, NDArray[np.int64]] = {}

    def draw(start: int, stop: int) -> None:
        _draw_indices(out[start:stop], indices, start, table)
        if table.bits:
            refused[start] = start + _settle(out[start:stop], places, start, table)

    workers.run(draw, out.size, _BLOCK)
    again = np.concatenate([refused[start] for start in sorted(refused)]) if refused else np.empty(0, np.int64)
    if again.size:
        fresh = np.empty(again.size, dtype=np.int64)
        _fill(fresh, stream, table)
        out[again] = fresh


def _draw_indices(out: NDArray[np.int64], span: _Span, offset: int, table: NoiseTable) -> None:
    from secureagg.ring.gaussian_kernels import invert

    words = np.empty(out.size, dtype=np.uint64)
    span.fill(offset, words)
    if invert(words, table.high, table.guide, np.uint64(table.guide_shift), np.int64(table.lowest), out):
        for j in np.flatnonzero(np.isin(words, table.high)).tolist():
            u = (int(words[j]) << 64) | span.spare(offset + j)
            out[j] = table.lowest + bisect_right(table.thresholds, u)


def _settle(out: NDArray[np.int64], span: _Span, offset: int, table: NoiseTable) -> NDArray[np.int64]:
    """Turn cells into values; return the refused positions, whose values mean nothing."""
    from secureagg.dp.noise_kernels import place

    words, notes = np.empty(out.size, dtype=np.uint64), np.empty(out.size, dtype=np.int64)
    span.fill(offset, words)
    found = notes[: place(words, table.nodes, np.uint64(table.bits), table.margin, out, notes)]
    for note in np.flatnonzero(found < 0).tolist():
        j = -1 - int(found[note])
        value = _decide(table, int(out[j]), int(words[j]), span.spare(offset + j))
        if value is None:
            found[note] = j
        else:
            out[j] = value
    return found[found >= 0]


def _decide(table: NoiseTable, cell: int, word: int, spare: int) -> int | None:
    """Return the value a cell and a word with 64 more bits stand for, or None if it is refused."""
    start, step = cell << table.bits, 1 << table.bits
    x, negative = start + word % step, word >> table.bits & 1
    u = word >> table.bits + 1 << _SPARE_BITS | spare
    with localcontext(Context(prec=DIGITS)):
        share = table.law.value(table.parameter, x) / table.law.value(table.parameter, start)
        stands = u < int(share * (1 << 63 - table.bits + _SPARE_BITS))
    return (-x if negative else x) if stands else None
