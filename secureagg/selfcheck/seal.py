"""Laws of agreement with Microsoft SEAL, as TenSEAL brings it: two implementations that share no code."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.he.seal_export import export_ciphertext, export_parameters, export_secret_key, import_secret_key
from secureagg.he.seal_files import sealapi
from secureagg.ring import ntt, residues
from secureagg.ring.params import PARAMETER_NAMES, RingParameters, ring_parameters
from secureagg.selfcheck.law import Case, Extra, Law, require

__all__ = ["LAWS"]

_TENSEAL = Extra("tenseal", "tenseal", "tenseal")
_SCALE = 2.0**30


class _Seal:
    """SEAL as any program would use it, knowing our parameters and nothing else of ours."""

    def __init__(self, ring: RingParameters, folder: Path) -> None:
        self.api: Any = sealapi()  # of C++, without types
        self._path = folder / "object"
        parameters = self.api.EncryptionParameters(self.api.SCHEME_TYPE.CKKS)
        self._path.write_bytes(export_parameters(ring))
        parameters.load(str(self._path))
        self.context = self.api.SEALContext(parameters, True, self.api.SEC_LEVEL_TYPE.NONE)
        self.evaluator = self.api.Evaluator(self.context)

    def load(self, target: Any, encoded: bytes) -> Any:
        """Return a SEAL object of these bytes."""
        self._path.write_bytes(encoded)
        target.load(self.context, str(self._path))
        return target

    def dump(self, source: Any) -> bytes:
        """Return a SEAL object's bytes."""
        source.save(str(self._path))
        return self._path.read_bytes()

    def words(self, holder: Any, primes: int, degree: int) -> NDArray[np.uint64]:
        """Return the first polynomial that a SEAL object holds: uint64[1, primes, N]."""
        array = holder.dyn_array()
        words = [array.at(i) for i in range(primes * degree)]
        return np.array(words, dtype=np.uint64).reshape(1, primes, degree)


def _opens(case: Case) -> None:
    """SEAL decrypts our ciphertext, and the sum of two that it adds itself, to exactly our noisy messages."""
    ring, random = ring_parameters(PARAMETER_NAMES[case.number % len(PARAMETER_NAMES)]), case.random
    key = np.rint(random.normal(0, ring.sigma, ring.degree)).astype(np.int64)
    with tempfile.TemporaryDirectory() as folder:
        seal = _Seal(ring, Path(folder))
        seal_key = seal.load(seal.api.SecretKey(), export_secret_key(ring, key))
        decryptor = seal.api.Decryptor(seal.context, seal_key)
        noisy, ours = [], []
        for _ in range(2):
            integers = random.integers(-(1 << 50), 1 << 50, (1, ring.degree))
            message = np.zeros((1, len(ring.primes), ring.degree), dtype=np.uint64)
            residues.add_signed(message, integers, ring.primes)
            noisy.append(message)
            ours.append(seal.load(seal.api.Ciphertext(), _encrypted(ring, random, key, message)))
        total, plain = seal.api.Ciphertext(), seal.api.Plaintext()
        seal.evaluator.add(*ours, total)
        expected = noisy[0].copy()
        residues.add(expected, noisy[1], ring.primes)
        for ciphertext, message, what in ((ours[0], noisy[0], "ciphertext"), (total, expected, "sum of ciphertexts")):
            decryptor.decrypt(ciphertext, plain)
            found = seal.words(plain, len(ring.primes), ring.degree)
            ntt.inverse(found, ring.primes)
            require(np.array_equal(found, message), f"{ring.name}: SEAL opens our {what} to another message")


def _encrypted(ring: RingParameters, random: np.random.Generator, key: NDArray[np.int64], message: ntt.Words) -> bytes:
    """Return a·s + message under a uniform a, for SEAL."""
    a = np.stack([random.integers(0, q, (1, ring.degree), dtype=np.uint64) for q in ring.primes], axis=1)
    masked = np.zeros_like(a)
    residues.add_signed(masked, key[None], ring.primes)
    ntt.forward(masked, ring.primes)
    ntt.multiply(masked, a, ring.primes)
    ntt.inverse(masked, ring.primes)
    residues.add(masked, message, ring.primes)
    return export_ciphertext(ring, masked, a, _SCALE)


def _keys(case: Case) -> None:
    """A key that SEAL generates is ternary under our transform, and comes back the same."""
    ring = ring_parameters(PARAMETER_NAMES[case.number % len(PARAMETER_NAMES)])
    with tempfile.TemporaryDirectory() as folder:
        seal = _Seal(ring, Path(folder))
        encoded = seal.dump(seal.api.KeyGenerator(seal.context).secret_key())
        key = import_secret_key(ring, encoded)
        require(set(np.unique(key).tolist()) == {-1, 0, 1}, f"{ring.name}: SEAL's key is not ternary in our order")
        again = seal.dump(seal.load(seal.api.SecretKey(), export_secret_key(ring, key)))
        require(np.array_equal(import_secret_key(ring, again), key), f"{ring.name}: SEAL reads another key")


_SUBJECT, _SOURCE = "seal", "secureagg/he/seal_export.py; microsoft/SEAL"
LAWS = (
    Law(
        _SUBJECT,
        "ciphertexts",
        "SEAL opens our ciphertexts, and the sums that it makes of them, to exactly our messages.",
        _SOURCE,
        _opens,
        3,
        30,
        needs=_TENSEAL,
    ),
    Law(_SUBJECT, "keys", "SEAL's keys are ours after our transform.", _SOURCE, _keys, 3, 30, needs=_TENSEAL),
)
