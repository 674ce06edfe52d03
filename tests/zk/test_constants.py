"""The constants of docs/proofs, recomputed: where a law is small enough, exactly."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import pytest

from secureagg.ring.bounds import noise_squared_norm_bound
from secureagg.ring.params import PRIMES, SIGMA
from secureagg.zk import soundness
from secureagg.zk.soundness import Rows, Shape

Q = PRIMES[0]
BERRY_ESSEEN = 0.56  # Shevtsova 2010, summands of different laws
FACTOR = math.isqrt(soundness.projection_norm_bound(0))  # 9


def ternary_law(x: list[int]) -> dict[int, Fraction]:
    """Return the exact law of ⟨R, x⟩ for one row R."""
    law = {0: Fraction(1)}
    for entry in x:
        following: dict[int, Fraction] = {}
        for value, p in law.items():
            for step, share in ((-entry, Fraction(1, 4)), (0, Fraction(1, 2)), (entry, Fraction(1, 4))):
                following[value + step] = following.get(value + step, Fraction(0)) + p * share
        law = following
    return law


def hits(law: dict[int, Fraction], m: int, q: int) -> Fraction:
    """Return the probability that a value lies in [−2^m, 2^m) mod q."""
    return sum((p for value, p in law.items() if (value + (1 << m)) % q < 2 << m), Fraction(0))


def test_berry_esseen_leaves_less_than_half() -> None:
    def one_row(factor: float) -> float:
        return (2 / math.sqrt(math.pi) + 4 * BERRY_ESSEEN * math.sqrt(2)) / factor

    assert one_row(FACTOR) < 0.4774
    assert one_row(FACTOR - 1) > 0.5  # no smaller whole factor is proven


def test_a_large_entry_misses_half_of_the_time_whatever_the_others_are() -> None:
    """Case 1 of the projection lemma, exactly, for a small q with wraps."""
    q, m = 61, 2
    for large in range(2 << m, q // 2 + 1):
        for others in itertools.product((0, 1, 7, 15, 29, 30), repeat=2):
            assert hits(ternary_law([large, *others]), m, q) <= Fraction(1, 2)


@pytest.mark.parametrize("count", [21, 22, 40, 81, 150])
def test_equal_entries_of_the_smallest_norm_miss_half_of_the_time(count: int) -> None:
    """Case 2 at its edge: ‖x‖ ≥ 9·2^m, every entry below 2^(m+1)."""
    m = 10
    entry = math.isqrt((FACTOR << m) ** 2 // count) + 1
    assert entry < 2 << m and count * entry**2 >= (FACTOR << m) ** 2
    assert hits(ternary_law([entry] * count), m, Q) < Fraction(1, 2)


def test_rows_of_signs_would_accept_half_integers() -> None:
    """Why the rows are ternary: an even number of entries (q ± 1)/2 is small under all signs, and hits always."""
    q, m = 10007, 4
    x = [(q + 1) // 2, (q - 1) // 2, (q + 1) // 2, (q + 1) // 2]
    signed = [sum(s * e for s, e in zip(signs, x, strict=True)) for signs in itertools.product((1, -1), repeat=4)]
    assert all((value + (1 << m)) % q < 2 << m for value in signed)
    assert hits(ternary_law(x), m, q) == Fraction(1, 2)


@pytest.mark.parametrize("norm_squared", [1, 10**3, 10**6, 2**38])
def test_honest_projections_fit_their_bits(norm_squared: int) -> None:
    m = soundness.projection_bits(norm_squared)
    exponent = (2**m) ** 2 / norm_squared  # 2·exp(−z²/‖x‖²) a row, z = 2^m
    assert math.log2(2 * soundness.PROJECTION_ROWS) - exponent / math.log(2) <= -41


def test_a_ternary_entry_is_subgaussian() -> None:
    for s in (0.01, 0.5, 1.0, 3.0, 10.0):
        assert (1 + math.cosh(s)) / 2 <= math.exp(s * s / 4)


def test_squared_discrete_gaussians_are_below_chi_squared() -> None:
    """√a·Θ(a) grows, so E exp(λX²/σ²) ≤ (1 − 2λ)^(−1/2); at σ = 6.6 the difference is below double precision."""
    for sigma in (0.4, 0.6, 1.0):
        values = [math.sqrt(a) * sum(math.exp(-a * x * x / (2 * sigma**2)) for x in range(-400, 401))
                  for a in (0.02, 0.1, 0.3, 0.6, 1.0)]  # fmt: skip
        assert all(low <= high * (1 + 1e-12) for low, high in itertools.pairwise(values))
    n, x = 4096, 40 * math.log(2)
    assert noise_squared_norm_bound(SIGMA, n) == math.floor(SIGMA**2 * (n + 2 * math.sqrt(n * x) + 2 * x))
    for rate in (0.01, 0.1, 0.3, 0.45):  # the step of Laurent and Massart's proof
        assert -math.log(1 - 2 * rate) / 2 - rate <= rate**2 / (1 - 2 * rate)


@pytest.mark.parametrize(("length", "expansion", "queries"), [(16, 4, 1), (16, 4, 8), (512, 8, 134), (4096, 4, 153)])
def test_degrees_fit_the_responses(length: int, expansion: int, queries: int) -> None:
    shape = Shape(length, expansion * length, queries, Rows(10, 3))
    k, honest, public = shape.degree, length + queries - 1, length - 1  # the last two are degrees
    assert max(2 * honest, public + honest, k - 1, length + k - 1) < shape.linear_degree
    assert 2 * honest - length < k and shape.linear_degree <= shape.length
    # Of any committed rows, and of any response, a linear or product test's difference has degree ≤ 2k' − 2.
    assert max(2 * (k - 1), public + k - 1, length + k - 1, shape.linear_degree - 1) == 2 * k - 2
    # A wrong proximity response: the columns that are no codeword's, and where two polynomials agree.
    assert (shape.length - k) // 2 + k - 1 < (shape.length + k) / 2


def test_distinct_queries_are_no_worse_than_independent_ones() -> None:
    n, t = 64, 9
    for passing in range(t, n):
        assert Fraction(math.comb(passing, t), math.comb(n, t)) <= Fraction(passing, n) ** t


def test_the_terms_are_the_probabilities() -> None:
    shape = Shape(4096, 16384, 153, Rows(492, 1))
    n, k = shape.length, shape.degree
    exact = {
        "projection": Fraction(1, 2**128),
        "share check": Fraction(254, Q**3),
        "linear and norms": Fraction(1, Q**2),
        "products": Fraction(1, Q**2),
        "proximity": Fraction(n, Q) ** 3,
        "undetected columns": Fraction(n, Q**3),
        "queries": max(Fraction(n + k, 2 * n), Fraction(2 * k, n)) ** shape.queries,
        "range lookup": Fraction(10**6, Q**3),
    }
    terms = soundness.soundness_terms(shape, Q, 10**6)
    assert terms.keys() == exact.keys()
    for name, bits in terms.items():
        assert abs(bits + math.log2(exact[name])) < 1e-9, name
    total = sum(exact.values(), Fraction(0))
    assert abs(soundness.total_bits(terms) + math.log2(total)) < 1e-9


@pytest.mark.parametrize(("delta", "honest"), [(6553, 180), (6553, 1638), (100, 0), (1000, 249)])
def test_errors_steer_by_at_most_twice_to_four_times_their_norm(delta: int, honest: int) -> None:
    """|shift| ≤ |e|/(Δ/2 − E) coefficient by coefficient, so the same holds for norms."""
    worst = max(
        Fraction(abs(math.floor(Fraction(e + other, delta) + Fraction(1, 2))), e)
        for e in range(1, 5 * delta)
        for other in (-honest, 0, honest)
    )
    assert worst <= 1 / (Fraction(delta, 2) - honest)
    if 4 * honest < delta:
        assert worst <= Fraction(4, delta)
    assert worst > Fraction(19, 10) / delta  # so that B_e/Δ itself is no bound


def test_a_wrong_key_sum_and_the_count_of_large_residuals() -> None:
    """One chunk of n = N·chunks can be made to fit; of the others about half exceed Δ/4 (docs/proofs/overflow.md)."""
    degree = 2048

    def tail_bits(chunks: int, share: Fraction) -> float:
        free, allowed = (chunks - 1) * degree, share * chunks * degree
        gap = Fraction(free, 2) - allowed
        return float(2 * gap * gap / free) / math.log(2) if gap > 0 else 0.0

    assert tail_bits(2, Fraction(1, 4)) == 0  # two chunks and a quarter: half of all tries pass
    assert tail_bits(2, Fraction(1, 8)) > 369
    assert all(tail_bits(chunks, Fraction(1, 8)) > 369 for chunks in range(2, 50))


def test_root_hermite_factors() -> None:
    """The estimates of docs/proofs/overflow.md, N = 2048: two chunks in range, and N/2 residuals below Δ/4."""
    degree, half_range = 2048, 2**51
    in_range = (half_range / math.sqrt(Q)) ** (1 / (2 * degree))
    assert 1.0042 < in_range < 1.0043
    product = Q / 2  # L·Δ
    residuals = (product**0.25 * 2 / (4 * 2**0.25)) ** (1 / (4 * degree // 2))
    assert 1.0019 < residuals < 1.0020
