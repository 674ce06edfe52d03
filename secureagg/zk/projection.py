"""The projection of long integer vectors onto 128 numbers, by a public random R ∈ {−1, 0, 1}^(128 × D).

Entries are b1 − b2 of uniform bits, so −1, 0, 1 with probabilities ¼, ½, ¼. Position i, column i of R, is words 4i to
4i + 3 of `PublicExpansion(seed, "projection")`: 4i and 4i + 1 hold b1 of rows 0 to 127, 4i + 2 and 4i + 3 hold b2;
row k is bit k mod 64 of word k // 64. R is never held: it is drawn and used block by block, on all cores. What a short
projection says about a vector: docs/proofs/projection.md.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import ntt, workers
from secureagg.ring.ntt import Words
from secureagg.ring.params import MIN_DEGREE
from secureagg.ring.xof import PublicExpansion

__all__ = ["ROWS", "project", "transposed"]

ROWS = 128

_LABEL = "projection"
_WORDS = 2 * ROWS // 64  # of a position
_BLOCK = 1 << 13  # positions: 256 KiB of R, which the second-level cache holds
_BYTES = ROWS // 8
_PAIR = 2  # repetitions that the kernel takes at once


def project(seed: bytes, values: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return R·values over the integers: int64[128].

    Requires: values int64[D] with D·max|values| < 2^63, so that no sum wraps.
    """
    from secureagg.zk import projection_kernels

    if values.ndim != 1 or values.dtype != np.int64:
        raise ParameterError(f"{values.dtype}{list(values.shape)} given, int64[D] needed")
    if values.size and values.size * max(int(values.max()), -int(values.min())) >= 1 << 63:
        raise ParameterError(f"D·max|values| < 2^63 fails for D = {values.size}: a sum could wrap")
    values = np.ascontiguousarray(values)
    expansion = PublicExpansion(seed, _LABEL)
    masks = np.uint64(1) << np.arange(64, dtype=np.uint64)
    total = np.zeros((_WORDS // 2, 64), dtype=np.int64)
    lock = threading.Lock()

    def piece(start: int, stop: int) -> None:
        sums = np.zeros_like(total)
        projection_kernels.project(_draw(expansion, start, stop), values[start:stop], masks, sums)
        with lock:
            np.add(total, sums, out=total)

    workers.run(piece, values.size, _BLOCK)
    return total.reshape(ROWS)


def transposed(seed: bytes, count: int, gammas: Words, prime: int, first: int = 0) -> Words:
    """Return γ·R mod q at positions first to first + count − 1, for every γ: uint64[reps, count].

    gammas: uint64[reps, 128] in [0, q). So Σ_i out[rep, i]·x_i = Σ_k γ[rep, k]·project(x)_k mod q.
    """
    from secureagg.zk import projection_kernels

    reps = len(gammas)
    if gammas.shape != (reps, ROWS) or gammas.dtype != np.uint64:
        raise ParameterError(f"{gammas.dtype}{list(gammas.shape)} given, uint64[reps, {ROWS}] needed")
    expansion = PublicExpansion(seed, _LABEL)
    q, ratio = ntt.tables((prime,), MIN_DEGREE).constants[0, :2]
    pairs = -(-reps // _PAIR)
    padded = np.zeros((_PAIR * pairs, ROWS), dtype=np.uint64)
    padded[:reps] = gammas
    sums = [_subset_sums(padded[_PAIR * k : _PAIR * (k + 1)], q) for k in range(pairs)]
    out = np.empty((reps, count), dtype=np.uint64)

    def piece(start: int, stop: int) -> None:
        bits = _draw(expansion, first + start, first + stop)
        block = np.empty((_PAIR, stop - start), dtype=np.uint64)
        for k in range(pairs):
            projection_kernels.transposed(bits, sums[k], q, ratio, block)
            target = out[_PAIR * k : _PAIR * (k + 1), start:stop]
            target[:] = block[: len(target)]

    workers.run(piece, count, _BLOCK)
    return out


def _draw(expansion: PublicExpansion, start: int, stop: int) -> Words:
    """Return the bits of R at positions start to stop − 1: uint64[positions, 4]."""
    bits = np.empty((stop - start, _WORDS), dtype=np.uint64)
    expansion.fill(_WORDS * start, bits)
    return bits


def _subset_sums(gammas: Words, q: np.uint64) -> Words:
    """Return for every byte of rows, 16 of them, and every value of it, the sum mod q of the γ that its bits select.

    gammas: uint64[2, 128]; result: uint64[16, 256, 2].
    """
    by_byte = gammas.T.reshape(_BYTES, 8, _PAIR)
    sums = np.zeros((_BYTES, 1, _PAIR), dtype=np.uint64)
    for bit in range(8):
        sums = np.concatenate((sums, (sums + by_byte[:, bit : bit + 1]) % q), axis=1)
    return sums
