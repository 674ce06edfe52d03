"""The sums that all adapters are held to are those of the library itself, and of the adapter for `fl_core`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import secureagg as sa
from secureagg.adapters.fl_core import OneShotAggregation
from tests.adapters import common
from tests.federation import same, seeded


def library_round(directory: Path, *, proofs: bool = False) -> sa.Result:
    clients = [seeded(f"client {i}") for i in range(common.CLIENTS)]
    members = [sa.CommitteeMember(seeded(f"member {i}"), journal=directory / str(i)) for i in range(common.COMMITTEE)]
    session = sa.Session(
        common.plan_of(proofs=proofs),
        sa.Roster([each.public for each in clients], [each.public for each in members]),
        prekeys=[member.prekey(1) for member in members],
        round_number=1,
        model=common.MODEL,
    )
    aggregator = sa.Aggregator(session)
    for client, identity in enumerate(clients):
        update, weight = common.update_of(client), common.WEIGHTS[client]
        aggregator.admit(sa.contribute(session, identity, update, weight, rounding_rng=common.rounding_of(client)))
    reports = None
    if proofs:
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in members]
    request = aggregator.close(reports)
    return aggregator.open([member.respond(session, request) for member in members])


@pytest.mark.parametrize("proofs", [False, True])
def test_the_library_finds_the_expected_sum(tmp_path: Path, proofs: bool) -> None:
    result = library_round(tmp_path, proofs=proofs)
    assert common.digest_of(common.sums_in(result.mean, result.total_weight), result.total_weight) == common.EXPECTED
    assert same(result.mean, common.expected_mean())


def test_the_sums_are_of_plain_integers() -> None:
    assert common.digest_of(*common.expected_sums()) == common.EXPECTED


def test_fl_core_finds_the_expected_sum() -> None:
    aggregation = OneShotAggregation(
        quorum=common.QUORUM,
        l2_clip=common.L2_CLIP,
        value_bits=common.VALUE_BITS,
        max_weight=common.MAX_WEIGHT,
        committee=sa.Committee(common.COMMITTEE),
        seed=common.SEED,
    )
    current = aggregation.begin(1, common.MODEL, range(common.CLIENTS))
    for client in range(common.CLIENTS):
        current.admit(client, current.contribute(client, common.update_of(client), float(common.WEIGHTS[client])))
    assert same(current.finish().mean, common.expected_mean())


def test_another_rounding_is_another_sum() -> None:
    assert common.expected_sums(round_number=1) != common.expected_sums(round_number=2)
    plan, update = common.plan_of(), common.update_of(0)
    grids = [common.quantised(plan, update, 3, np.random.default_rng(seed)) for seed in range(2)]
    assert grids[0] != grids[1]


def test_what_is_no_sum_is_not_read_as_one() -> None:
    mean = common.expected_mean()
    mean[0][0, 0] += 0.5 * common.L2_CLIP / 2**15 * common.MAX_WEIGHT / sum(common.WEIGHTS)
    with pytest.raises(AssertionError, match="no sums"):
        common.sums_in(mean, sum(common.WEIGHTS))
