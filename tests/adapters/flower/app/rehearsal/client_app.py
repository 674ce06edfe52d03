"""The example's training; private or not as the server asks. A doomed node waits in round 2 to be killed."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable
from private_flower.task import trained

from rehearsal.settings import rounding, terms
from secureagg.adapters.flower import secure_mod


def seeded(message: Message, context: Context) -> np.random.Generator:
    return rounding(int(context.node_config["partition-id"]), int(message.content["config"]["server-round"]))


def chosen(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """Be the mod under test, or none for a training in the clear."""
    if "secureagg" not in message.content:
        return call_next(message, context)
    agreed = terms(context.run_config)
    return secure_mod(agreed, rounding=None if agreed.noise else seeded)(message, context, call_next)


app = ClientApp(mods=[chosen])


@app.train()
def train(message: Message, context: Context) -> Message:
    client, server_round = int(context.node_config["partition-id"]), int(message.content["config"]["server-round"])
    if (client, server_round) == (context.run_config["doomed"], 2):
        Path(str(context.run_config["out"]), "training").touch()
        time.sleep(600)
    new, loss, count = trained({name: a.numpy() for name, a in message.content["arrays"].items()}, client)
    arrays = ArrayRecord({name: Array(tensor) for name, tensor in new.items()})
    return Message(
        RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": count, "loss": loss})}),
        reply_to=message,
    )


@app.query()
def query(message: Message, context: Context) -> Message:
    """Say which part of the data this node has."""
    return Message(
        RecordDict({"node": MetricRecord({"partition": int(context.node_config["partition-id"])})}), reply_to=message
    )
