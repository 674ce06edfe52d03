"""Randomised Hadamard rotation, which spreads an update evenly so that a grid of few bits suffices.

R = H·D: random signs D, then the Walsh–Hadamard matrix H with entries ±1/√L (Ailon and Chazelle, SIAM J. Comput. 2009;
for quantising, Suresh et al., ICML 2017). H needs a power of two. Instead of padding to one, or cutting into blocks of
which the smallest would spread little, R is applied to the first L coordinates and then, with fresh signs, to the last
L, where L is the largest power of two ≤ size. So there is no padding at all, and since L > size/2 every coordinate of
the input meets a full block.

| coordinates x | rotated, z |
|---|---|
| chosen without knowing the seed | P(max_i |z_i| > ‖x‖·√(2·ln(2·size/β)/L)) ≤ β |
| chosen knowing the seed, which is public | ‖z‖ = ‖x‖, no more |
| NaN, an infinity, or beyond the largest float/√L | spreads over whole blocks; check before |

The bound: z_i is a sum Σ ±y_j/√L with independent signs, over part of a vector y that those signs do not touch and
whose norm is ‖x‖, so P(|z_i| > t·‖x‖/√L) ≤ 2e^(−t²/2) (Hoeffding).
"""

from __future__ import annotations

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import as_whole
from secureagg.errors import ParameterError
from secureagg.ring import workers
from secureagg.ring.xof import PublicExpansion

__all__ = ["Rotation", "clip_in_steps", "rotated_bound"]

_Float = TypeVar("_Float", np.float32, np.float64)

_LABEL = "rotation"
_MAX_SIZE = 1 << 40
_ROW = 1 << 13  # coordinates transformed in one go: 64 kB
_STRIP = 1 << 7  # columns of such rows a thread transforms in one go
_FLIPPED = 1 << 16  # coordinates a thread gives their signs in one go; a multiple of 64
_BEYOND_BITS = 20  # a coordinate is beyond `rotated_bound`, and would be clamped, in one vector in 2^20 at most


def rotated_bound(size: int) -> float:
    """Return what no coordinate of a rotated vector of norm 1 exceeds but with probability 2^-20: √(2·ln(2·size/β)/L).

    1 if that is less. Requires: the vector was chosen without knowing the seed.
    """
    block = 1 << (as_whole("size", size, 1, _MAX_SIZE).bit_length() - 1)
    return min(1.0, math.sqrt(2 * (math.log(2 * size) + _BEYOND_BITS * math.log(2)) / block))


def clip_in_steps(value_limit: int, size: int, *, rotate: bool) -> float:
    """Return C_g, the L2 clip in steps of a grid whose end, ±value_limit, is the clip, or `rotated_bound` of it."""
    return value_limit / rotated_bound(size) if rotate else float(value_limit)


class Rotation:
    """An orthogonal map of R^size that (size, seed) determine; `seed` is public, such as a session's id.

    block: L, the largest power of two ≤ size. Sign i of the first pass is minus if bit i mod 64 of word ⌊i/64⌋ of
    `PublicExpansion(seed, "rotation")` is set; the second pass, left out if L = size, continues at the next even word.
    """

    __slots__ = ("_signs", "block", "size")

    def __init__(self, size: int, seed: bytes) -> None:
        """Raises: ParameterError unless size ≥ 1."""
        self.size = as_whole("size", size, 1, _MAX_SIZE)
        self.block = 1 << (self.size.bit_length() - 1)
        words = -(-self.block // 128) * 2
        passes = 1 if self.block == self.size else 2
        signs = np.empty((passes, words), dtype=np.uint64)
        PublicExpansion(seed, _LABEL).fill(0, signs)
        signs.flags.writeable = False
        self._signs = signs

    def apply(self, vector: NDArray[_Float]) -> NDArray[_Float]:
        """Return the rotated vector, of the same norm, size and type.

        vector: float32 or float64[size]. Guarantees: linear; norms and inner products kept, up to rounding (relative
        10^-14 in float64, 10^-6 in float32, at size 10^6). Raises: ParameterError for another size or type.
        """
        out = self._copy(vector)
        for part, signs in zip(self._parts(out), self._signs, strict=False):
            _flip(part, signs)
            _transform(part)
        return out

    def undo(self, vector: NDArray[_Float]) -> NDArray[_Float]:
        """Return the vector whose rotation this is, up to rounding; the rest as `apply`."""
        out = self._copy(vector)
        for part, signs in reversed(list(zip(self._parts(out), self._signs, strict=False))):
            _transform(part)
            _flip(part, signs)
        return out

    def _copy(self, vector: NDArray[_Float]) -> NDArray[_Float]:
        if vector.shape != (self.size,) or vector.dtype not in (np.float32, np.float64):
            raise ParameterError(f"{vector.dtype}{list(vector.shape)} given, float32 or float64[{self.size}] needed")
        return np.array(vector, order="C")

    def _parts(self, out: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]:
        return out[: self.block], out[self.size - self.block :]


def _flip(values: NDArray[_Float], signs: NDArray[np.uint64]) -> None:
    """Multiply by the signs and by 1/√L, in place."""
    from secureagg.dp import rotation_kernels

    kernel = rotation_kernels.flip_64 if values.dtype == np.float64 else rotation_kernels.flip_32
    scale = values.dtype.type(1 / math.sqrt(values.size))

    def flip(start: int, stop: int) -> None:
        kernel(values[start:stop], signs[start // 64 :], scale, values[start:stop])

    workers.run(flip, values.size, _FLIPPED)


def _transform(values: NDArray[_Float]) -> None:
    """Multiply by the Walsh–Hadamard matrix, in place: rows of a matrix first, then its columns."""
    from secureagg.dp import rotation_kernels

    double = values.dtype == np.float64
    along = rotation_kernels.transform_rows_64 if double else rotation_kernels.transform_rows_32
    across = rotation_kernels.transform_columns_64 if double else rotation_kernels.transform_columns_32
    rows = values.reshape(-1, min(values.size, _ROW))
    workers.run(lambda start, stop: along(rows[start:stop]), rows.shape[0], 4)
    if rows.shape[0] > 1:
        workers.run(lambda start, stop: across(rows, np.uint64(start), np.uint64(stop)), rows.shape[1], _STRIP)
