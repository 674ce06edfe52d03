"""The bytes of contributions and totals, and the checksummed envelope they share with keys.

The checksum finds accidents before SEAL parses anything. It is not authentication: whoever changes bytes on
purpose can compute it anew, and CKKS ciphertexts are malleable. Who sent what is for the transport to establish.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from secureagg.errors import EncodingError, ParameterError
from secureagg.he.tenseal_parameters import CkksParameters
from secureagg.layout import Layout
from secureagg.wire import Reader, Writer

__all__ = ["KEY_ID_BYTES", "NONCE_BYTES", "Expected", "Payload", "checked", "with_checksum"]

KEY_ID_BYTES = 32
NONCE_BYTES = 16  # 2^64 contributions before two collide by chance
_CHECKSUM_BYTES = 32
_LEAST_CIPHERTEXT_BYTES = 4 + 16  # its length and SEAL's header
_LONGER = 16  # times the length of the layout that is known: up to there the tensor is named that differs
_MAGIC, _VERSION = b"secureagg-ckks-sum", 1


def with_checksum(writer: Writer) -> bytes:
    """Return what was written followed by its SHA-256."""
    body = writer.getvalue()
    return body + hashlib.sha256(body).digest()


def checked(encoded: bytes | memoryview, magic: bytes, version: int, what: str) -> Reader:
    """Return a reader placed after magic and version, over the bytes before the checksum, which is right.

    Raises: EncodingError: another kind of object, an unknown version (looked at first, so that a newer format is
    named as such), or damaged bytes.
    """
    view = memoryview(encoded)
    Reader(view, what).magic(magic, version)
    body, checksum = view[:-_CHECKSUM_BYTES], view[-_CHECKSUM_BYTES:]
    if hashlib.sha256(body).digest() != checksum:
        raise EncodingError(f"{what}: the SHA-256 checksum does not match; the bytes are damaged or incomplete")
    reader = Reader(body, what)
    reader.magic(magic, version)
    return reader


@dataclass(frozen=True)
class Payload:
    """One contribution, or a sum of several: they differ in the number of nonces only, so sums of sums add too.

    `nonces`: one for each contribution inside, ascending, none twice. `ciphertexts`: SEAL's bytes, the fewest that
    hold the layout's coordinates and the weight.
    """

    parameters: CkksParameters
    key_id: bytes
    layout: Layout
    nonces: tuple[bytes, ...]
    ciphertexts: Sequence[bytes | memoryview]

    def to_bytes(self) -> bytes:
        """Encode. Integers are little-endian.

        magic "secureagg-ckks-sum" · version (1 byte) · parameters (see CkksParameters.write) · key id (32) ·
        layout (4-byte length, Layout.to_bytes) · number of nonces (4) · nonces (16 each) ·
        number of ciphertexts (4) · each ciphertext (4-byte length, SEAL's bytes) · SHA-256 of all before (32)
        """
        writer = Writer().raw(_MAGIC).integer(_VERSION, 1)
        self.parameters.write(writer)
        writer.raw(self.key_id).blob(self.layout.to_bytes())
        writer.integer(len(self.nonces), 4).raw(b"".join(self.nonces))
        writer.integer(len(self.ciphertexts), 4)
        for ciphertext in self.ciphertexts:
            writer.blob(ciphertext)
        return with_checksum(writer)

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview, expected: Expected | None = None) -> Payload:
        """Decode `to_bytes`; ciphertexts are views of `encoded`, not yet seen by SEAL.

        Raises: EncodingError if a length, an order or an inequality of the parameters is wrong, or something is not
        as expected.
        """
        reader = checked(encoded, _MAGIC, _VERSION, "payload")
        parameters = CkksParameters.read(reader)
        key_id = bytes(reader.raw(KEY_ID_BYTES))
        if expected is not None:
            expected.require_key(parameters, key_id)
        layout = Layout.from_bytes(reader.blob()) if expected is None else expected.layout_in(reader.blob())
        count = reader.integer(4)
        if not 1 <= count <= parameters.grid.clients:
            raise reader.error(f"1 ≤ contributions ≤ clients={parameters.grid.clients} is required: {count}")
        joined = bytes(reader.raw(count * NONCE_BYTES))
        nonces = tuple(joined[start : start + NONCE_BYTES] for start in range(0, len(joined), NONCE_BYTES))
        if any(first >= second for first, second in pairwise(nonces)):
            raise reader.error("the nonces are not in ascending order, each once")
        needed, found = parameters.ciphertexts(layout.size), reader.integer(4)
        if found != needed:
            raise reader.error(f"{layout.size} values and the weight take {needed} ciphertexts, not {found}")
        if reader.remaining < found * _LEAST_CIPHERTEXT_BYTES:
            raise reader.error(f"truncated: {found} ciphertexts do not fit the {reader.remaining} bytes left")
        ciphertexts = [reader.blob() for _ in range(found)]
        reader.end()
        return cls(parameters, key_id, layout, nonces, ciphertexts)


@dataclass(frozen=True)
class Expected:
    """What a receiver knows of the payloads it takes. It is compared before anything is made of what follows."""

    parameters: CkksParameters
    key_id: bytes
    layout: Layout | None = None

    def require_key(self, parameters: CkksParameters, key_id: bytes) -> None:
        """Raise EncodingError unless a payload was encrypted with these parameters under this key."""
        if parameters != self.parameters:
            raise EncodingError(
                f"payload: made for other parameters: {parameters.grid} with {parameters.summary()}; "
                f"expected {self.parameters.grid} with {self.parameters.summary()}"
            )
        if key_id != self.key_id:
            raise EncodingError(
                f"payload: encrypted under key {key_id.hex()[:16]}…, expected key {self.key_id.hex()[:16]}…"
            )

    def layout_in(self, encoded: memoryview) -> Layout:
        """Decode a payload's layout. Raises: EncodingError naming the first tensor in which it is not this one."""
        if self.layout is None:
            return Layout.from_bytes(encoded)
        own = self.layout.to_bytes()
        if encoded == own:
            return self.layout
        if len(encoded) > _LONGER * len(own):
            raise EncodingError(f"payload: a layout of {len(encoded)} bytes, {len(own)} expected")
        try:
            self.layout.require_same(Layout.from_bytes(encoded))
        except ParameterError as error:
            raise EncodingError(f"payload: {error}") from error
        raise EncodingError("payload: a layout that is not in canonical form")
