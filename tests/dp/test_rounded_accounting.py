"""Rounded sums in ledgers: ε and δ beside dp-accounting called directly, laws, and refusals."""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import replace
from pathlib import Path

import dp_accounting
import numpy as np
import pytest
from dp_accounting import pld, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.dp.accounting import accountant, delta, epsilon, quick_epsilon, renyi_budget, renyi_divergence
from secureagg.dp.dp_events import CentralGaussian, event_from_fields, event_to_fields
from secureagg.dp.ledger import Ledger
from secureagg.dp.noisy_sums import gaussian_sum_distance
from secureagg.dp.quantise import norm_squared_bound
from secureagg.dp.relation import Relation
from secureagg.dp.rounded_sums import RoundedGaussianSum
from secureagg.errors import BudgetExhausted, EncodingError, ParameterError

ZERO_OUT = Relation.ZERO_OUT
EVENT = RoundedGaussianSum(
    noise_std_grid=90.0, honest=64, l2_clip_grid=200.0, dimension=10**5, rounds=1, relation=ZERO_OUT
)


def one(s: float, clip: float, rounds: int = 1) -> RoundedGaussianSum:
    """One coordinate, one party's noise."""
    return replace(EVENT, noise_std_grid=s, honest=1, l2_clip_grid=clip, dimension=1, rounds=rounds)


def gaussian_epsilon(multiplier: float, times: int, at: float) -> float:
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(multiplier), times)
    return float(pld.PLDAccountant().compose(event).get_epsilon(at))


class TestAccounting:
    def test_is_the_standing_mechanism_and_eta(self, tmp_path: Path) -> None:
        """A ledger's ε beside dp-accounting asked for T Gaussians of multiplier √(s² − 4)/C_g."""
        with Ledger(tmp_path / "l", (8.0, 1e-5), ZERO_OUT) as ledger:
            for number in range(3):
                ledger.debit(EVENT, f"round {number}")
            found = ledger.spent().epsilon
        b = (8 * 90.0) ** -2
        slope, log = 3 * 10**5 * b**2 / 16 * (16 / 15) ** 2, math.log(1e8 * (1 + math.exp(found)))
        tau = gaussian_sum_distance(90.0, 64)
        assert tau == 0
        eta = min(slope * k + log / (k - 1) for k in range(2, int(0.25 / b)))
        assert eta < 0.02 * found
        direct = gaussian_epsilon(math.sqrt(720.0**2 - 4) / 200, 3, 0.999e-5 * math.exp(-eta))
        assert found == pytest.approx(direct + eta, rel=1e-4)
        assert accountant([EVENT] * 3) == "PLD"

    def test_what_the_note_says_it_costs(self) -> None:
        """d = 10^5, C_g = 230, multiplier 3.7: variance for B² of conditional rounding, and for this."""
        event = replace(EVENT, noise_std_grid=3.7 * 230, honest=1, l2_clip_grid=230.0)
        assert norm_squared_bound(230.0, 10**5) / 230**2 == pytest.approx(1.5, abs=0.001)
        found = epsilon(replace(event, rounds=10), 1e-5)
        plain, with_more = (gaussian_epsilon(3.7 / root, 10, 1e-5) for root in (1.0, math.sqrt(1.0025)))
        assert plain < found < with_more

    def test_delta_and_epsilon_are_inverse(self) -> None:
        for event in (one(8.0, 3.5, 10), replace(EVENT, redrawn_probability=1e-9)):
            assert delta(event, epsilon(event, 1e-5)) <= 1e-5 * (1 + 1e-5)

    def test_the_smaller_bound_is_told(self) -> None:
        assert epsilon(one(8.0, 0.5, 64), 1e-5) < 1.0001 * quick_epsilon(one(8.0, 0.5, 64), 1e-5)
        assert epsilon(one(50.0, 7.5, 45), 1e-5) < 0.95 * quick_epsilon(one(50.0, 7.5, 45), 1e-5)

    def test_sums_that_differ(self) -> None:
        """Of two, both count: uses that are the same, and closeness of each."""
        twin, blurred = replace(EVENT, redrawn_probability=1e-15), replace(EVENT, noise_std_grid=1.5, l2_clip_grid=10.0)
        assert epsilon([EVENT, twin], 1e-5) == pytest.approx(epsilon([EVENT] * 2, 1e-5), rel=1e-6)
        assert min(epsilon([EVENT, blurred], 1e-5), epsilon([blurred, EVENT], 1e-5)) > epsilon(blurred, 1e-5)
        assert epsilon([EVENT, blurred], 1e-5) == pytest.approx(epsilon([blurred, EVENT], 1e-5))

    def test_beside_other_gaussians(self) -> None:
        other = CentralGaussian(noise_std=0.1, l2_clip=1.0, clients=50, rounds=2, relation=ZERO_OUT)
        both = dp_accounting.ComposedDpEvent(
            [
                dp_accounting.GaussianDpEvent(720 / 200),
                dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(5), 2),
            ]
        )
        direct = pld.PLDAccountant().compose(both).get_epsilon(1e-5)
        assert direct < epsilon([other, EVENT], 1e-5) < 1.02 * direct

    def test_orders_of_which_nothing_is_known(self) -> None:
        orders = np.array([1.1, 2.0, 63.0, 128.0, 255.0, 255.5, 256.0, 512.0, 1024.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            curve = one(8.0, 2.5).curve(orders)
            assert np.isfinite(curve).tolist() == [True] * 5 + [False] * 4
            for found in (
                rdp.compute_epsilon(orders, curve, 1e-5),
                rdp.rdp_privacy_accountant.compute_delta(orders, curve, 1.0),
            ):
                assert found[0] < 5
                assert found[1] < 256
            assert rdp.compute_epsilon(orders[-2:], curve[-2:], 1e-5)[0] == math.inf
            assert renyi_divergence(one(8.0, 2.5), 512.0) == math.inf

    @pytest.mark.parametrize("redrawn", [0.0, 1e-12])
    def test_ledger_of_a_plan(self, tmp_path: Path, redrawn: float) -> None:
        planned = replace(EVENT, rounds=3, redrawn_probability=redrawn)
        once = replace(planned, rounds=1)
        cost = epsilon(planned, 1e-5)
        with pytest.raises(ParameterError, match="planned events cost"):
            Ledger(tmp_path / "a", (cost * 0.99, 1e-5), ZERO_OUT, planned=[planned])
        with Ledger(tmp_path / "b", (cost, 1e-5), ZERO_OUT, planned=[planned]) as ledger:
            for number in range(3):
                ledger.debit(once, f"round {number}")
            assert not ledger.affords(once)
            with pytest.raises(BudgetExhausted, match="4 > 3 planned uses of this RoundedGaussianSum"):
                ledger.debit(once)
        with Ledger(tmp_path / "b", (cost, 1e-5), ZERO_OUT, planned=[planned]) as ledger:
            assert ledger.events == (once,) * 3
            assert ledger.spent().epsilon == cost

    def test_adaptive_ledger(self, tmp_path: Path) -> None:
        order, budget = renyi_budget(4.0, 0.99e-5)
        affordable = math.floor(budget / EVENT.curve(np.array([order]))[0])
        assert affordable >= 2
        with Ledger(tmp_path / "a", (4.0, 1e-5), ZERO_OUT) as ledger:
            for _ in range(affordable):
                ledger.debit(EVENT)
            with pytest.raises(BudgetExhausted, match=f"divergence .* of order {order:g}"):
                ledger.debit(EVENT)
            assert ledger.spent().epsilon < 4
        with Ledger(tmp_path / "b", (4.0, 1e-5), ZERO_OUT) as ledger:
            with pytest.raises(BudgetExhausted, match="values drawn anew"):
                ledger.debit(replace(EVENT, redrawn_probability=1e-8))
            assert ledger.affords(replace(EVENT, redrawn_probability=1e-10))

    def test_an_adaptive_ledger_refuses_what_has_no_divergence_at_its_order(self, tmp_path: Path) -> None:
        with Ledger(tmp_path / "a", (0.01, 1e-5), ZERO_OUT) as ledger:
            assert renyi_budget(0.01, 0.99e-5)[0] >= 256
            assert not ledger.affords(one(8.0, 1e-3))

    def test_extremes_are_numbers(self) -> None:
        for event in (one(1e18, 1.0), one(8.0, 8.0, 10**9), replace(EVENT, noise_std_grid=1.0, dimension=10**10)):
            for at in (0.5, 1e-5, 1e-200, 5e-324):
                assert epsilon(event, at) >= 0
            assert 0 <= delta(event, 1.0) <= 1
            assert 0 <= delta(event, 500.0) <= 1


class TestLaws:
    @settings(max_examples=25, deadline=None)
    @given(s=st.floats(8, 5000), more=st.floats(1.05, 3), rounds=st.integers(1, 50), dimension=st.integers(1, 10**6))
    def test_noise_rounds_clip_and_dimension(self, s: float, more: float, rounds: int, dimension: int) -> None:
        event = replace(one(s, 40.0, rounds), dimension=dimension)
        cost = quick_epsilon(event, 1e-5)
        assert quick_epsilon(replace(event, noise_std_grid=s * more), 1e-5) < cost
        assert quick_epsilon(replace(event, rounds=rounds + 1), 1e-5) > cost
        assert quick_epsilon(replace(event, l2_clip_grid=40.0 * more), 1e-5) > cost
        assert quick_epsilon(replace(event, dimension=dimension + 1), 1e-5) >= cost
        assert quick_epsilon(replace(event, redrawn_probability=1e-12), 1e-5) >= cost

    def test_loss_distributions_keep_the_order(self) -> None:
        costs = [epsilon(replace(EVENT, noise_std_grid=s), 1e-5) for s in (50.0, 70.0, 90.0)]
        assert costs == sorted(costs, reverse=True)
        assert epsilon(replace(EVENT, rounds=2), 1e-5) == epsilon([EVENT, EVENT], 1e-5) > costs[-1]
        assert epsilon(replace(EVENT, redrawn_probability=1e-8), 1e-5) > costs[-1]

    @settings(max_examples=20, deadline=None)
    @given(alpha=st.floats(1.01, 200), beta=st.floats(1.01, 200))
    def test_the_curve_rises_with_the_order(self, alpha: float, beta: float) -> None:
        low, high = one(8.0, 3.3).curve(np.array(sorted((alpha, beta))))
        assert low <= high * (1 + 1e-9)

    @settings(max_examples=20, deadline=None)
    @given(s=st.floats(8, 1e6), clip=st.floats(1e-6, 1e6), redrawn=st.floats(0, 1))
    def test_fields_there_and_back(self, s: float, clip: float, redrawn: float) -> None:
        event = replace(one(s, clip, 7), redrawn_probability=redrawn)
        assert event_from_fields(json.loads(json.dumps(event_to_fields(event)))) == event


class TestRejects:
    @pytest.mark.parametrize("relation", [Relation.ADD_OR_REMOVE, Relation.REPLACE])
    def test_another_relation(self, relation: Relation) -> None:
        with pytest.raises(ParameterError, match=f"relation={relation}.*use zero-out"):
            replace(EVENT, relation=relation)
        with pytest.raises(EncodingError, match="use zero-out"):
            event_from_fields({**event_to_fields(EVENT), "relation": str(relation)})

    def test_noise_that_does_not_hide_the_rounding(self) -> None:
        assert replace(EVENT, noise_std_grid=1.0).sum_std == 8
        for changed in ({"noise_std_grid": 0.999}, {"noise_std_grid": 1.0, "honest": 63}):
            with pytest.raises(ParameterError, match=r"noise_std_grid ≥ 8 fails"):
                replace(EVENT, **changed)  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [math.nan, math.inf, -1.0, True, "1", 0.0])
    @pytest.mark.parametrize("name", ["noise_std_grid", "honest", "l2_clip_grid", "dimension", "rounds"])
    def test_a_number_that_is_none(self, name: str, value: object) -> None:
        with pytest.raises(ParameterError, match=name):
            replace(EVENT, **{name: value})  # type: ignore[arg-type]

    @pytest.mark.parametrize("value", [math.nan, -1e-9, 1.01, True, "0"])
    def test_a_probability_that_is_none(self, value: object) -> None:
        with pytest.raises(ParameterError, match="redrawn_probability"):
            replace(EVENT, redrawn_probability=value)  # type: ignore[arg-type]
