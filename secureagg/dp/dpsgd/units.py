"""The units of a model that are clipped together: layers by a fast rule, others by their own per-example gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from weakref import WeakSet

from secureagg.dp.dpsgd import general
from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import Contribution, Tensor
from secureagg.dp.dpsgd.mixing import has_axes, refuse_batch_axis, refuse_mixing
from secureagg.dp.dpsgd.rules import rule_for
from secureagg.errors import ParameterError

__all__ = ["FastUnit", "GeneralUnit", "Unit", "tapped", "units_of"]

_DTYPES = ("float32", "float64")
_announced: WeakSet[Any] = WeakSet()


class FastUnit:
    """A layer whose rule needs what went in and the gradient of what came out before the activation."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.variables: tuple[Any, ...] = tuple(layer.trainable_variables)
        self._rule = rule_for(layer)
        self._inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []

    def call(self, tape: Any, inputs: Tensor, **modes: Any) -> Tensor:
        """Run the layer's call, its variables taken as constants, and let the tape watch its linear part."""
        layer = self.layer
        activation = getattr(layer, "activation", None)
        values = [(variable, tf.stop_gradient(variable.value)) for variable in self.variables]
        with _attribute(layer, "activation", None), keras.StatelessScope(values, initialize_variables=False):
            outputs = type(layer).call(layer, inputs, **modes)
        tape.watch(outputs)
        self._inputs.append(inputs)
        self.outputs.append(outputs)
        return outputs if activation is None else activation(outputs)

    def contributions(self, gradients: list[Tensor]) -> list[Contribution]:
        """Return the contributions, given the gradient of each of `outputs`."""
        assert self._rule is not None
        return self._rule(self.layer, list(zip(self._inputs, gradients, strict=True)))


class GeneralUnit:
    """A layer, with all inside it, whose per-example gradients are formed."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.variables: tuple[Any, ...] = tuple(layer.trainable_variables)
        self._recordings: list[general.Recording] = []

    def call(self, tape: Any, *args: Any, **kwargs: Any) -> Any:
        """Run the layer's call, its variables taken as constants, and let the tape watch its outputs."""
        result, recording = general.record(self.layer, self.variables, args, kwargs)
        for output in recording.outputs:
            tape.watch(output)
        self._recordings.append(recording)
        return result

    @property
    def outputs(self) -> list[Tensor]:
        return [output for recording in self._recordings for output in recording.outputs]

    def contributions(self, gradients: list[Tensor]) -> list[Contribution]:
        """Return the contributions, given the gradient of each of `outputs`."""
        rest = iter(gradients)
        calls = [(recording, [next(rest) for _ in recording.outputs]) for recording in self._recordings]
        return general.contributions(self.layer, self.variables, calls)


Unit = FastUnit | GeneralUnit


def units_of(model: Any) -> list[Unit]:
    """Return fresh units that hold each trainable variable of the model once.

    Raises: ParameterError for a layer that mixes examples, a dtype other than float32 and float64 throughout or one
    that a GPU rounds further, a variable that two units hold, and a model with nothing to train. Warns once of each
    layer without a fast rule.
    """
    if not model.built:
        raise ParameterError(f"{model.name} is not built; give it a keras.Input or call it once")
    refuse_mixing(model)
    dtypes = {str(variable.dtype) for variable in model.trainable_variables}
    dtypes |= {layer.compute_dtype for layer in model._flatten_layers() if _has_own_weights(layer)}
    if len(dtypes) != 1 or not dtypes <= set(_DTYPES):
        found = ", ".join(sorted(dtypes)) or "none trainable"
        raise ParameterError(f"{model.name}: weights and computation must be all float32 or all float64, not {found}")
    if tf.config.list_physical_devices("GPU") and tf.config.experimental.tensor_float_32_execution_enabled():
        # Of products of 11 bits a norm may be less than that of what is summed (docs/proofs/clipping.md).
        raise ParameterError(
            "TensorFlow may multiply float32 in 19 bits (TensorFloat-32) on a GPU; call "
            "tf.config.experimental.enable_tensor_float_32_execution(False) first"
        )
    units: dict[int, Unit] = {}
    _collect(model, units)
    held: dict[int, str] = {}
    for unit in units.values():
        for variable in unit.variables:
            if id(variable) in held:
                names = f"{held[id(variable)]} and {unit.layer.name}"
                raise ParameterError(f"{variable.path} belongs to {names}; call one layer twice instead")
            held[id(variable)] = unit.layer.name
    return list(units.values())


def _collect(layer: Any, units: dict[int, Unit]) -> None:
    if id(layer) in units or not layer.trainable_variables:
        return
    if rule_for(layer) is not None:
        units[id(layer)] = FastUnit(layer)
    elif _is_whole(layer):
        units[id(layer)] = GeneralUnit(layer)
        if layer not in _announced:
            _announced.add(layer)
            warnings.warn(
                f"layer {layer.name} ({type(layer).__name__}) has no fast rule: its gradient is formed for every "
                "example, which costs time and memory",
                stacklevel=4,
            )
    else:
        for inner in layer._flatten_layers(include_self=False, recursive=False):
            _collect(inner, units)


def _is_whole(layer: Any) -> bool:
    """Has it trainable weights of its own, or does it run its inner layers in a loop?"""
    loops = isinstance(layer, keras.layers.RNN | keras.layers.Wrapper)
    return loops or _has_own_weights(layer)


def _has_own_weights(layer: Any) -> bool:
    return any(variable.trainable for variable in layer._trainable_variables)


@contextmanager
def tapped(model: Any, units: list[Unit], tape: Any) -> Iterator[None]:
    """While it lasts, the layers' calls go through their units, and one along the batch's axis is refused."""
    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    replaced = []

    def through(unit: Unit) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if graph is not None and tf.compat.v1.get_default_graph() is not graph:
                raise ParameterError(f"layer {unit.layer.name} is called inside a loop; DP-SGD cannot see its calls")
            return unit.call(tape, *args, **kwargs)

        return call

    def checked(layer: Any, inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            refuse_batch_axis(layer, (args, kwargs))
            return inner(*args, **kwargs)

        return call

    calls = {id(unit.layer): (unit.layer, through(unit)) for unit in units}
    for layer in model._flatten_layers():
        if has_axes(layer):
            inner = calls[id(layer)][1] if id(layer) in calls else partial(type(layer).call, layer)
            calls[id(layer)] = (layer, checked(layer, inner))
    try:
        for layer, call in calls.values():
            context = _attribute(layer, "call", call)
            context.__enter__()
            replaced.append(context)
        yield
    finally:
        for context in replaced:
            context.__exit__(None, None, None)


@contextmanager
def _attribute(layer: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute of the instance, past Keras's tracking, and put back what was there."""
    before = vars(layer)
    had, old = name in before, before.get(name)
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        if had:
            object.__setattr__(layer, name, old)
        else:
            object.__delattr__(layer, name)
