"""The attacked experiment: one federation trained without an attack, and twice under it, without proofs and with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import fl_core
from fl_core.register import Register
from secureagg.adapters.fl_core import OneShotAggregation, OneShotRound
from secureagg.cli.demo.attacks import dishonest_clients
from secureagg.cli.demo.experiment import Experiment, Lane, Watch, prepare, train_lanes
from secureagg.cli.demo.settings import Attack, AttackSettings, OneShotSettings, Settings
from secureagg.errors import ParameterError, QuorumError, UnattributedFault
from secureagg.events import Observer
from secureagg.plan import Committee, RoundPlan

__all__ = ["LANES", "AttackedExperiment", "AttackedLane", "choose_malicious", "prepare_attack", "train_attacked"]

LANES = ("honest", "unproven", "proven")
_HONEST = 2  # clients in a sum; the mean of a single honest update is that update

# First entropy word of the draw of malicious clients; 1 to 4 are the engine's and the adapter's streams.
_MALICIOUS = 5


def choose_malicious(kind: Attack, share: float, clients: int, seed: int) -> AttackSettings:
    """Return the attack with its clients: that share of all, one at least, drawn by the seed.

    Raises: ParameterError unless enough honest clients are left for a quorum.
    """
    count = max(1, round(share * clients))
    if clients - count < _HONEST + count:
        raise ParameterError(
            f"malicious={share:g} of {clients} clients are {count}: the {clients - count} honest ones are fewer than "
            f"the quorum, {_HONEST} more than are malicious; take a smaller share, or more clients"
        )
    rng = np.random.default_rng([_MALICIOUS, seed])
    return AttackSettings(kind, tuple(sorted(rng.choice(clients, count, replace=False).tolist())))


@dataclass(frozen=True)
class AttackedExperiment:
    """A federation, and what attacks it; `aggregations` by lane, `plan` that of every round with proofs."""

    base: Experiment
    attack: AttackSettings
    aggregations: dict[str, Enduring]
    plan: RoundPlan


@dataclass
class AttackedLane(Lane):
    """A lane; `lost` gives the reason of each round whose sum could not be opened."""

    lost: dict[int, str] = field(default_factory=dict)


def prepare_attack(
    settings: Settings, attack: AttackSettings, *, quietly: bool, observe: Observer | None = None
) -> AttackedExperiment:
    """Load data and model, and set up both attacked aggregations, which count the attackers among the corrupt."""
    base = prepare(settings, quietly=quietly, observe=observe)
    unproven, proven = (_aggregation(base, attack, proofs=proofs) for proofs in (False, True))
    plan = proven.plan(base.federation.trainer.initial_weights(settings.seed), settings.clients)
    aggregations = {LANES[1]: Enduring(unproven), LANES[2]: Enduring(proven)}
    return AttackedExperiment(base, attack, aggregations, plan)


def train_attacked(experiment: AttackedExperiment, watch: Watch) -> list[AttackedLane]:
    """Train all three lanes on the same seeds, a round of each in turn."""
    lanes = [AttackedLane(LANES[0], fl_core.PlainMean())]
    lanes += [AttackedLane(name, each, lost=each.lost) for name, each in experiment.aggregations.items()]
    train_lanes(experiment.base, lanes, watch, endure=True)
    return lanes


def _aggregation(base: Experiment, attack: AttackSettings, *, proofs: bool) -> OneShotAggregation:
    chosen = base.settings.encryption
    assert isinstance(chosen, OneShotSettings)
    return OneShotAggregation(
        quorum=_HONEST + len(attack.clients),
        l2_clip=chosen.l2_clip,
        value_bits=chosen.value_bits,
        committee=Committee(chosen.members),
        max_weight=max(map(sum, base.holdings)),
        assumed_corrupt_clients=len(attack.clients),
        absent_members=range(chosen.absent_members),
        seed=base.settings.seed,
        proofs=proofs,
        dishonest=dishonest_clients(attack),
    )


class Enduring:
    """An aggregation that survives a round it cannot open: the mean is zero then, so the model stays as it was.

    `lost` gives the reasons, by round.
    """

    def __init__(self, private: OneShotAggregation) -> None:
        self.private = private
        self.lost: dict[int, str] = {}

    def begin(self, round_number: int, model: fl_core.Weights, cohort: Sequence[int]) -> EnduringRound:
        return EnduringRound(self, round_number, model, cohort)


class EnduringRound:
    """A `Round` of `Enduring`, with an account of its own for when the inner one gives none."""

    def __init__(self, enduring: Enduring, round_number: int, model: fl_core.Weights, cohort: Sequence[int]) -> None:
        self._lost = enduring.lost
        self._round_number = round_number
        self._model = model
        self._inner: OneShotRound = enduring.private.begin(round_number, model, cohort)
        self._register = Register(round_number, cohort)

    def contribute(self, client: int, update: fl_core.Weights, weight: float) -> bytes:
        with self._register.contributing():
            return self._inner.contribute(client, update, weight)

    def admit(self, client: int, payload: bytes) -> None:
        with self._register.admitting(client, payload):
            self._inner.admit(client, payload)

    def finish(self) -> fl_core.Aggregate:
        register = self._register
        try:
            with register.finishing():
                return self._inner.finish()
        except (UnattributedFault, QuorumError) as error:
            self._lost[self._round_number] = str(error)
        unmoved = [np.zeros_like(layer) for layer in self._model]
        clients = tuple(sorted(register.admitted))
        return fl_core.Aggregate(unmoved, clients, register.refused, register.bytes_up, register.seconds)
