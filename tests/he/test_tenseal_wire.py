"""secureagg.he.tenseal_wire: the bytes of a payload, field by field. No SEAL object is opened here."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.he.tenseal import PublicKey, SecretKey
from secureagg.he.tenseal_wire import Expected, Payload
from secureagg.layout import Layout

Keys = tuple[PublicKey, SecretKey]
LAYOUT = Layout(((3,), (2, 2)), ("float32", "float64"))
NONCES = tuple(bytes([first]) * 16 for first in (1, 2, 9))


@pytest.fixture(scope="module")
def payload(keys: Keys) -> Payload:
    return Payload(keys[0].parameters, keys[0].key_id, LAYOUT, NONCES, [b"sixteen of SEAL."])


def test_the_layout_of_the_bytes(payload: Payload) -> None:
    """Written here by hand from the docstrings."""
    grid = struct.pack("<Iddd", 5, 2.0, 1e-4, 8.0)
    (prime,) = payload.parameters.primes
    parameters = grid + struct.pack("<IBBQ", 2048, payload.parameters.scale_bits, 1, prime)
    layout = struct.pack("<IBBQBBQQ", 2, 1, 1, 3, 2, 2, 2, 2)
    body = (
        b"secureagg-ckks-sum\x01"
        + parameters
        + payload.key_id
        + struct.pack("<I", len(layout))
        + layout
        + struct.pack("<I", 3)
        + b"".join(NONCES)
        + struct.pack("<II", 1, 16)
        + b"sixteen of SEAL."
    )
    assert payload.to_bytes() == body + hashlib.sha256(body).digest()


def test_round_trip(payload: Payload) -> None:
    read = Payload.from_bytes(payload.to_bytes())
    assert replace(read, ciphertexts=[bytes(c) for c in read.ciphertexts]) == payload


@given(st.data())
def test_every_flipped_bit_truncation_and_extension_is_refused(payload: Payload, data: st.DataObject) -> None:
    encoded = payload.to_bytes()
    flipped = bytearray(encoded)
    flipped[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    cut = encoded[: data.draw(st.integers(0, len(encoded) - 1))]
    for changed in (bytes(flipped), cut, encoded + data.draw(st.binary(min_size=1, max_size=40))):
        with pytest.raises(EncodingError, match=r"^payload: "):
            Payload.from_bytes(changed)


@given(st.data())
def test_lengths_are_checked_behind_the_checksum_too(payload: Payload, data: st.DataObject) -> None:
    body = payload.to_bytes()[:-32]
    cut = body[: data.draw(st.integers(0, len(body) - 1))]
    for changed in (cut, body + data.draw(st.binary(min_size=1, max_size=40))):
        with pytest.raises(EncodingError, match=r"payload: |layout: |parameters: "):
            Payload.from_bytes(changed + hashlib.sha256(changed).digest())


@pytest.mark.parametrize(
    ("offset", "content", "message"),
    [
        (0, b"S", "starts with b'Secureagg-ckks-sum'"),
        (18, b"\x02", "format version 2 is unknown, this library reads version 1"),
        (19, bytes(4), "1 ≤ clients"),
        (19, struct.pack("<I", 5000), "≤ 1/4 is required"),
        (19, b"\xff\xff\xff\xff", r"≤ 2\^45 is required"),
        (23, struct.pack("<d", float("nan")), "precision < magnitude"),
        (31, struct.pack("<d", -1.0), "precision < magnitude"),
        (39, struct.pack("<d", 0.5), "1 ≤ max_weight"),
        (47, struct.pack("<I", 1024), "N ∈"),
        (51, b"\x01", "≤ 1/4 is required"),
        (51, b"\x40", "< q is required"),
        (52, b"\x00", "one prime of q or more"),
        (53, struct.pack("<Q", 12289), "of 20 to 60 bits"),
        (53, struct.pack("<Q", 1032193), "< q is required"),
        (53, struct.pack("<Q", (1 << 53) - 1), "each ≡ 1 mod 2N"),
        (93, b"\xff", "truncated"),
        (97, struct.pack("<I", 1), "layout: .*trailing"),
        (101, b"\x05", "layout: tensor 0 has unknown dtype code 5"),
        (103, struct.pack("<Q", 2**40), "take 536870913 ciphertexts, not 1"),
        (129, struct.pack("<I", 0), "1 ≤ contributions ≤ clients=5 is required: 0"),
        (129, struct.pack("<I", 6), "1 ≤ contributions ≤ clients=5 is required: 6"),
        (133, bytes([2]) * 16, "ascending order, each once"),
        (133, bytes([3]) * 16, "ascending order, each once"),
        (181, struct.pack("<I", 2), "take 1 ciphertexts, not 2"),
        (181, struct.pack("<I", 0), "take 1 ciphertexts, not 0"),
        (103, struct.pack("<Q", 2**13), "take 5 ciphertexts, not 1"),
        (185, struct.pack("<I", 17), "truncated"),
        (185, struct.pack("<I", 15), "1 trailing bytes"),
    ],
)
def test_each_field_is_checked_behind_the_checksum(payload: Payload, offset: int, content: bytes, message: str) -> None:
    body = bytearray(payload.to_bytes()[:-32])
    assert body[offset : offset + len(content)] != content
    body[offset : offset + len(content)] = content
    with pytest.raises(EncodingError, match=message):
        Payload.from_bytes(bytes(body) + hashlib.sha256(body).digest())


def test_other_keys_parameters_and_layouts_are_told_apart(keys: Keys, other_keys: Keys, payload: Payload) -> None:
    parameters, key_id = keys[0].parameters, keys[0].key_id
    encoded = payload.to_bytes()
    fewer = replace(parameters, grid=replace(parameters.grid, clients=4))
    other = Layout(((3,), (4,)), ("float32", "float64"))
    assert Payload.from_bytes(encoded, Expected(parameters, key_id, LAYOUT)) == payload
    assert Payload.from_bytes(encoded, Expected(parameters, key_id)) == payload
    for expected, message in (
        (Expected(parameters, other_keys[0].key_id), f"under key {key_id.hex()[:16]}…, expected key"),
        (Expected(fewer, key_id), r"other parameters: .*clients=5.*expected .*clients=4"),
        (Expected(parameters, key_id, other), r"tensor 1 is float64\[2, 2\], expected float64\[4\]"),
    ):
        with pytest.raises(EncodingError, match=message):
            Payload.from_bytes(encoded, expected)
    scalars = replace(payload, layout=Layout(((),) * 300, ("float32",) * 300))
    with pytest.raises(EncodingError, match=r"a layout of 604 bytes, 32 expected"):  # and not one of them is looked at
        Payload.from_bytes(scalars.to_bytes(), Expected(parameters, key_id, LAYOUT))
