"""The figures of a privacy budget: what was promised, what is spent, and whose noise it took."""

from __future__ import annotations

from dataclasses import dataclass

from secureagg.adapters.fl_core_ledgers import ClientLedgers
from secureagg.cli.demo.experiment import Experiment, Lane
from secureagg.cli.demo.settings import Unit
from secureagg.cli.demo.spending import assumed_corrupt, quorum
from secureagg.dp.relation import Relation

__all__ = ["ClientSpending", "PrivacyFigures", "of_budget"]


@dataclass(frozen=True)
class ClientSpending:
    """What one client's ledger says. `noise_multiplier`: standard deviation of its noise ÷ the clip of a gradient."""

    client: int
    examples: int
    noise_multiplier: float
    rounds: int
    epsilon: float


@dataclass(frozen=True)
class PrivacyFigures:
    """A budget and what is left of it. (ε, δ) is about one `unit` under `relation`, for `rounds` rounds together.

    spent: ε of everything debited, of the client that has spent most if the unit is an example, whose `clients` are
    listed. stopped: why training ended before its last round, None if it did not. noise_by: who adds the noise of the
    sum; None if there is none in it. quorum, corrupt: clients that noise is sized for, less those it does not count on.
    colluding: committee members that may be with the aggregator.
    """

    unit: Unit
    relation: Relation
    epsilon: float
    delta: float
    rounds: int
    spent: float
    stopped: str | None
    noise_by: str | None
    quorum: int
    corrupt: int
    colluding: int
    clients: tuple[ClientSpending, ...]


def of_budget(experiment: Experiment, lane: Lane) -> PrivacyFigures:
    """Return the figures of a lane that has finished. Requires: an experiment with a budget."""
    settings, meter, plan = experiment.settings, experiment.meter, experiment.plan
    assert settings.privacy is not None and meter is not None and plan is not None
    budget = settings.privacy
    return PrivacyFigures(
        unit=budget.unit,
        relation=Relation.ZERO_OUT,
        epsilon=budget.epsilon,
        delta=budget.delta,
        rounds=budget.rounds,
        spent=meter.spent(),
        stopped=lane.exhausted,
        noise_by=None if plan.noise is None else plan.noise.noise_by,
        quorum=quorum(settings),
        corrupt=assumed_corrupt(settings),
        colluding=plan.committee.colluding,
        clients=_clients(meter) if isinstance(meter, ClientLedgers) else (),
    )


def _clients(ledgers: ClientLedgers) -> tuple[ClientSpending, ...]:
    return tuple(
        ClientSpending(
            client=client,
            examples=examples,
            noise_multiplier=ledgers.terms.noise_multiplier(examples),
            rounds=ledgers.rounds_of(client),
            epsilon=ledgers.spent_by(client),
        )
        for client, examples in enumerate(ledgers.examples)
    )
