"""`secureagg selfcheck`: what it says, writes and ends with, and what it does without."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from secureagg.cli.exit_codes import ExitCode
from secureagg.dp.ledger_file import LedgerFile
from secureagg.selfcheck import LAWS
from tests.cli.runs import Invoke, Spawn
from tests.cli.test_missing_extras import BLIND

FEW = ("--only", "ledger/file", "--only", "vectors")


def test_says_that_all_laws_hold(invoke: Invoke, tmp_path: Path) -> None:
    file = tmp_path / "findings.json"
    ended = invoke("selfcheck", *FEW, "--seed", "12", "--json", str(file))
    assert ended.code == ExitCode.OK
    first, *_, verdict = ended.out.splitlines()
    assert first.startswith("secureagg ") and first.endswith(", quick, seed 12")
    assert verdict.startswith("All 14 laws that were checked hold. ")
    assert ended.err.splitlines()[-14:] == [
        f"holds: {law.title} ({law.quick})" for law in LAWS if law.title == "ledger/file" or law.subject == "vectors"
    ]
    found = json.loads(file.read_text())
    assert (found["sound"], found["seed"], found["mode"], len(found["laws"])) == (True, 12, "quick", 14)
    assert found["laws"][0] == {
        "law": "ledger/file",
        "claim": found["laws"][0]["claim"],
        "source": "secureagg/dp/ledger_file.py",
        "status": "holds",
        "cases": 40,
        "seconds": found["laws"][0]["seconds"],
        "reason": "",
        "false_alarm": 0.0,
        "power": "",
    }


def test_a_broken_law_is_told_with_how_to_run_it_again(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LedgerFile, "_following", lambda self, text: bytes(32))
    file = tmp_path / "findings.json"
    ended = invoke("selfcheck", *FEW, "--json", str(file))
    assert ended.code == ExitCode.BROKEN_LAW == 9
    found = json.loads(file.read_text())
    lines = ended.out.splitlines()
    assert lines[-1].startswith("1 of 14 laws BROKEN: do not use this installation. ")
    assert f"  run it again: secureagg selfcheck --seed {found['seed']} --only ledger/file" in lines
    broken = next(line for line in lines if line.startswith("BROKEN: "))
    assert broken == f"BROKEN: ledger/file: {found['laws'][0]['reason']}"
    assert not found["sound"] and [law["status"] for law in found["laws"]] == ["broken", *["holds"] * 13]
    again = invoke("selfcheck", "--seed", str(found["seed"]), "--only", "ledger/file")
    assert again.code == ExitCode.BROKEN_LAW and broken in again.out.splitlines()


def test_cases_are_new_in_each_run(invoke: Invoke) -> None:
    first, second = (invoke("selfcheck", "--only", "vectors/expansion").out.splitlines()[0] for _ in range(2))
    assert first != second


def test_thorough_draws_more_and_says_so(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "findings.json"
    arguments = ("selfcheck", "--thorough", "--only", "vectors/proven-contribution", "--json", str(file))
    ended = invoke(*arguments)
    found = json.loads(file.read_text())
    assert ", thorough, seed " in ended.out and (found["mode"], found["laws"][0]["cases"]) == ("thorough", 200)
    monkeypatch.setattr("secureagg.selfcheck.vectors.verify_contribution", lambda session, view: None)
    again = f"secureagg selfcheck --thorough --seed 5 --only {arguments[3]}"
    assert f"  run it again: {again}" in invoke(*arguments, "--seed", "5").out.splitlines()


def test_statistical_laws_state_their_false_alarms(invoke: Invoke) -> None:
    """With a seed whose plans ask for nearly as much noise as any."""
    ended = invoke("selfcheck", "--only", "samplers", "--only", "vectors/expansion", "--seed", "64483767243473")
    assert ended.code == ExitCode.OK
    assert "36 statistical comparisons; sound samplers fail one of them with probability ≤ 9e-07 in a run." in ended.out


@pytest.mark.parametrize("name", ["ledger/", "nothing", "samplers/none"])
def test_an_unknown_law_is_refused(invoke: Invoke, name: str) -> None:
    ended = invoke("selfcheck", "--only", name)
    assert ended.code == ExitCode.USAGE and "subjects are" in ended.err


def test_a_file_that_can_no_longer_be_written_is_told(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "findings.json"
    monkeypatch.setattr("secureagg.cli.selfcheck.warm_up", lambda observe: file.mkdir())
    ended = invoke("selfcheck", "--only", "vectors/expansion", "--json", str(file))
    assert ended.code == ExitCode.ENCODING
    assert ended.err.splitlines()[-1].startswith("error: ") and "cannot be written" in ended.err


def test_runs_with_the_command_line_alone_and_tells_what_it_left_out(spawn: Spawn, tmp_path: Path) -> None:
    """As from a wheel: no test of ours, no TensorFlow, TenSEAL, dp-accounting or hypothesis."""
    absent = ("tests", "tenseal", "tensorflow", "keras", "dp_accounting", "hypothesis", "pytest", "scipy")
    before = "".join(BLIND.format(package=package) for package in absent)
    ended = spawn("selfcheck", *FEW, "--only", "seal", "--only", "ledger/budget", before=before, cwd=tmp_path)
    assert ended.code == ExitCode.OK, ended.err
    *_, verdict = ended.out.splitlines()
    assert verdict.startswith("All 7 laws that were checked hold; 10 not checked. ")
    for title, package, extra in (
        ("seal/keys", "tenseal", "tenseal"),
        ("ledger/budget", "dp-accounting", "dp"),
        ("vectors/noisy-central", "dp-accounting", "dp"),
    ):
        assert f"not checked: {title}: {package} is not installed; run: pip install 'secureagg[{extra}]'" in ended.out
