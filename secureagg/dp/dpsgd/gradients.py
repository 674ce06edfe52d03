"""Clipped and noised gradients of one batch: one forward pass, one backward pass, and the units' sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import Contribution, Tensor, rounding_unit
from secureagg.dp.dpsgd.general import keep_seeds
from secureagg.dp.dpsgd.losses import per_example_loss
from secureagg.dp.dpsgd.noise import GaussianNoise, require_clip
from secureagg.dp.dpsgd.units import Unit, tapped, units_of
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

__all__ = ["ClippedSums", "PrivateGradients", "clipped_sums", "noised_mean", "private_gradients"]


class ClippedSums(NamedTuple):
    """Not private. `sums` in the order of `model.trainable_variables`; `norms`: of each example, before clipping."""

    sums: list[Tensor]
    norms: Tensor
    losses: Tensor
    predictions: Tensor
    nonfinite: Tensor


class PrivateGradients(NamedTuple):
    """`gradients` are private, in the order of `model.trainable_variables`. The rest is not: never release it."""

    gradients: list[Tensor]
    losses: Tensor
    predictions: Tensor
    nonfinite: Tensor


def private_gradients(
    model: Any,
    loss: Any,
    x: Any,
    y: Any,
    mask: Any = None,
    *,
    l2_clip: float,
    noise_multiplier: float,
    expected_batch: float,
    stream: SecretStream | None = None,
) -> PrivateGradients:
    """Return (Σ clipped gradients + noise) / expected_batch for one batch, in eager mode or inside a tf.function.

    `mask`: [B], 1 or true for examples, 0 or false for padding, which contributes nothing. The noise is drawn anew by
    every execution, also of a compiled function. Gradients of the variables' own regularizers are added, without
    noise: they do not depend on the examples.
    Raises: ParameterError as `make_private` does.
    """
    noise = GaussianNoise(l2_clip, noise_multiplier, _dimension(model), stream)
    if not expected_batch >= 1:
        raise ParameterError(f"expected_batch={expected_batch}: must be ≥ 1")
    found = clipped_sums(model, loss, x, y, mask, l2_clip=l2_clip, unit=noise.grid_step)
    gradients = noised_mean(model, found.sums, noise, expected_batch)
    return PrivateGradients(gradients, found.losses, found.predictions, found.nonfinite)


def clipped_sums(
    model: Any, loss: Any, x: Any, y: Any, mask: Any = None, *, l2_clip: float, unit: float = 1.0
) -> ClippedSums:
    """Return Σ_b g_b · min(1, l2_clip / ‖g_b‖) / unit over the examples, g_b by all trainable variables together.

    `unit` is a power of two, so that dividing by it is exact.

    | example | contributes |
    |---|---|
    | ‖g‖ ≤ l2_clip, also 0 | g |
    | ‖g‖ > l2_clip | g scaled to l2_clip, less 8 units of rounding, or what `_gram` adds |
    | ‖g‖² is NaN or infinite in the model's dtype | zero, and is counted in `nonfinite` |
    | masked | zero, whatever it holds, and is not counted |
    """
    require_clip(l2_clip)
    units = units_of(model)
    losses, predictions, contributions = _backward(model, units, per_example_loss(loss), x, y)
    dtype = losses.dtype
    squared = tf.add_n([one.squared_norms for one in contributions])
    norms = tf.sqrt(squared)
    present = tf.ones_like(squared, tf.bool) if mask is None else tf.cast(mask, tf.bool)
    finite = tf.math.is_finite(squared)
    limit = tf.constant(l2_clip * (1 - 8 * rounding_unit(dtype)), dtype)
    weights = tf.where(present & finite, limit / unit / tf.maximum(norms, limit), tf.zeros_like(norms))

    def without_nonfinite() -> list[Tensor]:
        def clean(rows: Tensor) -> Tensor:
            shape = [-1] + [1] * (rows.shape.rank - 1)
            return tf.where(tf.reshape(finite, shape), rows, tf.zeros_like(rows))

        return _sums(contributions, weights, clean)

    summed = tf.cond(tf.reduce_all(finite), lambda: _sums(contributions, weights, lambda rows: rows), without_nonfinite)
    by_variable = dict(zip((id(v) for one in contributions for v in one.variables), summed, strict=True))
    sums = [by_variable[id(v)] if id(v) in by_variable else tf.zeros(v.shape, dtype) for v in model.trainable_variables]
    nonfinite = tf.math.count_nonzero(present & ~finite)
    return ClippedSums(sums, norms, losses, predictions, nonfinite)


def noised_mean(model: Any, sums: list[Tensor], noise: GaussianNoise, expected_batch: float) -> list[Tensor]:
    """Return (round(sums) + noise)·grid_step / expected_batch, plus the gradients of the regularizers.

    Requires: sums in units of `noise.grid_step`.
    """
    if _dimension(model) != noise.dimension:
        raise ParameterError(
            f"{model.name} has {_dimension(model)} trainable weights, had {noise.dimension}; make it private anew"
        )
    scale = noise.grid_step / expected_batch
    if noise.std:
        drawn = tf.numpy_function(noise.take, [], tf.float32, stateful=True)
        drawn.set_shape([noise.dimension])
        pieces = tf.split(drawn, [one.shape.num_elements() for one in sums])
        sums = [
            tf.round(one) + tf.cast(tf.reshape(piece, one.shape), one.dtype)
            for one, piece in zip(sums, pieces, strict=True)
        ]
    means = [one * tf.constant(scale, one.dtype) for one in sums]
    return [
        mean if variable.regularizer is None else mean + _regularizer_gradient(variable)
        for mean, variable in zip(means, model.trainable_variables, strict=True)
    ]


def _dimension(model: Any) -> int:
    return sum(variable.shape.num_elements() for variable in model.trainable_variables)


def _regularizer_gradient(variable: Any) -> Tensor:
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variable.value)
        penalty = variable.regularizer(variable)
    return tape.gradient(penalty, variable.value)


def _sums(contributions: list[Contribution], weights: Tensor, clean: Callable[[Tensor], Tensor]) -> list[Tensor]:
    return [one for part in contributions for one in part.weighted_sums(weights, clean)]


def _backward(
    model: Any, units: list[Unit], loss: Callable[[Tensor, Tensor], Tensor], x: Any, y: Any
) -> tuple[Tensor, Tensor, list[Contribution]]:
    """Return losses [B], predictions, and the contributions of all units that were called."""
    variables = [variable.value for variable in model.trainable_variables]
    scope = keras.StatelessScope(collect_losses=True, initialize_variables=False)
    # Nothing but the units' outputs is differentiated, so the backward pass forms no gradient of a weight.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(variables)
        with tapped(model, units, tape), scope:
            predictions = model(x, training=True)
        if len(model.trainable_variables) != len(variables):
            raise ParameterError(f"{model.name} made variables while it ran; call it once before")
        if not tf.is_tensor(predictions):
            raise ParameterError(f"{model.name} returns {type(predictions).__name__}; DP-SGD takes one output")
        losses = loss(y, predictions)
        total = tf.reduce_sum(losses)
    keep_seeds(model, scope)
    outputs = [unit.outputs for unit in units]
    gradients = tape.gradient(total, [outputs, variables])
    for variable, gradient in zip(model.trainable_variables, gradients[1], strict=True):
        if gradient is not None:
            raise ParameterError(f"{variable.path} is also used outside its layer's call; DP-SGD cannot see how")
    contributions: list[Contribution] = []
    for unit, its_outputs, its_gradients in zip(units, outputs, gradients[0], strict=True):
        if its_outputs:
            filled = [
                tf.zeros_like(output) if gradient is None else tf.convert_to_tensor(gradient)
                for output, gradient in zip(its_outputs, its_gradients, strict=True)
            ]
            contributions += unit.contributions(filled)
    if not contributions:
        raise ParameterError(f"{model.name}: no layer with trainable weights was called")
    return losses, predictions, contributions
