"""Jobs in NVFlare's own simulator, a process a site: the sum every adapter finds, and what the server got for it."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey

from secureagg.adapters.nvflare.wire import CONTRIBUTION
from tests.adapters import common
from tests.adapters.nvflare import jobs
from tests.adapters.nvflare.names import named, ordered
from tests.federation import same


@pytest.fixture(scope="module")
def sag(memory: Path) -> jobs.Ran:
    return jobs.run("scatter_and_gather", memory)


@pytest.fixture(scope="module")
def fedavg(memory: Path) -> jobs.Ran:
    return jobs.run("fedavg", memory)


@pytest.fixture(scope="module")
def collab(memory: Path) -> jobs.Ran:
    return jobs.run("collab", memory)


def test_scatter_and_gather_finds_every_adapters_sum(sag: jobs.Ran) -> None:
    assert sag.code == 0, sag.printed
    outcome = sag.outcome(1)
    assert outcome == {"weight": 75, "sites": [*jobs.SITES], "refused": {}, "faults": {}}
    found = common.sums_in(ordered(sag.mean(1)), 75)
    assert common.digest_of(found, 75) == common.EXPECTED
    assert same(ordered(sag.mean(1)), common.expected_mean())
    assert same(ordered(sag.mean(2)), common.expected_mean(round_number=2))
    both = zip(common.expected_mean(), common.expected_mean(round_number=2), strict=True)
    assert same(ordered(sag.tensors("model")), [np.asarray(first + second) for first, second in both])


def test_the_server_gets_nothing_of_an_update(sag: jobs.Ran) -> None:
    for client, site in enumerate(jobs.SITES):
        received = (sag.workspace / "server" / f"received-{site}").read_bytes()
        update = named(common.update_of(client, 2))
        in_the_clear = pickle.dumps(
            DXO(DataKind.WEIGHT_DIFF, data=update, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 3}).to_shareable()
        )
        assert CONTRIBUTION.encode() in received
        for tensor in update.values():
            assert tensor.tobytes() in in_the_clear  # or the next line says nothing
            assert tensor.tobytes()[:8] not in received
        assert MetaKey.NUM_STEPS_CURRENT_ROUND.encode() in in_the_clear
        assert MetaKey.NUM_STEPS_CURRENT_ROUND.encode() not in received
        assert b"a.kernel" not in received


def test_no_code_travels_and_only_listed_components_are_built(sag: jobs.Ran) -> None:
    assert not list(sag.workspace.rglob("custom"))
    assert "not in allow_list" not in sag.printed


def test_a_sites_secrets_stay_in_its_local_folder(sag: jobs.Ran) -> None:
    for site in jobs.SITES:
        kept = sag.workspace / site / "local" / "secureagg" / site / "identity"
        seed = kept.read_bytes()
        assert kept.stat().st_mode & 0o777 == 0o600
        holding = [path for path in sag.workspace.rglob("*") if path.is_file() and seed in path.read_bytes()]
        assert holding == [kept]
    assert not list(sag.workspace.rglob("*.key"))  # prekeys are erased with the job


def test_fedavg_with_new_weights_proofs_and_a_pinned_roster(fedavg: jobs.Ran) -> None:
    assert fedavg.code == 0, fedavg.printed
    assert fedavg.outcome(1)["sites"] == ["site-1", "site-2", "site-3"]
    assert same(ordered(fedavg.mean(1)), common.expected_mean(range(3)))
    assert same(ordered(fedavg.tensors("model")), common.expected_mean(range(3)))


def test_what_is_no_update_does_not_leave(fedavg: jobs.Ran) -> None:
    assert fedavg.outcome(1)["refused"] == {"site-4": "sent no contribution"}
    log = (fedavg.workspace / "site-4" / "log.txt").read_text(encoding="utf-8")
    assert "nothing of this result is sent: a result of kind" in log
    received = (fedavg.workspace / "server" / "received-site-4").read_bytes()
    for tensor in common.update_of(3):
        assert tensor.tobytes()[:8] not in received


def test_the_collab_api_finds_the_same_sum(collab: jobs.Ran) -> None:
    assert collab.code == 0, collab.printed
    assert same(ordered(collab.mean(1)), common.expected_mean())
    assert common.digest_of(common.sums_in(ordered(collab.mean(1)), 75), 75) == common.EXPECTED


def test_no_site_asks_another_and_one_whose_training_fails_is_named(collab: jobs.Ran) -> None:
    outcome = collab.outcome(2)
    assert outcome["sites"] == ["site-1", "site-2", "site-3"]
    assert outcome["refused"] == {"site-4": "RuntimeError: it refused"}
    assert same(ordered(collab.mean(2)), common.expected_mean(range(3), 2))
    assert "only the server asks for this" in (collab.workspace / "site-1" / "log.txt").read_text(encoding="utf-8")


def test_without_the_allow_list_the_job_does_not_start(memory: Path) -> None:
    ran = jobs.run("not_allowed", memory)
    assert ran.code != 0
    assert "'secureagg.adapters.nvflare.terms.Terms' at config path" in ran.printed
    assert "is not in allow_list" in ran.printed
