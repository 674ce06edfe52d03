"""Does private training learn what the same training with float Gaussian noise and no encryption does, within a point?

MNIST over 200 clients, i.i.d., 300 examples each; an MLP of 25,450 weights. Two budgets, as `secureagg demo` spends
them: ε = 8 for one client, by noise that the clients add inside the encrypted sum; ε = 3 for one example of a client,
by DP-SGD on Poisson batches, the updates then summed encrypted. Beside each, on the same data, model and steps: the
training in the clear without noise; and with floating-point Gaussian noise and a plain mean. For clients that noise is
what a trusted server would add for the same (ε, δ); for examples it replaces DP-SGD's exact noise, as calibrated.
Neither float baseline claims any privacy. Nobody drops out, and one client in twenty is assumed to add no noise, which
the float baseline need not assume.

Accuracies are means of the last five rounds, over the seeds of data, model and batches in the clear; private noise and
batches come from the operating system, and differ from run to run. ε of each round is the ledger's.

    python -m benchmarks.private_training [--mnist DIR]     # or SECUREAGG_MNIST=DIR; DIR holds the four IDX files

From a clean tree it also writes benchmarks/results/private_training.json and .svg. Takes some twelve minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import fl_core
from benchmarks.report import provenance, table, write, write_picture
from fl_core.extras import extra
from secureagg.adapters.fl_core_dpsgd import PrivateTrainer, Tensor
from secureagg.adapters.fl_core_ledgers import DpSgdTerms
from secureagg.cli.demo.experiment import Experiment, Lane, prepare, train, train_lanes
from secureagg.cli.demo.occasions import DEFAULT_DELTA, Occasion
from secureagg.cli.demo.settings import (
    DP_SGD,
    DatasetName,
    ModelName,
    OneShotSettings,
    PartitionChoice,
    PrivacySettings,
    Scheme,
    Settings,
    Unit,
)
from secureagg.cli.demo.spending import dp_sgd_terms, ledger_home
from secureagg.dp.dpsgd.gradients import clipped_sums

CLIENTS, ROUNDS, SEEDS, LATE = 200, 20, (0, 1), 5
BUDGETS = {Unit.CLIENT: 8.0, Unit.EXAMPLE: 3.0}
OCCASIONS = {Unit.CLIENT: Occasion.CLIENT_PRIVACY, Unit.EXAMPLE: Occasion.EXAMPLE_PRIVACY}
POINTS = 1.0  # target: accuracies agree within this
LANES = {"plain": "in the clear, no noise", "floating": "in the clear, float noise", "private": "encrypted, private"}
COLOURS = {"plain": "#9db4c8", "floating": "#8a6fb0", "private": "#b3402a"}
MNIST = Path(os.environ.get("SECUREAGG_MNIST", Path(__file__).parents[2] / "shared" / "data" / "mnist"))


@dataclass(frozen=True)
class Curve:
    """One training: accuracy on the test examples by round; `epsilon`: spent so far, of a private one."""

    lane: str
    seed: int
    accuracies: list[float]
    epsilon: list[float]

    @property
    def late(self) -> float:
        return fmean(self.accuracies[-LATE:])


class Unwatched:
    """Tells of finished rounds alone."""

    def __init__(self, name: str) -> None:
        self._name = name

    def saw(self, lane: str, event: fl_core.Event) -> None:
        return

    def finished(self, lane: str, result: fl_core.RoundResult) -> None:
        accuracy = result.metrics["accuracy"]
        print(f"{self._name}, {LANES[lane]}, round {result.round_number}: {accuracy:.2%}", file=sys.stderr)


class FloatTrainer(PrivateTrainer):
    """The same DP-SGD with TensorFlow's float normals from a seed: a baseline of learning without a claim."""

    def __init__(
        self, inner: fl_core.KerasTrainer, optimizer_fn: Callable[[], Any], terms: DpSgdTerms, seed: int
    ) -> None:
        super().__init__(inner, optimizer_fn, terms)
        self._normals = extra("tensorflow").random.Generator.from_seed(seed)

    def gradients(
        self, x: Tensor, y: Tensor, mask: Tensor, noise_multiplier: float, expected_batch: float
    ) -> list[Tensor]:
        clip = self._terms.l2_clip
        sums = clipped_sums(self._model, self._loss, x, y, mask, l2_clip=clip).sums
        std = noise_multiplier * clip
        return [(one + self._normals.normal(one.shape, stddev=std)) / expected_batch for one in sums]


def settings_of(unit: Unit, seed: int, clients: int, rounds: int, mnist: Path) -> Settings:
    defaults = OCCASIONS[unit].value
    return Settings(
        clients=clients,
        rounds=rounds,
        dataset=DatasetName.MNIST,
        data_dir=mnist,
        partition=PartitionChoice("iid"),
        scheme=Scheme.ONE_SHOT,
        encryption=OneShotSettings(defaults.l2_clip, defaults.value_bits, members=5, absent_members=1),
        model=ModelName.MLP,
        seed=seed,
        drop=0.0,
        privacy=PrivacySettings(unit, BUDGETS[unit], DEFAULT_DELTA, rounds),
    )


def curves(settings: Settings) -> list[Curve]:
    """Return the three trainings of one budget and seed."""
    assert settings.privacy is not None
    watch = Unwatched(f"one {settings.privacy.unit}, seed {settings.seed}")
    with ledger_home(settings.privacy, None, None) as home:
        experiment = prepare(settings, quietly=True, ledgers=home)
        with closing(experiment):
            lanes = train(experiment, watch, state_dir=None, resume=False)
    if settings.privacy.unit is Unit.EXAMPLE:
        lanes.append(float_lane(experiment, watch))
    return [
        Curve(lane.name, settings.seed, [r.metrics["accuracy"] for r in lane.results], list(lane.spent.values()))
        for lane in lanes
    ]


def float_lane(experiment: Experiment, watch: Unwatched) -> Lane:
    """Train by the same DP-SGD with float noise, on a plain mean."""
    settings, trainer = experiment.settings, experiment.federation.trainer
    assert isinstance(trainer, fl_core.KerasTrainer)
    optimizer_fn = partial(extra("keras").optimizers.SGD, DP_SGD[settings.dataset].learning_rate)
    floating = FloatTrainer(trainer, optimizer_fn, dp_sgd_terms(settings), settings.seed)
    lane = Lane("floating", fl_core.PlainMean())
    federation = replace(experiment.federation, trainer=floating)
    train_lanes(replace(experiment, federation=federation), [lane], watch)
    return lane


def late(found: Sequence[Curve], lane: str) -> float:
    """Return a lane's accuracy, the mean over seeds."""
    return fmean(curve.late for curve in found if curve.lane == lane)


def verdicts(found: dict[Unit, list[Curve]]) -> list[str]:
    """Return two lines a budget."""
    lines = []
    for unit, its_curves in found.items():
        points = 100 * (late(its_curves, "private") - late(its_curves, "floating"))
        met = "met" if abs(points) <= POINTS else "MISSED"
        lines.append(
            f"ε = {BUDGETS[unit]:g} for one {unit}: encrypted less float noise {points:+.2f} points; "
            f"target within {POINTS:g}: {met}"
        )
        spent = max(curve.epsilon[-1] for curve in its_curves if curve.epsilon)
        met = "met" if spent <= BUDGETS[unit] else "MISSED"
        lines.append(f"one {unit}: ε spent {spent:.4f}; target ≤ {BUDGETS[unit]:g}: {met}")
    return lines


def draw(found: dict[Unit, list[Curve]], path: Path) -> None:
    """Write the picture: accuracy over the ε spent by then, means over seeds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, (unit, its_curves) in zip(figure.subplots(1, len(found)), found.items(), strict=True):
        epsilon = next(curve.epsilon for curve in its_curves if curve.epsilon)
        for lane, title in LANES.items():
            runs = [curve.accuracies for curve in its_curves if curve.lane == lane]
            means = [100 * fmean(round_of_each) for round_of_each in zip(*runs, strict=True)]
            axes.plot(epsilon, means, marker=".", color=COLOURS[lane], label=title)
        axes.axvline(BUDGETS[unit], color="#6b7280", linestyle="--", linewidth=1, label="budget")
        axes.set(xlabel=f"ε spent, one {unit}, δ = {DEFAULT_DELTA:g}", ylabel="accuracy on MNIST's test examples, %")
        axes.set_xlim(left=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="lower right")
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean and the run is a whole one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mnist", type=Path, default=MNIST, help="directory of MNIST's four IDX files")
    parser.add_argument("--smoke", action="store_true", help="20 clients, two rounds, one seed: only whether it runs")
    chosen = parser.parse_args()
    if not chosen.mnist.is_dir():
        print(f"not run: {chosen.mnist} is no directory of MNIST's files; give --mnist or SECUREAGG_MNIST")
        return
    clients, rounds, seeds = (20, 2, SEEDS[:1]) if chosen.smoke else (CLIENTS, ROUNDS, SEEDS)
    source = provenance(["numpy", "numba", "cryptography", "tensorflow", "keras", "dp-accounting"])
    found = {
        unit: [curve for seed in seeds for curve in curves(settings_of(unit, seed, clients, rounds, chosen.mnist))]
        for unit in BUDGETS
    }
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [f"ε = {BUDGETS[unit]:g}, one {unit}", *(f"{late(its_curves, lane):.2%}" for lane in LANES)]
        for unit, its_curves in found.items()
    ]
    print(table(["budget", *LANES.values()], rows), "\n")
    results = verdicts(found)
    print("\n".join(results))
    if chosen.smoke:
        print("not written: a smoke run")
        return
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {
            "clients": clients, "rounds": rounds, "seeds": list(seeds), "late_rounds": LATE, "delta": DEFAULT_DELTA,
            "budgets": {str(unit): epsilon for unit, epsilon in BUDGETS.items()},
        },
        "figures": {
            str(unit): {lane: late(its_curves, lane) for lane in LANES} for unit, its_curves in found.items()
        },
        "curves": {str(unit): [vars(curve) for curve in its_curves] for unit, its_curves in found.items()},
        "verdicts": results,
    }  # fmt: skip
    print(write("private_training", figures))
    print(write_picture("private_training", lambda path: draw(found, path)))


if __name__ == "__main__":
    main()
