"""One runner of each kind, and one small run, for all tests of the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from secureagg.cli.app import app
from tests.cli.runs import SMALL, Ended, Invoke, SmallRun, Spawn, program


@pytest.fixture(scope="session")
def invoke() -> Invoke:
    def run(*arguments: str) -> Ended:
        result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"}, catch_exceptions=False)
        return Ended(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture(scope="session")
def spawn() -> Spawn:
    def run(*arguments: str, before: str = "", cwd: Path | None = None) -> Ended:
        command = [sys.executable, "-c", program(before), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def small_run(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    folder = tmp_path_factory.mktemp("demo")
    report, state_dir = folder / "new" / "report.html", folder / "state"
    ended = invoke(*SMALL, "--json", "--report", str(report), "--state-dir", str(state_dir))
    assert ended.code == 0, ended.err
    return SmallRun(ended, json.loads(ended.out), report.read_text(), state_dir)
