"""What steers training is the same for all nodes of a sum, or no sum is opened."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from secureagg import ParameterError
from secureagg.adapters.flower import SecureGrid, secure_mod
from secureagg.adapters.flower.task import settings_of, task_of
from tests.adapters import common
from tests.adapters.flower.local import LocalGrid, secured, terms_of, train_message, training_app

VICTIM = 101
BOUND_TO_OTHERS = "bound to another model, or to other settings, than it sent"


def world(directory: Path) -> tuple[LocalGrid, SecureGrid]:
    app = training_app([secure_mod(terms_of())])

    @app.train("idle")
    def idle(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    grid = LocalGrid([app] * common.CLIENTS, directory)
    return grid, secured(grid, FedAvg(), terms_of())


def messages_for(grid: LocalGrid) -> list[Message]:
    return [train_message(node, lr=0.1, layers=["dense"]) for node in grid.apps]


def exchanged(message: Message) -> None:
    """Give two arrays of one shape each other's names, in the same order of values."""
    record = message.content["arrays"]
    message.content["arrays"] = ArrayRecord(
        {"scale": record["dense"], "dense": record["scale"], "bias": record["bias"]}
    )


def reshaped(message: Message) -> None:
    array = message.content["arrays"]["bias"]
    message.content["arrays"]["bias"] = Array(array.dtype, (17, 1), array.stype, array.data)


def configured(**changes: Any) -> Callable[[Message], None]:
    return lambda message: message.content["config"].update(changes)


def with_record(name: str, record: Any) -> Callable[[Message], None]:
    return lambda message: message.content.update({name: record})


def renamed(message: Message) -> None:
    records = dict(message.content.items())
    records["configuration"] = records.pop("config")
    message.content = RecordDict(records)


def regrouped(message: Message) -> None:
    message.metadata.group_id = "2"


def retyped(message: Message) -> None:
    message.metadata.message_type = "train.idle"


TAMPERED = {
    "names": exchanged,
    "shape": reshaped,
    "rate": configured(lr=0.0),
    "integer": configured(lr=1),
    "list": configured(layers=["dense", "bias"]),
    "more": configured(epochs=0),
    "record": with_record("more", ConfigRecord({"idle": True})),
    "metrics": with_record("more", MetricRecord({"idle": 1})),
    "name": renamed,
    "group": regrouped,
    "type": retyped,
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
def test_what_only_one_node_is_told_is_not_followed(tmp_path: Path, tamper: Callable[[Message], None]) -> None:
    """The server tells all nodes but one something else than the session it announces is bound to."""
    grid, secure = world(tmp_path)

    def between(phase: str, message: Message) -> Message:
        if phase == "to contribute" and message.metadata.dst_node_id != VICTIM:
            tamper(message)
        return message

    grid.between = between
    replies = secure.send_and_receive(messages_for(grid), timeout=0)
    errors = {reply.metadata.src_node_id: reply.error.reason for reply in replies if reply.has_error()}
    assert set(errors) == set(grid.apps), "one update alone is not opened"
    assert {node for node, reason in errors.items() if BOUND_TO_OTHERS in reason} == set(grid.apps) - {VICTIM}
    assert len(list(tmp_path.glob("*/*/claims/*"))) == 1, "nobody else contributed"


@pytest.mark.parametrize(
    ("tamper", "reason"),
    [
        (configured(lr=0.0), "different record 'config'"),
        (renamed, "different records"),
        (regrouped, "different group id"),
        (retyped, "different message type"),
    ],
)
def test_a_strategy_with_a_task_for_each_node_is_refused(
    tmp_path: Path, tamper: Callable[[Message], None], reason: str
) -> None:
    grid, secure = world(tmp_path)
    messages = messages_for(grid)
    tamper(messages[2])
    with pytest.raises(ParameterError, match=reason):
        secure.send_and_receive(messages, timeout=0)


def test_a_node_with_another_run_config_is_left_out_and_named(tmp_path: Path) -> None:
    grid, secure = world(tmp_path)
    for node, context in grid.contexts.items():
        context.run_config = {"lr": 0.1 if node != 101 else 0.0}
    replies = secure.send_and_receive(messages_for(grid), timeout=0)
    errors = {reply.metadata.src_node_id: reply.error.reason for reply in replies if reply.has_error()}
    assert errors == {101: "secureagg: its run config is another than that of most nodes"}


def test_another_run_config_cannot_come_later(tmp_path: Path) -> None:
    grid, secure = world(tmp_path)

    def between(phase: str, message: Message) -> Message:
        if phase == "to contribute" and message.metadata.dst_node_id != VICTIM:
            grid.contexts[message.metadata.dst_node_id].run_config = {"lr": 0.0}
        return message

    grid.between = between
    replies = secure.send_and_receive(messages_for(grid), timeout=0)
    assert all(reply.has_error() for reply in replies)
    assert sum(BOUND_TO_OTHERS in reply.error.reason for reply in replies) == common.CLIENTS - 1


def text(value: str) -> bytes:
    return struct.pack("<I", len(value.encode())) + value.encode()


def test_the_bytes_are_the_documented_ones() -> None:
    config = ConfigRecord({"lr": 0.5, "epochs": -3, "on": True, "name": "é", "key": b"\x01", "few": [1, 2], "none": []})
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.zeros((6, 5), np.float32))}), "config": config})
    content["secureagg"] = ConfigRecord({"phase": "contribute"})
    message = Message(content, dst_node_id=1, message_type="train.more", group_id="7")
    settings = hashlib.sha256(struct.pack("<I", 2) + text("a") + b"s" + text("x") + text("b") + b"b\x00").digest()
    assert settings_of({"b": False, "a": "x"}) == settings
    expected = text("secureagg v1 flower task") + settings + text("train.more") + text("7") + struct.pack("<I", 2)
    expected += text("arrays") + b"A" + struct.pack("<I", 1)
    expected += text("w") + text("float32") + text("numpy.ndarray") + text("6,5")
    expected += text("config") + b"C" + struct.pack("<I", 7)
    expected += text("lr") + b"f" + struct.pack("<d", 0.5) + text("epochs") + b"i" + text("-3") + text("on") + b"b\x01"
    expected += text("name") + b"s" + text("é") + text("key") + b"y" + text("\x01")
    expected += text("few") + b"l" + struct.pack("<I", 2) + b"i" + text("1") + b"i" + text("2")
    expected += text("none") + b"l" + struct.pack("<I", 0)
    assert task_of(message, settings) == hashlib.sha256(expected).digest()


def test_travelling_changes_nothing() -> None:
    """Flower keeps names, order and types of what it serialises, but in a list all become what its first element is."""
    message = train_message(101, z=1, a=[0.5, -0.0], text=["é"], flag=True, few=[], mixed=[1, True])
    message.content["last"] = MetricRecord({"b": 1, "a": [2.0]})
    objects = {key: each.deflate() for key, each in get_all_nested_objects(message.content).items()}
    arrived = Message(
        inflate_object_from_contents(message.content.object_id, objects), dst_node_id=101, message_type="train"
    )
    assert task_of(arrived, bytes(32)) == task_of(message, bytes(32))
