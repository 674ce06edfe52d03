"""The engine's story: what a round does, and who drops out of it why."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pytest

import fl_core as fl

CLIENTS = range(5)


def play(federation: fl.Federation, **options) -> list[fl.RoundResult]:
    return list(fl.run_rounds(federation, fl.PlainMean(), **options))


def at(faulty: int, fault: fl.Fault) -> fl.Faults:
    return lambda round_number, client: fault if client == faulty else None


def test_one_client_one_round_is_its_local_training(linear_federation) -> None:
    federation = linear_federation(rounds=1)
    federation = dataclasses.replace(federation, clients=federation.clients[:1])
    (result,) = play(federation)
    weights = federation.trainer.initial_weights(federation.seed)
    local = federation.trainer.train(weights, *federation.clients[0], federation.client_seed(1, 0))
    for new, old, update in zip(result.weights, weights, local.update, strict=True):
        np.testing.assert_allclose(new, old + update, rtol=1e-7)
    assert result.losses == {0: local.loss}
    assert result.metrics == federation.trainer.evaluate(result.weights, *federation.test)


@pytest.mark.parametrize(("weighting", "shares"), [("examples", [3, 4, 5, 6, 7]), ("uniform", [1, 1, 1, 1, 1])])
def test_clients_weigh_as_asked(linear_federation, weighting, shares) -> None:
    federation = linear_federation(weighting=weighting, rounds=1)
    (result,) = play(federation)
    weights = federation.trainer.initial_weights(federation.seed)
    updates = [
        federation.trainer.train(weights, *federation.clients[client], federation.client_seed(1, client)).update
        for client in CLIENTS
    ]
    for index, new in enumerate(result.weights):
        mean = np.average([update[index] for update in updates], axis=0, weights=shares)
        np.testing.assert_allclose(new, weights[index] + mean, rtol=1e-6)


def test_rounds_learn_and_repeat_with_the_seed(linear_federation) -> None:
    results = play(linear_federation(rounds=30, server=fl.FedAvgM(0.5, 0.5)))
    assert [result.round_number for result in results] == list(range(1, 31))
    assert results[-1].metrics["loss"] < 0.01 * results[0].metrics["loss"]
    again = play(linear_federation(rounds=30, server=fl.FedAvgM(0.5, 0.5)))
    assert [r.metrics for r in results] == [r.metrics for r in again]
    assert [w.tobytes() for w in results[-1].weights] == [w.tobytes() for w in again[-1].weights]
    other = play(linear_federation(rounds=1, seed=4))
    assert other[0].metrics != results[0].metrics


def test_only_the_sampled_cohort_takes_part(linear_federation) -> None:
    federation = linear_federation(cohort_size=2)
    for result in play(federation):
        assert result.clients == federation.cohort(result.round_number)
        assert set(result.bytes_down) == set(result.losses) == set(result.clients)


def test_poisson_cohorts_are_divided_by_their_expected_number(linear_federation) -> None:
    """Not by the clients there, or the model would tell how many; a scalar layer keeps its shape and dtype."""
    federation = linear_federation(
        cohort_size=3, quorum=1, weighting="uniform", sampling=fl.ClientSampling.POISSON, rounds=6
    )
    weights = federation.trainer.initial_weights(federation.seed)
    sizes = set()
    for result in play(federation):
        cohort = federation.cohort(result.round_number)
        assert result.clients == cohort
        updates = [
            federation.trainer.train(
                weights, *federation.clients[client], federation.client_seed(result.round_number, client)
            ).update
            for client in cohort
        ]
        for index, new in enumerate(result.weights):
            moved = weights[index] + np.sum([update[index] for update in updates], axis=0) / 3
            np.testing.assert_allclose(new, moved, rtol=1e-5)
            assert new.shape == weights[index].shape and new.dtype == weights[index].dtype
        weights = result.weights
        sizes.add(len(cohort))
    assert len(sizes) > 1


def test_a_cohort_below_the_quorum_is_an_error_before_anybody_trains(linear_federation) -> None:
    federation = linear_federation(
        cohort_size=3, quorum=3, weighting="uniform", sampling=fl.ClientSampling.POISSON, rounds=50
    )
    short = next(number for number in range(1, 50) if len(federation.cohort(number)) < 3)
    present = len(federation.cohort(short))
    trained: list[int] = []
    with pytest.raises(fl.QuorumError, match=f"round {short}: {present} clients took part, quorum=3; dropped: $"):
        play(federation, observe=lambda event: trained.append(event.round_number) if event.stage == "train" else None)
    assert short not in trained


def test_vanished_before_training(linear_federation) -> None:
    for result in play(linear_federation(), faults=at(2, fl.Fault.BEFORE_TRAINING)):
        assert result.clients == (0, 1, 3, 4)
        assert result.dropped == {2: "vanished before training"}
        assert 2 not in result.bytes_down
        assert 2 not in result.bytes_up


def test_vanished_before_sending(linear_federation) -> None:
    for result in play(linear_federation(), faults=at(2, fl.Fault.BEFORE_SEND)):
        assert result.clients == (0, 1, 3, 4)
        assert result.dropped == {2: "vanished before sending"}
        assert 2 in result.bytes_down
        assert 2 not in result.bytes_up


def test_vanished_after_sending_still_counts(linear_federation) -> None:
    results = play(linear_federation(), faults=at(2, fl.Fault.AFTER_SEND))
    for result, unbroken in zip(results, play(linear_federation()), strict=True):
        assert result.clients == (0, 1, 2, 3, 4)
        assert result.dropped == {}
        assert result.metrics == unbroken.metrics


def with_bad_data(federation: fl.Federation, *faulty: int) -> fl.Federation:
    clients = [(x * np.nan if i in faulty else x, y) for i, (x, y) in enumerate(federation.clients)]
    return dataclasses.replace(federation, clients=clients)


def test_failed_training_is_reported_by_type_and_the_round_goes_on(linear_federation) -> None:
    events: list[fl.Event] = []
    for result in play(with_bad_data(linear_federation(quorum=4), 1), observe=events.append):
        assert result.clients == (0, 2, 3, 4)
        assert result.dropped == {1: "ClientTrainingError: ValueError"}
    cause = next(event.cause for event in events if event.stage == "dropped")
    assert isinstance(cause, fl.ClientTrainingError)
    assert isinstance(cause.__cause__, ValueError)


def test_too_few_left_is_an_error_with_numbers_and_no_values(linear_federation) -> None:
    federation = with_bad_data(linear_federation(quorum=4), 1, 3)
    with pytest.raises(fl.QuorumError) as raised:
        play(federation)
    reasons = "1: ClientTrainingError: ValueError; 3: ClientTrainingError: ValueError"
    assert str(raised.value) == f"round 1: 3 clients took part, quorum=4; dropped: {reasons}"
    assert (raised.value.round_number, raised.value.present, raised.value.quorum) == (1, 3, 4)
    assert isinstance(raised.value.__cause__, fl.ClientTrainingError)


def test_interruption_is_no_clients_failure(linear_federation) -> None:
    def interrupted(event: fl.Event) -> None:
        if event.stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(linear_federation(), observe=interrupted)


class Picky(fl.PlainMean):
    """Refuses client 0 when it contributes, client 1 on admission, client 2 on finishing."""

    def begin(self, round_number, model, cohort):
        inner = super().begin(round_number, model, cohort)
        contribute, finish = inner.contribute, inner.finish

        def picky_contribute(client: int, update: fl.Weights, weight: float) -> bytes:
            if client == 0:
                raise fl.Refused(0, "cannot be expressed")
            return contribute(client, update, weight if client != 1 else -1.0)

        def picky_finish() -> fl.Aggregate:
            whole = finish()
            kept = tuple(client for client in whole.clients if client != 2)
            return dataclasses.replace(whole, clients=kept, refused={**whole.refused, 2: "bad proof"})

        inner.contribute, inner.finish = picky_contribute, picky_finish
        return inner


def test_refused_clients_are_dropped_with_the_reason(linear_federation) -> None:
    (result,) = fl.run_rounds(linear_federation(rounds=1, quorum=2), Picky())
    assert result.clients == (3, 4)
    assert result.dropped[0] == "cannot be expressed"
    assert result.dropped[1].startswith("weight must be finite and > 0")
    assert result.dropped[2] == "bad proof"
    assert set(result.losses) == {3, 4}
    assert set(result.bytes_up) == {1, 2, 3, 4}


def test_quorum_counts_those_in_the_mean(linear_federation) -> None:
    with pytest.raises(fl.QuorumError, match=r"round 1: 2 clients took part, quorum=3; .*2: bad proof"):
        list(fl.run_rounds(linear_federation(quorum=3), Picky()))


def test_no_sum_is_revealed_below_the_quorum(linear_federation) -> None:
    revealed = []

    class Watched(fl.PlainMean):
        def begin(self, round_number, model, cohort):
            inner = super().begin(round_number, model, cohort)
            inner.finish = lambda: revealed.append(round_number)
            return inner

    with pytest.raises(fl.QuorumError):
        list(fl.run_rounds(linear_federation(quorum=5), Watched(), faults=at(2, fl.Fault.BEFORE_SEND)))
    assert revealed == []


def test_events_tell_every_stage_in_order(linear_federation) -> None:
    events: list[fl.Event] = []
    play(linear_federation(rounds=2), observe=events.append, faults=at(4, fl.Fault.BEFORE_SEND))
    first = [event for event in events if event.round_number == 1]
    per_client = [("train", 0), ("contribute", 0), ("admit", 0)]
    assert [(event.stage, event.client) for event in first[:4]] == [("round", None), *per_client]
    assert [(event.stage, event.client) for event in first[-5:]] == [
        *(("train", 4), ("dropped", 4)),
        *((stage, None) for stage in ("finish", "update", "evaluate")),
    ]
    assert Counter(event.round_number for event in events) == {1: len(first), 2: len(first)}


def test_bytes_and_seconds_are_accounted_for(linear_federation) -> None:
    (result,) = play(linear_federation(rounds=1))
    values = (3 + 1 + 3) * 4
    assert result.bytes_down == dict.fromkeys(CLIENTS, values)
    assert result.bytes_up == dict.fromkeys(CLIENTS, values + 13 + 6 + 2 + 6)
    assert tuple(result.seconds) == fl.STAGES
    assert all(seconds > 0 for seconds in result.seconds.values())
    assert set(result.aggregation_seconds) == {"contribute", "admit", "finish"}


def test_ten_skewed_clients_learn_the_digits(digits: fl.Dataset) -> None:
    """The demonstration: a small CNN, Dirichlet(0.5), the plain mean beside itself without deviation."""
    partition = fl.dirichlet(digits.y_train, clients=10, alpha=0.5, seed=0)
    trainer = fl.KerasTrainer(lambda: fl.small_cnn((8, 8, 1), 10), epochs=2)
    federation = fl.Federation(
        trainer, fl.localise(digits, partition), (digits.x_test, digits.y_test), rounds=20, quorum=8
    )
    beside = fl.Beside(fl.PlainMean(), fl.PlainMean())
    results = list(fl.run_rounds(federation, beside, faults=fl.seeded_faults(5, after_send=0.1)))
    assert np.mean([result.metrics["accuracy"] for result in results[-5:]]) >= 0.94
    assert results[0].metrics["accuracy"] < 0.5
    assert beside.deviation == dict.fromkeys(range(1, 21), 0.0)
    (again,) = fl.run_rounds(dataclasses.replace(federation, rounds=1), fl.PlainMean())
    assert again.metrics == results[0].metrics
