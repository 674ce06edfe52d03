"""A small task: softmax regression on made-up measurements of three kinds, 30 to 93 examples a client."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Model = dict[str, NDArray[np.float32]]

FEATURES, KINDS = 8, 3
_CENTRES = np.random.default_rng(1).normal(0, 1, (KINDS, FEATURES))


def new_model() -> Model:
    """Return the model that training starts from."""
    return {"weights": np.zeros((FEATURES, KINDS), np.float32), "bias": np.zeros(KINDS, np.float32)}


def examples(client: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a client's own measurements and their kinds; client -1 has the test set."""
    rng = np.random.default_rng([7, client + 1])
    count = 600 if client < 0 else 30 + 7 * (client % 10)
    kinds = rng.integers(0, KINDS, count)
    return (_CENTRES[kinds] + rng.normal(0, 1.2, (count, FEATURES))).astype(np.float32), kinds


def trained(model: Model, client: int, steps: int = 5, rate: float = 0.2) -> tuple[Model, float, int]:
    """Return (model after some gradient steps, its loss, number of examples)."""
    x, kinds = examples(client)
    weights, bias = model["weights"].astype(np.float64), model["bias"].astype(np.float64)
    for _ in range(steps):
        error = _probabilities(x, weights, bias) - np.eye(KINDS)[kinds]
        weights, bias = weights - rate * x.T @ error / len(x), bias - rate * error.mean(axis=0)
    loss = -np.log(_probabilities(x, weights, bias)[np.arange(len(x)), kinds]).mean()
    new = {"weights": weights, "bias": bias}
    return {name: new[name].astype(model[name].dtype) for name in model}, float(loss), len(x)


def accuracy(model: Model) -> float:
    """Return the part of the test set that the model gets right."""
    x, kinds = examples(-1)
    return float((_probabilities(x, model["weights"], model["bias"]).argmax(axis=1) == kinds).mean())


def _probabilities(x: NDArray[np.float32], weights: NDArray[np.floating], bias: NDArray[np.floating]) -> NDArray:
    logits = x @ weights + bias
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)
