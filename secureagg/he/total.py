"""The running sum of ciphertexts: packed bytes in, canonical residues inside. Public: it holds no secret."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError
from secureagg.he.packing import Packing
from secureagg.ring import residues

__all__ = ["Total", "unpack_frame"]


def unpack_frame(packing: Packing, index: int, data: bytes | memoryview) -> NDArray[np.uint64]:
    """Return the residues of frame `index`: uint64[chunks, primes, n].

    Raises: EncodingError if the length is wrong or a residue is not below its prime.
    """
    frame = packing.frames[index]
    if len(data) != frame.size:
        raise EncodingError(f"frame {index} has {len(data)} bytes, {frame.size} expected")
    out = np.empty((frame.chunks, len(packing.ring.primes), frame.coefficients), dtype=np.uint64)
    residues.unpack(out, data, packing.ring.primes)
    return out


class Total:
    """Σc mod q. Several threads may work at once, each on a frame of its own.

    Guarantees: memory is one sum, 8 bytes a residue, however many contributions are in it.
    """

    def __init__(self, packing: Packing) -> None:
        self._packing = packing
        primes = len(packing.ring.primes)
        self._frames = [np.zeros((f.chunks, primes, f.coefficients), dtype=np.uint64) for f in packing.frames]

    def add(self, index: int, data: bytes | memoryview) -> None:
        """Add a packed frame. Requires: `unpack_frame` accepts it; a partial sum is not undone."""
        residues.add_packed(self._frames[index], data, self._packing.ring.primes)

    def subtract(self, index: int, data: bytes | memoryview) -> None:
        """Take out a frame that was added before."""
        residues.subtract(self._frames[index], unpack_frame(self._packing, index, data), self._packing.ring.primes)

    def residues(self, index: int) -> NDArray[np.uint64]:
        """Return the residues of frame `index`: uint64[chunks, primes, n]; not to be changed."""
        return self._frames[index]

    def frame(self, index: int) -> bytes:
        """Return frame `index` packed."""
        packed = bytearray(self._packing.frames[index].size)
        residues.pack(packed, self._frames[index], self._packing.ring.primes)
        return bytes(packed)
