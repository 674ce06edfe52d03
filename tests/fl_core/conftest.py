"""A trainer in numpy for tests of the plumbing, and real data with Keras trainers shared by the session."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fl_core as fl


@dataclasses.dataclass(frozen=True)
class LinearTrainer:
    """Least squares by shuffled gradient descent. Weights: slope[3], intercept[], running mean[3] of x (not trained).

    Like a user's training code it knows nothing of the engine, and its own error quotes the data it stumbled over.
    """

    steps: int = 20

    trainable = (True, True, False)

    def initial_weights(self, seed: int) -> fl.Weights:
        rng = np.random.default_rng(seed)
        return [rng.normal(size=3).astype(np.float32), np.zeros((), np.float32), np.zeros(3, np.float32)]

    def train(self, weights: fl.Weights, x: Any, y: Any, seed: int) -> fl.LocalUpdate:
        if not np.isfinite(x).all():
            raise ValueError(f"cannot train on {x[0]}")
        rng = np.random.default_rng(seed)
        slope, intercept, seen = (layer.astype(np.float64) for layer in weights)
        for _ in range(self.steps):
            pick = rng.integers(len(x))
            error = x[pick] @ slope + intercept - y[pick]
            slope, intercept = slope - 0.05 * error * x[pick], intercept - 0.05 * error
        new = [slope, intercept, 0.9 * seen + 0.1 * x.mean(axis=0)]
        update = [(a - b).astype(b.dtype) for a, b in zip(new, weights, strict=True)]
        return fl.LocalUpdate(update, len(x), float(np.mean((x @ slope + intercept - y) ** 2)))

    def evaluate(self, weights: fl.Weights, x: Any, y: Any) -> dict[str, float]:
        return {"loss": float(np.mean((x @ weights[0] + weights[1] - y) ** 2))}

    def describe(self) -> dict[str, str]:
        return {"steps": str(self.steps)}


@pytest.fixture
def linear_federation() -> Callable[..., fl.Federation]:
    """Five clients of 3 to 7 examples of one linear law; keyword arguments replace the federation's fields."""

    def build(**changes: Any) -> fl.Federation:
        rng = np.random.default_rng(7)

        def local(examples: int) -> fl.LocalData:
            x = rng.normal(size=(examples, 3))
            return x, x @ np.array([1.0, -2.0, 0.5]) + 0.3

        clients = [local(examples) for examples in range(3, 8)]
        settings = {"trainer": LinearTrainer(), "clients": clients, "test": local(20), "rounds": 4, "seed": 3}
        return fl.Federation(**(settings | changes))

    return build


@pytest.fixture(scope="session")
def digits() -> fl.Dataset:
    return fl.digits()


def _noisy_mlp() -> Any:
    """Everything that has state in one small model: BatchNorm, Dropout, a regulariser."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Flatten(),
            layers.Dense(16, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax"),
        ]
    )


def _optimizer(name: str) -> Any:
    import keras

    return keras.optimizers.Adam(0.01) if name == "adam" else keras.optimizers.SGD(0.05, momentum=0.9)


@pytest.fixture(scope="session")
def noisy_trainer() -> Callable[..., fl.KerasTrainer]:
    """A new trainer of a model with BatchNorm, Dropout and a regulariser, with "adam" or "momentum"."""
    return lambda name, **settings: fl.KerasTrainer(_noisy_mlp, optimizer_fn=lambda: _optimizer(name), **settings)


@pytest.fixture(scope="session", params=["adam", "momentum"])
def used_trainer(request: pytest.FixtureRequest, noisy_trainer: Callable[..., fl.KerasTrainer]) -> Any:
    """(name, trainer) of a trainer that other tests have used before."""
    return request.param, noisy_trainer(request.param, epochs=2)
