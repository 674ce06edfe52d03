"""Discrete Gaussians over Z, P(x) ∝ exp(−x²/2σ²), from a table of 128-bit thresholds.

Inversion of the cumulative distribution (Peikert, CRYPTO 2010), with the guide table of Chen and Asau (1974) to find
the place, and precision on demand: 64 bits decide, and the next 64 are drawn only when they equal a threshold's, so
precision beyond a word costs nothing (compare Micciancio and Walter, CRYPTO 2017).

How far a table is from the exact law is computed when it is built, in decimal arithmetic of 60 digits, and stands in
`distance_bits`: more than 120 for σ = 6.6, more than 110 for every σ. Sampling is not constant-time: table reads and
the loop's length depend on the secret words, which a process that shares the processor's caches might observe.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from itertools import accumulate
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import workers
from secureagg.ring.xof import SecretStream

__all__ = ["MAX_SIGMA", "MIN_SIGMA", "GaussianTable", "fill_gaussian", "gaussian_table"]

MIN_SIGMA, MAX_SIGMA = 0.5, 1024.0  # a table has about 27σ entries

_THRESHOLD_BITS = 128
_DIGITS = 60
_ARITHMETIC_SLACK = Decimal("1e-50")  # 3·10^4 terms, each within 10^-59 of the truth
_BLOCK = 1 << 15  # long enough that threads seldom wait for the GIL


@dataclass(frozen=True, eq=False)
class GaussianTable:
    """A law over {−tail, …, tail}: x = −tail + #{thresholds ≤ u} for u uniform in [0, 2^128).

    distance_bits: the statistical distance between one draw and the exact law on Z is at most 2^−distance_bits.
    """

    sigma: float
    tail: int
    thresholds: tuple[int, ...]
    distance_bits: int
    high: NDArray[np.uint64]
    guide: NDArray[np.int32]
    guide_shift: int


@lru_cache(maxsize=16)
def gaussian_table(sigma: float) -> GaussianTable:
    """Return the table for the standard-deviation parameter σ = `sigma`, read as the decimal it prints as.

    Raises: ParameterError unless 0.5 ≤ σ ≤ 1024.
    """
    if not MIN_SIGMA <= sigma <= MAX_SIGMA:
        raise ParameterError(f"sigma = {sigma} must lie between {MIN_SIGMA} and {MAX_SIGMA} for a table")
    with localcontext(Context(prec=_DIGITS)):
        law, beyond = _law(Decimal(repr(float(sigma))))
        scale = 1 << _THRESHOLD_BITS
        thresholds = tuple(int((p * scale).to_integral_value()) for p in accumulate(law[:-1]))
        found = [Decimal(b - a) / scale for a, b in zip((0, *thresholds), (*thresholds, scale), strict=True)]
        rounding = sum((abs(a - b) for a, b in zip(found, law, strict=True)), Decimal(0))
        distance = rounding / 2 + beyond + _ARITHMETIC_SLACK
        distance_bits = int(-distance.ln() / Decimal(2).ln())
    high = np.array([t >> 64 for t in thresholds] + [(1 << 64) - 1], dtype=np.uint64)
    guide_bits = int(sigma).bit_length() + 8  # at σ = 6.6, 98 % of the buckets hold no threshold
    starts = np.arange(1 << guide_bits, dtype=np.uint64) << np.uint64(64 - guide_bits)
    guide = np.searchsorted(high[:-1], starts, side="left").astype(np.int32)
    high.flags.writeable = guide.flags.writeable = False
    return GaussianTable(float(sigma), len(law) // 2, thresholds, distance_bits, high, guide, 64 - guide_bits)


def _law(sigma: Decimal) -> tuple[list[Decimal], Decimal]:
    """Return the probabilities of −tail, …, tail, with what lies beyond added to the two ends, and P(|x| > tail).

    Guarantees: P(|x| > tail) ≤ 2^-128 < P(|x| ≥ tail).
    """
    exponent = -1 / (2 * sigma * sigma)
    weights = [Decimal(1)]
    while weights[-1] > Decimal(10) ** (-_DIGITS + 2):
        weights.append((exponent * len(weights) ** 2).exp())
    total = 1 + 2 * sum(weights[1:])
    right = [weight / total for weight in weights]
    reach = list(accumulate(reversed(right)))[::-1]  # reach[k] = P(x ≥ k) for k ≥ 0
    tail = next(k for k in range(len(reach)) if 2 * reach[k + 1] <= Decimal(2) ** -_THRESHOLD_BITS)
    side = [*right[1:tail], reach[tail]]
    return [*reversed(side), right[0], *side], 2 * reach[tail + 1]


class _Span(Protocol):
    """Reserved words, and one more per word for when it ties."""

    def fill(self, offset: int, out: NDArray[np.uint64]) -> None: ...

    def spare(self, index: int) -> int: ...


def fill_gaussian(out: NDArray[np.int64], stream: SecretStream, sigma: float) -> None:
    """Fill a C-ordered int64 array with independent draws, on all cores.

    Guarantees: the array's distance from exact draws is at most out.size·2^−distance_bits, given uniform words. For
    one stream position the draws do not depend on how many threads there are.
    """
    if out.dtype != np.int64 or not out.flags.c_contiguous:
        raise ParameterError(f"{out.dtype} array given, C-ordered int64 needed")
    table = gaussian_table(sigma)
    flat = out.reshape(-1)
    span = stream.reserve(flat.size)
    workers.run(lambda start, stop: _draw(flat[start:stop], span, start, table), flat.size, _BLOCK)


def _draw(out: NDArray[np.int64], span: _Span, offset: int, table: GaussianTable) -> None:
    from secureagg.ring import gaussian_kernels

    words = np.empty(out.size, dtype=np.uint64)
    span.fill(offset, words)
    shift = np.uint64(table.guide_shift)
    if gaussian_kernels.invert(words, table.high, table.guide, shift, np.int64(-table.tail), out):
        # Once in 2^56 draws at σ = 6.6: the first 64 bits equal a threshold's, so the next 64 decide.
        for index in np.flatnonzero(np.isin(words, table.high)).tolist():
            u = (int(words[index]) << 64) | span.spare(offset + index)
            out[index] = bisect_right(table.thresholds, u) - table.tail
