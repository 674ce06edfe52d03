"""The code and its sums of products against plain integers, bit for bit."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.ring.params import PRIMES
from secureagg.zk import code
from secureagg.zk import field as fq
from secureagg.zk.code import Code
from tests.ring import reference

Q = PRIMES[0]
SHAPES = ((16, 64, 3), (16, 128, 8), (32, 128, 5), (64, 256, 20), (16, 1024, 8))
TOY = Code(Q, 16, 64, 3)


def words(rows: int, width: int, seed: int = 1) -> code.Words:
    """Return rows of random words, the first two of the largest and of the smallest and largest in turn."""
    out = np.random.default_rng([seed, rows, width]).integers(0, Q, (rows, width), dtype=np.uint64)
    out[:1] = Q - 1
    out[1:2, ::2], out[1:2, 1::2] = 0, Q - 1
    return out


@lru_cache
def domain(size: int) -> list[int]:
    """Return the points with x^size = −1 in the order of NTT form."""
    return [reference.point(k, size, Q) for k in range(size)]


def lagrange(values: list[int], size: int) -> list[int]:
    """Return the coefficients of the polynomial of degree below `size` with these values on {x : x^size = −1}:
    coefficient j is the mean of value·x^−j."""
    xs = domain(size)
    inverse = pow(size, -1, Q)
    return [inverse * sum(v * pow(x, -j, Q) for v, x in zip(values, xs, strict=True)) % Q for j in range(size)]


@pytest.fixture(params=SHAPES, ids=lambda shape: f"l{shape[0]}-n{shape[1]}")
def some(request: pytest.FixtureRequest) -> Code:
    return Code(Q, *request.param)


def test_points_are_the_domain_of_the_code(some: Code) -> None:
    assert code.points(some).tolist() == domain(some.length)
    assert not set(domain(some.message_length)) & set(domain(some.length))
    assert some.degree == some.message_length + 2 * some.queries


def test_interpolation_goes_through_the_values_on_h(some: Code) -> None:
    rows = words(3, some.message_length)
    coefficients = rows.copy()
    code.interpolate(some, coefficients)
    assert coefficients.tolist() == [lagrange(row, some.message_length) for row in rows.tolist()]


@pytest.mark.parametrize("excess", [-15, -9, -1, 0, 1, 6, 15, 16, 17, 24, 38])
def test_extension_evaluates_at_the_first_points(some: Code, excess: int) -> None:
    """Below, at and above ℓ coefficients, and up to more than 2ℓ; on every prefix that they fit."""
    coefficients = words(3, some.message_length + excess)
    xs = domain(some.length)
    expected = [[reference.evaluate(row, x, Q) for x in xs] for row in coefficients.tolist()]
    assert code.extend(some, coefficients).tolist() == expected
    size = some.length
    while size > max(16, 2 * coefficients.shape[1]):
        size //= 2
        assert code.extend(some, coefficients, size).tolist() == [row[:size] for row in expected]


@pytest.mark.parametrize("size", [16, 32, 64])
def test_prefix_interpolation_undoes_extension(some: Code, size: int) -> None:
    coefficients = words(4, size)
    values = code.extend(some, coefficients, size)
    kept = values.copy()
    assert np.array_equal(code.interpolate_prefix(some, values), coefficients)
    assert np.array_equal(values, kept)
    assert np.array_equal(code.interpolate_prefix(some, code.extend(some, coefficients)[:, :size]), coefficients)


def test_codewords_are_the_blinded_polynomials_on_d(some: Code) -> None:
    rows, blinding = words(4, some.message_length), words(4, some.queries, seed=2)
    kept = rows.copy()
    expected = []
    for row, b in zip(rows.tolist(), blinding.tolist(), strict=True):
        u = lagrange(row, some.message_length)
        expected.append(
            [
                (reference.evaluate(u, x, Q) + (pow(x, some.message_length, Q) + 1) * reference.evaluate(b, x, Q)) % Q
                for x in domain(some.length)
            ]
        )
    assert code.encode(some, rows, blinding).tolist() == expected
    assert np.array_equal(rows, kept)


@given(st.integers(0, Q - 1), st.integers(0, 1 << 20))
def test_encoding_is_linear(factor: int, seed: int) -> None:
    rows, blinding = words(5, 16, seed)[2:4], words(5, 3, seed)[2:4]
    row = fq.add(Q, fq.scale(Q, rows[:1], factor), rows[1:])
    blind = fq.add(Q, fq.scale(Q, blinding[:1], factor), blinding[1:])
    codewords = code.encode(TOY, rows, blinding)
    combined = fq.add(Q, fq.scale(Q, codewords[:1], factor), codewords[1:])
    assert np.array_equal(code.encode(TOY, row, blind), combined)


def test_columns_are_those_of_the_extension(some: Code) -> None:
    rows = words(7, some.message_length)
    positions = np.array([some.length - 1, 0, 5, 17, some.length // 2, 5])
    coefficients = rows.copy()
    code.interpolate(some, coefficients)
    columns = code.columns_at(some, rows, positions)
    assert np.array_equal(columns, code.extend(some, coefficients)[:, positions])
    assert np.array_equal(columns, code.encode(some, rows, np.zeros((7, some.queries), np.uint64))[:, positions])
    assert code.columns_at(some, rows, positions[:0]).shape == (7, 0)


def test_vanishing_polynomial_and_its_inverse(some: Code) -> None:
    expected = [(pow(x, some.message_length, Q) + 1) % Q for x in domain(some.length)]
    assert code.vanishing(some).tolist() == expected
    for size in (16, some.message_length, some.length // 2):
        assert code.vanishing(some, size).tolist() == expected[:size]
        assert code.inverse_vanishing(some, size).tolist() == [pow(z, -1, Q) for z in expected[:size]]


@pytest.mark.parametrize("rows", [0, 1, 2, 511, 512, 513, 1024, 1025, 2100])
def test_sums_over_rows_are_those_of_integers(rows: int) -> None:
    """Row counts about where lazy sums are reduced, and largest words: in all of them, at first, at random."""
    left, right = words(rows, 6), words(rows, 6, seed=2)
    left[:, :2] = right[:, 1:3] = Q - 1
    coefficients = left[:, 4].copy()
    coefficients[: rows // 2] = Q - 1
    kept = left.copy()
    a, b, c = left.T.tolist(), right.T.tolist(), coefficients.tolist()
    assert fq.combine(Q, right, coefficients).tolist() == [sum(map(int.__mul__, c, y)) % Q for y in b]
    assert fq.combine(Q, left, coefficients).tolist() == [sum(map(int.__mul__, c, x)) % Q for x in a]
    products = [sum(map(int.__mul__, x, y)) % Q for x, y in zip(a, b, strict=True)]
    assert fq.inner_products(Q, left, right).tolist() == products
    assert fq.sums_of_squares(Q, left).tolist() == [sum(x * x for x in column) % Q for column in a]
    assert np.array_equal(left, kept)


@pytest.mark.parametrize("prime", PRIMES)
def test_sums_mod_every_prime(prime: int) -> None:
    left = np.random.default_rng(prime % 997).integers(0, prime, (40, 5), dtype=np.uint64)
    left[::3] = prime - 1
    a, c = left.T.tolist(), left[:, 0].tolist()
    assert fq.sums_of_squares(prime, left).tolist() == [sum(x * x for x in column) % prime for column in a]
    assert fq.combine(prime, left, left[:, 0]).tolist() == [sum(map(int.__mul__, c, x)) % prime for x in a]


def test_sums_take_slices_of_wider_matrices() -> None:
    """Some columns, some rows, every other row, one row for all: the same as copies of them."""
    wide, other = words(30, 3000), words(30, 2500, seed=2)
    coefficients = wide[:, 7]
    for rows, columns in ((slice(None), slice(0, 2100)), (slice(3, 20), slice(17, 1041)), (slice(0, 30, 2), slice(5))):
        left, right, c = wide[rows, columns], other[rows, columns], coefficients[rows]
        assert np.array_equal(fq.inner_products(Q, left, right), fq.inner_products(Q, left.copy(), right.copy()))
        assert np.array_equal(fq.sums_of_squares(Q, left), fq.inner_products(Q, left.copy(), left.copy()))
        assert np.array_equal(fq.combine(Q, left, c), fq.combine(Q, left.copy(), c.copy()))
    constant = np.broadcast_to(wide[5], wide.shape)
    assert np.array_equal(fq.inner_products(Q, wide, constant), fq.inner_products(Q, wide, constant.copy()))


@pytest.mark.parametrize("size", [0, 1, 3, 16, 255, 1024, 5120])
def test_dot_product_is_that_of_integers(size: int) -> None:
    left, right = words(3, size)[2], words(3, size)[0]
    assert fq.dot(Q, left, right) == sum(map(int.__mul__, left.tolist(), right.tolist())) % Q


@pytest.mark.parametrize("shape", [(7,), (4096,), (3, 20), (2, 3, 5), (0, 16), (9, 8192)])
def test_products_and_sums_element_by_element(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(len(shape))
    a, b = (random.choice(np.array([0, 1, Q - 1, Q - 2, Q // 2, 1 << 51, 12345], np.uint64), shape) for _ in range(2))
    kept = a.copy(), b.copy()
    integers = a.astype(object), b.astype(object)
    assert np.array_equal(fq.multiply(Q, a, b), integers[0] * integers[1] % Q)
    assert np.array_equal(fq.add(Q, a, b), (integers[0] + integers[1]) % Q)
    assert np.array_equal(fq.subtract(Q, a, b), (integers[0] - integers[1]) % Q)
    for factor in (0, 1, Q - 1, -5, 1 << 70):
        assert np.array_equal(fq.scale(Q, a, factor), integers[0] * factor % Q)
    assert np.array_equal(a, kept[0]) and np.array_equal(b, kept[1])


@given(st.lists(st.tuples(st.integers(0, Q - 1), st.integers(0, Q - 1)), min_size=1, max_size=20))
def test_sums_of_any_words(pairs: list[tuple[int, int]]) -> None:
    left, right = np.array(pairs, dtype=np.uint64).T.copy()
    expected = sum(x * y for x, y in pairs) % Q
    assert fq.combine(Q, left[:, None], right).tolist() == [expected]
    assert fq.inner_products(Q, left[:, None], right[:, None]).tolist() == [expected]
    assert fq.dot(Q, left, right) == expected


def test_results_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many more rows and columns than a thread takes at a time."""
    some = Code(Q, 256, 1024, 40)
    rows, blinding, positions = words(150, 256), words(150, 40), np.arange(0, 1024, 7)

    def everything() -> list[code.Words]:
        codewords = code.encode(some, rows, blinding)
        return [
            codewords,
            code.columns_at(some, rows, positions),
            code.extend(some, rows, 512),
            code.interpolate_prefix(some, codewords),
            fq.combine(Q, codewords.reshape(50, -1), blinding[:50, 0]),
            fq.inner_products(Q, codewords.reshape(50, -1), codewords[::-1].reshape(50, -1).copy()),
        ]

    results = []
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("SECUREAGG_THREADS", threads)
        results.append(everything())
    for others in results[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(results[0], others, strict=True))
    one = code.encode(some, rows[77:78], blinding[77:78])
    assert np.array_equal(results[0][0][77:78], one)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prime": Q - 2}, "must be a prime"),
        ({"message_length": 8}, "powers of two"),
        ({"message_length": 24}, "powers of two"),
        ({"message_length": 32}, "4ℓ ≤ n"),
        ({"length": 96}, "powers of two"),
        ({"length": 1 << 18}, "≤ 131072"),
        ({"queries": 0}, "1 ≤ t"),
        ({"queries": 9}, "t ≤ ℓ/2 = 8"),
    ],
)
def test_codes_of_another_form_are_refused(change: dict[str, int], message: str) -> None:
    fields = {"prime": Q, "message_length": 16, "length": 64, "queries": 3}
    with pytest.raises(ParameterError, match=message):
        Code(**fields | change)


def test_arrays_of_another_form_are_refused() -> None:
    rows, blinding = words(4, 16), words(4, 3)
    with pytest.raises(ParameterError, match=r"uint64\[4, 16\] needed"):
        code.encode(TOY, words(4, 32), blinding)
    with pytest.raises(ParameterError, match=r"uint64\[4, 3\] needed"):
        code.encode(TOY, rows, words(4, 4))
    with pytest.raises(ParameterError, match=r"uint64\[4, 16\] needed"):
        code.interpolate(TOY, words(4, 32))
    with pytest.raises(ParameterError, match="w ≤ size"):
        code.extend(TOY, words(4, 33), 32)
    for size in (8, 48, 128):
        with pytest.raises(ParameterError, match="a power of two in"):
            code.vanishing(TOY, size)
        with pytest.raises(ParameterError, match="a power of two in"):
            code.interpolate_prefix(TOY, words(4, size))
    for position in (-1, 64):
        with pytest.raises(ParameterError, match=r"\[0, 64\) is needed"):
            code.columns_at(TOY, rows, np.array([3, position]))
    with pytest.raises(ParameterError, match=r"uint64\[4\] needed"):
        fq.combine(Q, rows, rows[0])
    with pytest.raises(ParameterError, match=r"uint64\[4, 16\] needed"):
        fq.inner_products(Q, rows, words(3, 16))
    for strange in (rows[:, ::2], rows[::-1], rows.T, rows.astype(np.int64)):
        with pytest.raises(ParameterError, match="whole rows or slices"):
            fq.sums_of_squares(Q, strange) if strange.dtype == np.uint64 else fq.combine(Q, strange, rows[:, 0])
    with pytest.raises(ParameterError, match=r"uint64\[4, 16\] needed"):
        fq.multiply(Q, rows, rows[:, :8])
