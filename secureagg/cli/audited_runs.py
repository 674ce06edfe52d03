"""What the commands that audit share: seeds, and the runs of an audit, timed, printed and judged."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.text import Text

from secureagg.cli.bar import bar
from secureagg.cli.exit_codes import ExitCode
from secureagg.dp.audit import AuditResult, Claim, audit
from secureagg.dp.audit.curves import Curves
from secureagg.errors import ParameterError
from secureagg.events import Observer
from secureagg.ring.xof import KEY_BYTES, SecretStream

__all__ = ["Attack", "audit_runs", "stream_of"]

CONFIDENCE = 0.975  # of each of two runs


@dataclass(frozen=True)
class Part:
    """One of the two runs of an audit, as `--json` prints it. inf, for what cannot be detected, is printed as null."""

    canaries_together: bool
    canaries: int
    guesses: int
    correct: int
    curve_epsilon: float
    general_epsilon: float
    detectable_epsilon: float | None
    violated: bool
    seconds: float

    @classmethod
    def of(cls, found: AuditResult, seconds: float) -> Part:
        detectable = None if found.detectable_epsilon == float("inf") else found.detectable_epsilon
        return cls(
            not found.independent,
            found.canaries,
            found.guesses,
            found.correct,
            found.curve_epsilon,
            found.general_epsilon,
            detectable,
            found.violated,
            round(seconds, 3),
        )


def stream_of(seed: int | None) -> SecretStream:
    """Return where coins and noise come from: the operating system, or a seed. Raises: ParameterError if it is long."""
    if seed is None:
        return SecretStream(os.urandom(KEY_BYTES))
    if seed.bit_length() > 8 * KEY_BYTES:
        raise ParameterError(f"seed must be below 2^{8 * KEY_BYTES}")
    return SecretStream(seed.to_bytes(KEY_BYTES, "little"))


class Watched(Protocol):
    """A mechanism to audit, that tells how far it is."""

    observe: Observer | None

    def __call__(self, present: NDArray[np.bool_]) -> NDArray[np.float64]: ...


@dataclass(frozen=True)
class Attack:
    """One run, ready to be made.

    alone: whether each canary is. coins: decide who takes part. curves, in_share: as `dp.audit.audit` takes them.
    """

    mechanism: Watched
    claim: Claim
    alone: bool
    coins: SecretStream = field(repr=False)
    curves: Curves | None = None
    in_share: float = 0.5


def audit_runs(
    audited: str,
    attacks: Sequence[Attack],
    canaries: int,
    *,
    heading: Mapping[str, object],
    as_json: bool,
) -> None:
    """Make the runs, and print what each found.

    audited: what is, in words. heading: what `--json` says of the claim, beside confidence and verdict. Raises:
    typer.Exit with the code of a violation, if there is one.
    """
    parts, verdicts = [], []
    said = Console(stderr=True, soft_wrap=True)
    for attack in attacks:
        said.print(f"Auditing {audited} with {_where(attack.alone)} …", style="dim", highlight=False)
        started = time.perf_counter()
        with bar(said, "auditing") as observe:
            attack.mechanism.observe = observe
            found = _made(attack, canaries)
        parts.append(Part.of(found, time.perf_counter() - started))
        verdicts.append(found.verdict)
    violated = any(part.violated for part in parts)
    if as_json:
        judged = {**heading, "confidence": CONFIDENCE, "violated": violated, "runs": [vars(part) for part in parts]}
        typer.echo(json.dumps(judged, indent=2))
    else:
        _print_parts(Console(), parts, verdicts)
    if violated:
        raise typer.Exit(ExitCode.FAULTY_PARTY)


def _made(attack: Attack, canaries: int) -> AuditResult:
    return audit(
        attack.mechanism,
        canaries,
        claimed=attack.claim,
        curves=attack.curves,
        in_share=attack.in_share,
        independent=attack.alone,
        confidence=CONFIDENCE,
        stream=attack.coins,
    )


def _where(alone: bool) -> str:
    """Return where the canaries are, in words."""
    return "each canary alone" if alone else "all canaries together"


def _print_parts(console: Console, parts: list[Part], verdicts: list[str]) -> None:
    """Print each run with its verdict."""
    for part, verdict in zip(parts, verdicts, strict=True):
        console.print(Text(f"With {_where(not part.canaries_together)}:", style="bold"))
        console.print(
            Text(
                f"  {part.correct} of {part.guesses} guesses right, {part.canaries} canaries, {part.seconds:.1f} s\n"
                f"  epsilon is at least {part.curve_epsilon:.2f} (by the claim's curve)\n"
                f"  epsilon is at least {part.general_epsilon:.2f} (of any mechanism)"
            )
        )
        console.print(Text(f"  {verdict}", style="bold red" if part.violated else ""), soft_wrap=True)
