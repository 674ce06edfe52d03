"""`secureagg audit plan`: what it prints, and how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secureagg.cli.exit_codes import ExitCode
from secureagg.plan_faults import PlanFault
from tests.cli.runs import Ended, Invoke, Spawn


def audited(invoke: Invoke, *arguments: str) -> tuple[Ended, Any]:
    ended = invoke("audit", "plan", "--seed", "1", "--json", *arguments)
    return ended, json.loads(ended.out)


@pytest.mark.parametrize(
    ("arguments", "mechanism", "noise_by"),
    [
        ([], "distributed-gaussian", "clients"),
        (["--by", "committee", "--rotate"], "distributed-gaussian", "committee"),
        (["--skellam"], "skellam", "clients"),
        (["--by", "aggregator"], "central-gaussian", "aggregator"),
    ],
)
def test_a_sound_plan_ends_with_0(invoke: Invoke, arguments: list[str], mechanism: str, noise_by: str) -> None:
    ended, found = audited(invoke, "--epsilon", "8", "--canaries", "400", *arguments)
    assert ended.code == ExitCode.OK and not found["violated"]
    together, alone = found["runs"]
    assert together["canaries_together"] and not alone["canaries_together"]
    assert 1 < together["curve_epsilon"] <= 8 and 3 < alone["curve_epsilon"] <= 8
    assert (found["mechanism"], found["noise_by"], found["rotate"]) == (mechanism, noise_by, "--rotate" in arguments)
    assert (found["epsilon"], found["delta"], found["rounds"], found["relation"]) == (8.0, 1e-5, 2, "zero-out")
    assert ended.err.splitlines() == [
        f"Auditing a plan with {where} …" for where in ("all canaries together", "each canary alone")
    ]


@pytest.mark.parametrize(("bug", "canaries"), [("no-clip", "1000"), ("missing-noise", "3000")])
def test_a_fault_ends_with_5(invoke: Invoke, bug: str, canaries: str) -> None:
    ended, found = audited(invoke, "--epsilon", "4", "--canaries", canaries, "--bug", bug)
    assert ended.code == ExitCode.FAULTY_PARTY and found["violated"]
    (run,) = found["runs"]
    assert run["canaries_together"] is not PlanFault(bug).alone and run["curve_epsilon"] > 4


def test_says_what_was_found_and_never_that_it_is_private(invoke: Invoke) -> None:
    sound = invoke("audit", "plan", "--seed", "1", "--canaries", "100")
    for text in ("With all canaries together:", "With each canary alone:", "epsilon is at least", "no violation found"):
        assert text in sound.out
    assert "private" not in sound.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["plan", "--bug", "bogus"], ExitCode.USAGE),
        (["plan", "--by", "nobody"], ExitCode.USAGE),
        (["plan", "--skellam", "--by", "aggregator"], ExitCode.USAGE),
        (["--epsilon", "2", "plan"], ExitCode.USAGE),
        (["plan", "--rounds", "3"], ExitCode.PARAMETERS),
        (["plan", "--epsilon", "0"], ExitCode.PARAMETERS),
        (["plan", "--delta", "1"], ExitCode.PARAMETERS),
        (["plan", "--canaries", "19"], ExitCode.PARAMETERS),
        (["plan", "--skellam", "--bug", "known-rounding"], ExitCode.PARAMETERS),
        (["plan", "--by", "aggregator", "--bug", "planned-parties"], ExitCode.PARAMETERS),
    ],
)
def test_refuses(invoke: Invoke, arguments: list[str], code: ExitCode) -> None:
    assert invoke("audit", *arguments).code == code


def test_help_says_what_it_shows_and_loads_nothing_heavy(spawn: Spawn) -> None:
    heavy = "('tensorflow', 'keras', 'numba', 'dp_accounting', 'scipy')"
    report = f"import atexit\natexit.register(lambda: print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr))"
    ended = spawn("audit", "plan", "--help", before=report)
    assert (ended.code, ended.err) == (0, "[]\n")
    words = " ".join(ended.out.split())
    for text in ("not a proof of privacy", "The exit code is 5", "secureagg audit plan --epsilon 8"):
        assert text in words
