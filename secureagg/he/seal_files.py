"""SEAL objects as bytes, through the one door its Python binding has: `save(path)` and `load(context, path)`.

TenSEAL's own vectors hide SEAL's seeded ciphertexts, single-prime parameter sets and complex slots;
`tenseal.sealapi` (SEAL 4 bound one to one) has them, but reads and writes named files only. On Linux the file is
anonymous memory (`memfd_create`), so that no key and no ciphertext touches a disk; elsewhere it is a temporary file
that only its owner can read, emptied and removed on `close`.

This is the only module that imports TenSEAL, and it does so on first use.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from io import FileIO
from types import TracebackType
from typing import Any, Protocol

from secureagg.errors import EncodingError, MissingExtraError, ParameterError
from secureagg.he.seal_format import plain_object

__all__ = ["SealFile", "SealObject", "seal_context", "seal_errors", "sealapi"]

SealObject = Any  # an object of tenseal.sealapi, which ships no types

_MOST_POLYNOMIALS = 16  # of a ciphertext: SEAL_CIPHERTEXT_SIZE_MAX in its util/defines.h


class _Saved(Protocol):
    def save(self, path: str) -> None: ...


class _Loaded(Protocol):
    def load(self, context: SealObject, path: str) -> None: ...


def sealapi() -> SealObject:
    """Return `tenseal.sealapi`. Raises: MissingExtraError with the pip command if TenSEAL is not installed."""
    try:
        from tenseal import sealapi as module
    except ModuleNotFoundError as error:
        raise MissingExtraError("tenseal", "tenseal") from error
    return module


@lru_cache(maxsize=16)
def seal_context(ring_degree: int, primes: tuple[int, ...]) -> SealObject:
    """Return the SEALContext of CKKS in Z_q[X]/(X^N+1), q the product of `primes`, at SEAL's own 128-bit level.

    Immutable, so threads may share it; cached because SEAL searches its roots of unity anew each time (5–25 ms).
    Raises: ParameterError if SEAL refuses the set: too large a modulus, not a prime, not ≡ 1 mod 2N.
    """
    seal = sealapi()
    try:
        literal = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        literal.set_poly_modulus_degree(ring_degree)
        literal.set_coeff_modulus([seal.Modulus(prime) for prime in primes])
        context = seal.SEALContext(literal, True, seal.SEC_LEVEL_TYPE.TC128)
    except (ValueError, RuntimeError, TypeError) as error:
        raise ParameterError(f"SEAL refuses N={ring_degree}, primes={primes}: {error}") from error
    if not context.parameters_set():
        reason = context.parameters_error_message()
        raise ParameterError(f"SEAL refuses N={ring_degree}, primes={primes}: {reason}")
    return context


@contextmanager
def seal_errors(what: str) -> Iterator[None]:
    """Turn what pybind11 makes of SEAL's C++ exceptions into an EncodingError."""
    try:
        yield
    except (ValueError, RuntimeError, IndexError, OverflowError, MemoryError) as error:
        raise EncodingError(f"{what}: SEAL cannot read it ({error})") from error


def _open_file() -> tuple[int, str, bool]:
    """Return a descriptor, its path, and whether the path has to be removed afterwards."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("secureagg")
        path = f"/proc/self/fd/{descriptor}"
        if os.path.exists(path):
            return descriptor, path, False
        os.close(descriptor)  # a container without /proc
    return *tempfile.mkstemp(prefix="secureagg-"), True  # mode 0600


class SealFile:
    """One file that SEAL objects pass through, one after the other. Not for two threads at once."""

    def __init__(self) -> None:
        descriptor, self.path, self._temporary = _open_file()
        self._file = FileIO(descriptor, "r+b")

    def dump(self, source: _Saved) -> bytes:
        """Return SEAL's own serialised form of `source` (zstd inside), header included."""
        source.save(self.path)  # truncates the file
        self._file.seek(0)
        return self._file.read()

    def load(self, target: _Loaded, context: SealObject, encoded: bytes | memoryview, what: str) -> None:
        """Fill `target`, a SecretKey, PublicKey or Ciphertext, from bytes that are exactly that, valid in `context`.

        The bytes may be anybody's: `seal_format.plain_object` checks every length in them, and SEAL the content
        against the context, every residue below its prime.

        Raises: EncodingError naming `what`; then the content of `target` is unspecified.
        """
        parameters = context.key_context_data().parms()
        words = _MOST_POLYNOMIALS * parameters.poly_modulus_degree() * len(parameters.coeff_modulus())
        plain = plain_object(type(target).__name__, encoded, words, what)
        self._file.seek(0)
        written = self._file.write(plain)
        if written != len(plain):
            raise OSError(f"{written} of {len(plain)} bytes written to {self.path}")
        with seal_errors(what):
            target.load(context, self.path)

    def close(self) -> None:
        """Empty and drop the file."""
        if not self._file.closed:
            self._file.truncate(0)
            self._file.close()
            if self._temporary:
                os.unlink(self.path)

    def __enter__(self) -> SealFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
