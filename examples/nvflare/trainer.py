"""Logistic regression in numpy, as NVFlare trains it: the model comes in as a task, its difference goes out.

Nothing here knows of secureagg: the same executor serves a plain job, NVFlare's HE and a private sum.
"""

from __future__ import annotations

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.learnable_persistor import LearnablePersistor
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable

FEATURES, EXAMPLES = 20, 400

Arrays = dict[str, np.ndarray]


def examples_of(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return examples (float32[n, FEATURES]) and labels (0 or 1): two overlapping clouds, the same at all sites."""
    direction = np.random.default_rng(0).normal(size=FEATURES)
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, EXAMPLES)
    clouds = rng.normal(size=(EXAMPLES, FEATURES)) + np.outer(labels - 0.5, direction / 2)
    return clouds.astype(np.float32), labels


def probabilities(model: Arrays, examples: np.ndarray) -> np.ndarray:
    """Return how likely each example is of class 1."""
    return 1 / (1 + np.exp(-(examples @ model["weights"] + model["bias"])))


def trained(model: Arrays, examples: np.ndarray, labels: np.ndarray, steps: int = 20, rate: float = 0.3) -> Arrays:
    """Return the model after some steps of gradient descent."""
    model = {name: tensor.copy() for name, tensor in model.items()}
    for _ in range(steps):
        error = probabilities(model, examples) - labels
        model["weights"] -= (rate * examples.T @ error / len(labels)).astype(np.float32)
        model["bias"] -= np.float32(rate * error.mean())
    return model


class Trainer(Executor):
    """Trains on the site's own examples."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        site = fl_ctx.get_identity_name()
        examples, labels = examples_of(int(site.rpartition("-")[2]))
        model = {name: np.asarray(tensor) for name, tensor in from_shareable(shareable).data.items()}
        accuracy = float(np.mean((probabilities(model, examples) > 0.5) == labels))
        self.log_info(fl_ctx, f"accuracy of the model received: {accuracy:.3f}")
        after = trained(model, examples, labels)
        update = {name: after[name] - model[name] for name in model}
        return DXO(DataKind.WEIGHT_DIFF, data=update, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: EXAMPLES}).to_shareable()


class ModelFile(LearnablePersistor):
    """Starts from zero, and saves to model.npz in the server's run directory."""

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        return make_model_learnable({"weights": np.zeros(FEATURES, np.float32), "bias": np.zeros(1, np.float32)}, {})

    def load(self, fl_ctx: FLContext) -> ModelLearnable:
        return self.load_model(fl_ctx)

    def save(self, learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        run = fl_ctx.get_engine().get_workspace().get_run_dir(fl_ctx.get_job_id())
        np.savez(f"{run}/model.npz", **learnable[ModelLearnableKey.WEIGHTS])
