"""What the tests of this adapter share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.adapters.nvflare.federation import Job, terms_of
from tests.federation import MEMORY


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory in memory where there is one: journals are synced, which disks take their time for."""
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as name:
        yield Path(name)


@pytest.fixture
def folder(memory: Path) -> Path:
    """A new directory in it."""
    return Path(tempfile.mkdtemp(dir=memory))


@pytest.fixture
def job(folder: Path) -> Job:
    """A job of all sites of `common`, whose roster is collected."""
    return Job(folder, terms_of())
