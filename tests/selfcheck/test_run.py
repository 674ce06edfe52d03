"""Cases repeat with their seed, a broken law does not end a run, and what is missing is told."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from secureagg.errors import FaultyClientError
from secureagg.selfcheck import BROKEN, HOLDS, NOT_CHECKED, Case, Extra, Law, LawBroken, check, run
from secureagg.selfcheck.law import FALSE_ALARM, require_law, within


def law(check_case: object, name: str = "name", **changes: object) -> Law:
    fields = {"subject": "subject", "name": name, "claim": "It holds.", "source": "here", "quick": 5, "thorough": 9}
    return Law(check=check_case, **(fields | changes))  # type: ignore[arg-type]


def fails_at(number: int, error: Exception) -> object:
    def check_case(case: Case) -> None:
        if case.number == number:
            raise error

    return check_case


def test_cases_follow_from_seed_law_and_number_alone() -> None:
    def draws(of: Law, seed: int, thorough: bool) -> list[int]:
        return [int(of.case(seed, number, thorough).random.integers(1 << 60)) for number in range(3)]

    mine = law(lambda case: None)
    assert draws(mine, 7, False) == draws(mine, 7, True)
    assert len({*draws(mine, 7, False), *draws(mine, 8, False), *draws(law(None, "other"), 7, False)}) == 9


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (LawBroken("a is not b"), "case 3: a is not b"),
        (FaultyClientError(2, "why"), "case 3: FaultyClientError: client 2: why"),
        (ZeroDivisionError("x"), "case 3: ZeroDivisionError: x"),
        (IndexError("x"), "case 3: IndexError: x"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_is_raised_breaks_the_law_and_the_next_is_checked(error: Exception, reason: str) -> None:
    told: list[tuple[str, int]] = []
    broken, sound = law(fails_at(3, error)), law(lambda case: None, "sound")
    first, second = run([broken, sound], 1, False, lambda of, cases: told.append((of.name, cases)))
    assert (first.status, first.cases, first.reason) == (BROKEN, 4, reason)
    assert (second.status, second.cases, second.reason) == (HOLDS, 5, "")
    assert told == [("name", 1), ("name", 2), ("name", 3), *(("sound", n) for n in range(1, 6))]
    assert check(broken, 1, thorough=True).cases == 4 and check(sound, 1, thorough=True).cases == 9


def test_what_the_machine_lacks_ends_the_run() -> None:
    with pytest.raises(OSError, match="No space left"):
        check(law(fails_at(0, OSError(28, "No space left on device"))), 1, False)


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "absent", None)
    found = check(law(fails_at(0, LawBroken("run")), needs=Extra("absent", "absent-package", "extra")), 1, False)
    assert (found.status, found.cases) == (NOT_CHECKED, 0)
    assert found.reason == "absent-package is not installed; run: pip install 'secureagg[extra]'"


def test_the_distance_allowed_is_rarely_exceeded_and_double_is_always_found() -> None:
    """2000 times at a bound that is exceeded with probability 0.05 at most, on the law where it is tightest."""
    draws, random = 1000, np.random.default_rng(1)
    allowed = within(draws) * np.sqrt(np.log(2 / 0.05) / np.log(2 / FALSE_ALARM))
    uniform = np.sort(random.random((2000, draws)), axis=1)
    distances = np.abs(uniform - np.arange(1, draws + 1) / draws).max(axis=1)
    assert (distances > allowed).mean() <= 0.05
    die = random.integers(1, 7, 1 << 16)
    require_law(die, 1, np.ones(6), "a die")
    off = 2 * within(die.size)
    with pytest.raises(LawBroken, match="a die: distribution off by"):
        require_law(die, 1, np.array([1 + 12 * off, 1, 1, 1, 1, 1]), "a die")
