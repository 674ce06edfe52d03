"""Any layer with weights: per-example gradients from the layer alone, vectorised over the examples.

The rest of the model's backward pass is shared; only the layer's own is taken for each example, given the gradient of
its output. A layer that draws random numbers cannot be run again one example at a time and draw the same ones, so its
one forward pass is kept and differentiated once for each example: slower still, and right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import Contribution, Tensor, per_example
from secureagg.errors import ParameterError

__all__ = ["Recording", "contributions", "keep_seeds", "record"]


@dataclass(frozen=True)
class Recording:
    """One call: its arguments, flat; how to nest them; its floating outputs; the tape that saw it, if it is kept."""

    structure: Any
    arguments: list[Any]
    outputs: list[Tensor]
    values: list[Tensor]
    tape: Any


def record(layer: Any, variables: Sequence[Any], args: Any, kwargs: Any) -> tuple[Any, Recording]:
    """Run the layer's call with its trainable variables taken as constants by the tapes outside; return its result."""
    structure = (args, kwargs)
    values = [tf.stop_gradient(variable.value) for variable in variables]
    tape = tf.GradientTape(persistent=True, watch_accessed_variables=False) if _is_random(layer) else None
    if tape is None:
        result, scope = _call(layer, variables, values, structure)
    else:
        with tape:
            tape.watch(values)
            result, scope = _call(layer, variables, values, structure)
    keep_seeds(layer, scope)
    outputs = [tensor for tensor in tf.nest.flatten(result) if tensor.dtype.is_floating]
    return result, Recording(structure, tf.nest.flatten(structure), outputs, values, tape)


def contributions(
    layer: Any, variables: Sequence[Any], calls: Sequence[tuple[Recording, Sequence[Tensor]]]
) -> list[Contribution]:
    """Return one contribution a variable; `calls` holds each call with the gradients of its outputs."""
    each = [_per_example_gradients(layer, variables, recording, gradients) for recording, gradients in calls]
    return [per_example(variable, tf.add_n([call[index] for call in each])) for index, variable in enumerate(variables)]


def _is_random(layer: Any) -> bool:
    """Does the layer, or one inside it, have a seed generator?"""
    return any(inner._seed_generators for inner in layer._flatten_layers())


def keep_seeds(layer: Any, scope: Any) -> None:
    """Move the seed generators on as what ran in the scope did; raise if it changed any other state or added a loss."""
    seeds = {id(g.state): g.state for inner in layer._flatten_layers() for g in inner._seed_generators}
    for variable in layer.variables:
        if id(variable) not in seeds and not variable.trainable and scope.get_current_value(variable) is not None:
            raise ParameterError(
                f"{variable.path} is updated from the batch without clipping or noise; DP-SGD trains no such layer"
            )
    if scope.losses:
        raise ParameterError(
            f"{layer.name}: losses added in a layer (add_loss, activity_regularizer) are of the batch, not of one "
            "example; put them into the loss"
        )
    for state in seeds.values():
        moved = scope.get_current_value(state)
        if moved is not None:
            state.assign(moved)


def _per_example_gradients(
    layer: Any, variables: Sequence[Any], recording: Recording, gradients: Sequence[Tensor]
) -> list[Tensor]:
    if recording.tape is not None:
        with recording.tape:
            target = tf.add_n(
                [
                    tf.reduce_sum(tf.reshape(output * tf.stop_gradient(gradient), (tf.shape(output)[0], -1)), axis=1)
                    for output, gradient in zip(recording.outputs, gradients, strict=True)
                ]
            )
        jacobian = recording.tape.jacobian
        return list(jacobian(target, recording.values, unconnected_gradients="zero", experimental_use_pfor=False))
    batched = [index for index, value in enumerate(recording.arguments) if tf.is_tensor(value) and value.shape.rank]

    def of_one(elements: tuple[list[Tensor], list[Tensor]]) -> list[Tensor]:
        inputs, output_gradients = elements
        arguments = list(recording.arguments)
        for index, value in zip(batched, inputs, strict=True):
            arguments[index] = value[None]
        structure = tf.nest.pack_sequence_as(recording.structure, arguments)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(recording.values)
            result, _ = _call(layer, variables, recording.values, structure)
            outputs = [tensor for tensor in tf.nest.flatten(result) if tensor.dtype.is_floating]
            target = tf.add_n([tf.reduce_sum(out[0] * one) for out, one in zip(outputs, output_gradients, strict=True)])
        return list(tape.gradient(target, recording.values, unconnected_gradients="zero"))

    elements = ([recording.arguments[index] for index in batched], list(gradients))
    return list(tf.vectorized_map(of_one, elements))


def _call(layer: Any, variables: Sequence[Any], values: Sequence[Tensor], structure: Any) -> tuple[Any, Any]:
    args, kwargs = structure
    scope = keras.StatelessScope(
        state_mapping=list(zip(variables, values, strict=True)), collect_losses=True, initialize_variables=False
    )
    with scope:
        result = type(layer).call(layer, *args, **kwargs)
    return result, scope
