"""A job in a federation as NVFlare deploys it: provisioned kits, mTLS, a process a site, pinned identities.

The administrators do what the migration page says, by its commands; site-4 is one that forges messages.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from secureagg.adapters.nvflare import write_roster
from tests.adapters import common
from tests.adapters.nvflare import deployment
from tests.adapters.nvflare.components import Forger
from tests.adapters.nvflare.deployment import ADMINISTRATOR, SERVER
from tests.adapters.nvflare.federation import SITES
from tests.adapters.nvflare.jobs import OUR_TESTS, ROOT, rounds_of_differences
from tests.adapters.nvflare.names import ordered
from tests.federation import same

FORGER, VICTIM = "site-4", "site-1"


@dataclass(frozen=True)
class Deployed:
    """What a finished job left: its id and status, and each participant's workspace."""

    job: str
    status: str
    kits: dict[str, Path]

    def log(self, name: str) -> str:
        logs = sorted(self.kits[name].rglob("log.txt"))
        return "".join(path.read_text(encoding="utf-8") for path in logs)


def command(*arguments: str) -> str:
    """Run the administrator's command and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "secureagg.adapters.nvflare", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.fixture(scope="module")
def deployed(memory: Path) -> Iterator[Deployed]:
    folder = memory / "deployed"
    fed_learn, admin = deployment.free_ports(2)
    kits = deployment.provision(folder, SITES, (fed_learn, admin))
    publics: dict[str, bytes] = {}
    for name in (SERVER, *SITES):
        command("allow-list", str(kits[name]))
        resources = kits[name] / "local" / "resources.json"
        settings = json.loads(resources.read_text(encoding="utf-8"))
        settings["class_allow_list"].append(OUR_TESTS)
        resources.write_text(json.dumps(settings), encoding="utf-8")
    for site in SITES:
        printed = json.loads(command("identity", str(kits[site]), site))
        publics |= {name: bytes.fromhex(public) for name, public in printed.items()}
    for site in SITES:
        write_roster(kits[site], publics)
    rounds_of_differences("private", {FORGER: Forger(VICTIM)}, roster="pinned").export_job(str(folder / "jobs"))
    with (
        deployment.running(kits, {"PYTHONPATH": str(ROOT)}),
        deployment.administered(kits, len(SITES)) as session,
    ):
        job = session.submit_job(str(folder / "jobs" / "private"))
        session.monitor_job(job, timeout=150.0, poll_interval=0.2)
        status = session.get_job_meta(job)["status"]
        yield Deployed(job, status, {name: kit for name, kit in kits.items() if name != ADMINISTRATOR})


def test_it_finds_every_adapters_sum(deployed: Deployed) -> None:
    assert deployed.status == "FINISHED:COMPLETED", deployed.log(SERVER)
    for round_number in (1, 2):
        outcome = json.loads((deployed.kits[SERVER] / f"outcome-{round_number}.json").read_text(encoding="utf-8"))
        assert outcome == {"weight": 75, "sites": [*SITES], "refused": {}, "faults": {}}
        with np.load(deployed.kits[SERVER] / f"mean-{round_number}.npz") as file:
            mean = ordered({name: file[name] for name in file.files})
        assert same(mean, common.expected_mean(round_number=round_number))
        if round_number == 1:
            assert common.digest_of(common.sums_in(mean, 75), 75) == common.EXPECTED


def test_no_code_travels(deployed: Deployed) -> None:
    for kit in deployed.kits.values():
        assert not list(kit.rglob("custom"))


def test_a_sites_identity_stays_with_it(deployed: Deployed) -> None:
    files = [path for kit in deployed.kits.values() for path in kit.rglob("*") if path.is_file()]
    for site in SITES:
        kept = deployed.kits[site] / "local" / "secureagg" / site / "identity"
        assert [path for path in files if kept.read_bytes() in path.read_bytes()] == [kept]


def test_a_site_that_asks_another_is_turned_away_there(deployed: Deployed) -> None:
    answers = json.loads((deployed.kits[FORGER] / "forged.json").read_text(encoding="utf-8"))
    assert answers[f"{FORGER}.{deployed.job}"] == ["unauthenticated", "only the server asks for this"]


@pytest.mark.parametrize("cell", ["server", "server.{job}"])
def test_a_message_under_the_servers_name_does_not_arrive(deployed: Deployed, cell: str) -> None:
    """NVFlare's server, through which all goes, binds the name on a message to the certificate of who sends it."""
    name = cell.format(job=deployed.job)
    answers = json.loads((deployed.kits[FORGER] / "forged.json").read_text(encoding="utf-8"))
    assert answers[name][0] == "timeout"
    refusal = f"auth token for client {FORGER} is bound to origin {FORGER}, not message origin {name}"
    assert refusal in deployed.log(SERVER)
