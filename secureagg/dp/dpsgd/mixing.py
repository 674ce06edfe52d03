"""Keras's own layers that mix the examples of a batch: some always, some if an axis of theirs is the batch's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.errors import ParameterError

__all__ = ["has_axes", "refuse_batch_axis", "refuse_mixing"]

_L = keras.layers
_AUGMENTATIONS = (_L.MixUp, _L.CutMix)
_WHOLE_ATTENTION = (_L.Attention, _L.AdditiveAttention)  # over the axis before the last, which of two is the batch's
# The layers that compute along an axis that can be chosen, and the attribute that holds it.
_AXES = {
    _L.Softmax: "axis",
    _L.UnitNormalization: "axis",
    _L.LayerNormalization: "axis",
    _L.GroupNormalization: "axis",
    _L.RMSNormalization: "axis",
    _L.Concatenate: "axis",
    _L.Dot: "axes",
    _L.MultiHeadAttention: "_attention_axes",
}


def refuse_mixing(model: Any) -> None:
    """Raise ParameterError naming the layer, for one that is seen to mix examples before the model runs."""
    for layer in model._flatten_layers():
        if isinstance(layer, _L.BatchNormalization) and layer.trainable:
            raise ParameterError(
                f"layer {layer.name} (BatchNormalization) mixes the examples of a batch, so that no gradient is of one "
                "example; use GroupNormalization or LayerNormalization, or freeze it"
            )
        if isinstance(layer, _AUGMENTATIONS):
            raise ParameterError(
                f"layer {layer.name} ({type(layer).__name__}) mixes the examples of a batch; leave it out"
            )
        if has_axes(layer):
            for node in layer._inbound_nodes:
                refuse_batch_axis(layer, node.input_tensors)


def has_axes(layer: Any) -> bool:
    """Is it a layer that computes along an axis that can be chosen?"""
    return isinstance(layer, (*_AXES, *_WHOLE_ATTENTION))


def refuse_batch_axis(layer: Any, inputs: Any) -> None:
    """Raise ParameterError if an axis of the layer is that of the examples, for inputs of this rank.

    Requires: has_axes(layer).
    """
    rank = _rank(inputs)
    if isinstance(layer, _WHOLE_ATTENTION) and rank < 3:
        raise ParameterError(
            f"layer {layer.name} ({type(layer).__name__}) attends over the examples of a batch where its inputs have "
            f"{rank} axes; give it [batch, positions, values]"
        )
    if any(axis % rank == 0 for axis in _axes(layer)):
        raise ParameterError(
            f"layer {layer.name} ({type(layer).__name__}) computes along axis 0 of {rank}, which mixes the examples of "
            "a batch; choose another axis"
        )


def _rank(inputs: Any) -> int:
    """Return the rank of what a layer is given first: of a call's arguments by position, or else by these names."""
    if isinstance(inputs, tuple) and len(inputs) == 2 and isinstance(inputs[1], dict):
        args, kwargs = inputs
        inputs = args or next(kwargs[name] for name in ("inputs", "query", "x", "data") if name in kwargs)
    return len(tf.nest.flatten(inputs)[0].shape)


def _axes(layer: Any) -> Sequence[int]:
    names = {name for kind, name in _AXES.items() if isinstance(layer, kind)}
    found = [getattr(layer, name) for name in names]
    return [int(axis) for axis in tf.nest.flatten(found) if axis is not None]
