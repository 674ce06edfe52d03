"""The migration page's blocks and the examples, run where NVFlare is installed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from secureagg.adapters.nvflare.allow_list import COMPONENTS
from tests.adapters.nvflare.deployment import provision
from tests.adapters.nvflare.jobs import ATTEMPTS, LOST, ROOT, simulate
from tests.test_documents import OF_ENGINES, run_blocks

PAGES = [ROOT / "docs" / name for name in OF_ENGINES["nvflare"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a site's workspace as NVFlare provisions it."""
    monkeypatch.chdir(tmp_path)
    resources = provision(tmp_path / "kits", ["site-1"])["site-1"] / "local" / "resources.json.default"
    (tmp_path / "local").mkdir()
    shutil.copy(resources, tmp_path / "local")
    run_blocks(page, tmp_path)
    allowed = json.loads((tmp_path / "local" / "resources.json").read_text(encoding="utf-8"))["class_allow_list"]
    assert set(allowed) == {*json.loads(resources.read_text(encoding="utf-8"))["class_allow_list"], *COMPONENTS}
    assert (tmp_path / "local" / "secureagg" / "site-1" / "identity").exists()
    assert (tmp_path / "jobs" / "private" / "meta.json").exists()
    assert not list((tmp_path / "jobs").rglob("custom"))  # no code of ours travels


@pytest.mark.parametrize("component", COMPONENTS)
def test_the_page_names_what_the_allow_list_must_hold(component: str) -> None:
    assert f'"{component}"' in PAGES[0].read_text(encoding="utf-8")


@pytest.mark.parametrize("example", ["job.py", "collab_job.py"])
def test_an_example_trains(example: str) -> None:
    for _ in range(ATTEMPTS):
        ran = simulate(f"examples/nvflare/{example}")
        if LOST not in ran.stdout:
            break
    assert ran.returncode == 0, ran.stdout + ran.stderr
    accuracies = [float(found) for found in re.findall(r"accuracy(?: after \d rounds:)? (0\.\d+)$", ran.stdout, re.M)]
    assert accuracies
    assert accuracies[-1] > 0.75
