"""Sets of clients: what a tuple of ids says, in less memory."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.ids import ClientIds

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=20)


@given(IDS, IDS)
def test_they_are_the_sorted_tuple(ids: list[int], others: list[int]) -> None:
    made, expected = ClientIds(ids), tuple(sorted(set(ids)))
    assert made == expected and expected == made and list(made) == list(expected) and len(made) == len(expected)
    assert hash(made) == hash(expected) and made == ClientIds(reversed(ids))
    assert all(type(client_id) is int for client_id in made)
    assert made[:2] == expected[:2] and (not expected or made[-1] == expected[-1])
    assert [other in made for other in others] == [other in expected for other in others]
    assert (made == tuple(sorted(set(others)))) == (expected == tuple(sorted(set(others))))


def test_where_a_mark_is_set() -> None:
    assert ClientIds.where(np.array([False, True, True, False, True])) == (1, 2, 4)
    assert repr(ClientIds.where(np.array([False, True]))) == "ClientIds([1])"


def test_what_is_no_id_is_not_among_them() -> None:
    for other in (-1, 2**32, 2**32 + 1, "1", None, 1.0):
        assert other not in ClientIds([1])
    assert ClientIds([1]) != {1} and ClientIds([1]) != 1
    with pytest.raises(IndexError):
        ClientIds([1])[1]


def test_an_id_takes_four_bytes() -> None:
    marks = np.ones(100_000, dtype=np.bool_)
    tracemalloc.start()
    ids = ClientIds.where(marks)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(ids) == 100_000 and kept < 4.1 * len(ids)
