"""Words from AES-256-CTR: secret streams, and public expansions of a label. Two types that never mix.

A keystream's word i is bytes 8i to 8i + 7, little-endian, of AES-256-CTR under the key with the counter starting at
zero; the 128-bit counter is big-endian (NIST SP 800-38A). Blocks never repeat under one key, so a keystream of n
blocks differs from uniform by at most n²/2^129 on top of AES itself: 2^-85 for 64 MiB of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import threading
from collections.abc import Iterator
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from secureagg.errors import ParameterError

__all__ = ["KEY_BYTES", "PublicExpansion", "SecretSpan", "SecretStream"]

KEY_BYTES = 32

_WORDS_PER_BLOCK = 2
_ZEROS = bytes(1 << 16)
_MAX_WORDS = 1 << 63
_SPARE_COUNTER = 1 << 127  # the half of the counters that words proper never reach
_SPARE_BLOCKS = 1 << 32  # per word
_PUBLIC_DOMAIN = b"secureagg/xof/v1"


def _fill(key: bytes, first_block: int, out: NDArray[np.uint64]) -> None:
    """Fill a contiguous array with the keystream from this block on."""
    if not out.flags.c_contiguous or out.dtype != np.uint64:
        raise ParameterError("words are written into contiguous uint64 arrays only")
    encryptor = Cipher(algorithms.AES(key), modes.CTR(first_block.to_bytes(16, "big"))).encryptor()
    target = out.reshape(-1).view(np.uint8).data
    for start in range(0, len(target), len(_ZEROS)):
        piece = target[start : start + len(_ZEROS)]
        encryptor.update_into(_ZEROS[: len(piece)] if len(piece) < len(_ZEROS) else _ZEROS, piece)


def _spares(key: bytes, index: int) -> Iterator[int]:
    """Yield the words that belong to word `index` beside itself: the keystream from block 2^127 + index·2^32 on."""
    block = _SPARE_COUNTER + index * _SPARE_BLOCKS
    pair = np.empty(_WORDS_PER_BLOCK, dtype=np.uint64)
    while True:
        _fill(key, block, pair)
        yield from pair.tolist()
        block += 1


class SecretStream:
    """Uniform words nobody else knows; each is given out once.

    The key comes from the operating system unless a seed is given, which is for tests and for a caller that derives
    its own secret. Cannot be copied or pickled, and refuses to go on in a forked process, where parent and child
    would draw the same words. `repr` shows nothing. Threads may share one; which gets which words is then open.
    """

    __slots__ = ("_key", "_lock", "_next_block", "_process")

    def __init__(self, seed: bytes | None = None) -> None:
        if seed is not None and len(seed) != KEY_BYTES:
            raise ParameterError(f"a seed has {KEY_BYTES} bytes, {len(seed)} given")
        self._key = os.urandom(KEY_BYTES) if seed is None else bytes(seed)
        self._next_block = 0
        self._lock = threading.Lock()
        self._process = os.getpid()

    def substream(self, label: str) -> SecretStream:
        """Return a stream independent of this one and of other labels' (key = HMAC-SHA-256 of the label).

        The same label gives the same stream again, whatever has been drawn: use each once.
        """
        self._check_process()
        return SecretStream(hmac.digest(self._key, label.encode(), "sha256"))

    def reserve(self, words: int) -> SecretSpan:
        """Take the next `words` words out of the stream, to be read in any order, by several threads."""
        self._check_process()
        if words < 0:
            raise ParameterError(f"cannot reserve {words} words")
        with self._lock:
            first = self._next_block
            self._next_block += -(-words // _WORDS_PER_BLOCK)
        return SecretSpan(self, first, words)

    def fill(self, out: NDArray[np.uint64]) -> None:
        """Overwrite a contiguous array with fresh words."""
        self.reserve(out.size).fill(0, out)

    def draw_bytes(self, count: int) -> bytes:
        """Return `count` fresh bytes; what is left of the last word is not used again."""
        words = np.empty(-(-count // 8), dtype=np.uint64)
        self.fill(words)
        return words.tobytes()[:count]

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise ParameterError("a secret stream made before a fork would repeat its words; make a new one")

    def __repr__(self) -> str:
        return "SecretStream(…)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret stream cannot be copied or pickled; use substream(label)")


class SecretSpan:
    """Words reserved from a secret stream: `fill` reads any even-aligned part of them. Read each part once."""

    __slots__ = ("_first_block", "_stream", "_words")

    def __init__(self, stream: SecretStream, first_block: int, words: int) -> None:
        self._stream, self._first_block, self._words = stream, first_block, words

    def fill(self, offset: int, out: NDArray[np.uint64]) -> None:
        """Overwrite a contiguous array with words [offset, offset + out.size) of the span; `offset` is even."""
        self._stream._check_process()
        if offset < 0 or offset % _WORDS_PER_BLOCK or offset + out.size > self._words:
            raise ParameterError(f"words {offset} to {offset + out.size} are not a span of {self._words}")
        _fill(self._stream._key, self._first_block + offset // _WORDS_PER_BLOCK, out)

    def spare(self, index: int) -> int:
        """Return one more word, which belongs to word `index` of the span."""
        self._stream._check_process()
        return next(_spares(self._stream._key, self._first_block * _WORDS_PER_BLOCK + index))

    def __repr__(self) -> str:
        return f"SecretSpan({self._words} words)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("reserved secret words cannot be copied or pickled")


class PublicExpansion:
    """The words everybody derives from (sid, label); the same wherever and in whatever pieces they are read.

    Key = SHA-256("secureagg/xof/v1" ‖ len(label) ‖ label ‖ len(sid) ‖ sid), lengths as 8 bytes little-endian. The
    key is public: what is needed is that the words look chosen by nobody (AES as an ideal cipher, as in FrodoKEM's
    and Kyber-90s' generation of `a`), not that they are hidden.
    """

    __slots__ = ("_key", "label")

    def __init__(self, sid: bytes, label: str) -> None:
        digest = hashlib.sha256(_PUBLIC_DOMAIN)
        for part in (label.encode(), sid):
            digest.update(len(part).to_bytes(8, "little") + part)
        self._key = digest.digest()
        self.label = label

    @property
    def identity(self) -> bytes:
        """The 32 bytes that determine all words."""
        return self._key

    def fill(self, first: int, out: NDArray[np.uint64]) -> None:
        """Overwrite a contiguous array with words first, first + 1, …; `first` is even and below 2^63."""
        if first % _WORDS_PER_BLOCK or not 0 <= first <= _MAX_WORDS - out.size:
            raise ParameterError(f"words are addressed by even positions below 2^63, not {first}")
        _fill(self._key, first // _WORDS_PER_BLOCK, out)

    def spares(self, index: int) -> Iterator[int]:
        """Yield the words that stand in, one after the other, for word `index` where it is not acceptable.

        They are the keystream from block 2^127 + index·2^32 on, so they too are addressed by the index alone.
        """
        return _spares(self._key, index)

    def __repr__(self) -> str:
        return f"PublicExpansion(label={self.label!r})"
