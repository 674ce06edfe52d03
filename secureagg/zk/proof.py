"""A proof's bytes: every length follows from its shape, and nothing is optional.

| part | bytes |
|---|---|
| root of the second oracle | 32 |
| field elements, 52 bits each, little-endian, zero-padded to a multiple of 16 | packed |
| of each oracle: the opened columns' salts | 16 each |
| of each oracle: its multiproof, zero-padded to the most it can need | 32 a node |

The elements are Σ_H S of each linear mask; the linear, product and proximity responses, repetition by repetition; the
opened columns of the first and then of the second oracle, row by row.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from secureagg.errors import EncodingError
from secureagg.ring import residues
from secureagg.ring.ntt import Words
from secureagg.zk import merkle
from secureagg.zk.soundness import LINEAR_REPETITIONS, PRODUCT_REPETITIONS, PROXIMITY_REPETITIONS, Shape

__all__ = ["HASH_BYTES", "Opening", "Proof", "proof_bytes"]

HASH_BYTES = 32


@dataclass(frozen=True)
class Opening:
    """An oracle at the queried positions: columns uint64[rows, t], their salts, the multiproof's nodes."""

    columns: Words
    salts: bytes
    path: bytes


@dataclass(frozen=True)
class Proof:
    """What the prover sends after the first oracle's root.

    sums: uint64[2], Σ_H S; linear: uint64[2, 2ℓ + 2t]; quotients: uint64[2, k']; proximity: uint64[3, k'].
    """

    root: bytes
    sums: Words
    linear: Words
    quotients: Words
    proximity: Words
    openings: tuple[Opening, Opening]

    def responses(self) -> bytes:
        """Return what the queries are drawn from."""
        return b"".join(part.tobytes() for part in (self.linear, self.quotients, self.proximity))

    def to_bytes(self, shape: Shape, prime: int) -> bytes:
        """Encode."""
        columns = [opening.columns for opening in self.openings]
        parts = (self.sums, self.linear, self.quotients, self.proximity, *columns)
        encoded = [self.root, _pack(np.concatenate([part.reshape(-1) for part in parts]), prime)]
        for opening in self.openings:
            encoded += [opening.salts, opening.path.ljust(HASH_BYTES * shape.path_nodes, b"\0")]
        return b"".join(encoded)

    @classmethod
    def from_bytes(cls, shape: Shape, prime: int, encoded: bytes | memoryview) -> Proof:
        """Decode; the paths keep their padding.

        Raises: EncodingError for another length, an element of q or more, or padding that is not zero.
        """
        view = memoryview(encoded)
        if view.nbytes != proof_bytes(shape):
            raise EncodingError(f"proof: {view.nbytes} bytes, {proof_bytes(shape)} expected")
        packed, salts, path = _packed_bytes(shape), merkle.SALT_BYTES * shape.queries, HASH_BYTES * shape.path_nodes
        shapes = [
            (LINEAR_REPETITIONS,),
            (LINEAR_REPETITIONS, shape.linear_degree),
            (PRODUCT_REPETITIONS, shape.degree),
            (PROXIMITY_REPETITIONS, shape.degree),
            (shape.rows.first, shape.queries),
            (shape.second_rows, shape.queries),
        ]
        elements = _unpack(view[HASH_BYTES : HASH_BYTES + packed], shape.elements, prime)
        ends = np.cumsum([int(np.prod(each)) for each in shapes])
        parts = [part.reshape(each) for part, each in zip(np.split(elements, ends[:-1]), shapes, strict=True)]
        tail = view[HASH_BYTES + packed :]
        openings = []
        for columns in parts[4:]:
            openings.append(Opening(columns, bytes(tail[:salts]), bytes(tail[salts : salts + path])))
            tail = tail[salts + path :]
        sums, linear, quotients, proximity = parts[:4]
        root = bytes(view[:HASH_BYTES])
        return cls(root, sums, linear, quotients, proximity, (openings[0], openings[1]))


def proof_bytes(shape: Shape) -> int:
    """Return the exact length of a proof of this shape."""
    trees = 2 * (merkle.SALT_BYTES * shape.queries + HASH_BYTES * shape.path_nodes)
    return HASH_BYTES + _packed_bytes(shape) + trees


def _packed_bytes(shape: Shape) -> int:
    return residues.packed_bytes((1, 1, _padded(shape.elements)))


def _padded(count: int) -> int:
    return count + -count % residues.PACKING_GROUP


def _pack(elements: Words, prime: int) -> bytes:
    padded = np.zeros((1, 1, _padded(elements.size)), dtype=np.uint64)
    padded[0, 0, : elements.size] = elements
    packed = bytearray(residues.packed_bytes(padded.shape))
    residues.pack(packed, padded, (prime,))
    return bytes(packed)


def _unpack(packed: memoryview, count: int, prime: int) -> Words:
    out = np.empty((1, 1, _padded(count)), dtype=np.uint64)
    residues.unpack(out, packed, (prime,))
    if out[0, 0, count:].any():
        raise EncodingError("proof: the padding of its elements is not zero")
    return out[0, 0, :count]
