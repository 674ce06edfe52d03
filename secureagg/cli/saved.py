"""What a saved private training keeps beside the engine's own state: its encryption's settings, and deviations."""

from __future__ import annotations

import json
import os
from pathlib import Path

from fl_core import StateError
from secureagg.cli.settings import Settings

__all__ = ["read_deviations", "write_deviations"]

_FILE = "deviation.json"


def write_deviations(folder: Path, settings: Settings, deviation: dict[int, float]) -> None:
    """Replace the file, at once or not at all."""
    temporary = folder / f"{_FILE}.tmp"
    temporary.write_text(json.dumps({"encryption": _encryption(settings), "deviation": deviation}))
    os.replace(temporary, folder / _FILE)


def read_deviations(folder: Path, settings: Settings) -> dict[int, float]:
    """Return each round's deviation; none if there is no file. A crash can have cost the last round's.

    Raises: StateError, if the file is damaged, or is of a run with other settings.
    """
    path = folder / _FILE
    if not path.exists():
        return {}
    try:
        saved = json.loads(path.read_text())
        encryption = saved["encryption"]
        deviation = {int(round_number): float(value) for round_number, value in saved["deviation"].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise StateError(f"{path}: damaged; use another --state-dir") from error
    if encryption != _encryption(settings):
        raise StateError(f"{path}: the run was encrypted with {encryption}; use the same settings")
    return deviation


def _encryption(settings: Settings) -> str:
    return f"scheme={settings.scheme}, magnitude={settings.magnitude!r}, precision={settings.precision!r}"
