"""Runs trainings one after the other, such as "private FedAvg", and writes what came of every round."""

from __future__ import annotations

import json
import pickle
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict, UserConfig
from flwr.serverapp import Grid, ServerApp, strategy
from private_flower.task import accuracy, new_model

from rehearsal.settings import ROUNDS, terms
from secureagg.adapters.flower import SecureGrid

app = ServerApp()


class Counted:
    """Counts the exchanges of a grid."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self.phases: list[str] = []

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        messages = list(messages)
        marker = messages[0].content.get("secureagg")
        self.phases.append("plain" if marker is None else str(marker["phase"]))
        return self._grid.push_messages(messages)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


@app.main()
def main(grid: Grid, context: Context) -> None:
    partitions = partitions_of(grid, int(context.run_config["nodes"]))
    out = Path(str(context.run_config["out"]))
    for training in str(context.run_config["trainings"]).split(","):
        models, figures = trained(grid, training, context.run_config, partitions)
        (out / f"{training}.models").write_bytes(pickle.dumps(models))
        (out / f"{training}.json").write_text(json.dumps(figures))
    (out / "done").touch()


def trained(
    grid: Grid, training: str, config: UserConfig, partitions: dict[int, int]
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the model before the first round and after each, and what is to be seen of the rounds."""
    way, name = training.split()
    models: list[dict[str, Any]] = []
    figures: dict[str, Any] = {"accuracy": {}, "failures": {}}

    def evaluated(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        models.append({key: array.numpy() for key, array in arrays.items()})
        figures["accuracy"][server_round] = accuracy(models[-1])
        return MetricRecord({"accuracy": figures["accuracy"][server_round]})

    nodes = int(config["nodes"])
    chosen = watched(getattr(strategy, name), figures, partitions)(
        min_train_nodes=nodes, min_available_nodes=nodes, fraction_evaluate=0.0
    )
    counted, agreed = Counted(grid), terms(config, proofs=way == "proven")
    committee = sorted(partitions, key=lambda node: partitions[node])[: agreed.committee.size]
    result = chosen.start(
        grid if way == "plain" else SecureGrid(counted, chosen, agreed, committee_nodes=committee),
        ArrayRecord({key: Array(tensor) for key, tensor in new_model().items()}),
        num_rounds=ROUNDS,
        timeout=float(config["timeout"]),
        evaluate_fn=evaluated,
    )
    figures["loss"] = {number: record["loss"] for number, record in result.train_metrics_clientapp.items()}
    figures["phases"] = counted.phases
    return models, figures


def partitions_of(grid: Grid, count: int) -> dict[int, int]:
    """Return which node has which part of the data, once so many are there."""
    while len(nodes := list(grid.get_node_ids())) < count:
        time.sleep(0.5)
    asked = [Message(RecordDict(), dst_node_id=node, message_type="query") for node in nodes]
    replies = grid.send_and_receive(asked, timeout=120)
    return {reply.metadata.src_node_id: int(reply.content["node"]["partition"]) for reply in replies}


def watched(strategy_type: type[strategy.FedAvg], figures: dict[str, Any], partitions: dict[int, int]) -> Any:
    """Return the strategy, unchanged but for a note of the failures it is shown."""

    class Watched(strategy_type):  # type: ignore[misc, valid-type]
        def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> Any:
            replies = list(replies)
            figures["failures"][server_round] = {
                partitions[reply.metadata.src_node_id]: reply.error.reason for reply in replies if reply.has_error()
            }
            self.min_train_nodes = self.min_available_nodes = 2  # a node that died does not come back
            return super().aggregate_train(server_round, replies)

    return Watched
