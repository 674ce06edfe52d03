"""Canonical bytes: fixed-width little-endian integers and length-prefixed fields, read with every length checked.

What `Writer` writes, `Reader` reads back in the same order. A reader never allocates what a length field claims
before it has checked that many bytes are there, and `end` refuses anything that follows.
"""

from __future__ import annotations

import struct

from secureagg.errors import EncodingError

__all__ = ["Reader", "Writer"]


class Writer:
    """Appends fields to a buffer."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def integer(self, value: int, width: int) -> Writer:
        """Append `value` as `width` bytes, little-endian, unsigned. Raises OverflowError if it does not fit."""
        self._buffer += value.to_bytes(width, "little")
        return self

    def real(self, value: float) -> Writer:
        """Append an IEEE-754 binary64."""
        self._buffer += struct.pack("<d", value)
        return self

    def raw(self, value: bytes | memoryview) -> Writer:
        """Append bytes whose length the format fixes."""
        self._buffer += value
        return self

    def blob(self, value: bytes | memoryview) -> Writer:
        """Append a 4-byte length and the bytes."""
        return self.integer(len(value), 4).raw(value)

    def text(self, value: str) -> Writer:
        """Append a UTF-8 string as a blob."""
        return self.blob(value.encode())

    def getvalue(self) -> bytes:
        """Return all that was written."""
        return bytes(self._buffer)


class Reader:
    """Reads fields from `encoded`; `what` names the object in errors."""

    def __init__(self, encoded: bytes | memoryview, what: str) -> None:
        self._view = memoryview(encoded)
        self.what = what
        self._offset = 0

    def error(self, reason: str) -> EncodingError:
        """Return the error that says what is wrong with these bytes."""
        return EncodingError(f"{self.what}: {reason}")

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return len(self._view) - self._offset

    def raw(self, length: int) -> memoryview:
        """Read exactly `length` bytes. Raises EncodingError if fewer are left."""
        if length > self.remaining:
            raise self.error(f"truncated: {length} bytes expected at offset {self._offset}, {self.remaining} left")
        self._offset += length
        return self._view[self._offset - length : self._offset]

    def integer(self, width: int) -> int:
        """Read an unsigned integer of `width` bytes."""
        return int.from_bytes(self.raw(width), "little")

    def real(self) -> float:
        """Read an IEEE-754 binary64."""
        (value,) = struct.unpack("<d", self.raw(8))
        return float(value)

    def blob(self) -> memoryview:
        """Read a 4-byte length and that many bytes."""
        return self.raw(self.integer(4))

    def text(self) -> str:
        """Read a UTF-8 string. Raises EncodingError if it is not UTF-8."""
        try:
            return str(self.blob(), "utf-8")
        except UnicodeDecodeError as error:
            raise self.error("a name is not UTF-8") from error

    def magic(self, expected: bytes, version: int) -> None:
        """Read a magic string and a one-byte version; refuse any other."""
        found = bytes(self.raw(len(expected)))
        if found != expected:
            raise self.error(f"starts with {found!r}, expected {expected!r}")
        number = self.integer(1)
        if number != version:
            raise self.error(f"format version {number} is unknown, this library reads version {version}")

    def end(self) -> None:
        """Refuse trailing bytes."""
        if self.remaining:
            raise self.error(f"{self.remaining} trailing bytes")
