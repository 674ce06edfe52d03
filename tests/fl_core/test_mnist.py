"""The full MNIST, in the clear: `make test-mnist`; $SECUREAGG_MNIST names the directory of its IDX files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import fl_core as fl


@pytest.mark.mnist
def test_twenty_skewed_clients_reach_97_percent_within_15_rounds() -> None:
    mnist = fl.mnist(Path(os.environ["SECUREAGG_MNIST"]))
    assert np.bincount(mnist.y_train).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    federation = fl.Federation(
        trainer=fl.KerasTrainer(lambda: fl.small_cnn((28, 28, 1), 10)),
        clients=fl.localise(mnist, fl.dirichlet(mnist.y_train, clients=20, alpha=0.5, seed=0)),
        test=(mnist.x_test, mnist.y_test),
        rounds=15,
    )
    accuracies = (result.metrics["accuracy"] for result in fl.run_rounds(federation, fl.PlainMean()))
    assert any(accuracy >= 0.97 for accuracy in accuracies)
