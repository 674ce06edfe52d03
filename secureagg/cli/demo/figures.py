"""The figures of a demo run: what table, report and JSON all show."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

import secureagg
from fl_core import STAGES, RoundResult
from secureagg.adapters.fl_core import TensealAggregation
from secureagg.cli.demo.experiment import Experiment, Lane
from secureagg.cli.demo.privacy_figures import PrivacyFigures, of_budget
from secureagg.cli.demo.settings import LocalTraining, Settings, TensealSettings

__all__ = ["Comparison", "Figures", "RoundFigures", "TrainingFigures", "installed", "of_lane", "of_run", "ratio"]

_AGGREGATION_STAGES = ("contribute", "admit", "finish")
_LATE_ROUNDS = 5
_PACKAGES = ("numpy", "numba", "cryptography", "tensorflow", "keras", "scikit-learn", "tenseal")


@dataclass(frozen=True)
class RoundFigures:
    """One round. `accuracy`, `loss`: of the global model on the test examples. `client_loss`: mean over the clients
    in the mean; None where a budget covers none of it. `deviation`: largest difference to the plain mean of the same
    updates. `clipped`: how many of them were scaled down or clamped. `epsilon`: spent so far, if there is a budget."""

    round_number: int
    accuracy: float
    loss: float
    client_loss: float | None
    clients: tuple[int, ...]
    dropped: dict[int, str]
    seconds: dict[str, float]
    deviation: float | None
    clipped: int
    epsilon: float | None


@dataclass(frozen=True)
class TrainingFigures:
    """One training. `late_accuracy` is the mean of the last five rounds, or of all if they are fewer; bytes are the
    mean of a client and round."""

    final_accuracy: float
    late_accuracy: float
    final_loss: float
    bytes_up_per_client: float
    bytes_down_per_client: float
    seconds: dict[str, float]
    seconds_total: float
    rounds: tuple[RoundFigures, ...]

    @property
    def late_rounds(self) -> int:
        """Of how many rounds `late_accuracy` is the mean."""
        return min(_LATE_ROUNDS, len(self.rounds))


@dataclass(frozen=True)
class Comparison:
    """Private against plain. Ratios are private ÷ plain; a ratio to nothing is None.

    deviation_limit: no round's deviation is larger, unless updates were clipped; None if means carry noise
    """

    late_accuracy_points: float
    max_deviation: float | None
    deviation_limit: float | None
    clipped: int
    ratio_bytes_up: float | None
    ratio_bytes_down: float | None
    ratio_seconds: dict[str, float | None]
    ratio_seconds_total: float | None


@dataclass(frozen=True)
class Figures:
    """`holdings[client][label]` counts a client's examples; `parameters` explains the encryption's; `key_bytes` is
    what each client needs of a public key, once, if there is one. `floating` is trained in the clear with noise in
    floats, beside one that has a budget about clients."""

    version: str
    settings: Settings
    versions: dict[str, str]
    model_values: int
    local_training: LocalTraining
    holdings: tuple[tuple[int, ...], ...]
    parameters: str | None
    key_bytes: int | None
    plain: TrainingFigures
    private: TrainingFigures | None
    floating: TrainingFigures | None
    comparison: Comparison | None
    privacy: PrivacyFigures | None

    @property
    def trainings(self) -> dict[str, TrainingFigures]:
        """The trainings by the names of their lanes."""
        lanes = {"plain": self.plain, "floating": self.floating, "private": self.private}
        return {name: training for name, training in lanes.items() if training is not None}

    def to_json(self) -> str:
        """All of it, indented; paths and choices as the command line takes them."""
        record = asdict(self)
        record["settings"]["partition"] = str(self.settings.partition)
        return json.dumps(record, indent=2, default=str, allow_nan=False)


def of_run(experiment: Experiment, lanes: Sequence[Lane]) -> Figures:
    """Return the figures of lanes that have finished."""
    trained = {lane.name: of_lane(lane) for lane in lanes}
    plain, private = trained["plain"], trained.get("private")
    key = experiment.private.public if isinstance(experiment.private, TensealAggregation) else None
    parameters = key.parameters if key else experiment.plan
    return Figures(
        version=secureagg.__version__,
        settings=experiment.settings,
        versions=installed(),
        model_values=experiment.model_values,
        local_training=experiment.settings.local_training,
        holdings=experiment.holdings,
        parameters=parameters.report() if parameters else None,
        key_bytes=len(key.to_bytes()) if key else None,
        plain=plain,
        private=private,
        floating=trained.get("floating"),
        comparison=_comparison(experiment, plain, private) if private else None,
        privacy=of_budget(experiment, next(lane for lane in lanes if lane.private)) if experiment.meter else None,
    )


def of_lane(lane: Lane) -> TrainingFigures:
    """Return the figures of a lane that has finished a round at least."""
    rounds = tuple(_round(result, lane) for result in lane.results)
    late = rounds[-_LATE_ROUNDS:]
    seconds = {stage: math.fsum(figures.seconds[stage] for figures in rounds) for stage in STAGES}
    return TrainingFigures(
        final_accuracy=rounds[-1].accuracy,
        late_accuracy=_mean(figures.accuracy for figures in late),
        final_loss=rounds[-1].loss,
        bytes_up_per_client=_mean(size for result in lane.results for size in result.bytes_up.values()),
        bytes_down_per_client=_mean(size for result in lane.results for size in result.bytes_down.values()),
        seconds=seconds,
        seconds_total=math.fsum(seconds.values()),
        rounds=rounds,
    )


def _round(result: RoundResult, lane: Lane) -> RoundFigures:
    # The aggregation's own account of its stages: the engine's would count the oracle that runs beside it as well.
    own = {stage: result.aggregation_seconds[stage] for stage in _AGGREGATION_STAGES}
    return RoundFigures(
        round_number=result.round_number,
        accuracy=result.metrics["accuracy"],
        loss=result.metrics["loss"],
        client_loss=None if lane.private and lane.meter else _mean(result.losses.values()),
        clients=result.clients,
        dropped=result.dropped,
        seconds={stage: (result.seconds | own)[stage] for stage in STAGES},
        deviation=lane.deviation.get(result.round_number),
        clipped=lane.clipped.get(result.round_number, 0),
        epsilon=lane.spent.get(result.round_number),
    )


def _comparison(experiment: Experiment, plain: TrainingFigures, private: TrainingFigures) -> Comparison:
    return Comparison(
        late_accuracy_points=100 * (private.late_accuracy - plain.late_accuracy),
        max_deviation=max((r.deviation for r in private.rounds if r.deviation is not None), default=None),
        deviation_limit=_deviation_limit(experiment, private),
        clipped=sum(r.clipped for r in private.rounds),
        ratio_bytes_up=ratio(private.bytes_up_per_client, plain.bytes_up_per_client),
        ratio_bytes_down=ratio(private.bytes_down_per_client, plain.bytes_down_per_client),
        ratio_seconds={stage: ratio(private.seconds[stage], plain.seconds[stage]) for stage in STAGES},
        ratio_seconds_total=ratio(private.seconds_total, plain.seconds_total),
    )


def _deviation_limit(experiment: Experiment, private: TrainingFigures) -> float | None:
    """Return what was asked for or, on a grid, n·max_weight / (scale·Σw) in the worst round; None with noise.

    Each of a round's n clients rounds to less than a grid step, at max_weight; the mean divides by the weights' sum.
    """
    if isinstance(experiment.settings.encryption, TensealSettings):
        return experiment.settings.encryption.precision
    assert experiment.plan is not None
    if experiment.plan.noise is not None:
        return None
    uniform = experiment.federation.weighting == "uniform"
    weights = [1] * len(experiment.examples) if uniform else experiment.examples
    worst = max(len(r.clients) / sum(weights[client] for client in r.clients) for r in private.rounds)
    return worst * experiment.plan.max_weight / experiment.plan.quantiser.scale


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return math.fsum(found) / len(found) if found else 0.0


def ratio(private: float, plain: float) -> float | None:
    """Return private ÷ plain, None if plain is nothing."""
    return private / plain if plain > 0 else None


def installed() -> dict[str, str]:
    """Return the versions of what is used, and the machine."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return {"python": platform.python_version()} | found | {"machine": machine}
