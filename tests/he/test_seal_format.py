"""secureagg.he.seal_format: what reaches SEAL is whole, not compressed, and as long as every length in it says."""

from __future__ import annotations

import contextlib
import random
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from tenseal import sealapi

from secureagg.errors import EncodingError, MissingExtraError
from secureagg.he import seal_export
from secureagg.he.seal_files import SealFile
from secureagg.he.seal_format import plain_object
from secureagg.ring.params import ring_parameters

ROOT = Path(__file__).resolve().parents[2]
RING = ring_parameters("INSECURE_N64_Q104", allow_insecure=True)
WORDS = 16 * 3 * RING.degree  # as SealFile.load has it
HEADER = 16
# Offsets in an uncompressed ciphertext of version 4: after the header, and in its array's header.
COMPRESSION, LENGTH, POLYNOMIALS, DEGREE, PRIMES, ARRAY = 5, 8, 49, 57, 65, 89
ARRAY_COMPRESSION, ARRAY_COUNT = ARRAY + COMPRESSION, ARRAY + HEADER
NAMES = ("SecretKey", "PublicKey", "Ciphertext", "seeded")


def context() -> Any:
    return seal_export._context(RING.degree, seal_export._chain(RING.primes))


def kind_of(name: str) -> str:
    return "Ciphertext" if name == "seeded" else name


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """Objects as SEAL writes them, compressed by Zstandard."""
    generator, public, plain = sealapi.KeyGenerator(context()), sealapi.PublicKey(), sealapi.Plaintext()
    generator.create_public_key(public)
    sealapi.CKKSEncoder(context()).encode([1.0, -2.0], 2.0**20, plain)
    ciphertext, secret = sealapi.Ciphertext(), generator.secret_key()
    sealapi.Encryptor(context(), public).encrypt(plain, ciphertext)
    seeded = sealapi.Encryptor(context(), secret).encrypt_symmetric(plain)
    with SealFile() as file:
        return dict(zip(NAMES, map(file.dump, (secret, public, ciphertext, seeded)), strict=True))


@pytest.fixture(scope="module")
def plain(written: dict[str, bytes]) -> dict[str, bytes]:
    return {name: plain_object(kind_of(name), encoded, WORDS, "it") for name, encoded in written.items()}


def load(name: str, encoded: bytes) -> bytes:
    """Have SEAL read it, and return what SEAL then writes."""
    target = getattr(sealapi, kind_of(name))()
    with SealFile() as file:
        file.load(target, context(), encoded, "it")
        return file.dump(target)


def patched(encoded: bytes, offset: int, replacement: bytes) -> bytes:
    return encoded[:offset] + replacement + encoded[offset + len(replacement) :]


def with_length(encoded: bytes) -> bytes:
    return patched(encoded, LENGTH, struct.pack("<Q", len(encoded)))


def compressed(plain: bytes, compression: int, members: bytes) -> bytes:
    """The header of `plain`, changed to announce these compressed members."""
    return with_length(patched(plain[:HEADER], COMPRESSION, bytes([compression])) + members)


@pytest.mark.parametrize("name", NAMES)
def test_every_way_of_compressing_an_object_reads_as_the_same(
    name: str, written: dict[str, bytes], plain: dict[str, bytes]
) -> None:
    members = plain[name][HEADER:]
    same = [
        plain[name],
        compressed(plain[name], 1, zlib.compress(members)),
        compressed(plain[name], 2, zstandard.ZstdCompressor(write_content_size=False).compress(members)),
        compressed(plain[name], 2, zstandard.ZstdCompressor(level=19, write_checksum=True).compress(members)),
    ]
    assert written[name][COMPRESSION] == 2 and plain[name][COMPRESSION] == 0
    for encoded in same:
        assert plain_object(kind_of(name), encoded, WORDS, "it") == plain[name]
        assert load(name, encoded) == load(name, written[name])


COMPRESSORS: dict[int, Callable[[bytes], bytes]] = {1: zlib.compress, 2: zstandard.ZstdCompressor().compress}


@pytest.mark.parametrize("compression", COMPRESSORS)
@pytest.mark.parametrize("change", ["truncated", "extended", "twice", "empty", "damaged", "one byte too long"])
def test_what_is_not_one_whole_compressed_stream_is_refused(
    plain: dict[str, bytes], compression: int, change: str
) -> None:
    compress = COMPRESSORS[compression]
    stream = compress(plain["Ciphertext"][HEADER:])
    changed = {
        "truncated": stream[:-1],
        "extended": stream + b"\0",
        "twice": stream + stream,
        "empty": b"",
        "damaged": b"\0" + stream[1:],
        "one byte too long": compress(plain["Ciphertext"][HEADER:] + b"\0"),
    }[change]
    load("Ciphertext", compressed(plain["Ciphertext"], compression, stream))
    with pytest.raises(EncodingError, match=r"^it: "):
        load("Ciphertext", compressed(plain["Ciphertext"], compression, changed))


def word(value: int) -> bytes:
    return struct.pack("<Q", value)


LIES: dict[str, Callable[[bytes], bytes]] = {
    "no polynomial, and words without end": lambda b: patched(
        patched(b, POLYNOMIALS, word(0)), ARRAY_COUNT, word(1 << 34)
    ),
    "no polynomial, no words": lambda b: with_length(
        patched(patched(b[: ARRAY_COUNT + 8], ARRAY + LENGTH, word(24)), ARRAY_COUNT, word(0))
    ),
    "one polynomial": lambda b: with_length(
        patched(
            patched(patched(b[:-1024], POLYNOMIALS, word(1)), ARRAY + LENGTH, word(24 + 1024)), ARRAY_COUNT, word(128)
        )
    ),
    "many polynomials": lambda b: patched(b, POLYNOMIALS, word(1 << 40)),
    "a product of shapes that wraps": lambda b: patched(patched(b, POLYNOMIALS, word(1 << 63)), DEGREE, word(1 << 62)),
    "a large degree": lambda b: patched(b, DEGREE, word(1 << 40)),
    "many primes": lambda b: patched(b, PRIMES, word(1 << 40)),
    "more words than are there": lambda b: patched(b, ARRAY_COUNT, word(1 << 40)),
    "a longer array": lambda b: patched(b, ARRAY + LENGTH, word(1 << 40)),
    "an array compressed by zlib": lambda b: patched(b, ARRAY_COMPRESSION, b"\1"),
    "an array compressed by Zstandard": lambda b: patched(b, ARRAY_COMPRESSION, b"\2"),
    "an inner object that is none": lambda b: patched(b, ARRAY, b"\0\0"),
    "another version": lambda b: patched(b, 3, b"\2\7"),
    "a version without seeds": lambda b: patched(b, 3, b"\3\5"),
    "a compression nobody knows": lambda b: patched(b, COMPRESSION, b"\3"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_length_that_is_not_so_never_reaches_seal(plain: dict[str, bytes], lie: str) -> None:
    encoded = plain["Ciphertext"]
    with pytest.raises(EncodingError, match=r"^it: ") as refused:
        load("Ciphertext", LIES[lie](encoded))
    assert "SEAL cannot read" not in str(refused.value)


def test_the_same_holds_of_a_seed(plain: dict[str, bytes]) -> None:
    encoded = plain["seeded"]
    seed = len(encoded) - HEADER - 65
    assert encoded[seed : seed + 2] == encoded[:2]
    for lie in (
        patched(encoded, seed + COMPRESSION, b"\2"),
        patched(encoded, seed + LENGTH, word(80)),
        with_length(encoded[:-1]),
        with_length(encoded + b"\0"),
        with_length(encoded[:seed]),
    ):
        with pytest.raises(EncodingError, match=r"^it: "):
            load("seeded", lie)


@given(seed=st.integers(0, 2**32))
def test_random_damage_is_refused_or_read(plain: dict[str, bytes], seed: int) -> None:
    """Nothing but EncodingError is raised, whatever is flipped, overwritten, cut out or put in, at every length."""
    drawn = random.Random(seed)
    name = drawn.choice(NAMES)
    damaged = bytearray(plain[name])
    for _ in range(drawn.randint(1, 3)):
        offset = drawn.randrange(200 if drawn.random() < 0.8 else len(damaged))
        change = drawn.randrange(4)
        if change == 0:
            damaged[offset] ^= 1 << drawn.randrange(8)
        elif change == 1:
            damaged[offset : offset + 8] = word(drawn.choice([0, 1, 2, 16, 24, 2**31, 2**63, 2**64 - 1, len(damaged)]))
        elif change == 2:
            del damaged[offset : offset + drawn.randint(1, 40)]
        else:
            damaged[offset:offset] = drawn.randbytes(drawn.randint(1, 20))
    encoded = with_length(bytes(damaged))
    if drawn.random() < 0.5:
        encoded = compressed(plain[name], 2, zstandard.ZstdCompressor().compress(encoded[HEADER:]))
    with contextlib.suppress(EncodingError):
        load(name, encoded)


READS = """
import resource, sys
from secureagg.errors import EncodingError
from secureagg.he import seal_export
from secureagg.ring.params import ring_parameters

ring = ring_parameters("INSECURE_N64_Q104", allow_insecure=True)
seal_export.import_ciphertext(ring, open(sys.argv[1], "rb").read())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    seal_export.import_ciphertext(ring, open(sys.argv[2], "rb").read())
except EncodingError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize(("compression", "zeros"), [(1, 1 << 24), (2, 1 << 29)])
def test_a_decompression_bomb_takes_no_memory(
    plain: dict[str, bytes], tmp_path: Path, compression: int, zeros: int
) -> None:
    """As many as the length of an honest object allows: SEAL before 4.3.3 inflates all of it first."""
    good, bomb = tmp_path / "good", tmp_path / "bomb"
    good.write_bytes(plain["Ciphertext"])
    stream = COMPRESSORS[compression](bytes(zeros))
    bomb.write_bytes(compressed(plain["Ciphertext"], compression, stream))
    done = subprocess.run(
        [sys.executable, "-c", READS, str(good), str(bomb)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    message, kibibytes = done.stdout.splitlines()
    assert "more than its parameters can fill" in message
    assert int(kibibytes) < 24 * 1024
    bomb.write_bytes(compressed(plain["Ciphertext"], 0, bytes(1 << 20)))
    with pytest.raises(EncodingError, match="longer than the"):
        seal_export.import_ciphertext(RING, bomb.read_bytes())


def test_without_zstandard_the_extra_is_named(written: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"secureagg\[tenseal\]"):
        plain_object("Ciphertext", written["Ciphertext"], WORDS, "it")


def test_a_key_we_wrote_needs_no_zstandard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    key = np.ones(RING.degree, dtype=np.int64)
    np.testing.assert_array_equal(seal_export.import_secret_key(RING, seal_export.export_secret_key(RING, key)), key)
