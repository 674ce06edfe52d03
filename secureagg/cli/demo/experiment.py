"""The demo's experiment: one federation trained in the clear and, on the same seeds, privately."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np

import fl_core
from fl_core.extras import extra
from secureagg.adapters.fl_core import OneShotAggregation, TensealAggregation
from secureagg.adapters.fl_core_ledgers import ClientLedgers, Ledgered
from secureagg.cli.demo.saved import Notes, read_notes, write_notes
from secureagg.cli.demo.settings import (
    DP_SGD,
    DatasetName,
    ModelName,
    OneShotSettings,
    Settings,
    TensealSettings,
    Unit,
)
from secureagg.cli.demo.spending import (
    AggregatorMeter,
    Meter,
    assumed_corrupt,
    distributed_noise,
    dp_sgd_terms,
    float_noise,
    open_meter,
    quorum,
)
from secureagg.errors import BudgetExhausted, ParameterError
from secureagg.events import Observer
from secureagg.plan import Committee, RoundPlan
from secureagg.warm import warm_up

__all__ = ["Experiment", "Lane", "Watch", "prepare", "train", "train_lanes"]


@dataclass(frozen=True)
class Experiment:
    """A federation ready to be trained. `holdings[client][label]` counts the examples a client has of a label.

    plan: that of every round, if `private` is one-shot. private_federation: the same, but for how its clients train.
    meter: the ledgers, if there is a budget.
    """

    settings: Settings
    federation: fl_core.Federation
    private_federation: fl_core.Federation
    faults: fl_core.Faults | None
    private: OneShotAggregation | TensealAggregation | None
    plan: RoundPlan | None
    holdings: tuple[tuple[int, ...], ...]
    model_values: int
    meter: Meter | None = None

    @property
    def examples(self) -> tuple[int, ...]:
        """How many examples each client has."""
        return tuple(map(sum, self.holdings))

    def close(self) -> None:
        """Release the ledgers' files."""
        if self.meter is not None:
            self.meter.close()


@dataclass
class Lane:
    """One of the trainings that run side by side; `deviation`, `clipped` and `spent` (ε so far) are by round, and empty
    where there is no such thing.

    private: whether it trains in `private_federation`, and tells no client's loss. collapsed: why it ended before its
    time, if it did; exhausted: the same, if its budget did not reach further.
    """

    name: str
    aggregation: fl_core.Aggregation
    deviation: dict[int, float] = field(default_factory=dict)
    clipped: dict[int, int] = field(default_factory=dict)
    results: list[fl_core.RoundResult] = field(default_factory=list)
    collapsed: str | None = None
    private: bool = False
    meter: Meter | None = None
    spent: dict[int, float] = field(default_factory=dict)
    exhausted: str | None = None


class Watch(Protocol):
    """Whoever looks on while lanes are trained."""

    def saw(self, lane: str, event: fl_core.Event) -> None: ...

    def finished(self, lane: str, result: fl_core.RoundResult) -> None: ...


def prepare(
    settings: Settings, *, quietly: bool, observe: Observer | None = None, ledgers: Path | None = None
) -> Experiment:
    """Load the data, spread it over the clients, and build keys and model: all that can fail before a round.

    Errors come in the order of the time they take: a missing TenSEAL is known before TensorFlow is loaded.
    observe: is told as kernels become ready, which takes some ten seconds once on a machine. ledgers: where they are
    kept, if there is a budget.
    """
    dataset = _dataset(settings)
    model_fn = _model_fn(settings, dataset)
    partition = _partition(settings, dataset)
    examples = [len(part) for part in partition]
    private = _private_aggregation(settings, max_weight=max(examples) if settings.privacy is None else 1)
    _load_tensorflow(quietly)
    trainer = _trainer(settings, dataset, model_fn)
    federation = fl_core.Federation(
        trainer,
        fl_core.localise(dataset, partition),
        (dataset.x_test, dataset.y_test),
        settings.rounds,
        quorum=quorum(settings),
        weighting="examples" if settings.privacy is None else "uniform",
        seed=settings.seed,
    )
    rate = settings.drop / 2
    model = trainer.initial_weights(settings.seed)
    plan, meter = None, None
    if isinstance(private, OneShotAggregation):
        plan = private.plan(model, settings.clients)
        warm_up(observe)
    if ledgers is not None:
        assert isinstance(private, OneShotAggregation) and plan is not None
        meter = open_meter(settings, plan, examples, ledgers)
        if isinstance(meter, AggregatorMeter):
            private.ledger = meter.ledger
    return Experiment(
        settings=settings,
        federation=federation,
        private_federation=_private_federation(settings, federation, trainer),
        faults=fl_core.seeded_faults(settings.seed, before_training=rate, before_send=rate) if rate else None,
        private=private,
        plan=plan,
        holdings=tuple(
            tuple(np.bincount(dataset.y_train[part], minlength=dataset.classes).tolist()) for part in partition
        ),
        model_values=sum(layer.size for layer in model),
        meter=meter,
    )


def train(experiment: Experiment, watch: Watch, state_dir: Path | None, resume: bool) -> list[Lane]:
    """Train in the clear and, unless the scheme is plain, privately; a round of one, then the same of the other.

    In turn, so that a machine that slows down does so for both. With a budget all end when it is gone. With
    `state_dir`, each lane is saved in its own folder of it after each round, and `resume` goes on from there.
    """
    lanes = [Lane("plain", fl_core.PlainMean())]
    budget, encryption = experiment.settings.privacy, experiment.settings.encryption
    if budget is not None and budget.unit is Unit.CLIENT:
        assert isinstance(encryption, OneShotSettings)
        lanes.append(Lane("floating", float_noise(budget, encryption.l2_clip, experiment.settings.seed)))
    if experiment.private is not None:
        lanes.append(_private_lane(experiment, experiment.private))
    # With a budget the private one goes first in each round: it is the one that may end them all.
    turns = lanes if budget is None else lanes[::-1]
    train_lanes(experiment, turns, watch, state_dir, resume=resume)
    return lanes


def _private_lane(experiment: Experiment, private: OneShotAggregation | TensealAggregation) -> Lane:
    """Return the lane beside whose means, unless they carry noise, the plain ones are taken."""
    clipped = private.clipped if isinstance(private, OneShotAggregation) else {}
    lane = Lane("private", private, clipped=clipped, private=True, meter=experiment.meter)
    if experiment.plan is None or experiment.plan.noise is None:
        beside = fl_core.Beside(private, fl_core.PlainMean())
        lane.aggregation, lane.deviation = beside, beside.deviation
    if isinstance(experiment.meter, ClientLedgers):
        lane.aggregation = Ledgered(lane.aggregation, experiment.meter, quorum(experiment.settings))
    return lane


def train_lanes(
    experiment: Experiment,
    lanes: Sequence[Lane],
    watch: Watch,
    state_dir: Path | None = None,
    *,
    resume: bool = False,
    endure: bool = False,
) -> None:
    """Train all lanes, a round of each in turn, and leave the results in them.

    endure: a lane in which too few clients can still train ends there, and tells so; else its QuorumError passes.
    A lane whose budget is gone ends them all, since what the others did alone could not be compared.
    Raises: BudgetExhausted, if the budget does not reach for one round.
    """
    running = [(lane, _rounds(experiment, lane, watch, state_dir, resume)) for lane in lanes]
    while running:
        lane, rounds = min(running, key=lambda pair: len(pair[0].results))
        try:
            result = next(rounds, None)
        except fl_core.QuorumError as error:
            if not (endure and lane.results):
                raise
            lane.collapsed, result = str(error), None
        except BudgetExhausted as error:
            if not lane.results:
                raise
            lane.exhausted = str(error)
            return
        if result is None:
            running.remove((lane, rounds))
        else:
            lane.results.append(result)
            watch.finished(lane.name, result)


def _rounds(
    experiment: Experiment, lane: Lane, watch: Watch, state_dir: Path | None, resume: bool
) -> Iterator[fl_core.RoundResult]:
    """Yield a lane's rounds, those of an earlier process first."""
    folder = state_dir / lane.name if state_dir else None
    if folder and resume:
        yield from fl_core.read_history(folder)[: experiment.settings.rounds]
        notes = read_notes(folder, experiment.settings)
        lane.deviation.update(notes.deviation)
        lane.clipped.update(notes.clipped)
        lane.spent.update(notes.spent)
    for result in fl_core.run_rounds(
        experiment.private_federation if lane.private else experiment.federation,
        lane.aggregation,
        faults=experiment.faults,
        observe=partial(watch.saw, lane.name),
        state_dir=folder,
        resume=resume,
    ):
        if lane.meter is not None:
            lane.spent[result.round_number] = lane.meter.spent()
        if folder and lane.private:
            write_notes(folder, experiment.settings, Notes(lane.deviation, lane.clipped, lane.spent))
        yield result


def _dataset(settings: Settings) -> fl_core.Dataset:
    if settings.dataset is DatasetName.MNIST:
        return fl_core.mnist(settings.data_dir)
    if settings.data_dir is not None:
        raise ParameterError(f"data_dir={settings.data_dir}: {settings.dataset} is bundled; leave --data-dir out")
    return fl_core.digits() if settings.dataset is DatasetName.DIGITS else fl_core.breast_cancer()


def _model_fn(settings: Settings, dataset: fl_core.Dataset) -> Callable[[], object]:
    shape = dataset.x_train.shape[1:]
    if settings.model is ModelName.MLP:
        return partial(fl_core.mlp, shape, dataset.classes)
    if len(shape) != 3:
        raise ParameterError(f"model=cnn needs images, and {settings.dataset} has none; use --model mlp")
    height, width, channels = shape
    return partial(fl_core.small_cnn, (height, width, channels), dataset.classes)


def _trainer(settings: Settings, dataset: fl_core.Dataset, model_fn: Callable[[], object]) -> fl_core.KerasTrainer:
    local = settings.local_training
    trainer = fl_core.KerasTrainer(
        model_fn,
        optimizer_fn=partial(extra("keras").optimizers.SGD, local.learning_rate),
        epochs=local.epochs,
        batch_size=local.batch_size,
    )
    # Both compiled steps are traced on first use; without this the first lane would pay for it.
    weights = trainer.initial_weights(settings.seed)
    trainer.train(weights, dataset.x_train[:1], dataset.y_train[:1], settings.seed)
    trainer.evaluate(weights, dataset.x_test[:1], dataset.y_test[:1])
    return trainer


def _private_federation(
    settings: Settings, federation: fl_core.Federation, trainer: fl_core.KerasTrainer
) -> fl_core.Federation:
    """Return the federation, with a trainer of DP-SGD if the budget is about examples."""
    if settings.privacy is None or settings.privacy.unit is not Unit.EXAMPLE:
        return federation
    from secureagg.adapters.fl_core_dpsgd import PrivateTrainer  # imports TensorFlow

    optimizer_fn = partial(extra("keras").optimizers.SGD, DP_SGD[settings.dataset].learning_rate)
    private = PrivateTrainer(trainer, optimizer_fn, dp_sgd_terms(settings))
    # As in `_trainer`: its step is traced once for each noise, and so for each size. Nothing of it leaves.
    weights = private.initial_weights(settings.seed)
    for x, y in {len(y): (x, y) for x, y in federation.clients}.values():
        private.train(weights, x, y, settings.seed)
    return replace(federation, trainer=private)


def _partition(settings: Settings, dataset: fl_core.Dataset) -> fl_core.Partition:
    labels, choice = dataset.y_train, settings.partition
    if choice.kind == "iid":
        return fl_core.iid(labels, settings.clients, settings.seed)
    assert choice.value is not None  # PartitionChoice.parse sees to it
    if choice.kind == "shards":
        return fl_core.shards(labels, settings.clients, int(choice.value), settings.seed)
    return fl_core.dirichlet(labels, settings.clients, choice.value, settings.seed)


def _private_aggregation(settings: Settings, max_weight: int) -> OneShotAggregation | TensealAggregation | None:
    match settings.encryption:
        case OneShotSettings() as chosen:
            return OneShotAggregation(
                quorum=quorum(settings),
                l2_clip=chosen.l2_clip,
                value_bits=chosen.value_bits,
                committee=Committee(chosen.members),
                max_weight=max_weight,
                assumed_corrupt_clients=assumed_corrupt(settings),
                proofs=chosen.proofs,
                noise=(noise := distributed_noise(settings, proofs=chosen.proofs)),
                rotate=noise is not None,
                absent_members=range(chosen.absent_members),
                seed=settings.seed,
            )
        case TensealSettings() as chosen:
            return TensealAggregation(settings.clients, chosen.magnitude, chosen.precision, max_weight)
        case None:
            return None


def _load_tensorflow(quietly: bool) -> None:
    """Import TensorFlow and Keras, without a word if `quietly`: neither the loader's nor, later, the runtime's.

    What is logged before abseil is set up heeds no setting, so the process's stderr is closed meanwhile.
    Raises: fl_core.MissingExtraError.
    """
    if quietly:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _without_stderr() if quietly else nullcontext():
        extra("tensorflow")
        extra("keras")


@contextmanager
def _without_stderr() -> Iterator[None]:
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
