"""The clients' updates, their exact mean, and how far another mean is from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["L2_CLIP", "Updates", "errors", "shapes"]

SEED = 20_261_128
L2_CLIP = 1.0
NORM = 0.9  # of the longest update: nothing is clipped, so that every way sums the same
FACTORS = (1.0, -0.5, 0.5, 0.25)  # of client i: the one at i mod 4; powers of two, so that float32 holds them exactly
LARGEST_TENSOR = 10**6


def shapes(values: int) -> list[int]:
    """Return the sizes of the tensors: of 10^6 values at most, as layers are."""
    starts = range(0, values, LARGEST_TENSOR)
    return [min(LARGEST_TENSOR, values - start) for start in starts]


class Updates:
    """Client i's update: one normal vector of norm 0.9 for all, times a factor.

    So the exact mean needs no sum, and many clients no memory. No way's cost depends on it, and rounding and noise are
    drawn for each client anew.
    """

    def __init__(self, values: int) -> None:
        drawn = np.random.default_rng(SEED).standard_normal(values, dtype=np.float32)
        self._base = drawn * np.float32(NORM / np.linalg.norm(drawn))

    def of(self, client: int) -> list[NDArray[np.float32]]:
        """Return a client's tensors."""
        scaled = self._base * np.float32(FACTORS[client % len(FACTORS)])
        return np.split(scaled, range(LARGEST_TENSOR, scaled.size, LARGEST_TENSOR))

    def mean(self, clients: int) -> NDArray[np.float64]:
        """Return float64[values], the exact mean of the first `clients`."""
        factors = [FACTORS[client % len(FACTORS)] for client in range(clients)]
        return self._base.astype(np.float64) * np.mean(factors)


def errors(mean: Sequence[NDArray[np.floating[Any]]], values: int, clients: int) -> dict[str, float]:
    """Return the largest and the root mean square error of a mean's tensors, and the exact mean's root mean square."""
    exact = Updates(values).mean(clients)
    difference = np.concatenate([tensor.ravel() for tensor in mean]).astype(np.float64) - exact
    return {
        "max_error": float(np.abs(difference).max()),
        "rms_error": float(np.sqrt(np.mean(np.square(difference)))),
        "rms_mean": float(np.sqrt(np.mean(np.square(exact)))),
    }
