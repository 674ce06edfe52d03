"""The page about Ray, every code block of it, run where Ray is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_documents import OF_ENGINES, ROOT


@pytest.mark.parametrize("name", OF_ENGINES["ray"])
def test_code_blocks_run(name: str, tmp_path: Path) -> None:
    """In a process of its own, which starts its own cluster as a reader's would."""
    command = [sys.executable, "-m", "tests.test_documents", str(ROOT / "docs" / name)]
    subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
