"""Clipped gradients equal those computed one example at a time, to 1e-6, for every kind of layer."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.dp.dpsgd import clipped_sums
from secureagg.dp.dpsgd.units import FastUnit, units_of
from tests.dp.dpsgd_reference import check_sums, functional, jacobian

L = keras.layers
RNG = np.random.default_rng(5)
B = 4


def data(model: Any, batch: int = B) -> tuple[Any, Any]:
    x = tf.constant(RNG.normal(size=(batch, *model.input_shape[1:])))
    y = tf.constant(RNG.normal(size=(batch, *model.output_shape[1:])))
    return x, y


def head(x: Any) -> Any:
    return L.Dense(2)(L.Flatten()(x))


FAST: dict[str, tuple[tuple[int, ...], Callable[[], Any]]] = {
    "dense": ((5,), lambda: L.Dense(4, activation="tanh")),
    "dense of sequences": ((3, 5), lambda: L.Dense(4, activation="relu")),
    "dense of sequences, few positions": ((2, 40), lambda: L.Dense(30)),
    "dense of images, no bias": ((2, 3, 5), lambda: L.Dense(4, use_bias=False)),
    "conv1d": ((9, 3), lambda: L.Conv1D(4, 3, activation="relu")),
    "conv1d causal dilated": ((9, 3), lambda: L.Conv1D(4, 3, padding="causal", dilation_rate=2)),
    "conv1d strided, many channels": ((9, 9), lambda: L.Conv1D(4, 3, strides=2, padding="same")),
    "conv2d": ((7, 6, 2), lambda: L.Conv2D(3, 3, activation="gelu")),
    "conv2d same strided": ((7, 6, 2), lambda: L.Conv2D(3, (4, 3), strides=(2, 3), padding="same")),
    "conv2d valid strided, no bias": ((8, 8, 1), lambda: L.Conv2D(3, 4, strides=3, use_bias=False)),
    "conv2d dilated": ((9, 9, 2), lambda: L.Conv2D(3, 3, dilation_rate=(2, 3), padding="same")),
    "conv2d many channels": ((5, 5, 9), lambda: L.Conv2D(4, 3, strides=2, padding="same")),
    "conv2d ghost": ((3, 3, 9), lambda: L.Conv2D(40, 3)),
    "conv2d one pixel": ((1, 1, 3), lambda: L.Conv2D(4, 1)),
    "conv2d groups": ((6, 6, 4), lambda: L.Conv2D(6, 3, groups=2, padding="same")),
    "conv2d groups ghost": ((3, 3, 16), lambda: L.Conv2D(32, 2, groups=2)),
    "conv3d": ((4, 5, 6, 2), lambda: L.Conv3D(3, (2, 3, 2), strides=(1, 2, 2), padding="same")),
    "depthwise": ((6, 6, 3), lambda: L.DepthwiseConv2D(3, activation="relu")),
    "depthwise strided, multiplied": ((7, 7, 2), lambda: L.DepthwiseConv2D(3, strides=2, depth_multiplier=2)),
    "depthwise dilated same": ((7, 7, 9), lambda: L.DepthwiseConv2D(3, dilation_rate=2, padding="same")),
    "depthwise1d": ((7, 3), lambda: L.DepthwiseConv1D(3, padding="same", depth_multiplier=2)),
    "layer normalisation": ((3, 5), lambda: L.LayerNormalization()),
    "layer normalisation, two axes": ((3, 4, 5), lambda: L.LayerNormalization(axis=(-2, -1))),
    "layer normalisation, no scale": ((3, 5), lambda: L.LayerNormalization(scale=False)),
    "group normalisation": ((4, 4, 6), lambda: L.GroupNormalization(3)),
    "group normalisation, no shift": ((4, 6), lambda: L.GroupNormalization(2, center=False)),
    "rms normalisation": ((3, 5), lambda: L.RMSNormalization()),
}


@pytest.mark.parametrize("name", FAST)
def test_fast_layers(name: str) -> None:
    shape, layer = FAST[name]
    # A dense layer before, so that gradients must also pass through; random weights, as ones and zeros hide mistakes.
    model = functional(shape, lambda x: head(layer()(L.Dense(shape[-1])(x))))
    for variable in model.trainable_variables:
        variable.assign(RNG.normal(size=variable.shape))
    assert all(isinstance(unit, FastUnit) for unit in units_of(model))
    check_sums(model, *data(model))


def test_embedding_adds_up_repeated_rows() -> None:
    def build(x: Any) -> Any:
        return head(L.Embedding(6, 3)(x))

    model = functional((5,), build)
    ids = tf.constant([[0, 0, 0, 0, 0], [0, 1, 2, 3, 4], [5, 5, 1, 1, 5], [2, 3, 2, 3, 2]], tf.float64)
    check_sums(model, ids, tf.constant(RNG.normal(size=(4, 2))))


def test_embedding_with_masked_padding() -> None:
    def build(x: Any) -> Any:
        return L.Dense(2)(L.GlobalAveragePooling1D()(L.Embedding(6, 3, mask_zero=True)(x)))

    model = functional((5,), build)
    ids = tf.constant([[1, 2, 0, 0, 0], [3, 3, 2, 0, 0], [5, 5, 1, 1, 5]], tf.float64)
    check_sums(model, ids, tf.constant(RNG.normal(size=(3, 2))))


SLOW: dict[str, tuple[tuple[int, ...], Callable[[Any], Any]]] = {
    "prelu": ((5,), lambda x: L.PReLU()(L.Dense(4)(x))),
    "prelu as an activation": ((5,), lambda x: L.Dense(4, activation=L.PReLU())(x)),
    "einsum dense": ((3, 4), lambda x: L.EinsumDense("abc,cd->abd", (3, 5), bias_axes="d")(x)),
    "transposed convolution": ((4, 4, 2), lambda x: L.Conv2DTranspose(3, 3, strides=2)(x)),
    "separable convolution": ((5, 5, 2), lambda x: L.SeparableConv2D(3, 3)(x)),
    "lstm": ((4, 3), lambda x: L.LSTM(3)(L.Dense(3)(x))),
    "gru, all outputs": ((4, 3), lambda x: L.GRU(3, return_sequences=True)(x)),
    "bidirectional": ((4, 3), lambda x: L.Bidirectional(L.SimpleRNN(2))(x)),
    "time distributed": ((3, 4), lambda x: L.TimeDistributed(L.Dense(3, activation="tanh"))(x)),
    "attention": ((3, 4), lambda x: L.MultiHeadAttention(2, 3)(x, x)),
    "bilinear": ((3, 4), lambda x: L.Dot(1)([L.Dense(2)(x), L.Dense(3)(x)])),
}


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
@pytest.mark.parametrize("name", SLOW)
def test_other_layers(name: str) -> None:
    shape, build = SLOW[name]
    model = functional(shape, lambda x: head(build(x)))
    x, y = data(model, 3)
    model(x)  # Keras builds an activation that is a layer only now
    check_sums(model, x, y)


def test_a_layer_without_a_fast_rule_is_announced_once() -> None:
    model = functional((5,), lambda x: L.PReLU(name="odd_one")(L.Dense(4)(x)))
    with pytest.warns(UserWarning, match=r"odd_one \(PReLU\) has no fast rule"):
        units_of(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        units_of(model)


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
@pytest.mark.parametrize("kind", ["dense", "ghost", "conv", "embedding", "normalisation", "prelu"])
def test_a_layer_called_twice(kind: str) -> None:
    def build(x: Any) -> Any:
        if kind == "embedding":
            shared = L.Embedding(5, 4)
            return head(L.Add()([shared(x[:, :3]), L.Dense(4)(shared(x[:, 2:5]))]))
        shared = {
            "dense": L.Dense(6, activation="tanh"),
            "ghost": L.Dense(6),
            "conv": L.Conv1D(6, 2, padding="same"),
            "normalisation": L.LayerNormalization(),
            "prelu": L.PReLU(),
        }[kind]
        return head(shared(shared(x)))

    model = functional({"dense": (6,), "embedding": (5,)}.get(kind, (2, 6)), build)
    x, y = data(model)
    if kind == "embedding":
        x = tf.constant(RNG.integers(0, 5, (B, 5)), tf.float64)
    check_sums(model, x, y)


def test_frozen_layers_and_variables_are_left_out() -> None:
    layers: list[Any] = []

    def build(x: Any) -> Any:
        layers.extend([L.Dense(4, activation="tanh"), L.BatchNormalization(), L.Conv1D(3, 2), L.Dense(3)])
        for layer in layers:
            x = layer(x)
        return head(x)

    model = functional((6, 5), build)
    layers[1].trainable = layers[2].trainable = False
    layers[3].kernel.trainable = False
    check_sums(model, *data(model))
    assert any(variable is layers[3].bias for variable in model.trainable_variables)


def test_nested_models_subclassed_models_and_several_inputs() -> None:
    inner = functional((4,), lambda x: L.Dense(3, activation="tanh")(x))

    class Two(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(dtype="float64")
            self.inner, self.last = inner, L.Dense(2, dtype="float64")

        def call(self, inputs: dict[str, Any]) -> Any:
            return self.last(self.inner(inputs["a"]) * self.inner(inputs["b"]))

    model = Two()
    x = {name: tf.constant(RNG.normal(size=(B, 4))) for name in "ab"}
    model(x)
    check_sums(model, x, tf.constant(RNG.normal(size=(B, 2))))


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
@pytest.mark.parametrize("kind", ["dropout", "lstm"])
def test_layers_that_draw_random_numbers(kind: str) -> None:
    random = {"dropout": lambda: L.Dropout(0.5, seed=3), "lstm": lambda: L.LSTM(3, dropout=0.4, seed=4)}
    model = functional((4, 3), lambda x: head(random[kind]()(L.Dense(5, activation="tanh")(x))))
    states = [v for v in model.variables if "seed" in v.path]
    assert states

    def reset() -> None:
        for state in states:
            state.assign([11, 0])

    check_sums(model, *data(model), by=jacobian, before=reset)
    after = [state.numpy().tolist() for state in states]
    assert after != [[11, 0]] * len(states), "the next batch would draw the same"


KINDS = st.sampled_from(["conv", "depthwise", "dense", "norm", "group", "skip"])
STEPS = st.sampled_from([{"strides": 2}, {"dilation_rate": 2}, {}])
ACTIVATIONS = st.sampled_from(["tanh", "gelu", "softplus", None])
LAYERS = st.tuples(KINDS, STEPS, ACTIVATIONS, st.booleans(), st.integers(1, 3), st.integers(1, 12))
SIDES = st.lists(st.integers(3, 7), min_size=1, max_size=2)


def architecture(sides: list[int], channels: int, layers: list[Any]) -> Any:
    """Return a model of images (two sides) or sequences (one)."""
    images = len(sides) == 2
    conv, depthwise = (L.Conv2D, L.DepthwiseConv2D) if images else (L.Conv1D, L.DepthwiseConv1D)

    def build(x: Any) -> Any:
        for kind, step, activation, use_bias, size, width in layers:
            common = {"activation": activation, "use_bias": use_bias}
            if kind == "conv":
                x = conv(width, size, padding="same", **step, **common)(x)
            elif kind == "depthwise":
                x = depthwise(size, padding="same", depth_multiplier=1 + width % 2, **step, **common)(x)
            elif kind == "dense":
                x = L.Dense(width, **common)(x)
            elif kind == "skip":
                x = L.Add()([x, L.Dense(x.shape[-1], **common)(x)])
            else:
                x = L.LayerNormalization(epsilon=0.1)(x) if kind == "norm" else L.GroupNormalization(1, epsilon=0.1)(x)
        return head(x)

    return functional((*sides, channels), build)


@given(SIDES, st.integers(1, 9), st.lists(LAYERS, min_size=1, max_size=3), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None)
def test_random_architectures(sides: list[int], channels: int, layers: list[Any], seed: int) -> None:
    model = architecture(sides, channels, layers)
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    check_sums(model, *data(model, 3))


@pytest.mark.parametrize("name", ["dense of sequences", "conv2d", "conv2d ghost", "layer normalisation"])
def test_float32_is_as_good_as_its_rounding(name: str) -> None:
    shape, layer = FAST[name]
    model = functional(shape, lambda x: head(layer()(x)), "float32")
    x, y = (tf.cast(values, tf.float32) for values in data(model))
    check_sums(model, x, y, tolerance=5e-5)


def test_a_compiled_step_equals_the_eager_one_and_is_traced_once() -> None:
    model = functional((3, 5), lambda x: head(L.Dense(4, activation="relu")(x)))
    x, y = data(model)
    traces = []

    @tf.function
    def compiled(x: Any, y: Any) -> Any:
        traces.append(1)
        return clipped_sums(model, "mse", x, y, l2_clip=0.3).sums

    for _ in range(3):
        for one, other in zip(compiled(x, y), clipped_sums(model, "mse", x, y, l2_clip=0.3).sums, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12)
    assert len(traces) == 1
    assert "call" not in vars(model.layers[1]), "the layers must be as they were"
