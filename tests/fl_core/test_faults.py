"""Seeded faults and the federation's other random choices: rates, repeatability, independence."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

import fl_core as fl


def test_rates_are_kept_for_each_kind() -> None:
    faults = fl.seeded_faults(1, before_training=0.1, before_send=0.2, after_send=0.3)
    counts = Counter(faults(round_number, client) for round_number in range(100) for client in range(100))
    for fault, rate in {**dict(zip(fl.Fault, (0.1, 0.2, 0.3), strict=True)), None: 0.4}.items():
        assert abs(counts[fault] - 10_000 * rate) < 4 * (10_000 * rate * (1 - rate)) ** 0.5


def test_faults_repeat_and_differ_by_seed_round_and_client() -> None:
    def drawn(seed: int, rounds: range, clients: range) -> list[fl.Fault | None]:
        faults = fl.seeded_faults(seed, before_send=0.5)
        return [faults(round_number, client) for round_number in rounds for client in clients]

    assert drawn(1, range(64), range(1)) == drawn(1, range(64), range(1))
    assert drawn(1, range(64), range(1)) != drawn(2, range(64), range(1))
    assert drawn(1, range(64), range(1)) != drawn(1, range(64), range(1, 2))
    assert drawn(1, range(64), range(1)) != drawn(1, range(1), range(64))


def test_extreme_rates() -> None:
    assert fl.seeded_faults(0)(1, 1) is None
    assert fl.seeded_faults(0, after_send=1.0)(1, 1) is fl.Fault.AFTER_SEND


@pytest.mark.parametrize(
    "rates", [{"before_send": -0.1}, {"before_send": 0.6, "after_send": 0.5}, {"after_send": np.nan}]
)
def test_impossible_rates_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(fl.ParameterError, match="fault rates"):
        fl.seeded_faults(0, **rates)


def test_cohorts_are_seeded_samples(linear_federation) -> None:
    federation = linear_federation(cohort_size=2)
    cohorts = [federation.cohort(round_number) for round_number in range(200)]
    assert all(len(set(cohort)) == 2 and cohort == tuple(sorted(cohort)) for cohort in cohorts)
    assert cohorts == [linear_federation(cohort_size=2).cohort(round_number) for round_number in range(200)]
    assert cohorts != [linear_federation(cohort_size=2, seed=4).cohort(round_number) for round_number in range(200)]
    counts = Counter(client for cohort in cohorts for client in cohort)
    assert all(abs(counts[client] - 80) < 4 * (200 * 0.4 * 0.6) ** 0.5 for client in range(5))
    assert linear_federation().cohort(1) == (0, 1, 2, 3, 4)


def test_poisson_cohorts_hold_each_client_independently(linear_federation) -> None:
    federation = linear_federation(cohort_size=2, weighting="uniform", sampling=fl.ClientSampling.POISSON)
    cohorts = [federation.cohort(round_number) for round_number in range(1000)]
    assert cohorts == [federation.cohort(round_number) for round_number in range(1000)]
    assert all(cohort == tuple(sorted(set(cohort))) for cohort in cohorts)
    held = np.array([[client in cohort for client in range(5)] for cohort in cohorts])
    assert np.abs(held.mean(axis=0) - 0.4).max() < 4 * (0.4 * 0.6 / 1000) ** 0.5
    assert np.abs(np.corrcoef(held.T)[np.triu_indices(5, 1)]).max() < 4 / 1000**0.5
    assert 0.85 < held.sum(axis=1).var() / (5 * 0.4 * 0.6) < 1.15  # of fixed size it would be 0
    everybody = linear_federation(weighting="uniform", sampling=fl.ClientSampling.POISSON)
    assert everybody.cohort(1) == (0, 1, 2, 3, 4)
    assert (federation.expected_clients, everybody.expected_clients) == (2, 5)
    assert linear_federation(cohort_size=2).expected_clients is None


def test_client_seeds_are_all_different(linear_federation) -> None:
    federations = [linear_federation(seed=seed) for seed in (0, 1)]
    seeds = {f.client_seed(number, client) for f in federations for number in range(20) for client in range(20)}
    assert len(seeds) == 800


@pytest.mark.parametrize(
    ("changes", "culprit"),
    [
        ({"quorum": 0}, "quorum=0"),
        ({"quorum": 6}, "quorum=6, cohort_size=5"),
        ({"cohort_size": 2, "quorum": 3}, "quorum=3, cohort_size=2"),
        ({"cohort_size": 6}, "cohort_size=6, clients=5"),
        ({"clients": []}, "clients=0"),
        ({"weighting": "size"}, "weighting='size'"),
        ({"sampling": "poisson", "weighting": "uniform"}, "sampling='poisson': must be a ClientSampling"),
        ({"sampling": fl.ClientSampling.POISSON}, "sampling=poisson with weighting='examples'"),
        ({"rounds": -1}, "rounds=-1"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_infeasible_federations_are_refused(linear_federation, changes, culprit) -> None:
    with pytest.raises(fl.ParameterError, match=culprit):
        linear_federation(**changes)
