"""Parameter sets: constants, their derivation, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest

from secureagg.errors import ParameterError
from secureagg.ring import params
from tests.ring import reference

TOYS = ("INSECURE_N16_Q52", "INSECURE_N64_Q52", "INSECURE_N64_Q104", "INSECURE_N64_Q208")
# 2-, 3- and more-fold pseudoprimes: Carmichael numbers, and the smallest strong pseudoprimes to the first
# 1, 2, 3, 4, 5, 7, 8 and 11 prime bases (OEIS A014233).
COMPOSITES = (
    0, 1, 4, 561, 1729, 2047, 1373653, 25326001, 3215031751, 2152302898747, 341550071728321, 3825123056546413051,
    (1 << 64) - 1, 4294967291 * 4294967279,
)  # fmt: skip


def test_secure_sets_are_those_of_the_security_table() -> None:
    table = {
        name: (ring.degree, len(ring.primes), ring.sigma, ring.security_bits, ring.core_svp_bits)
        for name in params.PARAMETER_NAMES
        for ring in [params.ring_parameters(name)]
    }
    assert table == {
        "N2048_Q52": (2048, 1, 6.6, 137, 110),
        "N4096_Q104": (4096, 2, 6.6, 134, 105),
        "N8192_Q208": (8192, 4, 6.6, 133, 103),
    }


def test_primes_are_the_largest_of_their_kind() -> None:
    assert params.largest_primes(4) == params.PRIMES
    assert all(q % (1 << 18) == 1 and 1 << 51 < q < 1 << 52 for q in params.PRIMES)


@pytest.mark.parametrize("q", params.PRIMES)
def test_primes_have_a_pratt_certificate(q: int) -> None:
    """Lucas: q is prime if some g has order q − 1; q − 1 is factored by trial division."""
    rest, factors = q - 1, set()
    divisor = 2
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            factors.add(divisor)
            rest //= divisor
        divisor += 1
    factors.add(rest)
    orders = (all(pow(g, (q - 1) // p, q) != 1 for p in factors if p > 1) for g in range(2, 100))
    assert any(orders) and pow(2, q - 1, q) == 1


def test_is_prime_agrees_with_a_sieve_and_sees_pseudoprimes() -> None:
    sieve = {n for n in range(2, 3000) if all(n % d for d in range(2, int(n**0.5) + 1))}
    assert {n for n in range(3000) if params.is_prime(n)} == sieve
    assert not any(params.is_prime(n) for n in COMPOSITES)
    assert all(params.is_prime(n) for n in (2**61 - 1, 18446744073709551557, 4294967291))


@pytest.mark.parametrize("q", params.PRIMES)
@pytest.mark.parametrize("order", [2, 32, 4096])
def test_minimal_root_is_the_smallest_of_its_order(q: int, order: int) -> None:
    root = params.minimal_root(q, order)
    assert pow(root, order // 2, q) == q - 1
    assert root == reference.root_of(q, order)


def test_modulus_is_the_product() -> None:
    ring = params.ring_parameters("N8192_Q208")
    assert ring.modulus == params.PRIMES[0] * params.PRIMES[1] * params.PRIMES[2] * params.PRIMES[3]
    assert ring.modulus.bit_length() == 208


@pytest.mark.parametrize("name", TOYS)
def test_toy_sets_need_the_flag(name: str) -> None:
    with pytest.raises(ParameterError, match="allow_insecure"):
        params.ring_parameters(name)
    ring = params.ring_parameters(name, allow_insecure=True)
    assert not ring.is_secure and name not in params.PARAMETER_NAMES


@pytest.mark.parametrize("name", ["N2048_Q54", "n2048_q52", "", "INSECURE_N16"])
def test_unknown_name_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ParameterError, match="N2048_Q52, N4096_Q104, N8192_Q208"):
        params.ring_parameters(name, allow_insecure=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 8}, "16 ≤ N"),
        ({"degree": 2**18}, "N ≤ 131072"),
        ({"degree": 3000}, "power of two"),
        ({"primes": ()}, "distinct"),
        ({"primes": (params.PRIMES[0], params.PRIMES[0])}, "distinct"),
        ({"primes": (params.PRIMES[0] + (1 << 18),)}, "must be a prime"),  # composite
        ({"primes": (4503599627370449,)}, "1 mod 2\\^18"),  # the largest prime below 2^52
        ({"primes": ((1 << 16) + 1,)}, "2\\^51"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"security_bits": 127}, "127 security bits"),
    ],
)
def test_impossible_parameters_are_refused(change: dict[str, object], message: str) -> None:
    ring = params.ring_parameters("N2048_Q52")
    with pytest.raises(ParameterError, match=message):
        dataclasses.replace(ring, **change)  # type: ignore[arg-type]
