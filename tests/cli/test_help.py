"""What the command line tells about itself, and what it must not load to do so."""

from __future__ import annotations

import re

import pytest

import secureagg
from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import Invoke, Spawn

REPORT_MODULES = (
    "import atexit\n"
    "heavy = ('tensorflow', 'keras', 'matplotlib', 'sklearn', 'tenseal', 'numba')\n"
    "atexit.register(lambda: print('loaded:', sorted(set(heavy) & set(sys.modules)), file=sys.stderr))"
)


def test_help_lists_commands_and_every_exit_code(invoke: Invoke) -> None:
    ended = invoke("--help")
    assert ended.code == 0
    words = " ".join(ended.out.split())
    assert all(command in words for command in ("demo", "plan", "verify", "selfcheck", "warm-up"))
    for code in ExitCode:
        assert f"{code.value} {code.meaning}" in words, code


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("demo", ["secureagg demo --clients 20", "--partition", "dirichlet:ALPHA", "--resume", "cores"]),
        ("demo", ["--attack", "wrong-shares", "--malicious", "15 with an attack"]),
        ("demo", ["secureagg demo --epsilon 4", "--dp-sgd-epsilon", "one example of a client", "--budget-rounds"]),
        ("verify", ["PATH…", "secureagg verify round-7/ --sid", "compare the session id", "--jobs", "exit code is 5"]),
        ("selfcheck", ["secureagg selfcheck --thorough", "--seed", "nothing is sent", "exit code is 9", "--json"]),
        ("plan", ["secureagg plan --clients 100", "--max-weight", "units", "--json", "With --scheme tenseal"]),
    ],
)
def test_help_of_a_command_has_examples_and_units(invoke: Invoke, command: str, shown: list[str]) -> None:
    ended = invoke(command, "--help")
    assert ended.code == 0
    assert [text for text in shown if text not in ended.out] == []


@pytest.mark.parametrize("command", ["demo", "calibrate", "audit"])
def test_help_flows_and_flags_take_no_value(spawn: Spawn, command: str) -> None:
    ended = spawn(command, "--help", before="import os\nos.environ['COLUMNS'] = '80'")
    prose = ended.out[: ended.out.index("╭")]
    paragraphs = [text.split("\n") for text in re.split(r"\n\s*\n", prose) if "secureagg " not in text]
    short = [line for lines in paragraphs for line in lines[:-1] if 0 < len(line.strip()) < 60]
    assert short == []
    assert [line for line in ended.out.splitlines() if "<bool>" in line and "--help" not in line] == []


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").out == f"secureagg {secureagg.__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["demo", "--help"], ["verify", "--help"], ["selfcheck", "--help"], ["plan"], ["plan", "--json"]],
)
def test_loads_nothing_heavy(spawn: Spawn, arguments: list[str]) -> None:
    ended = spawn(*arguments, before=REPORT_MODULES)
    assert ended.code == 0
    assert ended.err == "loaded: []\n"


@pytest.mark.parametrize("arguments", [["demo", "--help"], ["plan"]])
def test_help_and_the_default_plan_need_no_tenseal(spawn: Spawn, arguments: list[str]) -> None:
    assert spawn(*arguments, before="sys.modules['tenseal'] = None").code == 0
