"""Server optimizers: vectors computed by hand, and the plain mean of what is not trained."""

from __future__ import annotations

import numpy as np
import pytest

import fl_core as fl
from fl_core.server import move, start

TRAINABLE = (True, False)


def run(optimizer: fl.ServerOptimizer, deltas: list[float]) -> list[float]:
    """The trajectory of one scalar from 1.0; beside it a layer that is not trained, checked against the plain mean."""
    weights = [np.array(1.0), np.array([5.0])]
    state = start(optimizer, weights, TRAINABLE)
    trajectory = []
    for delta in deltas:
        before = weights
        weights, state = move(optimizer, weights, [np.array(delta), np.array([delta])], state, TRAINABLE)
        np.testing.assert_array_equal(weights[1], before[1] + delta)
        trajectory.append(float(weights[0]))
    return trajectory


def test_fedavg_adds_the_mean() -> None:
    assert run(fl.FedAvg(), [0.5, -0.25]) == [1.5, 1.25]
    assert run(fl.FedAvg(learning_rate=0.5), [0.5, -0.25]) == [1.25, 1.125]


def test_fedavgm_keeps_momentum() -> None:
    # m = 1, then 0.5·1 + 0 = 0.5, then 0.25 - 1 = -0.75; η = 2
    assert run(fl.FedAvgM(learning_rate=2.0, momentum=0.5), [1.0, 0.0, -1.0]) == [3.0, 4.0, 2.5]


def test_fedadam_follows_algorithm_2_without_bias_correction() -> None:
    # τ = 1, v₋₁ = 1, β₁ = β₂ = 0.5, η = 1:
    # m = 0.5,  v = 0.5 + 0.5·1 = 1     x = 1 + 0.5 / (1 + 1)
    # m = 0.75, v = 0.5 + 0.5·1 = 1     x = 1.25 + 0.75 / 2
    # m = 1.375, v = 0.5 + 0.5·4 = 2.5  x = 1.625 + 1.375 / (√2.5 + 1)
    optimizer = fl.FedAdam(learning_rate=1.0, beta1=0.5, beta2=0.5, tau=1.0)
    expected = [1.25, 1.625, 1.625 + 1.375 / (2.5**0.5 + 1)]
    assert run(optimizer, [1.0, 1.0, 2.0]) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("optimizer", [fl.FedAvg(0.3), fl.FedAvgM(0.3), fl.FedAdam()])
def test_shapes_dtypes_and_inputs_are_kept(optimizer: fl.ServerOptimizer) -> None:
    weights = [np.ones((2, 0, 3), np.float32), np.ones((), np.float16), np.ones(4, np.float64)]
    mean = [np.full_like(layer, 0.5) for layer in weights]
    trainable = (True, True, False)
    state = start(optimizer, weights, trainable)
    before = [layer.copy() for layer in (*weights, *mean, *(x for slot in state.values() for x in slot))]
    moved, _ = move(optimizer, weights, mean, state, trainable)
    assert [(layer.shape, layer.dtype) for layer in moved] == [(layer.shape, layer.dtype) for layer in weights]
    after = [*weights, *mean, *(x for slot in state.values() for x in slot)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize(
    ("build", "culprit"),
    [
        (lambda: fl.FedAvg(0.0), "learning_rate=0.0"),
        (lambda: fl.FedAvg(float("nan")), "learning_rate=nan"),
        (lambda: fl.FedAvgM(1.0, momentum=1.0), "momentum=1.0"),
        (lambda: fl.FedAdam(beta1=-0.1), "beta1=-0.1"),
        (lambda: fl.FedAdam(beta2=1.0), "beta2=1.0"),
        (lambda: fl.FedAdam(tau=0.0), "tau=0.0"),
        (lambda: fl.FedAdam(learning_rate=float("inf")), "learning_rate=inf"),
    ],
)
def test_infeasible_settings_are_refused_by_name(build, culprit) -> None:
    with pytest.raises(fl.ParameterError, match=culprit):
        build()
