"""CKKS parameters from a request: the smallest set that is secure, cannot wrap, and cannot round wrongly.

CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017) in Z_q[X]/(X^N+1), as SEAL implements it. A ciphertext carries N grid
values in its N/2 complex slots, one in the real and one in the imaginary part; only additions happen. Four things must
hold, and `CkksParameters` cannot be made without them:

- security: log2(q·P) ≤ 53, 106, 214 bits for N = 2048, 4096, 8192. These are the caps for ternary secrets and errors
  of 3.2 at 128 bits in the MATZOV cost model, which agree with the community's guidelines (eprint 2024/463). SEAL
  checks its own, older table (54, 109, 218) besides. P, if there is one, is the special prime (below).
- no wrap: 2·(√2·max(R, 2B) + 1)·S < q. A coefficient of the message is at most the largest slot, |Σv|·√2 as a complex
  number, times the scale S; the 1 leaves room for the noise. R = n·B is the largest sum. 2B is for SEAL's encoder,
  which wants two bits to spare on each single message.
- rounding: T·(noise of a slot)/S + R·2^-48 ≤ 1/4 grid step; the second term is float64's. Decryption refuses more.
- everything a grid can hold, see `tenseal_grid`.

Noise. SEAL's errors have variance 10.5 (centred binomial, 21 + 21 bits), its secret s and the encryption's u are
uniform ternary, variance 2/3. A fresh public-key ciphertext e·u + e_0 + e_1·s has coefficients of variance
10.5·(4N/3 + 1), plus 1/12 for rounding the message. With a special prime P, SEAL encrypts modulo q·P and divides by P:
that error shrinks by P and (2N/3 + 1)/12 for rounding (r_0 + r_1·s) is added: N/18 instead of 14·N. Seeded secret-key
ciphertexts have 10.5 + 1/12, less than either. A slot's real or imaginary part sums N coefficients with weights of
mean square 1/2: N/2 times the variance; n clients, n times.

Tail. In one slot the noise is a product, s(ζ)·r_1(ζ), of nearly Gaussian complex numbers, and s, the key, is common to
all clients. So |s(ζ)|² is exponentially distributed about its mean, and given that the noise is Gaussian:
P(|part| > T·std) ≤ E[exp(−T²/(2·Exp(1)))] = √2·T·K_1(√2·T) = 2^-72.3 for T = 37 (a Gaussian would need 10). That is
2^-40 over 2^32 slots. Without P two such terms add, with a lighter tail. Heuristic as all CKKS noise analyses: it
takes the embeddings of random polynomials for Gaussian. A miss is a refused round, never a wrong mean.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from secureagg.errors import ParameterError
from secureagg.he.seal_files import SealObject, seal_context, sealapi
from secureagg.he.tenseal_grid import Grid
from secureagg.wire import Reader, Writer

__all__ = ["CkksParameters", "choose_parameters"]

MODULUS_CAPS = {2048: 53, 4096: 106, 8192: 214}  # bits of q·P for 128 bits of security, by N
_SPECIAL_BITS = {2048: 14, 4096: 16, 8192: 17}  # the narrowest that hold a prime ≡ 1 mod 2N
_MOST_PRIMES = 3  # two of q and a special one: more are never planned
_NARROWEST, _WIDEST = 20, 60  # bits of a prime of q: enough primes exist, and SEAL takes no wider
ERROR_VARIANCE = 21 / 2  # SEAL's sample_poly_cbd; its Gaussian alternative has 3.2² = 10.24
TAIL = 37  # T above
FLOAT_ERROR = 2.0**-48  # see SUM_BITS in tenseal_grid
ROUNDING_LIMIT = 1 / 4  # of a grid step: half of what would round wrongly, so that garbage and bad luck both show

# What SEAL's zstd makes of one b-bit residue in its 64-bit word, in bits, for b = 20 … 60. Whole bytes compress best;
# b ≤ 32 leaves four zero bytes, which zstd stores as matches. Measured with TenSEAL 0.3.18 (SEAL 4), the mean over
# N = 2048 and 4096, and checked to 3 % in tests/he/test_tenseal_parameters.py.
_STORED_BITS = (
    *(26.4, 26.6, 26.5, 26.9, 27.1, 30.8, 33.0, 34.1, 34.3, 34.5, 34.0, 33.5, 33.1),
    *(39.4, 41.9, 43.9, 45.5, 46.8, 47.7, 48.0, 48.1, 49.9, 51.3, 52.4, 53.4, 53.9, 54.3, 54.5, 54.8),
    *(56.4, 57.6, 58.6, 59.5, 60.0, 60.3, 60.3, 60.5, 61.4, 62.2, 62.9, 64.1),
)
_EQUAL_BYTES = 1.1  # up to this factor the faster set wins: a special prime alone makes encryption a third slower


@dataclass(frozen=True)
class CkksParameters:
    """A grid and a CKKS set that carries it. `primes`: q's, then the special prime P if there are two or more.

    Guarantees: all inequalities of the module's docstring. Raises: ParameterError quoting the one that fails.
    """

    grid: Grid
    ring_degree: int
    primes: tuple[int, ...]
    scale_bits: int

    def __post_init__(self) -> None:
        if self.ring_degree not in MODULUS_CAPS:
            raise ParameterError(f"N ∈ {{2048, 4096, 8192}} is required: N={self.ring_degree}")
        widths = [prime.bit_length() for prime in self.primes]
        if not widths or not all(_NARROWEST <= width <= _WIDEST for width in widths[:-1] or widths):
            raise ParameterError(f"one prime of q or more, each of {_NARROWEST} to {_WIDEST} bits, is required")
        if len(self.primes) > _MOST_PRIMES or any(prime % (2 * self.ring_degree) != 1 for prime in self.primes):
            raise ParameterError(f"at most {_MOST_PRIMES} primes, each ≡ 1 mod 2N, are required")
        if self.total_bits > self.modulus_cap:
            raise ParameterError(
                f"log2(q·P) ≤ {self.modulus_cap} is required for N={self.ring_degree}: {self.total_bits} bits"
            )
        if not 1 <= self.scale_bits <= 64:
            raise ParameterError(f"1 ≤ log2 S ≤ 64 is required: {self.scale_bits}")
        if self.rounding_error > ROUNDING_LIMIT:
            raise ParameterError(
                f"{TAIL}·noise/S + R·2^-48 ≤ 1/4 is required: {self.rounding_error:.3g} at S = 2^{self.scale_bits}"
            )
        if self.modulus <= wrap_bound(self.grid) << self.scale_bits:
            raise ParameterError(
                f"2·(√2·max(R, 2B) + 1)·S < q is required: 2^{math.log2(wrap_bound(self.grid)) + self.scale_bits:.1f} "
                f"≥ 2^{math.log2(self.modulus):.1f}"
            )

    @property
    def scale(self) -> float:
        """S, a power of two."""
        return math.ldexp(1.0, self.scale_bits)

    @cached_property
    def modulus(self) -> int:
        """q, the modulus of ciphertexts."""
        return math.prod(self.primes[:-1] or self.primes)

    @cached_property
    def total_bits(self) -> int:
        """Bits of q·P, the modulus of keys, on which security depends."""
        return math.prod(self.primes).bit_length()

    @property
    def modulus_cap(self) -> int:
        """The largest `total_bits` for 128 bits of security."""
        return MODULUS_CAPS[self.ring_degree]

    @cached_property
    def noise_std_grid(self) -> float:
        """Standard deviation of the noise in one decrypted value of the largest sum, in grid steps."""
        special = self.primes[-1] if len(self.primes) > 1 else None
        variance = noise_variance(self.ring_degree, special) * self.ring_degree / 2 * self.grid.clients
        return math.sqrt(variance) / self.scale

    @property
    def rounding_error(self) -> float:
        """How far from an integer a decrypted value can be, in grid steps, but for a chance of 2^-40."""
        return TAIL * self.noise_std_grid + self.grid.sum_bound * FLOAT_ERROR

    @property
    def value_bytes(self) -> float:
        """Expected bytes a value in a public-key contribution, full ciphertexts assumed."""
        return 2 * sum(_STORED_BITS[prime.bit_length() - _NARROWEST] for prime in self.primes[:-1] or self.primes) / 8

    @property
    def seeded_value_bytes(self) -> float:
        """Expected bytes a value in a secret-key contribution: one polynomial of two is a 64-byte seed."""
        return self.value_bytes / 2

    def ciphertexts(self, values: int) -> int:
        """Return how many ciphertexts carry `values` coordinates and the weight."""
        return -(-(values + 1) // self.ring_degree)

    def context(self) -> SealObject:
        """Return SEAL's context. Raises: ParameterError if SEAL refuses the primes."""
        return seal_context(self.ring_degree, self.primes)

    def report(self) -> str:
        """Explain in words and numbers why this set."""
        grid, log_wrap = self.grid, math.log2(wrap_bound(self.grid)) + self.scale_bits
        others = sorted((c for c in _candidates(grid) if c.primes != self.primes), key=lambda c: c.value_bytes)
        weights = "uniform weights" if grid.max_weight == 1 else f"weights in [1, {grid.max_weight:g}]"
        lines = [
            f"CKKS for {grid.clients} clients, |value| ≤ {grid.magnitude:g}, precision {grid.precision:g}, {weights}",
            f"  grid      step 2^{math.log2(grid.step):.0f} = {grid.step:.3g}; "
            f"error of the mean ≤ {grid.mean_error:.3g} ≤ {grid.precision:g}, then exact",
            f"  sum       |Σv| ≤ {grid.clients} · {grid.contribution_bound} = 2^{math.log2(grid.sum_bound):.1f} steps",
            f"  noise     std {self.noise_std_grid:.2g} grid steps at scale 2^{self.scale_bits}; "
            f"{TAIL} std + float64 = {self.rounding_error:.2g} ≤ 1/4 (exceeded with probability < 2^-40)",
            f"  no wrap   2·(√2·max(R, 2B) + 1)·S = 2^{log_wrap:.1f} < q = 2^{math.log2(self.modulus):.1f}",
            f"  security  N = {self.ring_degree}: {self.total_bits} of at most {self.modulus_cap} bits of modulus "
            "for 128 bits (MATZOV cost model, eprint 2024/463)",
            f"  bytes     {self.value_bytes:.1f} a value with the public key, {self.seeded_value_bytes:.1f} seeded, "
            f"with the secret key; at least {self.ring_degree * self.value_bytes / 1024:.0f} KiB a contribution",
            f"  chosen    {self.summary()}",
            *(f"  next      {other.summary()}" for other in others[:3]),
            f"  because   of the sets within {_EQUAL_BYTES - 1:.0%} of the fewest bytes it is the fastest",
        ]
        return "\n".join(lines)

    def summary(self) -> str:
        """Return the set in one line."""
        widths = [prime.bit_length() for prime in self.primes]
        special = f" and a special prime of {widths[-1]}" if len(widths) > 1 else ""
        modulus = " + ".join(map(str, widths[:-1] or widths))
        return f"N = {self.ring_degree}, q of {modulus} bits{special}: {self.value_bytes:.1f} bytes a value"

    def write(self, writer: Writer) -> None:
        """Append the grid (28 bytes), N (4), log2 S (1), the number of primes (1) and each prime (8)."""
        self.grid.write(writer)
        writer.integer(self.ring_degree, 4).integer(self.scale_bits, 1).integer(len(self.primes), 1)
        for prime in self.primes:
            writer.integer(prime, 8)

    @classmethod
    def read(cls, reader: Reader) -> CkksParameters:
        """Read what `write` wrote. Raises: EncodingError if an inequality fails.

        No context is made: that takes SEAL milliseconds and stays in memory, whoever sent this.
        """
        grid, ring_degree, scale_bits = Grid.read(reader), reader.integer(4), reader.integer(1)
        primes = tuple(reader.integer(8) for _ in range(reader.integer(1)))
        try:
            return cls(grid, ring_degree, primes, scale_bits)
        except ParameterError as error:
            raise reader.error(str(error)) from error


def choose_parameters(clients: int, magnitude: float, precision: float, max_weight: float = 1.0) -> CkksParameters:
    """Return the set with the fewest bytes a value; within 10 %, the fastest: fewest primes, then smallest ring.

    Raises: ParameterError if the request fits no set, quoting the inequality. MissingExtraError without TenSEAL.
    """
    grid = Grid(operator.index(clients), float(magnitude), float(precision), float(max_weight))
    candidates = list(_candidates(grid))
    # A grid's sums stay below 2^45, its noise below 2^34: two primes at N = 4096 carry any, so there is a candidate.
    fewest = min(candidate.value_bytes for candidate in candidates)
    near = (candidate for candidate in candidates if candidate.value_bytes <= _EQUAL_BYTES * fewest)
    return min(near, key=lambda candidate: (len(candidate.primes), candidate.ring_degree))


def noise_variance(ring_degree: int, special: int | None) -> float:
    """Return the variance of a coefficient's noise in a fresh public-key ciphertext, derived above."""
    encryption = ERROR_VARIANCE * (4 * ring_degree / 3 + 1)
    if special is None:
        return encryption + 1 / 12
    return encryption / special**2 + (2 * ring_degree / 3 + 1) / 12 + 1 / 12


def wrap_bound(grid: Grid) -> int:
    """Return an integer just above 2·(√2·max(R, 2B) + 1), what q/S must exceed."""
    largest = max(grid.sum_bound, 2 * grid.contribution_bound)
    return math.isqrt(8 * largest**2) + 3


def _candidates(grid: Grid) -> Iterator[CkksParameters]:
    """Yield the smallest modulus that works, for each ring: one prime; one or two primes and a special one."""
    seal = sealapi()
    for ring_degree, cap in MODULUS_CAPS.items():
        for special in ((), (_SPECIAL_BITS[ring_degree],)):
            for count in (1, 2) if special else (1,):
                scale_bits = _scale_bits(grid, ring_degree, special)
                modulus_bits = (wrap_bound(grid) << scale_bits).bit_length()
                for bits in (modulus_bits, modulus_bits + 1):  # the primes lie just below their powers of two
                    widths = [max(_NARROWEST, (bits + k) // count) for k in range(count)]
                    if max(widths) > _WIDEST or sum(widths) + sum(special) > cap:
                        continue
                    primes = tuple(m.value() for m in seal.CoeffModulus.Create(ring_degree, [*widths, *special]))
                    if math.prod(primes[:count]) > wrap_bound(grid) << scale_bits:
                        yield CkksParameters(grid, ring_degree, primes, scale_bits)
                        break


def _scale_bits(grid: Grid, ring_degree: int, special: tuple[int, ...]) -> int:
    """Return log2 of the smallest scale at which the rounding inequality holds."""
    smallest_special = (1 << special[0] - 1) if special else None
    std = math.sqrt(noise_variance(ring_degree, smallest_special) * ring_degree / 2 * grid.clients)
    return math.ceil(math.log2(TAIL * std / (ROUNDING_LIMIT - grid.sum_bound * FLOAT_ERROR)))
