"""In the simulation runtime: the same models as the plain mean of the quantised updates, bit for bit."""

from __future__ import annotations

import json
import math
import pickle
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.serverapp import strategy
from private_flower.task import trained
from rehearsal.settings import terms
from scipy.stats import chi2

import secureagg as sa
from tests.adapters.flower.replay import replayed
from tests.adapters.flower.runtime import APP, EXAMPLE, Runtime, started
from tests.federation import same

NODES = 4
TRAININGS = ("private FedAvg", "private FedAdam", "proven FedAvg", "plain FedAvg", "plain FedAdam")


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with started(tmp_path_factory.mktemp("simulation") / "flower", supernodes=NODES) as running:
        yield running


@pytest.fixture(scope="module")
def outcome(runtime: Runtime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the trainings left what came of them."""
    out = tmp_path_factory.mktemp("outcome")
    runtime.run(APP, out=str(out), trainings=",".join(TRAININGS), nodes=NODES, committee=4)
    assert (out / "done").exists(), runtime.logs()
    for training in TRAININGS:
        assert set(map(str, figures(out, training)["failures"].values())) == {"{}"}, training
    return out


def figures(outcome: Path, training: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((outcome / f"{training}.json").read_text())
    return found


@pytest.mark.parametrize("training", TRAININGS[:3])
def test_models_are_those_of_the_quantised_mean(outcome: Path, training: str) -> None:
    way, name = training.split()
    models = pickle.loads((outcome / f"{training}.models").read_bytes())
    expected = replayed(getattr(strategy, name)(), 4, way == "proven", [range(NODES)] * 3)
    assert len(models) == 4
    for found, right in zip(models, expected, strict=True):
        assert same([found[key] for key in right], list(right.values()))


@pytest.mark.parametrize("name", ["FedAvg", "FedAdam"])
def test_the_accuracy_curve_is_that_of_plain_training(outcome: Path, name: str) -> None:
    private, plain = figures(outcome, f"private {name}"), figures(outcome, f"plain {name}")
    assert private["accuracy"] == plain["accuracy"] and len(private["accuracy"]) == 4
    assert private["accuracy"]["3"] > 0.65 > private["accuracy"]["0"]
    assert private["loss"] == pytest.approx(plain["loss"], abs=1e-2)


@pytest.mark.parametrize(
    ("training", "extra"), [("private FedAvg", ["reveal"]), ("proven FedAvg", ["check", "reveal"])]
)
def test_extra_exchanges(outcome: Path, training: str, extra: list[str]) -> None:
    assert figures(outcome, training)["phases"] == ["setup", *["contribute", *extra] * 3]


def test_noisy_rounds_go_on_until_the_nodes_budgets_are_spent(runtime: Runtime, tmp_path: Path) -> None:
    epsilon = 30.0
    runtime.run(APP, out=str(tmp_path), trainings="private FedAvg", nodes=NODES, committee=4, epsilon=epsilon)
    assert (tmp_path / "done").exists(), runtime.logs()
    found = figures(tmp_path, "private FedAvg")
    assert found["phases"] == ["setup", *["contribute", "noise", "reveal"] * 2, "contribute"]
    assert found["failures"]["1"] == found["failures"]["2"] == {}
    assert len(found["failures"]["3"]) == NODES
    for reason in found["failures"]["3"].values():
        assert "the privacy budget is used up: 2 rounds are debited of ε = 30" in reason

    models = pickle.loads((tmp_path / "private FedAvg.models").read_bytes())[:3]
    agreed = terms({"committee": 4, "epsilon": epsilon})
    plan = agreed.plan(sa.Layout.of(list(models[0].values())), NODES)
    assert plan.noise is not None
    planned = plan.noise.std * math.sqrt(plan.noise_members) / plan.quantiser.scale / NODES
    errors = [
        np.ravel(after[name] - sum(trained(before, client)[0][name] for client in range(NODES)) / NODES)
        for before, after in pairwise(models)
        for name in before
    ]
    draws = np.concatenate(errors) / planned
    assert draws.size == 54
    assert chi2.cdf(draws @ draws, draws.size) == pytest.approx(0.5, abs=0.5 - 5e-8)  # else one run in 10^7 is unlucky


def test_the_example_runs(runtime: Runtime) -> None:
    log = runtime.run(EXAMPLE)
    assert "Strategy execution finished" in log and "failures" in log, runtime.logs()
    accuracies = log.rpartition("ServerApp-side Evaluate Metrics")[2]
    assert "'accuracy'" in accuracies and " 0 results" not in log
