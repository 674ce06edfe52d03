"""One-time keys and encryption: c_j = a_j·s + e_j + Δ·m_j mod q. Secret side.

The additive fragment of CKKS (Cheon, Kim, Kim, Song, ASIACRYPT 2017) with the message in the coefficients. Key and
errors are discrete Gaussians of σ = 6.6 from the operating system's randomness; neither is ever seeded from outside.
"""

from __future__ import annotations

from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from secureagg.he.masking import Masking
from secureagg.he.packing import Frame, Packing, message_factors
from secureagg.ring.gaussian import fill_gaussian
from secureagg.ring.ntt import tables
from secureagg.ring.residues import pack
from secureagg.ring.xof import SecretStream

__all__ = ["Encryptor", "OneTimeKey"]


class OneTimeKey:
    """A key for one session: `coefficients`, int64[keys·N], discrete Gaussian. Never reused, never stored."""

    __slots__ = ("coefficients",)

    def __init__(self, coefficients: NDArray[np.int64]) -> None:
        self.coefficients = coefficients

    @classmethod
    def generate(cls, packing: Packing) -> OneTimeKey:
        """Return a fresh key."""
        coefficients = np.empty(packing.keys * packing.ring.degree, dtype=np.int64)
        fill_gaussian(coefficients, SecretStream(), packing.ring.sigma)
        return cls(coefficients)

    def __repr__(self) -> str:
        return "OneTimeKey(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a one-time key is not pickled")


class Encryptor:
    """Encrypts the frames of one contribution under one fresh key; several threads may encrypt frames at once."""

    def __init__(self, packing: Packing, sid: bytes, key: OneTimeKey) -> None:
        self._packing = packing
        self._masking = Masking(packing, sid, key.coefficients)
        self._stream = SecretStream()
        self._factors, self._companions = message_factors(packing)
        self._constants = np.ascontiguousarray(tables(packing.ring.primes, packing.ring.degree).constants[:, :2])

    def encrypt(
        self,
        frame: Frame,
        values: NDArray[np.int64],
        errors: NDArray[np.int64] | None = None,
        residues: NDArray[np.uint64] | None = None,
    ) -> bytearray:
        """Return the packed ciphertext of a frame's coordinates; fields beyond `values` are zero.

        A prover needs what is encrypted with, and gives the parts [first, last) = `packing.frame_coefficients(frame)`
        of two contiguous arrays to be filled: `errors`, int64[last − first], secret; `residues`, uint64[last − first],
        the ciphertext, where there is one prime.

        Requires: |v| ≤ C for values, ≤ max_weight for the weight (`RoundPlan`); each frame encrypted once.
        """
        from secureagg.he import packing_kernels

        shape = (frame.chunks, frame.coefficients)
        fields = np.zeros((frame.chunks, self._packing.fields, frame.coefficients), dtype=np.int64)
        fields.reshape(-1)[: values.size] = values
        drawn = np.empty(shape, dtype=np.int64) if errors is None else errors.reshape(shape)
        fill_gaussian(drawn, self._stream, self._packing.ring.sigma)
        out = self._masking.frame(frame)
        packing_kernels.add_message(out, fields, drawn, self._factors, self._companions, self._constants)
        if residues is not None:
            residues[:] = out.reshape(-1)
        packed = bytearray(frame.size)
        pack(packed, out, self._packing.ring.primes)
        return packed

    def __repr__(self) -> str:
        return "Encryptor(secret)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an Encryptor holds a one-time key and is not pickled")
