"""Checks of single numbers a caller gives, with one wording."""

from __future__ import annotations

from numbers import Real
from types import UnionType

from secureagg.errors import ParameterError

__all__ = ["as_whole", "printable", "require_between", "require_flag", "require_whole"]


def printable(text: str) -> str:
    """Return text from outside with every character that a terminal might act on escaped."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def require_whole(name: str, value: int, low: int, high: int) -> None:
    """Raise ParameterError unless `value` is an int (not a bool) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ParameterError(f"{name} must be a whole number in [{low}, {high}], not {_shown(value, int)}")


def as_whole(name: str, value: float, low: int, high: int) -> int:
    """Return a number of any real type (not a bool) as an int if it is whole and in [low, high].

    Raises: ParameterError, which does not show the value: it may be a client's.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not low <= value <= high or value != int(value):
        raise ParameterError(f"{name} must be a whole number in [{low}, {high}]")
    return int(value)


def require_between(name: str, value: float, low: float, high: float) -> None:
    """Raise ParameterError unless `value` is an int or float (not a bool) in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ParameterError(f"{name} must be a number in [{low}, {high}], not {_shown(value, int | float)}")


def require_flag(name: str, value: bool) -> None:
    """Raise ParameterError unless `value` is True or False: a mere truth value would have several encodings."""
    if not isinstance(value, bool):
        raise ParameterError(f"{name} is True or False, not {value!r}")


def _shown(value: object, kind: type | UnionType) -> str:
    """The value, and its type where that is what is wrong, as of numpy's integers, which have more than one form."""
    return repr(value) if isinstance(value, kind) else f"{value!r} of type {type(value).__name__}"
