"""The register: what is counted of each client, whatever an aggregation does inside the blocks."""

from __future__ import annotations

import pytest

import fl_core as fl
from fl_core.register import Register


def test_a_client_is_admitted_if_its_block_ends_and_refused_by_its_refusal() -> None:
    register = Register(7, [3, 5])
    with register.admitting(3, b"abc"):
        assert register.admitted == set()
    with pytest.raises(fl.Refused), register.admitting(5, b"ab"):
        raise fl.Refused(5, "malformed")
    assert (register.admitted, register.refused, register.bytes_up) == ({3}, {5: "malformed"}, {3: 3, 5: 2})
    with register.admitting(5, b"abcd"):
        pass
    assert (register.admitted, register.refused, register.bytes_up) == ({3, 5}, {}, {3: 3, 5: 6})


def test_who_may_not_be_admitted_never_reaches_the_block() -> None:
    register = Register(7, [3])
    with register.admitting(3, b"abc"):
        pass
    for client, reason in ((3, "already admitted in this round"), (4, "not in this round's cohort")):
        with pytest.raises(fl.Refused, match=reason), register.admitting(client, b"abc"):
            raise AssertionError
    # A second contribution does not undo the first.
    assert (register.admitted, register.refused) == ({3}, {4: "not in this round's cohort"})
    assert register.bytes_up == {3: 6, 4: 3}


def test_another_error_neither_admits_nor_refuses() -> None:
    register = Register(7, [3])
    with pytest.raises(KeyError), register.admitting(3, b"abc"):
        raise KeyError
    assert (register.admitted, register.refused) == (set(), {})


def test_nothing_is_finished_without_contributions() -> None:
    register = Register(7, [3])
    with pytest.raises(fl.NoContributionsError), register.finishing():
        raise AssertionError
    with register.admitting(3, b""):
        pass
    with register.finishing():
        pass
    with register.contributing():
        pass
    assert set(register.seconds) == {"contribute", "admit", "finish"} and all(register.seconds.values())
