"""Per-example gradients the plain way, for DP-SGD's tests: one example, one tape; and small models in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from secureagg.dp.dpsgd import clipped_sums

__all__ = ["Grads", "check_sums", "explicit", "functional", "jacobian", "reference_sums"]

Grads = list[NDArray[np.float64]]
LOSS = "mean_squared_error"


def functional(shape: tuple[int | None, ...], build: Callable[[Any], Any], dtype: str = "float64") -> Any:
    """Return a model of float64 computation; inputs are float64 too."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(dtype)
    try:
        inputs = keras.Input(shape, dtype=dtype)
        return keras.Model(inputs, build(inputs))
    finally:
        keras.config.set_dtype_policy(before)


def explicit(model: Any, loss: Any, x: Any, y: Any) -> Grads:
    """Return [B, …] for each trainable variable: a forward and a backward pass for each example alone."""
    loss_fn = keras.losses.get(loss)
    variables = [variable.value for variable in model.trainable_variables]
    rows = []
    for index in range(len(y)):
        with tf.GradientTape() as tape:
            one = tf.nest.map_structure(lambda values, i=index: values[i : i + 1], x)
            value = tf.reduce_mean(loss_fn(y[index : index + 1], model(one, training=True)))
        gradients = tape.gradient(value, variables, unconnected_gradients="zero")
        rows.append([tf.convert_to_tensor(gradient).numpy() for gradient in gradients])
    return [np.stack(column).astype(np.float64) for column in zip(*rows, strict=True)]


def jacobian(model: Any, loss: Any, x: Any, y: Any) -> Grads:
    """Return the same from one forward pass of the batch, for models that draw random numbers."""
    loss_fn = keras.losses.get(loss)
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape(persistent=True) as tape:
        values = tf.unstack(tf.reshape(loss_fn(y, model(x, training=True)), (len(y), -1)))
        values = [tf.reduce_mean(value) for value in values]
    each = [tape.gradient(value, variables, unconnected_gradients="zero") for value in values]
    return [np.stack([tf.convert_to_tensor(g).numpy() for g in column]) for column in zip(*each, strict=True)]


def norms_of(gradients: Grads) -> NDArray[np.float64]:
    """Return ‖g_b‖ over all variables."""
    squares: NDArray[np.float64] = sum((g.reshape(len(g), -1) ** 2).sum(axis=1) for g in gradients)  # type: ignore[assignment]
    return np.sqrt(squares)


def reference_sums(gradients: Grads, l2_clip: float, mask: Sequence[float] | None = None) -> Grads:
    """Return Σ_b mask_b · g_b · min(1, l2_clip / ‖g_b‖)."""
    norms = norms_of(gradients)
    factors = np.minimum(1, l2_clip / np.maximum(norms, 1e-300)) * (1 if mask is None else np.asarray(mask))
    return [np.tensordot(factors, g, axes=1) for g in gradients]


def check_sums(
    model: Any,
    x: Any,
    y: Any,
    *,
    loss: Any = LOSS,
    tolerance: float = 1e-6,
    by: Callable[..., Grads] = explicit,
    before: Callable[[], None] = lambda: None,
) -> None:
    """Assert that norms, and each example's clipped gradient, agree with the reference, clipped and not.

    Each example is singled out by the mask, so that errors cannot cancel; relative to the example's gradient norm.
    """
    before()
    gradients = by(model, loss, x, y)
    norms = norms_of(gradients)
    positive = norms[norms > 0]
    assert len(positive), "the test's gradients are all zero"
    for l2_clip in (0.5 * float(np.median(positive)), 10 * float(norms.max())):
        for single in [*np.eye(len(y)), np.ones(len(y))]:
            before()
            found = clipped_sums(model, loss, x, y, tf.constant(single), l2_clip=l2_clip)
            np.testing.assert_allclose(found.norms, norms, rtol=tolerance, atol=tolerance * norms.max() * 1e-3)
            wanted = reference_sums(gradients, l2_clip, single)
            size = np.sqrt(sum((one**2).sum() for one in wanted))
            off = np.sqrt(sum(((np.asarray(a) - b) ** 2).sum() for a, b in zip(found.sums, wanted, strict=True)))
            assert off <= tolerance * max(size, 1e-300), (off, size)
            assert int(found.nonfinite) == 0
