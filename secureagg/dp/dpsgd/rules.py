"""Per layer type: from what went in and the gradient of what came out, to norms and weighted sums.

A rule takes one (input, output gradient) pair per call of the layer, so a layer called twice has both calls' positions
side by side, and its norm has the cross terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import (
    Clean,
    Contribution,
    Tensor,
    matrix_products,
    per_example,
    sum_of_squares,
)
from secureagg.dp.dpsgd.patches import Windows
from secureagg.errors import ParameterError

__all__ = ["Pair", "rule_for"]

Pair = tuple[Tensor, Tensor]
Rule = Callable[[Any, Sequence[Pair]], list[Contribution]]


@dataclass(frozen=True)
class _Matrices:
    """A and G of one call, and how [h, p, q] becomes the kernel."""

    a: Tensor
    g: Tensor
    to_kernel: Callable[[Tensor], Tensor]


def rule_for(layer: Any) -> Rule | None:
    """Return the fast rule for this very layer, None if there is none. Subclasses may compute anything: none."""
    for types, rule, applies in _RULES:
        if type(layer) in types and applies(layer):
            known = {id(variable) for name in _VARIABLES if (variable := getattr(layer, name, None)) is not None}
            if all(id(variable) in known for variable in layer.trainable_variables):
                return rule
    return None


_VARIABLES = ("_kernel", "kernel", "bias", "embeddings", "_embeddings", "gamma", "beta", "scale")


def _linear(
    matrices: Callable[[Any, Tensor, Tensor], _Matrices], bias_axes: Callable[[Any, Tensor], Sequence[int]]
) -> Rule:
    def rule(layer: Any, pairs: Sequence[Pair]) -> list[Contribution]:
        found = []
        if layer.kernel.trainable:
            each = [matrices(layer, x, g) for x, g in pairs]
            a, g = (_joined([getattr(one, name) for one in each]) for name in ("a", "g"))
            found.append(matrix_products(layer.kernel, a, g, each[0].to_kernel))
        if layer.bias is not None and layer.bias.trainable:
            found.append(_summed(layer.bias, [(g, bias_axes(layer, g)) for _, g in pairs]))
        return found

    return rule


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else tf.concat(tensors, axis=2)


def _summed(variable: Any, terms: Sequence[tuple[Tensor, Sequence[int]]]) -> Contribution:
    """A variable whose per-example gradient is a sum over the axes given, and over the calls."""
    sums = [tf.reduce_sum(values, axis=list(axes)) if axes else values for values, axes in terms]
    shape = (-1, *variable.shape)
    return per_example(variable, tf.add_n([tf.reshape(one, shape) for one in sums]))


def _all_but_last(layer: Any, g: Tensor) -> Sequence[int]:
    return range(1, len(g.shape) - 1)


def _dense(layer: Any, x: Tensor, g: Tensor) -> _Matrices:
    positions = -1 if None in x.shape[1:-1] else math.prod(x.shape[1:-1])
    p, q = layer.kernel.shape
    shape = (tf.shape(x)[0], 1, positions)
    return _Matrices(tf.reshape(x, (*shape, p)), tf.reshape(g, (*shape, q)), lambda sums: sums[0])


def _convolution(layer: Any, x: Tensor, g: Tensor) -> _Matrices:
    """Groups are those of the layer, or for depthwise convolutions one for each channel."""
    if None in x.shape[1:]:
        raise ParameterError(f"layer {layer.name}: input {x.shape} must have static sizes; build the model with them")
    channels = x.shape[-1]
    depthwise = hasattr(layer, "depth_multiplier")
    groups = channels if depthwise else layer.groups
    per_group = channels // groups
    windows = Windows(
        tuple(x.shape[1:-1]), tuple(layer.kernel_size), tuple(layer.strides), tuple(layer.dilation_rate), layer.padding
    )
    batch, positions, offsets = tf.shape(x)[0], math.prod(windows.outputs), math.prod(windows.kernel)
    seen = windows.extract(x)
    q = g.shape[-1] // groups
    if groups == 1:
        a = tf.reshape(seen, (batch, 1, positions, offsets * channels))
        g = tf.reshape(g, (batch, 1, positions, q))
    else:
        grouped = tf.reshape(seen, (batch, positions, offsets, groups, per_group))
        a = tf.reshape(tf.transpose(grouped, (0, 3, 1, 2, 4)), (batch, groups, positions, offsets * per_group))
        g = tf.transpose(tf.reshape(g, (batch, positions, groups, q)), (0, 2, 1, 3))

    def to_kernel(sums: Tensor) -> Tensor:
        split = tf.reshape(sums, (groups, offsets, per_group, q))
        return tf.reshape(tf.transpose(split, (1, 2, 0, 3)), layer.kernel.shape)

    return _Matrices(a, g, to_kernel)


def _embedding(layer: Any, pairs: Sequence[Pair]) -> list[Contribution]:
    """Rows that occur several times in an example are added up before the norm is taken."""
    table = layer.embeddings
    rows, width = table.shape
    ids = tf.concat([tf.reshape(tf.cast(x, tf.int64), (tf.shape(x)[0], -1)) for x, _ in pairs], axis=1)
    ids = tf.where(ids < 0, ids + rows, ids)
    g = tf.concat([tf.reshape(g, (tf.shape(g)[0], -1, width)) for _, g in pairs], axis=1)
    batch = tf.shape(ids, out_type=tf.int64)[0]
    keys, places = tf.unique(tf.reshape(ids + rows * tf.range(batch)[:, None], [-1]))
    sums = tf.math.unsorted_segment_sum(tf.reshape(g, (-1, width)), places, tf.size(keys))
    examples = keys // rows
    norms = tf.math.unsorted_segment_sum(sum_of_squares(sums), examples, batch)

    def weighted_sums(weights: Tensor, clean: Clean) -> list[Tensor]:
        # Of the very sums whose norms were taken: weighted before, terms that cancel would not cancel as well. A weight
        # of 0 clears what is not finite.
        weighted = tf.math.multiply_no_nan(sums, tf.gather(weights, examples)[:, None])
        return [tf.math.unsorted_segment_sum(weighted, keys % rows, rows)]

    return [Contribution((table,), norms, weighted_sums)]


def _normalisation(layer: Any, pairs: Sequence[Pair]) -> list[Contribution]:
    """Scale and shift after a normalisation within each example: the layer run with scale 1 and shift 0 shows x̂."""
    scale = layer.scale if isinstance(layer, keras.layers.RMSNormalization) else layer.gamma
    shift = getattr(layer, "beta", None)
    variables = [variable for variable in (scale, shift) if variable is not None]
    neutral = [(v, tf.ones(v.shape, v.dtype) if v is scale else tf.zeros(v.shape, v.dtype)) for v in variables]
    with keras.StatelessScope(state_mapping=neutral):
        normalised = [type(layer).call(layer, x) for x, _ in pairs]
    found = []
    for variable in variables:
        if variable.trainable:
            terms = [
                (g * x if variable is scale else g, _other_axes(layer, g))
                for x, (_, g) in zip(normalised, pairs, strict=True)
            ]
            found.append(_summed(variable, terms))
    return found


def _axes(layer: Any) -> list[int]:
    return [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)


def _other_axes(layer: Any, g: Tensor) -> Sequence[int]:
    rank = len(g.shape)
    kept = {axis % rank for axis in _axes(layer)}
    return [axis for axis in range(1, rank) if axis not in kept]


def _plain_convolution(layer: Any) -> bool:
    return layer.data_format == "channels_last" and _plain(layer)


def _plain(layer: Any) -> bool:
    """The layer's own kernel, rather than one built from others."""
    return not getattr(layer, "lora_enabled", False) and getattr(layer, "quantization_mode", None) is None


def _sorted_axes(layer: Any) -> bool:
    """Only axes in order are broadcast as they are declared; a first axis is the batch."""
    axes = _axes(layer)
    same_sign = all(axis < 0 for axis in axes) or all(axis > 0 for axis in axes)
    return same_sign and axes == sorted(axes) and not getattr(layer, "rms_scaling", False)


_L = keras.layers
_RULES: tuple[tuple[tuple[Any, ...], Rule, Callable[[Any], bool]], ...] = (
    ((_L.Dense,), _linear(_dense, _all_but_last), _plain),
    (
        (_L.Conv1D, _L.Conv2D, _L.Conv3D, _L.DepthwiseConv1D, _L.DepthwiseConv2D),
        _linear(_convolution, _all_but_last),
        _plain_convolution,
    ),
    ((_L.Embedding,), _embedding, _plain),
    ((_L.LayerNormalization, _L.GroupNormalization, _L.RMSNormalization), _normalisation, _sorted_axes),
)
