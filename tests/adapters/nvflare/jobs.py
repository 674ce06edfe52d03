"""Jobs for the simulator, each run in a process of its own: `python -m tests.adapters.nvflare.jobs NAME WORKSPACE`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.fedavg import FedAvg
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.collab import CollabRecipe
from nvflare.job_config.api import FedJob
from nvflare.job_config.defs import FilterType
from nvflare.recipe import SimEnv

from secureagg.adapters.nvflare import Home, allow_list, write_roster
from tests.adapters.nvflare.collab_job import Server, Trainer
from tests.adapters.nvflare.components import Capture, FixedModel, FixedTrainer, RecordingAggregator, SeededFilter
from tests.adapters.nvflare.federation import SITES, terms_of

ROOT = Path(__file__).resolve().parents[3]
# On a busy machine the simulator of NVFlare 2.9.0 now and then loses a site's process as it starts: such a job is run
# again.
LOST, ATTEMPTS = "Communication error with client", 3
PATIENCE = 20.0  # seconds for all sites to start: what a job that lost one costs
OUR_TESTS = "tests.adapters.nvflare.components."


@dataclass(frozen=True)
class Ran:
    """A job that ended: its exit code, what it printed, and its workspace with the server's and the sites' files."""

    code: int
    printed: str
    workspace: Path

    def outcome(self, round_number: int) -> dict[str, Any]:
        text = (self.workspace / "server" / f"outcome-{round_number}.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    def mean(self, round_number: int) -> dict[str, np.ndarray]:
        return self.tensors(f"mean-{round_number}")

    def tensors(self, name: str) -> dict[str, np.ndarray]:
        with np.load(self.workspace / "server" / f"{name}.npz") as file:
            return {each: file[each] for each in file.files}


def run(name: str, folder: Path) -> Ran:
    """Run the job called `name`, in a workspace of its own in `folder`."""
    for attempt in range(ATTEMPTS):
        workspace = folder / f"{name}-{attempt}"
        ran = simulate("-m", "tests.adapters.nvflare.jobs", name, str(workspace))
        if LOST not in ran.stdout:
            break
    return Ran(ran.returncode, ran.stdout + ran.stderr, workspace)


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, which run a simulation."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=170)


def _common(
    job: FedJob,
    controller: object,
    trainer: FixedTrainer,
    others: dict[str, FixedTrainer] | None = None,
    **terms: Any,
) -> FedJob:
    job.set_app_packages(["secureagg", "tests"])  # installed at every site: no custom code travels
    agreed = terms_of(**terms)
    job.to_server(controller, id="controller")
    job.to_server(FixedModel(), id="persistor")
    job.to_server(Capture(), filter_type=FilterType.TASK_RESULT, tasks=["train"])
    for site in SITES:
        job.to((others or {}).get(site, trainer), site, tasks=["train"])
        job.to(SeededFilter(agreed), site, tasks=["train"], filter_type=FilterType.TASK_RESULT)
    return job


def scatter_and_gather(workspace: Path) -> int:
    """Two rounds of differences; the roster is collected."""
    return _scatter_and_gather(workspace, [*allow_list(), OUR_TESTS])


def not_allowed(workspace: Path) -> int:
    """The same where NVFlare's default list is in force, but for the tests' own components."""
    return _scatter_and_gather(workspace, [*DEFAULT_CLASS_ALLOW_LIST, OUR_TESTS])


def _scatter_and_gather(workspace: Path, classes: list[str]) -> int:
    provision(workspace, classes)
    return int(rounds_of_differences("sag").simulator_run(str(workspace)))


def rounds_of_differences(name: str, others: dict[str, FixedTrainer] | None = None, **terms: Any) -> FedJob:
    """A job of two rounds under ScatterAndGather. others: what else than FixedTrainer trains, by site."""
    sag = ScatterAndGather(
        min_clients=4, num_rounds=2, start_round=1, persistor_id="persistor", wait_time_after_min_received=0
    )
    job = _common(FedJob(name=name, min_clients=4), sag, FixedTrainer(), others, **terms)
    job.to_server(FullModelShareableGenerator(), id="shareable_generator")
    job.to_server(RecordingAggregator(terms_of(**terms), patience=PATIENCE), id="aggregator")
    return job


def fedavg(workspace: Path) -> int:
    """One round of new weights with proofs; the roster is pinned; site-4 returns metrics in the place of its update."""
    terms: dict[str, Any] = {"proofs": True, "roster": "pinned"}
    aggregator = RecordingAggregator(terms_of(**terms), patience=PATIENCE)
    controller = FedAvg(
        num_clients=4,
        num_rounds=1,
        start_round=1,
        persistor_id="persistor",
        aggregator=aggregator,
        ignore_result_error=True,  # else NVFlare ends the job with the first site that fails
    )
    job = _common(FedJob(name="fedavg", min_clients=4), controller, FixedTrainer(full=True, odd="site-4"), **terms)
    provision(workspace, [*allow_list(), OUR_TESTS])
    write_roster(workspace, {site: Home(workspace, site).identity().public for site in SITES})
    return int(job.simulator_run(str(workspace)))


def collab(workspace: Path) -> int:
    """Two rounds by the collab API; site-4 fails in the second."""
    recipe = CollabRecipe(job_name=workspace.name, server=Server(), client=Trainer(), min_clients=4)
    run = recipe.execute(SimEnv(clients=list(SITES), workspace_root=str(workspace.parent)))
    print(run.get_status())
    return 0


def provision(workspace: Path, classes: list[str]) -> None:
    """Write what the sites' administrators would; the simulator copies it to every site."""
    (workspace / "local").mkdir(parents=True)
    resources = {"format_version": 2, "class_allow_list": classes}
    (workspace / "local" / "resources.json").write_text(json.dumps(resources), encoding="utf-8")


JOBS: dict[str, Callable[[Path], int]] = {
    job.__name__: job for job in (scatter_and_gather, not_allowed, fedavg, collab)
}

if __name__ == "__main__":
    raise SystemExit(JOBS[sys.argv[1]](Path(sys.argv[2])))
