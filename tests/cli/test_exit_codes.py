"""Every exit code, reached; one line of error without `--debug`, a traceback with it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

import fl_core
import secureagg
from fl_core.faults import Fault, Vanished
from secureagg.cli.demo import command as demo_command
from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import SMALL, Invoke, program

PREPARE = f"{demo_command.__name__}.prepare"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("an accident"), ExitCode.UNEXPECTED),
        (Vanished(1, Fault.BEFORE_SEND), ExitCode.UNEXPECTED),
        (secureagg.ParameterError("a"), ExitCode.PARAMETERS),
        (fl_core.ParameterError("a"), ExitCode.PARAMETERS),
        (secureagg.EncodingError("a"), ExitCode.ENCODING),
        (fl_core.DataError("a"), ExitCode.ENCODING),
        (fl_core.StateError("a"), ExitCode.ENCODING),
        (secureagg.FaultyClientError(3, "a"), ExitCode.FAULTY_PARTY),
        (secureagg.FaultyMemberError(3, "a"), ExitCode.FAULTY_PARTY),
        (secureagg.UnattributedFault("a"), ExitCode.FAULTY_PARTY),
        (fl_core.Refused(3, "a"), ExitCode.FAULTY_PARTY),
        (fl_core.ClientTrainingError(3, ValueError), ExitCode.FAULTY_PARTY),
        (secureagg.QuorumError("a"), ExitCode.QUORUM),
        (fl_core.QuorumError(1, 0, 1, {}), ExitCode.QUORUM),
        (fl_core.NoContributionsError(1, 0), ExitCode.QUORUM),
        (secureagg.BudgetExhausted("a"), ExitCode.BUDGET),
        (secureagg.MissingExtraError("tenseal", "tenseal"), ExitCode.MISSING_EXTRA),
        (fl_core.MissingExtraError("a"), ExitCode.MISSING_EXTRA),
        (KeyboardInterrupt(), ExitCode.INTERRUPTED),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
class TestEveryCause:
    def test_ends_the_command_with_its_number(
        self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: ExitCode
    ) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise error

        monkeypatch.setattr(PREPARE, fail)
        ended = invoke(*SMALL, "--no-report")
        assert ended.code == code
        *_, line = ended.err.splitlines()
        assert line.startswith("error: ")
        assert "Traceback" not in ended.err


class TestReached:
    def test_usage(self, invoke: Invoke) -> None:
        for arguments in (
            ["bogus"],
            ["demo", "--clients", "none"],
            ["demo", "--partition", "dirichlet:x"],
            ["demo", "--partition", "iid:3"],
            ["demo", "--partition", "shards:0"],
            ["demo", "--resume"],
            ["demo", "--report", "/"],
            ["plan", "--scheme", "bogus"],
            ["plan", "--precision", "1e-5"],
            ["plan", "--scheme", "tenseal", "--threshold", "2"],
            ["demo", "--magnitude", "1"],
            ["demo", "--scheme", "tenseal", "--l2-clip", "1"],
            ["demo", "--scheme", "plain", "--absent-members", "0"],
        ):
            ended = invoke(*arguments)
            assert (arguments, ended.code) == (arguments, ExitCode.USAGE)
            assert "Traceback" not in ended.err

    def test_parameters(self, invoke: Invoke) -> None:
        for arguments in (
            ["plan", "--clients", "0"],
            ["plan", "--max-weight", "1.5"],
            ["plan", "--value-bits", "25"],
            ["plan", "--members", "5", "--threshold", "3", "--assumed-corrupt", "1"],
            ["plan", "--parameters", "bogus"],
            ["plan", "--scheme", "tenseal", "--precision", "1e-40"],
            [*SMALL, "--no-report", "--model", "cnn"],
            [*SMALL, "--no-report", "--data-dir", "."],
            [*SMALL, "--no-report", "--clients", "100000"],
            [*SMALL, "--no-report", "--clients", "1"],
            [*SMALL, "--no-report", "--l2-clip", "0"],
            [*SMALL, "--no-report", "--members", "2", "--absent-members", "3"],
            [*SMALL, "--no-report", "--members", "2"],
            [*SMALL, "--no-report", "--scheme", "tenseal", "--precision", "2"],
        ):
            ended = invoke(*arguments)
            assert (arguments, ended.code) == (arguments, ExitCode.PARAMETERS)
            assert ended.err.splitlines()[-1].startswith("error: ")

    @pytest.mark.parametrize(
        ("arguments", "told"),
        [
            ((*SMALL, "--value-bits", "25"), "--value-bits must be a whole number in [2, 24], not 25"),
            ((*SMALL, "--l2-clip", "0"), "--l2-clip must be a number in"),
            ((*SMALL, "--epsilon", "0"), "--epsilon must be a number above 0"),
            ((*SMALL, "--dp-sgd-epsilon", "0"), "--dp-sgd-epsilon must be a number above 0"),
            ((*SMALL, "--dp-sgd-epsilon", "4", "--delta", "2"), "--delta must be a number above 0"),
            ((*SMALL, "--scheme", "tenseal", "--precision", "2"), "is required: --precision=2, --magnitude=1"),
            ((*SMALL, "--attack", "scale", "--malicious", "0.9"), "--malicious=0.9 of 5 clients"),
            (("plan", "--members", "0"), "--members must be a whole number"),
            (("plan", "--corrupt-clients", "50"), "--corrupt-clients must be a whole number"),
            (("plan", "--assumed-corrupt", "-1"), "--assumed-corrupt must be a whole number"),
            (("audit", "--epsilon", "0"), "--epsilon must be a number in [0.01, 32]"),
            (("audit", "plan", "--rounds", "3"), "--rounds=3: must be even"),
            (("audit", "plan", "--canaries", "5"), "--canaries must be a whole number"),
        ],
    )
    def test_a_bad_number_is_called_by_its_option_before_anything_starts(
        self, invoke: Invoke, arguments: tuple[str, ...], told: str
    ) -> None:
        ended = invoke(*arguments)
        assert ended.code == ExitCode.PARAMETERS
        (line,) = ended.err.splitlines()
        assert line.startswith("error: ") and told in line

    def test_encoding(self, invoke: Invoke, tmp_path: Path) -> None:
        ended = invoke("demo", "--dataset", "mnist", "--data-dir", str(tmp_path), "--no-report")
        assert ended.code == ExitCode.ENCODING
        assert "train-images-idx3-ubyte" in ended.err

    @pytest.mark.parametrize(
        "arguments",
        [
            ("demo", "--state-dir"),
            ("demo", "--no-report", "--epsilon", "4", "--ledger"),
            ("demo", "--no-report", "--dp-sgd-epsilon", "4", "--ledger"),
            ("demo", "--report"),
            ("selfcheck", "--json"),
        ],
    )
    def test_a_path_that_cannot_be_written(self, invoke: Invoke, tmp_path: Path, arguments: tuple[str, ...]) -> None:
        (tmp_path / "file").write_text("kept")
        ended = invoke(*arguments, str(tmp_path / "file" / "below"))
        assert ended.code == ExitCode.USAGE
        assert "cannot be written" in ended.err and arguments[-1] in ended.err
        assert "Preparing" not in ended.err and ended.out == ""
        assert (tmp_path / "file").read_text() == "kept"

    def test_a_run_that_can_no_longer_be_saved(self, invoke: Invoke, tmp_path: Path) -> None:
        (tmp_path / "plain" / "state.json.tmp").mkdir(parents=True)  # in the way of a file
        ended = invoke(*SMALL, "--no-report", "--state-dir", str(tmp_path))
        assert ended.code == ExitCode.ENCODING
        assert "the run cannot be saved" in ended.err

    def test_quorum(self, invoke: Invoke) -> None:
        ended = invoke(*SMALL, "--no-report", "--drop", "1")
        assert ended.code == ExitCode.QUORUM
        assert "vanished before" in ended.err

    def test_interrupted(self, tmp_path: Path) -> None:
        """A real SIGINT while rounds go on."""
        command = [sys.executable, "-c", program(""), *SMALL, "--rounds", "100000", "--drop", "0", "--no-report"]
        interruptible = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # what runs in the background ignores it
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, preexec_fn=interruptible
        ) as process:
            assert process.stderr is not None
            while not process.stderr.readline().startswith("round"):
                assert process.poll() is None
            time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().splitlines()[-1] == "error: interrupted"
        assert process.returncode == ExitCode.INTERRUPTED


class TestDebug:
    @pytest.mark.parametrize(
        "arguments", [["--debug", "plan", "--clients", "0"], ["plan", "--clients", "0", "--debug"]]
    )
    def test_shows_the_traceback_wherever_it_stands(self, invoke: Invoke, arguments: list[str]) -> None:
        ended = invoke(*arguments)
        assert ended.code == ExitCode.PARAMETERS
        assert "Traceback" in ended.err and "ParameterError" in ended.err

    def test_a_bug_asks_to_be_reported(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise ZeroDivisionError("an accident")

        monkeypatch.setattr(PREPARE, fail)
        ended = invoke(*SMALL, "--no-report")
        assert ended.code == ExitCode.UNEXPECTED
        assert ended.err.splitlines()[-1].startswith("error: unexpected ZeroDivisionError: an accident; please report")
        assert "Traceback" in invoke("--debug", *SMALL, "--no-report").err

    def test_a_long_message_is_cut(self, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*arguments: object, **options: object) -> None:
            raise fl_core.QuorumError(1, 0, 1, dict.fromkeys(range(500), "vanished before sending"))

        monkeypatch.setattr(PREPARE, fail)
        line = invoke(*SMALL, "--no-report").err.splitlines()[-1]
        assert len(line) < 600 and line.endswith("(all of it with --debug)")
        assert "499: vanished" in invoke("--debug", *SMALL, "--no-report").err
