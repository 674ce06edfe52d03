"""secureagg.durable: a file is made once, whole, for its owner alone, and what cannot be made is named."""

from __future__ import annotations

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from secureagg.durable import make_directory, make_once
from secureagg.errors import ParameterError


def test_the_first_content_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    assert make_once(path, b"first") and not make_once(path, b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["file"]


def test_of_many_that_race_one_makes_it(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        made = list(threads.map(lambda n: make_once(tmp_path / "file", bytes([n])), range(32)))
    assert made.count(True) == 1
    assert (tmp_path / "file").read_bytes() == bytes([made.index(True)])


def test_a_file_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"missing/file cannot be written: No such file or directory"):
        make_once(tmp_path / "missing" / "file", b"")


def test_a_directory_is_its_owners(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b")
    make_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    make_once(tmp_path / "file", b"")
    with pytest.raises(ParameterError, match=r"file cannot be used: File exists"):
        make_directory(tmp_path / "file")
