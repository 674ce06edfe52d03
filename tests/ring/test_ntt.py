"""Transforms and products against plain integers, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.ring import ntt
from secureagg.ring.params import PRIMES, minimal_root
from tests.ring import reference

SMALL = (16, 32, 64, 128)
LARGE = (256, 512, 1024, 2048, 4096, 8192, 1 << 15, 1 << 17)


def rows(q: int, n: int, seed: int = 1) -> dict[str, list[int]]:
    """Return random rows and those at the boundaries."""
    random = np.random.default_rng([seed, n, q % 1000])
    return {
        "random": random.integers(0, q, n).tolist(),
        "zero": [0] * n,
        "largest": [q - 1] * n,
        "alternating": [0, q - 1] * (n // 2),
        "halves": [q - 1] * (n // 2) + [0] * (n // 2),
        "first": [1] + [0] * (n - 1),
        "last": [0] * (n - 1) + [q - 1],
        "middle": [(q - 1) // 2, (q + 1) // 2] * (n // 2),
        "boundary": random.choice([0, 1, q - 1, q - 2, (q - 1) // 2], n).tolist(),
    }


def words(values: object) -> ntt.Words:
    """Return uint64[chunks, 1, N] from rows of integers."""
    return np.array(values, dtype=np.uint64)[:, None, :]


@pytest.mark.parametrize("q", PRIMES)
@pytest.mark.parametrize("n", SMALL)
def test_forward_evaluates_at_the_points_in_bit_reversed_order(q: int, n: int) -> None:
    given_rows = list(rows(q, n).values())
    values = words(given_rows)
    ntt.forward(values, (q,))
    assert values[:, 0].tolist() == [reference.forward(row, q) for row in given_rows]


@pytest.mark.parametrize("q", PRIMES)
@pytest.mark.parametrize("n", LARGE)
def test_forward_at_some_points_of_long_rows(q: int, n: int) -> None:
    row = rows(q, n)["random"]
    values = words([row])
    ntt.forward(values, (q,))
    psi = minimal_root(q, 2 * n)
    for k in (0, 1, 5, n // 2, n - 1):
        x = pow(psi, 2 * reference.bit_reverse(k, n.bit_length() - 1) + 1, q)
        assert values[0, 0, k] == reference.evaluate(row, x, q)


@pytest.mark.parametrize("q", PRIMES)
@pytest.mark.parametrize("n", SMALL + LARGE)
def test_inverse_undoes_forward(q: int, n: int) -> None:
    values = words(list(rows(q, n).values()))
    coefficients = values.copy()
    ntt.forward(values, (q,))
    assert not np.array_equal(values, coefficients)
    ntt.inverse(values, (q,))
    assert np.array_equal(values, coefficients)


@pytest.mark.parametrize("n", SMALL + LARGE)
def test_unreduced_input_does_not_overflow(n: int) -> None:
    """The kernels' stated ranges: anything below 2^63 forward, anything below 2q inverse; largest values first."""
    q = PRIMES[0]
    random = np.random.default_rng(n)
    for limit, transform in (((1 << 63), ntt.forward), (2 * q, ntt.inverse)):
        loose = np.stack([np.full(n, limit - 1, np.uint64), random.integers(0, limit, n, dtype=np.uint64)])[:, None]
        canonical = loose % np.uint64(q)
        transform(loose, (q,))
        transform(canonical, (q,))
        assert np.array_equal(loose, canonical)
        assert int(loose.max()) < q


@pytest.mark.parametrize("q", PRIMES)
@pytest.mark.parametrize("n", [16, 64])
@pytest.mark.parametrize("fixed", [True, False])
def test_pointwise_product_is_the_negacyclic_product(q: int, n: int, fixed: bool) -> None:
    a_rows, b = list(rows(q, n).values()), rows(q, n, seed=2)["boundary"]
    values, factor = words(a_rows), words([b])
    ntt.forward(values, (q,))
    ntt.forward(factor, (q,))
    if fixed:
        ntt.multiply_fixed(values, factor[0], ntt.companions(factor[0], (q,)), (q,))
    else:
        ntt.multiply(values, np.repeat(factor, len(values), axis=0), (q,))
    ntt.inverse(values, (q,))
    assert values[:, 0].tolist() == [reference.negacyclic(row, b, q) for row in a_rows]


@pytest.mark.parametrize("q", PRIMES)
def test_products_and_companions_word_by_word(q: int) -> None:
    random = np.random.default_rng(q % 997)
    edge = [0, 1, 2, q - 1, q - 2, (q - 1) // 2, (q + 1) // 2, 1 << 51, (1 << 32) - 1, 1 << 32, (1 << 32) + 1]
    # Remainders next to 0 and q, where an estimated quotient is one too small or too large.
    inverse = pow(1 << 64, -1, q)
    edge += [r * inverse % q for r in range(-50, 50)]
    w = np.array(edge + random.integers(0, q, 1024 - len(edge)).tolist(), dtype=np.uint64)
    companions = ntt.companions(w[None], (q,))
    assert companions[0].tolist() == [(x << 64) // q for x in w.tolist()]
    canonical = np.array([[x] * 1024 for x in edge], dtype=np.uint64)[:, None]
    expected = [[x * y % q for y in w.tolist()] for x in edge]
    general = canonical.copy()
    ntt.multiply(general, np.broadcast_to(w, canonical.shape).copy(), (q,))
    assert general[:, 0].tolist() == expected
    largest = np.full((1, 1, 1024), (1 << 64) - 1, dtype=np.uint64)
    shoup = np.concatenate([canonical, largest])
    ntt.multiply_fixed(shoup, w[None], companions, (q,))
    assert shoup[:, 0].tolist() == [*expected, [((1 << 64) - 1) * y % q for y in w.tolist()]]


def test_primes_do_not_mix() -> None:
    """Four primes at once give what each gives alone, in many chunks and on threads."""
    n = 64
    random = np.random.default_rng(4)
    values = np.stack([random.integers(0, q, (300, n), dtype=np.uint64) for q in PRIMES], axis=1)
    together = values.copy()
    ntt.forward(together, PRIMES)
    ntt.multiply(together, together.copy(), PRIMES)
    ntt.inverse(together, PRIMES)
    for p, q in enumerate(PRIMES):
        alone = values[:, p : p + 1].copy()
        ntt.forward(alone, (q,))
        ntt.multiply(alone, alone.copy(), (q,))
        ntt.inverse(alone, (q,))
        assert np.array_equal(together[:, p : p + 1], alone)


residue_rows = st.lists(st.integers(0, PRIMES[0] - 1), min_size=16, max_size=16)


@given(residue_rows, residue_rows, st.integers(0, PRIMES[0] - 1))
def test_forward_is_linear(a: list[int], b: list[int], c: int) -> None:
    q = PRIMES[0]
    values = words([a, b, [(x * c + y) % q for x, y in zip(a, b, strict=True)]])
    ntt.forward(values, (q,))
    combined = [(x * c + y) % q for x, y in zip(values[0, 0].tolist(), values[1, 0].tolist(), strict=True)]
    assert values[2, 0].tolist() == combined


@given(residue_rows, residue_rows)
def test_product_commutes_and_has_a_one(a: list[int], b: list[int]) -> None:
    q = (PRIMES[0],)
    left, right = words([a, b, a]), words([b, a, [1] + [0] * 15])
    for values in (left, right):
        ntt.forward(values, q)
    ntt.multiply(left, right, q)
    ntt.inverse(left, q)
    assert np.array_equal(left[0], left[1]) and left[2, 0].tolist() == a


def test_tables_are_made_once_and_cannot_be_changed() -> None:
    t = ntt.tables(PRIMES[:2], 64)
    assert t is ntt.tables(PRIMES[:2], 64)
    with pytest.raises(ValueError, match="read-only"):
        t.roots[0, 0] = 1


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((2, 1, 24), np.uint64),  # not a power of two
        np.zeros((2, 1, 8), np.uint64),  # too short
        np.zeros((2, 2, 16), np.uint64),  # two primes' rows
        np.zeros((2, 16), np.uint64),
        np.zeros((2, 1, 16), np.int64),
        np.zeros((2, 1, 32), np.uint64)[:, :, ::2],
    ],
)
def test_arrays_of_another_form_are_refused(values: ntt.Words) -> None:
    with pytest.raises(ParameterError, match="needed"):
        ntt.forward(values, PRIMES[:1])
    with pytest.raises(ParameterError, match="needed"):
        ntt.inverse(values, PRIMES[:1])


def test_factors_of_another_shape_are_refused() -> None:
    values = np.zeros((2, 1, 16), np.uint64)
    with pytest.raises(ParameterError, match=r"\[2, 1, 16\] needed"):
        ntt.multiply(values, np.zeros((1, 1, 16), np.uint64), PRIMES[:1])
    fixed = np.zeros((1, 32), np.uint64)
    with pytest.raises(ParameterError, match=r"\[1, 1, 16\] needed"):
        ntt.multiply_fixed(values, fixed, fixed, PRIMES[:1])


def test_other_primes_are_refused() -> None:
    with pytest.raises(ParameterError, match="must be a prime"):
        ntt.forward(np.zeros((1, 1, 16), np.uint64), (PRIMES[0] - 2,))
