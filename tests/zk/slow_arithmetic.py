"""What the slow verifier computes with: expansions, the transcript, the two domains, polynomials, the cubic extension.

By definition, in Python integers; no code of the library.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from functools import lru_cache
from operator import mul

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Row = list[int]
Cubic = tuple[int, int, int]  # of F_q[Y]/(Y³ − 7)


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise ValueError(reason)


def le(value: int, width: int = 8) -> bytes:
    return value.to_bytes(width, "little")


def words_bytes(values: Sequence[int]) -> bytes:
    return b"".join(map(le, values))


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


# Expansions and the transcript


def expansion_key(sid: bytes, label: str) -> bytes:
    return sha256(b"secureagg/xof/v1", le(len(label.encode())), label.encode(), le(len(sid)), sid)


def words(key: bytes, first: int, count: int) -> Row:
    encryptor = Cipher(algorithms.AES(key), modes.CTR((first // 2).to_bytes(16, "big"))).encryptor()
    stream = encryptor.update(bytes(8 * (count + 2)))[8 * (first % 2) :]
    return [int.from_bytes(stream[8 * i : 8 * i + 8], "little") for i in range(count)]


def residues(key: bytes, first: int, count: int, q: int) -> Row:
    """Words cut to 52 bits; where that is not below q, the first spare word of that position that is."""
    drawn = [word % 2**52 for word in words(key, first, count)]
    for i in range(count):
        spare = 2 * (2**127 + (first + i) * 2**32)
        while drawn[i] >= q:
            drawn[i] = words(key, spare, 1)[0] % 2**52
            spare += 1
    return drawn


def field_elements(seed: bytes, label: str, count: int, q: int) -> Row:
    return residues(expansion_key(seed, "field/" + label), 0, count, q)


class Transcript:
    def __init__(self, label: bytes) -> None:
        self.state = sha256(b"secureagg/zk/transcript/v1", le(len(label)), label)

    def absorb(self, label: bytes, *parts: bytes) -> None:
        item = b"".join(parts)
        self.state = sha256(self.state, b"absorb", le(len(label)), label, le(len(item)), item)

    def challenge(self, label: bytes) -> bytes:
        drawn = sha256(self.state, b"challenge", le(len(label)), label)
        self.state = sha256(self.state, b"advance", le(len(label)), label)
        return drawn


# Domains, polynomials, the cubic extension


@lru_cache
def domain(q: int, size: int) -> list[int]:
    """The zeros of X^size + 1: ψ^(2·rev(k) + 1) at k, with ψ the smallest primitive root of order 2·size."""
    base = next(g for g in itertools.count(2) if pow(g, (q - 1) // 2, q) == q - 1)
    some = pow(base, (q - 1) // (2 * size), q)
    psi = min(pow(some, odd, q) for odd in range(1, 2 * size, 2))
    width = size.bit_length() - 1
    return [pow(psi, 2 * int(f"{k:0{width}b}"[::-1], 2) + 1, q) for k in range(size)]


def horner(coefficients: Sequence[int], x: int, q: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % q
    return value


def lagrange(q: int, size: int, x: int) -> Row:
    """Λ_k(x) of the points h_k with h^size = −1: Z(x)/(Z'(h_k)·(x − h_k)), and Z'(h) = size·h^(size − 1)."""
    scale = (pow(x, size, q) + 1) * pow(-size, -1, q) % q
    return [scale * h * pow(x - h, -1, q) % q for h in domain(q, size)]


def dot(left: Sequence[int], right: Sequence[int]) -> int:
    require(len(left) == len(right), "lengths differ")
    return sum(map(mul, left, right))


def coefficients_of(values: Row, q: int) -> Row:
    """The polynomial of degree < N with these values at the zeros of X^N + 1."""
    size = len(values)
    inverses = [pow(x, -1, q) for x in domain(q, size)]
    return [dot(values, [pow(x, i, q) for x in inverses]) * pow(size, -1, q) % q for i in range(size)]


def times(a: Cubic, b: Cubic, q: int) -> Cubic:
    low = [a[0] * b[0], a[0] * b[1] + a[1] * b[0], a[0] * b[2] + a[1] * b[1] + a[2] * b[0]]
    high = [a[1] * b[2] + a[2] * b[1], a[2] * b[2]]  # Y³ = 7
    return (low[0] + 7 * high[0]) % q, (low[1] + 7 * high[1]) % q, low[2] % q


def invert(a: Cubic, q: int) -> Cubic:
    """The product of the two conjugates, Y → ωY and ω²Y with ω³ = 1, over the norm."""
    omega = next(r for r in (pow(g, (q - 1) // 3, q) for g in itertools.count(2)) if r != 1)
    square = omega * omega % q
    conjugates = times((a[0], omega * a[1] % q, square * a[2] % q), (a[0], square * a[1] % q, omega * a[2] % q), q)
    norm = times(a, conjugates, q)
    require(norm[0] != 0 and norm[1:] == (0, 0), "lookup: α is in the table")
    inverse = pow(norm[0], -1, q)
    return conjugates[0] * inverse % q, conjugates[1] * inverse % q, conjugates[2] * inverse % q
