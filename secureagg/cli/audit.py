"""`secureagg audit`: a lower bound on the ε a mechanism really has, beside the one it claims."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from secureagg.cli.audited_runs import Attack, audit_runs, stream_of
from secureagg.cli.failures import reported
from secureagg.cli.options import (
    CanaryDeltaOption,
    CanaryEpsilonOption,
    CanarySeedOption,
    DebugOption,
    JsonOption,
    option,
    refuse_given,
)
from secureagg.dp.audit import Claim
from secureagg.dp.audit.sums import NoisySums, SumBug, SumNoise
from secureagg.dp.relation import Relation

__all__ = ["audit"]


class MechanismName(StrEnum):
    GAUSSIAN = "gaussian"
    DISCRETE_GAUSSIAN = "discrete-gaussian"
    SKELLAM = "skellam"
    DP_SGD = "dp-sgd"


class BugName(StrEnum):
    """Every seeded bug of sums and of DP-SGD."""

    HALF_NOISE = "half-noise"
    LESS_NOISE = "less-noise"
    MISSING_SHARE = "missing-share"
    NOISE_ONCE = "noise-once"
    SAME_SEED = "same-seed"
    NO_CLIP = "no-clip"
    CLIP_SUM = "clip-sum"
    CLIP_AFTER_NOISE = "clip-after-noise"
    NOISE_OVER_COUNT = "noise-over-count"
    ACTUAL_COUNT = "actual-count"
    NO_NOISE_ALONE = "no-noise-alone"
    NO_SAMPLING = "no-sampling"
    WRONG_RELATION = "wrong-relation"


_ONLY_SUMS, _ONLY_TRAINING = (BugName.MISSING_SHARE,), (BugName.NO_SAMPLING,)


def audit(
    context: typer.Context,
    mechanism: Annotated[MechanismName, typer.Option(help="What to audit.")] = MechanismName.DISCRETE_GAUSSIAN,
    epsilon: CanaryEpsilonOption = 4.0,
    delta: CanaryDeltaOption = 1e-5,
    canaries: Annotated[int, option("M", "Canaries; the more, the nearer the bound.")] = 10_000,
    bug: Annotated[
        BugName | None,
        typer.Option(
            help="Break the mechanism in one way, to see the audit find it. missing-share: of sums only; "
            "no-sampling: of dp-sgd only."
        ),
    ] = None,
    seed: CanarySeedOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Attack the noise and report the least ε it can have, beside the ε claimed.

    A coin decides for each canary, a contribution made to be recognised, whether
    it takes part. Whoever sees the result then guesses which did. Guesses too
    good for the claim refute it, and the exit code is 5. Two runs are made, each
    at 97.5 % confidence, so that a sound mechanism is accused in at most 5 % of
    audits: one with all canaries together, and one with each alone, which shows
    what few clients get. No violation found is not a proof of privacy: each run
    tells which ε it would have noticed.

    Examples:

    secureagg audit --mechanism dp-sgd --epsilon 3

    secureagg audit --epsilon 2 --bug half-noise

    secureagg audit --mechanism skellam --canaries 100000 --seed 1 --json

    These sums are simulated from the samplers that ship. Rounds as a plan really
    makes them, with clipping, rotation, rounding and everybody's noise:

    secureagg audit plan --epsilon 4
    """
    if context.invoked_subcommand is not None:
        for name in context.params:
            refuse_given(context, name, f"it would not be heeded; options come after {context.invoked_subcommand}")
        return
    with reported(context, debug):
        _require_known(mechanism, bug)
        if mechanism is MechanismName.DP_SGD:
            Console(stderr=True).print("Loading TensorFlow …", style="dim")
        heading = {
            "mechanism": mechanism.value,
            "bug": bug,
            "epsilon": epsilon,
            "delta": delta,
            "relation": "replace" if bug is BugName.WRONG_RELATION else "zero-out",
        }
        audit_runs(
            mechanism,
            [_attack(mechanism, epsilon, delta, bug, alone, seed) for alone in (False, True) if _applies(bug, alone)],
            canaries,
            heading=heading,
            as_json=as_json,
        )


def _require_known(mechanism: MechanismName, bug: BugName | None) -> None:
    unknown = _ONLY_SUMS if mechanism is MechanismName.DP_SGD else _ONLY_TRAINING
    if bug in unknown:
        raise typer.BadParameter(f"{mechanism} has no {bug}", param_hint="--bug")


def _applies(bug: BugName | None, alone: bool) -> bool:
    """Return whether this run can show the bug; without one, both are made."""
    if bug is None:
        return True
    return alone == (bug.value in set(SumBug) and SumBug(bug).alone)


def _attack(
    mechanism: MechanismName, epsilon: float, delta: float, bug: BugName | None, alone: bool, seed: int | None
) -> Attack:
    stream = stream_of(seed)
    noise, coins = stream.substream("noise"), stream.substream("coins")
    wrong = bug is BugName.WRONG_RELATION
    claim = Claim(epsilon, delta, Relation.REPLACE if wrong else Relation.ZERO_OUT)
    if mechanism is not MechanismName.DP_SGD:
        sums = NoisySums(claim, SumNoise(mechanism), SumBug(bug) if bug else None, alone, stream=noise)
        return Attack(sums, claim, alone, coins)
    from secureagg.dp.audit.training import IN_SHARE, LonelySteps, PrivateTraining, TrainingBug  # imports TensorFlow

    seeded = TrainingBug(bug) if bug else None
    if alone:
        steps = LonelySteps(claim, seeded, stream=noise)
        return Attack(steps, claim, alone, coins, steps.curves)
    training = PrivateTraining(claim, seeded, 1.0 if wrong else 0.5, stream=noise)
    return Attack(training, claim, alone, coins, training.curves, 0.5 if wrong else IN_SHARE)
