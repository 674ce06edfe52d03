"""What a saved private training keeps beside the engine's own state: its settings, deviations, clips and ε."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from fl_core import StateError
from secureagg.cli.demo.settings import Settings

__all__ = ["SAVED_LANES", "Notes", "read_notes", "write_notes"]

SAVED_LANES = ("plain", "private")  # folders of a saved run; with a budget the private one is made first
_FILE = "notes.json"


@dataclass(frozen=True)
class Notes:
    """By round: the largest difference to the plain mean, how many updates were clipped, and ε spent so far."""

    deviation: dict[int, float]
    clipped: dict[int, int]
    spent: dict[int, float]


def write_notes(folder: Path, settings: Settings, notes: Notes) -> None:
    """Replace the file, at once or not at all. Raises: StateError if it cannot be written."""
    temporary = folder / f"{_FILE}.tmp"
    try:
        temporary.write_text(json.dumps({"encryption": _encryption(settings)} | asdict(notes)))
        os.replace(temporary, folder / _FILE)
    except OSError as error:
        raise StateError(f"{folder}: the run cannot be saved: {error}") from error


def read_notes(folder: Path, settings: Settings) -> Notes:
    """Return what was written; nothing of any round if there is no file. A crash can have cost the last round's.

    Raises: StateError, if the file is damaged, or is of a run with other settings.
    """
    path = folder / _FILE
    if not path.exists():
        return Notes({}, {}, {})
    try:
        saved = json.loads(path.read_text())
        encryption = saved["encryption"]
        notes = Notes(
            {int(round_number): float(value) for round_number, value in saved["deviation"].items()},
            {int(round_number): int(count) for round_number, count in saved["clipped"].items()},
            {int(round_number): float(value) for round_number, value in saved["spent"].items()},
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"{path}: damaged; use another --state-dir") from error
    if encryption != _encryption(settings):
        raise StateError(f"{path}: the run was encrypted with {encryption}; use the same settings")
    return notes


def _encryption(settings: Settings) -> str:
    privacy = "" if settings.privacy is None else f", {settings.privacy}"
    return f"scheme={settings.scheme}, {settings.encryption}{privacy}"
