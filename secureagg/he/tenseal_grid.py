"""The integers a mean is computed with: contributions rounded before encryption, their sum rounded after it.

CKKS decrypts to approximate numbers. Here every slot holds an integer and the noise stays below a quarter, so the sum
comes back exact: the mean is reproducible bit for bit, and does not carry the noise that Li and Micciancio (eprint
2020/1533) turn into key recovery.

Symbols: n clients, u a coordinate, w its client's weight, g the grid step, K the grid units of weight 1.

    v = rint(w·u/g)        m = rint(w·K)        mean' = g·Σv / (Σm/K)        K = ⌊magnitude/g⌋

Error of the mean. |g·Σv − Σw·u| ≤ n·g/2, and |Σm/K − Σw| ≤ n/(2K); as every w ≥ 1, Σm/K ≥ n. Hence

    |mean' − Σw·u/Σw| ≤ g/2 + magnitude/(2K)

where the second term is 0 for uniform weights (max_weight = 1: each m = K). It is also 0 for whole-number weights, but
the plan cannot know them. float64 adds a relative 2^-52 or less in each of w·u, w·K and the division, counted as
B·2^-51 grid steps, B the bound of one contribution. g is the largest power of two (so scaling by it is exact) for
which the whole is at most `precision`. Rounding the result to a tensor's own dtype is not part of this bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.layout import Weights
from secureagg.wire import Reader, Writer

__all__ = ["SUM_BITS", "Grid"]

# SEAL's encoder and decoder are float64 FFTs: together 2^-49 of the largest slot measured, 2^-48 assumed
# (`tests/he/test_tenseal_parameters.py`). At 2^45 grid steps that is 1/8, half of what decryption tolerates.
SUM_BITS = 45
_MAX_CLIENTS = (1 << 32) - 1  # the width of a count on the wire
_SMALLEST, _LARGEST = 2.0**-200, 2.0**200  # keeps every product far inside float64's range


@dataclass(frozen=True)
class Grid:
    """A request, checked: `clients` values of at most `magnitude`, weighted by [1, max_weight], mean to `precision`.

    Raises: ParameterError quoting the inequality that fails.
    """

    clients: int
    magnitude: float
    precision: float
    max_weight: float

    def __post_init__(self) -> None:
        if not 1 <= self.clients <= _MAX_CLIENTS:
            raise ParameterError(f"1 ≤ clients ≤ 2^32 − 1 is required: clients={self.clients}")
        if not 1.0 <= self.max_weight <= _LARGEST:
            raise ParameterError(
                f"1 ≤ max_weight is required, weights lie in [1, max_weight]: max_weight={self.max_weight:g}"
            )
        if not _SMALLEST <= self.precision < self.magnitude <= _LARGEST:
            raise ParameterError(
                "2^-200 ≤ precision < magnitude ≤ 2^200 is required: "
                f"precision={self.precision:g}, magnitude={self.magnitude:g}"
            )
        if self.sum_bound > 1 << SUM_BITS:
            raise ParameterError(
                f"clients · max_weight · magnitude / step ≤ 2^{SUM_BITS} is required, the largest sum SEAL's float64 "
                f"transforms carry exactly: {self.clients} · {self.max_weight:g} · {self.magnitude:g} / "
                f"{self.step:.3g} = 2^{math.log2(self.sum_bound):.1f}; ask for a coarser precision, a smaller "
                "magnitude or max_weight, or fewer clients"
            )

    @cached_property
    def step(self) -> float:
        """g, a power of two."""
        step = math.ldexp(0.5, math.frexp(self.precision)[1])  # the largest power of two ≤ precision
        while _mean_error(self, step) > self.precision and _contribution_bound(self, step) <= 1 << SUM_BITS:
            step /= 2
        return step

    @cached_property
    def unit_weight(self) -> int:
        """K, what weight 1 is on the grid."""
        return _unit_weight(self, self.step)

    @cached_property
    def contribution_bound(self) -> int:
        """B, the largest |v| and |m| of one contribution, in grid steps."""
        return _contribution_bound(self, self.step)

    @cached_property
    def sum_bound(self) -> int:
        """R = n·B, the largest |Σv| and |Σm|, in grid steps."""
        return self.clients * self.contribution_bound

    @cached_property
    def mean_error(self) -> float:
        """The bound on the mean's error derived above; at most `precision`."""
        return _mean_error(self, self.step)

    def check_magnitude(self, weights: Weights) -> None:
        """Raise ParameterError with the tensor's index if a finite value exceeds the planned magnitude."""
        for index, tensor in enumerate(weights):
            if tensor.size and max(float(tensor.max()), -float(tensor.min())) > self.magnitude:
                raise ParameterError(
                    f"tensor {index} holds a value above the planned magnitude={self.magnitude:g}; "
                    "clip the update or plan for more"
                )

    def quantise_weight(self, weight: float) -> float:
        """Return m, a whole number of grid units. Raises: ParameterError unless 1 ≤ weight ≤ max_weight."""
        if not 1.0 <= weight <= self.max_weight:
            raise ParameterError(f"1 ≤ weight ≤ max_weight={self.max_weight:g} is required; the given one is outside")
        return float(np.rint(float(weight) * self.unit_weight))  # a numpy float32 would round to 24 bits here

    def quantise(self, coordinates: NDArray[np.float64], weight: float) -> NDArray[np.float64]:
        """Return v, whole numbers of at most B, in the memory of `coordinates`. Rounds halves to even.

        Requires: |coordinates| ≤ magnitude, 1 ≤ weight ≤ max_weight. (Multiplication and rounding are monotone in
        float64, so the extreme inputs bound all results, without a term for rounding.)
        """
        coordinates *= weight
        coordinates /= self.step
        return np.rint(coordinates, out=coordinates)

    def mean(self, value_sums: NDArray[np.float64], weight_sum: float) -> NDArray[np.float64]:
        """Return mean' from Σv and Σm. Correctly rounded where Σm is a multiple of K (whole-number weights)."""
        return value_sums * self.step / (weight_sum / self.unit_weight)

    def write(self, writer: Writer) -> None:
        """Append clients (4 bytes), magnitude, precision, max_weight (8 each)."""
        writer.integer(self.clients, 4).real(self.magnitude).real(self.precision).real(self.max_weight)

    @classmethod
    def read(cls, reader: Reader) -> Grid:
        """Read what `write` wrote. Raises: EncodingError if the request could not have been made."""
        try:
            return cls(reader.integer(4), reader.real(), reader.real(), reader.real())
        except ParameterError as error:
            raise reader.error(str(error)) from error


def _unit_weight(grid: Grid, step: float) -> int:
    return math.floor(grid.magnitude / step)


def _contribution_bound(grid: Grid, step: float) -> int:
    return int(np.rint(grid.max_weight * grid.magnitude / step))


def _mean_error(grid: Grid, step: float) -> float:
    of_weights = grid.magnitude / (2 * _unit_weight(grid, step)) if grid.max_weight > 1 else 0.0
    return step / 2 + of_weights + step * _contribution_bound(grid, step) * 2.0**-51
