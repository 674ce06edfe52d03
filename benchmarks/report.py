"""Where a figure comes from, and the rule by which it is kept: results are written from a clean tree only."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["provenance", "results", "table", "write", "write_page", "write_picture"]

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = _ROOT / "benchmarks" / "results"


def provenance(packages: Sequence[str]) -> dict[str, object]:
    """Return commit, machine and versions."""
    return {
        "commit": _git("rev-parse", "HEAD") or "none",
        "machine": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{package: version(package) for package in packages},
    }


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the rows in columns, the first flush left."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def write(name: str, figures: dict[str, object]) -> str:
    """Write benchmarks/results/<name>.json if nothing but results has changed since the commit; say what was done."""
    text = json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
    return _kept(f"{name}.json", lambda path: path.write_text(text, encoding="utf-8"))


def write_picture(name: str, draw: Callable[[Path], object]) -> str:
    """Let `draw` write benchmarks/results/<name>.svg, by the same rule."""
    return _kept(f"{name}.svg", draw)


def write_page(name: str, page: str) -> str:
    """Write benchmarks/results/<name>.html, by the same rule."""
    return _kept(f"{name}.html", lambda path: path.write_text(page, encoding="utf-8"))


def results(name: str) -> dict[str, Any] | None:
    """Return the committed results of a benchmark, or None if there are none yet."""
    path = _RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _kept(name: str, save: Callable[[Path], object]) -> str:
    if not _git("rev-parse", "HEAD"):
        return "not written: there is no commit to attribute the figures to"
    changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
    if changed:
        return f"not written: {len(changed.splitlines())} uncommitted changes; results come from a clean tree only"
    _RESULTS.mkdir(exist_ok=True)
    save(_RESULTS / name)
    return f"written: {(_RESULTS / name).relative_to(_ROOT)}"


def _git(*arguments: str) -> str:
    ran = subprocess.run(["git", *arguments], cwd=_ROOT, capture_output=True, text=True, check=False)
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
