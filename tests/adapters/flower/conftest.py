"""Flower's environment for all tests: no telemetry, no update check, a task's identity as a run would have it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
}
os.environ.update(QUIET)  # before flwr is imported, which reads them once

HERE = Path(__file__).parent
sys.path += [str(HERE / "app"), str(HERE.parents[2] / "examples" / "flower")]  # what runs in Flower's runtimes

from flwr.supercore.task_identity import TaskIdentity  # noqa: E402


@pytest.fixture(autouse=True)
def task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let messages be made outside of a run, and keep what nodes write in the test's directory."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "flwr"))
