"""The error terms against formulas of their own, the choice of sizes against all others, the projection in numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring.params import PRIMES
from secureagg.zk import projection, soundness
from secureagg.zk.proof import proof_bytes
from secureagg.zk.soundness import Rows, Shape

Q = PRIMES[0]
LENGTHS = soundness.message_lengths()


def probabilities(shape: Shape, poles: int) -> dict[str, Fraction]:
    """Return the terms as exact probabilities, from the sizes alone."""
    ell, n, t = shape.message_length, shape.length, shape.queries
    k = ell + 2 * t
    passed = max(Fraction(n + k, 2 * n), Fraction(2 * k, n))
    return {
        "projection": Fraction(1, 2**128),
        "share check": Fraction(254, Q**3),
        "linear and norms": Fraction(1, Q**2),
        "products": Fraction(1, Q**2),
        "proximity": Fraction(n, Q) ** 3,
        "undetected columns": Fraction(n, Q**3),
        "queries": passed**t,
    } | ({"range lookup": Fraction(poles, Q**3)} if poles else {})


def bits_of(probability: Fraction) -> float:
    return math.log2(probability.denominator) - math.log2(probability.numerator)


shapes = st.builds(
    lambda log, expansion, t, first, second: Shape(1 << log, expansion << log, t, Rows(first, second)),
    st.integers(9, 15), st.sampled_from([4, 8]), st.integers(1, 250), st.integers(1, 900), st.integers(1, 900),
)  # fmt: skip


@given(shapes, st.sampled_from([0, 1, 5000, 1 << 22]))
def test_terms_are_those_of_the_formulas(shape: Shape, poles: int) -> None:
    terms = soundness.soundness_terms(shape, Q, poles)
    expected = probabilities(shape, poles)
    assert terms.keys() == expected.keys()
    for name, probability in expected.items():
        assert terms[name] == pytest.approx(bits_of(probability), rel=1e-12)
    assert soundness.total_bits(terms) == pytest.approx(bits_of(sum(expected.values(), Fraction(0))), rel=1e-12)


def test_queries_say_nothing_where_all_columns_may_agree() -> None:
    shape = Shape(16, 64, 8, Rows(1, 1))
    assert 2 * shape.degree == shape.length
    assert soundness.soundness_terms(shape, Q, 0)["queries"] == 0
    assert soundness.soundness_terms(Shape(16, 64, 4, Rows(1, 1)), Q, 0)["queries"] == pytest.approx(
        4 * math.log2(4 / 3)
    )


@given(shapes)
def test_sizes_are_those_of_the_rows(shape: Shape) -> None:
    t, ell = shape.queries, shape.message_length
    masks = 2 * 2 + 2 + 3
    assert shape.second_rows == shape.rows.second + masks == shape.rows.second + soundness.MASK_ROWS
    responses = 2 * (1 + 2 * ell + 2 * t) + (2 + 3) * (ell + 2 * t)
    assert shape.elements == responses + t * (shape.rows.first + shape.rows.second + masks)
    assert 2 * ell + 2 * t <= shape.length


@given(st.integers(1, 7), st.data())
def test_no_multiproof_needs_more_nodes(log: int, data: st.DataObject) -> None:
    from secureagg.zk import merkle

    n = 1 << log
    positions = data.draw(st.sets(st.integers(0, n - 1), min_size=1).map(sorted))
    shape = Shape(n // 2, n, len(positions), Rows(1, 1))
    assert merkle.proof_nodes(n, positions) <= shape.path_nodes


SIZES: dict[str, Callable[[int], Rows]] = {
    "small": lambda ell: Rows(3, 5),
    "ten thousand": lambda ell: Rows(-(-10_000 // ell) + -(-5_000 // ell) + -(-4_100 // ell), -(-2500 // ell)),
    "a million": lambda ell: Rows(-(-1_000_000 // ell) + -(-500_000 // ell) + -(-4_100 // ell), -(-3000 // ell)),
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("poles", [0, 1 << 20])
def test_choice_has_a_hundred_bits_and_is_the_smallest(name: str, poles: int) -> None:
    rows = {ell: SIZES[name](ell) for ell in LENGTHS}
    chosen = soundness.choose_shape(Q, rows, dict.fromkeys(LENGTHS, poles))
    assert bits_of(sum(probabilities(chosen, poles).values(), Fraction(0))) >= 100
    others = []
    for ell in LENGTHS:
        for expansion in (4, 8):
            wide = expansion * ell * (rows[ell].first + rows[ell].second + 9) > 1 << 22
            if expansion * ell > 1 << 17 or (expansion == 8 and wide):
                continue
            for t in range(1, ell // 2 + 1):
                shape = Shape(ell, expansion * ell, t, rows[ell])
                if bits_of(sum(probabilities(shape, poles).values(), Fraction(0))) >= 100:
                    others.append(shape)
                    break  # more queries make a proof larger
    assert chosen in others
    assert proof_bytes(chosen) <= min(map(proof_bytes, others)) + 104  # elements are padded to sixteen of 52 bits


def test_one_query_fewer_is_too_few() -> None:
    rows = dict.fromkeys(LENGTHS, Rows(3, 5))
    chosen = soundness.choose_shape(Q, rows, dict.fromkeys(LENGTHS, 0))
    fewer = Shape(chosen.message_length, chosen.length, chosen.queries - 1, chosen.rows)
    assert bits_of(sum(probabilities(fewer, 0).values(), Fraction(0))) < 100


def test_lengths_too_short_are_refused() -> None:
    with pytest.raises(ParameterError, match="no code of length"):
        soundness.choose_shape(Q, {16: Rows(1, 1), 64: Rows(1, 1)}, {16: 0, 64: 0})


@pytest.mark.parametrize("bits", range(4, 24))
def test_projection_bits_hold_an_honest_projection(bits: int) -> None:
    """128 rows, two tails, exp(−z²/X²): at most 2^-41 for z = 2^m − 1, and not much less with one bit fewer."""
    for norm_squared in (1 << (2 * bits), (1 << (2 * bits)) * 2 - 1, 3 << (2 * bits - 1)):
        m = soundness.projection_bits(norm_squared)

        def failing(m: int, norm_squared: int = norm_squared) -> float:
            return math.log2(256) - ((1 << m) - 1) ** 2 / norm_squared * math.log2(math.e)

        assert failing(m) <= -41
        assert failing(m - 1) >= -41.06  # 34 in place of 49·ln 2


@pytest.mark.parametrize("m", [5, 14, 21])
def test_bound_of_the_lemma_is_nine_times_the_range(m: int) -> None:
    assert soundness.projection_norm_bound(m) == (9 << m) ** 2
    shevtsova = 0.56
    assert (2 / math.sqrt(math.pi) + 4 * shevtsova * math.sqrt(2)) / 9 < 0.48


M = 14
BOUND = 9 << M
ROWS = 160 * projection.ROWS  # a share of them is within 4.5 · ½/√20480 = 0.0158, but for 7 in a million
MARGIN = 4.5 / 2 / math.sqrt(ROWS)


def centred(residue: int) -> int:
    return residue - Q if residue > Q // 2 else residue


def long_vectors() -> dict[str, list[int]]:
    """Return vectors with ‖x‖ ≥ 9·2^m, entries mod q taken between −q/2 and q/2."""
    edge = (2 << M) - 1  # the largest entry that is not large by itself
    spread = {count: [math.isqrt(BOUND * BOUND // count) + 1] * count for count in (2, 3, 5, 21, 100, 400)}
    mixed = [edge] * 10 + [300] * 200 + [-(Q // 3), 1]
    return {
        "one spike": [BOUND],
        "one spike of q/2": [Q // 2],
        "a spike at the edge, and others": [2 << M] + [edge] * 21,
        "two spikes that cancel": [BOUND, -BOUND],
        "two spikes mod q": [Q // 2, Q // 2],
        "half an integer": [(Q + 1) // 2 - Q],
        "halves": [(Q + 1) // 2 - Q] * 40,
        "halves of both signs": [(Q + 1) // 2 - Q, (Q - 1) // 2] * 20,
        "thirds": [centred(pow(3, -1, Q))] * 30,
        "quarters": [centred(pow(4, -1, Q))] * 16,
        "edge": [edge] * 21,
        "alternating": [edge, -edge] * 11,
        "mixed": mixed,
        "powers of two": [1 << i for i in range(51)],
        "geometric, small": [(1 << i) for i in range(15)] * 64,
    } | {f"{count} equal entries": entries for count, entries in spread.items()}


def landed(x: list[int], rows: Callable[[bytes, NDArray[np.int64]], NDArray[np.int64]]) -> float:
    """Return the share of rows that lie in [−2^m, 2^m) mod q."""
    low, high = (np.array([f(v) for v in x], dtype=np.int64) for f in (lambda v: v & 0x3FFFFFF, lambda v: v >> 26))
    hits = 0
    for seed in range(ROWS // projection.ROWS):
        key = seed.to_bytes(32, "little")
        for a, b in zip(rows(key, low).tolist(), rows(key, high).tolist(), strict=True):
            hits += (a + (b << 26) + (1 << M)) % Q < 2 << M
    return hits / ROWS


@pytest.mark.parametrize("name", long_vectors())
def test_long_vector_lands_in_the_range_at_most_half_the_time(name: str) -> None:
    x = long_vectors()[name]
    assert all(abs(v) <= Q // 2 for v in x)
    assert sum(v * v for v in x) >= BOUND * BOUND
    assert landed(x, projection.project) <= 0.5 + MARGIN


def signs(seed: bytes, values: NDArray[np.int64]) -> NDArray[np.int64]:
    random = np.random.default_rng(list(seed))
    return random.choice(np.array([-1, 1]), (projection.ROWS, values.size)) @ values


def test_signs_instead_would_let_halves_pass() -> None:
    """So the test above can fail; and a vector that is not long enough does land."""
    halves = [(Q + 1) // 2 - Q] * 40
    assert landed(halves, signs) == 1
    assert landed(halves, projection.project) <= 0.5 + MARGIN
    assert landed([1 << M], projection.project) > 0.5 + MARGIN
    assert landed([BOUND // 9] * 2, projection.project) > 0.5 + MARGIN


@pytest.mark.parametrize("count", [1, 10, 400])
def test_honest_vector_always_lands(count: int) -> None:
    """Of the norm the bits were chosen for; at 20480 rows each."""
    entry = 4000 // math.isqrt(count)
    m = soundness.projection_bits(count * entry * entry)
    x = np.full(count, entry, dtype=np.int64)
    for seed in range(ROWS // projection.ROWS):
        assert np.abs(projection.project(seed.to_bytes(32, "little"), x)).max() < 1 << m
