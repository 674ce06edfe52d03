"""Proofs that say what is true in bytes that are not the ones: every proof has one encoding."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring import residues
from secureagg.zk import merkle
from secureagg.zk import proof as encoding
from secureagg.zk.proof import HASH_BYTES, Proof, proof_bytes
from tests.zk import toy
from tests.zk.cheating import Forger, Positions
from tests.zk.toy import Q, Words, bits, toy_shape

SHAPE = toy_shape(64, 8, 30)
PACKED = encoding._packed_bytes(SHAPE)
Proven = tuple[bytes, int, bytes]


def refused(proven: Proven, why: str) -> None:
    with pytest.raises(EncodingError, match=re.escape(why)):
        toy.verify(SHAPE, *proven)


def honest() -> Proven:
    return toy.forge(Forger(SHAPE, Q), bits(SHAPE))


class Padded(Forger):
    """Pads with something: its elements, or the path of one oracle."""

    path = -1

    def opened(self, answered: Proof, positions: Positions) -> Proof:
        proof = super().opened(answered, positions)
        openings = list(proof.openings)
        if self.path >= 0:
            path = openings[self.path].path
            missing = HASH_BYTES * SHAPE.path_nodes - len(path)
            assert missing  # the queries of this seed need fewer nodes than the worst ones
            openings[self.path] = replace(openings[self.path], path=path + bytes(missing - 1) + b"\1")
        return replace(proof, openings=(openings[0], openings[1]))


@pytest.mark.parametrize("path", range(2))
def test_padding_of_a_path_is_zero(path: int) -> None:
    forger = Padded(SHAPE, Q)
    forger.path = path
    refused(toy.forge(forger, bits(SHAPE)), f"the padding of the {('first', 'second')[path]} oracle's path is not zero")


def test_padding_of_the_elements_is_zero() -> None:
    spare = encoding._padded(SHAPE.elements) - SHAPE.elements
    assert spare
    root, total, proof = honest()
    elements = unpacked(proof)
    elements[-1] = 1
    refused((root, total, repacked(proof, elements)), "the padding of its elements is not zero")


def unpacked(proof: bytes) -> Words:
    out = np.empty((1, 1, encoding._padded(SHAPE.elements)), dtype=np.uint64)
    residues.unpack(out, proof[HASH_BYTES : HASH_BYTES + PACKED], (Q,))
    return out[0, 0]


def repacked(proof: bytes, elements: Words) -> bytes:
    packed = bytearray(PACKED)
    number = sum(int(x) << (52 * i) for i, x in enumerate(elements.tolist()))
    packed[:] = number.to_bytes(PACKED, "little")
    return proof[:HASH_BYTES] + bytes(packed) + proof[HASH_BYTES + PACKED :]


class SmallSums(Forger):
    """Has masks whose sums are 0 and 1, so that q can be added to them in 52 bits; absorbs what it sends."""

    def draw_masks(self) -> Words:
        masks = super().draw_masks()
        for i, sums in ((0, 0), (2, 1)):
            missing = (sums - self.sum_on_h(masks[i])) * pow(SHAPE.message_length, -1, Q)
            masks[i, 0] = (int(masks[i, 0]) + missing) % Q
        return masks


class ShiftedSums(SmallSums):
    """Writes them as q and q + 1."""

    def sums_of(self, masks: Words) -> Words:
        return super().sums_of(masks) + np.uint64(Q)


def test_element_of_q_or_more_is_refused() -> None:
    """The prover has absorbed x + q too, so that only its form is wrong."""
    toy.verify(SHAPE, *toy.forge(SmallSums(SHAPE, Q), bits(SHAPE)))
    root, total, proof = toy.forge(ShiftedSums(SHAPE, Q), bits(SHAPE))
    packed = int.from_bytes(proof[HASH_BYTES : HASH_BYTES + PACKED], "little")
    assert packed & ((1 << 52) - 1) == Q
    with pytest.raises(EncodingError, match="residue"):
        toy.verify(SHAPE, root, total, proof)


def test_repacking_by_hand_is_the_librarys() -> None:
    _, _, proof = honest()
    assert repacked(proof, unpacked(proof)) == proof


@pytest.mark.parametrize("change", [b"\0", b"\0" * HASH_BYTES, b"x"])
def test_trailing_bytes_are_refused(change: bytes) -> None:
    root, total, proof = honest()
    refused((root, total, proof + change), f"{len(proof) + len(change)} bytes, {proof_bytes(SHAPE)} expected")


@pytest.mark.parametrize("kept", [0, HASH_BYTES, HASH_BYTES + PACKED, -HASH_BYTES, -1])
def test_truncated_proof_is_refused(kept: int) -> None:
    root, total, proof = honest()
    refused((root, total, proof[:kept]), f"{proof_bytes(SHAPE)} expected")


@pytest.mark.parametrize("queries", [SHAPE.queries - 1, SHAPE.queries + 1])
def test_fewer_or_more_columns_cannot_be_said(queries: int) -> None:
    """A proof for other queries is true of its own shape, and of another length."""
    other = replace(SHAPE, queries=queries)
    proven = toy.forge(Forger(other, Q), bits(other))
    toy.verify(other, *proven)
    refused(proven, f"{proof_bytes(other)} bytes, {proof_bytes(SHAPE)} expected")


class Resalted(Forger):
    """Opens one oracle's columns with other salts than those committed."""

    which = 0

    def opened(self, answered: Proof, positions: Positions) -> Proof:
        proof = super().opened(answered, positions)
        openings = list(proof.openings)
        salts = openings[self.which].salts
        openings[self.which] = replace(openings[self.which], salts=salts[merkle.SALT_BYTES :] + salts[:16])
        return replace(proof, openings=(openings[0], openings[1]))


@pytest.mark.parametrize("which", range(2))
def test_salts_of_other_columns_are_refused(which: int) -> None:
    forger = Resalted(SHAPE, Q)
    forger.which = which
    why = f"an opened column of the {('first', 'second')[which]} oracle is not the committed one"
    refused(toy.forge(forger, bits(SHAPE)), why)


@pytest.mark.parametrize("length", [0, 8, 15, 17, 24])
def test_salt_of_another_length_has_no_leaf(length: int) -> None:
    """24 bytes and a column less its first element would hash the same bytes as 16 bytes and the column."""
    with pytest.raises(ParameterError, match=f"a salt of {length} bytes"):
        merkle.leaf(np.arange(4, dtype=np.uint64), bytes(length))
    with pytest.raises(ParameterError, match="bytes of salts"):
        merkle.leaves(np.ones((4, 2), dtype=np.uint64), bytes(2 * length))


@pytest.mark.parametrize("which", range(2))
def test_every_byte_of_a_proof_counts(which: int) -> None:
    """A sample of them, each flipped: all are refused, by some check."""
    root, total, proof = honest()
    for at in np.random.default_rng(which).integers(0, len(proof), 60).tolist():
        altered = bytearray(proof)
        altered[at] ^= 1 << (at % 8)
        with pytest.raises(EncodingError):
            toy.verify(SHAPE, root, total, bytes(altered))
