"""The engine, one round after the other: initialise → local training → aggregate → update → evaluate."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fl_core.aggregation import Aggregate, Aggregation, Weights
from fl_core.errors import ClientTrainingError, QuorumError, Refused, StateError
from fl_core.faults import Fault, Faults, Vanished
from fl_core.federation import Federation
from fl_core.results import Observer, RoundResult, Stages
from fl_core.server import move, start
from fl_core.state import Checkpoint, check_configuration, load_checkpoint, save_checkpoint
from fl_core.training import LocalUpdate

__all__ = ["read_history", "run_rounds"]


def run_rounds(
    federation: Federation,
    aggregation: Aggregation,
    *,
    faults: Faults | None = None,
    observe: Observer | None = None,
    state_dir: Path | None = None,
    resume: bool = False,
) -> Iterator[RoundResult]:
    """Yields the result of each round, 1 … rounds; with `state_dir`, once the round is safely on disk.

    `resume` goes on with the run saved there, if any, and yields the rounds still missing. Everything random of
    the engine follows from the federation's seed, so the final weights are those of an unbroken run, bit for bit
    if the aggregation repeats itself too. A round that was cut short is played again under the same number.

    Raises: QuorumError, if too few clients are left in a round; StateError, if what `state_dir` holds is damaged,
    of another configuration, or there at all without `resume`. What an aggregation raises, other than Refused,
    passes through.
    """
    trainer = federation.trainer
    at = _starting_point(federation, aggregation, faults, state_dir, resume)

    for round_number in range(at.round_number + 1, federation.rounds + 1):
        stages = Stages(round_number, observe)
        stages.tell("round")
        cohort = federation.cohort(round_number)
        if len(cohort) < federation.quorum:
            raise QuorumError(round_number, len(cohort), federation.quorum, {})
        current = aggregation.begin(round_number, at.weights, cohort)
        model_bytes = sum(layer.nbytes for layer in at.weights)
        losses: dict[int, float] = {}
        bytes_up: dict[int, int] = {}
        bytes_down: dict[int, int] = {}
        failures: dict[int, Exception] = {}
        dropped: dict[int, str] = {}
        for client in cohort:
            fault = faults(round_number, client) if faults else None
            try:
                if fault is Fault.BEFORE_TRAINING:
                    raise Vanished(client, fault)
                bytes_down[client] = model_bytes
                with stages.at("train", client):
                    trained = _train(federation, at.weights, round_number, client)
                if fault is Fault.BEFORE_SEND:
                    raise Vanished(client, fault)
                weight = float(trained.examples) if federation.weighting == "examples" else 1.0
                with stages.at("contribute", client):
                    payload = current.contribute(client, trained.update, weight)
                bytes_up[client] = len(payload)
                with stages.at("admit", client):
                    current.admit(client, payload)
                losses[client] = trained.loss
            except (Vanished, ClientTrainingError, Refused) as error:
                failures[client], dropped[client] = error, error.reason
                stages.tell("dropped", client, error)

        if len(losses) < federation.quorum:
            cause = next(reversed(failures.values()), None)
            raise QuorumError(round_number, len(losses), federation.quorum, dropped) from cause
        with stages.at("finish"):
            aggregate = current.finish()
        dropped |= {client: aggregate.refused[client] for client in cohort if client in aggregate.refused}
        if len(aggregate.clients) < federation.quorum:
            raise QuorumError(round_number, len(aggregate.clients), federation.quorum, dropped)
        with stages.at("update"):
            mean = _step(federation, aggregate)
            weights, server_state = move(federation.server, at.weights, mean, at.server, trainer.trainable)
        with stages.at("evaluate"):
            metrics = trainer.evaluate(weights, *federation.test)

        result = RoundResult(
            round_number=round_number,
            clients=aggregate.clients,
            dropped=dropped,
            metrics=metrics,
            losses={client: losses[client] for client in aggregate.clients},
            bytes_up=bytes_up,
            bytes_down=bytes_down,
            seconds=stages.seconds,
            aggregation_seconds=aggregate.seconds,
            weights=weights,
        )
        at = Checkpoint(round_number, at.configuration, weights, server_state, (*at.history, result.to_json()))
        if state_dir is not None:
            save_checkpoint(state_dir, at)
        yield result


def read_history(state_dir: Path) -> list[RoundResult]:
    """The results of the rounds saved in `state_dir`; only the last has its weights. Raises: StateError."""
    saved = load_checkpoint(state_dir)
    if saved is None:
        return []
    *earlier, last = (RoundResult.from_json(record) for record in saved.history)
    return [*earlier, replace(last, weights=saved.weights)]


def _starting_point(
    federation: Federation, aggregation: Aggregation, faults: Faults | None, state_dir: Path | None, resume: bool
) -> Checkpoint:
    """The saved run, if there is one to resume, else round 0."""
    configuration = _configuration(federation, aggregation, faults) if state_dir else {}
    if state_dir and (saved := load_checkpoint(state_dir)):
        if not resume:
            raise StateError(f"{state_dir} holds a run at round {saved.round_number}; resume it, or use another")
        check_configuration(state_dir, saved.configuration, configuration)
        return saved
    weights = federation.trainer.initial_weights(federation.seed)
    return Checkpoint(0, configuration, weights, start(federation.server, weights, federation.trainer.trainable))


def _step(federation: Federation, aggregate: Aggregate) -> Weights:
    """What the server moves by: the mean, or the sum over the expected number of clients."""
    expected = federation.expected_clients
    if expected is None:
        return aggregate.mean
    share = len(aggregate.clients) / expected
    return [np.asarray(layer * share, dtype=layer.dtype) for layer in aggregate.mean]


def _train(federation: Federation, weights: Weights, round_number: int, client: int) -> LocalUpdate:
    x, y = federation.clients[client]
    try:
        return federation.trainer.train(weights, x, y, federation.client_seed(round_number, client))
    except Exception as error:  # Whatever breaks in a client's own training ends its round, not the others'.
        raise ClientTrainingError(client, type(error)) from error


def _configuration(federation: Federation, aggregation: Aggregation, faults: Faults | None) -> dict[str, str]:
    scheme = type(aggregation)
    return federation.describe() | {
        "aggregation": f"{scheme.__module__}.{scheme.__qualname__}",
        "faults": str(getattr(faults, "__qualname__", repr(faults))),  # the repr of a function is its address
    }
