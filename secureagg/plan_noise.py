"""How a plan's noise is sized: who adds it, how much of it is counted on, and what each party then has to add."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secureagg.dp.mechanisms import Exposure, Mechanism, NoiseBy
from secureagg.dp.noisy_sums import honest_contributors
from secureagg.errors import ParameterError

if TYPE_CHECKING:
    from secureagg.plan import RoundPlan

__all__ = ["calibrated", "exposure"]


def calibrated(plan: RoundPlan, noise: Mechanism) -> Mechanism:
    """Return the plan's mechanism with everything that it left open: who adds the noise, and how much of it.

    Raises: ParameterError if no (ε, δ) would cover the release, or who adds the noise would know all of it.
    """
    if not isinstance(noise, Mechanism):
        raise ParameterError("noise is a DistributedGaussian, a Skellam, a CentralGaussian or None")
    if plan.max_weight != 1:
        raise ParameterError(
            f"max_weight = {plan.max_weight} with noise: the sum of the weights would be released exactly, and no "
            "(ε, δ) covers that; use max_weight=1, which weighs clients alike"
        )
    noise_by = noise.added_by(proofs=plan.proofs, members=plan.committee.size)
    if noise_by == "committee" and plan.committee.size == 1:
        raise ParameterError(
            'noise_by="committee" with a committee of one: it would know all of the noise; use noise_by="clients" '
            "or more members"
        )
    return noise.calibrated(exposure(plan, noise_by), noise_by)


def exposure(plan: RoundPlan, noise_by: NoiseBy | None) -> Exposure:
    """Return what a sum of the plan shows of one client, and how many shares of such noise hide it.

    Requires: the plan has noise, of any amount; noise_by is the adder that it settled on.
    """
    return Exposure.of(plan.clip_grid, plan.layout.size, _honest(plan, noise_by), conditional=plan.conditional)


def _honest(plan: RoundPlan, noise_by: NoiseBy | None) -> int:
    """Return how many parties' noise is in every sum that is opened, and unknown to whoever colludes."""
    if noise_by == "clients":
        return honest_contributors(plan.quorum, plan.assumed_corrupt_clients)
    if noise_by == "committee":
        return honest_contributors(plan.committee.members_needed, plan.committee.colluding)
    return 1
