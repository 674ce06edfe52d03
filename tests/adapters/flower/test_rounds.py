"""Private rounds through unchanged strategies: the sums of the library, few exchanges, nothing plain on the way."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp.mod import fixedclipping_mod
from flwr.serverapp.strategy import DifferentialPrivacyClientSideFixedClipping, FedAdam, FedAvg, FedProx
from flwr.supercore.differential_privacy import KEY_CLIPPING_NORM

from secureagg import Layout, Session
from secureagg.adapters.flower import SecureGrid, secure_mod
from secureagg.adapters.flower.coordinates import vector_of
from secureagg.verification import verify_many
from tests.adapters import common
from tests.adapters.flower.local import LocalGrid, record_of, secured, tensors_of, terms_of, train_message, training_app
from tests.federation import Update, mean_of, quantised, same


def rounding(message: Message, context: Context) -> np.random.Generator:
    return common.rounding_of(context.node_config["partition-id"], message.content["config"]["server-round"])


def grid_of(directory: Path, clients: int = common.CLIENTS, **changes: Any) -> LocalGrid:
    app = training_app([secure_mod(terms_of(**changes), rounding=rounding)])
    return LocalGrid([app] * clients, directory)


def train(secure: SecureGrid, strategy: FedAvg, server_round: int = 1, model: Any = common.MODEL) -> Any:
    nodes = secure.get_node_ids()
    replies = secure.send_and_receive([train_message(n, model, server_round) for n in nodes], timeout=0)
    return strategy.aggregate_train(server_round, replies)


def expected_model(model: Update, server_round: int) -> Update:
    """Return the model plus the mean of what clients put on the grid, in plain integers."""
    plan, grids = replace(common.plan_of(), layout=Layout.of(model)), []  # FedAdam makes all of it float64
    for client, weight in enumerate(common.WEIGHTS):
        trained = [old + step for old, step in zip(model, common.update_of(client, server_round), strict=True)]
        update = [np.asarray(new - old) for new, old in zip(trained, model, strict=True)]  # rounded to float32 twice
        grids.append(quantised(plan, update, weight, common.rounding_of(client, server_round)))
    mean = mean_of(plan, [sum(column) for column in zip(*grids, strict=True)], sum(common.WEIGHTS))
    pairs = zip(model, mean, strict=True)
    return [np.asarray(old.astype(np.float64) + step.astype(np.float64)).astype(old.dtype) for old, step in pairs]


@pytest.mark.parametrize("proofs", [False, True])
def test_the_sum_is_the_expected_one(tmp_path: Path, proofs: bool) -> None:
    grid, strategy = grid_of(tmp_path, proofs=proofs), FedAvg()
    arrays, metrics = train(secured(grid, strategy, terms_of(proofs=proofs)), strategy)
    mean = tensors_of(arrays)
    assert same(mean, common.expected_mean())
    assert common.digest_of(common.sums_in(mean, sum(common.WEIGHTS)), sum(common.WEIGHTS)) == common.EXPECTED
    assert dict(metrics) == {}


@pytest.mark.parametrize(("proofs", "phases"), [(False, ["reveal"]), (True, ["check", "reveal"])])
def test_a_round_is_so_many_exchanges(tmp_path: Path, proofs: bool, phases: list[str]) -> None:
    grid, strategy = grid_of(tmp_path, proofs=proofs), FedAvg()
    secure = secured(grid, strategy, terms_of(proofs=proofs), prekey_rounds=2)
    for server_round in range(1, 6):  # more than two batches of prekeys
        assert train(secure, strategy, server_round)[0] is not None
    assert grid.exchanges == [["setup"], *[["contribute"], *([phase] for phase in phases)] * 5]


@pytest.mark.parametrize("strategy_type", [FedAvg, FedAdam, FedProx])
def test_strategies_run_unchanged(tmp_path: Path, strategy_type: type[FedAvg]) -> None:
    """Three whole rounds of `start` give, bit for bit, what the strategy makes of the mean of the quantised updates."""
    strategy, plain = strategy_type(), strategy_type()
    grid = grid_of(tmp_path)
    result = strategy.start(secured(grid, strategy, terms_of()), record_of(common.MODEL), num_rounds=3, timeout=0.0)
    arrays = record_of(common.MODEL)
    for server_round in range(1, 4):
        if strategy_type is FedAdam:
            plain.current_arrays = {name: array.numpy() for name, array in arrays.items()}
        reply = training_app([])(train_message(101), context=grid.contexts[101])
        reply.content["arrays"] = record_of(expected_model(tensors_of(arrays), server_round))
        arrays, _ = plain.aggregate_train(server_round, [reply])
        assert arrays is not None
    assert same(tensors_of(result.arrays), tensors_of(arrays))
    assert result.evaluate_metrics_clientapp[3]["accuracy"] == 1.0


def test_nothing_plain_travels(tmp_path: Path) -> None:
    """Not the weights, the update, the number of examples nor the loss: as text, float or integer."""
    grid, strategy = grid_of(tmp_path), FedAvg()
    train(secured(grid, strategy, terms_of()), strategy)
    sent = b"".join(grid.travelled)
    assert record_of(common.MODEL)["bias"].data in sent, "what does travel is found"
    for client in range(common.CLIENTS):
        for tensor in common.update_of(client):
            for start in range(0, tensor.size, 2):  # any two neighbouring values
                piece = tensor.ravel()[start : start + 2]
                assert piece.nbytes < 8 or piece.tobytes() not in sent
    assert b"num-examples" not in sent and b"loss" not in sent


def test_metrics_ride_in_the_sum(tmp_path: Path) -> None:
    terms = terms_of(metrics={"loss": 4.0})
    grid, strategy = grid_of(tmp_path, metrics={"loss": 4.0}), FedAvg()
    arrays, metrics = train(secured(grid, strategy, terms), strategy)
    expected = sum(w * (0.5 + client) for client, w in enumerate(common.WEIGHTS)) / sum(common.WEIGHTS)
    step = 8 * 4.0 / 2**15 * common.MAX_WEIGHT * common.CLIENTS / sum(common.WEIGHTS)
    assert metrics["loss"] == pytest.approx(expected, abs=step)
    assert common.sums_in(tensors_of(arrays), sum(common.WEIGHTS))
    assert b"loss" not in b"".join(grid.travelled)


def test_metrics_beyond_their_bound_are_clamped_and_the_update_keeps_its_clip(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"metrics": {"loss": 0.25}, "l2_clip": 0.01, "max_weight": 1}
    grid, strategy = grid_of(tmp_path, **changes), FedAvg()
    arrays, metrics = train(secured(grid, strategy, terms_of(**changes)), strategy)
    assert metrics["loss"] == pytest.approx(0.25, rel=1e-3)
    norms = [np.sqrt(sum(np.sum(t.astype(float) ** 2) for t in common.update_of(c))) for c in range(common.CLIENTS)]
    expected = sum(common.update_of(c)[0] * (0.01 / norm) for c, norm in enumerate(norms)) / common.CLIENTS
    assert np.abs(tensors_of(arrays)[0] - expected).max() < 2 * 0.01 / 2**15


def test_small_neighbours_are_clipped_together_with_metrics(tmp_path: Path) -> None:
    """Tensors that `Layout.join` makes one of."""
    terms = terms_of(metrics={"loss": 4.0}, max_weight=1)
    model, rng = [np.zeros(3, np.float32), np.zeros(2, np.float32)], np.random.default_rng(0)
    update = [rng.normal(0, 9, tensor.shape).astype(np.float32) for tensor in model]
    plan = terms.plan(Layout.of(model), 2)
    *clipped, metrics = vector_of(terms, plan, [tensor.copy() for tensor in update], {"loss": -1.0})
    factor = common.L2_CLIP / np.sqrt(sum(float((t.astype(float) ** 2).sum()) for t in update))
    assert all(np.allclose(found, tensor * factor) for found, tensor in zip(clipped, update, strict=True))
    assert metrics == pytest.approx([-common.L2_CLIP / 8 / 4])


def test_weight_is_one_when_every_client_counts_alike(tmp_path: Path) -> None:
    grid, strategy = grid_of(tmp_path, max_weight=1), FedAvg()
    arrays, _ = train(secured(grid, strategy, terms_of(max_weight=1)), strategy)
    mean = sum(common.update_of(client)[0] for client in range(common.CLIENTS)) / common.CLIENTS
    assert np.abs(tensors_of(arrays)[0] - mean).max() < 2 * common.L2_CLIP / 2**15


def test_clipping_on_the_clients_as_flower_does_it(tmp_path: Path) -> None:
    """`fixedclipping_mod` behind ours, and the strategy wrapper that it belongs to, here without noise."""
    norm = 0.5
    strategy = DifferentialPrivacyClientSideFixedClipping(FedAvg(), 0.0, norm, common.CLIENTS)
    terms = terms_of(max_weight=1)
    grid = LocalGrid([training_app([secure_mod(terms), fixedclipping_mod])] * common.CLIENTS, tmp_path)
    messages = [train_message(node, **{KEY_CLIPPING_NORM: norm}) for node in grid.apps]
    arrays, _ = strategy.aggregate_train(1, secured(grid, strategy, terms).send_and_receive(messages, timeout=0))
    updates = [common.update_of(client) for client in range(common.CLIENTS)]
    factors = [norm / np.sqrt(sum(float((t.astype(float) ** 2).sum()) for t in update)) for update in updates]
    expected = sum(factor * update[0] for factor, update in zip(factors, updates, strict=True)) / common.CLIENTS
    assert max(factors) < 1
    assert np.abs(tensors_of(arrays)[0] - expected).max() < 2 * common.L2_CLIP / 2**15


def test_what_is_no_training_passes(tmp_path: Path) -> None:
    grid, strategy = grid_of(tmp_path), FedAvg()
    secure = secured(grid, strategy, terms_of())
    message = train_message(101)
    message.metadata.message_type = "evaluate"
    (reply,) = secure.send_and_receive([message])
    assert reply.content["metrics"]["accuracy"] == 1.0 and grid.exchanges == [["evaluate"]]
    assert secure.send_and_receive([]) == []


def test_committee_of_dedicated_nodes(tmp_path: Path) -> None:
    grid, strategy = grid_of(tmp_path, clients=common.CLIENTS + 3), FedAvg()
    dedicated = [105, 106, 107]
    secure = secured(grid, strategy, terms_of(), committee_nodes=dedicated)
    replies = secure.send_and_receive([train_message(node) for node in range(101, 105)], timeout=0)
    assert same(tensors_of(strategy.aggregate_train(1, replies)[0]), common.expected_mean())
    answered = {node for node, context in grid.contexts.items() if list(tmp_path.glob(f"{node - 101}/*/journal-*"))}
    assert answered == set(dedicated)


def test_the_spool_can_be_verified(tmp_path: Path) -> None:
    grid, strategy = grid_of(tmp_path), FedAvg()
    train(secured(grid, strategy, terms_of(), spool=tmp_path / "spool"), strategy)
    (directory,) = (tmp_path / "spool").iterdir()
    session = Session.from_bytes((directory / "session").read_bytes())
    verdicts = verify_many(session, sorted(directory.glob("*.contribution")))
    assert [verdict.reason for verdict in verdicts] == [None] * common.CLIENTS
