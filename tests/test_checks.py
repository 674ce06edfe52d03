"""Checks of single numbers: what is refused is refused with a ParameterError, whatever its type."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from secureagg.checks import as_whole, require_between, require_flag, require_whole
from secureagg.errors import ParameterError

NO_NUMBERS = (None, "3", b"3", [3], 3j, True, np.True_, np.array([3]), math.nan)


@pytest.mark.parametrize("value", [3, 3.0, np.int8(3), np.uint64(3), np.float32(3), Fraction(3)], ids=repr)
def test_whole_numbers_of_any_type(value: float) -> None:
    assert as_whole("n", value, 0, 5) == 3
    assert type(as_whole("n", value, 0, 5)) is int


@pytest.mark.parametrize("value", [*NO_NUMBERS, 3.5, -1, 6, math.inf, -math.inf, 10**400, Decimal(3)], ids=repr)
def test_others_are_refused_without_being_shown(value: float) -> None:
    with pytest.raises(ParameterError, match=r"^n must be a whole number in \[0, 5\]$"):
        as_whole("n", value, 0, 5)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 3.0, -1, 6, 10**400], ids=repr)
def test_require_whole_wants_an_int(value: int) -> None:
    require_whole("n", 3, 0, 5)
    with pytest.raises(ParameterError, match=r"^n must be a whole number in \[0, 5\], not "):
        require_whole("n", value, 0, 5)


@pytest.mark.parametrize("value", [*NO_NUMBERS, 0, -1.0, 6, math.inf, 10**400], ids=repr)
def test_require_between(value: float) -> None:
    require_between("x", 1, 0.5, 5)
    with pytest.raises(ParameterError, match=r"^x must be a number in \[0.5, 5\], not "):
        require_between("x", value, 0.5, 5)


@pytest.mark.parametrize("value", [0, 1, "", None, np.True_], ids=repr)
def test_flags_are_true_or_false(value: bool) -> None:
    require_flag("on", True)
    with pytest.raises(ParameterError, match=r"^on is True or False, not "):
        require_flag("on", value)
