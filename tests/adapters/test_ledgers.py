"""DP-SGD under the engine: each client's noise and ledger follow from its examples, and who is spent refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fl_core
import secureagg as sa
from fl_core import PlainMean, Refused
from secureagg.adapters.budgets import ledger_of, require_budget
from secureagg.adapters.fl_core import OneShotAggregation
from secureagg.adapters.fl_core_ledgers import ClientLedgers, DpSgdTerms, Ledgered
from secureagg.dp.accounting import epsilon

TERMS = DpSgdTerms(epsilon=4.0, delta=1e-5, rounds=2, steps=3, batch=16, l2_clip=1.0)
EXAMPLES = (20, 80, 8)
MODEL = [np.zeros(3, np.float32)]


@pytest.fixture
def ledgers(tmp_path: Path) -> Any:
    found = ClientLedgers(tmp_path / "ledgers", TERMS, EXAMPLES)
    yield found
    found.close()


class TestTerms:
    def test_each_client_keeps_to_epsilon_and_nearly_uses_it(self) -> None:
        for examples in EXAMPLES:
            cost = epsilon(TERMS.event(examples, TERMS.rounds), TERMS.delta)
            assert 0.995 * TERMS.epsilon < cost <= TERMS.epsilon

    def test_fewer_examples_take_more_noise(self) -> None:
        noise = [TERMS.noise_multiplier(examples) for examples in (16, 20, 80, 400)]
        assert noise == sorted(noise, reverse=True) and len(set(noise)) == 4

    def test_a_batch_is_at_most_all_examples(self) -> None:
        assert [TERMS.event(examples).sampling_rate for examples in (8, 16, 32)] == [1.0, 1.0, 0.5]

    @pytest.mark.parametrize(
        ("name", "value"),
        [("epsilon", 0.0), ("delta", 1.0), ("rounds", 0), ("steps", 0), ("batch", 0), ("l2_clip", 0.0)],
    )
    def test_numbers_that_cannot_be(self, name: str, value: float) -> None:
        given: dict[str, Any] = {"epsilon": 1.0, "delta": 1e-5, "rounds": 1, "steps": 1, "batch": 1, "l2_clip": 1.0}
        with pytest.raises(sa.ParameterError, match=name):
            DpSgdTerms(**given | {name: value})


class TestLedgers:
    def test_spent_is_what_each_ledger_says(self, ledgers: ClientLedgers) -> None:
        assert ledgers.spent() == 0
        ledgers.debit(1, "round 1")
        assert ledgers.spent() == ledgers.spent_by(1) == epsilon(TERMS.event(80), TERMS.delta)
        assert [ledgers.rounds_of(client) for client in range(3)] == [0, 1, 0]

    def test_files_outlive_the_run(self, ledgers: ClientLedgers) -> None:
        for _ in range(TERMS.rounds):
            ledgers.debit(0, "a round")
        ledgers.close()
        again = ClientLedgers(ledgers.folder, TERMS, EXAMPLES)
        assert [again.affords(client) for client in range(3)] == [False, True, True]
        with pytest.raises(sa.BudgetExhausted):
            again.debit(0, "one too many")
        again.close()

    def test_other_terms_are_refused(self, ledgers: ClientLedgers) -> None:
        ledgers.debit(0, "a round")
        ledgers.close()
        with pytest.raises(sa.ParameterError, match="made with other terms"):
            ClientLedgers(ledgers.folder, TERMS, (21, 80, 8))


class TestRounds:
    def contributed(self, aggregation: Ledgered, round_number: int) -> dict[int, str]:
        """Play a round of all clients; return who was refused, and why."""
        current = aggregation.begin(round_number, MODEL, range(3))
        refused = {}
        for client in range(3):
            try:
                current.admit(client, current.contribute(client, [np.full(3, 1.0, np.float32)], 1.0))
            except Refused as error:
                refused[error.client] = error.reason
        assert np.allclose(current.finish().mean[0], 1.0, atol=1e-3)
        return refused

    @pytest.mark.parametrize("inner", [PlainMean(), OneShotAggregation(quorum=2, l2_clip=10.0)])
    def test_who_is_spent_refuses_and_the_rest_go_on(self, ledgers: ClientLedgers, inner: Any) -> None:
        ledgers.debit(2, "elsewhere")
        aggregation = Ledgered(inner, ledgers, quorum=2)
        assert self.contributed(aggregation, 1) == {}
        refused = self.contributed(aggregation, 2)
        assert list(refused) == [2] and "its privacy budget is spent" in refused[2]

    def test_a_round_with_too_few_left_does_not_begin(self, ledgers: ClientLedgers) -> None:
        for client in (0, 2):
            for _ in range(TERMS.rounds):
                ledgers.debit(client, "elsewhere")
        with pytest.raises(sa.BudgetExhausted, match="1 of 3 clients can afford round 7"):
            Ledgered(PlainMean(), ledgers, quorum=2).begin(7, MODEL, range(3))

    def test_debited_before_anything_leaves(self, ledgers: ClientLedgers) -> None:
        current = Ledgered(PlainMean(), ledgers, quorum=2).begin(1, MODEL, range(3))
        with pytest.raises(Refused):
            current.contribute(0, [np.zeros(3, np.int32)], 1.0)  # the inner round refuses, after the debit
        assert ledgers.rounds_of(0) == 1


class TestAggregatorsLedger:
    def test_refuses_a_round_before_clients_train(self, tmp_path: Path) -> None:
        noise = sa.DistributedGaussian(epsilon=4, delta=1e-5, rounds=1)
        private = OneShotAggregation(quorum=3, l2_clip=1.0, value_bits=8, noise=noise, rotate=True)
        plan = private.plan(MODEL, 3)
        with sa.Ledger(tmp_path / "l", (4, 1e-5), sa.Relation.ZERO_OUT, planned=[plan.privacy_event()]) as ledger:
            private.ledger = ledger
            current = private.begin(1, MODEL, range(3))
            for client in range(3):
                current.admit(client, current.contribute(client, [np.zeros(3, np.float32)], 1.0))
            current.finish()
            assert len(ledger) == 1
            with pytest.raises(sa.BudgetExhausted, match=r"round 2 is more than what is left of ε = 4 .* 1 rounds"):
                private.begin(2, MODEL, range(3))


class TestContributorsLedger:
    @pytest.mark.parametrize("kind", [sa.DistributedGaussian, sa.CentralGaussian])
    def test_is_against_whom_the_noise_holds(self, tmp_path: Path, kind: Any) -> None:
        """A node or site that trusts its server with the sum counts its rounds, and claims no more."""
        noise = kind(epsilon=4, delta=1e-5, rounds=1)
        plan = OneShotAggregation(quorum=3, l2_clip=1.0, value_bits=8, noise=noise, rotate=True).plan(MODEL, 3)
        with ledger_of(plan, tmp_path / "ledger", "all examples") as ledger:
            assert ledger is not None and ledger.budget.adversary is noise.adversary
            assert ("not against the aggregator" in str(ledger.budget)) is (kind is sa.CentralGaussian)
            require_budget(plan, ledger)
            ledger.debit(plan.privacy_event())
            with pytest.raises(sa.BudgetExhausted, match="used up"):
                require_budget(plan, ledger)


@pytest.fixture(scope="module")
def trainer() -> Any:
    import keras

    from secureagg.adapters.fl_core_dpsgd import PrivateTrainer

    inner = fl_core.KerasTrainer(lambda: fl_core.mlp((4,), 3, hidden=(5,)))
    return PrivateTrainer(inner, lambda: keras.optimizers.SGD(0.5), TERMS)


@pytest.fixture(scope="module")
def examples() -> fl_core.LocalData:
    rng = np.random.default_rng(3)
    return rng.normal(size=(80, 4)).astype(np.float32), rng.integers(0, 3, 80)


class TestPrivateTrainer:
    def test_trains_within_what_its_noise_allows(self, trainer: Any, examples: fl_core.LocalData) -> None:
        weights = trainer.initial_weights(1)
        first, second = (trainer.train(weights, *examples, seed=1) for _ in range(2))
        assert [layer.shape for layer in first.update] == [layer.shape for layer in weights]
        assert first.examples == 80 and np.isnan(first.loss)
        assert any((a != b).any() for a, b in zip(first.update, second.update, strict=True))  # noise follows no seed
        size = sum(layer.size for layer in weights)
        step = 0.5 * TERMS.noise_multiplier(80) / TERMS.batch  # learning rate · noise of one coordinate
        norm = np.sqrt(sum(np.square(layer).sum() for layer in first.update))
        spread = step * np.sqrt(TERMS.steps * size)
        assert 0.5 * spread < norm < 1.5 * spread + 0.5 * TERMS.steps * 5  # each step's clipped sum ≤ 80/16 clips

    def test_that_it_diverged_is_told_after_the_debit(
        self, trainer: Any, examples: fl_core.LocalData, ledgers: ClientLedgers
    ) -> None:
        import keras

        from secureagg.adapters.fl_core_dpsgd import PrivateTrainer

        diverging = PrivateTrainer(trainer._inner, lambda: keras.optimizers.SGD(3e38), TERMS)
        weights = [np.full_like(layer, 3e38) for layer in trainer.initial_weights(1)]
        update = diverging.train(weights, *examples, seed=1).update
        assert not all(np.isfinite(layer).all() for layer in update)
        current = Ledgered(PlainMean(), ledgers, quorum=2).begin(1, weights, range(3))
        with pytest.raises(Refused, match="NaN or inf"):
            current.admit(0, current.contribute(0, update, 1.0))
        assert ledgers.rounds_of(0) == 1

    def test_describes_its_terms(self, trainer: Any) -> None:
        assert trainer.describe()["dpsgd"] == repr(TERMS)
        assert '"learning_rate": 0.5' in trainer.describe()["dpsgd_optimizer"]
        assert all(trainer.trainable)

    def test_layers_that_keep_statistics_are_refused(self) -> None:
        import keras

        from secureagg.adapters.fl_core_dpsgd import PrivateTrainer

        layers = [keras.Input((4,)), keras.layers.BatchNormalization(), keras.layers.Dense(3, activation="softmax")]
        inner = fl_core.KerasTrainer(lambda: keras.Sequential(layers))
        with pytest.raises(sa.ParameterError, match="BatchNormalization"):
            PrivateTrainer(inner, lambda: keras.optimizers.SGD(0.5), TERMS)
