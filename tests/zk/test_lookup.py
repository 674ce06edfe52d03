"""The arithmetic of the range argument in F_q[Y]/(Y³ − 7), against polynomials multiplied out by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.ring.params import PRIMES
from secureagg.zk import lookup

Q = PRIMES[0]
Element = tuple[int, int, int]
elements = st.tuples(*[st.integers(0, Q - 1) | st.integers(Q - 3, Q - 1) | st.integers(0, 3)] * 3)
alphas = elements.filter(lambda a: bool(a[1] or a[2]))


def times(a: Element, b: Element) -> Element:
    """Return the product, reduced by Y³ = 7."""
    wide = [0] * 5
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            wide[i + j] += x * y
    return (wide[0] + 7 * wide[3]) % Q, (wide[1] + 7 * wide[4]) % Q, wide[2] % Q


def power(a: Element, exponent: int) -> Element:
    result: Element = (1, 0, 0)
    while exponent:
        result, a, exponent = times(result, a) if exponent & 1 else result, times(a, a), exponent >> 1
    return result


def less(a: Element, value: int) -> Element:
    return (a[0] - value) % Q, a[1], a[2]


def as_words(a: Element) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    return np.array(a, dtype=np.uint64)


def test_extension_is_a_field() -> None:
    """7 is no cube, and with q ≡ 1 mod 3 that makes Y³ − 7 irreducible."""
    assert Q % 3 == 1
    assert pow(lookup.NON_CUBE, (Q - 1) // 3, Q) != 1
    y: Element = (0, 1, 0)
    assert power(y, 3) == (lookup.NON_CUBE, 0, 0)
    assert power((5, 3, 2), Q**3 - 1) == (1, 0, 0)
    assert power(y, Q) != y  # Y lies in no smaller field


@given(alphas, st.integers(1, 40))
def test_inverses_are_inverse(alpha: Element, limit: int) -> None:
    found = lookup.inverses(as_words(alpha), limit, Q)
    assert found.shape == (3, 2 * limit + 1)
    for a in range(-limit, limit + 1):
        h = tuple(int(x) for x in found[:, a + limit])
        assert times(less(alpha, a), (h[0], h[1], h[2])) == (1, 0, 0)


@given(alphas, elements)
def test_matrix_multiplies_by_alpha(alpha: Element, h: Element) -> None:
    matrix = lookup.multiplication_matrix(as_words(alpha), Q)
    assert tuple(sum(m * x for m, x in zip(row, h, strict=True)) % Q for row in matrix) == times(alpha, h)


@given(st.integers(0, Q - 1))
def test_challenge_of_the_base_field_is_refused(a0: int) -> None:
    """There, α − a may be zero."""
    with pytest.raises(EncodingError, match="lies in the base field"):
        lookup.inverses(as_words((a0, 0, 0)), 3, Q)


@pytest.mark.parametrize("alpha", [(0, 1, 0), (0, 0, 1), (3, Q - 1, 0)])
def test_challenge_with_one_other_component_is_accepted(alpha: Element) -> None:
    assert lookup.inverses(as_words(alpha), 3, Q).max() < Q


@given(st.lists(st.integers(-9, 9)))
def test_multiplicities_count(values: list[int]) -> None:
    found = lookup.multiplicities(np.array(values, dtype=np.int64), 9)
    counts = Counter(values)
    assert found.dtype == np.uint64
    assert found.tolist() == [counts[a] for a in range(-9, 10)]


@given(alphas, st.lists(st.integers(-9, 9), min_size=1), st.integers(0, 18))
def test_sums_agree_for_these_multiplicities_alone(alpha: Element, values: list[int], other: int) -> None:
    table = lookup.inverses(as_words(alpha), 9, Q).tolist()
    counts = lookup.multiplicities(np.array(values, dtype=np.int64), 9).tolist()

    def total(weights: list[int]) -> list[int]:
        return [sum(w * h for w, h in zip(weights, row, strict=True)) % Q for row in table]

    assert [sum(row[v + 9] for v in values) % Q for row in table] == total(counts)
    counts[other] += 1
    assert [sum(row[v + 9] for v in values) % Q for row in table] != total(counts)
