"""A model's arrays and the private metrics as the tensors of one sum, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.adapters.flower.terms import Terms, metric_unit, update_clip
from secureagg.dp.clipping import clip_factor
from secureagg.errors import ParameterError, UnattributedFault
from secureagg.layout import Layout, Weights
from secureagg.plan import RoundPlan

__all__ = ["applied", "extended", "layout_of", "means_in", "update_of", "vector_of"]

Tensors = list[NDArray[np.floating[Any]]]


def layout_of(names: Sequence[str], model: Weights) -> Layout:
    """Return the layout of a model's arrays. Raises: ParameterError naming an array that cannot be averaged."""
    for name, tensor in zip(names, model, strict=True):
        if tensor.dtype not in (np.float16, np.float32, np.float64):
            raise ParameterError(
                f"array {name!r} is {tensor.dtype}; only floating-point arrays can be summed privately, "
                "so leave it out of what is trained"
            )
    return Layout.of(model)


def extended(terms: Terms, model: Weights) -> Tensors:
    """Return the tensors a session is bound to: the model's, and zeros for the metrics."""
    return [*model, np.zeros(len(terms.metrics))] if terms.metrics else list(model)


def update_of(names: Sequence[str], received: Weights, returned: Weights) -> Tensors:
    """Return returned − received, array by array, in the dtypes of what was received.

    Another floating-point dtype than was sent is what strategies such as FedAdam lead to: they compute, and send, in
    float64 whatever the app trains in. Raises: ParameterError naming an array that does not match.
    """
    update = []
    for name, old, new in zip(names, received, returned, strict=True):
        if old.shape != new.shape or not np.issubdtype(new.dtype, np.floating):
            raise ParameterError(
                f"array {name!r} came back as {new.dtype}{list(new.shape)}, expected {old.dtype}{list(old.shape)}"
            )
        if not np.isfinite(new).all():
            raise ParameterError(f"array {name!r} holds NaN or an infinity; nothing was sent")
        with np.errstate(over="ignore"):  # an infinity is refused when it is contributed
            update.append(np.asarray(new - old).astype(old.dtype, copy=False))
    return update


def vector_of(terms: Terms, plan: RoundPlan, update: Tensors, metrics: Mapping[str, object]) -> Tensors:
    """Return what is contributed: the update, and behind it the metrics, clamped and scaled to the grid.

    With metrics the update is clipped here: clipping all of it together would scale the metrics. The update's arrays
    may be written to. Raises: ParameterError naming a metric that is missing or no finite number.
    """
    if not terms.metrics:
        return update
    layout = Layout.of(update)
    factor = clip_factor(layout.joined, layout.join(update), update_clip(plan, len(terms.metrics)))
    if factor < 1:
        for tensor in update:
            tensor *= factor
    scaled = [_metric(name, metrics.get(name)) / bound for name, bound in terms.metrics.items()]
    return [*update, np.clip(scaled, -1, 1) * metric_unit(plan, len(terms.metrics))]


def means_in(terms: Terms, plan: RoundPlan, mean: Tensors) -> tuple[Tensors, dict[str, float]]:
    """Return the mean update and the weighted mean of each metric."""
    if not terms.metrics:
        return mean, {}
    unit = metric_unit(plan, len(terms.metrics))
    means = {name: float(at) / unit * bound for at, (name, bound) in zip(mean[-1], terms.metrics.items(), strict=True)}
    return mean[:-1], means


def applied(model: Weights, mean: Iterable[NDArray[np.floating[Any]]]) -> Tensors:
    """Return model + mean, added in float64 and rounded once to each tensor's dtype.

    Raises: UnattributedFault if a sum is beyond its tensor's dtype; it would be an infinity there.
    """
    moved: Tensors = []
    for index, (old, step) in enumerate(zip(model, mean, strict=True)):
        with np.errstate(over="ignore"):
            new = np.asarray(old.astype(np.float64) + step.astype(np.float64)).astype(old.dtype)
        if not np.isfinite(new).all():
            raise UnattributedFault(f"the model with the mean in it is beyond {old.dtype} in tensor {index}")
        moved.append(new)
    return moved


def _metric(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ParameterError(f"the app reported no finite number as metric {name!r}; the terms ask for it")
    return float(value)
