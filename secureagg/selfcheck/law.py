"""What is verified: laws, each with a claim, where it is stated, and a check that can fail."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["FALSE_ALARM", "MOST_COMPARISONS", "Case", "Extra", "Law", "LawBroken", "require", "require_law", "within"]

FALSE_ALARM = 2.5e-8  # of one statistical comparison
MOST_COMPARISONS = 40  # in one run, so that all of them together raise a false alarm with probability ≤ 10^-6


class LawBroken(Exception):
    """A law does not hold on this machine. The message says what was found, never a secret."""


@dataclass(frozen=True)
class Case:
    """One drawing of a law: what it draws from, its number, and whether the thorough verification asks."""

    random: np.random.Generator
    number: int
    thorough: bool


@dataclass(frozen=True)
class Extra:
    """A package a law cannot be checked without: what is imported, its name in an index, the extra that brings it."""

    module: str
    package: str
    extra: str


@dataclass(frozen=True)
class Law:
    """A named law.

    subject, name: what it is called by; claim: one sentence; source: where the claim is stated or comes from. check:
    raises for a case in which the law fails. quick, thorough: how many cases a verification draws. comparisons: how
    many statistical ones a case makes, each a false alarm with probability ≤ FALSE_ALARM and able to miss what
    `power` says with as much.
    """

    subject: str
    name: str
    claim: str
    source: str
    check: Callable[[Case], None]
    quick: int
    thorough: int
    needs: Extra | None = None
    comparisons: int = 0
    power: str = ""

    @property
    def title(self) -> str:
        """`subject/name`, by which one law is asked for."""
        return f"{self.subject}/{self.name}"

    def case(self, seed: int, number: int, thorough: bool) -> Case:
        """Return a case: the same for the same seed, whatever else is drawn."""
        drawn = hashlib.sha256(f"secureagg selfcheck/{seed}/{self.title}/{number}".encode()).digest()
        return Case(np.random.default_rng(int.from_bytes(drawn, "little")), number, thorough)

    def cases(self, thorough: bool) -> int:
        """Return how many cases are drawn."""
        return self.thorough if thorough else self.quick


def require(holds: bool, otherwise: str) -> None:
    """Raise LawBroken unless the condition holds."""
    if not holds:
        raise LawBroken(otherwise)


def within(draws: int) -> float:
    """Return ε with P(distance > ε) ≤ FALSE_ALARM, for the distance of an empirical distribution from its law.

    Dvoretzky, Kiefer, Wolfowitz with Massart's constant (Ann. Probab. 1990): P(sup |F_n − F| > ε) ≤ 2·exp(−2nε²),
    for every law, discrete ones too, and every n. The same holds of a mean of [0, 1] variables by Hoeffding. So a
    source whose distribution is 2ε off somewhere is missed with probability ≤ FALSE_ALARM, by the triangle.
    """
    return math.sqrt(math.log(2 / FALSE_ALARM) / (2 * draws))


def require_law(found: NDArray[np.int64], lowest: int, weights: NDArray[np.float64], what: str) -> None:
    """Raise LawBroken unless int64[n] draws follow the law that gives lowest + i the relative weight weights[i].

    What the law has beyond its ends must be negligible beside ε; draws there count as drawn at the ends.
    """
    cumulated = np.cumsum(weights) / weights.sum()
    places = np.clip(found - lowest, 0, weights.size - 1)
    empirical = np.cumsum(np.bincount(places, minlength=weights.size)) / found.size
    distance, allowed = float(np.abs(empirical - cumulated).max()), within(found.size)
    require(distance <= allowed, f"{what}: distribution off by {distance:.2g}, {allowed:.2g} allowed of {found.size}")
