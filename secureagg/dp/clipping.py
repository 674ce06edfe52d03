"""L2 clipping of an update, as a whole or each of its tensors to a bound of its own.

| update | result |
|---|---|
| norm ≤ l2_clip (to within 1e-12 of it), also zero or empty | factor 1.0, unchanged |
| norm > l2_clip | factor l2_clip / norm, rounded down so that the clipped norm is never above the bound |
| a value whose square overflows | still clipped: the norm is taken of the update scaled by its largest value |
| NaN, ±inf | refused with the tensor's index |

`contribute` clips as a whole. What is clipped here before, within the plan's l2_clip, passes it unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between
from secureagg.errors import ParameterError
from secureagg.layout import Layout, Weights
from secureagg.ring import workers

__all__ = ["clip_factor", "clip_layers", "clip_update", "l2_norm", "overall_clip", "per_layer_factors", "shared_clip"]

_BLOCK = 1 << 17  # coordinates a thread looks at in one go; fixed, so that the sum does not depend on their number
_SLACK = 1e-12  # relative error of a norm, many times over: squares are summed in pairs, to within 40·2^-53
_LARGEST = 1e150


def l2_norm(layout: Layout, update: Weights) -> tuple[float, float]:
    """Return (m, r) with ‖update‖₂ = m·r: m = 1 unless a square could overflow or vanish, then the largest |value|.

    Requires: `layout.check_shapes(update)` passed. Memory: a block of 2^17 coordinates a thread.
    Raises: ParameterError with the tensor's index for NaN or an infinity.
    """
    squares = _sum_of_squares(layout, update, 1.0)
    if 1e-200 < squares < 1e300:
        return 1.0, math.sqrt(squares)
    layout.check_finite(update)
    largest = max(float(np.abs(_block(layout, update, start)).max()) for start in range(0, layout.size, _BLOCK))
    return (largest, math.sqrt(_sum_of_squares(layout, update, largest))) if largest else (1.0, 0.0)


def clip_factor(layout: Layout, update: Weights, l2_clip: float) -> float:
    """Return the factor in (0, 1] that brings the update's L2 norm to at most `l2_clip`.

    Raises: as `l2_norm`; ParameterError if the update is so large that no float64 factor does.
    """
    unit, relative = l2_norm(layout, update)
    if relative == 0 or unit * relative <= l2_clip:
        return 1.0
    factor = l2_clip / unit / relative * (1 - _SLACK)
    if factor < 1e-290:
        raise ParameterError("the update is too large to be clipped in float64; check the training that made it")
    return factor


def clip_update(layout: Layout, update: Weights, l2_clip: float) -> tuple[list[NDArray[np.floating[Any]]], float]:
    """Return (the clipped update in the layout's dtypes, its factor); tensors that stay as they are are not copied.

    Guarantees: ‖clipped‖₂ ≤ l2_clip, to within 1e-12 of it if the factor is 1. Values are rounded to their dtype
    towards zero: to nearest, a float16 update could grow by one part in 2^11.
    Raises: ParameterError as `Layout.check` and `clip_factor`.
    """
    layout.check(update)
    factor = clip_factor(layout, update, l2_clip)
    return [_shrink(tensor, factor) for tensor in update], factor


def clip_layers(
    layout: Layout, update: Weights, l2_clips: Sequence[float]
) -> tuple[list[NDArray[np.floating[Any]]], tuple[float, ...]]:
    """Return (the update with each tensor clipped to its bound, their factors), as `clip_update` does for a whole one.

    Guarantees: ‖tensor k‖₂ ≤ l2_clips[k], as in `clip_update`; so the whole is within `overall_clip(l2_clips)`, which
    is the l2_clip for the plan, or within C if the bounds are `shared_clip(layout, C)`.
    Raises: as `per_layer_factors`.
    """
    factors = per_layer_factors(layout, update, l2_clips)
    return [_shrink(tensor, factor) for tensor, factor in zip(update, factors, strict=True)], factors


def per_layer_factors(layout: Layout, update: Weights, l2_clips: Sequence[float]) -> tuple[float, ...]:
    """Return, per tensor, the factor in (0, 1] that brings its L2 norm to at most its bound; 1.0 for an empty one.

    Raises: ParameterError with the tensor's index for a bound outside [1e-150, 1e150] (an empty tensor's may be 0), for
    an update that does not fit the layout or is not finite, or for a tensor too large to be clipped.
    """
    _check_clips(layout, l2_clips)
    layout.check(update)
    factors = [1.0] * len(update)
    for index, alone in _tensors(layout):
        try:
            factors[index] = clip_factor(alone, [update[index]], l2_clips[index])
        except ParameterError as error:
            raise ParameterError(f"tensor {index}: {error}") from error
    return tuple(factors)


def shared_clip(layout: Layout, l2_clip: float) -> tuple[float, ...]:
    """Return one bound per tensor, proportional to the root of its size: C_k ≤ C·√(d_k/d), so Σ C_k² ≤ C².

    So a coordinate may be as large in one tensor as in another. The bounds are 3·10^-12 below C·√(d_k/d), so that what
    is clipped to them is within C even as `clip_factor` computes it.
    """
    require_between("l2_clip", l2_clip, 1 / _LARGEST, _LARGEST)
    sizes = [math.prod(shape) for shape in layout.shapes]
    return tuple(l2_clip * (1 - 3 * _SLACK) * math.sqrt(size / layout.size) for size in sizes)


def overall_clip(l2_clips: Sequence[float]) -> float:
    """Return √Σ C_k², rounded up by 3·10^-12 of it: the least l2_clip of a plan that never clips them again."""
    for index, clip in enumerate(l2_clips):
        require_between(f"l2_clips[{index}]", clip, 0, _LARGEST)
    largest = max(l2_clips, default=0.0)
    if not largest:
        raise ParameterError("l2_clips holds no number above 0; a plan's l2_clip must be one")
    return largest * math.sqrt(math.fsum((clip / largest) ** 2 for clip in l2_clips)) * (1 + 3 * _SLACK)


def _check_clips(layout: Layout, l2_clips: Sequence[float]) -> None:
    if len(l2_clips) != len(layout.shapes):
        raise ParameterError(f"{len(l2_clips)} l2_clips for {len(layout.shapes)} tensors; give one each")
    for index, (clip, shape) in enumerate(zip(l2_clips, layout.shapes, strict=True)):
        require_between(f"l2_clips[{index}]", clip, 1 / _LARGEST if math.prod(shape) else 0, _LARGEST)


def _tensors(layout: Layout) -> Iterator[tuple[int, Layout]]:
    """Yield the index and the layout of each tensor that holds a coordinate."""
    for index, (shape, dtype) in enumerate(zip(layout.shapes, layout.dtypes, strict=True)):
        if math.prod(shape):
            yield index, Layout((shape,), (dtype,))


def _shrink(tensor: NDArray[np.floating[Any]], factor: float) -> NDArray[np.floating[Any]]:
    """Return factor·tensor in the tensor's dtype, rounded towards zero (float64: to nearest, which `_SLACK` covers)."""
    if factor >= 1:
        return tensor
    exact = np.multiply(tensor, factor, dtype=np.float64)
    rounded = exact.astype(tensor.dtype.newbyteorder("="))
    grown = np.abs(rounded) > np.abs(exact)
    return np.asarray(np.where(grown, np.nextafter(rounded, np.zeros_like(rounded)), rounded))


def _sum_of_squares(layout: Layout, update: Weights, unit: float) -> float:
    sums = [0.0] * -(-layout.size // _BLOCK)

    def add(first: int, last: int) -> None:
        for index in range(first, last):
            block = _block(layout, update, index * _BLOCK)
            if unit != 1.0:
                block /= unit
            with np.errstate(over="ignore", invalid="ignore"):
                sums[index] = float(np.square(block, out=block).sum())  # in pairs, unlike einsum or dot

    workers.run(add, len(sums))
    return math.fsum(sums) if all(map(math.isfinite, sums)) else math.inf


def _block(layout: Layout, update: Weights, start: int) -> NDArray[np.float64]:
    return layout.gather(update, start, min(layout.size, start + _BLOCK))
