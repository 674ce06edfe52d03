"""Check laws one after the other; a broken one does not end the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from secureagg.errors import MissingExtraError, SecureAggError
from secureagg.selfcheck.law import Law, LawBroken

__all__ = ["BROKEN", "HOLDS", "NOT_CHECKED", "Finding", "check", "run"]

HOLDS, BROKEN, NOT_CHECKED = "holds", "broken", "not checked"

# A fault shows as any of these where results are used; what a machine lacks (OSError, MemoryError) is no broken law,
# and ends the run.
_BROKEN_BY = (
    LawBroken,
    SecureAggError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class Finding:
    """What became of one law.

    status: HOLDS, BROKEN or NOT_CHECKED; cases: how many were drawn, the broken one last; reason: empty if it holds.
    """

    law: Law
    status: str
    cases: int
    seconds: float
    reason: str = ""


def check(law: Law, seed: int, thorough: bool, told: Callable[[int], None] = lambda cases: None) -> Finding:
    """Return what becomes of one law, up to the first case that breaks it; `told` hears of each case that does not."""
    if law.needs is not None and find_spec(law.needs.module) is None:
        missing = MissingExtraError(law.needs.package, law.needs.extra)
        return Finding(law, NOT_CHECKED, 0, 0.0, str(missing))
    started = time.perf_counter()
    for number in range(law.cases(thorough)):
        try:
            law.check(law.case(seed, number, thorough))
        except _BROKEN_BY as error:
            reason = f"case {number}: " + (str(error) if isinstance(error, LawBroken) else _told(error))
            return Finding(law, BROKEN, number + 1, time.perf_counter() - started, reason)
        told(number + 1)
    return Finding(law, HOLDS, law.cases(thorough), time.perf_counter() - started)


def run(
    laws: Sequence[Law], seed: int, thorough: bool, told: Callable[[Law, int], None] = lambda law, cases: None
) -> list[Finding]:
    """Return what becomes of each law; `told` hears of every case that holds."""
    return [check(law, seed, thorough, partial(told, law)) for law in laws]


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
