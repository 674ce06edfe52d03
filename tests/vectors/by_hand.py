"""What the verifier computes by hand: the numbers that follow from a plan, expansions, the ring, and the field F_p.

Written from docs/wire-format.md, with the symbols of docs/protocol.md. Slow and by definition; shares no code with the
library.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Any

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

PRIMES = (4503599626321921, 4503599625535489, 4503599615311873, 4503599613214721)
SETS = {  # name: (N, number of primes)
    "N2048_Q52": (2048, 1),
    "N4096_Q104": (4096, 2),
    "N8192_Q208": (8192, 4),
    "INSECURE_N16_Q52": (16, 1),
    "INSECURE_N64_Q52": (64, 1),
    "INSECURE_N64_Q104": (64, 2),
    "INSECURE_N64_Q208": (64, 4),
}
SIGMA = Decimal("6.6")
DTYPES = {0: "e", 1: "f", 2: "d"}  # float16, float32, float64 as struct's codes


class Refused(Exception):
    """A vector is not what it claims to be."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Refused(reason)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def le(value: int, width: int) -> bytes:
    return value.to_bytes(width, "little")


def labelled(label: bytes) -> bytes:
    return le(len(label), 4) + label


class Fields:
    """Reads fixed-width fields off bytes; `end` refuses what is left over."""

    def __init__(self, encoded: bytes, what: str) -> None:
        self.encoded, self.what, self.at = encoded, what, 0

    def raw(self, length: int) -> bytes:
        require(self.at + length <= len(self.encoded), f"{self.what}: truncated")
        self.at += length
        return self.encoded[self.at - length : self.at]

    def integer(self, width: int) -> int:
        return int.from_bytes(self.raw(width), "little")

    def start(self, magic: bytes) -> None:
        require(self.raw(4) == magic, f"{self.what}: magic")
        require(self.integer(1) == 1, f"{self.what}: version")

    def end(self) -> None:
        require(self.at == len(self.encoded), f"{self.what}: trailing bytes")


# Derived numbers


def error_bound(contributions: int, coefficients: int, sigma: Decimal = SIGMA, bits: int = 40) -> int:
    """The smallest E with 2m·exp(−(E+1)²/2nσ²) ≤ 2^-bits."""
    with localcontext() as context:
        context.prec = 80
        square = 2 * contributions * sigma**2 * (Decimal(2 * coefficients).ln() + bits * Decimal(2).ln())
        bound = int(square.sqrt())
    return bound - 1 if Decimal(bound) ** 2 >= square else bound


def square_bound(sigma: Decimal, values: int, bits: int) -> int:
    """⌊σ²·(n + 2√(n·x) + 2x)⌋, x = bits·ln 2: of the squared norm of n discrete Gaussians."""
    with localcontext() as context:
        context.prec = 60
        n, x = Decimal(values), bits * Decimal(2).ln()
        return int(sigma**2 * (n + 2 * (n * x).sqrt() + 2 * x))


def skellam_bound(variance: float, values: int, bits: int = 40) -> int:
    """The smallest T with 2d·exp(√(v² + T²) − v − T·asinh(T/v)) ≤ 2^-bits: Chernoff's of a Skellam of variance v."""
    log = math.log(2 * values) + bits * math.log(2)
    return next(
        T
        for T in itertools.count(1)
        if T * math.asinh(T / variance) - (math.sqrt(variance**2 + T**2) - variance) >= log
    )


def skellam_square_bound(variance: float, values: int, bits: int) -> int:
    """⌊d·v + b + √(b² + 2d·(3v² + v)·x)⌋ + 1, x = (bits + 1)·ln 2, b = T²·x/3, T at 2^-(bits + 1): Bernstein's."""
    x, T = (bits + 1) * math.log(2), skellam_bound(variance, values, bits + 1)
    b = T**2 * x / 3
    return int(values * variance + b + math.sqrt(b**2 + 2 * values * (3 * variance**2 + variance) * x)) + 1


def wide_enough(revealed: int) -> bool:
    """σ ≥ 2√2·η, η² = ln(2·revealed·(1 + 2^128)) / 2π²."""
    with localcontext() as context:
        context.prec = 80
        pi = Decimal("3.14159265358979323846264338327950288419716939937510582097494459")
        return 8 * Decimal(2 * revealed * (1 + 2**128)).ln() / (2 * pi**2) <= SIGMA**2


def is_prime(n: int) -> bool:
    return n > 1 and all(n % k for k in range(2, math.isqrt(n) + 1))


@dataclass(frozen=True)
class Frame:
    first_chunk: int
    chunks: int
    n: int
    start: int
    size: int


class Plan:
    """Everything that follows from the plan's canonical JSON; symbols of docs/protocol.md."""

    def __init__(self, encoded: bytes) -> None:
        fields: dict[str, Any] = json.loads(encoded)
        canonical = json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()
        require(canonical == encoded, "plan: not in canonical form")
        require(fields["format"] == "secureagg plan v1", "plan: format")
        self.encoded = encoded
        self.layout = bytes.fromhex(fields["layout"])
        self.tensors = self._tensors()
        self.d = sum(size for _, size in self.tensors)
        self.n_max, self.quorum, self.max_weight = fields["clients"], fields["quorum"], fields["max_weight"]
        self.C = 2 ** (fields["value_bits"] - 1) - 1
        self.clip = float.fromhex(fields["l2_clip"])
        self.x_max = self.clip if fields["value_bound"] is None else float.fromhex(fields["value_bound"])
        self.k, self.t = fields["committee"]["size"], fields["committee"]["threshold"]
        self.mode: str = fields["committee"]["mode"]
        self.corrupt_members: int = fields["committee"]["assumed_corrupt"]
        self.corrupt_clients: int = fields["assumed_corrupt_clients"]
        require(3 * self.t > 2 * self.k + self.corrupt_members, "plan: 3t > 2k + c")
        require(self.quorum >= 2 + self.corrupt_clients, "plan: quorum")
        self._noise(fields["noise"])
        self.N, primes = SETS[fields["parameters"]]
        self.primes = PRIMES[:primes]
        self.q = math.prod(self.primes)
        self._pack()
        self._share()
        self.header = 137 + 32 * (len(self.frames) + self.k) + self.check_size
        self.box = self.share_size + 16
        self.contribution = self.header + self.ciphertext + self.k * self.box

    def _tensors(self) -> list[tuple[str, int]]:
        fields = Fields(self.layout, "layout")
        tensors = []
        for _ in range(fields.integer(4)):
            code = fields.integer(1)
            require(code in DTYPES, "layout: dtype")
            tensors.append((DTYPES[code], math.prod(fields.integer(8) for _ in range(fields.integer(1)))))
        fields.end()
        return tensors

    def _noise(self, noise: dict[str, Any] | None) -> None:
        """Who adds noise, how many may contribute, and T: what the noise inside the sum stays within."""
        self.noise_by: str | None = None if noise is None else noise["noise_by"]
        self.a = self.n_max + (self.k if self.noise_by == "committee" else 0)
        self.T = 0
        if noise is None:
            return
        require(self.max_weight == 1, "plan: noise with weights")
        by, law, sigma = self.noise_by, noise["mechanism"], float.fromhex(noise["noise_std_grid"])
        laws = {"central-gaussian"} if by == "aggregator" else {"distributed-gaussian", "skellam"}
        require(by in ("clients", "committee", "aggregator") and law in laws, "plan: who adds the noise")
        parties = {"clients": self.n_max, "committee": self.k}.get(str(by), 0)
        if law == "skellam":
            self.T = skellam_bound(parties * sigma**2, self.d)
        elif law == "distributed-gaussian":
            self.T = error_bound(parties, self.d, Decimal(repr(sigma)))

    def _pack(self) -> None:
        """L, W, f, Δ, E, J, frames."""
        self.L = max(self.n_max * self.C + self.T, self.n_max * self.max_weight)
        self.W = self.L.bit_length() + 1
        candidates = (self._scale(f) for f in range(self.q.bit_length() // self.W, 0, -1))
        self.f, self.delta = next((c for c in candidates if c[1]), (0, 0))
        require(self.f > 0, "plan: no packing fits")
        needed = -(-(self.d + 1) // self.f)
        self.J = -(-needed // self.N)
        self.keys = next(c for c in range(1, self.J + 1) if wide_enough(self.N * (1 + -(-self.J // c))))
        self.step = -(-self.J // self.keys)  # chunks a key
        whole = self.N if needed < self.N or self.keys > 1 else 16
        self.coefficients = -(-needed // whole) * whole
        self.E = error_bound(self.a, self.coefficients)
        full, rest = divmod(self.coefficients, self.N)
        run = max(1, 2**16 // (self.N * len(self.primes)))
        shapes = [(first, min(run, full - first), self.N) for first in range(0, full, run)]
        shapes += [(full, 1, rest)] if rest else []
        self.frames: list[Frame] = []
        self.ciphertext = 0
        for first, chunks, n in shapes:
            size = chunks * len(self.primes) * n * 52 // 8
            self.frames.append(Frame(first, chunks, n, self.ciphertext, size))
            self.ciphertext += size

    def _scale(self, f: int) -> tuple[int, int]:
        """(f, Δ) for f fields a coefficient, Δ = 0 if they do not fit: Δ > 2E and 2Δ·M + Δ/2 + E < q."""
        message = sum(self.L << self.W * k for k in range(f))
        bound = error_bound(self.a, (self.d + 1) // f + self.N)
        delta = min(2 * (self.q - 1 - bound) // (4 * message + 1), 2**31)
        return f, delta if delta > 2 * bound else 0

    def _share(self) -> None:
        """p, R and the sizes of what is packed in F_p."""
        self.secrets = self.keys * self.N
        self.p = max(2 * error_bound(self.a, self.secrets), self.k) + 1
        while not is_prime(self.p):
            self.p += 1
        self.R = next(r for r in itertools.count(1) if self.p**r >= 2**104)
        self.width = (self.p - 1).bit_length()
        self.share_size, self.check_size, self.answer_size = (
            -(-count * self.width // 8) for count in (self.secrets + self.R, self.R * self.t, self.secrets)
        )

    def coordinate(self, frame: Frame, chunk: int, k: int, i: int) -> int:
        """The coordinate in field k of coefficient i of a frame's chunk."""
        return frame.first_chunk * self.N * self.f + (chunk * self.f + k) * frame.n + i


# Expansions, the ring, the field


def words(sid: bytes, label: str, first: int, count: int) -> list[int]:
    """Words first, first + 1, … of PublicExpansion(sid, label)."""
    key = sha256(b"secureagg/xof/v1", le(len(label), 8), label.encode(), le(len(sid), 8), sid)
    encryptor = Cipher(algorithms.AES(key), modes.CTR((first // 2).to_bytes(16, "big"))).encryptor()
    stream = encryptor.update(bytes(16 + 8 * count))[8 * (first % 2) :]
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(count)]


def public_residue(sid: bytes, label: str, position: int, q: int) -> int:
    """Residue number `position`: its word cut to 52 bits, or else the first of its spare words below q."""
    pairs = (words(sid, label, at, 2) for at in itertools.count(2 * ((1 << 127) + (position << 32)), 2))
    candidates = itertools.chain(words(sid, label, position, 1), itertools.chain.from_iterable(pairs))
    return next(residue for residue in (word % 2**52 for word in candidates) if residue < q)


def public_row(plan: Plan, sid: bytes, j: int, p: int) -> list[int]:
    """a_j mod prime p, in NTT form."""
    first, q = (j * len(plan.primes) + p) * plan.N, plan.primes[p]
    row = [word % 2**52 for word in words(sid, "public polynomials", first, plan.N)]
    return [x if x < q else public_residue(sid, "public polynomials", first + i, q) for i, x in enumerate(row)]


def root(q: int, order: int) -> int:
    """The smallest primitive root of unity of this order, a power of two."""
    base = next(g for g in itertools.count(2) if pow(g, (q - 1) // 2, q) == q - 1)
    generator = pow(base, (q - 1) // order, q)
    square, power, smallest = generator * generator % q, generator, generator
    for _ in range(order // 2 - 1):
        power = power * square % q
        smallest = min(smallest, power)
    return smallest


def forward(a: list[int], powers: list[int], exponent: int, q: int) -> list[int]:
    """Values of a polynomial mod X^n − ψ^exponent at its zeros: split into X^(n/2) ∓ ψ^(exponent/2)."""
    if len(a) == 1:
        return a
    half, low, high = powers[exponent // 2], a[: len(a) // 2], a[len(a) // 2 :]
    left = [(x + half * y) % q for x, y in zip(low, high, strict=True)]
    right = [(x - half * y) % q for x, y in zip(low, high, strict=True)]
    return forward(left, powers, exponent // 2, q) + forward(right, powers, exponent // 2 + len(powers) // 2, q)


def backward(values: list[int], powers: list[int], exponent: int, q: int) -> list[int]:
    """The inverse of `forward`."""
    if len(values) == 1:
        return values
    middle = len(values) // 2
    left = backward(values[:middle], powers, exponent // 2, q)
    right = backward(values[middle:], powers, exponent // 2 + len(powers) // 2, q)
    half, two = pow(2, -1, q), pow(2 * powers[exponent // 2], -1, q)
    return [(x + y) * half % q for x, y in zip(left, right, strict=True)] + [
        (x - y) * two % q for x, y in zip(left, right, strict=True)
    ]


def mask(plan: Plan, sid: bytes, key: list[int], j: int, p: int) -> list[int]:
    """a_j·s mod prime p, s the key of chunk j."""
    q, n = plan.primes[p], plan.N
    psi = root(q, 2 * n)
    powers = list(itertools.accumulate(range(2 * n - 1), lambda x, _: x * psi % q, initial=1))
    s = key[j // plan.step * n :][:n]
    values = forward([x % q for x in s], powers, n, q)
    return backward([x * y % q for x, y in zip(values, public_row(plan, sid, j, p), strict=True)], powers, n, q)


def unpack(packed: bytes, width: int, count: int, limit: int, what: str) -> list[int]:
    """Integers of `width` bits, least significant bit first, each below `limit`, zero bits behind them."""
    number = int.from_bytes(packed, "little")
    require(number >> width * count == 0, f"{what}: padding bits")
    out = [number >> width * i & ((1 << width) - 1) for i in range(count)]
    require(max(out) < limit, f"{what}: not in canonical form")
    return out


Rows = dict[tuple[int, int], list[int]]  # (chunk, prime): residues


def residues(plan: Plan, ciphertext: bytes, what: str) -> Rows:
    """All chunks of a ciphertext, prime by prime."""
    rows: Rows = {}
    for frame in plan.frames:
        size = frame.n * 52 // 8
        for row in range(frame.chunks * len(plan.primes)):
            chunk, p = divmod(row, len(plan.primes))
            piece = ciphertext[frame.start + row * size :][:size]
            rows[frame.first_chunk + chunk, p] = unpack(piece, 52, frame.n, plan.primes[p], what)
    return rows


def add(plan: Plan, terms: list[Rows]) -> Rows:
    return {
        at: [sum(column) % plan.primes[at[1]] for column in zip(*(term[at] for term in terms), strict=True)]
        for at in terms[0]
    }


def centred(x: int, modulus: int) -> int:
    return x - modulus if x > modulus // 2 else x


def lift(plan: Plan, parts: tuple[int, ...]) -> int:
    """The integer in (−q/2, q/2) with these residues."""
    total = 0
    for x, prime in zip(parts, plan.primes, strict=True):
        rest = plan.q // prime
        total += x * rest * pow(rest, -1, prime)
    return centred(total % plan.q, plan.q)


def decode(plan: Plan, sid: bytes, total: Rows, key: list[int], limit: int, bound: int, what: str) -> list[int]:
    """The d + 1 coordinates under a sum of ciphertexts: y = Σe + Δ·Σ_k 2^(Wk)·v_k, |Σe| ≤ bound, |v_k| ≤ limit."""
    out = [0] * (plan.coefficients * plan.f)
    for frame in plan.frames:
        for chunk in range(frame.chunks):
            j = frame.first_chunk + chunk
            rows = []
            for p, q in enumerate(plan.primes):
                masks = mask(plan, sid, key, j, p)
                rows.append([(c - a) % q for c, a in zip(total[j, p], masks, strict=False)])
            for i, parts in enumerate(zip(*rows, strict=True)):
                y = lift(plan, parts)
                message = (2 * y + plan.delta) // (2 * plan.delta)
                require(abs(y - plan.delta * message) <= bound, f"{what}: residual beyond the noise bound")
                for k in range(plan.f):
                    value = (message + 2 ** (plan.W - 1)) % 2**plan.W - 2 ** (plan.W - 1)
                    require(abs(value) <= limit, f"{what}: field beyond its limit")
                    out[plan.coordinate(frame, chunk, k, i)] = value
                    message = (message - value) >> plan.W
                require(message == 0, f"{what}: message beyond its fields")
    require(not any(out[plan.d + 1 :]), f"{what}: padding is not zero")
    return out[: plan.d + 1]


def interpolate(plan: Plan, points: dict[int, list[int]], at: int) -> list[int]:
    """The polynomials through values at `points`, at `at`, mod p."""
    total = [0] * len(next(iter(points.values())))
    for x, values in points.items():
        coefficient = 1
        for other in points:
            if other != x:
                coefficient = coefficient * (at - other) * pow(x - other, -1, plan.p) % plan.p
        total = [(a + coefficient * b) % plan.p for a, b in zip(total, values, strict=True)]
    return total
