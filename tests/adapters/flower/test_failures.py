"""Who is missing or refused stays visible to the strategy, and nobody else's round suffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedAvg

from secureagg.adapters.flower import Committee, exchange, secure_mod
from secureagg.adapters.flower.coordinates import applied
from secureagg.errors import UnattributedFault
from tests.adapters import common
from tests.adapters.flower.local import (
    Away,
    LocalGrid,
    record_of,
    secured,
    tensors_of,
    terms_of,
    train_message,
    training_app,
)
from tests.adapters.flower.test_rounds import rounding
from tests.federation import same

FOUR = {"committee": Committee(4)}  # any three of four open the sum


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_GRACE_SECONDS", 0.0)


class World:
    """Four nodes, one strategy, and what `between` does on the way."""

    def __init__(self, directory: Path, **changes: Any) -> None:
        self.terms = terms_of(**(FOUR | changes))
        app = training_app([secure_mod(self.terms, rounding=rounding)])
        self.grid = LocalGrid([app] * common.CLIENTS, directory)
        self.strategy = FedAvg()
        self.secure = secured(self.grid, self.strategy, self.terms)

    def between(self, phase: str, nodes: set[int], act: Callable[[Message], Message]) -> None:
        """Let `act` change messages of this phase from (or, as "to …", to) these nodes."""

        def changed(found: str, message: Message) -> Message:
            metadata = message.metadata
            node = metadata.dst_node_id if found.startswith("to ") else metadata.src_node_id
            return act(message) if found == phase and node in nodes else message

        self.grid.between = changed

    def round(self, server_round: int = 1) -> tuple[Any, dict[int, str]]:
        """Return the strategy's arrays, and the errors it saw by node."""
        messages = [train_message(node, server_round=server_round) for node in self.grid.apps]
        replies = self.secure.send_and_receive(messages, timeout=0)
        errors = {r.metadata.src_node_id: r.error.reason for r in replies if r.has_error()}
        assert len(replies) == len(messages)
        return self.strategy.aggregate_train(server_round, replies)[0], errors


def away(message: Message) -> Message:
    raise Away


def broken(message: Message) -> Message:
    payload = bytearray(message.content["secureagg-bytes"]["payload"].data)
    payload[len(payload) // 2] ^= 1
    data = bytes(payload)
    message.content["secureagg-bytes"] = ArrayRecord({"payload": Array("uint8", (len(data),), "secureagg", data)})
    return message


def emptied(message: Message) -> Message:
    message.content = RecordDict({})
    return message


@pytest.mark.parametrize(
    ("phase", "act", "reason"),
    [
        ("contribute", away, "no contribution came in time"),
        ("to contribute", away, "no contribution came in time"),
        ("contribute", broken, "is not the one that was signed"),
        ("contribute", emptied, "has no payload"),
        ("setup", away, "it did not answer"),
    ],
)
@pytest.mark.parametrize("proofs", [False, True])
def test_a_node_that_fails_is_left_out_and_named(
    tmp_path: Path, phase: str, act: Callable[[Message], Message], reason: str, proofs: bool
) -> None:
    world = World(tmp_path, proofs=proofs, committee=Committee(2))
    world.between(phase, {102}, act)
    arrays, errors = world.round()
    assert same(tensors_of(arrays), common.expected_mean([0, 2, 3]))
    assert list(errors) == [102] and reason in errors[102]


@pytest.mark.parametrize("proofs", [False, True])
@pytest.mark.parametrize("act", [away, broken])
def test_a_committee_member_that_fails_is_not_needed(
    tmp_path: Path, act: Callable[[Message], Message], proofs: bool
) -> None:
    world = World(tmp_path, proofs=proofs)
    world.between("reveal", {103}, act)
    arrays, errors = world.round()
    assert same(tensors_of(arrays), common.expected_mean()) and not errors


def test_what_a_node_replies_cannot_act_on_the_servers_terminal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path)

    def shouting(message: Message, context: Context, call_next: Any) -> Message:
        if LocalGrid.phase(message) == "reveal":
            return Message(Error(2, "\x1b[2J\r\nall is well"), reply_to=message)
        return call_next(message, context)

    world.grid.apps[103] = training_app([shouting, secure_mod(world.terms, rounding=rounding)])
    assert not world.round()[1]
    assert r"committee node 103: \x1b[2J\r\nall is well" in caplog.text


def test_a_committee_that_fails_costs_the_round_and_no_more(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.between("reveal", {103, 104}, away)
    arrays, errors = world.round()
    assert arrays is None and set(errors) == {101, 102, 103, 104}
    assert "2 committee members answered, 3 are needed" in errors[101]
    world.grid.between = lambda phase, message: message
    arrays, errors = world.round(2)
    assert same(tensors_of(arrays), common.expected_mean(round_number=2)) and not errors


def test_too_few_contributions_are_not_opened(tmp_path: Path) -> None:
    world = World(tmp_path, quorum=3)
    world.between("contribute", {101, 102}, away)
    arrays, errors = world.round()
    assert arrays is None and "quorum is 3" in errors[103] and "in time" in errors[101]
    assert ["reveal"] not in world.grid.exchanges


def test_what_an_app_raises_reaches_the_strategy(tmp_path: Path) -> None:
    world = World(tmp_path)

    def failing(message: Message, context: Context, call_next: Any) -> Message:
        return Message(Error(2, "out of memory"), reply_to=message)

    world.grid.apps[102] = training_app([secure_mod(world.terms), failing])
    arrays, errors = world.round()
    assert errors == {102: "out of memory"}
    assert same(tensors_of(arrays), common.expected_mean([0, 2, 3]))


def test_a_member_that_cannot_be_had_at_first_is_replaced(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(3))
    world.between("setup", {101}, away)
    arrays, errors = world.round()
    assert same(tensors_of(arrays), common.expected_mean([1, 2, 3])) and list(errors) == [101]


def test_a_committee_that_cannot_be_made_is_no_round(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.between("setup", {101}, away)
    arrays, errors = world.round()
    assert arrays is None and set(errors) == {101, 102, 103, 104}
    assert "3 nodes can be committee members, the terms ask for 4" in errors[102]


def test_another_nodes_contribution_is_refused(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(2))
    kept: list[bytes] = []

    def act(message: Message) -> Message:
        kept.append(message.content["secureagg-bytes"]["payload"].data)
        data = kept[0]
        message.content["secureagg-bytes"] = ArrayRecord({"payload": Array("uint8", (len(data),), "secureagg", data)})
        return message

    world.between("contribute", {101, 102}, act)
    arrays, errors = world.round()
    assert list(errors) == [102] and "another node's" in errors[102]
    assert same(tensors_of(arrays), common.expected_mean([0, 2, 3]))


def returning(change: Callable[[RecordDict], None]) -> Any:
    """Return a mod that changes what the app replies, before `secure_mod` sees it."""

    def mod(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        if "arrays" in reply.content:
            change(reply.content)
        return reply

    return mod


def with_nan(content: RecordDict) -> None:
    tensors = tensors_of(content["arrays"])
    tensors[2][3] = np.nan
    content["arrays"] = record_of(tensors)


def with_integers(content: RecordDict) -> None:
    content["arrays"]["bias"] = Array(np.zeros(17, np.int64))


def with_metric(name: str, value: float) -> Callable[[RecordDict], None]:
    def change(content: RecordDict) -> None:
        content["metrics"][name] = value

    return change


def without(record: str) -> Callable[[RecordDict], None]:
    return lambda content: content.pop(record) and None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (with_nan, "array 'bias' holds NaN"),
        (with_integers, "array 'bias' came back as int64[17]"),
        (lambda content: content["arrays"].pop("bias") and None, "other arrays"),
        (lambda content: content.update(more=content["arrays"]), "2 ArrayRecords"),
        (without("metrics"), "0 MetricRecords"),
        (lambda content: content.update(metrics=MetricRecord({"loss": 1.0})), "no number as 'num-examples'"),
        (with_metric("num-examples", 41), "at most the terms' max_weight"),
        (with_metric("num-examples", 0), "at most the terms' max_weight"),
        (with_metric("num-examples", 2.5), "whole number"),
        (with_metric("loss", float("nan")), "no finite number as metric 'loss'"),
    ],
)
def test_an_app_that_returns_something_else_is_refused_by_its_own_node(
    tmp_path: Path, change: Callable[[RecordDict], None], reason: str
) -> None:
    world = World(tmp_path, metrics={"loss": 10.0}, committee=Committee(2))
    world.grid.apps[102] = training_app([secure_mod(world.terms), returning(change)])
    arrays, errors = world.round()
    assert list(errors) == [102] and reason in errors[102] and arrays is not None
    assert "2.5" not in errors[102]


def test_a_model_of_integers_is_refused_with_its_array(tmp_path: Path) -> None:
    world = World(tmp_path)
    messages = [train_message(node) for node in world.grid.apps]
    for message in messages:
        message.content["arrays"]["steps"] = Array(np.zeros(1, np.int64))
    with pytest.raises(ValueError, match="array 'steps' is int64"):
        world.secure.send_and_receive(messages, timeout=0)


def test_nodes_with_different_models_are_no_round(tmp_path: Path) -> None:
    world = World(tmp_path)
    messages = [train_message(node) for node in world.grid.apps]
    messages[2].content["arrays"]["bias"] = Array(np.ones(17, np.float32))
    with pytest.raises(ValueError, match="different models"):
        world.secure.send_and_receive(messages, timeout=0)
    with pytest.raises(ValueError, match="twice"):
        world.secure.send_and_receive([train_message(101), train_message(101)], timeout=0)


def test_a_model_that_its_dtype_cannot_hold_is_no_round() -> None:
    with pytest.raises(UnattributedFault, match="beyond float16 in tensor 1"):
        applied([np.zeros(2, np.float32), np.full(2, 65000, np.float16)], [np.zeros(2, np.float32), np.full(2, 600.0)])
