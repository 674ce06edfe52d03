"""What a rehearsal must come to: the strategy on the mean of the quantised updates, in plain integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from numpy.typing import NDArray
from private_flower.task import new_model, trained
from rehearsal.settings import rounding, terms

from secureagg import Layout
from secureagg.adapters.flower import Terms
from tests.federation import mean_of, quantised

__all__ = ["replayed"]

Model = dict[str, NDArray[Any]]


def replayed(strategy: FedAvg, committee: int, proofs: bool, cohorts: Sequence[Sequence[int]]) -> list[Model]:
    """Return the model before the first round and after each; `cohorts` are the clients in each round's sum."""
    agreed = terms({"committee": committee, "epsilon": 0.0}, proofs=proofs)
    models: list[Model] = [dict(new_model())]
    for server_round, cohort in enumerate(cohorts, 1):
        arrays = record_of(models[-1])
        strategy.current_arrays = {name: array.numpy() for name, array in arrays.items()}  # FedAdam's own
        metrics = MetricRecord({"num-examples": 1})
        content = RecordDict({"arrays": record_of(mean_model(models[-1], agreed, server_round, cohort)), "m": metrics})
        reply = Message(content, reply_to=Message(RecordDict(), dst_node_id=1, message_type="train"))
        new, _ = strategy.aggregate_train(server_round, [reply])
        assert new is not None
        models.append({name: array.numpy() for name, array in new.items()})
    return models


def mean_model(model: Model, agreed: Terms, server_round: int, cohort: Sequence[int]) -> Model:
    """Return the model plus the mean of what these clients put on the grid."""
    plan = agreed.plan(Layout.of(list(model.values())), len(cohort))
    grids, weights = [], []
    for client in cohort:
        new, loss, count = trained(model, client)
        update = [np.asarray(new[name] - old) for name, old in model.items()]
        metric = np.array([loss / agreed.metrics["loss"] * agreed.l2_clip / 8])
        grids.append(quantised(plan, [*update, metric], count, rounding(client, server_round)))
        weights.append(count)
    mean = mean_of(plan, [sum(column) for column in zip(*grids, strict=True)], sum(weights))[:-1]
    return {
        name: np.asarray(old.astype(np.float64) + step.astype(np.float64)).astype(old.dtype)
        for (name, old), step in zip(model.items(), mean, strict=True)
    }


def record_of(model: Model) -> ArrayRecord:
    return ArrayRecord({name: Array(tensor) for name, tensor in model.items()})
