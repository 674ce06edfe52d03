"""From real values to grid integers, by unbiased stochastic rounding.

v = round(scale · (w / max_weight) · u), |v| ≤ C (docs/protocol.md, Grid and weights). Rounding is unbiased: E[v] is the
scaled value, to within 2^-32 grid steps; what is clamped to the grid's range is counted, never dropped silently.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError

__all__ = ["Quantiser"]

MIN_VALUE_BITS, MAX_VALUE_BITS = 2, 24


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
