"""What SEAL and plain arithmetic say: the other side of `test_seal_export`, sharing no code with the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tenseal import sealapi

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

SCALE = 2.0**30


class Seal:
    """The other side: SEAL as any program would use it, knowing our parameters and nothing else of ours."""

    def __init__(self, parameters: bytes, folder: Path) -> None:
        self._path = folder / "object"
        self.parameters = sealapi.EncryptionParameters(sealapi.SCHEME_TYPE.CKKS)
        self._path.write_bytes(parameters)
        self.parameters.load(str(self._path))
        self.context = sealapi.SEALContext(self.parameters, True, sealapi.SEC_LEVEL_TYPE.NONE)
        assert self.context.parameters_set()
        self.encoder = sealapi.CKKSEncoder(self.context)
        self.evaluator = sealapi.Evaluator(self.context)

    def dump(self, source: Any) -> bytes:
        source.save(str(self._path))
        return self._path.read_bytes()

    def load(self, target: Any, encoded: bytes) -> Any:
        self._path.write_bytes(encoded)
        target.load(self.context, str(self._path))
        return target

    def ciphertext(self, encoded: bytes) -> Any:
        return self.load(sealapi.Ciphertext(), encoded)

    def generate_key(self) -> Any:
        return sealapi.KeyGenerator(self.context).secret_key()

    def encrypt(self, key: Any, slots: NDArray[np.complex128]) -> bytes:
        """A seeded, Zstandard-compressed ciphertext."""
        plain = sealapi.Plaintext()
        self.encoder.encode(slots.tolist(), SCALE, plain)
        return self.dump(sealapi.Encryptor(self.context, key).encrypt_symmetric(plain))

    def decrypt(self, key: Any, ciphertext: Any) -> Any:
        plain = sealapi.Plaintext()
        sealapi.Decryptor(self.context, key).decrypt(ciphertext, plain)
        return plain

    def add(self, first: bytes, second: bytes) -> Any:
        total = sealapi.Ciphertext()
        self.evaluator.add(self.ciphertext(first), self.ciphertext(second), total)
        return total

    def coefficients(self, ciphertext: Any) -> Words:
        """Both polynomials by SEAL's own inverse transform: uint64[2·primes, N]."""
        self.evaluator.transform_from_ntt_inplace(ciphertext)
        return words_of(ciphertext, ciphertext.poly_modulus_degree())


def words_of(holder: Any, degree: int) -> Words:
    array = holder.dyn_array()
    return np.array([array.at(i) for i in range(array.size())], dtype=np.uint64).reshape(-1, degree)


def reduced(integers: list[int], primes: tuple[int, ...]) -> Words:
    """Residues by Python's integers: uint64[1, primes, N]."""
    return np.array([[[x % q for x in integers] for q in primes]], dtype=np.uint64)


def slots_of(coefficients: NDArray[np.float64] | Integers) -> NDArray[np.complex128]:
    """m(ζ^(3^i)) for i < N/2, ζ = exp(πi/N): CKKS's canonical embedding in SEAL's order of slots, by numpy's FFT."""
    degree = len(coefficients)
    at_odd_powers = np.conj(np.fft.fft(coefficients * np.exp(-1j * np.pi * np.arange(degree) / degree)))
    return at_odd_powers[[(pow(3, i, 2 * degree) - 1) // 2 for i in range(degree // 2)]]


def plain_root(q: int, degree: int) -> int:
    """The smallest primitive 2N-th root of unity mod q."""
    candidates = (pow(x, (q - 1) // (2 * degree), q) for x in range(2, q))
    root = next(x for x in candidates if pow(x, degree, q) == q - 1)
    return min(pow(root, k, q) for k in range(1, 2 * degree, 2))
