"""Adaptive clipping: the joint vector's sensitivity for any neighbour, its cost, and a clip that finds its quantile."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

import secureagg as sa
from secureagg.dp.accounting import epsilon
from secureagg.dp.adaptive_clipping import AdaptiveClip, joint_clip, joint_event, joint_layout, joint_update, split
from secureagg.dp.clipping import clip_factor
from secureagg.dp.dp_events import CentralGaussian, QuantileCount, update_noise_multiplier
from secureagg.dp.ledger import Ledger
from secureagg.dp.relation import Relation
from secureagg.dp.rounded_sums import RoundedGaussianSum
from secureagg.errors import BudgetExhausted, ParameterError
from secureagg.layout import Layout
from tests.federation import answers_of, federation, toy_plan

ZERO_OUT = Relation.ZERO_OUT
STATE = AdaptiveClip(clip=0.5, noise_multiplier=1.2, count_noise_std=5.0)
FINITE = {"allow_nan": False, "allow_infinity": False}
UPDATES = st.lists(
    st.sampled_from([np.float16, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=2, max_side=4), elements=FINITE)
    ),
    min_size=1,
    max_size=3,
)
STATES = st.builds(
    AdaptiveClip,
    clip=st.sampled_from([1e-3, 0.1, 1.0, 7.25, 1e6]),
    noise_multiplier=st.floats(0.1, 3),
    count_noise_std=st.floats(1.6, 100),
)


def exact_square(vector: list[NDArray[Any]]) -> Fraction:
    return sum((Fraction(float(x)) ** 2 for tensor in vector for x in tensor.ravel()), Fraction(0))


class TestSensitivity:
    @settings(max_examples=150, deadline=None)
    @given(update=UPDATES, state=STATES)
    def test_no_client_moves_the_sum_by_more_than_the_joint_clip(
        self, update: list[NDArray[Any]], state: AdaptiveClip
    ) -> None:
        """Zero-out: the sums of neighbours differ by the client's joint vector, whatever the others send."""
        try:
            joint = joint_update(update, state)
        except ParameterError:
            assert exact_square(update) > Fraction(state.clip) ** 2 * 10**570
            return
        assert exact_square(joint) <= Fraction(joint_clip(state)) ** 2
        assert clip_factor(joint_layout(Layout.of(update)), joint, joint_clip(state)) == 1.0
        assert abs(joint[-1][0]) == state.count_scale / 2

    @settings(max_examples=100, deadline=None)
    @given(direction=hnp.arrays(np.float32, 5, elements=st.floats(-1, 1, width=32)), length=st.floats(0, 2))
    def test_the_bound_is_met_by_who_stands_at_the_clip(self, direction: NDArray[Any], length: float) -> None:
        """Neighbours at, below and above C: the worst is within 10^-6 of J, so J is not larger than it need be."""
        norm = float(np.linalg.norm(direction.astype(np.float64)))
        if norm < 1e-3:
            return
        joint = joint_update([(direction.astype(np.float64) * (STATE.clip * length / norm))], STATE)
        square = math.sqrt(exact_square(joint))
        assert square <= joint_clip(STATE)
        if length > 1:
            assert square >= joint_clip(STATE) * (1 - 1e-6)

    @settings(max_examples=50, deadline=None)
    @given(ours=UPDATES, factor=st.sampled_from([-1.0, 1e-6, 1.0, 1e3]))
    def test_replacing_a_client_moves_the_sum_by_two_joint_clips_at_most(
        self, ours: list[NDArray[Any]], factor: float
    ) -> None:
        theirs = [np.clip(t.astype(np.float64) * factor, -1e4, 1e4).astype(t.dtype) for t in ours]
        try:
            one, other = joint_update(ours, STATE), joint_update(theirs, STATE)
        except ParameterError:
            assert exact_square(ours) > Fraction(STATE.clip) ** 2 * 10**570
            return
        pairs = zip((x for t in one for x in t.ravel()), (x for t in other for x in t.ravel()), strict=True)
        assert (
            sum((Fraction(float(a)) - Fraction(float(b))) ** 2 for a, b in pairs)
            <= 4 * Fraction(joint_clip(STATE)) ** 2
        )

    def test_a_bit_that_is_not_centred_would_move_it_further(self) -> None:
        """s·b instead of s·(b − ½): a client at its clip would be beyond J, so more private noise would be needed."""
        assert math.hypot(STATE.clip, STATE.count_scale) > joint_clip(STATE)

    @pytest.mark.parametrize("value", [math.nan, math.inf])
    def test_a_value_that_is_none_is_refused(self, value: float) -> None:
        with pytest.raises(ParameterError, match="tensor 1 holds NaN or an infinity"):
            joint_update([np.zeros(2), np.array([value])], STATE)

    @pytest.mark.parametrize(
        ("update", "bit"),
        [([0.0, 0.0], 1), ([0.3, 0.4], 1), ([0.3, 0.41], 0), ([5e-324, 0.0], 1), ([1e200, -1e200], 0)],
    )
    def test_the_bit_says_whether_the_update_was_within(self, update: list[float], bit: int) -> None:
        *clipped, count = joint_update([np.array(update)], STATE)
        assert count[0] == STATE.count_scale * (bit - 0.5)
        assert np.linalg.norm(clipped[0]) == pytest.approx(min(math.hypot(*update), 0.5), rel=1e-9)


class TestCost:
    def test_update_and_count_cost_together_what_one_gaussian_does(self) -> None:
        """Theorem 1: z⁻² = z_Δ⁻² + (2σ_b)⁻², with z_Δ = σ/C and σ_b = σ/s."""
        sigma = STATE.noise_std
        assert sigma / STATE.count_scale == pytest.approx(STATE.count_noise_std, rel=1e-9)
        assert sigma / STATE.clip == pytest.approx(update_noise_multiplier(1.2, 5.0), rel=1e-9)
        apart = [
            CentralGaussian(noise_std=sigma / 80, l2_clip=STATE.clip, clients=80, rounds=20, relation=ZERO_OUT),
            QuantileCount(noise_std=STATE.count_noise_std, rounds=20, relation=ZERO_OUT),
        ]
        together = joint_event(STATE, 80, 20, ZERO_OUT)
        assert epsilon(together, 1e-5) == pytest.approx(epsilon(apart, 1e-5), rel=1e-3)
        assert epsilon(together, 1e-5) > 1.0005 * epsilon(apart[0], 1e-5)  # the count is not for nothing

    def test_every_round_is_debited_whatever_the_clip_has_become(self, tmp_path: Path) -> None:
        planned = joint_event(STATE, 80, 3, ZERO_OUT)
        budget = (epsilon(planned, 1e-5) + 0.01, 1e-5)
        with Ledger(tmp_path / "ledger", budget, ZERO_OUT, planned=[planned]) as ledger:
            state = STATE
            for share in (-0.5, 0.3, 0.5):
                ledger.debit(joint_event(state, 80, 1, ZERO_OUT))
                _, state = split([np.zeros(2), np.array([share * state.count_scale])], state)
            assert state.clip != STATE.clip
            with pytest.raises(BudgetExhausted):
                ledger.debit(joint_event(state, 80, 1, ZERO_OUT))


class TestMovesTheClip:
    @pytest.mark.parametrize("quantile", [0.2, 0.5, 0.8])
    def test_to_the_quantile_of_the_norms(self, quantile: float) -> None:
        """200 clients of log-normal norms, from a clip far too large, with the count's own noise."""
        rng = np.random.default_rng(11)
        norms = np.sort(np.exp(rng.normal(0, 0.5, 200)))
        state = replace(STATE, clip=10.0, count_noise_std=10.0, target_quantile=quantile)
        found = []
        for _ in range(150):
            joints = [joint_update([np.array([norm, 0.0])], state) for norm in norms]
            total = [np.sum(parts, axis=0) for parts in zip(*joints, strict=True)]
            mean = [(part + rng.normal(0, state.noise_std, part.shape)) / len(norms) for part in total]
            update, state = split(mean, state)
            found.append(np.mean(norms <= state.clip))
            assert update[0].shape == (2,)
        assert np.mean(found[-50:]) == pytest.approx(quantile, abs=0.04)

    def test_by_the_papers_formula(self) -> None:
        """C·exp(−η·(b̃ − γ)), by hand: 60 of 80 within, η = 0.2, γ = 0.5."""
        count = np.array([STATE.count_scale * (60 - 20) / 2 / 80])
        _, state = split([np.zeros(1), count], STATE)
        assert state.clip == pytest.approx(0.5 * math.exp(-0.2 * 0.25), rel=1e-12)
        assert replace(state, clip=STATE.clip) == STATE

    @pytest.mark.parametrize(("share", "factor"), [(1e300, math.exp(-0.1)), (-1e300, math.exp(0.1))])
    def test_by_a_bounded_factor_however_large_the_noise(self, share: float, factor: float) -> None:
        _, state = split([np.zeros(1), np.array([share])], STATE)
        assert state.clip == pytest.approx(0.5 * factor, rel=1e-12)


def test_the_count_comes_out_of_a_secure_sum() -> None:
    """Four clients, encrypted: three within the clip; nobody but each client knows which."""
    updates = [[np.array([0.1, 0.2])], [np.array([0.0, 0.0])], [np.array([3.0, 4.0])], [np.array([0.3, 0.3])]]
    layout = Layout.of(updates[0])
    plan = toy_plan(layout=joint_layout(layout), l2_clip=joint_clip(STATE), value_bound=None, value_bits=16)
    with federation(plan) as parties:
        aggregator = sa.Aggregator(parties.session)
        for client, update in enumerate(updates):
            aggregator.admit(parties.contribution(client, update=joint_update(update, STATE)))
        request = aggregator.close()
        result = aggregator.open(answers_of(parties.members, parties.session, request))
    mean, state = split(result.mean, STATE)
    np.testing.assert_allclose(mean[0], np.array([0.1 + 0.3 + 0.3, 0.2 + 0.4 + 0.3]) / 4, atol=1e-3)
    assert state.clip == pytest.approx(0.5 * math.exp(-0.2 * (0.75 - 0.5)), rel=1e-3)


def test_a_plans_noise_is_the_noise_of_update_and_count() -> None:
    """Four clients who all stay, with shares of noise: its multiplier is asked of the plan, whatever the clip is."""
    layout = Layout(((1000,),), ("float64",))

    def plan_of(l2_clip: float) -> sa.RoundPlan:
        noise = sa.DistributedGaussian(epsilon=50.0, delta=1e-5, rounds=1, noise_by="clients")
        return toy_plan(
            layout=joint_layout(layout), l2_clip=l2_clip, value_bound=None, quorum=4, noise=noise, parameters="auto"
        )

    event = plan_of(1.0).privacy_event()
    assert isinstance(event, RoundedGaussianSum) and event.dimension == 1001
    state = replace(STATE, noise_multiplier=event.uses().noise_multiplier, count_noise_std=0.5)
    plan = plan_of(joint_clip(state))
    assert plan.privacy_event().noise_std_grid == pytest.approx(event.noise_std_grid, rel=1e-6)
    with federation(plan) as parties:
        aggregator = sa.Aggregator(parties.session)
        for client in range(4):
            vector = joint_update([np.zeros(1000)], state)
            aggregator.admit(parties.contribution(client, update=vector, rounding_rng=None))
        result = aggregator.open(answers_of(parties.members, parties.session, aggregator.close()))
    (update,), moved = split(result.mean, state)
    assert 4 * update.std() == pytest.approx(state.noise_std, rel=0.1)
    assert abs(4 * (result.mean[-1][0] / state.count_scale - 0.5)) < 5 * state.count_noise_std
    assert moved.clip != state.clip


REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: replace(STATE, clip=0.0), "clip"),
    (lambda: replace(STATE, clip=math.nan), "clip"),
    (lambda: replace(STATE, noise_multiplier=0.0), "noise_multiplier"),
    (lambda: replace(STATE, count_noise_std=0.6), "count_noise_std"),
    (lambda: replace(STATE, count_noise_std=math.inf), "count_noise_std"),
    (lambda: replace(STATE, target_quantile=1.1), "target_quantile"),
    (lambda: replace(STATE, learning_rate=-0.1), "learning_rate"),
    (lambda: split([], STATE), "no noisy count"),
    (lambda: split([np.zeros(2)], STATE), "no noisy count"),
    (lambda: split([np.zeros(2), np.zeros(1, np.float32)], STATE), "no noisy count"),
    (lambda: split([np.zeros(2), np.array([math.nan])], STATE), "no noisy count"),
    (lambda: split([np.zeros(2), np.array([9.0])], replace(STATE, clip=1e-18)), "clip"),
]


@pytest.mark.parametrize(("ask", "culprit"), REFUSED)
def test_refuses(ask: Callable[[], object], culprit: str) -> None:
    with pytest.raises(ParameterError, match=culprit):
        ask()
