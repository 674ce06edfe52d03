"""The example of plain library use: every party a process, and the mean is that of what the clients drew."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent


def tensors(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The directory of a finished round, and what it printed."""
    directory = tmp_path_factory.mktemp("library") / "round"
    command = [sys.executable, str(ROOT / "examples" / "library.py"), str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return directory, subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout


def test_the_mean_is_that_of_those_who_sent(ended: tuple[Path, str]) -> None:
    directory, printed = ended
    assert printed == "opened the sum of clients [0, 1, 2], total weight 600\n"
    updates = [tensors(directory / f"client-{client}" / "update.npz") for client in range(3)]
    for layer, found in enumerate(tensors(directory / "shared" / "mean.npz")):
        expected = sum((client + 1) * update[layer] for client, update in enumerate(updates)) / 6
        assert np.abs(found - expected).max() < 3 * 500 / 600 * 2.0 / (2**15 - 1)


def test_no_seed_and_no_update_stands_in_the_shared_directory(ended: tuple[Path, str]) -> None:
    directory, _ = ended
    shared = b"".join(path.read_bytes() for path in (directory / "shared").iterdir())
    seeds = [path.read_bytes() for path in directory.glob("*/seed")]
    updates = [tensors(path)[0].tobytes() for path in directory.glob("*/update.npz")]
    assert (len(seeds), len(updates)) == (8, 3)
    assert not any(secret in shared for secret in seeds + updates)
