"""Fiat–Shamir: challenges that depend on every item absorbed before them, in order; and what they expand to.

The state is 32 bytes. With ‖ for concatenation and [x] for the length of x as 8 bytes little-endian, then x:

    start      state = SHA-256("secureagg/zk/transcript/v1" ‖ [label])
    absorb     state = SHA-256(state ‖ "absorb" ‖ [label] ‖ [data])
    challenge  c = SHA-256(state ‖ "challenge" ‖ [label]), then state = SHA-256(state ‖ "advance" ‖ [label])

No tag is a prefix of another and every field carries its length, so two different sequences of calls never hash the
same bytes: a collision of states is one of SHA-256. Everything here is public; a prover and a verifier that made the
same calls hold the same state.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import ParameterError
from secureagg.ring import masks
from secureagg.ring.xof import PublicExpansion

__all__ = ["CHALLENGE_BYTES", "Transcript", "distinct_positions", "field_elements"]

CHALLENGE_BYTES = 32

_DOMAIN = b"secureagg/zk/transcript/v1"
_ABSORB, _CHALLENGE, _ADVANCE = b"absorb", b"challenge", b"advance"
_PIECE_WORDS = 1 << 15  # shared among the threads of `workers`, 256 KiB at a time
_MAX_BOUND = 1 << 63


class Transcript:
    """A SHA-256 chain over labelled, length-prefixed items.

    Guarantees: equal challenges mean equal sequences of calls before them (labels, data and order), unless SHA-256
    has been broken. Two challenges in a row differ, even under one label.
    """

    __slots__ = ("_state",)

    def __init__(self, label: str) -> None:
        self._state = hashlib.sha256(_DOMAIN + _prefixed(label.encode())).digest()

    def absorb(self, label: str, data: bytes | memoryview) -> None:
        """Make all later challenges depend on `label` and on the bytes of `data`, which are not copied.

        Raises: ParameterError if `data` is a view with gaps, whose bytes have no order of their own.
        """
        view = memoryview(data)
        if not view.c_contiguous:
            raise ParameterError(f"{label}: only a contiguous buffer can be absorbed")
        digest = hashlib.sha256(self._state + _ABSORB + _prefixed(label.encode()))
        digest.update(view.nbytes.to_bytes(8, "little"))
        if view.nbytes:  # a view without elements cannot be cast
            digest.update(view.cast("B"))
        self._state = digest.digest()

    def challenge(self, label: str) -> bytes:
        """Return 32 bytes that follow from all that came before, and move on."""
        named = _prefixed(label.encode())
        drawn = hashlib.sha256(self._state + _CHALLENGE + named).digest()
        self._state = hashlib.sha256(self._state + _ADVANCE + named).digest()
        return drawn


def field_elements(seed: bytes, label: str, count: int, prime: int) -> NDArray[np.uint64]:
    """Return uint64[count], uniform in [0, prime) and independent, if the words of the expansion are.

    Element i is residue number i of `PublicExpansion(seed, "field/" ‖ label)` as `ring.masks` defines it, so a longer
    draw begins with the shorter one.

    Requires: a prime in (2^51, 2^52), ≡ 1 mod 2^18. Raises: ParameterError otherwise, or if count < 0.
    """
    if count < 0:
        raise ParameterError(f"cannot draw {count} field elements")
    width = min(_PIECE_WORDS, max(2, count + count % 2))  # words are addressed in pairs
    out = np.empty((max(1, -(-count // width)), 1, width), dtype=np.uint64)
    masks.fill_public(out, PublicExpansion(seed, f"field/{label}"), 0, (prime,))
    return out.reshape(-1)[:count]


def distinct_positions(seed: bytes, label: str, count: int, bound: int) -> NDArray[np.int64]:
    """Return int64[count] ascending, a uniform subset of [0, bound) if the words of the expansion are uniform.

    The low bits of words 0, 1, … of `PublicExpansion(seed, "positions/" ‖ label)`, the first `count` different ones.

    Requires: bound a power of two in [2, 2^63]; 0 ≤ count ≤ bound. Raises: ParameterError otherwise.
    """
    if not 2 <= bound <= _MAX_BOUND or bound & (bound - 1):
        raise ParameterError(f"bound = {bound} must be a power of two in [2, 2^63]: others would need a rejection")
    if not 0 <= count <= bound:
        raise ParameterError(f"cannot draw {count} distinct positions from {bound}")
    expansion, words = PublicExpansion(seed, f"positions/{label}"), np.empty(count + count % 2, dtype=np.uint64)
    chosen: dict[int, None] = {}  # keeps the order of arrival
    first = 0
    while len(chosen) < count:
        expansion.fill(first, words)
        chosen.update(dict.fromkeys((words & np.uint64(bound - 1)).tolist()))
        first += len(words)
    return np.array(sorted(list(chosen)[:count]), dtype=np.int64)


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part
