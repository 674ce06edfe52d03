"""Where a vector's coordinates lie in the ciphertexts: fields of a coefficient, coefficients of a chunk.

Symbols as in docs/protocol.md: N ring degree, q modulus, J chunks, f fields of W bits a coefficient, Δ the scale that
keeps the message above the errors. Chunk j holds up to N coefficients; the last one only as many as it needs (n_J).
Coordinates fill a chunk field by field: field k of coefficient i of a chunk with n coefficients is coordinate
base + k·n + i. The weight is the coordinate after the d values; what is left over is zero.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring.params import RingParameters
from secureagg.ring.residues import PACKING_GROUP, packed_bytes

__all__ = ["DecodingConstants", "Frame", "Packing", "decoding_constants", "message_factors"]

FRAME_RESIDUES = 1 << 16  # a frame's residues, 512 KB unpacked: stays in a core's second-level cache


@dataclass(frozen=True)
class Frame:
    """A run of chunks with the same number of coefficients: the unit that is hashed, streamed and worked on at once.

    start, size: its bytes within the ciphertext, each chunk prime by prime, residues packed at 52 bits.
    """

    first_chunk: int
    chunks: int
    coefficients: int
    first_coordinate: int
    start: int
    size: int


@dataclass(frozen=True)
class Packing:
    """The place of `coordinates` values in the chunks of one contribution.

    field_limit: L, the largest |field| of the *sum* that is decoded; keys: one-time keys a contribution uses, each
    for `chunks_per_key` chunks (more than one only where one would be used beyond the Hint-MLWE bound).
    min_chunks_per_key: chunks sent under each key at the least, all of them full; 1, and 2 with proofs (`coefficients`
    says why). steering: what errors alone can add to a field of the sum, with proofs; 0 says that every error of the
    sum stays below Δ/2, and larger ones are refused (`Decoder`).
    Requires: L ≤ 2^(W−1) − 1, Δ > 2E and 2Δ·M + Δ/2 + E < q with M = L·Σ_k 2^(Wk) and E the bound on the summed
    errors, or with proofs what `secureagg.bounds` asks instead; `RoundPlan` derives and checks them.
    """

    ring: RingParameters
    coordinates: int
    field_bits: int
    fields: int
    delta: int
    field_limit: int
    keys: int = 1
    min_chunks_per_key: int = 1
    steering: int = 0

    def __post_init__(self) -> None:
        if self.coordinates < 1 or self.fields < 1 or not 2 <= self.field_bits <= 62:
            raise ParameterError(
                f"packing needs coordinates ≥ 1, fields ≥ 1, 2 ≤ field_bits ≤ 62; got {self.coordinates}, "
                f"{self.fields}, {self.field_bits}"
            )

    @cached_property
    def coefficients(self) -> int:
        """Coefficients sent in all: ⌈coordinates / f⌉, the last chunk's rounded up to a multiple of 16.

        At least one full chunk a key: where fewer coefficients than the key has are decoded, a member who lies about
        its share sum can find a key sum that still decodes, to another sum (docs/protocol.md, Residual check).
        With several keys every chunk is full, and none of the keys has fewer than `min_chunks_per_key`.

        With one full chunk and shares over F_q a member need not search: a_j is invertible, and the key sum that is
        off by a_j^(−1)·Δ·m decodes to a sum that is off by m, without any residual. (Over a small F_p a key sum is
        short, and that one is not.) Two full chunks under one key take this away: δ = a_1^(−1)·Δ·m_1 + a_1^(−1)·e_1
        must make a_2·δ decode too, a_2·a_1^(−1)·(Δ·m_1 + e_1) = Δ·m_2 + e_2 with short e: a close-vector problem in
        a lattice of dimension 2N that the member cannot choose (docs/proofs/overflow.md, The residual rule).
        """
        needed, n, least = -(-self.coordinates // self.fields), self.ring.degree, self.min_chunks_per_key
        if self.keys == 1:
            return max(least * n, -(-needed // PACKING_GROUP) * PACKING_GROUP)
        chunks = max(-(-needed // n), self.keys * least)
        return max(chunks, (self.keys - 1) * -(-chunks // self.keys) + least) * n

    @property
    def chunks(self) -> int:
        """J = ⌈coefficients / N⌉."""
        return -(-self.coefficients // self.ring.degree)

    @property
    def chunks_per_key(self) -> int:
        """Chunks encrypted under one key: ⌈J / keys⌉."""
        return -(-self.chunks // self.keys)

    @property
    def key_coefficients(self) -> int:
        """The fewest coefficients sent under one key: the last key's."""
        return self.coefficients - (self.keys - 1) * self.chunks_per_key * self.ring.degree

    @cached_property
    def frames(self) -> tuple[Frame, ...]:
        """All chunks in order, cut into frames of equal chunks: a shorter last chunk is a frame of its own."""
        n, step = self.ring.degree, self._chunks_per_frame
        full, rest = divmod(self.coefficients, n)
        shapes = [(first, min(step, full - first), n) for first in range(0, full, step)]
        if rest:
            shapes.append((full, 1, rest))
        frames, start = [], 0
        for first, chunks, coefficients in shapes:
            size = packed_bytes((chunks, len(self.ring.primes), coefficients))
            frames.append(Frame(first, chunks, coefficients, first * n * self.fields, start, size))
            start += size
        return tuple(frames)

    def frame_coordinates(self, frame: Frame) -> tuple[int, int]:
        """Return [first, last) of the coordinates in a frame; fields beyond the last coordinate are zero."""
        last = frame.first_coordinate + frame.chunks * frame.coefficients * self.fields
        return min(frame.first_coordinate, self.coordinates), min(last, self.coordinates)

    @property
    def weight_frame(self) -> int:
        """The frame that holds the weight, its last coordinate; any frames behind it hold nothing."""
        starts = [frame.first_coordinate for frame in self.frames]
        return bisect_right(starts, self.coordinates - 1) - 1

    @property
    def weight_field(self) -> int:
        """Which field of its coefficient the weight is; errors reach the lowest, 0, alone."""
        n = self.ring.degree
        chunk = (self.coordinates - 1) // (self.fields * n)
        return (self.coordinates - 1 - chunk * self.fields * n) // min(n, self.coefficients - chunk * n)

    @property
    def frame_count(self) -> int:
        """How many `frames` there are, without making them."""
        full, rest = divmod(self.coefficients, self.ring.degree)
        return -(-full // self._chunks_per_frame) + (1 if rest else 0)

    @property
    def _chunks_per_frame(self) -> int:
        return max(1, FRAME_RESIDUES // (self.ring.degree * len(self.ring.primes)))

    def frame_coefficients(self, frame: Frame) -> tuple[int, int]:
        """Return [first, last) of a frame's coefficients among all that are sent."""
        first = frame.first_chunk * self.ring.degree
        return first, first + frame.chunks * frame.coefficients

    @property
    def ciphertext_bytes(self) -> int:
        """Exact bytes of all chunks of one contribution."""
        return packed_bytes((len(self.ring.primes), self.coefficients))


def message_factors(packing: Packing) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return Δ·2^(Wk) mod each prime, uint64[primes, f], and their Shoup companions ⌊w·2^64/q⌋."""
    scaled = [packing.delta << (packing.field_bits * k) for k in range(packing.fields)]
    factors = [[value % q for value in scaled] for q in packing.ring.primes]
    companions = [[(w << 64) // q for w in row] for row, q in zip(factors, packing.ring.primes, strict=True)]
    return np.array(factors, dtype=np.uint64), np.array(companions, dtype=np.uint64)


@dataclass(frozen=True)
class DecodingConstants:
    """What `packing_kernels.decode` needs to know; its docstring says what the arrays hold."""

    moduli: NDArray[np.uint64]
    inverses: NDArray[np.uint64]
    companions: NDArray[np.uint64]
    divisor: NDArray[np.uint64]


def decoding_constants(packing: Packing) -> DecodingConstants:
    """Return the constants of the primes (bias, Garner's inverses) and of the division by Δ."""
    primes, delta = packing.ring.primes, packing.delta
    bias = delta * sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields)) + delta // 2
    moduli = np.array([[q, (1 << 83) // q, bias % q] for q in primes], dtype=np.uint64)
    inverses = np.zeros((len(primes), len(primes)), dtype=np.uint64)
    companions = np.zeros_like(inverses)
    for p, q in enumerate(primes):
        for i in range(p):
            inverse = pow(primes[i], -1, q)
            inverses[p, i], companions[p, i] = inverse, (inverse << 64) // q
    twos = (delta & -delta).bit_length() - 1
    odd = delta >> twos
    divisor = np.array([delta, (2**64 - 1) // delta, 2**64 % delta, odd, twos, pow(odd, -1, 2**64)], dtype=np.uint64)
    return DecodingConstants(moduli, inverses, companions, divisor)
