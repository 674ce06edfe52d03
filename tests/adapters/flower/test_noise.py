"""Noise in the sum: as much as the plan says, whoever adds it; nodes hold plans and budgets against it."""

from __future__ import annotations

import copy
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message, MetricRecord
from flwr.serverapp.strategy import FedAvg

import secureagg as sa
from secureagg.adapters.flower import Committee, Terms, exchange, secure_mod
from secureagg.adapters.flower.coordinates import vector_of
from secureagg.dp.mechanisms import Mechanism
from tests.adapters import common
from tests.adapters.flower.local import (
    Away,
    LocalGrid,
    secured,
    tensors_of,
    terms_of,
    train_message,
    training_app,
)
from tests.adapters.flower.test_failures import broken, emptied

STD = 60.0  # of one party's noise, in grid steps: given, so that no plan need search for it
NODES = range(101, 101 + common.CLIENTS)
BY = {
    "clients": sa.DistributedGaussian,
    "committee": sa.Skellam,
    "aggregator": sa.CentralGaussian,
}


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "_GRACE_SECONDS", 0.0)


def given(by: Any = "committee", **changes: Any) -> Mechanism:
    fields: dict[str, Any] = {"epsilon": 40.0, "delta": 1e-5, "rounds": 2, "noise_std_grid": STD, "noise_by": by}
    return BY[by or "clients"](**(fields | changes))


def noisy_terms(noise: Mechanism | None, **changes: Any) -> Terms:
    """Return terms with a coarse grid, and a committee of four of whom three open."""
    fields: dict[str, Any] = {"max_weight": 1, "value_bits": 7, "committee": Committee(4)}
    return terms_of(noise=noise, **(fields | changes))


class World:
    """Four nodes that are clients and committee; notes which nodes each phase asks, and which trained."""

    def __init__(self, directory: Path, offered: Terms, asked: Terms | None = None, **settings: Any) -> None:
        self.trained: list[int] = []
        mods = [secure_mod(offered if asked is None else asked), self.note_training]
        self.grid = LocalGrid([training_app(mods)] * common.CLIENTS, directory)
        self.secure = secured(self.grid, FedAvg(), offered, **settings)
        self.asked: dict[str, list[int]] = defaultdict(list)
        self.faults: dict[tuple[str, int], Any] = {}
        self.grid.between = self.note

    def note(self, phase: str, message: Message) -> Message:
        if phase.startswith("to "):
            self.asked[phase.removeprefix("to ")].append(message.metadata.dst_node_id)
            return message
        act = self.faults.get((phase, message.metadata.src_node_id))
        return message if act is None else act(message)

    def note_training(self, message: Message, context: Context, call_next: Any) -> Message:
        self.trained.append(context.node_id)
        return call_next(message, context)

    def round(self, server_round: int = 1, nodes: Sequence[int] = NODES) -> tuple[list[Message], dict[int, str]]:
        """Return the good replies, and the errors by node."""
        messages = [train_message(node, server_round=server_round) for node in nodes]
        replies = self.secure.send_and_receive(messages, timeout=0)
        errors = {reply.metadata.src_node_id: reply.error.reason for reply in replies if reply.has_error()}
        return [reply for reply in replies if reply.has_content()], errors


def away(message: Message) -> Message:
    raise Away


def noise_in(replies: Sequence[Message], clients: Sequence[int] = range(common.CLIENTS)) -> float:
    """Return how far the sum is from the exact one, in grid steps a coordinate."""
    mean = tensors_of(replies[0].content["arrays"])
    exact = [sum(common.update_of(c)[i] for c in clients) / len(clients) for i in range(len(mean))]
    errors = np.concatenate([np.ravel(found - right) for found, right in zip(mean, exact, strict=True)])
    return math.sqrt(np.mean(errors**2)) * len(clients) * 63 / common.L2_CLIP


@pytest.mark.parametrize("proofs", [False, True])
@pytest.mark.parametrize(("by", "parties"), [("clients", 4), ("committee", 4), ("aggregator", 1)])
def test_the_sum_is_as_noisy_as_planned(tmp_path: Path, by: str, parties: int, proofs: bool) -> None:
    world = World(tmp_path, noisy_terms(given(by), proofs=proofs))
    replies, errors = world.round()
    assert not errors and len(replies) == common.CLIENTS
    assert noise_in(replies) == pytest.approx(STD * math.sqrt(parties), rel=0.5)  # five times what 48 draws spread
    (kept, *_) = tmp_path.rglob("ledger")
    against = "recipients" if by == "aggregator" else "participants"
    assert f'"adversary":"{against}"' in kept.read_text().splitlines()[0]
    phases = ["noise"] * (by == "committee") + ["check"] * proofs + ["reveal"]
    assert world.grid.exchanges == [["setup"], ["contribute"], *([phase] for phase in phases)]


@pytest.mark.parametrize("proofs", [False, True])
@pytest.mark.parametrize("act", [away, broken, emptied])
def test_a_member_without_noise_is_asked_for_nothing_else(tmp_path: Path, act: Any, proofs: bool) -> None:
    world = World(tmp_path, noisy_terms(given(), proofs=proofs))
    world.faults["noise", 102] = act
    replies, errors = world.round()
    assert not errors and noise_in(replies) == pytest.approx(STD * math.sqrt(3), rel=0.5)
    assert world.asked["noise"] == list(NODES) and world.asked["reveal"] == [101, 103, 104]
    assert world.asked["check"] == ([101, 103, 104] if proofs else [])
    replies, errors = world.round(2)
    assert not errors and len(replies) == common.CLIENTS


def test_noise_of_too_few_members_opens_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, noisy_terms(given()))
    world.faults = {("noise", node): away for node in (102, 103)}
    replies, errors = world.round()
    assert not replies and "the noise of 2 members is admitted, and 3 must answer" in errors[101]
    assert not world.asked["reveal"]


def test_a_member_cannot_give_noise_as_another(tmp_path: Path) -> None:
    world = World(tmp_path, noisy_terms(given()))
    seen: list[Message] = []

    def swapped(message: Message) -> Message:
        seen.append(message)
        message.content["secureagg-bytes"] = seen[0].content["secureagg-bytes"]
        return message

    world.faults = {("noise", node): swapped for node in (101, 102)}
    _, errors = world.round()
    assert not errors and world.asked["reveal"] == [101, 103, 104]


@pytest.mark.parametrize(
    ("offered", "asked", "refusal"),
    [
        ({"noise": None}, {}, "has no noise, this node asks for Skellam("),
        ({}, {"noise": None}, "this node asks for no noise"),
        ({"noise": given(epsilon=41.0)}, {}, "epsilon=41.0"),
        ({"noise": given(delta=1e-4)}, {}, "delta=0.0001"),
        ({"noise": given(rounds=1)}, {}, "rounds=1"),
        ({"noise": given("clients", noise_by="committee")}, {}, "has DistributedGaussian("),
        ({"noise": given(noise_by=None)}, {}, "noise_by='clients'), this node asks for"),
        ({"noise": given(noise_std_grid=59.5)}, {}, "noise_std_grid 59.5 in this node's grid, this node asks for 60"),
        ({"rotate": True}, {}, "rotate True, this node asks for False"),
    ],
)
def test_a_node_takes_no_plan_with_other_noise(
    tmp_path: Path, offered: dict[str, Any], asked: dict[str, Any], refusal: str
) -> None:
    world = World(tmp_path, noisy_terms(**{"noise": given()} | offered), noisy_terms(**{"noise": given()} | asked))
    replies, errors = world.round()
    assert not replies and not world.trained and not list(tmp_path.glob("*/*/ledger"))
    assert all(refusal in reason for reason in errors.values()), errors


@pytest.mark.parametrize("metrics", [{}, {"loss": 1.0}])
@pytest.mark.parametrize(
    "grid",
    [{"value_bits": 10}, {"value_bound": common.L2_CLIP / 8}, {"value_bits": 6}, {"l2_clip": common.L2_CLIP / 2}],
)
def test_noise_is_compared_beside_the_clip_whatever_the_grid(grid: dict[str, Any], metrics: dict[str, float]) -> None:
    """A server that plans a finer grid adds less noise, in the same number of steps."""
    mine, layout = noisy_terms(given(), metrics=metrics), sa.Layout.of(common.MODEL)
    model = mine.plan(layout, common.CLIENTS)

    def theirs(share: float) -> sa.RoundPlan:
        shape = noisy_terms(None, metrics=metrics, **grid).plan(layout, common.CLIENTS)
        noise = given(noise_std_grid=share * STD / model.clip_grid * shape.clip_grid)
        return noisy_terms(noise, metrics=metrics, **grid).plan(layout, common.CLIENTS)

    mine.accept(theirs(1.0))
    with pytest.raises(sa.ParameterError, match=r"noise_std_grid 59\.4 in this node's grid, this node asks for 60"):
        mine.accept(theirs(0.99))


def test_a_member_makes_no_noise_for_a_model_larger_than_the_terms_allow(tmp_path: Path) -> None:
    """A member that does not train sees no model, and takes its size from the plan."""
    size = sa.Layout.of(common.MODEL).size
    offered, asked = (noisy_terms(given(), committee=Committee(2), max_values=most) for most in (size, size - 1))
    world = World(tmp_path, offered, asked, committee_nodes=[103, 104])
    world.grid.apps |= dict.fromkeys((101, 102), training_app([secure_mod(offered)]))
    replies, errors = world.round(1, [101, 102])
    assert world.asked["noise"] == [103, 104] and not replies
    assert "the noise of 0 members is admitted" in errors[101]


def test_the_largest_model_is_that_of_the_terms() -> None:
    size = sa.Layout.of(common.MODEL).size
    with pytest.raises(sa.ParameterError, match=f"the model has {size + 1} values, max_values is {size}"):
        terms_of(max_values=size, metrics={"loss": 1.0}).plan(sa.Layout.of(common.MODEL), 4)
    plan = terms_of(max_values=size).plan(sa.Layout.of(common.MODEL), 4)
    with pytest.raises(sa.ParameterError, match=f"has {size} values, this node asks for at most {size - 1}"):
        terms_of(max_values=size - 1).accept(plan)


def test_a_plan_with_more_noise_than_asked_is_taken(tmp_path: Path) -> None:
    world = World(tmp_path, noisy_terms(given()), noisy_terms(given(noise_std_grid=None, epsilon=40)))
    assert not world.round()[1]


def test_a_node_that_has_spent_its_budget_refuses_and_the_rest_go_on(tmp_path: Path) -> None:
    world = World(tmp_path, noisy_terms(given("clients", rounds=1)))
    assert not world.round(1, [101, 102])[1]
    replies, errors = world.round(2)
    assert set(errors) == {101, 102} and len(replies) == 2
    for reason in errors.values():
        assert "the privacy budget is used up: 1 rounds are debited of ε = 40" in reason
    assert world.trained == [101, 102, 103, 104], "who is spent does not train in vain"
    ledgers = list(tmp_path.glob("*/*/ledger"))
    assert len(ledgers) == common.CLIENTS and all(path.stat().st_mode & 0o077 == 0 for path in ledgers)


def test_a_context_that_comes_back_late_brings_no_second_budget(tmp_path: Path) -> None:
    """As when an evaluation that began before the first round ends after it, or a SuperNode restarts."""
    world = World(tmp_path, noisy_terms(given("clients", rounds=1)))
    before = copy.deepcopy(world.grid.contexts)
    assert not world.round()[1]
    world.grid.contexts = before
    world.secure = secured(world.grid, FedAvg(), noisy_terms(given("clients", rounds=1)))  # and the server asks anew
    _, errors = world.round(2)
    assert set(errors) == set(NODES) and all("budget is used up" in reason for reason in errors.values())
    assert len(list(tmp_path.glob("*/*/ledger"))) == common.CLIENTS


def test_a_smaller_cohort_costs_the_same(tmp_path: Path) -> None:
    """The noise that is accounted for is that of the terms' quorum, however many nodes are asked."""
    world = World(tmp_path, noisy_terms(given("clients", noise_by="committee"), committee=Committee(3), proofs=True))
    assert not world.round(1)[1]
    assert not world.round(2, [101, 102])[1]


def test_a_server_that_has_spent_its_budget_begins_no_round(tmp_path: Path) -> None:
    terms = noisy_terms(given("clients"))
    event = terms.plan(sa.Layout.of(common.MODEL), common.CLIENTS).privacy_event()
    with sa.Ledger(tmp_path / "models", (40.0, 1e-5), sa.Relation.ZERO_OUT, planned=[event]) as ledger:
        world = World(tmp_path, terms, ledger=ledger)
        assert not world.round()[1] and len(ledger) == 1
        replies, errors = world.round(2)
        assert not replies and "no round: 1 rounds are debited of the server's ε = 40" in errors[101]
    assert world.trained == list(NODES)


def test_rounding_that_somebody_knows_is_refused_with_noise() -> None:
    with pytest.raises(sa.ParameterError, match="rounding with noise"):
        secure_mod(noisy_terms(given()), rounding=lambda message, context: np.random.default_rng(0))


def test_weights_are_uniform_with_noise() -> None:
    with pytest.raises(sa.ParameterError, match="max_weight = 40 with noise"):
        noisy_terms(given(), max_weight=40).plan(sa.Layout.of(common.MODEL), 4)


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("value_bound", [None, 1.0])
def test_noise_hides_the_metrics_too(rotate: bool, value_bound: float | None) -> None:
    """What noise is sized for is the longest vector that can be contributed, metrics and all."""
    terms = noisy_terms(
        given("clients", noise_std_grid=4000.0),
        metrics={"loss": 10.0, "error": 1.0},
        rotate=rotate,
        value_bound=value_bound,
        value_bits=12,
    )
    plan = terms.plan(sa.Layout.of(common.MODEL), common.CLIENTS)
    longest = vector_of(terms, plan, [np.full_like(t, 100.0) for t in common.MODEL], {"loss": -99.0, "error": 99.0})
    norm = math.sqrt(sum(float(np.sum(np.square(tensor, dtype=np.float64))) for tensor in longest))
    assert norm == pytest.approx(plan.l2_clip, rel=1e-6) and plan.l2_clip > common.L2_CLIP
    assert plan.privacy_event().l2_clip_grid == pytest.approx(norm * plan.quantiser.scale, rel=1e-6)
    update = math.sqrt(sum(float(np.sum(np.square(tensor, dtype=np.float64))) for tensor in longest[:-1]))
    assert update == pytest.approx(common.L2_CLIP, rel=1e-6)


@pytest.mark.parametrize("rotate", [False, True])
def test_revealed_metrics_are_noisy(tmp_path: Path, rotate: bool) -> None:
    changes: dict[str, Any] = {"metrics": {f"loss{i}": 5.0 for i in range(16)}, "rotate": rotate, "value_bits": 10}
    noise = given("clients", noise_std_grid=800.0)
    world = World(tmp_path, noisy_terms(noise, **changes))

    def reporting(message: Message, context: Context, call_next: Any) -> Message:
        reply = call_next(message, context)
        reply.content["metrics"] = MetricRecord({"num-examples": 1} | dict.fromkeys(changes["metrics"], 2.0))
        return reply

    app = training_app([secure_mod(noisy_terms(noise, **changes)), reporting])
    world.grid.apps = dict.fromkeys(NODES, app)
    replies, errors = world.round()
    assert not errors
    found = np.array([replies[0].content["metrics"][name] for name in changes["metrics"]])
    plan = noisy_terms(noise, **changes).plan(sa.Layout.of(common.MODEL), common.CLIENTS)
    std = 800.0 / math.sqrt(common.CLIENTS) / plan.quantiser.scale / (common.L2_CLIP / 8) * 5.0
    assert 0.3 * std < math.sqrt(np.mean((found - 2.0) ** 2)) < 2 * std
