"""secureagg.wire: what is written is read back, and nothing else is."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.wire import Reader, Writer

FIELDS = st.lists(
    st.one_of(
        st.tuples(st.just("integer"), st.integers(0, 2**64 - 1)),
        st.tuples(st.just("real"), st.floats(allow_nan=False)),
        st.tuples(st.just("blob"), st.binary(max_size=20)),
        st.tuples(st.just("text"), st.text(max_size=10)),
    ),
    max_size=6,
)


def encode(fields: list[tuple[str, object]]) -> bytes:
    writer = Writer()
    for kind, value in fields:
        getattr(writer, kind)(value, 8) if kind == "integer" else getattr(writer, kind)(value)
    return writer.getvalue()


def decode(fields: list[tuple[str, object]], encoded: bytes) -> list[object]:
    reader = Reader(encoded, "test")
    values = [reader.integer(8) if kind == "integer" else getattr(reader, kind)() for kind, _ in fields]
    reader.end()
    return [bytes(value) if isinstance(value, memoryview) else value for value in values]


def test_layout_of_the_bytes() -> None:
    encoded = Writer().raw(b"mg").integer(1, 1).integer(258, 4).real(1.5).blob(b"xy").text("é").getvalue()
    assert encoded == b"mg\x01\x02\x01\x00\x00" + struct.pack("<d", 1.5) + b"\x02\0\0\0xy" + b"\x02\0\0\0\xc3\xa9"


@given(FIELDS)
def test_round_trip(fields: list[tuple[str, object]]) -> None:
    assert decode(fields, encode(fields)) == [value for _, value in fields]


@given(FIELDS.filter(bool), st.data())
def test_every_truncation_and_extension_is_refused(fields: list[tuple[str, object]], data: st.DataObject) -> None:
    encoded = encode(fields)
    with pytest.raises(EncodingError, match="test: truncated"):
        decode(fields, encoded[: data.draw(st.integers(0, len(encoded) - 1))])
    with pytest.raises(EncodingError, match="trailing"):
        decode(fields, encoded + data.draw(st.binary(min_size=1, max_size=5)))


def test_a_length_is_checked_before_anything_is_read() -> None:
    with pytest.raises(EncodingError, match="4294967295 bytes expected at offset 4, 2 left"):
        Reader(b"\xff\xff\xff\xffab", "test").blob()


def test_magic_and_version_are_told_apart() -> None:
    encoded = Writer().raw(b"magic").integer(3, 1).getvalue()
    Reader(encoded, "test").magic(b"magic", 3)
    with pytest.raises(EncodingError, match="expected b'Magic'"):
        Reader(encoded, "test").magic(b"Magic", 3)
    with pytest.raises(EncodingError, match="format version 3 is unknown, this library reads version 2"):
        Reader(encoded, "test").magic(b"magic", 2)


def test_text_must_be_utf8() -> None:
    with pytest.raises(EncodingError, match="UTF-8"):
        Reader(Writer().blob(b"\xff").getvalue(), "test").text()


def test_an_integer_must_fit() -> None:
    with pytest.raises(OverflowError):
        Writer().integer(256, 1)
    with pytest.raises(OverflowError):
        Writer().integer(-1, 4)


def test_reals_keep_every_bit() -> None:
    for value in (-0.0, math.inf, 5e-324):
        assert struct.pack("<d", Reader(Writer().real(value).getvalue(), "test").real()) == struct.pack("<d", value)
