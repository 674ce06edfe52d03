"""Noise and rounds for a target: never beyond it, and never far from it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.dp.accounting import epsilon
from secureagg.dp.calibration import calibrate_noise, calibrate_rounds
from secureagg.dp.dp_events import BatchSampling, CentralGaussian, DpSgd, PrivacyEvent, QuantileCount
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError

ZERO_OUT = Relation.ZERO_OUT
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


class TestCalibration:
    @settings(max_examples=30, deadline=None)
    @given(target=st.floats(0.2, 20), honest=st.integers(1, 300), bound=st.floats(1, 1e5), skellam=st.booleans())
    def test_noise_for_sums_never_exceeds_the_target(
        self, target: float, honest: int, bound: float, skellam: bool
    ) -> None:
        def make(std: float) -> PrivacyEvent:
            if skellam:
                return replace(SKELLAM, noise_variance_grid=std**2, honest=honest, l2_bound_grid=bound)
            return replace(DISCRETE, noise_std_grid=std, honest=honest, l2_bound_grid=bound)

        noise = calibrate_noise(target, 1e-5, make, minimum=0.5)
        assert epsilon(make(noise), 1e-5) <= target
        assert noise == 0.5 or epsilon(make(max(0.5, noise / 1.0011)), 1e-5) > target

    def test_noise_for_dp_sgd(self) -> None:
        target = 3.0

        def make(multiplier: float) -> PrivacyEvent:
            return replace(SGD, noise_multiplier=multiplier)

        noise = calibrate_noise(target, 1e-5, make)
        assert epsilon(make(noise), 1e-5) <= target < epsilon(make(noise / 1.0011), 1e-5)

    def test_noise_for_several_events_at_once(self) -> None:
        def make(std: float) -> list[PrivacyEvent]:
            return [replace(CENTRAL, noise_std=std), COUNT]

        noise = calibrate_noise(4.0, 1e-5, make)
        assert 3.95 < epsilon(make(noise), 1e-5) <= 4.0

    def test_rounds(self) -> None:
        def make(steps: int) -> PrivacyEvent:
            return replace(SGD, noise_multiplier=2.0, steps=steps)

        steps = calibrate_rounds(1.0, 1e-5, make)
        assert epsilon(make(steps), 1e-5) <= 1.0 < epsilon(make(steps + 1), 1e-5)
        assert calibrate_rounds(1.0, 1e-5, make, maximum=7) == 7
        assert calibrate_rounds(1.0, 1e-5, lambda rounds: replace(SHUFFLED, steps=rounds, passes=rounds)) == 0

    def test_out_of_reach(self) -> None:
        with pytest.raises(ParameterError, match="needs more noise than 4, the most there is"):
            calibrate_noise(0.01, 1e-5, lambda z: replace(SGD, noise_multiplier=z), maximum=4.0)
