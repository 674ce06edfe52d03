"""The loss of each example, from whatever `compile` takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import Tensor
from secureagg.errors import ParameterError

__all__ = ["per_example_loss"]

_MEANS = ("sum_over_batch_size", "mean", "mean_with_sample_weight", "none", None)


def per_example_loss(loss: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function (y, prediction) → [B]: the loss, meaned over all but the first axis.

    Requires: one loss, a name, a `keras.losses.Loss` or a function. With positions masked by the model, an example's
    mean is over all its positions, where Keras's is over the unmasked ones of the batch.
    Raises: ParameterError for several losses, and for reduction="sum": the sum is divided by the expected batch.
    """
    if isinstance(loss, list | tuple | dict) or loss is None:
        raise ParameterError("DP-SGD takes one loss for one output")
    found = keras.losses.get(loss)
    if isinstance(found, keras.losses.Loss):
        if found.reduction not in _MEANS:
            raise ParameterError(
                f"reduction={found.reduction!r}: the gradient is a sum divided by the expected batch; use "
                "'sum_over_batch_size'"
            )
        found = copy.copy(found)
        found.reduction = None

    def of_each(y: Tensor, prediction: Tensor) -> Tensor:
        values = tf.convert_to_tensor(found(y, prediction))
        if values.shape.rank == 0:
            raise ParameterError("the loss must return a value for each example, not one for the batch")
        values = tf.cast(values, prediction.dtype)
        return values if values.shape.rank == 1 else tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))

    return of_each
