"""The grid and the mean by their definitions in docs/protocol.md, in plain Python numbers, without any kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secureagg.layout import Weights
from secureagg.plan import RoundPlan

__all__ = ["mean_of", "quantised"]


def quantised(plan: RoundPlan, update: Weights, weight: int, rng: np.random.Generator) -> list[int]:
    """Return the grid integers of an update within the clip, by the definition in docs/protocol.md.

    Word i of 32 bits, little-endian, of AES-256-CTR under the generator's first 32 bytes rounds coordinate i: up if
    it is below the fraction.
    """
    limit, bound = 2 ** (plan.value_bits - 1) - 1, plan.l2_clip if plan.value_bound is None else plan.value_bound
    stream = Cipher(algorithms.AES(rng.bytes(32)), modes.CTR(bytes(16))).encryptor()
    share, grid = weight / plan.max_weight, []
    for value in (float(x) for tensor in update for x in tensor.ravel()):
        y = limit / bound * share * min(max(value, -bound), bound)
        y = min(max(y, -share * limit), share * limit)
        low = int(np.floor(y))
        grid.append(low + (int.from_bytes(stream.update(bytes(4)), "little") / 2**32 < y - low))
    return grid


def mean_of(plan: RoundPlan, sums: Sequence[int], total_weight: int) -> list[NDArray[np.floating[Any]]]:
    """Return max_weight · Σv / (scale · Σw) in the layout's shapes and dtypes."""
    limit, bound = 2 ** (plan.value_bits - 1) - 1, plan.l2_clip if plan.value_bound is None else plan.value_bound
    factor = plan.max_weight / (limit / bound * total_weight)
    means, start = [], 0
    for shape, dtype in zip(plan.layout.shapes, plan.layout.dtypes, strict=True):
        size = int(np.prod(shape, dtype=int))
        means.append(np.array([v * factor for v in sums[start : start + size]], dtype=dtype).reshape(shape))
        start += size
    return means
