"""Encryption, packing and decoding in plain Python integers, by definition; shares no code with `secureagg.he`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from secureagg.he.packing import Packing
from tests.ring import reference


def largest_delta(modulus: int, field_bits: int, fields: int, limit: int) -> int:
    """Return the largest Δ with 2Δ·M + ⌊Δ/2⌋ + E < q for E = ⌊(Δ − 1)/2⌋, the largest errors Δ leaves room for."""
    message = sum(limit << (field_bits * k) for k in range(fields))
    return min((modulus - 1) // (2 * message + 1), 2**31)


def residues_of(number: int, primes: Sequence[int]) -> list[int]:
    """Return a number's residues."""
    return [number % q for q in primes]


def centred_crt(residues: Sequence[int], primes: Sequence[int]) -> int:
    """Return the number in (−Q/2, Q/2) with these residues."""
    modulus = math.prod(primes)
    number = sum(r * (modulus // q) * pow(modulus // q, -1, q) for r, q in zip(residues, primes, strict=True)) % modulus
    return number - modulus if number > modulus // 2 else number


def coefficient(values: Sequence[int], error: int, delta: int, field_bits: int) -> int:
    """Return e + Δ·Σ_k 2^(Wk)·v_k."""
    return error + delta * sum(value << (field_bits * k) for k, value in enumerate(values))


def fields_of(number: int, delta: int, field_bits: int, fields: int) -> tuple[list[int], int, int]:
    """Return (signed fields, error, what is left above them) of a coefficient, carries undone one by one."""
    message = (2 * number + delta) // (2 * delta)  # the nearest multiple
    error, values, half = number - delta * message, [], 1 << (field_bits - 1)
    for _ in range(fields):
        value = (message + half) % (2 * half) - half
        values.append(value)
        message = (message - value) >> field_bits
    return values, error, message


def place_of(packing: Packing, coordinate: int) -> tuple[int, int, int]:
    """Return (chunk, field, coefficient) of a coordinate, chunk by chunk as he/packing.py's docstring says."""
    needed, n = -(-packing.coordinates // packing.fields), packing.ring.degree
    left, chunk = max(n, needed + -needed % (n if packing.keys > 1 else 16)), 0
    while coordinate >= min(left, n) * packing.fields:
        coordinate -= min(left, n) * packing.fields
        left -= n
        chunk += 1
    return chunk, *divmod(coordinate, min(left, n))


@cache
def mask(sid: bytes, primes: tuple[int, ...], degree: int, chunk: int, key: tuple[int, ...]) -> list[list[int]]:
    """Return a_chunk·s mod each prime: a drawn residue by residue in NTT form, the product taken point by point."""
    expansion, rows = reference.public_key(sid, "public polynomials"), []
    for p, q in enumerate(primes):
        first = (chunk * len(primes) + p) * degree
        transform = [
            reference.public_residue(expansion, first + k, q)
            * reference.evaluate(list(key), reference.point(k, degree, q), q)
            for k in range(degree)
        ]
        points = [pow(reference.point(k, degree, q), -1, q) for k in range(degree)]
        rows.append(
            [
                sum(value * pow(x, i, q) for value, x in zip(transform, points, strict=True)) * pow(degree, -1, q) % q
                for i in range(degree)
            ]
        )
    return rows


def unpack(packed: bytes, count: int) -> list[int]:
    """Return residues from one little-endian integer, 52 bits each."""
    number = int.from_bytes(packed, "little")
    return [(number >> (52 * i)) % (1 << 52) for i in range(count)]


def decrypt(packing: Packing, sid: bytes, key: Sequence[int], ciphertext: bytes) -> tuple[list[int], list[int]]:
    """Return (all coordinates, all errors) of a ciphertext under a key of one ring element."""
    primes, n = packing.ring.primes, packing.ring.degree
    residues, values, errors, base = unpack(ciphertext, packing.coefficients * len(primes)), [], [], 0
    for chunk in range(packing.chunks):
        size = min(n, packing.coefficients - chunk * n)
        rows = [residues[base + p * size : base + (p + 1) * size] for p in range(len(primes))]
        base += size * len(primes)
        masks = mask(sid, primes, n, chunk, tuple(key))
        split = [
            fields_of(
                centred_crt([rows[p][i] - masks[p][i] for p in range(len(primes))], primes),
                packing.delta,
                packing.field_bits,
                packing.fields,
            )
            for i in range(size)
        ]
        assert not any(above for _, _, above in split)
        errors += [error for _, error, _ in split]
        values += [fields[k] for k in range(packing.fields) for fields, _, _ in split]
    assert not any(values[packing.coordinates :])
    return values[: packing.coordinates], errors
