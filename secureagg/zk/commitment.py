"""Hash commitments to weight tensors: hiding until they are opened, binding from the start; layers open one by one.

With [x] for the length of x as 8 bytes little-endian, then x, with i and layers as 4 bytes, and with
D = "secureagg/zk/commitment/v1":

    leaf i   = SHA-256(0x00 ‖ D ‖ salt_i ‖ [context] ‖ layers ‖ i ‖ shape_i ‖ values_i)   i < layers
    leaf i   = SHA-256(0x02 ‖ D ‖ layers ‖ i)                                             up to a power of two, ≥ 2
    root     = of the tree over these leaves, as in `merkle`
    digest   = SHA-256(0x03 ‖ D ‖ [context] ‖ layers ‖ root)

shape_i: bytes a value takes (1), dimensions (1), extents (8 each). values_i: row-major, little-endian. What is
committed to is bytes, bit for bit; the byte order and strides in memory do not matter.

| input | result |
|---|---|
| NaN | its sign and payload bits count |
| −0.0 and 0.0, inf | different values like any others |
| float32 and float64 of equal value | different |
| shapes (2, 3), (3, 2), (6,); (), (1,) | different |
| an empty tensor | a layer like any other |
| no tensor at all; integers, bool, complex, object | refused |

The context stands in every leaf, so that unopened layers cannot be taken over into a commitment under another one,
and beside the root, so that a wrong context is told from a wrong tensor.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_whole
from secureagg.errors import EncodingError, ParameterError
from secureagg.layout import Weights
from secureagg.wire import Reader, Writer
from secureagg.zk.merkle import HASH_BYTES, Tree, root_of

__all__ = ["SALT_BYTES", "Commitment", "LayerOpening", "Opening", "commit", "verify", "verify_layer"]

SALT_BYTES = 32

_DOMAIN = b"secureagg/zk/commitment/v1"
_LAYER, _EMPTY, _DIGEST = b"\x00", b"\x02", b"\x03"  # 0x01 is a node of the tree
_MAX_LAYERS = 2**32 - 1
_COMMITMENT_MAGIC, _OPENING_MAGIC, _LAYER_MAGIC = b"SAcm", b"SAop", b"SAlo"
_VERSION = 1
_DTYPES = ("float16", "float32", "float64")


@dataclass(frozen=True)
class Commitment:
    """What is published: the number of layers, and a digest that shows nothing else.

    Bytes: magic, version, layers (4), digest (32).
    """

    layers: int
    digest: bytes

    def __post_init__(self) -> None:
        require_whole("layers", self.layers, 1, _MAX_LAYERS)
        _require_length("the digest", self.digest, HASH_BYTES)

    def to_bytes(self) -> bytes:
        """Encode."""
        writer = Writer().raw(_COMMITMENT_MAGIC).integer(_VERSION, 1).integer(self.layers, 4)
        return writer.raw(self.digest).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> Commitment:
        """Decode; anything else is an EncodingError."""
        reader = Reader(encoded, "commitment")
        reader.magic(_COMMITMENT_MAGIC, _VERSION)
        layers, digest = reader.integer(4), bytes(reader.raw(HASH_BYTES))
        reader.end()
        if layers == 0:
            raise reader.error("no layer")
        return cls(layers, digest)


@dataclass(frozen=True)
class LayerOpening:
    """What shows one layer to be the committed one, and nothing of the others.

    path: the siblings on the way to the root, from the leaf up, 32 bytes each.
    Bytes: magic, version, salt (32), length of the path (4), path.
    """

    salt: bytes
    path: bytes

    def __post_init__(self) -> None:
        _require_length("the salt", self.salt, SALT_BYTES)

    def to_bytes(self) -> bytes:
        """Encode."""
        return Writer().raw(_LAYER_MAGIC).integer(_VERSION, 1).raw(self.salt).blob(self.path).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> LayerOpening:
        """Decode; anything else is an EncodingError. The commitment says how long the path must be."""
        reader = Reader(encoded, "layer opening")
        reader.magic(_LAYER_MAGIC, _VERSION)
        opening = cls(bytes(reader.raw(SALT_BYTES)), bytes(reader.blob()))
        reader.end()
        return opening

    def __repr__(self) -> str:
        return f"LayerOpening({len(self.path) // HASH_BYTES} nodes)"


@dataclass(frozen=True)
class Opening:
    """What the committer keeps to itself until it opens: a salt and a leaf for each layer.

    Bytes: magic, version, layers (4), per layer salt (32) and leaf (32).
    """

    salts: tuple[bytes, ...]
    leaves: tuple[bytes, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.salts) == len(self.leaves) <= _MAX_LAYERS:
            raise ParameterError(f"{len(self.salts)} salts and {len(self.leaves)} leaves; one of each per layer needed")
        for salt, leaf in zip(self.salts, self.leaves, strict=True):
            _require_length("a salt", salt, SALT_BYTES)
            _require_length("a leaf", leaf, HASH_BYTES)

    def layer(self, index: int) -> LayerOpening:
        """Return what opens layer `index` alone. Raises: ParameterError if there is no such layer."""
        require_whole("index", index, 0, len(self.salts) - 1)
        return LayerOpening(self.salts[index], _tree(self.leaves).multiproof([index]))

    def to_bytes(self) -> bytes:
        """Encode. The bytes are as secret as the weights."""
        writer = Writer().raw(_OPENING_MAGIC).integer(_VERSION, 1).integer(len(self.salts), 4)
        for salt, leaf in zip(self.salts, self.leaves, strict=True):
            writer.raw(salt).raw(leaf)
        return writer.getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes | memoryview) -> Opening:
        """Decode; anything else is an EncodingError."""
        reader = Reader(encoded, "opening")
        reader.magic(_OPENING_MAGIC, _VERSION)
        layers = reader.integer(4)
        pairs = [(bytes(reader.raw(SALT_BYTES)), bytes(reader.raw(HASH_BYTES))) for _ in range(layers)]
        reader.end()
        if layers == 0:
            raise reader.error("no layer")
        return cls(tuple(salt for salt, _ in pairs), tuple(leaf for _, leaf in pairs))

    def __repr__(self) -> str:
        return f"Opening({len(self.salts)} layers)"


def commit(weights: Weights, context: bytes) -> tuple[Commitment, Opening]:
    """Return a commitment to these tensors under `context`, and what opens it.

    context: what the commitment is for, such as session id ‖ sender id, both of fixed length. It verifies under these
    bytes only. Salts come from the operating system, so a second commitment to the same weights is unlinkable.

    Raises: ParameterError with the tensor's index if it is no numpy array of float16, float32 or float64; if there is
    no tensor; if `context` is not bytes.
    """
    _check(weights, context)
    layers = len(weights)
    salts = tuple(os.urandom(SALT_BYTES) for _ in range(layers))
    leaves = tuple(_leaf(weights[i], salts[i], i, layers, context) for i in range(layers))
    return Commitment(layers, _digest(_tree(leaves).root, layers, context)), Opening(salts, leaves)


def verify(commitment: Commitment, opening: Opening, weights: Weights, context: bytes) -> None:
    """Return None if these are all the tensors that were committed to, in order, under `context`.

    Raises: EncodingError if not, with the index of the first layer that differs where opening and context fit the
    commitment; ParameterError as `commit`.
    """
    _check(weights, context)
    layers = commitment.layers
    if not len(weights) == len(opening.salts) == layers:
        raise EncodingError(
            f"opening: {layers} layers are committed to, {len(opening.salts)} opened, {len(weights)} given"
        )
    if _digest(_tree(opening.leaves).root, layers, context) != commitment.digest:
        raise EncodingError("opening: it belongs to another commitment, or the context is not the committed one")
    for index, (salt, leaf) in enumerate(zip(opening.salts, opening.leaves, strict=True)):
        if _leaf(weights[index], salt, index, layers, context) != leaf:
            raise EncodingError(f"opening: layer {index} is not the committed one (values, shape, dtype or salt)")


def verify_layer(
    commitment: Commitment, opening: LayerOpening, index: int, tensor: NDArray[np.floating[Any]], context: bytes
) -> None:
    """Return None if `tensor` is layer `index` of what was committed to under `context`.

    Raises: EncodingError if not; ParameterError if there is no such layer, and as `commit`.
    """
    require_whole("index", index, 0, commitment.layers - 1)
    _check_tensor(index, tensor)
    _check_context(context)
    leaf = _leaf(tensor, opening.salt, index, commitment.layers, context)
    root = root_of(_padded(commitment.layers), [index], [leaf], opening.path)
    if _digest(root, commitment.layers, context) != commitment.digest:
        raise EncodingError(
            f"opening: layer {index} is not the committed one (values, shape, dtype, salt, path or context)"
        )


def _leaf(tensor: NDArray[np.floating[Any]], salt: bytes, index: int, layers: int, context: bytes) -> bytes:
    """Requires: a checked tensor. A contiguous little-endian one is hashed where it lies."""
    header = Writer().raw(_LAYER + _DOMAIN + salt).raw(_prefixed(context)).integer(layers, 4).integer(index, 4)
    header.integer(tensor.dtype.itemsize, 1).integer(tensor.ndim, 1)
    for extent in tensor.shape:
        header.integer(extent, 8)
    digest = hashlib.sha256(header.getvalue())
    little = np.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False))
    digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.digest()


def _tree(leaves: Sequence[bytes]) -> Tree:
    layers = len(leaves)
    padding = [
        hashlib.sha256(Writer().raw(_EMPTY + _DOMAIN).integer(layers, 4).integer(i, 4).getvalue()).digest()
        for i in range(layers, _padded(layers))
    ]
    return Tree(np.frombuffer(b"".join([*leaves, *padding]), dtype=np.uint8).reshape(-1, HASH_BYTES))


def _padded(layers: int) -> int:
    return max(2, 1 << (layers - 1).bit_length())


def _digest(root: bytes, layers: int, context: bytes) -> bytes:
    writer = Writer().raw(_DIGEST + _DOMAIN).raw(_prefixed(context)).integer(layers, 4).raw(root)
    return hashlib.sha256(writer.getvalue()).digest()


def _prefixed(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part


def _check(weights: Weights, context: bytes) -> None:
    if not 1 <= len(weights) <= _MAX_LAYERS:
        raise ParameterError(f"{len(weights)} tensors given, at least one needed")
    for index, tensor in enumerate(weights):
        _check_tensor(index, tensor)
    _check_context(context)


def _check_tensor(index: int, tensor: NDArray[np.floating[Any]]) -> None:
    if not isinstance(tensor, np.ndarray | np.generic):
        raise ParameterError(f"tensor {index} is a {type(tensor).__name__}; give numpy arrays (np.asarray)")
    if tensor.dtype.name not in _DTYPES:
        raise ParameterError(f"tensor {index} has dtype {tensor.dtype}; only {', '.join(_DTYPES)} are committed to")


def _check_context(context: bytes) -> None:
    if not isinstance(context, bytes):
        raise ParameterError(f"context must be bytes, not {type(context).__name__}")


def _require_length(name: str, value: bytes, length: int) -> None:
    if len(value) != length:
        raise ParameterError(f"{name} has {len(value)} bytes, {length} needed")
