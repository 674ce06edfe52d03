"""`secureagg audit plan`: a lower bound on the ε of a plan's rounds as they are really made, beside the ε it claims."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from secureagg.cli.audited_runs import CONFIDENCE, audit_runs, stream_of
from secureagg.cli.failures import DebugOption, reported

if TYPE_CHECKING:
    from secureagg.dp.audit import AuditResult
    from secureagg.dp.mechanisms import Mechanism, NoiseBy

__all__ = ["audit_plan"]

# Seconds, roughly: of a client in a round, of a value of it, and of a lonely canary in a round.
_SECONDS_A_CLIENT, _SECONDS_A_VALUE, _SECONDS_ALONE = 2e-4, 1e-8, 6e-4


class Adder(StrEnum):
    CLIENTS = "clients"
    COMMITTEE = "committee"
    AGGREGATOR = "aggregator"


class FaultName(StrEnum):
    """Every seeded fault of a plan's rounds."""

    HALF_NOISE = "half-noise"
    MISSING_NOISE = "missing-noise"
    PLANNED_PARTIES = "planned-parties"
    NO_CLIP = "no-clip"
    CLIP_AFTER_NOISE = "clip-after-noise"
    SAME_SEED = "same-seed"
    KNOWN_ROUNDING = "known-rounding"


def audit_plan(
    context: typer.Context,
    epsilon: Annotated[float, typer.Option(metavar="X", help="The ε that the plan's noise is calibrated to.")] = 4.0,
    delta: Annotated[float, typer.Option(metavar="X", help="The δ beside it.")] = 1e-5,
    rounds: Annotated[int, typer.Option(metavar="N", help="Rounds that share this ε; an even number.")] = 2,
    by: Annotated[
        Adder, typer.Option(help="Who adds the noise: each client or member a share, or the aggregator.")
    ] = Adder.CLIENTS,
    skellam: Annotated[
        bool, typer.Option("--skellam", metavar="", help="Skellam noise instead of discrete Gaussian.")
    ] = False,
    rotate: Annotated[
        bool, typer.Option("--rotate", metavar="", help="Updates are rotated before they are rounded.")
    ] = False,
    canaries: Annotated[
        int, typer.Option(metavar="M", help="Canaries; from some 20,000 on time grows with the square.")
    ] = 10_000,
    bug: Annotated[
        FaultName | None,
        typer.Option(
            help="Have somebody do one thing wrong, to see the audit find it. planned-parties: of noise in shares; "
            "known-rounding: not with --skellam, whose ε pays for it."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Repeat a run: all that is random from this number, not the system."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one JSON object instead.")] = False,
    debug: DebugOption = False,
) -> None:
    """Attack a plan's rounds, made by the code that ships, and report the least ε they can have.

    Clients clip, rotate, round to the grid and add noise, and the aggregator
    decodes the sum, as in a round; only encryption is left out, since what is
    opened is that sum, bit for bit. A canary is a client with an update ten
    times too long. Two runs are made, as in `secureagg audit`: one with all
    canaries in the same sums, and one with each in sums of two clients, which
    shows whether a share of noise is missing. The exit code is 5 if the claimed
    ε is refuted. No violation found is not a proof of privacy. Examples:

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
            lambda alone: _run(noise, rotate, canaries, bug, alone, seed),
            _runs(bug),
            heading=heading,
            as_json=as_json,
            seconds=lambda alone: _seconds(canaries, rounds, alone, rotate),
        )


def _noise(epsilon: float, delta: float, rounds: int, by: Adder, skellam: bool) -> Mechanism:
    from secureagg.dp.mechanisms import CentralGaussian, DistributedGaussian, Skellam

    if by is Adder.AGGREGATOR:
        if skellam:
            raise typer.BadParameter("the aggregator adds discrete Gaussian noise only", param_hint="--skellam")
        return CentralGaussian(epsilon=epsilon, delta=delta, rounds=rounds)
    kind = Skellam if skellam else DistributedGaussian
    noise_by: NoiseBy = "committee" if by is Adder.COMMITTEE else "clients"
    return kind(epsilon=epsilon, delta=delta, rounds=rounds, noise_by=noise_by)


def _runs(bug: FaultName | None) -> tuple[bool, ...]:
    """Return the runs to make, alone or not: with a bug, the one that is to show it."""
    from secureagg.plan_faults import PlanFault

    return (False, True) if bug is None else (PlanFault(bug).alone,)


def _seconds(canaries: int, rounds: int, alone: bool, rotate: bool) -> float:
    a_canary = _SECONDS_ALONE if alone else _SECONDS_A_CLIENT + canaries * _SECONDS_A_VALUE
    return canaries * rounds * a_canary * (1 + rotate)


def _run(
    noise: Mechanism, rotate: bool, canaries: int, bug: FaultName | None, alone: bool, seed: int | None
) -> AuditResult:
    from secureagg.dp.audit import audit
    from secureagg.plan_audit import CrowdedSums, LonelySums, claim_of, crowded_plan, lonely_plan
    from secureagg.plan_faults import PlanFault

    stream, fault = stream_of(seed), PlanFault(bug) if bug else None
    parties, coins = stream.substream("parties"), stream.substream("coins")
    if alone:
        plan = lonely_plan(noise, rotate=rotate)
        lonely = LonelySums(plan, fault, parties)
        return audit(lonely, canaries, claimed=claim_of(plan), independent=True, confidence=CONFIDENCE, stream=coins)
    plan = crowded_plan(noise, canaries, rotate=rotate)
    crowded = CrowdedSums(plan, fault, parties)
    return audit(crowded, canaries, claimed=claim_of(plan), confidence=CONFIDENCE, stream=coins)
