"""The figures of an attacked run: what table, report and JSON all show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import secureagg
from secureagg.cli.demo.attacked import LANES, AttackedExperiment, AttackedLane
from secureagg.cli.demo.figures import TrainingFigures, installed, of_lane
from secureagg.cli.demo.settings import AttackSettings, LocalTraining, Settings

__all__ = ["AttackFigures", "AttackedTraining", "Refusal", "finite", "of_attack"]


@dataclass(frozen=True)
class Refusal:
    """A client whose contributions were refused for one reason, and in which rounds."""

    client: int
    malicious: bool
    reason: str
    rounds: tuple[int, ...]


@dataclass(frozen=True)
class AttackedTraining:
    """One training. Contributions of malicious clients are counted as `sent`, and as `summed` where they are in a mean.

    refusals: of contributions that were sent. lost: by round, why its sum could not be opened; the model stayed as it
    was. collapsed: why the training ended early, None if it did not.
    """

    figures: TrainingFigures
    sent: int
    summed: int
    refusals: tuple[Refusal, ...]
    lost: dict[int, str]
    collapsed: str | None


@dataclass(frozen=True)
class AttackFigures:
    """`honest` is trained in the clear and without the attack; `parameters` explains the plan with proofs."""

    version: str
    settings: Settings
    attack: AttackSettings
    versions: dict[str, str]
    model_values: int
    local_training: LocalTraining
    holdings: tuple[tuple[int, ...], ...]
    parameters: str
    honest: AttackedTraining
    unproven: AttackedTraining
    proven: AttackedTraining

    @property
    def lanes(self) -> dict[str, AttackedTraining]:
        """The trainings by the names of their lanes."""
        return dict(zip(LANES, (self.honest, self.unproven, self.proven), strict=True))

    @property
    def trainings(self) -> dict[str, TrainingFigures]:
        """Their figures alone."""
        return {name: lane.figures for name, lane in self.lanes.items()}

    def to_json(self) -> str:
        """All of it, indented; a loss that is no number is null."""
        record = finite(asdict(self))
        record["settings"]["partition"] = str(self.settings.partition)
        return json.dumps(record, indent=2, default=str, allow_nan=False)


def of_attack(experiment: AttackedExperiment, lanes: Sequence[AttackedLane]) -> AttackFigures:
    """Return the figures of lanes that have finished."""
    base = experiment.base
    honest, unproven, proven = (_trained(lane, experiment.attack) for lane in lanes)
    return AttackFigures(
        version=secureagg.__version__,
        settings=base.settings,
        attack=experiment.attack,
        versions=installed(),
        model_values=base.model_values,
        local_training=base.settings.local_training,
        holdings=base.holdings,
        parameters=experiment.plan.report(),
        honest=honest,
        unproven=unproven,
        proven=proven,
    )


def _trained(lane: AttackedLane, attack: AttackSettings) -> AttackedTraining:
    attacked = lane.name != LANES[0]
    malicious = attack.clients if attacked else ()
    opened = [result for result in lane.results if result.round_number not in lane.lost]
    return AttackedTraining(
        figures=of_lane(lane),
        sent=sum(client in result.bytes_up for result in lane.results for client in malicious),
        summed=sum(client in result.clients for result in opened for client in malicious),
        refusals=tuple(_refusals(lane, malicious)),
        lost=dict(lane.lost),
        collapsed=lane.collapsed,
    )


def _refusals(lane: AttackedLane, malicious: Sequence[int]) -> Iterable[Refusal]:
    """Yield who sent something and was left out, in the order of clients."""
    rounds: dict[tuple[int, str], list[int]] = {}
    for result in lane.results:
        for client, reason in result.dropped.items():
            if client in result.bytes_up:
                rounds.setdefault((client, reason), []).append(result.round_number)
    for (client, reason), found in sorted(rounds.items()):
        yield Refusal(client, client in malicious, reason, tuple(found))


def finite(value: Any) -> Any:
    """Return JSON values with None for every number that JSON has not: a poisoned model's loss may be one."""
    if isinstance(value, dict):
        return {name: finite(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
