"""SEAL's serialised objects: how they are laid out, and which of them may reach SEAL.

An object is a header (magic, version, compression, length of the whole) and its members; members may hold objects.
The layout is that of microsoft/SEAL, native/src/seal/ (serialization.h, dynarray.h, plaintext.cpp, ciphertext.cpp,
randomgen.cpp). `plain_object` checks every length in it, so that SEAL has none to believe: releases before 4.4
allocate what a ciphertext of no polynomials claims for its words, inflate without a limit, follow a compression that
only an inner header claims, and on some malformed compressed bytes throw what ends the process. Hence what comes from
others is decompressed here, within a limit, and SEAL reads objects without compression whose every count has been
compared with the bytes that are there. What the words are worth (residues below their primes, parameters) SEAL checks.
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable

from secureagg.errors import EncodingError, MissingExtraError
from secureagg.ring.ntt import Words
from secureagg.wire import Reader, Writer

__all__ = ["plain_object", "words_object", "write_object"]

_MAGIC = 0xA15E
_HEADER_BYTES = 16
# Releases before 4.4 read no minor version of 4 but their own, whereas every SEAL 4 reads 3.4 and later
# (IsCompatibleVersion in serialization.h). Of what is written here, only ciphertexts differ: version 4 adds a field
# that CKKS does not use.
_VERSION = (3, 7)
_NO_COMPRESSION, _ZLIB, _ZSTANDARD = 0, 1, 2
_PARAMETERS_ID_BYTES = 32
_SEED_MEMBERS_BYTES = 1 + 64  # which generator, and its seed
_OVERHEAD_BYTES = 256  # of an object's members beside its residues, or more
_of_thread = threading.local()  # a decompressor, which is not for two threads at once, and takes time to make


def write_object(members: Writer) -> bytes:
    """Return a SEAL object: magic (2) · header length (1) · major, minor version (1, 1) · compression (1) · 0 (2) ·
    length of the whole (8), and the members."""
    content = members.getvalue()
    return _header(bytes(_VERSION), len(content)) + content


def words_object(words: Words) -> bytes:
    """Return SEAL's `DynArray`: a SEAL object of a count (8) and that many words (8 each)."""
    return write_object(Writer().integer(words.size, 8).raw(words.astype("<u8").tobytes()))


def plain_object(kind: str, encoded: bytes | memoryview, words: int, what: str) -> bytes:
    """Return the same object without compression. kind: SecretKey, PublicKey or Ciphertext, as SEAL calls them.

    words: the most residues that it may hold.

    Raises: EncodingError naming `what` unless `encoded` is one whole object of that kind with every length in it as
    its content has it; MissingExtraError if it is compressed by Zstandard and `zstandard` is not installed.
    """
    reader, limit = Reader(encoded, what), 8 * words + _OVERHEAD_BYTES
    version, compression = _read_header(reader)
    members = reader.raw(reader.remaining)
    if len(members) > limit:
        raise reader.error(f"longer than the {limit} bytes that its parameters can fill")
    if compression != _NO_COMPRESSION:
        members = memoryview(_inflated(compression, members, limit, what))
    _CHECKS[kind](Reader(members, what), version)
    return _header(version, len(members)) + members


def _header(version: bytes, content: int) -> bytes:
    writer = Writer().integer(_MAGIC, 2).integer(_HEADER_BYTES, 1).raw(version)
    return writer.integer(_NO_COMPRESSION, 1).integer(0, 2).integer(_HEADER_BYTES + content, 8).getvalue()


def _read_header(reader: Reader) -> tuple[bytes, int]:
    """Read the header of the object that is all `reader` has left. Returns its version and its compression."""
    available = reader.remaining
    if (reader.integer(2), reader.integer(1)) != (_MAGIC, _HEADER_BYTES):
        raise reader.error("not one whole SEAL object: it does not start as one")
    version, compression = bytes(reader.raw(2)), reader.integer(1)
    if version < b"\x03\x06" or version[0] > 4:
        raise reader.error(f"written by SEAL {version[0]}.{version[1]}; 3.6 up to 4 is read")
    reader.integer(2)  # reserved
    length = reader.integer(8)
    if length != available:
        raise reader.error(f"not one whole SEAL object: its header says {length} bytes, there are {available}")
    return version, compression


def _inner(reader: Reader, length: int) -> Reader:
    """Read the header of an object of `length` bytes among an object's members, and return its own members."""
    inner = Reader(reader.raw(length), reader.what)
    _, compression = _read_header(inner)
    if compression != _NO_COMPRESSION:
        raise reader.error("compressed inside, which SEAL never writes")
    return inner


def _check_words(reader: Reader, count: int) -> None:
    words = _inner(reader, _HEADER_BYTES + 8 + 8 * count)
    found = words.integer(8)
    if found != count:
        raise reader.error(f"{found} residues announced, {count} follow from its shape")


def _check_secret_key(reader: Reader, version: bytes) -> None:
    """id of the parameters (32) · number of words (8) · scale (8) · the words."""
    reader.raw(_PARAMETERS_ID_BYTES)
    count = reader.integer(8)
    reader.real()
    _check_words(reader, count)
    reader.end()


def _check_ciphertext(reader: Reader, version: bytes) -> None:
    """id of the parameters (32) · NTT form (1) · polynomials, N, primes (8 each) · scale (8) · from version 4 on, a
    factor for another scheme (8) · the words; of two polynomials the second may be a seed instead."""
    reader.raw(_PARAMETERS_ID_BYTES + 1)
    polynomials, polynomial_words = reader.integer(8), reader.integer(8) * reader.integer(8)
    reader.real()
    if version[0] == 4:
        reader.integer(8)
    if polynomials < 2 or not polynomial_words:
        raise reader.error(f"{polynomials} polynomials of {polynomial_words} residues are no ciphertext")
    seed = _HEADER_BYTES + _SEED_MEMBERS_BYTES
    if polynomials == 2 and reader.remaining == _HEADER_BYTES + 8 + 8 * polynomial_words + seed:
        _check_words(reader, polynomial_words)
        _inner(reader, seed)
    else:
        _check_words(reader, polynomials * polynomial_words)
        reader.end()


_CHECKS: dict[str, Callable[[Reader, bytes], None]] = {
    "SecretKey": _check_secret_key,
    "PublicKey": _check_ciphertext,
    "Ciphertext": _check_ciphertext,
}


def _inflated(compression: int, members: memoryview, limit: int, what: str) -> bytes:
    """Return what was compressed: one stream, whole, of at most `limit` bytes, and never more of it in memory."""
    if compression == _ZLIB:
        return _zlib_inflated(members, limit, what)
    if compression == _ZSTANDARD:
        return _zstandard_inflated(members, limit, what)
    raise EncodingError(f"{what}: compression {compression} is unknown; none (0), zlib (1), Zstandard (2) are read")


def _zlib_inflated(members: memoryview, limit: int, what: str) -> bytes:
    decompressor = zlib.decompressobj()
    try:
        inflated = decompressor.decompress(members, limit + 1)
    except zlib.error as error:
        raise _damaged(what, error) from error
    if len(inflated) > limit:
        raise _too_long(what, limit)
    if not decompressor.eof or decompressor.unused_data:
        raise EncodingError(f"{what}: not one whole compressed stream")
    return inflated


def _zstandard_inflated(members: memoryview, limit: int, what: str) -> bytes:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingExtraError("zstandard", "tenseal") from error
    if not hasattr(_of_thread, "decompressor"):
        _of_thread.decompressor = zstandard.ZstdDecompressor()
    decompressor: zstandard.ZstdDecompressor = _of_thread.decompressor
    try:
        if zstandard.frame_content_size(members) > limit:  # what is stated is what would be allocated; -1 is unknown
            raise _too_long(what, limit)
        return decompressor.decompress(members, max_output_size=limit, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise _damaged(what, error) from error


def _damaged(what: str, error: Exception) -> EncodingError:
    return EncodingError(f"{what}: the compressed bytes are damaged, or more than its parameters can fill ({error})")


def _too_long(what: str, limit: int) -> EncodingError:
    return EncodingError(f"{what}: inflates to over {limit} bytes, more than its parameters can fill")
