"""Cells as they are run: in processes of their own, or skipped with the reason."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import benchmarks.__main__ as every_benchmark
from benchmarks.overhead import run as suite
from benchmarks.overhead.cells import selected
from benchmarks.overhead.run import failures, flower_python, run

PLAIN = selected(["plain"], [10**4], [10])
SECAGGPLUS = selected(["SecAgg+"], [10**4], [10])


def test_a_plain_cell_has_exact_bytes_and_the_float_mean():
    said: list[str] = []
    (found,) = run(PLAIN, None, said.append).values()
    assert found["upload_bytes"] == 4 * 10**4
    assert found["errors"]["max_error"] < 1e-8
    assert found["client"] == found["stages"]["protect"] and {"admit", "open"} <= found["stages"].keys()
    assert 10**7 < found["client_peak_bytes"] < 10**9 and 10**7 < found["server_peak_bytes"] < 10**9
    assert len(said) == 1 and said[0].startswith(PLAIN[0].key)


def test_without_flower_its_cells_are_skipped_with_the_reason():
    (found,) = run(SECAGGPLUS, None, lambda line: None).values()
    assert "--flower" in found["skipped"] and failures({"cell": found}) == []


@pytest.mark.skipif(find_spec("flwr") is not None, reason="this interpreter has Flower")
def test_an_interpreter_without_flower_is_named_as_the_reason():
    (found,) = run(SECAGGPLUS, Path(sys.executable), lambda line: None).values()
    assert "no Flower" in found["skipped"]


def test_what_fails_is_told_apart_from_what_is_refused(tmp_path):
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'it broke' >&2\nexit 3\n")
    broken.chmod(0o755)
    found = run(SECAGGPLUS, broken, lambda line: None)
    assert [each["skipped"] for each in found.values()] == ["failed: it broke"]
    assert failures(found) == [SECAGGPLUS[0].key]


def test_a_cell_beyond_its_limit_is_ended_and_told(tmp_path, monkeypatch):
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nsleep 60 & wait\n")
    slow.chmod(0o755)
    monkeypatch.setattr(suite, "CELL_LIMIT", 0.2)
    found = run(SECAGGPLUS, slow, lambda line: None)
    assert "took more than" in found[SECAGGPLUS[0].key]["skipped"] and failures(found)
    assert found[SECAGGPLUS[0].key]["seconds"] < 30  # its child was ended too, which held the pipe


@pytest.mark.parametrize("seconds", [0, 0.05])
def test_a_cell_the_run_has_no_time_for_is_skipped_and_no_failure(seconds):
    found = run(PLAIN, None, lambda line: None, seconds=seconds)
    assert "used up" in found[PLAIN[0].key]["skipped"] and failures(found) == []


def test_an_interpreter_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(SystemExit, match="no interpreter"):
        flower_python(tmp_path / "python")


@pytest.mark.parametrize(
    ("arguments", "complaint"), [(["unheard"], "no benchmark"), (["proofs", "--quick"], "only the overhead suite")]
)
def test_the_runner_refuses_what_it_does_not_have(monkeypatch, arguments, complaint):
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit, match=complaint):
        every_benchmark.main()
