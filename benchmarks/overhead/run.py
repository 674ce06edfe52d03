"""Cells, one after the other, each in processes of its own: figures, or the reason why there are none.

No cell is left out silently. One that its plan or a missing peer refuses is skipped; one that fails or takes longer
than its limit is too, and the run says so in its exit code.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.overhead.cells import OURS, Cell

__all__ = ["Results", "failures", "flower_python", "flower_version", "run"]

ROOT = Path(__file__).resolve().parents[2]
CELL_LIMIT = 240.0  # seconds; the slowest should take a third
FAILED = "failed: "

Results = dict[str, Any]


def run(
    cells: Sequence[Cell], flower: Path | None, report: Callable[[str], object], seconds: float | None = None
) -> dict[str, Results]:
    """Return by cell's key its clients, contributions and figures, or {"skipped": reason}.

    seconds: of the whole run; cells that do not fit into them are skipped.
    """
    begun = time.monotonic()
    found: dict[str, Results] = {}
    if any(cell.way in OURS for cell in cells):  # compiled once, ahead: a compiler's memory is no client's
        subprocess.run([sys.executable, "-c", "import secureagg; secureagg.warm_up()"], cwd=ROOT, check=True)
    for cell in cells:
        start = time.monotonic()
        left = math.inf if seconds is None else begun + seconds - start
        if cell.way == "SecAgg+" and flower is None:
            figures: Results = {"skipped": "there is no Flower: make .venv-flower/.with-engine, or --flower PYTHON"}
        elif (measured := _measured(cell, flower, min(CELL_LIMIT, left))) is not None:
            figures = measured
        elif left <= CELL_LIMIT:
            figures = {"skipped": f"the run's {seconds:.0f} seconds were used up"}
        else:
            figures = {"skipped": f"{FAILED}it took more than {CELL_LIMIT:.0f} seconds"}
        taken = time.monotonic() - start
        found[cell.key] = {
            "way": cell.way,
            "values": cell.values,
            "clients": cell.clients,
            "contributions": cell.contributions,
            "seconds": taken,
            **figures,
        }
        report(f"{cell.key}: {figures.get('skipped') or f'{taken:.1f} s'}")
    return found


def _measured(cell: Cell, flower: Path | None, limit: float) -> Results | None:
    """Return the figures, or why there are none; None if they would have taken longer than the limit."""
    if limit <= 0:
        return None
    python = str(flower) if cell.way == "SecAgg+" else sys.executable
    command = [python, "-m", "benchmarks.overhead.cell", cell.to_json()]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        printed, complaints = process.communicate(timeout=limit)
    except BaseException as interruption:
        os.killpg(process.pid, signal.SIGKILL)  # its own process group: the cell and its child
        process.communicate()
        if isinstance(interruption, subprocess.TimeoutExpired):
            return None
        raise
    if process.returncode != 0:
        lines = complaints.strip().splitlines() or [f"exit code {process.returncode}"]
        return {"skipped": f"{FAILED}{lines[-1]}"}
    figures: Results = json.loads(printed.splitlines()[-1])
    return figures


def failures(found: Mapping[str, Results]) -> list[str]:
    """Return the keys of the cells that should have figures and have none."""
    return [key for key, each in found.items() if each.get("skipped", "").startswith(FAILED)]


def flower_python(given: Path | None) -> Path | None:
    """Return the interpreter with Flower: the one given, or `.venv-flower`'s, or none. Its path is not resolved."""
    if given is not None:
        if not given.is_file():
            raise SystemExit(f"there is no interpreter at {given}")
        return given.absolute()
    standard = ROOT / ".venv-flower" / "bin" / "python"
    return standard if standard.is_file() else None


def flower_version(python: Path) -> str:
    """Return the version of flwr that an interpreter has."""
    asked = "from importlib.metadata import version; print(version('flwr'))"
    ran = subprocess.run([str(python), "-c", asked], capture_output=True, text=True, check=False)
    return ran.stdout.strip() or "none"
