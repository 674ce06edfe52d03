"""One cell in two new processes, this one the server and a child of it all others: prints one line of JSON.

Only bytes cross the pipe between them, a contribution at a time, and each waits for the other: no work overlaps, and
each process's peak memory is that of its role. The modules of the ways import nothing of each other's systems, so that
this runs in an engine's own environment.

    python -m benchmarks.overhead.cell '{"way": "one-shot", "values": 10000, "clients": 10, "contributions": 10}'
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from multiprocessing.connection import Connection
from typing import NamedTuple

from benchmarks.overhead.cells import OURS, Cell
from benchmarks.overhead.figures import Figures, Refused

__all__ = ["main", "measure"]

_MODULES = {"plain": "plain_way", "TenSEAL": "tenseal_way", "SecAgg+": "secaggplus_way"} | dict.fromkeys(
    OURS, "one_shot_way"
)


class Way(NamedTuple):
    """The two sides of a way."""

    serve: Callable[[Cell, Connection], Figures]
    take_part: Callable[[Cell, Connection], None]


def measure(cell: Cell) -> Figures:
    """Return the cell's figures. Raises: Refused if the way cannot have such a cell."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    others = context.Process(target=_others, args=(cell, there))
    others.start()
    there.close()
    try:
        figures = _way(cell).serve(cell, here)
    finally:
        here.close()  # whatever the others wait for, they stop
        others.join()
    return figures


def _others(cell: Cell, channel: Connection) -> None:
    _way(cell).take_part(cell, channel)


def _way(cell: Cell) -> Way:
    module = import_module(f"benchmarks.overhead.{_MODULES[cell.way]}")
    return Way(module.serve, module.take_part)


def main() -> None:
    """Print the figures, or why there are none."""
    try:
        print(json.dumps(asdict(measure(Cell.from_json(sys.argv[1])))))
    except Refused as refusal:
        print(json.dumps({"skipped": str(refusal)}))


if __name__ == "__main__":
    main()
