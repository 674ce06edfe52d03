"""Merkle trees over the columns of a code matrix: salted leaves, and one proof for many positions.

    leaf i = SHA-256(0x00 ‖ salt_i ‖ column i),   each value as 8 bytes little-endian
    node   = SHA-256(0x01 ‖ left ‖ right)

The first byte tells leaves from nodes, so no node can be opened as a leaf nor a leaf as a node. The tree is perfect,
of n = 2^h leaves, and a verifier knows n, the number of rows and the positions beforehand. A salt of 16 bytes hides
a column that is never opened, in the random-oracle model.

A multiproof holds the nodes that cannot be computed from the opened leaves and from one another: level by level from
the leaves up, from left to right in a level, 32 bytes each. The positions fix how many there are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from operator import index

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError

__all__ = ["HASH_BYTES", "SALT_BYTES", "Tree", "leaf", "leaves", "proof_nodes", "root_of"]

HASH_BYTES = 32
SALT_BYTES = 16

_LEAF, _NODE = b"\x00", b"\x01"
_BLOCK_WORDS = 1 << 15  # a block of columns, twice: 512 KiB stay in the second-level cache

_Positions = Sequence[int] | NDArray[np.int64]
_Bytes = NDArray[np.uint8]


def leaves(columns: NDArray[np.uint64], salts: bytes) -> _Bytes:
    """Return uint8[n, 32], the leaves of the columns of uint64[rows, n]; salts: n·16 bytes.

    One thread does it: at these sizes the interpreter's lock changes hands as often as a second one hashes (measured
    on two cores: no gain at 20 to 1000 rows). Memory: the result and 512 KiB.

    Raises: ParameterError if `columns` is of another kind or the salts are of another length.
    """
    if columns.ndim != 2 or columns.dtype != np.uint64:
        raise ParameterError(f"{columns.dtype}{list(columns.shape)} given, uint64[rows, n] needed")
    rows, n = columns.shape
    if len(salts) != n * SALT_BYTES:
        raise ParameterError(f"{len(salts)} bytes of salts given for {n} columns, {SALT_BYTES} each needed")
    salt_rows = np.frombuffer(salts, dtype=np.uint8).reshape(n, SALT_BYTES)
    out = np.empty((n, HASH_BYTES), dtype=np.uint8)
    width = max(8, _BLOCK_WORDS // max(rows, 1) // 8 * 8)  # whole cache lines of a row
    for start in range(0, n, width):
        block = columns[:, start : start + width].copy()  # rows far apart would evict each other while transposed
        out[start : start + width] = _hash_block(block, salt_rows[start : start + width])
    return out


def leaf(column: NDArray[np.uint64], salt: bytes) -> bytes:
    """Return the leaf of one column, uint64[rows]. Raises: ParameterError as `leaves`."""
    if column.ndim != 1 or column.dtype != np.uint64 or len(salt) != SALT_BYTES:
        raise ParameterError(
            f"{column.dtype}{list(column.shape)} and a salt of {len(salt)} bytes given, "
            f"uint64[rows] and {SALT_BYTES} needed"
        )
    return hashlib.sha256(_LEAF + salt + column.astype("<u8", copy=False).tobytes()).digest()


class Tree:
    """All nodes over uint8[n, 32] leaves, which are copied. Requires: n a power of two, at least 2."""

    __slots__ = ("_levels", "root")

    def __init__(self, leaves: _Bytes) -> None:
        if leaves.ndim != 2 or leaves.shape[1] != HASH_BYTES or leaves.dtype != np.uint8:
            raise ParameterError(f"{leaves.dtype}{list(leaves.shape)} given, uint8[n, {HASH_BYTES}] needed")
        _check_size(len(leaves))
        self._levels = [leaves.copy()]
        while len(self._levels[-1]) > 1:
            self._levels.append(_parents(self._levels[-1]))
        self.root = self._levels.pop().tobytes()

    def multiproof(self, positions: _Positions) -> bytes:
        """Return the nodes that lead from the leaves at `positions` to the root.

        Raises: ParameterError unless the positions are ascending, distinct, in [0, n), and at least one.
        """
        known = _checked(len(self._levels[0]), positions)
        proof = bytearray()
        for level in self._levels:
            for sibling in _missing(known):
                proof += level[sibling].tobytes()
            known = _above(known)
        return bytes(proof)


def proof_nodes(n: int, positions: _Positions) -> int:
    """Return how many nodes of 32 bytes the multiproof of `positions` has. Raises: ParameterError as `multiproof`."""
    known, count = _checked(n, positions), 0
    for _ in range(n.bit_length() - 1):
        count += len(_missing(known))
        known = _above(known)
    return count


def root_of(n: int, positions: _Positions, leaves_at: Sequence[bytes], proof: bytes | memoryview) -> bytes:
    """Return the root of the tree of n leaves that has `leaves_at` at `positions`, by this multiproof.

    Compare it with the committed root: that is the verification, and this function cannot do it.

    Raises: EncodingError if the positions are not ascending, distinct and in [0, n), if there is no position, not one
    leaf of 32 bytes each, or if the proof has a node too few or too many; ParameterError if n is not a tree's size.
    """
    _check_size(n)
    try:
        known = _checked(n, positions)
    except ParameterError as error:
        raise EncodingError(f"Merkle proof: {error}") from error
    if len(leaves_at) != len(known) or any(len(each) != HASH_BYTES for each in leaves_at):
        raise EncodingError(f"Merkle proof: {len(known)} positions need as many leaves of {HASH_BYTES} bytes")
    expected = proof_nodes(n, known) * HASH_BYTES
    if len(proof) != expected:
        raise EncodingError(f"Merkle proof: {len(proof)} bytes, {expected} expected for these positions")
    nodes = {position: bytes(each) for position, each in zip(known, leaves_at, strict=True)}
    offset = 0
    for _ in range(n.bit_length() - 1):
        for sibling in _missing(list(nodes)):
            nodes[sibling] = bytes(proof[offset : offset + HASH_BYTES])
            offset += HASH_BYTES
        nodes = {at >> 1: _node(nodes[at & ~1], nodes[at | 1]) for at in sorted(nodes) if not at & 1}
    return nodes[0]


def _hash_block(block: NDArray[np.uint64], salts: _Bytes) -> _Bytes:
    """Return the leaves of a few columns, each gathered behind its salt: 7 unused bytes, 0x00, salt, column."""
    rows, count = block.shape
    words = np.empty((count, 3 + rows), dtype="<u8")
    words[:, 3:] = block.T
    gathered = words.view(np.uint8)
    gathered[:, 7] = _LEAF[0]
    gathered[:, 8:24] = salts
    return _hash_rows(gathered, 7)


def _parents(level: _Bytes) -> _Bytes:
    pairs = np.empty((len(level) // 2, 1 + 2 * HASH_BYTES), dtype=np.uint8)
    pairs[:, 0] = _NODE[0]
    pairs[:, 1:] = level.reshape(len(pairs), -1)
    return _hash_rows(pairs, 0)


def _hash_rows(rows: _Bytes, skip: int) -> _Bytes:
    """Return the SHA-256 of each row without its first `skip` bytes."""
    width = rows.shape[1]
    flat = rows.reshape(-1).data
    digests = [hashlib.sha256(flat[at + skip : at + width]).digest() for at in range(0, len(flat), width)]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(rows), HASH_BYTES)


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _check_size(n: int) -> None:
    if n < 2 or n & (n - 1):
        raise ParameterError(f"a tree has a power of two of leaves, at least 2, not {n}")


def _checked(n: int, positions: _Positions) -> list[int]:
    _check_size(n)
    known = [index(position) for position in positions]
    if not known:
        raise ParameterError("no position is opened; give at least one")
    if known[0] < 0 or known[-1] >= n or any(low >= high for low, high in pairwise(known)):
        raise ParameterError(f"{len(known)} positions are not ascending, distinct and in [0, {n})")
    return known


def _missing(known: Iterable[int]) -> list[int]:
    """Return the siblings that are not known themselves, from left to right; `known` is ascending."""
    there = set(known)
    return [at ^ 1 for at in known if at ^ 1 not in there]


def _above(known: Iterable[int]) -> list[int]:
    return sorted({at >> 1 for at in known})
