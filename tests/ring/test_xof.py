"""Keystreams against a second construction; what secret streams refuse."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import threading
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring.xof import PublicExpansion, SecretStream
from tests.ring import reference

SEED = bytes(range(32))
LONG = 3 * (1 << 16) // 8 + 6  # words: more than three pieces of zeros, and a rest


def words(expansion: PublicExpansion, first: int, count: int) -> list[int]:
    """Return words first, …, first + count − 1."""
    out = np.empty(count, dtype=np.uint64)
    expansion.fill(first, out)
    return [int(word) for word in out]


def test_secret_words_are_aes_256_ctr() -> None:
    out = np.empty(LONG, dtype=np.uint64)
    SecretStream(SEED).fill(out)
    places = [0, 1, 2, 3, 100, 8191, 8192, 8193, LONG - 1]
    assert [int(out[i]) for i in places] == [reference.keystream_word(SEED, i) for i in places]


def test_known_answer() -> None:
    """NIST SP 800-38A's key of F.5.5; the keystream's first block is AES of the all-zero block."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    assert SecretStream(key).draw_bytes(16).hex() == "e568f68194cf76d6174d4cc04310a854"


def test_streams_give_every_word_once() -> None:
    stream, whole = SecretStream(SEED), np.empty(64, dtype=np.uint64)
    SecretStream(SEED).fill(whole)
    parts = [stream.draw_bytes(size) for size in (16, 32, 8, 5, 16)]  # 8 and 5 bytes take a block each
    blocks = whole.tobytes()
    assert parts == [blocks[:16], blocks[16:48], blocks[48:56], blocks[64:69], blocks[80:96]]


def test_spans_are_read_in_any_order() -> None:
    whole = np.empty(100, dtype=np.uint64)
    SecretStream(SEED).fill(whole)
    stream = SecretStream(SEED)
    span, rest = stream.reserve(90), stream.reserve(10)
    out = np.empty(100, dtype=np.uint64)
    rest.fill(0, out[90:])
    span.fill(40, out[40:90])
    span.fill(0, out[:40])
    assert np.array_equal(out, whole)


@pytest.mark.parametrize(("offset", "size"), [(1, 2), (-2, 2), (8, 4), (0, 11)])
def test_span_refuses_words_outside_it(offset: int, size: int) -> None:
    span = SecretStream(SEED).reserve(10)
    with pytest.raises(ParameterError, match="not a span of 10"):
        span.fill(offset, np.empty(size, dtype=np.uint64))


def test_spare_words_belong_to_their_word() -> None:
    stream = SecretStream(SEED)
    stream.reserve(10)
    span = stream.reserve(4)
    expected = [reference.keystream_word(SEED, 2 * ((1 << 127) + ((10 + i) << 32))) for i in range(4)]
    assert [span.spare(i) for i in range(4)] == expected


def test_substreams_differ_from_each_other_and_their_parent() -> None:
    parent = SecretStream(SEED)
    streams = [parent, parent.substream("a"), parent.substream("b"), parent.substream("a").substream("a")]
    first = [stream.draw_bytes(32) for stream in streams]
    assert len(set(first)) == 4
    assert SecretStream(SEED).substream("a").draw_bytes(32) == first[1]


def test_default_key_is_new_each_time() -> None:
    assert SecretStream().draw_bytes(32) != SecretStream().draw_bytes(32)


def test_threads_never_share_words() -> None:
    stream = SecretStream(SEED)
    drawn: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: drawn.extend(stream.draw_bytes(16) for _ in range(200))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(drawn)) == 1600


def test_secret_streams_show_and_copy_nothing() -> None:
    for secret in (SecretStream(SEED), SecretStream(SEED).reserve(4)):
        assert SEED.hex() not in repr(secret) and repr(SEED)[2:10] not in repr(secret)
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="copied or pickled"):
                duplicate(secret)


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="no fork here")
def test_secret_stream_is_refused_in_a_forked_child() -> None:
    code = """
import os
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream
import numpy as np
stream = SecretStream(); span = stream.reserve(2)
pid = os.fork()
if pid == 0:
    refused = 0
    for use in (lambda: stream.draw_bytes(1), lambda: stream.substream("x"), lambda: span.spare(0),
                lambda: span.fill(0, np.empty(2, np.uint64))):
        try:
            use()
        except ParameterError as error:
            refused += "before a fork" in str(error)
    os._exit(refused)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
stream.draw_bytes(1)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33)])
def test_seed_of_another_length_is_refused(seed: bytes) -> None:
    with pytest.raises(ParameterError, match="32 bytes"):
        SecretStream(seed)


def test_public_words_follow_from_label_and_sid() -> None:
    expansion, key = PublicExpansion(b"sid", "label"), reference.public_key(b"sid", "label")
    assert words(expansion, 6, 4) == [reference.keystream_word(key, i) for i in range(6, 10)]
    assert words(expansion, 0, LONG)[-10:] == words(expansion, LONG - 10, 10)
    base = 2 * ((1 << 127) + (77 << 32))
    assert list(islice(expansion.spares(77), 5)) == [reference.keystream_word(key, base + i) for i in range(5)]


def test_label_and_sid_are_told_apart() -> None:
    """Moving the boundary between the two changes the words."""
    pairs = [(b"bc", "a"), (b"c", "ab"), (b"", "abc"), (b"abc", ""), (b"\x00bc", "a")]
    assert len({tuple(words(PublicExpansion(sid, label), 0, 2)) for sid, label in pairs}) == len(pairs)


@pytest.mark.parametrize("first", [1, -2, (1 << 63) - 2, 1 << 63])
def test_public_words_have_even_positions(first: int) -> None:
    with pytest.raises(ParameterError, match="even positions"):
        PublicExpansion(b"", "").fill(first, np.empty(4, dtype=np.uint64))


@pytest.mark.parametrize("out", [np.empty(8, np.int64), np.empty(16, np.uint64)[::2]])
def test_targets_of_another_form_are_refused(out: NDArray[np.uint64]) -> None:
    with pytest.raises(ParameterError, match="contiguous uint64"):
        SecretStream(SEED).fill(out)
    with pytest.raises(ParameterError, match="contiguous uint64"):
        PublicExpansion(b"", "").fill(0, out)
