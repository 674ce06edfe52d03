"""Runs of the command line, and what tests compare of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

SMALL = ("demo", "--dataset", "breast-cancer", "--clients", "5", "--rounds", "6", "--partition", "iid")


@dataclass(frozen=True)
class Ended:
    """How a run ended."""

    code: int
    out: str
    err: str


class Invoke(Protocol):
    """Runs the command in this process; nothing is a terminal."""

    def __call__(self, *arguments: str) -> Ended: ...


class Spawn(Protocol):
    """Runs the command in a fresh interpreter, after the statements in `before`."""

    def __call__(self, *arguments: str, before: str = "", cwd: Path | None = None) -> Ended: ...


@dataclass(frozen=True)
class SmallRun:
    """One small demo with a report, shared by the tests that only look at it."""

    ended: Ended
    figures: dict[str, Any]
    page: str
    state_dir: Path


def program(before: str) -> str:
    """The Python program that is the command line, started where the package need not be installed."""
    root = str(Path(__file__).resolve().parents[2])
    return f"import sys\nsys.path.insert(0, {root!r})\n{before}\nfrom secureagg.cli import main\nmain()"


def without_times(figures: Any) -> Any:
    """The figures but for what a clock says, and for bytes: ciphertexts and keys compress a little differently."""
    if isinstance(figures, dict):
        return {
            name: without_times(value)
            for name, value in figures.items()
            if "seconds" not in name and name not in ("key_bytes", "bytes_up_per_client", "ratio_bytes_up")
        }
    if isinstance(figures, Sequence) and not isinstance(figures, str):
        return [without_times(value) for value in figures]
    return figures
