"""Audits of what plans really do: sound ones are not accused, and every seeded fault is found at ε = 2 and 4.

All seeds are fixed. With others, a sound plan would be accused in at most 5 % of audits, and a fault be missed in some
2 % where the canaries are as few as here for time's sake; the command takes 10,000.
"""

from __future__ import annotations

import numpy as np
import pytest

import secureagg as sa
from secureagg.dp.audit import AuditResult, audit
from secureagg.dp.mechanisms import Mechanism
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError
from secureagg.plan_audit import CrowdedSums, LonelySums, claim_of, crowded_plan, lonely_plan
from secureagg.plan_faults import PlanFault
from secureagg.ring.xof import SecretStream

# Canaries that show a fault of noise by clients at ε = 2, where it is hardest, and at ε = 4.
ENOUGH = {
    PlanFault.HALF_NOISE: (10_000, 5000),
    PlanFault.NO_CLIP: (1000, 1500),
    PlanFault.SAME_SEED: (1000, 1500),
    PlanFault.MISSING_NOISE: (4500, 2000),
    PlanFault.PLANNED_PARTIES: (4500, 2000),
    PlanFault.CLIP_AFTER_NOISE: (500, 500),
    PlanFault.KNOWN_ROUNDING: (4500, 2000),
}


def noise_of(name: str, epsilon: float, rounds: int = 2) -> Mechanism:
    match name:
        case "aggregator":
            return sa.CentralGaussian(epsilon=epsilon, delta=1e-5, rounds=rounds)
        case "skellam":
            return sa.Skellam(epsilon=epsilon, delta=1e-5, rounds=rounds, noise_by="clients")
        case "committee":
            return sa.DistributedGaussian(epsilon=epsilon, delta=1e-5, rounds=rounds, noise_by="committee")
        case _:
            return sa.DistributedGaussian(epsilon=epsilon, delta=1e-5, rounds=rounds, noise_by="clients")


def stream(number: int) -> SecretStream:
    return SecretStream(number.to_bytes(32, "little"))


def crowded(
    noise: Mechanism, canaries: int, fault: PlanFault | None = None, *, rotate: bool = False, seed: int = 1
) -> AuditResult:
    plan = crowded_plan(noise, canaries, rotate=rotate)
    return audit(CrowdedSums(plan, fault, stream(seed)), canaries, claimed=claim_of(plan), stream=stream(1000 + seed))


def lonely(
    noise: Mechanism, canaries: int, fault: PlanFault | None = None, *, rotate: bool = False, seed: int = 1
) -> AuditResult:
    plan = lonely_plan(noise, rotate=rotate)
    sums = LonelySums(plan, fault, stream(seed))
    return audit(sums, canaries, claimed=claim_of(plan), independent=True, stream=stream(1000 + seed))


class TestSound:
    @pytest.mark.parametrize(
        ("name", "rotate"),
        [("clients", False), ("clients", True), ("committee", True), ("skellam", False), ("aggregator", False)],
    )
    def test_alone(self, name: str, rotate: bool) -> None:
        found = lonely(noise_of(name, 8.0), 600, rotate=rotate)
        assert not found.violated and 0.4 * 8 <= found.curve_epsilon <= 8

    @pytest.mark.parametrize(
        ("name", "rotate"), [("clients", False), ("committee", True), ("skellam", True), ("aggregator", True)]
    )
    def test_together(self, name: str, rotate: bool) -> None:
        found = crowded(noise_of(name, 8.0), 2000, rotate=rotate)
        assert not found.violated and 0.4 * 8 <= found.curve_epsilon <= 8

    def test_over_more_rounds(self) -> None:
        found = crowded(noise_of("committee", 8.0, rounds=6), 500)
        assert not found.violated and found.curve_epsilon >= 0.2 * 8


class TestFaults:
    """Each way to add noise is audited for every fault by `benchmarks.plan_audit`, which takes minutes."""

    @pytest.mark.parametrize("fault", PlanFault)
    def test_is_found_at_epsilon_2(self, fault: PlanFault) -> None:
        found = (lonely if fault.alone else crowded)(noise_of("clients", 2.0), ENOUGH[fault][0], fault)
        assert found.violated and found.curve_epsilon > 2

    @pytest.mark.parametrize("fault", PlanFault)
    def test_is_found_at_epsilon_4_in_rotated_sums(self, fault: PlanFault) -> None:
        attack = lonely if fault.alone else crowded
        found = attack(noise_of("committee", 4.0), ENOUGH[fault][1], fault, rotate=True)
        assert found.violated and found.curve_epsilon > 4

    @pytest.mark.parametrize("fault", [PlanFault.MISSING_NOISE, PlanFault.NO_CLIP])
    @pytest.mark.parametrize("name", ["skellam", "aggregator"])
    def test_is_found_in_other_noise(self, name: str, fault: PlanFault) -> None:
        attack = lonely if fault.alone else crowded
        assert attack(noise_of(name, 4.0), ENOUGH[fault][1], fault).violated


class TestRefuses:
    def test_a_fault_that_only_lonely_canaries_show(self) -> None:
        with pytest.raises(ParameterError, match="alone"):
            CrowdedSums(crowded_plan(noise_of("clients", 4.0), 20), PlanFault.MISSING_NOISE)

    def test_another_number_of_canaries_than_clients(self) -> None:
        sums = CrowdedSums(crowded_plan(noise_of("clients", 4.0), 20))
        with pytest.raises(ParameterError, match="21 canaries for 20"):
            sums(np.ones(21, dtype=np.bool_))

    def test_few_canaries(self) -> None:
        with pytest.raises(ParameterError, match="canaries"):
            crowded_plan(noise_of("clients", 4.0), 19)

    @pytest.mark.parametrize("sums", [CrowdedSums, LonelySums])
    @pytest.mark.parametrize(
        ("changes", "match"),
        [
            ({"noise": noise_of("clients", 4.0, rounds=3)}, "even"),
            ({"noise": None}, "exact sums"),
            ({"layout": sa.Layout(((8,),), ("float32",))}, "float64"),
            ({"layout": sa.Layout(((4,), (4,)), ("float64", "float64"))}, "one float64 vector"),
            ({"layout": sa.Layout(((2,),), ("float64",))}, "directions"),
        ],
    )
    def test_a_plan(self, sums: type[CrowdedSums | LonelySums], changes: dict[str, object], match: str) -> None:
        fields: dict[str, object] = {
            "layout": sa.Layout(((8,),), ("float64",)),
            "clients": 4,
            "quorum": 3,
            "l2_clip": 1.0,
            "value_bits": 14,
            "committee": sa.Committee(1),
            "noise": noise_of("clients", 4.0),
        }
        with pytest.raises(ParameterError, match=match):
            sums(sa.RoundPlan(**(fields | changes)))  # type: ignore[arg-type]


def test_the_claim_is_the_plans() -> None:
    claim = claim_of(lonely_plan(noise_of("clients", 4.0)))
    assert (claim.epsilon, claim.delta, claim.relation) == (4.0, 1e-5, Relation.ZERO_OUT)


def test_corrupt_clients_and_their_noise_are_left_out() -> None:
    """Of a quorum of five three are honest: theirs is the noise the plan counts, and it is enough."""
    plan = sa.RoundPlan(
        layout=sa.Layout(((64,),), ("float64",)),
        clients=8,
        quorum=5,
        assumed_corrupt_clients=2,
        l2_clip=3.0,
        value_bits=12,
        committee=sa.Committee(1),
        noise=noise_of("clients", 8.0),
    )
    sums = LonelySums(plan, stream=stream(1))
    found = audit(sums, 600, claimed=claim_of(plan), independent=True, stream=stream(2))
    assert 0.4 * 8 <= found.curve_epsilon <= 8


def test_a_seed_repeats_an_audit() -> None:
    for audited in (crowded, lonely):
        assert audited(noise_of("skellam", 4.0), 100) == audited(noise_of("skellam", 4.0), 100)
