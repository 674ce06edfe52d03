"""Plans with noise: what they refuse, what they derive, and that no ε they state is less than what can happen."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import dp_accounting
import numpy as np
import pytest

import secureagg as sa
from secureagg.dp.accounting import epsilon
from secureagg.dp.mechanisms import Mechanism
from secureagg.dp.quantise import norm_squared_bound
from secureagg.dp.rotation import rotated_bound
from secureagg.errors import EncodingError, ParameterError
from tests.federation import toy_plan

Kind = type[sa.DistributedGaussian] | type[sa.Skellam] | type[sa.CentralGaussian]
FIVE = sa.Committee(size=5, threshold=4, assumed_corrupt=1)
SMALL = {"clients": 6, "quorum": 4, "assumed_corrupt_clients": 1, "l2_clip": 1.0, "value_bits": 8, "committee": FIVE}
CLIP_GRID = 127.0


def noise(kind: Kind = sa.DistributedGaussian, **changes: Any) -> Mechanism:
    """Return a mechanism with more noise than it needs, unless calibration is asked for by noise_std_grid=None."""
    return kind(**{"epsilon": 30.0, "delta": 1e-5, "rounds": 2, "noise_std_grid": 80.0} | changes)


def plan_of(kind: Kind = sa.DistributedGaussian, *, proofs: bool = False, rotate: bool = False, **changes: Any) -> Any:
    """Return a toy plan with this noise; `changes` are the mechanism's."""
    return toy_plan(noise=noise(kind, **changes), proofs=proofs, rotate=rotate, **SMALL)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"max_weight": 2}, "max_weight = 2 with noise: the sum of the weights would be released exactly"),
        ({"noise": noise(noise_by="committee"), "committee": sa.Committee(1)}, "committee of one"),
        ({"noise": noise(epsilon=5.0)}, "costs ε = .* over 2 rounds, more than epsilon=5"),
        ({"noise": noise(noise_std_grid=4.0)}, "do not hide the rounding"),
        ({"noise": 1.0}, "noise is a DistributedGaussian"),
        ({"noise": sa.DistributedGaussian}, "noise is a DistributedGaussian"),
    ],
)
def test_a_plan_that_would_promise_too_much_is_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ParameterError, match=why):
        toy_plan(**SMALL | {"noise": noise()} | changes)


@pytest.mark.parametrize(
    ("kind", "proofs", "committee", "expected"),
    [
        (sa.DistributedGaussian, False, FIVE, "clients"),
        (sa.DistributedGaussian, True, FIVE, "committee"),
        (sa.DistributedGaussian, True, sa.Committee(1), "clients"),
        (sa.Skellam, True, FIVE, "committee"),
        (sa.CentralGaussian, False, FIVE, "aggregator"),
        (sa.CentralGaussian, True, FIVE, "aggregator"),
    ],
)
def test_who_adds_it_if_the_plan_does_not_say(kind: Kind, proofs: bool, committee: sa.Committee, expected: str) -> None:
    plan = toy_plan(**SMALL | {"noise": noise(kind), "proofs": proofs, "committee": committee})
    assert plan.noise.noise_by == expected


def test_what_is_derived_of_clients_noise() -> None:
    plan = plan_of(noise_by="clients")
    assert (plan.noise_members, plan.contributors, plan.privacy_event().honest) == (0, 6, 4 - 1)
    own = plan.noise.coordinate_bound(18)
    tail = plan.noise.sum_bound(6, 18)
    assert plan.coordinate_bound == 127 + own
    assert plan.packing.field_limit >= 6 * 127 + tail
    assert plan.coordinate_limit(5) == 5 * 127 + tail
    assert not plan.conditional and plan.rounded_norm_bound == norm_squared_bound(CLIP_GRID, 18, 60)


def test_what_is_derived_of_members_noise() -> None:
    plan = plan_of(noise_by="committee")
    assert (plan.noise_members, plan.contributors, plan.privacy_event().honest) == (5, 11, 4 - 1)
    tail = plan.noise.sum_bound(5, 18)
    assert plan.coordinate_bound == 127
    assert plan.packing.field_limit >= 6 * 127 + tail
    assert plan.coordinate_limit(5) == 5 * 127 + tail
    assert plan.statement_of(0) is plan.statement_of(10) is None
    assert plan.contribution_bytes(10) == plan.bytes_per_client == plan.longest_contribution
    assert plan.error_bound > plan_of(noise_by="clients").error_bound  # five more ciphertexts in the sum


def test_what_is_derived_of_proven_noise() -> None:
    plan = plan_of(noise_by="committee", proofs=True)
    update, alone = plan.statement, plan.statement_of(plan.clients)
    assert plan.statement_of(5) is update and plan.statement_of(10) is alone
    assert (alone.max_weight, alone.value_limit) == (0, plan.noise.coordinate_bound(18))
    assert alone.norm_bound == plan.noise.norm_bound(18)
    assert replace(
        alone, max_weight=1, norm_bound=update.norm_bound, value_limit=update.value_limit
    ) == update  # the same packing  # fmt: skip
    assert plan.contribution_bytes(6) - plan.bytes_per_client == alone.proof_bytes - update.proof_bytes
    assert plan.longest_contribution == max(plan.contribution_bytes(0), plan.contribution_bytes(6))
    # Honest noise of all, or as much as the one corrupt member can prove beside it.
    tail, steps = plan.noise.sum_bound(5, 18), math.isqrt(update.error_bound - 1) // update.delta + 1
    most = tail + alone.value_limit
    assert plan.coordinate_limit(6) == 6 * plan.proven.value_range + most + 11 * steps + 1
    assert plan.packing.field_limit >= 6 * plan.proven.value_range + most + 11 * steps + 1
    assert plan.norm_bound == plan.rounded_norm_bound == norm_squared_bound(CLIP_GRID, 18, 60)
    assert plan.bounds[0].meaning == "no field overflows" and str(plan.coordinate_limit(6)) in plan.bounds[0].numbers
    assert any(bound.meaning.startswith("2 corrupt clients and members") for bound in plan.bounds)


def test_a_proven_client_with_noise_has_room_for_both() -> None:
    plan = plan_of(noise_by="clients", proofs=True)
    update, own = math.sqrt(plan.rounded_norm_bound), math.sqrt(plan.noise.norm_bound(18))
    assert (update + own) ** 2 <= plan.norm_bound <= (update + own + 2) ** 2
    assert plan.statement.norm_bound == plan.norm_bound and plan.proven.noise is None


def test_the_aggregators_noise_takes_no_room() -> None:
    plan, exact = plan_of(sa.CentralGaussian), toy_plan(**SMALL)
    assert plan.packing == exact.packing and plan.coordinate_limit(6) == exact.coordinate_limit(6)
    assert (plan.noise_members, plan.privacy_event().honest) == (0, 1)


def test_rotation_narrows_the_grid_to_what_rotated_updates_hold() -> None:
    plan = plan_of(rotate=True)
    assert plan.value_bound == rotated_bound(18) * 1.0
    assert sa.RoundPlan.from_bytes(plan.to_bytes(), allow_insecure=True) == plan
    wide = toy_plan(
        **SMALL | {"layout": sa.Layout.of([np.zeros(3000, np.float32)]), "rotate": True, "value_bound": None}
    )
    assert wide.value_bound == rotated_bound(3000) < 0.2  # one in 2^20 at most is beyond


@pytest.mark.parametrize("proofs", [False, True])
@pytest.mark.parametrize("kind", [sa.DistributedGaussian, sa.Skellam, sa.CentralGaussian])
@pytest.mark.parametrize("noise_by", ["clients", "committee"])
def test_what_is_drawn_anew_is_paid_for(kind: Kind, proofs: bool, noise_by: Any) -> None:
    """Rounding, norm and coordinates of each party that is counted on, three of six or of five; or nothing is kept."""
    plan = plan_of(kind, proofs=proofs, noise_by="aggregator" if kind is sa.CentralGaussian else noise_by)
    kept = proofs or kind is sa.Skellam
    assert plan.conditional == kept
    counted = 1 if kind is sa.CentralGaussian else 3
    assert plan.privacy_event().redrawn_probability == (3 * counted * 2.0**-60 if kept else 0.0)


# ε.


@pytest.mark.parametrize("kind", [sa.DistributedGaussian, sa.CentralGaussian])
def test_gaussian_noise_costs_what_the_gaussian_mechanism_costs(kind: Kind) -> None:
    """dp-accounting's own number for √honest·σ/C_g over two rounds, and at most 1 % more for rounding."""
    plan = plan_of(kind)
    event = plan.privacy_event(2)
    multiplier = math.sqrt(event.honest) * plan.noise.std / CLIP_GRID
    assert event.honest == (1 if kind is sa.CentralGaussian else 3)
    composed = dp_accounting.SelfComposedDpEvent(dp_accounting.GaussianDpEvent(multiplier), 2)
    plain = dp_accounting.pld.PLDAccountant().compose(composed).get_epsilon(1e-5)
    assert plain < epsilon(event, 1e-5) < 1.01 * plain


def test_skellam_noise_costs_what_its_paper_says() -> None:
    """Corollary 3.6 of Agarwal, Kairouz and Liu at whole orders, converted by dp-accounting."""
    plan = plan_of(sa.Skellam)
    orders = np.arange(2.0, 64.0)
    mu, square = 3 * plan.noise.std**2, plan.rounded_norm_bound
    l1 = min(math.sqrt(18 * square), square)
    one = orders * square / (2 * mu) + np.minimum(((2 * orders - 1) * square + 6 * l1) / (4 * mu**2), 3 * l1 / (2 * mu))
    paper, _ = dp_accounting.rdp.rdp_privacy_accountant.compute_epsilon(orders, 2 * one, 1e-5)
    assert epsilon(plan.privacy_event(2), 1e-5) == pytest.approx(paper, rel=2e-3)


@pytest.mark.parametrize("kind", [sa.DistributedGaussian, sa.Skellam])
def test_clients_that_drop_out_or_collude_never_cost_more_than_is_claimed(kind: Kind) -> None:
    """Every set of clients that is opened, less every set that may collude: the noise that is left costs no more."""
    plan = plan_of(kind, noise_by="clients")
    claim, counted = epsilon(plan.privacy_event(2), 1e-5), plan.privacy_event(2).honest
    left = {
        len(set(present) - set(corrupt))
        for size in range(plan.quorum, plan.clients + 1)
        for present in itertools.combinations(range(plan.clients), size)
        for corrupt in itertools.combinations(range(plan.clients), plan.assumed_corrupt_clients)
    }
    assert min(left) == counted == 3 and max(left) == 5
    costs = {honest: epsilon(replace(plan.privacy_event(2), honest=honest), 1e-5) for honest in {*left, 2, 6}}
    assert all(costs[honest] <= claim <= plan.noise.epsilon for honest in (*left, 6))
    assert costs[2] > claim  # one fewer than can happen would not be covered


@pytest.mark.parametrize("kind", [sa.DistributedGaussian, sa.Skellam])
@pytest.mark.parametrize("proofs", [False, True])
def test_members_that_stay_away_or_collude_never_cost_more_than_is_claimed(kind: Kind, proofs: bool) -> None:
    """Whoever is honest and answers has its noise in the sum; t answer."""
    plan = plan_of(kind, noise_by="committee", proofs=proofs)
    claim, committee = epsilon(plan.privacy_event(2), 1e-5), plan.committee
    left = {
        len(set(answering) - set(corrupt))
        for size in range(committee.members_needed, committee.size + 1)
        for answering in itertools.combinations(range(committee.size), size)
        for corrupt in itertools.combinations(range(committee.size), committee.colluding)
    }
    assert min(left) == plan.privacy_event().honest == 3
    for honest in left:
        assert epsilon(replace(plan.privacy_event(2), honest=honest), 1e-5) <= claim <= plan.noise.epsilon


def test_an_exact_sum_has_no_event() -> None:
    with pytest.raises(ParameterError, match="exact sums, which no"):
        toy_plan().privacy_event()


# Bytes.


def bytes_with(plan: sa.RoundPlan, **changes: object) -> bytes:
    fields = json.loads(plan.to_bytes())
    fields["noise"] |= changes
    return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def test_bytes_keep_the_noise_and_who_adds_it() -> None:
    for kind, proofs in itertools.product((sa.DistributedGaussian, sa.Skellam, sa.CentralGaussian), (False, True)):
        plan = plan_of(kind, proofs=proofs)
        assert bytes_with(plan) == plan.to_bytes()
        found = sa.RoundPlan.from_bytes(plan.to_bytes(), allow_insecure=True)
        assert found == plan and found.noise == plan.noise and found.digest() == plan.digest()
    assert plan.digest() != plan_of(sa.CentralGaussian, proofs=True, epsilon=31.0).digest()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"noise_std_grid": (75.0).hex(), "epsilon": (5.0).hex()}, "costs ε"),
        ({"noise_std_grid": (2.0).hex()}, "do not hide the rounding"),
        ({"epsilon": (5.0).hex()}, "more than epsilon=5"),
        ({"delta": (1e-200).hex()}, "costs ε"),
        ({"rounds": 10**6}, "costs ε"),
        ({"noise_std_grid": None}, "how much, is left open"),
        ({"noise_by": None}, "who adds noise, and how much, is left open"),
        ({"noise_std_grid": "0x50p+0"}, "not in canonical form"),
        ({"noise_by": "aggregator"}, "noise_by is one of"),
        ({"mechanism": "central-gaussian"}, "noise_by is one of"),
        ({"mechanism": "none"}, "'none'"),
    ],
)
def test_bytes_that_claim_less_noise_than_is_needed_are_refused(changes: dict[str, object], why: str) -> None:
    with pytest.raises(EncodingError, match=why):
        sa.RoundPlan.from_bytes(bytes_with(plan_of(), **changes), allow_insecure=True)


# The report.


def line(plan: sa.RoundPlan, start: str) -> str:
    (found,) = [each for each in plan.report().splitlines() if each.startswith(start)]
    return found


def test_the_report_says_what_holds_against_whom() -> None:
    plan = plan_of(noise_by="clients")
    one, both = (epsilon(plan.privacy_event(rounds), 1e-5) for rounds in (1, 2))
    privacy = line(plan, "privacy:")
    assert "zero-out of one client's vector, against all participants, by PLD" in privacy
    assert (
        f"ε = {one:.4g} a round, {both:.4g} over 2 (target 30) at δ = 1e-05, zero-out of one client's vector" in privacy
    )
    assert "by PLD; who takes part is public, and nothing is claimed for sampling clients" in privacy
    counted = math.sqrt(3) * 80 / CLIP_GRID
    expected = (
        f"80 grid steps by each of the clients; counted of 3 (the quorum of 4 less 1 assumed corrupt): {counted:.4g}"
    )
    assert expected in line(plan, "noise:")
    assert "by RDP" in line(plan_of(sa.Skellam), "privacy:")
    assert "the 4 that answer less 1 that collude" in line(plan_of(noise_by="committee"), "noise:")
    assert "trusted with the exact sum" in line(plan_of(sa.CentralGaussian), "noise:")
    assert "against all but the aggregator, by" in line(plan_of(sa.CentralGaussian), "privacy:")
    assert line(toy_plan(), "privacy:") == "privacy: the sum is exact; nothing is differentially private"


def test_the_report_says_what_a_corrupt_member_can_do() -> None:
    plan = plan_of(noise_by="committee", proofs=True)
    alone, scale = plan.statement_of(6), plan.quantiser.scale
    said = line(plan, "a corrupt member's noise")
    assert (
        f"L2 norm {math.sqrt(alone.norm_bound) / scale:.4g} and {alone.value_limit / scale:.4g} in a coordinate" in said
    )
    assert f"{plan.contribution_bytes(6):,} bytes" in said
    for other in (plan_of(noise_by="committee"), plan_of(noise_by="clients", proofs=True)):
        assert "a corrupt member's noise" not in other.report()


@pytest.mark.parametrize(
    ("changes", "bits"), [({}, 38), ({"noise_by": "committee"}, 38), ({"kind": sa.CentralGaussian}, 39)]
)
def test_the_report_counts_the_tail_of_noise_inside_the_sum_as_a_failure(changes: dict[str, Any], bits: int) -> None:
    """Errors, key sum and noise, at 2^-40 each."""
    assert line(plan_of(**changes), "failure:").endswith(f"probability ≤ 2^-{bits}")
