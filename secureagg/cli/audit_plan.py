"""`secureagg audit plan`: a lower bound on the ε of a plan's rounds as they are really made, beside the ε it claims."""

from __future__ import annotations

from typing import Annotated

import typer

from secureagg.cli.audited_runs import Attack, audit_runs, stream_of
from secureagg.cli.failures import reported
from secureagg.cli.options import (
    CanaryDeltaOption,
    CanaryEpsilonOption,
    CanarySeedOption,
    DebugOption,
    JsonOption,
    flag,
    option,
)
from secureagg.dp.mechanisms import CentralGaussian, DistributedGaussian, Mechanism, NoiseBy, Skellam
from secureagg.plan_audit import CrowdedSums, LonelySums, claim_of, crowded_plan, lonely_plan
from secureagg.plan_faults import PlanFault

__all__ = ["audit_plan"]


def audit_plan(
    context: typer.Context,
    epsilon: CanaryEpsilonOption = 4.0,
    delta: CanaryDeltaOption = 1e-5,
    rounds: Annotated[int, option("N", "Rounds that share this ε; an even number.")] = 2,
    by: Annotated[
        NoiseBy, typer.Option(help="Who adds the noise: each client or member a share, or the aggregator.")
    ] = "clients",
    skellam: Annotated[bool, flag("--skellam", "Skellam noise instead of discrete Gaussian.")] = False,
    rotate: Annotated[bool, flag("--rotate", "Updates are rotated before they are rounded.")] = False,
    canaries: Annotated[int, option("M", "Canaries; from some 20,000 on time grows with the square.")] = 10_000,
    bug: Annotated[
        PlanFault | None,
        typer.Option(
            help="Have somebody do one thing wrong, to see the audit find it. planned-parties: of noise in shares; "
            "known-rounding: not with --skellam, whose ε pays for it."
        ),
    ] = None,
    seed: CanarySeedOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Attack a plan's rounds, made by the code that ships, and report the least ε they can have.

    Clients clip, rotate, round to the grid and add noise, and the aggregator
    decodes the sum, as in a round; only encryption is left out, since what is
    opened is that sum, bit for bit. A canary is a client with an update ten
    times too long. Two runs are made, as in `secureagg audit`: one with all
    canaries in the same sums, and one with each in sums of two clients, which
    shows whether a share of noise is missing. The exit code is 5 if the claimed
    ε is refuted. No violation found is not a proof of privacy.

    Examples:

    secureagg audit plan --epsilon 8

    secureagg audit plan --epsilon 2 --by committee --rotate --bug missing-noise

    secureagg audit plan --skellam --seed 1 --json
    """
    with reported(context, debug):
        noise = _noise(epsilon, delta, rounds, by, skellam)
        heading = {
            "mechanism": noise.name,
            "noise_by": by,
            "rotate": rotate,
            "bug": bug,
            "epsilon": epsilon,
            "delta": delta,
            "rounds": rounds,
            "relation": "zero-out",
        }
        audit_runs(
            "a plan",
            [_attack(noise, rotate, canaries, bug, alone, seed) for alone in _ways(bug)],
            canaries,
            heading=heading,
            as_json=as_json,
        )


def _noise(epsilon: float, delta: float, rounds: int, by: NoiseBy, skellam: bool) -> Mechanism:
    if by == "aggregator":
        if skellam:
            raise typer.BadParameter("the aggregator adds discrete Gaussian noise only", param_hint="--skellam")
        return CentralGaussian(epsilon=epsilon, delta=delta, rounds=rounds)
    kind = Skellam if skellam else DistributedGaussian
    return kind(epsilon=epsilon, delta=delta, rounds=rounds, noise_by=by)


def _ways(bug: PlanFault | None) -> tuple[bool, ...]:
    """Return the runs to make, alone or not: with a bug, the one that is to show it."""
    return (False, True) if bug is None else (bug.alone,)


def _attack(
    noise: Mechanism, rotate: bool, canaries: int, bug: PlanFault | None, alone: bool, seed: int | None
) -> Attack:
    stream = stream_of(seed)
    parties, coins = stream.substream("parties"), stream.substream("coins")
    if alone:
        plan = lonely_plan(noise, rotate=rotate)
        return Attack(LonelySums(plan, bug, parties), claim_of(plan), alone, coins)
    plan = crowded_plan(noise, canaries, rotate=rotate)
    return Attack(CrowdedSums(plan, bug, parties), claim_of(plan), alone, coins)
