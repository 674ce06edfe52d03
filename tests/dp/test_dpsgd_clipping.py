"""The clipping guarantee, masks, examples that are not finite, and everything that is refused."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.dp.dp_events import BatchSampling
from secureagg.dp.dpsgd import clipped_sums, make_private, private_gradients
from secureagg.errors import ParameterError
from tests.dp.dpsgd_reference import explicit, functional, reference_sums

L = keras.layers
RNG = np.random.default_rng(6)


def small(dtype: str = "float64") -> Any:
    return functional((2, 4), lambda x: L.Dense(2)(L.Flatten()(L.Dense(8, activation="relu")(x))), dtype)


MODELS = {dtype: small(dtype) for dtype in ("float32", "float64")}
MAGNITUDES = st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 50.0, 1e6, 1e12, 1e30, np.inf, -np.inf, np.nan])


def norm(values: list[Any]) -> float:
    return float(np.sqrt(sum((np.asarray(one, np.float64) ** 2).sum() for one in values)))


@given(st.sampled_from(list(MODELS)), st.lists(MAGNITUDES, min_size=3, max_size=3), st.sampled_from([1e-3, 1.0, 40.0]))
@settings(max_examples=60, deadline=None)
def test_no_example_moves_the_sum_by_more_than_the_clip(dtype: str, magnitudes: list[float], l2_clip: float) -> None:
    """Add/remove: the sum with and without the last example, the others whatever they are."""
    model = MODELS[dtype]
    x = RNG.normal(size=(3, 2, 4)) * np.array(magnitudes)[:, None, None]
    x, y = tf.constant(x, dtype), tf.constant(RNG.normal(size=(3, 2)), dtype)
    every = clipped_sums(model, "mse", x, y, l2_clip=l2_clip).sums
    without = clipped_sums(model, "mse", x, y, tf.constant([1, 1, 0]), l2_clip=l2_clip).sums
    moved = norm([np.asarray(a, np.float64) - np.asarray(b, np.float64) for a, b in zip(every, without, strict=True)])
    rounding = 1e-5 if dtype == "float32" else 1e-13
    assert moved <= l2_clip * (1 + rounding)
    alone = clipped_sums(model, "mse", x, y, tf.constant([0, 0, 1]), l2_clip=l2_clip)
    assert norm(alone.sums) <= l2_clip * (1 + 1e-6)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e5])
def test_cancelling_positions_are_clipped_too(size: float) -> None:
    """Two large terms that nearly cancel: the Gram norm is mostly rounding, and must not be taken for small."""
    model = functional((2, 64), lambda x: L.Flatten()(L.Dense(64, use_bias=False)(x)), "float32")
    row = RNG.normal(size=64)
    x = size * np.stack([row, row * (1 + 1e-7)])[None]
    target = RNG.normal(size=64)
    kernel = model.trainable_variables[0]
    kernel.assign(np.zeros(kernel.shape))
    y = np.concatenate([target, -target])[None] * 64 * size
    found = clipped_sums(model, "mse", tf.constant(x, tf.float32), tf.constant(y, tf.float32), l2_clip=1.0)
    assert norm(found.sums) <= 1 + 1e-5


def test_an_example_that_is_not_finite_contributes_zero_and_is_counted() -> None:
    model = MODELS["float64"]
    x = RNG.normal(size=(5, 2, 4))
    x[1], x[3, 0, 2] = np.nan, np.inf
    y = RNG.normal(size=(5, 2))
    kept = [0, 2, 4]
    wanted = reference_sums(explicit(model, "mse", tf.constant(x[kept]), tf.constant(y[kept])), 0.5)
    found = clipped_sums(model, "mse", tf.constant(x), tf.constant(y), l2_clip=0.5)
    assert int(found.nonfinite) == 2
    for one, other in zip(found.sums, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_masked_examples_contribute_nothing_whatever_they_hold() -> None:
    model = MODELS["float64"]
    x, y = RNG.normal(size=(4, 2, 4)), RNG.normal(size=(4, 2))
    x[2:] = [[[np.nan] * 4] * 2, [[1e200] * 4] * 2]
    found = clipped_sums(model, "mse", tf.constant(x), tf.constant(y), tf.constant([1, 1, 0, 0]), l2_clip=0.5)
    alone = clipped_sums(model, "mse", tf.constant(x[:2]), tf.constant(y[:2]), l2_clip=0.5)
    assert int(found.nonfinite) == 0
    for one, other in zip(found.sums, alone.sums, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("expected", [1, 3, 1000.5])
def test_divides_by_the_expected_batch(expected: float) -> None:
    model = MODELS["float64"]
    x, y = tf.constant(RNG.normal(size=(4, 2, 4))), tf.constant(RNG.normal(size=(4, 2)))
    settings_ = {"l2_clip": 0.7, "noise_multiplier": 0.0, "expected_batch": expected}
    found = private_gradients(model, "mse", x, y, tf.constant([1, 1, 1, 0]), **settings_)
    wanted = reference_sums(explicit(model, "mse", x, y), 0.7, [1, 1, 1, 0])
    for one, other in zip(found.gradients, wanted, strict=True):
        np.testing.assert_allclose(one, other / expected, rtol=1e-9, atol=1e-15)


def test_regularizers_are_added_unclipped() -> None:
    dense = L.Dense(2, kernel_regularizer="l2", bias_regularizer=keras.regularizers.L1(0.1), dtype="float64")
    model = functional((3,), dense)
    x, y = tf.constant(RNG.normal(size=(4, 3))), tf.constant(RNG.normal(size=(4, 2)))
    dense.bias.assign([0.5, -2.0])
    settings_ = {"l2_clip": 1e-6, "noise_multiplier": 0.0, "expected_batch": 4}
    kernel, bias = private_gradients(model, "mse", x, y, **settings_).gradients
    np.testing.assert_allclose(kernel, 0.02 * dense.kernel.numpy(), atol=1e-6)
    np.testing.assert_allclose(bias, [0.1, -0.1], atol=1e-6)


class Mean(L.Layer):  # type: ignore[misc]
    """Keeps a running mean, as BatchNormalization does, under a name of its own."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight(shape=(), trainable=False)

    def call(self, x: Any) -> Any:
        self.mean.assign(keras.ops.mean(x))
        return x


class Tied(L.Layer):  # type: ignore[misc]
    """Uses its inner layer's kernel a second time, past that layer."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = L.Dense(4)

    def build(self, shape: Any) -> None:
        self.inner.build(shape)

    def call(self, x: Any) -> Any:
        return keras.ops.matmul(self.inner(x), self.inner.kernel)


class Inside(L.Layer):  # type: ignore[misc]
    """A layer within another, whose inputs no model sees before it runs."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.first, self.inner = L.Dense(4), inner

    def build(self, shape: Any) -> None:
        self.first.build(shape)

    def call(self, x: Any) -> Any:
        return self.inner(self.first(x))


class Penalty(L.Layer):  # type: ignore[misc]
    """Adds a loss of the batch."""

    def call(self, x: Any) -> Any:
        self.add_loss(keras.ops.mean(x))
        return x


def step(model: Any, loss: Any = "mse") -> Any:
    x, y = tf.zeros((2, *model.input_shape[1:]), "float64"), tf.zeros((2, *model.output_shape[1:]), "float64")
    return clipped_sums(model, loss, x, y, l2_clip=1.0)


REFUSED_MODELS = {
    "mixes the examples.*GroupNormalization": lambda x: L.BatchNormalization(name="bn")(L.Dense(4)(x)),
    "mean/variable is updated from the batch": lambda x: Mean()(L.Dense(4)(x)),
    "kernel is also used outside its layer's call": lambda x: Tied()(x),
    "put them into the loss": lambda x: Penalty()(L.Dense(4)(x)),
    r"losses added in a layer": lambda x: L.Dense(4, activity_regularizer="l2")(x),
    "SpectralNormalization|is updated from the batch": lambda x: L.SpectralNormalization(L.Dense(4))(x),
    r"softmax.* \(Softmax\) computes along axis 0 of 2": lambda x: L.Softmax(axis=0)(L.Dense(4)(x)),
    r"\(Softmax\) computes along axis 0": lambda x: L.Softmax(axis=(-1, -2))(L.Dense(4)(x)),
    r"\(UnitNormalization\) computes along": lambda x: L.UnitNormalization(axis=0)(L.Dense(4)(x)),
    r"\(Concatenate\) computes along": lambda x: L.Concatenate(axis=0)([L.Dense(4)(x), x]),
    r"\(MixUp\) mixes the examples": lambda x: L.Flatten()(L.MixUp()(L.Reshape((2, 2, 1))(L.Dense(4)(x)))),
    r"softmax.* computes along axis 0 of 2, which": lambda x: Inside(L.Softmax(axis=-2))(x),
    "must be all float32 or all float64, not float32, float64": lambda x: L.Dense(4, dtype="float32")(L.Dense(4)(x)),
    "not none trainable": lambda x: L.Activation("relu")(x),
}


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
@pytest.mark.parametrize("message", REFUSED_MODELS)
def test_refuses_models(message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        step(functional((4,), REFUSED_MODELS[message]))


@pytest.mark.parametrize(
    "layer",
    [
        L.Softmax(axis=0),
        L.UnitNormalization(axis=(0, 1)),
        L.LayerNormalization(axis=-2),
        L.RMSNormalization(axis=-2),
    ],
)
def test_make_private_refuses_the_axis_of_the_examples(layer: Any) -> None:
    model = keras.Sequential([keras.Input((4,), batch_size=8), L.Dense(8), layer, L.Dense(2)])
    with pytest.raises(ParameterError, match=f"layer {layer.name} .* computes along axis 0 of 2"):
        make_private(model, 1.0, 1.0, 8, BatchSampling.POISSON)


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
@pytest.mark.parametrize("kind", [L.AdditiveAttention, partial(L.Attention, score_mode="concat")])
def test_refuses_attention_over_the_examples(kind: Any) -> None:
    with pytest.raises(ParameterError, match="attends over the examples"):
        step(functional((4,), lambda x: kind()([x, x])))
    assert all(np.isfinite(one).all() for one in step(functional((3, 4), lambda x: L.Flatten()(kind()([x, x])))).sums)


@keras.saving.register_keras_serializable()
class _Masked(L.Layer):
    """Calls attention by keywords alone, without the mask that it could have."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = L.MultiHeadAttention(2, 3)

    def build(self, shape: Any) -> None:
        self.attention.build(shape, shape)
        super().build(shape)

    def call(self, x: Any) -> Any:
        return self.attention(query=x, value=x, attention_mask=None)


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
def test_attention_may_be_called_by_keywords() -> None:
    model = functional((3, 4), lambda x: L.Flatten()(_Masked()(x)))
    assert all(np.isfinite(one).all() for one in step(model).sums)


def test_the_same_axis_within_an_example_is_allowed() -> None:
    model = functional((3, 4), lambda x: L.Flatten()(L.Softmax(axis=-2)(L.LayerNormalization(axis=-2)(L.Dense(4)(x)))))
    assert all(np.isfinite(one).all() for one in step(model).sums)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16"])
def test_refuses_other_precisions(policy: str) -> None:
    model = keras.Sequential([keras.Input((3,)), L.Dense(2, dtype=policy)])
    with pytest.raises(ParameterError, match="all float32 or all float64"):
        make_private(model, 1.0, 1.0, 8, BatchSampling.POISSON)


def test_refuses_products_of_fewer_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [kind])
    model = keras.Sequential([keras.Input((3,)), L.Dense(2)])
    with pytest.raises(ParameterError, match=r"enable_tensor_float_32_execution\(False\)"):
        make_private(model, 1.0, 1.0, 8, BatchSampling.POISSON)
    tf.config.experimental.enable_tensor_float_32_execution(False)
    try:
        make_private(model, 1.0, 1.0, 8, BatchSampling.POISSON)
    finally:
        tf.config.experimental.enable_tensor_float_32_execution(True)


@pytest.mark.filterwarnings("ignore:layer .* has no fast rule")
def test_refuses_a_variable_of_two_layers() -> None:
    shared = keras.Variable(np.ones(4), dtype="float64")

    class Scale(L.Layer):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.scale = shared

        def call(self, x: Any) -> Any:
            return x * self.scale

    model = functional((4,), lambda x: Scale()(Scale()(x)))
    with pytest.raises(ParameterError, match="call one layer twice instead"):
        step(model)


REFUSED_LOSSES = {
    "reduction='sum'": keras.losses.MeanSquaredError(reduction="sum"),
    "a value for each example": lambda y, p: keras.ops.mean((y - p) ** 2),
    "one loss for one output": ["mse", "mse"],
}


@pytest.mark.parametrize("message", REFUSED_LOSSES)
def test_refuses_losses(message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        step(MODELS["float64"], REFUSED_LOSSES[message])


GOOD = {"l2_clip": 1.0, "noise_multiplier": 1.0, "expected_batch": 8.0, "sampling": BatchSampling.POISSON}
REFUSED_SETTINGS = [
    ("l2_clip", 0.0),
    ("l2_clip", -1.0),
    ("l2_clip", float("nan")),
    ("l2_clip", float("inf")),
    ("l2_clip", 1e13),
    ("noise_multiplier", -0.1),
    ("noise_multiplier", float("nan")),
    ("expected_batch", 0.0),
    ("expected_batch", float("nan")),
    ("sampling", "poisson"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED_SETTINGS)
def test_refuses_settings(name: str, value: Any) -> None:
    with pytest.raises(ParameterError, match=name):
        make_private(MODELS["float64"], **{**GOOD, name: value})
