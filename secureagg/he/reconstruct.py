"""From the sum of ciphertexts and the sum of keys to the sum of the grid values. Public: both sums are.

y = Σc − a·Σs = Σe + Δ·Σ_k 2^(Wk)·Σv_k mod q. Decoding adds Δ·L in every field and ⌊Δ/2⌋ below them, so that what is
left is a non-negative number whose quotient by Δ holds the fields without carries and whose remainder is the error.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import UnattributedFault
from secureagg.he.masking import Masking
from secureagg.he.packing import Packing, decoding_constants
from secureagg.he.total import Total
from secureagg.ring import residues

__all__ = ["Decoder"]


class Decoder:
    """Opens a sum with the key sum Σs, int64[keys·N], centred.

    error_bound: E; a larger error anywhere means that Σs is not the sum of these ciphertexts' keys, or that somebody
    encrypted wrongly.
    """

    def __init__(self, packing: Packing, sid: bytes, error_bound: int, key_sum: NDArray[np.int64]) -> None:
        self._packing = packing
        self._error_bound = error_bound
        self._masking = Masking(packing, sid, key_sum)
        self._constants = decoding_constants(packing)

    def fits(self, total: Total) -> bool:
        """Return whether `values` accepts the last frame and the first of each one-time key."""
        starts = [frame.first_chunk for frame in self._packing.frames]
        firsts = range(0, self._packing.chunks, self._packing.chunks_per_key)
        probes = {bisect_right(starts, chunk) - 1 for chunk in firsts} | {len(starts) - 1}
        try:
            for index in sorted(probes):
                self.values(total, index)
        except UnattributedFault:
            return False
        return True

    def values(self, total: Total, index: int) -> NDArray[np.int64]:
        """Return the summed coordinates of frame `index`, int64, the zero padding cut off.

        Raises: UnattributedFault if an error exceeds E, a field exceeds L or the padding is not zero; nothing is
        returned then.
        """
        frame = self._packing.frames[index]
        decoded, worst = self._decode(total, index)
        if worst > self._error_bound:
            raise UnattributedFault(
                f"frame {index}: the residual exceeds the plan's noise bound E = {self._error_bound}; the key sum does "
                "not belong to these ciphertexts, or a client encrypted wrongly. Nothing was decoded"
            )
        first, last = self._packing.frame_coordinates(frame)
        flat = decoded.reshape(-1)
        if flat[last - first :].any():
            raise UnattributedFault(f"frame {index}: the padding of the sum is not zero; nothing was decoded")
        return flat[: last - first]

    def _decode(self, total: Total, index: int) -> tuple[NDArray[np.int64], int]:
        from secureagg.he import packing_kernels

        packing, frame = self._packing, self._packing.frames[index]
        sums = total.residues(index).copy()
        residues.subtract(sums, self._masking.frame(frame), packing.ring.primes)
        out = np.empty((frame.chunks, packing.fields, frame.coefficients), dtype=np.int64)
        constants, width, limit = self._constants, np.uint64(packing.field_bits), np.uint64(2 * packing.field_limit)
        if len(packing.ring.primes) == 1:
            worst = packing_kernels.decode_one_prime(sums, constants.moduli, constants.divisor, width, limit, out)
        else:
            worst = packing_kernels.decode(
                sums, constants.moduli, constants.inverses, constants.companions, constants.divisor, width, limit, out
            )
        return out, int(worst)
