"""ε and δ beside dp-accounting called directly, laws, and refusals.

Passes with dp-accounting 0.4.3 and 0.6; under replace, 0.6 is tighter (its own distributions for Poisson sampling).
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import dp_accounting
import pytest
from dp_accounting import pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.dp import accounting, composition
from secureagg.dp.accounting import Guarantee, delta, epsilon, quick_epsilon, renyi_budget, renyi_divergence
from secureagg.dp.calibration import calibrate_noise, calibrate_rounds
from secureagg.dp.client_sampling import Adversary, ClientSampling
from secureagg.dp.dp_events import (
    BatchSampling,
    CentralGaussian,
    DpSgd,
    PrivacyEvent,
    QuantileCount,
    event_from_fields,
    event_to_fields,
    update_noise_multiplier,
)
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum, honest_contributors
from secureagg.dp.relation import Relation
from secureagg.errors import EncodingError, MissingExtraError, ParameterError

ZERO_OUT, REPLACE, ADD = Relation.ZERO_OUT, Relation.REPLACE, Relation.ADD_OR_REMOVE
SGD = DpSgd(noise_multiplier=1.0, expected_batch=100, examples=10_000, steps=1000, relation=ZERO_OUT)
SHUFFLED = replace(SGD, sampling=BatchSampling.FIXED_SIZE, passes=10)
CENTRAL = CentralGaussian(noise_std=0.05, l2_clip=1.0, clients=80, rounds=5, relation=ZERO_OUT)
COUNT = QuantileCount(noise_std=3.0, rounds=5, relation=ZERO_OUT)
DISCRETE = DiscreteGaussianSum(
    noise_std_grid=40.0, honest=50, l2_bound_grid=100.0, dimension=1000, rounds=3, relation=ZERO_OUT
)
SKELLAM = SkellamSum(
    noise_variance_grid=1600.0, honest=50, l2_bound_grid=100.0, dimension=1000, rounds=3, relation=ZERO_OUT
)
AMPLIFIED = {"sampling_rate": 0.1, "sampling": ClientSampling.POISSON, "adversary": Adversary.MODELS_ALONE}
EVENTS = [SGD, SHUFFLED, CENTRAL, COUNT, DISCRETE, SKELLAM]


def gaussian(multiplier: float, times: int = 1) -> dp_accounting.DpEvent:
    return dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(multiplier), times)


def by_pld(event: dp_accounting.DpEvent) -> pld.PLDAccountant:
    return pld.PLDAccountant().compose(event)


class TestEqualsDpAccounting:
    def test_poisson_sampled_gaussian(self) -> None:
        sampled = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
        direct = by_pld(dp_accounting.SelfComposedDpEvent(sampled, 1000))
        assert epsilon(SGD, 1e-5) == direct.get_epsilon(1e-5)
        assert delta(SGD, 2.0) == direct.get_delta(2.0)

    def test_gaussian_on_a_mean(self) -> None:
        assert epsilon(CENTRAL, 1e-6) == by_pld(gaussian(0.05 * 80, 5)).get_epsilon(1e-6)

    def test_composition(self) -> None:
        sampled = dp_accounting.PoissonSampledDpEvent(0.01, dp_accounting.GaussianDpEvent(1.0))
        parts = [gaussian(4.0, 5), gaussian(6.0, 5), dp_accounting.SelfComposedDpEvent(sampled, 1000)]
        events = [CENTRAL, COUNT, SGD]
        assert epsilon(events, 1e-5) == by_pld(dp_accounting.ComposedDpEvent(parts)).get_epsilon(1e-5)

    def test_equal_events_are_counted_together(self) -> None:
        apart = [replace(SGD, steps=k) for k in (1, 199, 800)]
        assert epsilon(apart, 1e-5) == epsilon(SGD, 1e-5)

    def test_a_curve_beside_gaussians_composes_in_renyi_divergence(self) -> None:
        theirs = rdp.RdpAccountant().compose(gaussian(4.0, 5))
        curve = theirs.rdp + 3 * DISCRETE.curve(theirs.orders)
        assert epsilon([CENTRAL, DISCRETE], 1e-5) == rdp.compute_epsilon(theirs.orders, curve, 1e-5)[0]

    def test_without_a_tau_a_discrete_gaussian_is_accounted_as_a_gaussian(self) -> None:
        multiplier = math.sqrt(50) * 40 / 100
        direct = rdp.RdpAccountant().compose(gaussian(multiplier, 3))
        assert epsilon(DISCRETE, 1e-5) == pytest.approx(direct.get_epsilon(1e-5), rel=1e-9)


class TestKnownValues:
    @pytest.mark.parametrize("multiplier", [0.5, 1.0, 4.0])
    def test_gaussian_analytically(self, multiplier: float) -> None:
        """Balle and Wang, ICML 2018, Theorem 8: δ = Φ(1/2σ − εσ) − e^ε·Φ(−1/2σ − εσ)."""

        def normal(x: float) -> float:
            return math.erfc(-x / math.sqrt(2)) / 2

        found = epsilon(replace(CENTRAL, noise_std=multiplier / 80, rounds=1), 1e-5)
        at = 1 / (2 * multiplier)
        exact = normal(at - found * multiplier) - math.exp(found) * normal(-at - found * multiplier)
        assert exact <= 1e-5
        assert exact >= 0.99e-5

    @pytest.mark.parametrize(("multiplier", "epochs", "published"), [(1.3, 15, 1.19), (1.1, 60, 3.01)])
    def test_mnist_of_tensorflow_privacy(self, multiplier: float, epochs: int, published: float) -> None:
        """TensorFlow Privacy's tutorial table (batch 256, δ = 10^-5), by an older Rényi conversion: an upper bound."""
        steps = epochs * 60_000 // 256
        event = DpSgd(noise_multiplier=multiplier, expected_batch=256, examples=60_000, steps=steps, relation=ZERO_OUT)
        assert 0.7 * published < epsilon(event, 1e-5) < published

    def test_replace_is_not_add_or_remove(self) -> None:
        """q = 0.01, z = 1, T = 1000, δ = 10^-5: 1.83 under add-or-remove, truly 2.84 under replace."""
        assert epsilon(SGD, 1e-5) == pytest.approx(1.828, abs=0.002)
        assert 2.84 < epsilon(replace(SGD, relation=REPLACE), 1e-5) < 4.3

    def test_replace_halves_an_unsampled_multiplier(self) -> None:
        assert epsilon(replace(CENTRAL, relation=REPLACE), 1e-5) == by_pld(gaussian(2.0, 5)).get_epsilon(1e-5)

    def test_shuffling_earns_nothing(self) -> None:
        """1000 steps of 100 examples from 10 000 are 10 epochs, so 10 plain Gaussians."""
        assert epsilon(SHUFFLED, 1e-5) == by_pld(gaussian(1.0, 10)).get_epsilon(1e-5)
        assert epsilon(replace(SHUFFLED, steps=10), 1e-5) == epsilon(SHUFFLED, 1e-5)
        parts = [replace(SHUFFLED, steps=50, passes=1)] * 2
        assert epsilon(parts, 1e-5) == epsilon(replace(SHUFFLED, steps=200, passes=2), 1e-5)

    def test_noise_for_planned_contributors_would_under_report(self) -> None:
        """Thirty of a hundred drop out: ε of those who are there, not of those planned."""
        planned = replace(DISCRETE, honest=100)
        assert epsilon(replace(DISCRETE, honest=70), 1e-5) > 1.15 * epsilon(planned, 1e-5)

    def test_truncated_batches(self) -> None:
        truncated = replace(SGD, truncation_probability=1e-10)
        found = epsilon(truncated, 1e-5)
        spare = 1000 * 1e-10 * (1 + math.exp(found))
        assert epsilon(SGD, 1e-5 - spare) <= found * (1 + 1e-9)
        assert found > epsilon(SGD, 1e-5)
        assert delta(truncated, 2.0) == delta(SGD, 2.0) + 1000 * 1e-10 * (1 + math.exp(2.0))
        assert epsilon(replace(SGD, truncation_probability=0.01), 1e-5) == math.inf


MULTIPLIERS = st.floats(min_value=0.4, max_value=50)


class TestLaws:
    @settings(max_examples=12, deadline=None)
    @given(std=MULTIPLIERS, more=st.floats(min_value=1.05, max_value=3), rounds=st.integers(1, 20))
    def test_more_noise_costs_less_and_more_rounds_cost_more(self, std: float, more: float, rounds: int) -> None:
        for make in (self.central, self.discrete, self.skellam):
            once = quick_epsilon(make(std, rounds), 1e-5)
            assert quick_epsilon(make(std * more, rounds), 1e-5) < once
            assert quick_epsilon(make(std, rounds + 1), 1e-5) > once
            assert quick_epsilon(replace(make(std, rounds), relation=REPLACE), 1e-5) > once

    @settings(max_examples=4, deadline=None)
    @given(multiplier=st.floats(min_value=0.8, max_value=4), steps=st.integers(10, 300), rate=st.integers(1, 40))
    def test_renyi_divergence_bounds_loss_distributions(self, multiplier: float, steps: int, rate: int) -> None:
        event = replace(SGD, noise_multiplier=multiplier, steps=steps, expected_batch=10 * rate)
        assert epsilon(event, 1e-5) <= quick_epsilon(event, 1e-5) * (1 + 1e-3) + 1e-3
        assert epsilon(event, 1e-6) >= epsilon(event, 1e-5)

    @settings(max_examples=30, deadline=None)
    @given(quorum=st.integers(2, 1000), share=st.floats(0, 0.9))
    def test_fewer_honest_contributors_never_cost_less(self, quorum: int, share: float) -> None:
        honest = honest_contributors(quorum, int(share * quorum))
        assert honest + int(share * quorum) == quorum
        fewer, all_of_them = replace(DISCRETE, honest=honest), replace(DISCRETE, honest=quorum)
        assert quick_epsilon(fewer, 1e-5) >= quick_epsilon(all_of_them, 1e-5)

    def test_delta_and_epsilon_are_inverse(self) -> None:
        for event in (SGD, CENTRAL, DISCRETE, replace(SGD, relation=REPLACE)):
            found = epsilon(event, 1e-5)
            assert delta(event, found) <= 1e-5 * (1 + 1e-6)

    def test_adaptive_clipping_costs_what_the_update_alone_would(self) -> None:
        update = update_noise_multiplier(2.0, 5.0)
        both = [replace(CENTRAL, noise_std=update / 80), replace(COUNT, noise_std=5.0)]
        alone = replace(CENTRAL, noise_std=2.0 / 80)
        assert epsilon(both, 1e-5) == pytest.approx(epsilon(alone, 1e-5), rel=1e-3)

    @staticmethod
    def central(std: float, rounds: int) -> PrivacyEvent:
        return replace(CENTRAL, noise_std=std / 80, rounds=rounds)

    @staticmethod
    def discrete(std: float, rounds: int) -> PrivacyEvent:
        return replace(DISCRETE, noise_std_grid=10 * std, rounds=rounds)

    @staticmethod
    def skellam(std: float, rounds: int) -> PrivacyEvent:
        return replace(SKELLAM, noise_variance_grid=100 * std**2, rounds=rounds)


class TestRenyi:
    def test_budget_implies_the_guarantee(self) -> None:
        for target, at in ((0.5, 1e-6), (4.0, 1e-5), (8.0, 1e-5)):
            order, budget = renyi_budget(target, at)
            assert rdp.compute_epsilon([order], [budget], at)[0] == pytest.approx(target)

    def test_divergence_adds_up(self) -> None:
        parts = sum(renyi_divergence(event, 6.0) for event in (CENTRAL, COUNT, DISCRETE))
        assert renyi_divergence([CENTRAL, COUNT, DISCRETE], 6.0) == pytest.approx(parts)
        assert renyi_divergence(CENTRAL, 6.0) == pytest.approx(5 * 6 / (2 * 4.0**2))

    def test_poisson_under_replace_has_no_curve(self) -> None:
        with pytest.raises(ParameterError, match="no Rényi curve"):
            renyi_divergence(replace(SGD, relation=REPLACE), 4.0)


BAD = [math.nan, math.inf, -math.inf, 0.0, -1.0, True, "1"]


class TestRejects:
    @pytest.mark.parametrize("value", BAD)
    @pytest.mark.parametrize(
        ("event", "name"),
        [
            (SGD, "noise_multiplier"),
            (CENTRAL, "noise_std"),
            (CENTRAL, "l2_clip"),
            (CENTRAL, "sampling_rate"),
            (COUNT, "noise_std"),
            (DISCRETE, "noise_std_grid"),
            (DISCRETE, "l2_bound_grid"),
            (SKELLAM, "noise_variance_grid"),
        ],
    )
    def test_a_number_that_is_none(self, event: PrivacyEvent, name: str, value: object) -> None:
        with pytest.raises(ParameterError, match=name):
            replace(event, **{name: value})  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [0, -1, 1.5, True])
    @pytest.mark.parametrize(
        ("event", "name"),
        [(SGD, "steps"), (SGD, "examples"), (CENTRAL, "rounds"), (DISCRETE, "honest"), (SKELLAM, "dimension")],
    )
    def test_a_count_that_is_none(self, event: PrivacyEvent, name: str, value: object) -> None:
        with pytest.raises(ParameterError, match=name):
            replace(event, **{name: value})  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [*BAD, 1.0, 2.0])
    def test_delta(self, value: float) -> None:
        asked: list[Callable[[], object]] = [
            lambda: epsilon(SGD, value),
            lambda: Guarantee(1.0, value, ADD),
            lambda: calibrate_noise(1.0, value, lambda z: SGD),
            lambda: calibrate_rounds(1.0, value, lambda z: SGD),
        ]
        for ask in asked:
            with pytest.raises(ParameterError, match="delta"):
                ask()

    @pytest.mark.parametrize("value", BAD)
    def test_epsilon(self, value: float) -> None:
        for ask in (lambda: delta(SGD, value), lambda: calibrate_noise(value, 1e-5, lambda z: SGD)):
            with pytest.raises(ParameterError, match="epsilon"):
                ask()

    def test_mixed_relations(self) -> None:
        with pytest.raises(ParameterError, match="different neighbouring relations"):
            epsilon([SGD, replace(CENTRAL, relation=REPLACE)], 1e-5)

    def test_a_relation_that_the_mechanism_does_not_have(self) -> None:
        for event in (SGD, SHUFFLED, CENTRAL, COUNT, DISCRETE, SKELLAM):
            with pytest.raises(ParameterError, match="add-or-remove"):
                replace(event, relation=ADD)
            with pytest.raises(ParameterError, match="relation"):
                replace(event, relation="zero-out")  # type: ignore[arg-type]
        assert replace(CENTRAL, relation=ADD, **AMPLIFIED)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("event", "passes", "said"),
        [
            (SGD, 1, "Poisson batches have none"),
            (SHUFFLED, 0, "passes"),
            (SHUFFLED, 1001, "passes"),
            (SHUFFLED, 9, "900"),
        ],
    )
    def test_passes_that_cannot_be(self, event: DpSgd, passes: int, said: str) -> None:
        with pytest.raises(ParameterError, match=said):
            replace(event, passes=passes)

    def test_nobody_honest(self) -> None:
        with pytest.raises(ParameterError, match="assumed_corrupt=5 must be below quorum=5"):
            honest_contributors(5, 5)

    def test_count_noise_that_costs_everything(self) -> None:
        with pytest.raises(ParameterError, match="count_noise_std"):
            update_noise_multiplier(2.0, 1.0)

    @pytest.mark.parametrize("event", EVENTS)
    def test_fields_are_exact(self, event: PrivacyEvent) -> None:
        given = event_to_fields(event)
        assert event_from_fields(given) == event
        for changed in (
            {**given, "more": 1},
            {**given, "kind": "Laplace"},
            {**given, "relation": "swap"},
            {name: value for name, value in given.items() if name != "relation"},
            [],
        ):
            with pytest.raises(EncodingError):
                event_from_fields(changed)


class TestTheLibrary:
    def test_is_loaded_only_when_asked(self) -> None:
        code = (
            "import sys, secureagg, secureagg.dp.accounting, secureagg.dp.ledger; print('dp_accounting' in sys.modules)"
        )
        assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"

    def test_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "dp_accounting", None)
        composition._library.cache_clear()
        with pytest.raises(MissingExtraError, match=r"secureagg\[dp\]"):
            epsilon(replace(SGD, steps=17), 1e-5)

    def test_huge_losses_do_not_fill_memory(self) -> None:
        tiny = replace(CENTRAL, noise_std=1e-6)
        assert accounting.accountant(tiny) == "RDP"
        assert epsilon(tiny, 1e-5) > 1e6
        assert accounting.accountant(CENTRAL) == "PLD"
