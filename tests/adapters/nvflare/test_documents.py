"""The migration page's blocks and the examples, run where NVFlare is installed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from secureagg.adapters.nvflare.allow_list import COMPONENTS
from tests.adapters.nvflare.jobs import ATTEMPTS, LOST, ROOT, simulate
from tests.test_documents import OF_ENGINES, run_blocks

PAGES = [ROOT / "docs" / name for name in OF_ENGINES["nvflare"]]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(page, tmp_path)
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
