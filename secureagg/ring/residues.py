"""Residues mod 52-bit primes: sums, lifts, and their packed bytes, on all cores.

Values are `uint64[chunks, primes, n]` in C order, canonical. Here n need not be a ring's degree, save that packing
needs a multiple of 16, so a last chunk may be cut short. Packed, a row is 52·n bits, rows in order without gaps,
little-endian: residue i starts at bit 52·i of its row.

Functions change their first argument and return None, unless they say otherwise.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring import workers
from secureagg.ring.ntt import Words, block_chunks, check_words, tables
from secureagg.ring.params import MIN_DEGREE, PRIME_BITS, check_primes

__all__ = [
    "PACKING_GROUP",
    "ReadableBuffer",
    "WritableBuffer",
    "add",
    "add_packed",
    "add_signed",
    "centred",
    "moduli",
    "pack",
    "packed_bytes",
    "subtract",
    "unpack",
]

ReadableBuffer = bytes | bytearray | memoryview
WritableBuffer = bytearray | memoryview

PACKING_GROUP = 16  # residues, that is 13 words of 64 bits


def add(total: Words, values: Words, primes: tuple[int, ...]) -> None:
    """total += values mod each prime."""
    from secureagg.ring import residues_kernels

    check_words(total, primes)
    check_words(values, primes, total.shape)
    q = moduli(primes)

    def piece(start: int, stop: int) -> None:
        residues_kernels.add(total[start:stop], values[start:stop], q)

    workers.run(piece, len(total), block_chunks(total))


def subtract(total: Words, values: Words, primes: tuple[int, ...]) -> None:
    """total −= values mod each prime."""
    from secureagg.ring import residues_kernels

    check_words(total, primes)
    check_words(values, primes, total.shape)
    q = moduli(primes)

    def piece(start: int, stop: int) -> None:
        residues_kernels.subtract(total[start:stop], values[start:stop], q)

    workers.run(piece, len(total), block_chunks(total))


def add_signed(total: Words, integers: NDArray[np.int64], primes: tuple[int, ...]) -> None:
    """total += integers mod each prime; `integers`: int64[chunks, n], any value. Onto zeros it is the reduction."""
    from secureagg.ring import ntt_kernels

    check_words(total, primes)
    constants = tables(primes, MIN_DEGREE).constants
    if integers.shape != (total.shape[0], total.shape[2]) or integers.dtype != np.int64:
        raise ParameterError(
            f"{integers.dtype}{list(integers.shape)} given, int64[{total.shape[0]}, {total.shape[2]}] needed"
        )
    integers = np.ascontiguousarray(integers)

    def piece(start: int, stop: int) -> None:
        ntt_kernels.add_signed(total[start:stop], integers[start:stop], constants)

    workers.run(piece, len(total), block_chunks(total))


def centred(values: Words, primes: tuple[int, ...]) -> NDArray[np.int64]:
    """Return, mod each prime, the representatives in [−(q−1)/2, (q−1)/2]: int64[chunks, primes, n]."""
    from secureagg.ring import residues_kernels

    check_words(values, primes)
    q = moduli(primes)
    out = np.empty(values.shape, dtype=np.int64)

    def piece(start: int, stop: int) -> None:
        residues_kernels.centre(values[start:stop], q, out[start:stop])

    workers.run(piece, len(values), block_chunks(values))
    return out


def packed_bytes(shape: tuple[int, ...]) -> int:
    """Return the bytes that residues of this shape pack into. Raises ParameterError unless 16 divides n."""
    if shape[-1] % PACKING_GROUP:
        raise ParameterError(f"rows of n = {shape[-1]} residues cannot be packed: 16 must divide n")
    return math.prod(shape) * PRIME_BITS // 8


def pack(target: WritableBuffer, values: Words, primes: tuple[int, ...]) -> None:
    """Write canonical residues as packed bytes, to any writable buffer of exactly `packed_bytes(values.shape)`."""
    from secureagg.ring import residues_kernels

    check_words(values, primes)
    packed = _packed_words(target, values.shape)

    def piece(start: int, stop: int) -> None:
        residues_kernels.pack(values[start:stop], packed[start:stop])

    workers.run(piece, len(values), block_chunks(values))


def unpack(out: Words, packed: ReadableBuffer, primes: tuple[int, ...]) -> None:
    """Fill `out` from packed bytes.

    Raises: ParameterError if the length is not `packed_bytes(out.shape)`; EncodingError if a residue is not below its
    prime; then `out` must not be used.
    """
    from secureagg.ring import residues_kernels

    check_words(out, primes)
    q = moduli(primes)
    words = _packed_words(packed, out.shape)

    def piece(start: int, stop: int) -> None:
        _refuse_if(int(residues_kernels.unpack(words[start:stop], q, out[start:stop])))

    workers.run(piece, len(out), block_chunks(out))


def add_packed(total: Words, packed: ReadableBuffer, primes: tuple[int, ...]) -> None:
    """total += the packed residues, in one pass over both: the work of admitting a ciphertext.

    Raises: as `unpack`; then `total` holds a part of the sum and must not be used.
    """
    from secureagg.ring import residues_kernels

    check_words(total, primes)
    q = moduli(primes)
    words = _packed_words(packed, total.shape)

    def piece(start: int, stop: int) -> None:
        _refuse_if(int(residues_kernels.add_packed(words[start:stop], q, total[start:stop])))

    workers.run(piece, len(total), block_chunks(total))


def moduli(primes: tuple[int, ...]) -> Words:
    """Return the primes, checked, as the kernels take them: uint64[primes]."""
    check_primes(primes)
    return np.array(primes, dtype=np.uint64)


def _packed_words(buffer: ReadableBuffer, shape: tuple[int, ...]) -> Words:
    """View packed bytes, at any address, as uint64[chunks, primes, 13·n/16]."""
    expected = packed_bytes(shape)
    if memoryview(buffer).nbytes != expected:
        raise ParameterError(f"{memoryview(buffer).nbytes} bytes given, residues{list(shape)} pack into {expected}")
    words = np.frombuffer(buffer, dtype=np.uint64)
    return words.reshape(*shape[:-1], shape[-1] * PRIME_BITS // 64)


def _refuse_if(refused: int) -> None:
    if refused:
        raise EncodingError(f"{refused} residues or more are not below their prime")
