"""The migration page's blocks and the examples, run where NVFlare is installed."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from secureagg.adapters.nvflare.allow_list import COMPONENTS
from tests.adapters.nvflare.jobs import ROOT

PAGE = (ROOT / "docs" / "migrate-nvflare.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)


def test_python_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    for block in blocks("python"):
        exec(compile(ast.parse(block), "docs/migrate-nvflare.md", "exec"), namespace)
    assert (tmp_path / "jobs" / "private" / "meta.json").exists()
    assert not list((tmp_path / "jobs").rglob("custom"))


def test_console_blocks(tmp_path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    commands = [shlex.split(line) for block in blocks("console") for line in block.splitlines()]
    assert {command[0] for command in commands} == {"pip", "python"}
    for command in commands:
        if command[0] == "pip":
            assert "nvflare" in extras and command[-1] == "secureagg[nvflare]"
        else:
            subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "local" / "secureagg" / "site-1" / "identity").exists()


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_page_names_what_the_allow_list_must_hold(component: str) -> None:
    assert any(f'"{component}"' in block for block in blocks("text"))


@pytest.mark.parametrize("example", ["job.py", "collab_job.py"])
def test_an_example_trains(example: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [sys.executable, str(ROOT / "examples" / "nvflare" / example)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=170)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    accuracies = [float(found) for found in re.findall(r"accuracy(?: after \d rounds:)? (0\.\d+)$", ran.stdout, re.M)]
    assert accuracies and accuracies[-1] > 0.75
