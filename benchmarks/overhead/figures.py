"""What is measured of one cell."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from resource import RUSAGE_SELF, getrusage

__all__ = ["CLIENT_STAGES", "STAGES", "Figures", "Refused", "medians", "peak_bytes"]

CLIENT_STAGES = ("prepare", "protect", "share", "prove")
# All seconds. prepare: clip, rotate, round to the grid, draw noise. protect: encrypt or mask, and write as bytes.
# share: keys and shares of them, dealt, opened and given out. prove: the proof, with dealing. admit: the server reads
# a contribution, verifies it and adds it. open: what the server does once a round. respond: what a committee member
# does once a round, its own noise included; with TenSEAL the holder of the key. A stage a way has not is missing.
STAGES = (*CLIENT_STAGES, "admit", "open", "respond")


class Refused(Exception):
    """This cell cannot be, for the reason given."""


@dataclass(frozen=True)
class Figures:
    """One cell's figures.

    client: seconds of one client, all stages, median; stages: seconds by name, of the clients' and of admit medians;
    upload_bytes: a client's, all messages; peaks: resident bytes of the clients' process until the last contribution
    left it, and of the server's; errors: as `updates.errors`, empty if the sum could not be opened; notes: why.
    """

    client: float
    stages: Mapping[str, float]
    upload_bytes: int
    client_peak_bytes: int
    server_peak_bytes: int
    errors: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


def medians(runs: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure over the clients."""
    return {name: statistics.median(run[name] for run in runs) for name in _names(runs)}


def _names(runs: Iterable[Mapping[str, float]]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run))


def peak_bytes() -> int:
    """Return this process's peak resident set: VmHWM of Linux, since ru_maxrss there begins with the parent's."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    except OSError:
        peak = getrusage(RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
