"""A run beside the committed one, cell by cell, as ratios.

Seconds and memory beyond 1.5 times are flagged; they are another machine's, or a busy one's, before they are ours. More
bytes of our own are a regression on any machine. The peers' bytes are not ours to answer for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.overhead.cells import OURS

__all__ = ["Ratio", "compared", "fatal", "flagged"]

SLOWER = 1.5
LEAST_SECONDS = 2e-3  # of the committed run: shorter ones differ by more than that from call to call
_ONE_NUMBER = {"client": "client", "upload_bytes": "bytes"} | {
    f"{side}_peak_bytes": f"{side} memory" for side in ("client", "server")
}


@dataclass(frozen=True)
class Ratio:
    """One figure of one cell: now, in the committed run, and whether it is flagged or even fatal."""

    key: str
    what: str
    now: float
    committed: float

    @property
    def ratio(self) -> float:
        """Now to committed; of two zeros 1."""
        if self.committed == 0:
            return 1.0 if self.now == 0 else float("inf")
        return self.now / self.committed

    @property
    def fatal(self) -> bool:
        """More bytes of ours than were committed."""
        return self.what == "bytes" and self.key.split(",")[0] in OURS and self.now > self.committed

    @property
    def flagged(self) -> bool:
        """Fatal, or more than 1.5 times."""
        if self.what == "bytes":
            return self.fatal
        tiny = "memory" not in self.what and self.committed < LEAST_SECONDS
        return self.ratio > SLOWER and not tiny

    def __str__(self) -> str:
        if self.fatal:
            return f"MORE BYTES: {self.key}: {self.now:,.0f} and not {self.committed:,.0f}"
        return f"{'FLAGGED: ' if self.flagged else ''}{self.key}: {self.what} {self.ratio:.2f} of the committed run's"


def compared(now: Mapping[str, Any], committed: Mapping[str, Any]) -> list[Ratio]:
    """Return the ratios of the cells that both runs have figures of, measured over as many contributions."""
    ratios = []
    for key, mine in now.items():
        theirs = committed.get(key)
        if theirs is None or "skipped" in mine or "skipped" in theirs:
            continue
        if mine["contributions"] != theirs["contributions"]:
            continue
        ratios += [Ratio(key, what, mine[name], theirs[name]) for name, what in _ONE_NUMBER.items()]
        ratios += [
            Ratio(key, stage, mine["stages"][stage], theirs["stages"][stage])
            for stage in ("admit", "open")
            if stage in mine["stages"] and stage in theirs["stages"]
        ]
    return ratios


def flagged(ratios: list[Ratio]) -> list[Ratio]:
    """Return those worth a look, fatal ones first."""
    return sorted((ratio for ratio in ratios if ratio.flagged), key=lambda ratio: not ratio.fatal)


def fatal(ratios: list[Ratio]) -> bool:
    """Return whether anything of ours takes more bytes than it did."""
    return any(ratio.fatal for ratio in ratios)
