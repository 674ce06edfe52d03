"""A plan in words and numbers: what it costs, guarantees and assumes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from secureagg.bounds import FAILURE_BITS, SMOOTHING_BITS, Bound, Proven, packing_bounds, proven_bounds, sharing_bounds
from secureagg.dp.accounting import accountant, epsilon
from secureagg.packings import proven_choices
from secureagg.ring.bounds import smoothing_parameter

if TYPE_CHECKING:
    from secureagg.plan import RoundPlan

__all__ = ["bounds", "counted", "report"]


def counted(count: int, noun: str) -> str:
    """Return how many there are, in words: 1 tensor, 2 tensors."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def report(plan: RoundPlan) -> str:
    """Return the report, a line a subject and one for each inequality."""
    packing, ring, committee = plan.packing, plan.packing.ring, plan.committee
    size, plain = (
        plan.bytes_per_client,
        sum(
            math.prod(shape) * np.dtype(dtype).itemsize
            for shape, dtype in zip(plan.layout.shapes, plan.layout.dtypes, strict=True)
        ),
    )
    chosen = "fewest bytes among the sets that fit" if plan.parameters == "auto" else "named in the plan"
    if plan.proofs:
        chosen = "the set that proofs work on"
    lines = [
        f"{counted(plan.layout.size, 'value')} in {counted(len(plan.layout.shapes), 'tensor')}, "
        f"{counted(plan.clients, 'client')}, quorum {plan.quorum}",
        f"grid: {plan.value_bits} bits, C = {plan.value_limit}, step {1 / plan.quantiser.scale:.3g} "
        f"(values beyond ±{plan.quantiser.bound:g} are clamped, updates beyond L2 norm {plan.l2_clip:g} scaled)",
        f"parameters: {ring.name} ({chosen}): N = {ring.degree}, log2 q = {math.log2(ring.modulus):.1f}, "
        f"σ = {ring.sigma}",
        *(["rotation: random, of the session's own; undone after decoding"] if plan.rotate else []),
        f"packing: {counted(packing.fields, 'field')} of {packing.field_bits} bits a coefficient, Δ = {packing.delta}, "
        f"{counted(packing.chunks, 'chunk')}, {counted(packing.keys, 'one-time key')}",
        f"bytes per client: {size:,} for {plain:,} in the clear ({size / plan.layout.size:.2f} a value for "
        f"{plain / plan.layout.size:.2f}), of which "
        f"{plan.box_bytes:,} for each committee member; a member answers with {plan.sharing.answer_bytes:,}",
        f"committee: any {committee.members_needed} of {committee.size} open the sum ({committee.mode}); "
        f"{committee.size - committee.members_needed} may be away, {committee.colluding} may collude",
        f"failure: with everybody honest the sum opens exactly, but with probability ≤ 2^-{_failure_bits(plan)}",
        f"security: {ring.security_bits} bits classical in the MATZOV cost model, {ring.core_svp_bits} in core-SVP "
        "(lattice-estimator, width 3.2 after the hint)"
        if ring.is_secure
        else "security: none, a toy set for tests",
        *(
            ["proofs: none. A client may send any vector and weight; only sums are checked against their limits"]
            if plan.proven is None
            else _proof_lines(plan, plan.proven)
        ),
        *_privacy_lines(plan),
        "bounds, each checked:",
    ]
    lines += [f"  {bound.meaning}: {bound.inequality}: {bound.numbers}" for bound in plan.bounds]
    return "\n".join(lines)


def bounds(plan: RoundPlan) -> tuple[Bound, ...]:
    """Return every inequality that the plan satisfies, with both sides as numbers."""
    packing, ring, committee = plan.packing, plan.packing.ring, plan.committee
    k, t, c = committee.size, committee.members_needed, committee.colluding
    revealed = ring.degree * (1 + packing.chunks_per_key)
    width = 2 * math.sqrt(2) * smoothing_parameter(revealed, SMOOTHING_BITS)
    return (
        *(
            packing_bounds(packing, plan.error_bound)
            if plan.proven is None
            else proven_bounds(plan.proven, plan.demand, plan.error_bound)
        ),
        *sharing_bounds(packing, plan.sharing, plan.contributors, proofs=plan.proofs),
        Bound("Hint-MLWE reduction", "σ ≥ 2√2·η", f"{ring.sigma} ≥ {width:.2f} for {revealed} revealed"),
        Bound("one set of clients per round", "3t > 2k + c", f"{3 * t} > {2 * k + c}"),
        Bound(
            "a client hides among honest ones",
            "quorum ≥ 2 + assumed corrupt",
            f"{plan.quorum} ≥ {2 + plan.assumed_corrupt_clients}",
        ),
    )


def _failure_bits(plan: RoundPlan) -> int:
    """Return how rarely a round of honest parties fails: errors, key sum and, if it is inside the sum, noise."""
    tails = 2 if plan.noise is None or plan.noise.noise_by == "aggregator" else 3
    return FAILURE_BITS - (tails - 1).bit_length()


def _privacy_lines(plan: RoundPlan) -> list[str]:
    """Return what the noise guarantees, against whom, who adds how much of it, and what it costs."""
    noise = plan.noise
    if noise is None:
        return ["privacy: the sum is exact; nothing is differentially private"]
    one, all_rounds = plan.privacy_event(), plan.privacy_event(noise.rounds)
    scale = plan.quantiser.scale
    honest, parties, who, unseen = {
        "clients": (
            one.honest,
            plan.clients,
            "clients",
            f"the quorum of {plan.quorum} less {plan.assumed_corrupt_clients} assumed corrupt",
        ),
        "committee": (
            one.honest,
            plan.committee.size,
            "committee members",
            f"the {plan.committee.members_needed} that answer less {plan.committee.colluding} that collude",
        ),
        "aggregator": (1, 1, "aggregator", "it is trusted with the exact sum"),
    }[noise.noise_by or "clients"]
    return [
        f"privacy: ε = {epsilon(one, noise.delta):.4g} a round, {epsilon(all_rounds, noise.delta):.4g} over "
        f"{noise.rounds} (target {noise.epsilon:g}) at δ = {noise.delta:g}, {one.relation} of one client's vector, "
        f"against {'all participants' if noise.noise_by != 'aggregator' else 'all but the aggregator'}, by "
        f"{accountant(all_rounds)}; who takes part is public, and nothing is claimed for sampling clients",
        f"noise: {noise.name} of {noise.std:.4g} grid steps by each of the {who}; counted of {honest} ({unseen}): "
        f"{math.sqrt(honest) * noise.std / (scale * plan.l2_clip):.4g} times l2_clip on the sum; with all {parties} "
        f"{math.sqrt(parties) * noise.std / (scale * plan.l2_clip):.4g}",
        *_member_lines(plan),
    ]


def _member_lines(plan: RoundPlan) -> list[str]:
    """Return what a corrupt committee member's noise can be, where it is proven."""
    if plan.proven is None or (statement := plan.proven.noise) is None:
        return []
    scale = plan.quantiser.scale
    return [
        f"a corrupt member's noise may be anything within L2 norm {math.sqrt(statement.norm_bound) / scale:.4g} and "
        f"{statement.value_limit / scale:.4g} in a coordinate, as its proof shows; a noise contribution is "
        f"{plan.contribution_bytes(plan.clients):,} bytes"
    ]


def _proof_lines(plan: RoundPlan, proven: Proven) -> list[str]:
    """Return what is proven, to how many bits, at what price, and what a client can still do."""
    statement, scale = proven.statement, plan.quantiser.scale
    clip, largest = scale * plan.l2_clip, math.sqrt(statement.norm_bound)
    errors = math.sqrt(statement.error_bound)
    # A step is moved by an error of Δ/2 less what the honest ones add, and none by less (docs/proofs/overflow.md).
    free = statement.delta / 2 - plan.error_bound
    steered = errors / free if errors >= free else 0.0
    terms = ", ".join(f"{name} {bits:.1f}" for name, bits in statement.soundness_terms.items())
    found, refusals = proven_choices(plan.parameters, plan.demand, plan.committee, allow_insecure=plan.allow_insecure)
    costs = {bool(choice.statement.value_limit): f"{choice.total_bytes(plan.committee):,} bytes" for choice in found}
    refused = refusals[0] if refusals else ""
    return [
        f"proofs: {plan.proof_bytes:,} bytes a client, to {statement.soundness_bits:.1f} bits of soundness: {terms}",
        f"effective bound of a client: B + B_e/(Δ/2 − E) = {largest:.2f} + {steered:.2f} = {largest + steered:.2f} "
        f"grid steps = {(largest + steered) / scale:.6g}, {(largest + steered) / clip:.4f} of l2_clip",
        f"coordinates: |v| ≤ V = {proven.value_range}, {'with' if plan.range_argument else 'without'} the range "
        f"argument, for the fewest bytes of ciphertext, shares and proof: {costs.get(False, refused)} without, "
        f"{costs.get(True, refused)} with it",
        "a client can still send any vector within that bound, whatever its data, with "
        + (f"any weight in [1, {plan.max_weight}]" if plan.max_weight > 1 else "weight 1")
        + (
            f"; the bound is on the weighted vector, so one of weight 1 may move the mean {plan.max_weight} times as "
            "far as its weight says"
            if plan.max_weight > 1
            else ""
        ),
    ]
