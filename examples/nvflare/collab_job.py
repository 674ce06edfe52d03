"""The same training by NVFlare's collab API: the site publishes, the server calls.

python examples/nvflare/collab_job.py
"""

from __future__ import annotations

import tempfile

import numpy as np
from nvflare.collab import CollabRecipe, collab
from nvflare.recipe import SimEnv
from trainer import EXAMPLES, FEATURES, Arrays, examples_of, probabilities, trained

from secureagg.adapters.nvflare import PrivateSite, PrivateSum, Terms

SITES = [f"site-{n}" for n in range(1, 6)]
ROUNDS = 3

TERMS = Terms(
    committee=SITES[:4],
    quorum=3,
    l2_clip=2.0,
    max_weight=EXAMPLES,
    roster="collected",
)


class Site(PrivateSite):
    """What a site does; `train` is not published, so that its result only leaves encrypted."""

    terms = TERMS

    def train(self, model: Arrays, round_number: int) -> tuple[Arrays, int]:
        examples, labels = examples_of(int(collab.site_name.rpartition("-")[2]))
        after = trained(model, examples, labels)
        return {name: after[name] - model[name] for name in model}, len(labels)


class Server:
    """What the server does."""

    @collab.main
    def run(self) -> None:
        private = PrivateSum(TERMS)
        model = {"weights": np.zeros(FEATURES, np.float32), "bias": np.zeros(1, np.float32)}
        examples, labels = examples_of(99)
        for round_number in range(ROUNDS):
            outcome = private.round(round_number, model)
            model = {name: model[name] + outcome.mean[name] for name in model}
            right = float(np.mean((probabilities(model, examples) > 0.5) == labels))
            print(f"round {round_number}: sum of {len(outcome.sites)} sites, accuracy {right:.3f}", flush=True)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as workspace:
        recipe = CollabRecipe(job_name="collab-logistic-regression", server=Server(), client=Site(), min_clients=3)
        recipe.execute(SimEnv(clients=SITES, workspace_root=workspace))
