"""A federated Keras run that saves its state; as a program it waits at every event, so it can be killed there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fl_core as fl


def model() -> Any:
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    )


def rounds(state_dir: Path | None, observe: Callable[[fl.Event], None] | None = None) -> list[fl.RoundResult]:
    """Six rounds of three of four clients with faults, Adam on both sides; goes on with what is saved."""
    import keras

    digits = fl.digits()
    federation = fl.Federation(
        trainer=fl.KerasTrainer(model, optimizer_fn=lambda: keras.optimizers.Adam(0.01)),
        clients=fl.localise(digits, fl.dirichlet(digits.y_train, 4, 0.5, seed=0)),
        test=(digits.x_test, digits.y_test),
        rounds=6,
        server=fl.FedAdam(),
        cohort_size=3,
        seed=11,
    )
    faults = fl.seeded_faults(2, before_training=0.1, before_send=0.1)
    run = fl.run_rounds(federation, fl.PlainMean(), faults=faults, observe=observe, state_dir=state_dir, resume=True)
    return list(run)


if __name__ == "__main__":

    def announce(event: fl.Event) -> None:
        print(event.round_number, event.stage, event.client, flush=True)
        sys.stdin.readline()

    rounds(Path(sys.argv[1]), announce)
