"""Named ring parameters: R_q = Z_q[X]/(X^N + 1), with the security each set was estimated to have.

Every modulus is a product of primes just below 2^52 with q ≡ 1 mod 2^18, so that one prime serves the ring (2N
divides q − 1 for N ≤ 2^17) and the Reed–Solomon code of the proofs. Only a set that has a security figure can be
named without `allow_insecure`.

Security figures: malb/lattice-estimator of November 2026, minimum over primal uSVP, BDD, dual hybrid and hybrid
attacks with unlimited samples. The 128-bit claim rests on the MATZOV cost model (the estimator's default), as in the
community's guidelines of 2024 (Bossuat et al., eprint 2024/463); the very conservative ADPS16 core-SVP figure stands
beside it. They hold for secret and error of standard deviation 3.2, which is what is left of σ = 6.6 after the sums
of all keys and all errors have become public (Kim, Lee, Seo, Song, CRYPTO 2023, eprint 2023/623: a Hint-MLWE sample
is as hard as RLWE of width σ/2 as long as σ ≥ 2√2·η; the 3.3 this leaves is rounded down).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

from secureagg.errors import ParameterError

__all__ = [
    "MAX_DEGREE",
    "MIN_DEGREE",
    "PARAMETER_NAMES",
    "PRIMES",
    "PRIME_BITS",
    "SIGMA",
    "RingParameters",
    "check_primes",
    "is_prime",
    "largest_primes",
    "minimal_root",
    "ring_parameters",
]

PRIME_BITS = 52
_ORDER_BITS = 18
MAX_DEGREE = 1 << (_ORDER_BITS - 1)  # 2N divides 2^18
MIN_DEGREE = 16  # residues travel in groups of 16, and the kernels merge the first three levels

PRIMES = (4503599626321921, 4503599625535489, 4503599615311873, 4503599613214721)  # largest_primes(4)

SIGMA = 6.6  # of every secret and every error: 2√2·η = 6.59 at 5·10^7 revealed coefficients and 2^-128
_REQUIRED_BITS = 128


@dataclass(frozen=True)
class RingParameters:
    """R_q of degree N = `degree` over q = Π `primes`, with keys and errors of standard deviation `sigma`.

    `security_bits` is the classical MATZOV figure, `core_svp_bits` the ADPS16 one; both 0 for a toy set.

    Requires: N a power of two in [16, 2^17]; distinct primes in (2^51, 2^52), each ≡ 1 mod 2^18; at least 128
    security bits, unless the name contains INSECURE.
    """

    name: str
    degree: int
    primes: tuple[int, ...]
    sigma: float
    security_bits: int
    core_svp_bits: int

    def __post_init__(self) -> None:
        n = self.degree
        if not MIN_DEGREE <= n <= MAX_DEGREE or n & (n - 1):
            raise ParameterError(f"{self.name}: N = {n} must be a power of two, {MIN_DEGREE} ≤ N ≤ {MAX_DEGREE}")
        check_primes(self.primes)
        if not (math.isfinite(self.sigma) and self.sigma > 0):
            raise ParameterError(f"{self.name}: sigma = {self.sigma} must be positive and finite")
        if self.security_bits < _REQUIRED_BITS and self.is_secure:
            raise ParameterError(f"{self.name}: {self.security_bits} security bits, at least {_REQUIRED_BITS} needed")

    @property
    def is_secure(self) -> bool:
        """Whether the set may hold anything private; false exactly for the toy sets."""
        return "INSECURE" not in self.name

    @cached_property
    def modulus(self) -> int:
        """q, the product of the primes."""
        return math.prod(self.primes)


@lru_cache(maxsize=64)
def check_primes(primes: tuple[int, ...]) -> None:
    """Raise ParameterError unless these are distinct primes in (2^51, 2^52), each ≡ 1 mod 2^18."""
    if not primes or len(set(primes)) != len(primes):
        raise ParameterError(f"the modulus needs one or more distinct primes, not {primes}")
    for q in primes:
        if not 1 << (PRIME_BITS - 1) < q < 1 << PRIME_BITS or q % (1 << _ORDER_BITS) != 1 or not is_prime(q):
            raise ParameterError(f"{q} must be a prime with 2^51 < q < 2^52 and q ≡ 1 mod 2^18")


def is_prime(n: int) -> bool:
    """Return whether n is prime.

    Requires: n < 2^64. Miller–Rabin with the first twelve primes as bases has no pseudoprime below 3.1·10^23
    (Sorenson and Webster, Math. Comp. 86, 2017), so the answer is exact.
    """
    bases = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)
    if n < 2 or any(n % p == 0 for p in bases):
        return n in bases
    twos = ((n - 1) & (1 - n)).bit_length() - 1
    odd = (n - 1) >> twos
    return all(_passes_miller_rabin(n, base, odd, twos) for base in bases)


def _passes_miller_rabin(n: int, base: int, odd: int, twos: int) -> bool:
    x = pow(base, odd, n)
    if x in (1, n - 1):
        return True
    for _ in range(twos - 1):
        x = x * x % n
        if x == n - 1:
            return True
    return False


def largest_primes(count: int) -> tuple[int, ...]:
    """Return the `count` largest primes below 2^52 that are 1 mod 2^18, in falling order."""
    found: list[int] = []
    candidate = (1 << PRIME_BITS) + 1
    while len(found) < count:
        candidate -= 1 << _ORDER_BITS
        if is_prime(candidate):
            found.append(candidate)
    return tuple(found)


@lru_cache(maxsize=64)
def minimal_root(prime: int, order: int) -> int:
    """Return the smallest primitive root of unity of this order mod `prime`, the one SEAL chooses
    (`try_minimal_primitive_root` in SEAL's numth.cpp).

    Requires: `order` a power of two that divides prime − 1.
    """
    if order < 2 or order & (order - 1) or (prime - 1) % order:
        raise ParameterError(f"no primitive root of order {order} mod {prime}: need a power of two dividing q − 1")
    base = 2
    while pow(base, (prime - 1) // 2, prime) != prime - 1:  # a non-residue generates the 2-part
        base += 1
    root = pow(base, (prime - 1) // order, prime)
    square, smallest = root * root % prime, root
    for _ in range(order // 2 - 1):  # every primitive root is an odd power of one of them
        root = root * square % prime
        smallest = min(smallest, root)
    return smallest


def _sets() -> dict[str, RingParameters]:
    secure = [
        RingParameters("N2048_Q52", 2048, PRIMES[:1], SIGMA, security_bits=137, core_svp_bits=110),
        RingParameters("N4096_Q104", 4096, PRIMES[:2], SIGMA, security_bits=134, core_svp_bits=105),
        RingParameters("N8192_Q208", 8192, PRIMES[:4], SIGMA, security_bits=133, core_svp_bits=103),
    ]
    toys = [
        RingParameters(f"INSECURE_N{degree}_Q{PRIME_BITS * count}", degree, PRIMES[:count], SIGMA, 0, 0)
        for degree, count in ((16, 1), (64, 1), (64, 2), (64, 4))
    ]
    return {ring.name: ring for ring in secure + toys}


_SETS = _sets()
PARAMETER_NAMES = tuple(name for name, ring in _SETS.items() if ring.is_secure)


def ring_parameters(name: str, *, allow_insecure: bool = False) -> RingParameters:
    """Return the parameter set of this name.

    Raises: ParameterError for a name that is not in the security table, and for a toy set (N = 16 or 64, for tests)
    without `allow_insecure=True`.
    """
    if name not in _SETS:
        raise ParameterError(f"no parameter set is called {name!r}; there are {', '.join(PARAMETER_NAMES)}")
    ring = _SETS[name]
    if not ring.is_secure and not allow_insecure:
        raise ParameterError(f"{name} is a toy set without any security; tests pass allow_insecure=True")
    return ring
