"""Jobs for the simulator, and what they leave behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Ran:
    """A job that ended: its exit code and the server's and the sites' files."""

    code: int
    workspace: Path
    output: str

    def outcome(self, round_number: int) -> dict[str, object]:
        text = (self.workspace / "server" / f"outcome-{round_number}.json").read_text(encoding="utf-8")
        return dict(json.loads(text))

    def mean(self, round_number: int) -> list[np.ndarray]:
        with np.load(self.workspace / "server" / f"mean-{round_number}.npz") as file:
            return [file[name] for name in sorted(file.files)]
