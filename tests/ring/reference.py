"""The same mathematics in plain Python integers, slowly and by definition; shares no code with the kernels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def bit_reverse(k: int, bits: int) -> int:
    """Return k with its lowest `bits` bits in reverse order."""
    return int(format(k, f"0{bits}b")[::-1], 2)


def root_of(q: int, order: int) -> int:
    """Return the smallest element of this order (a power of two) by listing all of them."""
    base = next(g for g in range(2, 1000) if pow(g, (q - 1) // 2, q) == q - 1)
    root = pow(base, (q - 1) // order, q)
    return min(pow(root, odd, q) for odd in range(1, order, 2))


def evaluate(coefficients: list[int], x: int, q: int) -> int:
    """Return the polynomial's value by Horner's rule."""
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * x + coefficient) % q
    return value


def point(k: int, n: int, q: int) -> int:
    """Return where position k of NTT form evaluates: ψ^(2·rev(k) + 1)."""
    return pow(root_of(q, 2 * n), 2 * bit_reverse(k, n.bit_length() - 1) + 1, q)


def forward(coefficients: list[int], q: int) -> list[int]:
    """Return NTT form by evaluating at every point."""
    n = len(coefficients)
    return [evaluate(coefficients, point(k, n, q), q) for k in range(n)]


def negacyclic(a: list[int], b: list[int], q: int) -> list[int]:
    """Return a·b mod X^N + 1 by the schoolbook method."""
    n = len(a)
    out = [0] * n
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            sign = 1 if i + j < n else -1
            out[(i + j) % n] = (out[(i + j) % n] + sign * x * y) % q
    return out


def centred(x: int, q: int) -> int:
    """Return the representative of x in [−(q−1)/2, (q−1)/2]."""
    return x - q if x > (q - 1) // 2 else x


def pack(row: list[int]) -> bytes:
    """Return residues as one little-endian integer, 52 bits each."""
    number = sum(residue << (52 * i) for i, residue in enumerate(row))
    return number.to_bytes(len(row) * 52 // 8, "little")


def keystream_word(key: bytes, word: int) -> int:
    """Return word number `word` of AES-256-CTR, one block at a time through ECB."""
    counter = (word // 2).to_bytes(16, "big")
    block = Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(counter)
    return int.from_bytes(block[8 * (word % 2) :][:8], "little")


def public_key(sid: bytes, label: str) -> bytes:
    """Return the key of a public expansion."""
    encoded = label.encode()
    parts = b"secureagg/xof/v1" + len(encoded).to_bytes(8, "little") + encoded + len(sid).to_bytes(8, "little") + sid
    return hashlib.sha256(parts).digest()


def public_residue(key: bytes, number: int, q: int) -> int:
    """Return residue `number` of an expansion: its word cut to 52 bits, else the first spare below q."""

    def candidates() -> Iterator[int]:
        yield keystream_word(key, number)
        for spare in range(1 << 33):
            yield keystream_word(key, 2 * ((1 << 127) + (number << 32)) + spare)

    return next(x for x in (word % (1 << 52) for word in candidates()) if x < q)


def exp_negative(x: Fraction, bits: int) -> int:
    """Return 2^bits·exp(−x) within 1: Taylor's series for x/2^r < 1, then r squarings, with 80 guard bits."""
    guard = bits + 80
    halvings = (x.numerator // x.denominator).bit_length()
    small = (x.numerator << guard) // (x.denominator << halvings)
    term, total, k = 1 << guard, 0, 0
    while term:
        total += -term if k % 2 else term
        k += 1
        term = (term * small >> guard) // k
    for _ in range(halvings):
        total = total * total >> guard
    return total >> 80


def gaussian_law(sigma: Fraction, reach: int, bits: int) -> list[int]:
    """Return 2^bits·P(x) for x = 0, …, reach, each within 2: P(x) ∝ exp(−x²/2σ²) over the integers."""
    weights = [exp_negative(Fraction(x * x) / (2 * sigma * sigma), bits + 40) for x in range(reach + 1)]
    total = weights[0] + 2 * sum(weights[1:])
    return [(weight << bits) // total for weight in weights]
