"""The masks a_j·s of a session, for one client's key or for the sum of all keys.

Whether s is secret is the caller's matter: a client's is, the sum that the committee opens is not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secureagg.he.packing import Frame, Packing
from secureagg.ring import ntt, residues
from secureagg.ring.masks import fill_masks
from secureagg.ring.xof import PublicExpansion

__all__ = ["Masking", "polynomials"]


def polynomials(sid: bytes) -> PublicExpansion:
    """Return what a session's public polynomials a_j are drawn from."""
    return PublicExpansion(sid, "public polynomials")


class Masking:
    """a_j·s for the chunks of a frame, a_j = XOF(sid, j).

    key: int64[keys·N], the coefficients of the keys one after the other; each serves `chunks_per_key` chunks.
    """

    def __init__(self, packing: Packing, sid: bytes, key: NDArray[np.int64]) -> None:
        ring = packing.ring
        self._packing = packing
        self._expansion = polynomials(sid)
        self._keys = np.zeros((packing.keys, len(ring.primes), ring.degree), dtype=np.uint64)
        residues.add_signed(self._keys, key.reshape(packing.keys, ring.degree), ring.primes)
        ntt.forward(self._keys, ring.primes)

    def frame(self, frame: Frame) -> NDArray[np.uint64]:
        """Return the masks of a frame's chunks, uint64[chunks, primes, n], cut to the coefficients it holds."""
        ring, step = self._packing.ring, self._packing.chunks_per_key
        out = np.empty((frame.chunks, len(ring.primes), ring.degree), dtype=np.uint64)
        chunk, last = frame.first_chunk, frame.first_chunk + frame.chunks
        while chunk < last:
            key = chunk // step
            stop = min(last, (key + 1) * step)
            piece = out[chunk - frame.first_chunk : stop - frame.first_chunk]
            fill_masks(piece, self._expansion, chunk, self._keys[key], ring.primes)
            chunk = stop
        return np.ascontiguousarray(out[:, :, : frame.coefficients])

    def __repr__(self) -> str:
        return "Masking(…)"
