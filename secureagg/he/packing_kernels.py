"""Packing grid values into coefficients, and taking the sum apart again. Symbols as in packing.py."""

from __future__ import annotations

import numpy as np
from numba.core.types import int64 as i8
from numba.core.types import uint64 as u8
from numba.core.types import void
from numpy.typing import NDArray

from secureagg.ring.jit_kernels import inlined, kernel, readable, writable

__all__ = ["add_message", "decode", "decode_one_prime"]

_Word = np.uint64
_Words = NDArray[np.uint64]
_Integers = NDArray[np.int64]

_0, _1, _2, _6, _32, _51, _63, _64 = (np.uint64(k) for k in (0, 1, 2, 6, 32, 51, 63, 64))
_LOW = np.uint64(0xFFFFFFFF)


@inlined
def _times(x: _Word, w: _Word, companion: _Word, q: _Word) -> _Word:
    """x·w mod q in [0, 4q) for any x and w < q; companion = ⌊w·2^64/q⌋ (ring/ntt_kernels.py derives the bound)."""
    x1, x0, y1, y0 = x >> _32, x & _LOW, companion >> _32, companion & _LOW
    return x * w - (x1 * y1 + ((x1 * y0) >> _32) + ((x0 * y1) >> _32)) * q


@inlined
def _canonical(x: _Word, q: _Word, ratio: _Word) -> _Word:
    """x mod q in [0, q) for any x < 2^64; ratio = ⌊2^83/q⌋."""
    x -= ((x >> _32) * ratio >> _51) * q
    return min(x, x - q)


@kernel(void, writable(u8, 3), readable(i8, 3), readable(i8, 2), readable(u8, 2), readable(u8, 2), readable(u8, 2))
def add_message(
    masked: _Words, values: _Integers, errors: _Integers, factors: _Words, companions: _Words, constants: _Words
) -> None:
    """masked += e + Δ·Σ_k 2^(Wk)·v_k mod q, in place: the ciphertext.

    masked: [chunks, primes, n] in [0, q); values: [chunks, f, n]; errors: [chunks, n]; factors: [primes, f], Δ·2^(Wk)
    mod q with their companions; constants: [primes, 2], q and ⌊2^83/q⌋. Requires |v|, |e| < 2^51 and f ≤ 2^9.
    """
    for c in range(masked.shape[0]):
        for p in range(masked.shape[1]):
            q, ratio = constants[p, 0], constants[p, 1]
            for i in range(masked.shape[2]):
                e = errors[c, i]
                masked[c, p, i] += np.uint64(e) + (q if e < 0 else _0)
            for k in range(values.shape[1]):
                w, companion = factors[p, k], companions[p, k]
                for i in range(masked.shape[2]):
                    v = values[c, k, i]
                    masked[c, p, i] += _times(np.uint64(v) + (q if v < 0 else _0), w, companion, q)
            for i in range(masked.shape[2]):
                masked[c, p, i] = _canonical(masked[c, p, i], q, ratio)


@inlined
def _product(x: _Word, y: _Word) -> tuple[_Word, _Word]:
    """The 128 bits of x·y: (high, low)."""
    x1, x0, y1, y0 = x >> _32, x & _LOW, y >> _32, y & _LOW
    middle = x1 * y0 + ((x0 * y0) >> _32)
    other = x0 * y1 + (middle & _LOW)
    return x1 * y1 + (middle >> _32) + (other >> _32), x * y


@inlined
def _mixed_radix(sums: _Words, constants: _Words, inverses: _Words, companions: _Words, radix: _Words) -> None:
    """radix[p] = the digits of y = sums + bias by Garner's method (Knuth, TAOCP 2, 4.3.2); both [primes, n]."""
    for p in range(radix.shape[0]):
        q, ratio, bias = constants[p, 0], constants[p, 1], constants[p, 2]
        for i in range(radix.shape[1]):
            x = sums[p, i] + bias
            radix[p, i] = min(x, x - q)
        for j in range(p):
            w, companion = inverses[p, j], companions[p, j]
            for i in range(radix.shape[1]):
                # q_j may exceed q_p, so the digit is reduced before it is taken away.
                x = _times(radix[p, i] + q - _canonical(radix[j, i], q, ratio), w, companion, q)
                radix[p, i] = _canonical(x, q, ratio)


@inlined
def _to_binary(radix: _Words, i: int, constants: _Words, limbs: _Words) -> None:
    """limbs = radix[0, i] + q_0·(radix[1, i] + q_1·(…)), little-endian words."""
    limbs[:] = _0
    primes = radix.shape[0]
    for p in range(primes - 1, -1, -1):
        carry, q = radix[p, i], constants[p, 0]
        for k in range(min(limbs.size, primes - p)):
            high, low = _product(limbs[k], q)
            low += carry
            carry = high + (_1 if low < carry else _0)
            limbs[k] = low


@inlined
def _remainder(x: _Word, delta: _Word, reciprocal: _Word) -> _Word:
    """x mod Δ for any x; reciprocal = ⌊(2^64 − 1)/Δ⌋, so the quotient is short by at most two."""
    high, _ = _product(x, reciprocal)
    x -= high * delta
    x = min(x, x - delta)
    return min(x, x - delta)


@inlined
def _divide(limbs: _Words, divisor: _Words) -> _Word:
    """limbs //= Δ, in place; return the remainder. The rest of the division is exact (Jebelean, 1993)."""
    delta, reciprocal, radix_rest = divisor[0], divisor[1], divisor[2]
    odd, twos, inverse = divisor[3], divisor[4], divisor[5]
    rest = _0
    for k in range(limbs.size - 1, -1, -1):
        rest = _remainder(rest * radix_rest + _remainder(limbs[k], delta, reciprocal), delta, reciprocal)
    borrow = rest
    for k in range(limbs.size):
        x = limbs[k]
        limbs[k] = x - borrow
        borrow = _1 if x < borrow else _0
    if twos > _0:
        for k in range(limbs.size):
            above = limbs[k + 1] if k + 1 < limbs.size else _0
            limbs[k] = (limbs[k] >> twos) | (above << (_64 - twos))
    carry = _0
    for k in range(limbs.size):
        x = limbs[k]
        digit = (x - carry) * inverse
        high, _ = _product(digit, odd)
        carry = high + (_1 if x < carry else _0)
        limbs[k] = digit
    return rest


@inlined
def _split(limbs: _Words, field_bits: _Word, limit: _Word, out: _Integers, c: int, i: int) -> _Word:
    """out[c, k, i] = field k − limit/2; return the bitwise or of what is off: a field above limit, bits above them."""
    mask, bias = (_1 << field_bits) - _1, np.int64(limit >> _1)
    bit = _0
    wrong = _0
    for k in range(out.shape[1]):
        word, shift = bit >> _6, bit & _63
        field = limbs[word] >> shift
        if shift + field_bits > _64:
            field |= limbs[word + _1] << (_64 - shift)
        field &= mask
        wrong |= _1 if field > limit else _0
        out[c, k, i] = np.int64(field) - bias
        bit += field_bits
    word, shift = bit >> _6, bit & _63
    if word < np.uint64(limbs.size):
        wrong |= limbs[word] >> shift
        for k in range(np.int64(word) + 1, limbs.size):
            wrong |= limbs[k]
    return wrong


@kernel(
    u8, readable(u8, 3), readable(u8, 2), readable(u8, 2), readable(u8, 2), readable(u8, 1), u8, u8, writable(i8, 3)
)
def decode(
    sums: _Words,
    constants: _Words,
    inverses: _Words,
    companions: _Words,
    divisor: _Words,
    field_bits: _Word,
    limit: _Word,
    out: _Integers,
) -> _Word:
    """Take the unmasked sum apart: out[chunks, f, n] = Σv; return the largest |Σe| met, or 2^63 if a field is off.

    sums: [chunks, primes, n], Σe + Δ·Σ_k 2^(Wk)·Σv_k mod q; constants: [primes, 3]: q, ⌊2^83/q⌋ and the bias
    Δ·L·Σ_k 2^(Wk) + ⌊Δ/2⌋ mod q, which makes the number y = Δ·Σ_k 2^(Wk)·(Σv_k + L) + (Σe + ⌊Δ/2⌋) non-negative and
    below q, so that y is its own representative, y mod Δ is the error and the fields need no carries.
    inverses: [primes, primes], q_i^−1 mod q_p at [p, i] with their companions; divisor: Δ, ⌊(2^64 − 1)/Δ⌋, 2^64 mod Δ,
    Δ's odd part, its twos, and the odd part's inverse mod 2^64; limit: 2·L. Requires Δ < 2^32, W < 64.
    """
    primes = sums.shape[1]
    radix = np.empty((primes, sums.shape[2]), dtype=np.uint64)
    limbs = np.empty((52 * primes + 63) // 64, dtype=np.uint64)
    half = divisor[0] >> _1
    worst = _0
    for c in range(sums.shape[0]):
        _mixed_radix(sums[c], constants, inverses, companions, radix)
        for i in range(sums.shape[2]):
            _to_binary(radix, i, constants, limbs)
            rest = _divide(limbs, divisor)
            worst = max(worst, rest - half if rest > half else half - rest)
            if _split(limbs, field_bits, limit, out, c, i) != _0:
                worst = _1 << _63
    return worst


@kernel(u8, readable(u8, 3), readable(u8, 2), readable(u8, 1), u8, u8, writable(i8, 3), writable(i8, 1))
def decode_one_prime(
    sums: _Words,
    constants: _Words,
    divisor: _Words,
    field_bits: _Word,
    limit: _Word,
    out: _Integers,
    exceeding: _Integers,
) -> _Word:
    """What `decode` does where there is one prime: y < 2^52 is exact in float64, so the loops turn into vectors.

    exceeding: int64[chunks], in how many coefficients of each chunk |Σe mod Δ|, centred, is above Δ/4.
    """
    q, bias, delta = constants[0, 0], constants[0, 2], divisor[0]
    reciprocal = 1.0 / np.float64(delta)
    half, mask, centre = delta >> _1, (_1 << field_bits) - _1, np.int64(limit >> _1)
    bits = field_bits * np.uint64(out.shape[1])
    quotients = np.empty(sums.shape[2], dtype=np.uint64)
    worst, largest, above = _0, _0, _0
    quarter = delta >> _2
    for c in range(sums.shape[0]):
        count = _0
        for i in range(sums.shape[2]):
            y = sums[c, 0, i] + bias
            y = min(y, y - q)
            # The estimate is off by at most one either way, and then the remainder shows it.
            quotient = np.uint64(np.int64(np.float64(np.int64(y)) * reciprocal))
            rest = y - quotient * delta
            short, long = rest < _1 << _63 and rest >= delta, rest >= _1 << _63
            quotient += (_1 if short else _0) - (_1 if long else _0)
            rest += (delta if long else _0) - (delta if short else _0)
            residual = max(rest, half) - min(rest, half)
            worst = max(worst, residual)
            count += _1 if residual > quarter else _0
            quotients[i] = quotient
        exceeding[c] = np.int64(count)
        for k in range(out.shape[1]):
            shift = field_bits * np.uint64(k)
            for i in range(sums.shape[2]):
                field = (quotients[i] >> shift) & mask
                largest = max(largest, field)
                out[c, k, i] = np.int64(field) - centre
        for i in range(sums.shape[2]):
            above |= quotients[i] >> bits
    return _1 << _63 if largest > limit or above != _0 else worst
