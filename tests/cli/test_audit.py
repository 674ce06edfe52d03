"""`secureagg audit`: what it prints, how it ends, and that every bug it names is found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from secureagg.cli.audit import BugName, MechanismName
from secureagg.cli.exit_codes import ExitCode
from secureagg.dp.audit.sums import SumBug, SumNoise
from tests.cli.runs import Ended, Invoke, Spawn


def audited(invoke: Invoke, *arguments: str) -> tuple[Ended, Any]:
    ended = invoke("audit", "--seed", "1", "--json", *arguments)
    return ended, json.loads(ended.out)


@pytest.mark.parametrize("mechanism", ["gaussian", "discrete-gaussian", "skellam"])
def test_a_sound_mechanism_ends_with_0(invoke: Invoke, mechanism: str) -> None:
    ended, found = audited(invoke, "--mechanism", mechanism, "--epsilon", "8")
    assert ended.code == ExitCode.OK and not found["violated"]
    together, alone = found["runs"]
    assert together["canaries_together"] and not alone["canaries_together"]
    assert 3.2 <= together["curve_epsilon"] <= 8 and 6 <= alone["curve_epsilon"] <= 8
    assert (found["epsilon"], found["delta"], found["relation"]) == (8.0, 1e-5, "zero-out")
    assert [line.split()[:2] for line in ended.err.splitlines()] == [["Auditing", mechanism]] * 2


@pytest.mark.parametrize("bug", [one for one in BugName if one is not BugName.NO_SAMPLING])
@pytest.mark.parametrize("epsilon", ["2", "4"])
def test_a_seeded_bug_ends_with_5(invoke: Invoke, bug: str, epsilon: str) -> None:
    ended, found = audited(invoke, "--epsilon", epsilon, "--bug", bug)
    assert ended.code == ExitCode.FAULTY_PARTY and found["violated"]
    (run,) = found["runs"]
    assert run["canaries_together"] is not SumBug(bug).alone
    assert run["curve_epsilon"] > float(epsilon)


def test_names_every_mechanism_and_every_bug() -> None:
    training = pytest.importorskip("secureagg.dp.audit.training")  # needs TensorFlow, and so gives no choices to --help
    assert set(map(str, MechanismName)) == {*map(str, SumNoise), "dp-sgd"}
    assert set(map(str, BugName)) == {*map(str, SumBug), *map(str, training.TrainingBug)}


def test_dp_sgd_without_the_claimed_sampling(invoke: Invoke) -> None:
    ended, found = audited(invoke, "--mechanism", "dp-sgd", "--epsilon", "4", "--bug", "no-sampling")
    assert ended.code == ExitCode.FAULTY_PARTY and found["violated"]


def test_a_seed_repeats_a_run(invoke: Invoke) -> None:
    runs = [audited(invoke)[1]["runs"] for _ in range(2)]
    for run in (*runs[0], *runs[1]):
        del run["seconds"]
    assert runs[0] == runs[1]


def test_says_what_was_found_and_never_that_it_is_private(invoke: Invoke) -> None:
    sound = invoke("audit", "--seed", "1")
    for text in ("With all canaries together:", "With each canary alone:", "epsilon is at least", "no violation found"):
        assert text in sound.out
    assert "private" not in sound.out
    broken = invoke("audit", "--seed", "1", "--bug", "no-clip")
    assert broken.code == ExitCode.FAULTY_PARTY
    assert "violation: epsilon is above" in broken.out and "and 4 is claimed" in broken.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--mechanism", "bogus"], ExitCode.USAGE),
        (["--bug", "bogus"], ExitCode.USAGE),
        (["--bug", "no-sampling"], ExitCode.USAGE),
        (["--mechanism", "dp-sgd", "--bug", "missing-share"], ExitCode.USAGE),
        (["--seed", "-1"], ExitCode.USAGE),
        (["--epsilon", "0"], ExitCode.PARAMETERS),
        (["--delta", "1"], ExitCode.PARAMETERS),
        (["--canaries", "19"], ExitCode.PARAMETERS),
    ],
)
def test_refuses(invoke: Invoke, arguments: list[str], code: ExitCode) -> None:
    assert invoke("audit", *arguments).code == code


def test_help_says_what_it_shows_and_loads_nothing_heavy(spawn: Spawn) -> None:
    heavy = "('tensorflow', 'keras', 'numba', 'dp_accounting', 'scipy')"
    report = f"import atexit\natexit.register(lambda: print(sorted(set({heavy}) & set(sys.modules)), file=sys.stderr))"
    ended = spawn("audit", "--help", before=report)
    assert (ended.code, ended.err) == (0, "[]\n")
    words = " ".join(ended.out.split())
    for text in ("not a proof of privacy", "the exit code is 5", "secureagg audit --epsilon 2 --bug half-noise"):
        assert text in words
