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

__all__ = ["EXCEEDING_DIVISOR", "Decoder"]

EXCEEDING_DIVISOR = 64  # with proofs, more than one large residual in so many is a fault

_TAMPERED = 1 << 63  # what the kernels return where a field is beyond L


class Decoder:
    """Opens a sum with the key sum Σs, int64[keys·N], centred. Several threads may decode frames at once.

    error_bound: E on the errors of honest clients. Without proofs a larger error anywhere means that Σs is not the
    sum of these ciphertexts' keys, or that somebody encrypted wrongly, and `values` refuses it at once.

    With proofs (packing.steering > 0) c corrupt clients may put all of an L2 norm c·B_e into few errors. Then nothing
    can be said of a single coefficient: it is rounded to the nearest message, and `verify_residuals`, once all frames
    are decoded, refuses the sum if in more than n/64 of some key's n coefficients |residual| > Δ/4.

    | key sum | coefficients with \\|residual\\| > Δ/4 |
    |---|---|
    | right | at most (c·B_e / (Δ/4 − E))² ≤ n/64: each has a corrupt part above Δ/4 − E (the plan checks the last ≤) |
    | wrong | whoever chose it made at most N of them fit; of the n − N ≥ n/2 others, uniform mod Δ, about half exceed |

    docs/proofs/overflow.md says why a 64th, and what a liar could do with help from corrupt clients.

    All of a key's frames count together, since the first may hold every steered coefficient.
    """

    def __init__(self, packing: Packing, sid: bytes, error_bound: int, key_sum: NDArray[np.int64]) -> None:
        self._packing = packing
        self._error_bound = error_bound
        self._masking = Masking(packing, sid, key_sum)
        self._constants = decoding_constants(packing)
        self._exceeding: dict[int, NDArray[np.int64]] = {}  # by frame: what the kernel counted in each chunk

    def fits(self, total: Total) -> bool:
        """Return whether this key sum opens the sum.

        Without proofs `values` is asked about the last frame and the first of each one-time key; with proofs about
        all, for the residuals count together.
        """
        starts = [frame.first_chunk for frame in self._packing.frames]
        firsts = range(0, self._packing.chunks, self._packing.chunks_per_key)
        probes = {bisect_right(starts, chunk) - 1 for chunk in firsts} | {len(starts) - 1}
        try:
            for index in sorted(probes) if not self._packing.steering else range(len(starts)):
                self.values(total, index)
            self.verify_residuals()
        except UnattributedFault:
            return False
        return True

    def values(self, total: Total, index: int) -> NDArray[np.int64]:
        """Return the summed coordinates of frame `index`, int64, the zero padding cut off.

        Raises: UnattributedFault if a field exceeds L, or the padding is not zero (with proofs: beyond what errors can
        steer), or without proofs an error exceeds E; nothing is returned then. With proofs the values are only right
        if `verify_residuals` raises nothing.
        """
        frame, steering = self._packing.frames[index], self._packing.steering
        decoded, worst = self._decode(total, index)
        if worst > (_TAMPERED - 1 if steering else self._error_bound):
            what = (
                f"a field exceeds the plan's limit L = {self._packing.field_limit}"
                if steering
                else f"the residual exceeds the plan's noise bound E = {self._error_bound}"
            )
            raise UnattributedFault(
                f"frame {index}: {what}; the key sum does not belong to these ciphertexts, or a client encrypted "
                "wrongly. Nothing was decoded"
            )
        first, last = self._packing.frame_coordinates(frame)
        flat = decoded.reshape(-1)
        if (np.abs(flat[last - first :]) > steering).any():
            raise UnattributedFault(f"frame {index}: the padding of the sum is not zero; nothing was decoded")
        return flat[: last - first]

    def verify_residuals(self) -> None:
        """With proofs, raise UnattributedFault if too many residuals of a key are large. Requires: every frame decoded.

        Without proofs there is nothing to verify: `values` refused each error beyond E.
        """
        packing = self._packing
        if not packing.steering:
            return
        exceeding = np.concatenate([self._exceeding[index] for index in range(len(packing.frames))])
        for key in range(packing.keys):
            first, last = key * packing.chunks_per_key, (key + 1) * packing.chunks_per_key
            found = int(exceeding[first:last].sum())
            sent = min(last * packing.ring.degree, packing.coefficients) - first * packing.ring.degree
            if EXCEEDING_DIVISOR * found > sent:
                raise UnattributedFault(
                    f"in {found} of {sent} coefficients the residual exceeds Δ/4 = {packing.delta / 4:g}, more than "
                    f"one in {EXCEEDING_DIVISOR}; the key sum does not belong to these ciphertexts. Nothing was decoded"
                )

    def _decode(self, total: Total, index: int) -> tuple[NDArray[np.int64], int]:
        from secureagg.he import packing_kernels

        packing, frame = self._packing, self._packing.frames[index]
        sums = total.residues(index).copy()
        residues.subtract(sums, self._masking.frame(frame), packing.ring.primes)
        out = np.empty((frame.chunks, packing.fields, frame.coefficients), dtype=np.int64)
        constants, width, limit = self._constants, np.uint64(packing.field_bits), np.uint64(2 * packing.field_limit)
        if len(packing.ring.primes) == 1:
            exceeding = np.empty(frame.chunks, dtype=np.int64)
            worst = packing_kernels.decode_one_prime(
                sums, constants.moduli, constants.divisor, width, limit, out, exceeding
            )
            self._exceeding[index] = exceeding
        else:
            worst = packing_kernels.decode(
                sums, constants.moduli, constants.inverses, constants.companions, constants.divisor, width, limit, out
            )
        return out, int(worst)
