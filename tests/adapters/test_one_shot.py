"""`OneShotAggregation` as the engine sees it: the plain mean's equal within the grid, and whom it refuses."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fl_core
import secureagg as sa
from fl_core import Beside, Fault, Faults, Federation, NoContributionsError, PlainMean, Refused, Weights, run_rounds
from fl_core.training import LocalUpdate
from secureagg.adapters import fl_core as adapter
from secureagg.adapters.fl_core import OneShotAggregation, OneShotRound
from secureagg.dp.client_sampling import ClientSampling, Cohorts

CLIP, BITS, MAX_WEIGHT = 10.0, 16, 40
STEP = CLIP / (2 ** (BITS - 1) - 1)
MODEL: Weights = [np.zeros((3, 2), np.float32), np.zeros((), np.float64), np.zeros((0, 4), np.float32)]


def aggregation_of(**changes: Any) -> OneShotAggregation:
    return OneShotAggregation(**{"quorum": 2, "l2_clip": CLIP, "max_weight": MAX_WEIGHT, "seed": 5} | changes)


@pytest.fixture(scope="module")
def aggregation() -> OneShotAggregation:
    return aggregation_of()


def update_of(seed: int) -> Weights:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1, 1, layer.shape).astype(layer.dtype) for layer in MODEL]


def with_value(value: float) -> Weights:
    update = update_of(0)
    update[0][1, 1] = value
    return update


def limit(weights: list[int]) -> float:
    """n·max_weight / (scale·Σw), and the rounding of both means to float32."""
    return len(weights) * MAX_WEIGHT * STEP / sum(weights) + 1e-6


class TestMean:
    @settings(max_examples=25)
    @given(
        seed=st.integers(0, 2**32 - 1),
        weights=st.lists(st.integers(1, MAX_WEIGHT), min_size=2, max_size=4),
        shapes=st.lists(st.lists(st.integers(0, 5), max_size=3).map(tuple), max_size=4),
    )
    def test_is_the_plain_mean_within_the_grid(
        self, aggregation: OneShotAggregation, seed: int, weights: list[int], shapes: list[tuple[int, ...]]
    ) -> None:
        model: Weights = [np.zeros(shape, np.float64) for shape in [*shapes, (2,)]]
        beside = Beside(aggregation, PlainMean())
        current = beside.begin(7, model, range(len(weights)))
        rng = np.random.default_rng(seed)
        for client, weight in enumerate(weights):
            update: Weights = [rng.uniform(-0.4, 0.4, layer.shape) for layer in model]
            current.admit(client, current.contribute(client, update, float(weight)))
        aggregate = current.finish()
        assert aggregate.clients == tuple(range(len(weights)))
        assert [(layer.shape, layer.dtype) for layer in aggregate.mean] == [(m.shape, m.dtype) for m in model]
        assert beside.deviation[7] <= limit(weights)
        assert aggregation.clipped[7] == 0

    def test_repeats_bit_for_bit_with_a_seed_under_other_keys(self) -> None:
        def mean(seed: int | None, round_number: int = 1) -> bytes:
            current = aggregation_of(seed=seed).begin(round_number, MODEL, range(3))
            for client in range(3):
                current.admit(client, current.contribute(client, update_of(client), client + 1.0))
            return b"".join(layer.tobytes() for layer in current.finish().mean)

        assert mean(5) == mean(5)
        assert len({mean(5), mean(6), mean(None), mean(None), mean(5, round_number=2)}) == 5

    def test_is_over_the_clients_of_any_cohort_that_sent(self, aggregation: OneShotAggregation) -> None:
        beside = Beside(aggregation, PlainMean())
        current = beside.begin(3, MODEL, [17, 2, 40])
        for client in (40, 2):
            current.admit(client, current.contribute(client, update_of(client), 7.0))
        assert current.finish().clients == (2, 40)
        assert beside.deviation[3] <= limit([7, 7])

    def test_counts_what_was_clipped(self, aggregation: OneShotAggregation) -> None:
        current = aggregation.begin(9, MODEL, range(2))
        for client, value in enumerate((1.0, 100.0)):
            current.admit(client, current.contribute(client, with_value(value), 1.0))
        assert aggregation.clipped[9] == 1
        assert abs(current.finish().mean[0][1, 1] - (1 + CLIP) / 2) < 0.01

    def test_one_object_serves_the_same_round_of_several_runs(self, aggregation: OneShotAggregation) -> None:
        for _ in range(2):
            current = aggregation.begin(1, MODEL, range(2))
            for client in range(2):
                current.admit(client, current.contribute(client, update_of(client), 1.0))
            assert current.finish().clients == (0, 1)

    def test_accounts_for_its_bytes_and_seconds(self, aggregation: OneShotAggregation) -> None:
        current = aggregation.begin(1, MODEL, range(2))
        payloads = {client: current.contribute(client, update_of(client), 1.0) for client in range(2)}
        for client, payload in payloads.items():
            current.admit(client, payload)
        aggregate = current.finish()
        assert aggregate.bytes_up == dict.fromkeys(range(2), aggregation.plan(MODEL, 2).bytes_per_client)
        assert {client: len(payload) for client, payload in payloads.items()} == aggregate.bytes_up
        assert set(aggregate.seconds) == {"contribute", "admit", "finish"}
        assert min(aggregate.seconds.values()) > 0


class TestCommittee:
    def opened(self, aggregation: OneShotAggregation) -> tuple[int, ...]:
        current = aggregation.begin(1, MODEL, range(3))
        for client in range(3):
            current.admit(client, current.contribute(client, update_of(client), 1.0))
        return current.finish().clients

    @pytest.mark.parametrize("absent", [[], [0], [4]])
    def test_opens_without_members_it_can_spare(self, absent: list[int]) -> None:
        assert self.opened(aggregation_of(committee=sa.Committee(5), absent_members=absent)) == (0, 1, 2)

    def test_without_more_than_that_says_how_many_answered(self) -> None:
        with pytest.raises(sa.QuorumError, match="3 of 4"):
            self.opened(aggregation_of(committee=sa.Committee(5), absent_members=[1, 2]))

    def test_robust_with_one_away(self) -> None:
        committee = sa.Committee(4, mode="robust")
        assert self.opened(aggregation_of(committee=committee, absent_members=[3])) == (0, 1, 2)

    def test_robust_leaves_a_client_out_that_dealt_badly(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Client 11 (id 1 on the roster) seals shares that two of four members cannot open: any three have one."""
        beside = Beside(aggregation_of(committee=sa.Committee(4, mode="robust")), PlainMean())
        current = beside.begin(1, MODEL, [10, 11, 12])
        for client in (10, 11, 12):
            with monkeypatch.context() as patch:
                if client == 11:
                    patch.setattr("secureagg.contribution._box", spoiled_box(1, 2))
                payload = current.contribute(client, update_of(client), 2.0)
            current.admit(client, payload)
        aggregate = current.finish()
        assert aggregate.clients == (10, 12)
        assert aggregate.refused.keys() == {11}
        assert "complain" in aggregate.refused[11]
        assert beside.deviation[1] <= limit([2, 2])

    def test_too_few_clients_open_nothing(self) -> None:
        current = aggregation_of(quorum=3).begin(1, MODEL, range(4))
        for client in range(2):
            current.admit(client, current.contribute(client, update_of(client), 1.0))
        with pytest.raises(sa.QuorumError, match="the quorum is 3"):
            current.finish()

    def test_its_journals_go_with_it(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(adapter.tempfile, "tempdir", str(tmp_path))
        aggregation = aggregation_of()
        aggregation.begin(1, MODEL, range(2))
        assert len(list(tmp_path.glob("secureagg-journals-*/*"))) == 3
        del aggregation
        gc.collect()
        assert list(tmp_path.iterdir()) == []


def spoiled_box(*spoiled: int) -> Callable[..., bytes]:
    from secureagg import contribution as client_module

    box = client_module._box

    def spoil(*arguments: Any) -> bytes:
        sealed = box(*arguments)
        return sealed[:-1] + bytes([sealed[-1] ^ 1]) if arguments[-1] in spoiled else sealed

    return spoil


class TestProofs:
    """A round in which every contribution is proven; the committee is robust then whatever it was."""

    def test_is_the_plain_mean_within_the_grid(self) -> None:
        aggregation = aggregation_of(proofs=True)
        beside = Beside(aggregation, PlainMean())
        current = beside.begin(1, MODEL, range(3))
        for client in range(3):
            current.admit(client, current.contribute(client, update_of(client), client + 1.0))
        assert current.finish().clients == (0, 1, 2)
        assert beside.deviation[1] <= limit([1, 2, 3])
        plan = aggregation.plan(MODEL, 3)
        assert plan.proofs and plan.proof_bytes > 0 and plan.committee.mode == "robust"

    def test_a_proof_that_was_not_asked_for_or_is_missing_is_refused(self) -> None:
        for proofs in (False, True):
            other = aggregation_of(proofs=not proofs).begin(1, MODEL, range(3))
            current = aggregation_of(proofs=proofs).begin(1, MODEL, range(3))
            with pytest.raises(Refused, match="contribution"):
                current.admit(0, other.contribute(0, update_of(0), 1.0))


class TestDishonest:
    """Clients that run other code than the library's."""

    def test_send_what_it_returns_in_their_own_name_alone(self) -> None:
        seen: list[tuple[Weights, int]] = []

        def flipped(session: sa.Session, identity: sa.Identity, update: Weights, weight: int, rng: Any) -> bytes:
            seen.append((update, weight))
            opposite: Weights = [-layer for layer in update]
            return sa.contribute(session, identity, opposite, weight, rounding_rng=rng)

        current = aggregation_of(dishonest={1: flipped}).begin(1, MODEL, range(2))
        for client in range(2):
            current.admit(client, current.contribute(client, update_of(7), 3.0))
        assert [(len(update), weight) for update, weight in seen] == [(len(MODEL), 3)]
        assert all(np.abs(mean).max(initial=0) <= limit([3, 3]) for mean in current.finish().mean)


class TestRefusals:
    @pytest.mark.parametrize(
        ("update", "weight", "reason"),
        [
            (with_value(float("nan")), 1.0, "tensor 0"),
            (with_value(float("inf")), 1.0, "tensor 0"),
            (update_of(0)[:2], 1.0, "2 tensors given, 3 expected"),
            ([np.zeros((2, 3), np.float32), *update_of(0)[1:]], 1.0, "tensor 0"),
            ([update_of(0)[0], np.zeros((), np.float32), update_of(0)[2]], 1.0, "tensor 1"),
            (update_of(0), MAX_WEIGHT + 1.0, "weight"),
            (update_of(0), 0.0, "weight"),
            (update_of(0), 1.5, "weight is no whole number"),
            (update_of(0), float("nan"), "weight is no whole number"),
            (update_of(0), float("inf"), "weight is no whole number"),
        ],
    )
    def test_contribute_names_client_and_cause(
        self, aggregation: OneShotAggregation, update: Weights, weight: float, reason: str
    ) -> None:
        with pytest.raises(Refused, match=reason) as caught:
            aggregation.begin(1, MODEL, range(4)).contribute(3, update, weight)
        assert caught.value.client == 3

    @pytest.mark.parametrize(
        ("spoil", "reason"),
        [
            (lambda payload: payload[:-1], "bytes"),
            (lambda payload: payload[:-1] + bytes([payload[-1] ^ 1]), "not the one that was signed"),
            (lambda payload: payload[:50] + bytes([payload[50] ^ 1]) + payload[51:], "signature"),
            (lambda payload: b"", "contribution"),
            (lambda payload: payload + b"\0", "bytes"),
        ],
        ids=["truncated", "flipped in a box", "flipped in the signature", "empty", "trailing"],
    )
    def test_damaged_bytes(self, aggregation: OneShotAggregation, spoil: Callable[[bytes], bytes], reason: str) -> None:
        self.refuses(aggregation, lambda current: spoil(current.contribute(1, update_of(1), 1.0)), reason)

    def test_another_session(self, aggregation: OneShotAggregation) -> None:
        payload = aggregation.begin(1, MODEL, range(4)).contribute(1, update_of(1), 1.0)
        self.refuses(aggregation, lambda current: payload, "session")

    def test_what_somebody_else_sent(self, aggregation: OneShotAggregation) -> None:
        """Whether it was admitted from its sender before or not; and its sender can still send it."""
        self.refuses(aggregation, lambda current: current.contribute(3, update_of(3), 1.0), "another client's")
        current = aggregation.begin(1, MODEL, range(4))
        payload = current.contribute(3, update_of(3), 1.0)
        for client in (0, 1):
            with pytest.raises(Refused, match="another client's") as caught:
                current.admit(client, payload)
            assert caught.value.client == client
        current.admit(3, payload)
        current.admit(1, current.contribute(1, update_of(1), 1.0))
        aggregate = current.finish()
        assert (aggregate.clients, aggregate.refused.keys()) == ((1, 3), {0})

    def test_a_second_one_leaves_the_first(self, aggregation: OneShotAggregation) -> None:
        current = aggregation.begin(1, MODEL, range(4))
        payload = current.contribute(2, update_of(2), 1.0)
        with pytest.raises(Refused, match="already contributed"):
            current.contribute(2, update_of(3), 1.0)
        current.admit(2, payload)
        with pytest.raises(Refused, match="already admitted") as caught:
            current.admit(2, payload)
        assert caught.value.client == 2
        current.admit(0, current.contribute(0, update_of(2), 1.0))
        aggregate = current.finish()
        assert (aggregate.clients, aggregate.refused) == ((0, 2), {})
        assert aggregate.bytes_up[2] == 2 * len(payload)
        assert np.allclose(aggregate.mean[0], update_of(2)[0], atol=limit([1, 1]))

    def test_somebody_who_is_not_in_the_cohort(self, aggregation: OneShotAggregation) -> None:
        current = aggregation.begin(1, MODEL, [0, 1])
        for call in (
            lambda: current.contribute(2, update_of(2), 1.0),
            lambda: current.admit(2, current.contribute(1, update_of(1), 1.0)),
        ):
            with pytest.raises(Refused, match="cohort") as caught:
                call()
            assert caught.value.client == 2

    def test_nobody_is_left(self, aggregation: OneShotAggregation) -> None:
        with pytest.raises(NoContributionsError):
            aggregation.begin(1, MODEL, range(4)).finish()

    def refuses(
        self, aggregation: OneShotAggregation, payload_of: Callable[[OneShotRound], bytes], reason: str
    ) -> None:
        """Client 1 is refused for `reason`, and the mean is that of the others alone."""
        current = aggregation.begin(1, MODEL, range(4))
        oracle = PlainMean().begin(1, MODEL, range(4))
        current.admit(0, current.contribute(0, update_of(0), 2.0))
        payload = payload_of(current)
        with pytest.raises(Refused, match=reason) as caught:
            current.admit(1, payload)
        assert caught.value.client == 1
        current.admit(2, current.contribute(2, update_of(2), 3.0))
        aggregate = current.finish()
        assert aggregate.clients == (0, 2)
        assert aggregate.refused == {1: caught.value.reason}
        assert aggregate.bytes_up[1] == len(payload)
        for client, weight in ((0, 2.0), (2, 3.0)):
            oracle.admit(client, oracle.contribute(client, update_of(client), weight))
        for mean, plain in zip(aggregate.mean, oracle.finish().mean, strict=True):
            assert np.allclose(mean, plain, rtol=0, atol=limit([2, 3]))


class Steps:
    """A trainer whose updates are a function of seed and weights, for runs without TensorFlow."""

    trainable = (True, True, True)

    def initial_weights(self, seed: int) -> Weights:
        return update_of(seed)

    def train(self, weights: Weights, x: np.ndarray, y: np.ndarray, seed: int) -> LocalUpdate:
        return LocalUpdate([step - layer / 2 for step, layer in zip(update_of(seed), weights, strict=True)], len(x), 0)

    def evaluate(self, weights: Weights, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
        return {"loss": 0.0}

    def describe(self) -> dict[str, str]:
        return {}


class TestRuns:
    """Whole runs of the engine, with clients that vanish at every point."""

    EXAMPLES = (3, 40, 11, 25, 8)

    def run(self, aggregation: Any, faults: Faults) -> list[Any]:
        held = [(np.zeros((n, 1), np.float32), np.zeros(n, np.int64)) for n in self.EXAMPLES]
        federation = Federation(Steps(), held, held[0], rounds=3, quorum=2)
        return list(run_rounds(federation, aggregation, faults=faults))

    @staticmethod
    def faults(round_number: int, client: int) -> Fault | None:
        places = [Fault.BEFORE_TRAINING, None, Fault.BEFORE_SEND, Fault.AFTER_SEND, None]
        return places[(round_number + client) % 5]

    def test_who_vanished_before_sending_is_missing_and_who_vanished_after_it_counts(self) -> None:
        aggregation = aggregation_of(committee=sa.Committee(5), absent_members=[2])
        beside = Beside(aggregation, PlainMean())
        private, plain = self.run(beside, self.faults), self.run(PlainMean(), self.faults)
        for result, open_result in zip(private, plain, strict=True):
            assert (result.clients, result.dropped) == (open_result.clients, open_result.dropped)
            sent = [self.faults(result.round_number, c) in (None, Fault.AFTER_SEND) for c in range(5)]
            assert result.clients == tuple(c for c in range(5) if sent[c])
            weights = [self.EXAMPLES[c] for c in result.clients]
            assert beside.deviation[result.round_number] <= limit(weights)

    def test_repeats_bit_for_bit(self) -> None:
        aggregation = aggregation_of()
        runs = [self.run(each, self.faults)[-1].weights for each in (aggregation, aggregation, aggregation_of())]
        assert len({b"".join(layer.tobytes() for layer in weights) for weights in runs}) == 1


class TestConstruction:
    @pytest.mark.parametrize("absent", [[3], [-1]])
    def test_members_that_are_not_there_cannot_be_away(self, absent: list[int]) -> None:
        with pytest.raises(sa.ParameterError, match="absent_members"):
            aggregation_of(absent_members=absent)

    @pytest.mark.parametrize(
        ("changes", "reason"),
        [({"value_bits": 25}, "value_bits"), ({"quorum": 5}, "quorum"), ({"parameters": "N1"}, "N1")],
    )
    def test_what_cannot_be_planned_is_refused_when_a_round_begins(self, changes: dict[str, Any], reason: str) -> None:
        with pytest.raises(sa.ParameterError, match=reason):
            aggregation_of(**changes).begin(1, MODEL, range(4))


def test_cohorts_are_those_of_the_federation() -> None:
    clients = [(np.zeros((1, 2)), np.zeros(1))] * 10
    federation = Federation(
        Steps(),
        clients,
        clients[0],
        rounds=1,
        cohort_size=4,
        quorum=2,
        weighting="uniform",
        sampling=fl_core.ClientSampling.POISSON,
    )
    drawn = adapter.cohorts_of(federation, dropout_rate=0.1)
    assert drawn == Cohorts(clients=10, size=4, sampling=ClientSampling.POISSON, quorum=2, dropout_rate=0.1)
    everybody = replace(federation, cohort_size=None, sampling=fl_core.ClientSampling.FIXED_SIZE)
    assert adapter.cohorts_of(everybody) == Cohorts(clients=10, size=10, sampling=ClientSampling.FIXED_SIZE, quorum=2)
