"""The documented hashes by hand; every changed bit of layer, layout, place and context refused; nothing shown."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.errors import EncodingError, ParameterError
from secureagg.zk.commitment import Commitment, LayerOpening, Opening, commit, verify, verify_layer
from tests.zk.test_merkle import proof_by_hand, root_by_hand

Tensor = NDArray[np.floating[Any]]

CONTEXT = b"session 7, client 3"
DOMAIN = b"secureagg/zk/commitment/v1"


def model() -> list[Tensor]:
    """Return five layers, so that three leaves are empty ones."""
    rng = np.random.default_rng(5)
    shapes: list[tuple[tuple[int, ...], type]] = [
        ((3, 4), np.float32),
        ((4,), np.float32),
        ((2, 3, 2), np.float64),
        ((), np.float64),
        ((5,), np.float16),
    ]
    return [np.asarray(rng.normal(size=shape)).astype(dtype) for shape, dtype in shapes]


def sized(part: bytes) -> bytes:
    return len(part).to_bytes(8, "little") + part


def small(value: int) -> bytes:
    return value.to_bytes(4, "little")


def leaves_by_hand(weights: list[Tensor], salts: tuple[bytes, ...], context: bytes) -> list[bytes]:
    """Return the leaves of a contiguous little-endian model and the empty ones, from hashlib alone."""
    layers, leaves = len(weights), []
    for i, (tensor, salt) in enumerate(zip(weights, salts, strict=True)):
        shape = bytes([tensor.itemsize, tensor.ndim]) + b"".join(n.to_bytes(8, "little") for n in tensor.shape)
        start = b"\x00" + DOMAIN + salt + sized(context) + small(layers) + small(i)
        leaves.append(hashlib.sha256(start + shape + tensor.tobytes()).digest())
    size = 2
    while size < layers:
        size *= 2
    return leaves + [hashlib.sha256(b"\x02" + DOMAIN + small(layers) + small(i)).digest() for i in range(layers, size)]


# Vectors


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5])
def test_digest_is_the_documented_hash(layers: int) -> None:
    weights = model()[:layers]
    commitment, opening = commit(weights, CONTEXT)
    leaves = leaves_by_hand(weights, opening.salts, CONTEXT)
    end = sized(CONTEXT) + small(layers) + root_by_hand(leaves)
    assert commitment.digest == hashlib.sha256(b"\x03" + DOMAIN + end).digest()
    assert list(opening.leaves) == leaves[:layers]
    for i in range(layers):
        assert opening.layer(i) == LayerOpening(opening.salts[i], b"".join(proof_by_hand(leaves, [i])))


def test_bytes_are_the_documented_ones() -> None:
    commitment, opening = commit(model()[:2], CONTEXT)
    assert commitment.to_bytes() == b"SAcm\x01" + small(2) + commitment.digest
    pairs = zip(opening.salts, opening.leaves, strict=True)
    assert opening.to_bytes() == b"SAop\x01" + small(2) + b"".join(salt + leaf for salt, leaf in pairs)
    assert opening.layer(1).to_bytes() == b"SAlo\x01" + opening.salts[1] + small(32) + opening.leaves[0]


# Laws

TENSORS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 3), max_size=3).map(tuple),
        st.sampled_from(["<f2", "<f4", "<f8", ">f2", ">f4", ">f8"]),
        st.integers(0, 2**32),
    ).map(lambda each: random_bits(*each)),
    min_size=1,
    max_size=9,
)


def random_bits(shape: tuple[int, ...], dtype: str, seed: int) -> Tensor:
    """Return a tensor of any bit patterns: NaN with payloads, infinities and both zeros among them."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return np.frombuffer(np.random.default_rng(seed).bytes(size), dtype=dtype).reshape(shape)


@given(TENSORS, st.binary(max_size=40))
def test_what_was_committed_to_verifies_from_bytes_alone(weights: list[Tensor], context: bytes) -> None:
    made, kept = commit(weights, context)
    commitment, opening = Commitment.from_bytes(made.to_bytes()), Opening.from_bytes(kept.to_bytes())
    assert (commitment, opening) == (made, kept)
    verify(commitment, opening, weights, context)
    for i, tensor in enumerate(weights):
        layer = LayerOpening.from_bytes(kept.layer(i).to_bytes())
        assert layer == kept.layer(i)
        verify_layer(commitment, layer, i, tensor, context)


@given(TENSORS, st.data())
def test_any_changed_bit_of_a_tensor_is_refused_by_its_index(weights: list[Tensor], data: st.DataObject) -> None:
    filled = [i for i, tensor in enumerate(weights) if tensor.size]
    if not filled:
        return
    commitment, opening = commit(weights, CONTEXT)
    index = data.draw(st.sampled_from(filled))
    raw = bytearray(weights[index].tobytes())
    bit = data.draw(st.integers(0, 8 * len(raw) - 1))
    raw[bit // 8] ^= 1 << bit % 8
    bad = np.frombuffer(bytes(raw), dtype=weights[index].dtype).reshape(weights[index].shape)
    refuse(commitment, opening, weights, index, bad)


def refuse(commitment: Commitment, opening: Opening, weights: list[Tensor], index: int, bad: Tensor) -> None:
    """Assert that `bad` in the place of layer `index` is refused, by its index, in both ways of opening."""
    with pytest.raises(EncodingError, match=f"layer {index} is not"):
        verify(commitment, opening, [*weights[:index], bad, *weights[index + 1 :]], CONTEXT)
    with pytest.raises(EncodingError, match=f"layer {index} is not"):
        verify_layer(commitment, opening.layer(index), index, bad, CONTEXT)


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.astype(t.dtype.newbyteorder(">")),
        lambda t: np.asfortranarray(t) if t.ndim else t,
        lambda t: np.repeat(t, 2, axis=-1)[..., ::2] if t.ndim else t,
        lambda t: t[..., ::-1].copy()[..., ::-1] if t.ndim else t[()],
    ],
    ids=["big-endian", "column-major", "strided", "reversed, scalars as numpy scalars"],
)
def test_order_in_memory_does_not_matter(change: Callable[[Tensor], Tensor]) -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    changed = [change(tensor) for tensor in weights]
    verify(commitment, opening, changed, CONTEXT)
    for i, tensor in enumerate(changed):
        verify_layer(commitment, opening.layer(i), i, tensor, CONTEXT)
    again, reopened = commit(changed, CONTEXT)
    verify(again, reopened, weights, CONTEXT)


def test_values_are_compared_as_bits() -> None:
    """Signalling NaN, payload, sign of NaN and of zero: each is a value of its own, kept in any byte order."""
    patterns = np.array([0x7FA00001, 0x7FC00000, 0x7FC00001, 0xFFC00000, 0, 0x80000000, 0x7F800000], dtype=np.uint32)
    commitment, opening = commit([patterns.view(np.float32)], CONTEXT)
    verify(commitment, opening, [patterns.astype(">u4").view(">f4")], CONTEXT)
    for i, other in [(0, 0x7FE00001), (1, 0x7FC00001), (3, 0x7FC00000), (4, 0x80000000), (5, 0), (6, 0xFF800000)]:
        changed = patterns.copy()
        changed[i] = other
        refuse(commitment, opening, [patterns.view(np.float32)], 0, changed.view(np.float32))


def test_equal_layers_and_repeated_commitments_look_unrelated() -> None:
    weights: list[Tensor] = [np.zeros(3, np.float32)] * 4
    made = [commit(weights, CONTEXT) for _ in range(3)]
    assert len({commitment.digest for commitment, _ in made}) == 3
    assert len({leaf for _, opening in made for leaf in opening.leaves}) == 12
    assert len({salt for _, opening in made for salt in opening.salts}) == 12


def test_no_repr_or_error_shows_a_salt_or_a_value() -> None:
    weights = [np.array([1234.5]), np.array([6789.25])]
    commitment, opening = commit(weights, CONTEXT)
    shown = [repr(opening), repr(opening.layer(0)), str(opening)]
    with pytest.raises(EncodingError) as refused:
        verify(commitment, opening, weights[::-1], CONTEXT)
    for text in [*shown, str(refused.value)]:
        assert not any(secret in text for secret in ("1234", "6789", opening.salts[0].hex()[:6], "\\x"))
    assert shown[:2] == ["Opening(2 layers)", "LayerOpening(1 nodes)"]


# Rejects


@pytest.mark.parametrize(
    ("index", "change"),
    [
        (0, lambda t: t.reshape(4, 3)),
        (0, lambda t: t.reshape(12)),
        (0, lambda t: t.reshape(1, 3, 4)),
        (0, lambda t: t.view(np.float64)),
        (0, lambda t: t.view(np.float16)),
        (1, lambda t: t.astype(np.float64)),
        (1, lambda t: t[:3]),
        (1, lambda t: np.append(t, np.float32(0))),
        (2, lambda t: t.swapaxes(0, 2)),
        (3, lambda t: t.reshape(1)),
        (4, lambda t: t[:0]),
    ],
)
def test_another_layout_is_refused(index: int, change: Callable[[Tensor], Tensor]) -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    refuse(commitment, opening, weights, index, change(weights[index]))


def test_layers_cannot_change_places() -> None:
    """Two equal tensors: only their places differ, and a salt and path for each."""
    weights: list[Tensor] = [np.ones(3)] * 4
    commitment, opening = commit(weights, CONTEXT)
    for index in range(1, 4):
        with pytest.raises(EncodingError, match=f"layer {index} is not"):
            verify_layer(commitment, opening.layer(0), index, weights[0], CONTEXT)
    swapped = Opening((opening.salts[1], opening.salts[0], *opening.salts[2:]), opening.leaves)
    with pytest.raises(EncodingError, match="layer 0 is not"):
        verify(commitment, swapped, weights, CONTEXT)


def test_number_of_layers_cannot_change() -> None:
    """Five layers and eight have trees of one size; no leaf of one is a leaf of the other."""
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    with pytest.raises(EncodingError, match="5 layers are committed to, 5 opened, 4 given"):
        verify(commitment, opening, weights[:4], CONTEXT)
    with pytest.raises(EncodingError, match="5 layers are committed to, 4 opened, 5 given"):
        verify(commitment, Opening(opening.salts[:4], opening.leaves[:4]), weights, CONTEXT)
    with pytest.raises(EncodingError, match="5 layers are committed to, 4 opened, 4 given"):
        verify(commitment, Opening(opening.salts[:4], opening.leaves[:4]), weights[:4], CONTEXT)
    more = replace(commitment, layers=6)
    with pytest.raises(EncodingError, match="layer 0 is not"):
        verify_layer(more, opening.layer(0), 0, weights[0], CONTEXT)
    empty: Tensor = np.zeros(0)
    padded = Opening((*opening.salts, bytes(32)), (*opening.leaves, bytes(32)))
    with pytest.raises(EncodingError, match="another commitment"):
        verify(more, padded, [*weights, empty], CONTEXT)


@pytest.mark.parametrize("other", [b"", CONTEXT[:-1], CONTEXT + b"\x00", b"session 7, client 4", CONTEXT[::-1]])
def test_another_context_is_refused(other: bytes) -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    with pytest.raises(EncodingError, match="context is not the committed one"):
        verify(commitment, opening, weights, other)
    with pytest.raises(EncodingError, match="context"):
        verify_layer(commitment, opening.layer(2), 2, weights[2], other)


def test_layers_cannot_be_taken_over_into_another_context() -> None:
    """One opened layer shows the root. A digest of it under the thief's context fits, but no layer does."""
    weights = model()
    _, opening = commit(weights, CONTEXT)
    thief = b"session 7, client 4"
    root = root_by_hand(leaves_by_hand(weights, opening.salts, CONTEXT))
    copied = Commitment(5, hashlib.sha256(b"\x03" + DOMAIN + sized(thief) + small(5) + root).digest())
    with pytest.raises(EncodingError, match="layer 0 is not"):
        verify(copied, opening, weights, thief)
    with pytest.raises(EncodingError, match="layer 1 is not"):
        verify_layer(copied, opening.layer(1), 1, weights[1], thief)


def test_context_is_bound_beside_the_root_too() -> None:
    """The converse: leaves of the right context under a digest of another."""
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    root = root_by_hand(leaves_by_hand(weights, opening.salts, CONTEXT))
    for end in (sized(b"other") + small(5) + root, small(5) + root, sized(CONTEXT) + small(6) + root):
        with pytest.raises(EncodingError, match="another commitment"):
            verify(
                replace(commitment, digest=hashlib.sha256(b"\x03" + DOMAIN + end).digest()), opening, weights, CONTEXT
            )


def test_another_commitment_is_refused() -> None:
    weights = model()
    (commitment, opening), (other, other_opening) = commit(weights, CONTEXT), commit(weights, CONTEXT)
    with pytest.raises(EncodingError, match="another commitment"):
        verify(other, opening, weights, CONTEXT)
    with pytest.raises(EncodingError, match="layer 1 is not"):
        verify_layer(commitment, other_opening.layer(1), 1, weights[1], CONTEXT)


@given(st.data())
def test_any_changed_byte_of_opening_or_commitment_is_refused(data: st.DataObject) -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    index = data.draw(st.integers(0, 4))
    encoded = [commitment.to_bytes(), opening.to_bytes(), opening.layer(index).to_bytes()]
    which = data.draw(st.integers(0, 2))
    bad = bytearray(encoded[which])
    bad[data.draw(st.integers(0, len(bad) - 1))] ^= data.draw(st.integers(1, 255))
    encoded[which] = bytes(bad)
    if which < 2:
        with pytest.raises(EncodingError):
            verify(Commitment.from_bytes(encoded[0]), Opening.from_bytes(encoded[1]), weights, CONTEXT)
    if which != 1:
        with pytest.raises((EncodingError, ParameterError)):  # an index may exceed the changed number of layers
            verify_layer(
                Commitment.from_bytes(encoded[0]),
                LayerOpening.from_bytes(encoded[2]),
                index,
                weights[index],
                CONTEXT,
            )


@pytest.mark.parametrize("change", [lambda b: b[:-1], lambda b: b + b"\x00", lambda b: b"", lambda b: b"X" + b[1:]])
def test_bytes_of_another_length_or_magic_are_refused(change: Callable[[bytes], bytes]) -> None:
    commitment, opening = commit(model(), CONTEXT)
    for made in (commitment, opening, opening.layer(0)):
        with pytest.raises(EncodingError):
            type(made).from_bytes(change(made.to_bytes()))


def test_claimed_counts_are_checked_before_they_are_believed() -> None:
    with pytest.raises(EncodingError, match="opening: truncated"):
        Opening.from_bytes(b"SAop\x01" + b"\xff" * 4)
    for encoded, kind in ((b"SAop\x01" + bytes(4), Opening), (b"SAcm\x01" + bytes(36), Commitment)):
        with pytest.raises(EncodingError, match="no layer"):
            kind.from_bytes(encoded)


def test_path_of_another_length_is_refused() -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    layer = opening.layer(2)
    for path in (b"", layer.path[:-32], layer.path[:-1], layer.path + bytes(32)):
        with pytest.raises(EncodingError, match="expected for these positions"):
            verify_layer(commitment, LayerOpening(layer.salt, path), 2, weights[2], CONTEXT)


@pytest.mark.parametrize(
    "bad",
    [[1.0, 2.0], np.zeros(3, np.int64), np.zeros(3, bool), np.zeros(3, complex), np.array([None]), np.array(["a"])],
    ids=["list", "int", "bool", "complex", "object", "text"],
)
def test_what_is_no_float_tensor_is_refused_by_its_index(bad: Any) -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    for call in (
        lambda: commit([*weights, bad], CONTEXT),
        lambda: verify(commitment, opening, [*weights[:4], bad, *weights], CONTEXT),
    ):
        with pytest.raises(ParameterError, match=r"tensor [45] (is a list|has dtype)"):
            call()
    with pytest.raises(ParameterError, match="tensor 3"):
        verify_layer(commitment, opening.layer(3), 3, bad, CONTEXT)


def test_other_mistakes_of_the_caller_are_refused() -> None:
    weights = model()
    commitment, opening = commit(weights, CONTEXT)
    with pytest.raises(ParameterError, match="0 tensors given"):
        commit([], CONTEXT)
    text: Any = "session 7"
    for call in (
        lambda: commit(weights, text),
        lambda: verify(commitment, opening, weights, text),
        lambda: verify_layer(commitment, opening.layer(0), 0, weights[0], text),
    ):
        with pytest.raises(ParameterError, match="context must be bytes, not str"):
            call()
    for index in (-1, 5, True):
        with pytest.raises(ParameterError, match="index"):
            opening.layer(index)
        with pytest.raises(ParameterError, match="index"):
            verify_layer(commitment, opening.layer(0), index, weights[0], CONTEXT)


def test_objects_of_wrong_lengths_cannot_be_made() -> None:
    salt = bytes(32)
    for make in (
        lambda: Commitment(0, salt),
        lambda: Commitment(2**32, salt),
        lambda: Commitment(1, salt[1:]),
        lambda: LayerOpening(salt[1:], b""),
        lambda: Opening((), ()),
        lambda: Opening((salt, salt), (salt,)),
        lambda: Opening((salt[1:],), (salt,)),
        lambda: Opening((salt,), (salt[1:],)),
    ):
        with pytest.raises(ParameterError):
            make()
