"""The law of the noise in opened sums: whatever its cases draw, in either mode, can be planned."""

from __future__ import annotations

import pytest

from secureagg.selfcheck.noisy_sums import EPSILONS, WAYS, Way, plan_of


@pytest.mark.parametrize("way", WAYS, ids=lambda way: f"{way[0].name}-{way[1]}")
@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("values", [2**17, 2**21])
def test_every_case_can_be_planned(way: Way, epsilon: float, values: int) -> None:
    plan = plan_of(way, values, epsilon)
    assert plan.noise is not None and plan.noise.noise_by == way[1] and plan.proofs is way[2]
