"""No example adds more than the clip, whatever it holds: squares that vanish, and sums that cancel into rounding."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.dp.dpsgd import clipped_sums
from tests.dp.dpsgd_reference import functional

L = keras.layers
CLIPS = (1e-12, 1e-6, 1.0, 1e6)


def product(y: Any, prediction: Any) -> Any:
    """The loss Σ y·prediction, whose gradient of the prediction is y: the test chooses it."""
    return tf.reduce_sum(tf.reshape(y * prediction, (tf.shape(y)[0], -1)), axis=1)


def norm(values: list[Any]) -> float:
    return float(np.sqrt(sum((np.asarray(one, np.float64) ** 2).sum() for one in values)))


def compiled(model: Any, l2_clip: float) -> Any:
    return tf.function(lambda x, y: clipped_sums(model, product, x, y, l2_clip=l2_clip), autograph=False)


# One for each way that a norm is taken.
BUILDS = {
    "one position": ((6,), L.Dense(5, use_bias=False)),
    "one position and bias": ((6,), L.Dense(5)),
    "formed": ((9, 3), L.Dense(4)),
    "Gram": ((3, 64), L.Dense(64)),
    "convolution": ((6, 6, 2), L.Conv2D(3, 3)),
    "convolution by Gram": ((4, 4, 8), L.Conv2D(64, 3)),
    "channels apart": ((6, 6, 2), L.DepthwiseConv2D(3)),
    "scale and shift": ((6,), L.LayerNormalization()),
}
MODELS = {name: functional(shape, layer, "float32") for name, (shape, layer) in BUILDS.items()}
STEPS = {(name, l2_clip): compiled(model, l2_clip) for name, model in MODELS.items() for l2_clip in CLIPS}


def drawn(shape: tuple[int, ...], power: float, spread: float, seed: int) -> NDArray[np.float32]:
    """Return values of about 10^power, each times up to 10^±spread; what float32 does not hold is ±inf or 0."""
    rng = np.random.default_rng(seed)
    with np.errstate(over="ignore", under="ignore"):
        values = rng.normal(size=shape) * 10.0 ** (power + rng.uniform(-spread, spread, size=shape))
        return values.astype(np.float32)


_NEAR_THE_EDGE = st.floats(15, 20)  # where a square overflows; of the inverse, where it vanishes


@given(
    name=st.sampled_from(list(BUILDS)),
    l2_clip=st.sampled_from(CLIPS),
    power=st.floats(-38, 38) | _NEAR_THE_EDGE | _NEAR_THE_EDGE.map(lambda power: -power),
    of_product=st.floats(-12, 12),
    spreads=st.tuples(*[st.sampled_from([0.0, 3.0, 12.0])] * 2),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=300, deadline=None)
def test_whatever_the_magnitudes(
    name: str, l2_clip: float, power: float, of_product: float, spreads: tuple[float, float], seed: int
) -> None:
    model = MODELS[name]
    x = drawn((1, *model.input_shape[1:]), power, spreads[0], seed)
    y = drawn((1, *model.output_shape[1:]), of_product - power, spreads[1], seed + 1)
    assert norm(STEPS[name, l2_clip](x, y).sums) <= l2_clip * (1 + 1e-6)


@pytest.mark.parametrize("name", ["one position", "convolution by Gram"])
def test_squares_that_vanish_beside_huge_factors(name: str) -> None:
    """a·g of 10^-3 and more in each place, but g² is below the smallest normal number."""
    model = MODELS[name]
    x = np.full((1, *model.input_shape[1:]), 1e18, np.float32)
    y = np.full((1, *model.output_shape[1:]), 1e-21, np.float32)
    found = STEPS[name, 1e-6](x, y)
    assert 0 < norm(found.sums) <= 1e-6 * (1 + 1e-6)
    assert int(found.nonfinite) == 0


@pytest.mark.parametrize("width", [784, 4096])
@pytest.mark.parametrize("bits", [12.01, 12.5, 13.0])
def test_rounding_of_dot_products_that_all_goes_one_way(width: int, bits: float) -> None:
    """1 + ε² + ε² … is 1 in float32; two positions that differ by the ε's, and cancel but for them."""
    model = functional((2, width), L.Dense(16, use_bias=False), "float32")
    x = np.zeros((1, 2, width), np.float32)
    x[0, 0] = 2.0**-bits
    x[0, :, 0] = 1
    y = 1e6 * np.stack([np.ones(16), -np.ones(16)])[None].astype(np.float32)
    found = compiled(model, 1.0)(x, y)
    assert norm(found.sums) <= 1 + 1e-5


def test_rows_of_an_embedding_that_cancel() -> None:
    """Three gradients of one row, of which little more is left than their rounding; another row makes it clip."""
    inputs = keras.Input((4,), dtype="int32")
    model = keras.Model(inputs, L.Embedding(3, 64)(inputs))
    rng = np.random.default_rng(4)
    first, second = 1e8 * rng.normal(size=(2, 64)).astype(np.float32)
    y = np.stack([first, second, -(first + second), np.full(64, 0.4, np.float32)])[None]
    found = compiled(model, 1.0)(np.array([[1, 1, 1, 2]], np.int32), y)
    assert 0.9 < norm(found.sums) <= 1 + 1e-5


def test_ordinary_norms_are_as_they_were() -> None:
    """What is added for vanished squares is lost in the rounding of an ordinary example's."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(8, 6)).astype(np.float32), rng.normal(size=(8, 5)).astype(np.float32)
    found = STEPS["one position", 1.0](x, y).norms.numpy()
    a, g = tf.reduce_sum(tf.square(x), axis=1), tf.reduce_sum(tf.square(y), axis=1)
    assert np.array_equal(found, tf.sqrt(a * g).numpy())
