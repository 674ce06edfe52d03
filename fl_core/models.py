"""Two small Keras models for demo and tests; any function that returns a built `keras.Model` does as well."""

from typing import Any

from fl_core.extras import extra

__all__ = ["mlp", "small_cnn"]


def small_cnn(input_shape: tuple[int, int, int], classes: int) -> Any:
    """A `keras.Model` for images (height, width, channels): two convolutions, each pooled, and two dense layers.

    9 258 weights on the 8×8 digits, 55 338 on MNIST.
    """
    keras = extra("keras")
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(32, activation="relu"),
            _head(classes),
        ]
    )


def mlp(input_shape: tuple[int, ...], classes: int, hidden: tuple[int, ...] = (32,)) -> Any:
    """A `keras.Model` of dense layers with `hidden` units each, for examples of any shape."""
    keras = extra("keras")
    layers = [keras.layers.Dense(units, activation="relu") for units in hidden]
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), *layers, _head(classes)])


def _head(classes: int) -> Any:
    """Class probabilities; for two classes the one probability of label 1, as binary cross-entropy wants it."""
    dense = extra("keras").layers.Dense
    return dense(1, activation="sigmoid") if classes == 2 else dense(classes, activation="softmax")
