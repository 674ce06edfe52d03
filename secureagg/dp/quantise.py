"""From real values to grid integers, by unbiased stochastic rounding.

v = round(scale · (w / max_weight) · u), |v| ≤ C (docs/protocol.md, Grid and weights). Rounding is unbiased: E[v] is the
scaled value, to within 2^-32 grid steps; what is clamped to the grid's range is counted, never dropped silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError

__all__ = ["ROUNDING_FAILURE_BITS", "Quantiser", "norm_squared_bound"]

MIN_VALUE_BITS, MAX_VALUE_BITS = 2, 24
ROUNDING_FAILURE_BITS = 10  # β: one rounding in a thousand at most is longer than the bound, and drawn again


@dataclass(frozen=True)
class Quantiser:
    """Maps a clipped, weighted update to the grid of b = `value_bits` bits.

    bound: x_max, the largest |u| the grid holds; limit: C = 2^(b−1) − 1.
    """

    value_bits: int
    bound: float

    def __post_init__(self) -> None:
        if not MIN_VALUE_BITS <= self.value_bits <= MAX_VALUE_BITS:
            raise ParameterError(f"value_bits must be in [{MIN_VALUE_BITS}, {MAX_VALUE_BITS}], not {self.value_bits}")

    @property
    def limit(self) -> int:
        """C, the largest grid value."""
        return int(2 ** (self.value_bits - 1)) - 1

    @property
    def scale(self) -> float:
        """Grid steps per unit: C / x_max."""
        return self.limit / self.bound

    def quantise(
        self, values: NDArray[np.float64], clip: float, share: float, words: NDArray[np.uint32]
    ) -> tuple[NDArray[np.int64], int]:
        """Return (int64[m] grid values, how many coordinates were clamped).

        values: float64[m], finite; clip: factor in (0, 1] of the L2 clipping; share: w / max_weight in (0, 1];
        words: uint32[m], uniform, each used for one coordinate.
        Guarantees: |v| ≤ C; E[v] = scale · share · clamp(clip·u, ±x_max) to within 2^-32.
        """
        from secureagg.dp.quantise_kernels import round_stochastically

        out = np.empty(values.size, dtype=np.int64)
        # Clamping clip·u at x_max is clamping u at x_max / clip, which saves a pass.
        factor = self.scale * share * clip
        clamped = round_stochastically(values, self.bound / clip, factor, share * self.limit, words, out)
        return out, int(clamped)


def norm_squared_bound(clip_grid: float, d: int, failure_bits: int = ROUNDING_FAILURE_BITS) -> int:
    """Return B² such that a vector x of d coordinates and norm ≤ C_g = `clip_grid`, in grid steps, has a stochastic
    rounding v with Σv² ≤ B² with probability ≥ 1 − β, β = 2^-failure_bits. Redrawing until it
    holds makes B a sensitivity too.

    B² = ⌊min(C_g² + d/4 + √(2 ln(1/β))·(C_g + √d/2), (C_g + √d)²)⌋, Kairouz, Liu and Steinke, "The distributed
    discrete Gaussian mechanism for federated learning with secure aggregation", ICML 2021, arXiv
    2102.06387, Theorem 1, eq. 2 (conditional rounding): v_j is ⌊x_j⌋ or ⌊x_j⌋ + 1, so E[v_j²] ≤ x_j² + 1/4, and by
    Hoeffding's inequality Σv² exceeds its expectation by √(2 ln(1/β))·‖⌊x⌋ + 1/2‖, which is at most
    √(2 ln(1/β))·(C_g + √d/2), with probability ≤ β. The second bound always holds: |v_j − x_j| ≤ 1.

    docs/proofs/completeness.md. Guarantees: never above the real number, whatever the sizes. `clip_grid` is taken for
    the exact number it is.
    """
    # Square roots, logarithm and sums are cut off far behind the point, so all of it stays on the low side.
    digits = 2 * max(0, Decimal(clip_grid).adjusted()) + 2 * len(str(d)) + 60
    with localcontext(Context(prec=digits, rounding=ROUND_FLOOR)):
        clip, count, down = Decimal(clip_grid), Decimal(d), 1 - Decimal("1e-40")
        root = count.sqrt() * down
        deviation = (2 * failure_bits * Decimal(2).ln()).sqrt() * down
        usual = clip * clip + count / 4 + deviation * (clip + root / 2)
        always = (clip + root) * (clip + root)
        return int(min(usual, always))
