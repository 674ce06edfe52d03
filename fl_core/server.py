"""Server optimizers: how the clients' mean update moves the global model.

FedAvg, FedAvgM and FedAdam after Reddi et al., "Adaptive Federated Optimization", ICLR 2021 (arXiv:2003.00295),
Algorithms 1 and 2; FedAvgM is the paper's server SGD with momentum (Hsu et al. 2019, arXiv:1909.06335). The mean
update Δ plays the part of the negative gradient, so it is added.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from fl_core.aggregation import Weights
from fl_core.errors import ParameterError

__all__ = ["FedAdam", "FedAvg", "FedAvgM", "ServerOptimizer", "ServerState", "move", "start"]

ServerState = dict[str, Weights]
"""The optimizer's slots by name: float64 arrays, one a trainable layer, in the model's order."""


class ServerOptimizer(Protocol):
    """The rule for trainable layers, all in float64. Its repr names the settings a saved run belongs to."""

    def slots(self, layers: Weights) -> ServerState:
        """The state before the first round, for layers of these shapes."""

    def step(self, deltas: Weights, state: ServerState) -> tuple[Weights, ServerState]:
        """What to add to the layers, and the next state; nothing is changed in place."""


def start(optimizer: ServerOptimizer, weights: Weights, trainable: Sequence[bool]) -> ServerState:
    """The server's state before the first round."""
    return optimizer.slots(_trained(weights, trainable))


def move(
    optimizer: ServerOptimizer, weights: Weights, mean: Weights, state: ServerState, trainable: Sequence[bool]
) -> tuple[Weights, ServerState]:
    """The next global model, in the shapes and dtypes of `weights`, and the next state.

    Trainable layers take the optimizer's step. The others (BatchNorm's moving statistics) are averages of data,
    not parameters: they take the plain mean, w + Δ, without learning rate or momentum. Sums are float64.
    """
    steps, state = optimizer.step(_trained(mean, trainable), state)
    remaining = iter(steps)
    moved = [
        np.add(layer, next(remaining) if trains else delta, dtype=np.float64).astype(layer.dtype)
        for layer, delta, trains in zip(weights, mean, trainable, strict=True)
    ]
    return moved, state


@dataclass(frozen=True)
class FedAvg:
    """x ← x + η·Δ. With learning_rate=1, the clients' weighted mean model."""

    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        _check_positive(learning_rate=self.learning_rate)

    def slots(self, layers: Weights) -> ServerState:
        return {}

    def step(self, deltas: Weights, state: ServerState) -> tuple[Weights, ServerState]:
        return [self.learning_rate * delta for delta in deltas], {}


@dataclass(frozen=True)
class FedAvgM:
    """m ← β·m + Δ;  x ← x + η·m.  m starts at 0."""

    learning_rate: float = 1.0
    momentum: float = 0.9

    def __post_init__(self) -> None:
        _check_positive(learning_rate=self.learning_rate)
        _check_decay(momentum=self.momentum)

    def slots(self, layers: Weights) -> ServerState:
        return {"momentum": [np.zeros_like(layer) for layer in layers]}

    def step(self, deltas: Weights, state: ServerState) -> tuple[Weights, ServerState]:
        momentum = [self.momentum * m + delta for m, delta in zip(state["momentum"], deltas, strict=True)]
        return [self.learning_rate * m for m in momentum], {"momentum": momentum}


@dataclass(frozen=True)
class FedAdam:
    """m ← β₁·m + (1-β₁)·Δ;  v ← β₂·v + (1-β₂)·Δ²;  x ← x + η·m / (√v + τ)  (Algorithm 2, FEDADAM).

    m starts at 0 and v at τ², the least the algorithm's `v₋₁ ≥ τ²` allows. As in the paper, and unlike Kingma
    and Ba's Adam, neither is corrected for its bias towards the start.
    """

    learning_rate: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3

    def __post_init__(self) -> None:
        _check_positive(learning_rate=self.learning_rate, tau=self.tau)
        _check_decay(beta1=self.beta1, beta2=self.beta2)

    def slots(self, layers: Weights) -> ServerState:
        zeros = [np.zeros_like(layer) for layer in layers]
        return {"first": zeros, "second": [layer + self.tau**2 for layer in zeros]}

    def step(self, deltas: Weights, state: ServerState) -> tuple[Weights, ServerState]:
        b1, b2 = self.beta1, self.beta2
        first = [b1 * m + (1 - b1) * delta for m, delta in zip(state["first"], deltas, strict=True)]
        second = [b2 * v + (1 - b2) * delta**2 for v, delta in zip(state["second"], deltas, strict=True)]
        steps = [self.learning_rate * m / (np.sqrt(v) + self.tau) for m, v in zip(first, second, strict=True)]
        return steps, {"first": first, "second": second}


def _trained(layers: Weights, trainable: Sequence[bool]) -> Weights:
    return [layer.astype(np.float64) for layer, trains in zip(layers, trainable, strict=True) if trains]


def _check_positive(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 < value < float("inf"):
            raise ParameterError(f"{name}={value}: must be finite and > 0")


def _check_decay(**settings: float) -> None:
    for name, value in settings.items():
        if not 0 <= value < 1:
            raise ParameterError(f"{name}={value}: must be in [0, 1)")
