"""The two keys of the CKKS reference path, as two types.

They are kept as the bytes SEAL wrote, and parsed where they are used (some 50 µs): so a key is a plain value that can
be compared, hashed and sent, and no SEAL object is shared between threads.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property

from secureagg.errors import EncodingError, ParameterError
from secureagg.he.seal_files import SealFile, SealObject, sealapi
from secureagg.he.tenseal_parameters import CkksParameters, choose_parameters
from secureagg.he.tenseal_wire import KEY_ID_BYTES, checked, with_checksum
from secureagg.wire import Writer

__all__ = ["PublicKey", "SecretKey", "generate_keys"]

_VERSION = 1
_PUBLIC_MAGIC, _SECRET_MAGIC = b"secureagg-ckks-public-key", b"secureagg-ckks-SECRET-key"


@dataclass(frozen=True)
class PublicKey:
    """Encrypts, and lets an aggregator tell its round's contributions from others. Opens nothing."""

    parameters: CkksParameters
    seal_bytes: bytes = field(repr=False)

    @cached_property
    def key_id(self) -> bytes:
        """SHA-256 of the public key's bytes: which key a ciphertext belongs to."""
        return hashlib.sha256(self._body().getvalue()).digest()

    def seal_key(self) -> SealObject:
        """Return SEAL's object. Raises: EncodingError if the bytes are not a key for these parameters."""
        return _load(sealapi().PublicKey(), self.parameters, self.seal_bytes, "public key")

    def to_bytes(self) -> bytes:
        """Encode: magic "secureagg-ckks-public-key" · version (1 byte) · parameters (see CkksParameters.write) ·
        SEAL's bytes (4-byte length) · SHA-256 of all before (32)."""
        return with_checksum(self._body())

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> PublicKey:
        """Decode `to_bytes`. Raises: EncodingError for anything else."""
        reader = checked(encoded, _PUBLIC_MAGIC, _VERSION, "public key")
        key = cls(CkksParameters.read(reader), bytes(reader.blob()))
        reader.end()
        key.seal_key()
        return key

    def _body(self) -> Writer:
        writer = Writer().raw(_PUBLIC_MAGIC).integer(_VERSION, 1)
        self.parameters.write(writer)
        return writer.blob(self.seal_bytes)


@dataclass(frozen=True)
class SecretKey:
    """Opens every ciphertext under its key: the sum's, and any single client's. Also encrypts, at half the bytes."""

    parameters: CkksParameters
    key_id: bytes
    seal_bytes: bytes = field(repr=False, compare=False)

    def seal_key(self) -> SealObject:
        """Return SEAL's object. Raises: EncodingError if the bytes are not a key for these parameters."""
        return _load(sealapi().SecretKey(), self.parameters, self.seal_bytes, "secret key")

    def to_bytes(self) -> bytes:
        """Encode, in the clear: magic "secureagg-ckks-SECRET-key" · version (1 byte) · parameters · key id (32) ·
        SEAL's bytes (4-byte length) · SHA-256 of all before (32). Keep it as you keep a password."""
        writer = Writer().raw(_SECRET_MAGIC).integer(_VERSION, 1)
        self.parameters.write(writer)
        return with_checksum(writer.raw(self.key_id).blob(self.seal_bytes))

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> SecretKey:
        """Decode `to_bytes`. Raises: EncodingError for anything else."""
        reader = checked(encoded, _SECRET_MAGIC, _VERSION, "secret key")
        key = cls(CkksParameters.read(reader), bytes(reader.raw(KEY_ID_BYTES)), bytes(reader.blob()))
        reader.end()
        key.seal_key()
        return key


def generate_keys(
    clients: int, magnitude: float, precision: float, max_weight: float = 1.0
) -> tuple[PublicKey, SecretKey]:
    """Return a fresh key pair for weighted means of up to `clients` updates with |value| ≤ `magnitude`.

    The mean's error is at most `precision`, before it is rounded to each tensor's dtype; weights lie in
    [1, max_weight]. SEAL draws the key from the operating system's randomness.

    Raises: ParameterError quoting the inequality the request breaks; MissingExtraError without TenSEAL.
    """
    parameters = choose_parameters(clients, magnitude, precision, max_weight)
    generator, seal_public = sealapi().KeyGenerator(parameters.context()), sealapi().PublicKey()
    generator.create_public_key(seal_public)
    with SealFile() as file:
        public = PublicKey(parameters, file.dump(seal_public))
        secret = SecretKey(parameters, public.key_id, file.dump(generator.secret_key()))
    return public, secret


def _load(target: SealObject, parameters: CkksParameters, encoded: bytes, what: str) -> SealObject:
    try:
        context = parameters.context()
    except ParameterError as error:
        raise EncodingError(f"{what}: {error}") from error
    with SealFile() as file:
        file.load(target, context, encoded, what)
    return target
