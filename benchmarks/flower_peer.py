"""One repetition of flower_secaggplus.py, in Flower's own environment: prints one line of JSON.

Both ways get the same updates and run Flower's messages through the same grid, whose nodes are called in this process:
`secaggplus_mod` with the stages of `SecAggPlusWorkflow`, and `secure_mod` with `SecureGrid`. A client's time is that of
its mod, over all messages of the round, less the app's own; the server's is that of the round less the time spent in
nodes, and without a strategy's own aggregation. Bytes are those of the objects that Flower sends, headers included.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}  # read when flwr is imported

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.client.mod.secure_aggregation.secaggplus_mod import secaggplus_mod
from flwr.common import Code, FitIns, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.compat.common import recorddict_compat as compat
from flwr.server.compat.legacy_context import LegacyContext
from flwr.server.workflow.constant import MAIN_CONFIGS_RECORD, MAIN_PARAMS_RECORD
from flwr.server.workflow.constant import Key as WorkflowKey
from flwr.server.workflow.secure_aggregation.secaggplus_workflow import SecAggPlusWorkflow
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.task_identity import TaskIdentity
from numpy.typing import NDArray

from secureagg import warm_up
from secureagg.adapters.flower import Committee, SecureGrid, Terms, secure_mod

SEED = 20_260_201  # of the updates
CLIP_RANGE = 1.0  # of SecAgg+: all values are within it
SHARES, THRESHOLD = 1.0, 0.7  # of the clients: one share a client, and so many of them to reconstruct
COMMITTEE = 3
NAME = "model"

App = Callable[[Message, Context], Message]
Model = list[NDArray[Any]]


class Nodes(Grid):
    """A grid whose nodes are called here; it notes their time, without the app's, and the bytes they send."""

    def __init__(self, mod: Callable[[Message, Context, App], Message], apps: dict[int, App]) -> None:
        self._mod, self._apps = mod, apps
        self._contexts = {node: context_of(node) for node in apps}
        self._replies: dict[str, Message] = {}
        self.seconds: dict[int, list[float]] = {node: [] for node in apps}
        self.sent: dict[int, int] = dict.fromkeys(apps, 0)
        self.received: dict[int, int] = dict.fromkeys(apps, 0)
        self.exchanges = 0
        self.away = 0.0

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        start = time.perf_counter()
        messages = list(messages)
        self.exchanges += 1
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            self._replies[message.metadata.message_id] = self._answer(message)
        self.away += time.perf_counter() - start
        return [message.metadata.message_id for message in messages]

    def _answer(self, message: Message) -> Message:
        node, trained = int(message.metadata.dst_node_id), 0.0

        def app(given: Message, context: Context) -> Message:
            nonlocal trained
            begun = time.perf_counter()
            reply = self._apps[node](given, context)
            trained = time.perf_counter() - begun
            return reply

        self.received[node] += bytes_of(message)
        records = {name: record.copy() for name, record in message.content.items()}  # as if they had travelled
        given = Message(RecordDict(records), reply_to=message)
        given.metadata.__dict__.update(vars(message.metadata))
        start = time.perf_counter()
        reply = self._mod(given, self._contexts[node], app)
        self.seconds[node].append(time.perf_counter() - start - trained)
        if reply.has_error():
            raise RuntimeError(reply.error.reason)
        self.sent[node] += bytes_of(reply)
        return reply

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self._replies.pop(each) for each in message_ids]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def get_node_ids(self) -> list[int]:
        return list(self._apps)

    def set_run(self, run: Any) -> None: ...

    @property
    def run(self) -> Any: ...

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise NotImplementedError


class FitStrategy:
    """What the SecAgg+ workflow asks of a strategy, without its own aggregation: that is not what is compared."""

    def __init__(self, nodes: Iterable[int]) -> None:
        self._proxies = [type("Proxy", (), {"node_id": node})() for node in nodes]
        self.mean: Model = []

    def configure_fit(self, server_round: int, parameters: Parameters, manager: object) -> list[tuple[Any, FitIns]]:
        return [(proxy, FitIns(parameters, {})) for proxy in self._proxies]

    def aggregate_fit(self, server_round: int, results: list[Any], failures: list[Any]) -> tuple[None, dict[str, Any]]:
        self.mean = parameters_to_ndarrays(results[0][1].parameters)
        return None, {}


def updates(clients: int, values: int) -> list[NDArray[np.float32]]:
    """Return each client's update: normal with σ = 0.05, within ±1. The model is zero."""
    rng = np.random.default_rng(SEED)
    return list(np.clip(rng.normal(0, 0.05, (clients, values)), -1, 1).astype(np.float32))


def secaggplus(given: list[NDArray[np.float32]]) -> dict[str, float]:
    """Return one round of Flower's SecAgg+."""

    def app(update: NDArray[np.float32]) -> App:
        fitted = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([update]), 1, {})
        return lambda message, context: Message(compat.fitres_to_recorddict(fitted, True), reply_to=message)

    nodes = Nodes(secaggplus_mod, {101 + i: app(update) for i, update in enumerate(given)})
    strategy = FitStrategy(nodes.get_node_ids())
    context = LegacyContext(context_of(0), strategy=strategy)
    context.state[MAIN_CONFIGS_RECORD] = ConfigRecord({WorkflowKey.CURRENT_ROUND: 1})
    context.state[MAIN_PARAMS_RECORD] = compat.parameters_to_arrayrecord(
        ndarrays_to_parameters([np.zeros_like(given[0])]), True
    )
    workflow = SecAggPlusWorkflow(SHARES, THRESHOLD, max_weight=1.0, clipping_range=CLIP_RANGE)
    start = time.perf_counter()
    workflow(nodes, context)
    return figures(nodes, time.perf_counter() - start, strategy.mean[0], given)


def ours(given: list[NDArray[np.float32]], value_bits: int, *, proofs: bool = False) -> dict[str, float]:
    """Return one round of the adapter: the second of a run, so that identities and prekeys are there."""

    def app(update: NDArray[np.float32]) -> App:
        content = {"arrays": ArrayRecord({NAME: Array(update)}), "metrics": MetricRecord({"num-examples": 1})}
        return lambda message, context: Message(RecordDict(dict(content)), reply_to=message)

    longest = max(float(np.linalg.norm(update.astype(np.float64))) for update in given)
    terms = Terms(
        l2_clip=longest,
        value_bound=1.0,
        max_weight=1,
        quorum=2,
        committee=Committee(COMMITTEE),
        value_bits=value_bits,
        proofs=proofs,
    )
    nodes, strategy = Nodes(secure_mod(terms), {101 + i: app(update) for i, update in enumerate(given)}), FedAvg()
    secure = SecureGrid(nodes, strategy, terms)
    model = ArrayRecord({NAME: Array(np.zeros_like(given[0]))})

    def round_of(number: int) -> list[Message]:
        content = {"arrays": model, "config": ConfigRecord({"server-round": number})}
        messages = [Message(RecordDict(dict(content)), node, "train") for node in nodes.get_node_ids()]
        return secure.send_and_receive(messages)

    round_of(1)
    for of_node in (nodes.sent, nodes.received):
        of_node.update(dict.fromkeys(of_node, 0))
    nodes.seconds = {node: [] for node in nodes.seconds}
    nodes.exchanges, nodes.away = 0, 0.0
    start = time.perf_counter()
    replies = round_of(2)
    return figures(nodes, time.perf_counter() - start, replies[0].content["arrays"][NAME].numpy(), given)


def figures(nodes: Nodes, seconds: float, mean: NDArray[Any], given: list[NDArray[np.float32]]) -> dict[str, float]:
    """Return what a round took. A client's figures are medians over the clients; the largest is a member's, with us."""
    clients = [sum(taken) for taken in nodes.seconds.values()]
    exact = np.mean(given, axis=0, dtype=np.float64)
    return {
        "client": statistics.median(clients),
        "slowest_client": max(clients),
        "server": seconds - nodes.away,
        "upload_bytes": statistics.median(nodes.sent.values()),
        "largest_upload_bytes": max(nodes.sent.values()),
        "download_bytes": statistics.median(nodes.received.values()),
        "extra_exchanges": nodes.exchanges - 1,
        "error": float(np.abs(mean - exact).max()),
    }


def bytes_of(message: Message) -> int:
    """Return the bytes of all objects that Flower sends for a message."""
    return sum(len(each.deflate()) for each in get_all_nested_objects(message).values())


def context_of(node: int) -> Context:
    config = {"secureagg-directory": str(Path(DIRECTORY, str(node)))}
    return Context(run_id=1, node_id=node, node_config=config, state=RecordDict(), run_config={})


def main() -> None:
    """Print one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--values", type=int, default=10**6)
    arguments = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    warm_up()
    given = updates(arguments.clients, arguments.values)
    found = {
        "SecAgg+": secaggplus(given),
        "16 bits": ours(given, 16),
        "22 bits": ours(given, 22),  # the grid of SecAgg+'s default, 2^22 steps
        "14 bits, proofs": ours(given, 14, proofs=True),  # as fine as a proof of a vector so much longer than 1 can be
    }
    print(json.dumps({"figures": found, "flwr": version("flwr"), "numpy": np.__version__}))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as DIRECTORY:
        main()
