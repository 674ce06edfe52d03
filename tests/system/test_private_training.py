"""The main job: on real, skewed data the private federation learns what the plain one does.

A round's mean may differ from the plain mean of the same updates by what the scheme's grid allows. Such differences
grow over rounds of training, so accuracies are compared as means: over the last five rounds, and over three seeds.
"""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean

import pytest

import fl_core
from secureagg.cli.demo.experiment import Lane, prepare, train
from secureagg.cli.demo.figures import Figures, of_run
from secureagg.cli.demo.settings import (
    DatasetName,
    ModelName,
    OneShotSettings,
    PartitionChoice,
    Scheme,
    Settings,
    TensealSettings,
)

SEEDS = (0, 1, 2)
ONE_SHOT = OneShotSettings(l2_clip=10.0, value_bits=16, members=5, absent_members=1)
TENSEAL = TensealSettings(magnitude=1.0, precision=1e-6)
DROP = 0.3
MNIST = Path(os.environ.get("SECUREAGG_MNIST", Path(__file__).parents[3] / "shared" / "data" / "mnist"))


class Unwatched:
    """Nobody looks on."""

    def saw(self, lane: str, event: fl_core.Event) -> None:
        return

    def finished(self, lane: str, result: fl_core.RoundResult) -> None:
        return


def trained(
    encryption: OneShotSettings | TensealSettings,
    drop: float,
    dataset: DatasetName,
    *,
    clients: int,
    rounds: int,
    seed: int,
) -> tuple[list[Lane], Figures]:
    settings = Settings(
        clients=clients,
        rounds=rounds,
        dataset=dataset,
        data_dir=MNIST if dataset is DatasetName.MNIST else None,
        partition=PartitionChoice.parse("dirichlet:0.5"),
        scheme=Scheme.ONE_SHOT if isinstance(encryption, OneShotSettings) else Scheme.TENSEAL,
        encryption=encryption,
        model=ModelName.CNN,
        seed=seed,
        drop=drop,
    )
    experiment = prepare(settings, quietly=True)
    lanes = train(experiment, Unwatched(), state_dir=None, resume=False)
    return lanes, of_run(experiment, lanes)


def assert_same_learning(runs: list[tuple[list[Lane], Figures]], points: float) -> None:
    """The same clients were in both trainings, every round's mean was within its limit, and accuracies agree."""
    for (plain, private), figures in runs:
        rounds = range(1, figures.settings.rounds + 1)
        assert sorted(private.deviation) == list(rounds) and figures.comparison is not None
        assert max(private.deviation.values()) <= 1.001 * figures.comparison.deviation_limit  # means are float32
        assert figures.comparison.clipped == 0
        for result, open_result in zip(private.results, plain.results, strict=True):
            assert (result.clients, result.dropped) == (open_result.clients, open_result.dropped)
    assert fmean(abs(late_accuracy(private) - late_accuracy(plain)) for (plain, private), _ in runs) <= points / 100


def late_accuracy(lane: Lane) -> float:
    return fmean(result.metrics["accuracy"] for result in lane.results[-5:])


def share_dropped(runs: list[tuple[list[Lane], Figures]]) -> float:
    results = [result for (_, private), _ in runs for result in private.results]
    return fmean(len(result.dropped) / (len(result.clients) + len(result.dropped)) for result in results)


def test_digits_one_shot_with_clients_and_a_member_away() -> None:
    runs = [trained(ONE_SHOT, DROP, DatasetName.DIGITS, clients=10, rounds=15, seed=seed) for seed in SEEDS]
    assert_same_learning(runs, points=0.5)
    assert 0.25 < share_dropped(runs) < 0.35
    assert fmean(late_accuracy(private) for (_, private), _ in runs) >= 0.85


def test_digits_tenseal() -> None:
    runs = [trained(TENSEAL, 0.0, DatasetName.DIGITS, clients=10, rounds=6, seed=seed) for seed in SEEDS[:2]]
    assert_same_learning(runs, points=0.5)
    assert share_dropped(runs) == 0


@pytest.mark.mnist
def test_mnist_one_shot_with_clients_and_a_member_away() -> None:
    runs = [trained(ONE_SHOT, DROP, DatasetName.MNIST, clients=20, rounds=15, seed=seed) for seed in SEEDS]
    assert_same_learning(runs, points=0.5)
    for (_, private), _ in runs:
        assert late_accuracy(private) >= 0.95


@pytest.mark.mnist
def test_mnist_tenseal() -> None:
    runs = [trained(TENSEAL, 0.0, DatasetName.MNIST, clients=20, rounds=15, seed=seed) for seed in SEEDS]
    assert_same_learning(runs, points=0.2)
    for (_, private), _ in runs:
        assert private.results[-1].metrics["accuracy"] >= 0.97
