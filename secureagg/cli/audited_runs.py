"""What the commands that audit share: seeds, and the runs of an audit as they are printed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from secureagg.errors import ParameterError
from secureagg.ring.xof import KEY_BYTES, SecretStream

if TYPE_CHECKING:
    from secureagg.dp.audit import AuditResult

__all__ = ["CONFIDENCE", "Part", "print_parts", "stream_of", "where"]

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


def where(alone: bool) -> str:
    """Return where the canaries are, in words."""
    return "each canary alone" if alone else "all canaries together"


def stream_of(seed: int | None) -> SecretStream:
    """Return where coins and noise come from: the operating system, or a seed. Raises: ParameterError if it is long."""
    if seed is None:
        return SecretStream(os.urandom(KEY_BYTES))
    if seed.bit_length() > 8 * KEY_BYTES:
        raise ParameterError(f"seed must be below 2^{8 * KEY_BYTES}")
    return SecretStream(seed.to_bytes(KEY_BYTES, "little"))


def print_parts(console: Console, parts: list[Part], verdicts: list[str]) -> None:
    """Print each run with its verdict."""
    for part, verdict in zip(parts, verdicts, strict=True):
        console.print(Text(f"With {where(not part.canaries_together)}:", style="bold"))
        console.print(
            Text(
                f"  {part.correct} of {part.guesses} guesses right, {part.canaries} canaries, {part.seconds:.1f} s\n"
                f"  epsilon is at least {part.curve_epsilon:.2f} (by the claim's curve)\n"
                f"  epsilon is at least {part.general_epsilon:.2f} (of any mechanism)"
            )
        )
        console.print(Text(f"  {verdict}", style="bold red" if part.violated else ""), soft_wrap=True)
