"""Strategies that need single updates are refused with the reason; those that work on the mean are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flwr.serverapp import strategy as flower

from secureagg import ParameterError
from secureagg.adapters.flower import Committee, SecureGrid, Terms
from tests.adapters.flower.local import LocalGrid, terms_of

CLIENT_CLIPPING = flower.DifferentialPrivacyClientSideFixedClipping


def secure(strategy: flower.Strategy, tmp_path: Path, **changes: Any) -> SecureGrid:
    return SecureGrid(LocalGrid([], tmp_path), strategy, terms_of(), **changes)


@pytest.mark.parametrize(
    "strategy",
    [
        flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 1.0, 0.75, 4),
        CLIENT_CLIPPING(flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(), 1.0, 0.75, 4), 1.0, 2.0, 4),
    ],
)
def test_clipping_on_the_server_is_refused_with_what_to_set_on_the_clients(
    tmp_path: Path, strategy: flower.Strategy
) -> None:
    with pytest.raises(ParameterError) as caught:
        secure(strategy, tmp_path)
    for part in ("which sees none of them", "secure_mod(Terms(l2_clip=0.75", "DifferentialPrivacyClientSideFixed"):
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (flower.DifferentialPrivacyServerSideAdaptiveClipping(flower.FedAvg(), 0.05, 4), "clip on the clients"),
        (flower.DifferentialPrivacyClientSideAdaptiveClipping(flower.FedAvg(), 0.05, 4), "fix the clip"),
        (flower.FedMedian(), "single updates"),
        (flower.FedTrimmedAvg(), "single updates"),
        (flower.Krum(num_malicious_nodes=1), "single updates"),
        (flower.QFedAvg(client_learning_rate=0.1), "single updates"),
        (flower.FedXgbBagging(), "single updates"),
    ],
)
def test_what_needs_single_updates_is_refused(tmp_path: Path, strategy: flower.Strategy, reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        secure(strategy, tmp_path)


@pytest.mark.parametrize(
    "strategy",
    [
        flower.FedAvg(),
        flower.FedAvgM(),
        flower.FedAdam(),
        flower.FedYogi(),
        flower.FedAdagrad(),
        flower.FedProx(proximal_mu=0.1),
        CLIENT_CLIPPING(flower.FedAvg(), 1.0, 0.75, 4),
    ],
)
def test_what_works_on_the_mean_is_taken(tmp_path: Path, strategy: flower.Strategy) -> None:
    secure(strategy, tmp_path)


def test_strategy_and_terms_weigh_by_the_same_key(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="'num-batches'"):
        secure(flower.FedAvg(weighted_by_key="num-batches"), tmp_path)


def test_a_committee_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="2 nodes, the terms' committee 3"):
        secure(flower.FedAvg(), tmp_path, committee_nodes=[101, 102, 102])


@pytest.mark.parametrize("rounds", [0, 4097])
def test_prekeys_are_asked_for_in_batches_that_members_publish(tmp_path: Path, rounds: int) -> None:
    with pytest.raises(ParameterError, match="prekey_rounds"):
        secure(flower.FedAvg(), tmp_path, prekey_rounds=rounds)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"quorum": 1}, "quorum"),
        ({"metrics": {"num-examples": 1.0}}, "is the weight"),
        ({"metrics": {"loss": 0.0}}, "bound of metric 'loss'"),
    ],
)
def test_terms_that_cannot_be_are_refused(changes: dict[str, Any], reason: str) -> None:
    fields: dict[str, Any] = {"l2_clip": 1.0, "max_weight": 1, "quorum": 2, "committee": Committee(1)}
    with pytest.raises(ParameterError, match=reason):
        Terms(**(fields | changes))
