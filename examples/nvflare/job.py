"""A federated logistic regression in NVFlare's simulator, whose server sees only sums.

python examples/nvflare/job.py                 # runs it in the simulator
python examples/nvflare/job.py --plain         # the same job without privacy
python examples/nvflare/job.py --export jobs   # writes the job to submit to a deployment
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
from nvflare.app_common.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.job_config.api import FedJob
from nvflare.job_config.defs import FilterType
from trainer import EXAMPLES, ModelFile, Trainer, examples_of, probabilities

from secureagg.adapters.nvflare import EncryptUpdates, PrivateAggregator, Terms

SITES = [f"site-{n}" for n in range(1, 6)]
ROUNDS = 3

TERMS = Terms(
    committee=SITES[:4],  # any three of these four open a sum
    quorum=3,
    l2_clip=2.0,
    max_weight=EXAMPLES,  # weights are the numbers of local steps; they stay hidden
    proofs=True,
    roster="collected",  # the simulator starts with empty sites; a deployment pins, which is the default
)


def job(*, private: bool) -> FedJob:
    """Return the job; privacy is a filter at the sites and another aggregator at the server."""
    made = FedJob(name="logistic-regression", min_clients=len(SITES))
    made.set_app_packages(["secureagg"])  # installed at every site, so it does not travel with the job
    made.to_server(ScatterAndGather(min_clients=3, num_rounds=ROUNDS, persistor_id="persistor"))
    made.to_server(ModelFile(), id="persistor")
    made.to_server(FullModelShareableGenerator(), id="shareable_generator")
    plain = InTimeAccumulateWeightedAggregator(expected_data_kind="WEIGHT_DIFF")
    made.to_server(PrivateAggregator(TERMS) if private else plain, id="aggregator")
    for site in SITES:
        made.to(Trainer(), site, tasks=["train"])
        if private:
            made.to(EncryptUpdates(TERMS), site, tasks=["train"], filter_type=FilterType.TASK_RESULT)
    return made


def accuracy(model_file: Path) -> float:
    """Return how often the model is right on examples that no site has."""
    examples, labels = examples_of(99)
    with np.load(model_file) as model:
        return float(np.mean((probabilities(dict(model), examples) > 0.5) == labels))


def main() -> None:
    """Run or export the job."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain", action="store_true", help="without privacy")
    parser.add_argument("--export", metavar="FOLDER", help="write the job there instead of running it")
    asked = parser.parse_args()
    made = job(private=not asked.plain)
    if asked.export:
        made.export_job(asked.export)
        print(f"written: {asked.export}/{made.name}")
        return
    with tempfile.TemporaryDirectory() as workspace:
        status = made.simulator_run(workspace)
        if status:
            raise SystemExit(f"the job ended with status {status}")
        found = accuracy(Path(workspace) / "server" / "simulate_job" / "model.npz")
    print(f"accuracy after {ROUNDS} rounds: {found:.3f}")


if __name__ == "__main__":
    main()
