"""The grid: which way, of how many values, of how many clients, and how many of the clients are measured.

A cell's costs are those of a client and those of a server for a client; both are measured over `contributions` of the
`clients`, which are all of them where that takes a few seconds. The parameters are always those of all clients.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

__all__ = [
    "CLIENTS",
    "OURS",
    "VALUES",
    "WAYS",
    "Cell",
    "expected_seconds",
    "full",
    "neighbours",
    "quick",
    "quorum",
    "selected",
]

VALUES = (10**4, 10**5, 10**6, 10**7)
CLIENTS = (10, 100, 1000)
# Seconds of a client and the server's for it, fixed and per 10^6 values: what a quiet core takes, rounded up. They
# only choose how many clients are measured, the same on every machine.
_SECONDS = {
    "plain": (0.001, 0.012),
    "TenSEAL": (0.01, 0.7),
    "SecAgg+": (0.2, 0.3),
    "one-shot": (0.007, 0.03),
    "one-shot + DP": (0.007, 0.05),
    "one-shot + proofs": (0.035, 0.4),
    "one-shot + proofs + DP": (0.035, 0.4),
}
WAYS = tuple(_SECONDS)
OURS = tuple(way for way in WAYS if way.startswith("one-shot"))
_CELL_SECONDS = 10.0
_START_SECONDS, _CALIBRATION_SECONDS = 2.0, 3.0  # of a cell's two processes; of a plan's noise
_CELL_BYTES = 3e9  # that go from clients to the server; ours keeps them in a file
_BYTES_A_VALUE = {"TenSEAL": 60, "SecAgg+": 8}
_LEAST = 3  # clients, so that a median leaves out the first, slower one
_QUICK_HUNDRED = ("plain", "one-shot", "one-shot + proofs")  # 10^4 values of a hundred clients


@dataclass(frozen=True)
class Cell:
    """One row of the suite: `contributions` of the `clients` are measured."""

    way: str
    values: int
    clients: int
    contributions: int

    @property
    def key(self) -> str:
        """What names it in results."""
        return f"{self.way}, {self.values} values, {self.clients} clients"

    def to_json(self) -> str:
        """Return the one argument of a cell's process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Cell:
        """Return what `to_json` wrote."""
        return cls(**json.loads(text))


def full() -> list[Cell]:
    """Return all cells, small models first, so that a run that is stopped has compared all ways at some size."""
    return selected(WAYS, VALUES, CLIENTS)


def quick() -> list[Cell]:
    """Return the cells of the quick mode, each as the full run has it."""
    hundred = selected(_QUICK_HUNDRED, [10**4], [100])
    return selected(WAYS, [10**4], [10]) + hundred + selected(WAYS, [10**6], [10])


def selected(ways: Iterable[str], values: Iterable[int], clients: Iterable[int]) -> list[Cell]:
    """Return the cells of this part of the grid."""
    ways, clients = list(ways), list(clients)
    return [_cell(way, size, count) for size in values for count in clients for way in ways]


def neighbours(clients: int) -> int:
    """Return how many clients share a SecAgg+ client's secrets, itself included: all of few, else 2·⌈log2 n⌉ + 1.

    Bell et al. (CCS 2020) need O(log n); their example of 10^4 clients has 300. Ours is a favour to SecAgg+: its cost
    grows with this number.
    """
    return min(clients, 2 * math.ceil(math.log2(clients)) + 1) if clients > 10 else clients


def quorum(clients: int) -> int:
    """Return the fewest clients that may be summed where their own noise makes the sum private: four fifths."""
    return max(2, -(-4 * clients // 5))


def expected_seconds(cells: Iterable[Cell]) -> float:
    """Return about how long cells take on two quiet cores: starting, the measured clients, and the members' noise."""
    total = 0.0
    for cell in cells:
        noise = 5 * 5 * _client_seconds(cell.way, cell.values) if cell.way == "one-shot + proofs + DP" else 0.0
        total += _START_SECONDS + (_CALIBRATION_SECONDS if "DP" in cell.way else 0.0) + noise
        total += cell.contributions * _client_seconds(cell.way, cell.values)
    return total


def _client_seconds(way: str, values: int) -> float:
    fixed, growing = _SECONDS[way]
    return fixed + growing * values / 10**6


def _cell(way: str, values: int, clients: int) -> Cell:
    by_seconds = _CELL_SECONDS / _client_seconds(way, values)
    by_bytes = _CELL_BYTES / (_BYTES_A_VALUE.get(way, 4) * values)
    least = neighbours(clients) if way == "SecAgg+" else _LEAST
    return Cell(way, values, clients, min(clients, max(least, int(min(by_seconds, by_bytes)))))
