"""The neighbouring relation, which stands beside every ε, and what events share."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from secureagg.errors import ParameterError

__all__ = [
    "LARGEST",
    "MAX_COUNT",
    "MAX_DIMENSION",
    "GaussianUses",
    "Relation",
    "require_member",
    "require_positive",
    "require_sampling_rate",
]

MAX_COUNT = 10**9
MAX_DIMENSION = 10**10
LARGEST = 1e18


class Relation(StrEnum):
    """Which two inputs an ε compares. Guarantees for different relations must not be added up."""

    ADD_OR_REMOVE = "add-or-remove"
    ZERO_OUT = "zero-out"  # the unit's contribution is replaced by zeros; who takes part is public
    REPLACE = "replace"

    @property
    def distance(self) -> int:
        """How many clips two neighbours' sums are apart."""
        return 2 if self is Relation.REPLACE else 1


class GaussianUses(NamedTuple):
    """`times` adaptive uses of a Gaussian mechanism on a Poisson sample; noise_multiplier: std ÷ one unit's clip."""

    noise_multiplier: float
    sampling_rate: float
    times: int


def require_sampling_rate(rate: float, relation: Relation) -> None:
    """Raise ParameterError unless 0 < rate ≤ 1, and < 1 if the relation lets a unit join."""
    if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
        raise ParameterError(f"sampling_rate must be a number in (0, 1], not {rate!r}")
    if rate == 1 and relation is Relation.ADD_OR_REMOVE:
        raise ParameterError("relation=add-or-remove would show in who takes part, which is public; use zero-out")


def require_positive(name: str, value: float) -> None:
    """Raise ParameterError unless `value` is an int or float (not a bool) in (0, LARGEST]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= LARGEST:
        raise ParameterError(f"{name} must be a number in (0, {LARGEST:g}], not {value!r}")


def require_member(name: str, value: StrEnum, kind: type[StrEnum]) -> None:
    """Raise ParameterError unless `value` is a member of the enum, and not its mere text."""
    if not isinstance(value, kind):
        raise ParameterError(f"{name} must be a {kind.__name__}, not {value!r}")
