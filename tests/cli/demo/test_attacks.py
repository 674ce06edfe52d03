"""`secureagg demo --attack`: what each attack comes to with proofs and without, and how it is told."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fl_core
import secureagg as sa
from fl_core import Refused, RoundResult, Weights
from secureagg.adapters.fl_core import OneShotAggregation
from secureagg.cli.demo import experiment as experiment_module
from secureagg.cli.demo.attack_figures import finite
from secureagg.cli.demo.attack_wording import round_ranges
from secureagg.cli.demo.attacked import Enduring, choose_malicious
from secureagg.cli.demo.attacks import dishonest_clients
from secureagg.cli.demo.experiment import Lane, train_lanes
from secureagg.cli.demo.settings import Attack, AttackSettings
from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import Ended, Invoke, without_times

COHORT, MALICIOUS, HONEST = range(6), (1, 4), (0, 2, 3, 5)
CLIP, MAX_WEIGHT = 10.0, 40
MODEL: Weights = [np.zeros((30, 20), np.float32), np.zeros(7, np.float32)]
SMALL = ("demo", "--dataset", "breast-cancer", "--clients", "6", "--rounds", "3", "--partition", "iid")
ATTACKS = [attack for attack in Attack if attack is not Attack.NONE]
PROOF = "proof: the linear relations and norms do not add up"


@dataclass
class Outcome:
    """What a round came to; deviation: the mean's largest distance to that of what `clients` trained."""

    clients: tuple[int, ...]
    refused: dict[int, str]
    lost: str | None
    deviation: float


def rounds(attack: Attack, *, proofs: bool, mode: Any = "optimistic") -> Iterator[Outcome]:
    """Yield the outcomes of rounds under an attack by clients 1 and 4, one of five members away."""
    aggregation = OneShotAggregation(
        quorum=4,
        l2_clip=CLIP,
        committee=sa.Committee(5, mode=mode),
        max_weight=MAX_WEIGHT,
        assumed_corrupt_clients=2,
        absent_members=[0],
        seed=5,
        proofs=proofs,
        dishonest=dishonest_clients(AttackSettings(attack, MALICIOUS)),
    )
    enduring = Enduring(aggregation)
    for number in (1, 2):
        current, oracle = enduring.begin(number, MODEL, COHORT), fl_core.PlainMean().begin(number, MODEL, COHORT)
        updates = {}
        for client in COHORT:
            rng = np.random.default_rng([number, client])
            updates[client] = [rng.normal(0, 0.03, layer.shape).astype(layer.dtype) for layer in MODEL]
            payload = current.contribute(client, updates[client], 10.0 + client)
            try:
                current.admit(client, payload)
            except Refused:
                continue
        aggregate = current.finish()
        for client in aggregate.clients:
            oracle.admit(client, oracle.contribute(client, updates[client], 10.0 + client))
        expected = oracle.finish().mean
        pairs = zip(aggregate.mean, expected, strict=True)
        deviation = max(float(np.abs(mean - plain).max()) for mean, plain in pairs)
        if number in enduring.lost:
            assert all(not layer.any() for layer in aggregate.mean)
        yield Outcome(aggregate.clients, aggregate.refused, enduring.lost.get(number), deviation)


# n·max_weight / (scale·Σw) for four clients of weights 10 and more, and float32.
LIMIT = 4 * MAX_WEIGHT * CLIP / (2**15 - 1) / 40 + 1e-6


class TestRounds:
    @pytest.mark.parametrize("attack", [Attack.SCALE, Attack.NOISE, Attack.NAN])
    def test_with_proofs_a_vector_beyond_the_clip_is_refused_by_name(self, attack: Attack) -> None:
        for outcome in rounds(attack, proofs=True):
            assert outcome.refused == dict.fromkeys(MALICIOUS, PROOF)
            assert (outcome.clients, outcome.lost) == (HONEST, None)
            assert outcome.deviation <= LIMIT

    @pytest.mark.parametrize("attack", [Attack.SCALE, Attack.NOISE])
    def test_without_proofs_it_is_in_the_mean_unnoticed(self, attack: Attack) -> None:
        for outcome in rounds(attack, proofs=False):
            assert (outcome.refused, outcome.lost, outcome.clients) == ({}, None, tuple(COHORT))
            assert outcome.deviation > 1  # of updates of ±0.1

    def test_without_proofs_garbage_loses_the_round_and_nobody_is_named(self) -> None:
        for outcome in rounds(Attack.NAN, proofs=False):
            assert outcome.lost is not None and "the residual exceeds the plan's noise bound" in outcome.lost
            assert outcome.refused == {}

    @pytest.mark.parametrize("proofs", [False, True])
    def test_a_replay_is_of_another_session(self, proofs: bool) -> None:
        first, second = rounds(Attack.REPLAY, proofs=proofs)
        assert (first.clients, first.refused) == (tuple(COHORT), {})
        assert (second.clients, second.refused.keys(), second.lost) == (HONEST, set(MALICIOUS), None)
        assert all("made for another session" in reason for reason in second.refused.values())
        assert max(first.deviation, second.deviation) <= LIMIT

    def test_wrong_shares_lose_an_optimistic_round(self) -> None:
        for outcome in rounds(Attack.WRONG_SHARES, proofs=False):
            assert outcome.lost is not None and "member 2 complains about clients [1, 4]" in outcome.lost

    @pytest.mark.parametrize(("proofs", "mode"), [(True, "optimistic"), (False, "robust")])
    def test_who_deals_them_is_left_out_where_shares_are_checked_first(self, proofs: bool, mode: str) -> None:
        for outcome in rounds(Attack.WRONG_SHARES, proofs=proofs, mode=mode):
            assert outcome.refused == dict.fromkeys(MALICIOUS, "dealt bad shares: members [2, 4] complain")
            assert (outcome.clients, outcome.lost) == (HONEST, None)
            assert outcome.deviation <= LIMIT

    def test_nobody_attacks_by_default(self) -> None:
        for outcome in rounds(Attack.NONE, proofs=True):
            assert (outcome.clients, outcome.refused) == (tuple(COHORT), {})
            assert outcome.deviation <= LIMIT


class TestMalicious:
    def test_are_a_share_drawn_by_the_seed(self) -> None:
        chosen = [choose_malicious(Attack.SCALE, 0.3, 20, seed).clients for seed in (0, 0, 1)]
        assert chosen[0] == chosen[1] != chosen[2]
        assert len(set(chosen[0])) == 6 and set(chosen[0]) <= set(range(20))
        assert len(choose_malicious(Attack.SCALE, 0.01, 20, 0).clients) == 1

    @pytest.mark.parametrize(("share", "clients"), [(0.5, 10), (0.2, 3), (1.0, 10)])
    def test_leave_a_quorum(self, share: float, clients: int) -> None:
        with pytest.raises(sa.ParameterError, match="fewer than the quorum"):
            choose_malicious(Attack.SCALE, share, clients, 0)


def figures_of(ended: Ended) -> Any:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


class TestDemo:
    @pytest.mark.parametrize("attack", ATTACKS)
    def test_with_proofs_it_trains_as_if_nobody_attacked(self, invoke: Invoke, attack: Attack) -> None:
        figures = figures_of(invoke(*SMALL, "--attack", attack, "--no-report", "--json"))
        honest, unproven, proven = (figures[lane] for lane in ("honest", "unproven", "proven"))
        (client,) = figures["attack"]["clients"]
        assert figures["attack"]["kind"] == attack
        late = [lane["figures"]["late_accuracy"] for lane in (unproven, proven, honest)]
        assert abs(late[1] - late[2]) < 0.05
        assert late[0] < late[1] - 0.1 or attack is Attack.REPLAY
        for lane in (unproven, proven):
            refused = sum(len(refusal["rounds"]) for refusal in lane["refusals"])
            assert {refusal["client"] for refusal in lane["refusals"]} <= {client}
            assert all(refusal["malicious"] for refusal in lane["refusals"])
            assert lane["sent"] == 3 and lane["collapsed"] is None
            lost = len(lane["lost"])
            assert lane["sent"] == refused + lane["summed"] + lost
            # Who is refused from the start, who from the second round on, and what loses every round.
            assert (refused, lost) == {
                (Attack.REPLAY, True): (2, 0),
                (Attack.REPLAY, False): (2, 0),
                (Attack.NAN, False): (0, 3),
                (Attack.WRONG_SHARES, False): (0, 3),
                (Attack.SCALE, False): (0, 0),
                (Attack.NOISE, False): (0, 0),
            }.get((attack, lane is proven), (3, 0))
        if unproven["lost"]:
            accuracies = {entry["accuracy"] for entry in unproven["figures"]["rounds"]}
            assert len(accuracies) == 1  # the model stays as it was
        assert (honest["sent"], honest["refusals"], honest["lost"]) == (0, [], {})

    def test_repeats_with_a_seed(self, invoke: Invoke) -> None:
        runs = [figures_of(invoke(*SMALL, "--attack", "noise", "--no-report", "--json")) for _ in range(2)]
        first, second = (without_times(run) for run in runs)
        assert first == second

    def test_table_and_report(self, invoke: Invoke, tmp_path: Path) -> None:
        report = tmp_path / "report.html"
        ended = invoke(*SMALL, "--attack", "wrong-shares", "--malicious", "0.1", "--report", str(report))
        assert ended.code == 0
        page = report.read_text()
        for text in ("Under attack (wrong-shares) by 1 of 6 clients", "rounds lost", "complain", "no attack"):
            assert text in page and text in ended.out
        assert "with proofs, client" in ended.out and "rounds 1–3: dealt bad shares" in ended.out
        assert page.count("<svg") == 5
        assert "the round is lost" in page and "Proofs bound what a client sends" in page

    def test_usage(self, invoke: Invoke, tmp_path: Path) -> None:
        for arguments in (
            ["--malicious", "0.1"],
            ["--attack", "scale", "--scheme", "tenseal"],
            ["--attack", "scale", "--scheme", "plain"],
            ["--attack", "scale", "--state-dir", str(tmp_path)],
            ["--attack", "bogus"],
        ):
            assert (arguments, invoke(*SMALL, "--no-report", *arguments).code) == (arguments, ExitCode.USAGE)
        ended = invoke(*SMALL, "--no-report", "--attack", "scale", "--malicious", "0.5")
        assert ended.code == ExitCode.PARAMETERS
        assert "take a smaller share" in ended.err


class TestCollapse:
    """A lane in which honest clients can no longer train."""

    def lanes(self, monkeypatch: pytest.MonkeyPatch, results: int) -> list[Lane]:
        def played(_: object, lane: Lane, *others: object) -> Iterator[RoundResult]:
            for number in (1, 2, 3):
                if lane.name == "poisoned" and number > results:
                    raise fl_core.QuorumError(number, 0, 2, {0: "diverged"})
                yield RoundResult(number, (0,), {}, {}, {}, {}, {}, {}, {})

        monkeypatch.setattr(experiment_module, "_rounds", played)
        return [Lane("poisoned", fl_core.PlainMean()), Lane("other", fl_core.PlainMean())]

    def train(self, lanes: list[Lane], *, endure: bool) -> None:
        class Blind:
            def saw(self, *_: object) -> None: ...

            def finished(self, *_: object) -> None: ...

        train_lanes(None, lanes, Blind(), endure=endure)  # type: ignore[arg-type]

    def test_ends_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        lanes = self.lanes(monkeypatch, 1)
        self.train(lanes, endure=True)
        assert [len(lane.results) for lane in lanes] == [1, 3]
        assert lanes[0].collapsed is not None and "0 clients took part" in lanes[0].collapsed
        assert lanes[1].collapsed is None

    @pytest.mark.parametrize(("results", "endure"), [(1, False), (0, True)])
    def test_passes_where_nobody_asked_or_nothing_is_left_to_show(
        self, monkeypatch: pytest.MonkeyPatch, results: int, endure: bool
    ) -> None:
        with pytest.raises(fl_core.QuorumError):
            self.train(self.lanes(monkeypatch, results), endure=endure)


def test_a_loss_that_is_no_number_is_null() -> None:
    given = {"loss": float("nan"), "rounds": ({"loss": float("inf")}, {"loss": 1.5}), "name": "a", "count": 3}
    assert finite(given) == {"loss": None, "rounds": [{"loss": None}, {"loss": 1.5}], "name": "a", "count": 3}


def test_rounds_are_drawn_together() -> None:
    assert round_ranges([1, 2, 3, 5, 7, 8]) == "1–3, 5, 7–8"
    assert round_ranges([4]) == "4"
