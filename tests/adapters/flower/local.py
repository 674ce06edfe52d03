"""Flower without its runtime: a grid whose nodes run their ClientApp when a message is pushed.

What travels is recorded as the bytes that Flower would send. Nodes can be away, and what they send can be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from secureagg.adapters.flower import Committee, SecureGrid, Terms
from tests.adapters import common
from tests.federation import Update

__all__ = [
    "Away",
    "LocalGrid",
    "context_of",
    "record_of",
    "secured",
    "tensors_of",
    "terms_of",
    "train_message",
    "training_app",
]

NAMES = ("dense", "scale", "bias")


def terms_of(**changes: Any) -> Terms:
    """Return the terms of `common`'s rounds, with these fields changed."""
    fields: dict[str, Any] = {
        "l2_clip": common.L2_CLIP,
        "max_weight": common.MAX_WEIGHT,
        "quorum": common.QUORUM,
        "committee": Committee(common.COMMITTEE),
        "value_bits": common.VALUE_BITS,
    }
    return Terms(**(fields | changes))


def secured(grid: Grid, strategy: Strategy, terms: Terms, **settings: Any) -> SecureGrid:
    """Return the grid under test, with few prekeys: members sync a file for each."""
    return SecureGrid(grid, strategy, terms, **({"prekey_rounds": 4} | settings))


def record_of(tensors: Update) -> ArrayRecord:
    """Return tensors of `common.MODEL` as Flower has them."""
    return ArrayRecord({name: Array(tensor) for name, tensor in zip(NAMES, tensors, strict=True)})


def tensors_of(record: ArrayRecord) -> Update:
    """Return the tensors of a record, in the model's order."""
    return [record[name].numpy() for name in NAMES]


def train_message(node: int, model: Update = common.MODEL, server_round: int = 1, **config: Any) -> Message:
    """Return what FedAvg would send."""
    content = RecordDict({"arrays": record_of(model), "config": ConfigRecord({"server-round": server_round} | config)})
    return Message(content, dst_node_id=node, message_type="train")


def training_app(mods: list[Any], *, loss: float = 0.5) -> ClientApp:
    """Return an app that adds `common.update_of` its partition and round."""
    app = ClientApp(mods=mods)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        assert list(message.content) == ["arrays", "config"], "the app sees what the strategy made"
        client, number = context.node_config["partition-id"], message.content["config"]["server-round"]
        update = common.update_of(client, number)
        new = [old + step for old, step in zip(tensors_of(message.content["arrays"]), update, strict=True)]
        metrics = MetricRecord({"num-examples": common.WEIGHTS[client], "loss": loss + client})
        content = RecordDict({"arrays": record_of([np.asarray(t) for t in new]), "metrics": metrics})
        return Message(content, reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"metrics": MetricRecord({"num-examples": 1, "accuracy": 1.0})}), reply_to=message)

    return app


def context_of(client: int, directory: Path, **node_config: Any) -> Context:
    """Return the Context of a node that has just started."""
    config = {"partition-id": client, "secureagg-directory": str(directory / str(client))} | node_config
    return Context(run_id=1, node_id=client + 101, node_config=config, state=RecordDict(), run_config={})


class Away(Exception):
    """A node does not answer."""


class LocalGrid(Grid):
    """Node 101 + i runs `apps[i]` with its own Context.

    between: is given each message and each reply, with its phase, and may raise Away or return another.
    """

    def __init__(self, apps: list[ClientApp], directory: Path) -> None:
        self.apps = {101 + i: app for i, app in enumerate(apps)}
        self.contexts = {101 + i: context_of(i, directory) for i in range(len(apps))}
        self.exchanges: list[list[str]] = []
        self.travelled: list[bytes] = []
        self.replies: dict[str, Message] = {}
        self.between: Callable[[str, Message], Message] = lambda phase, message: message

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        messages = list(messages)
        self.exchanges.append(sorted({self.phase(each) for each in messages}))
        for message in messages:
            message.metadata.__dict__["_message_id"] = str(uuid4())
            try:
                self.replies[message.metadata.message_id] = self.answer(message)
            except Away:
                continue
        return [each.metadata.message_id for each in messages]

    def answer(self, message: Message) -> Message:
        node, phase = message.metadata.dst_node_id, self.phase(message)
        message = self.between(f"to {phase}", message)
        self.record(message)
        try:
            reply = self.apps[node](message, self.contexts[node])
        except ValueError as error:  # as Flower reports what an app raises
            reply = Message(Error(2, str(error)), reply_to=message)
        reply = self.between(phase, reply)
        self.record(reply)
        return reply

    def record(self, message: Message) -> None:
        """Keep the bytes that would travel."""
        self.travelled += [each.deflate() for each in get_all_nested_objects(message).values()]

    @staticmethod
    def phase(message: Message) -> str:
        marker = message.content.get("secureagg") if message.has_content() else None
        return message.metadata.message_type if marker is None else marker["phase"]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        return [self.replies.pop(each) for each in message_ids if each in self.replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return self.pull_messages(self.push_messages(messages))

    def get_node_ids(self) -> list[int]:
        return list(self.apps)

    def set_run(self, run: Any) -> None:
        raise AssertionError("not used")

    @property
    def run(self) -> Any:
        raise AssertionError("not used")

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        raise AssertionError("not used")
