"""secureagg.he.tenseal_keys: keys survive their bytes, and nothing else is read as one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.he.tenseal import PublicKey, SecretKey, decrypt, encrypt, generate_keys
from secureagg.he.tenseal_wire import with_checksum
from secureagg.ring.params import is_prime
from secureagg.wire import Writer

Keys = tuple[PublicKey, SecretKey]


def resealed(encoded: bytes) -> bytes:
    """Return the bytes with the checksum computed anew."""
    return encoded[:-32] + hashlib.sha256(encoded[:-32]).digest()


def test_keys_round_trip_and_still_work(keys: Keys) -> None:
    public, secret = PublicKey.from_bytes(keys[0].to_bytes()), SecretKey.from_bytes(keys[1].to_bytes())
    assert (public, secret) == keys
    assert secret.seal_bytes == keys[1].seal_bytes
    assert public.key_id == keys[0].key_id == secret.key_id
    for key in (public, secret):
        (mean,) = decrypt(secret, encrypt(key, [np.array([0.5])]))
        assert mean == pytest.approx(0.5, abs=1e-4)


@given(st.integers(0, 2**32), st.integers(0, 7), st.booleans())
def test_every_flipped_bit_is_refused(keys: Keys, position: int, bit: int, of_secret: bool) -> None:
    encoded = bytearray(keys[of_secret].to_bytes())
    encoded[position % len(encoded)] ^= 1 << bit
    with pytest.raises(EncodingError):
        (SecretKey if of_secret else PublicKey).from_bytes(bytes(encoded))


@given(st.integers(0, 2**32), st.binary(min_size=1, max_size=40), st.booleans(), st.booleans())
def test_every_truncation_and_extension_is_refused(
    keys: Keys, length: int, tail: bytes, of_secret: bool, with_checksum: bool
) -> None:
    encoded, kind = keys[of_secret].to_bytes(), SecretKey if of_secret else PublicKey
    for changed in (encoded[: length % len(encoded)], encoded + tail, encoded[:-32] + tail + encoded[-32:]):
        with pytest.raises(EncodingError):
            kind.from_bytes(resealed(changed) if with_checksum and len(changed) > 32 else changed)


def test_one_kind_is_not_read_as_the_other(keys: Keys) -> None:
    with pytest.raises(EncodingError, match="public key: starts with"):
        PublicKey.from_bytes(keys[1].to_bytes())
    with pytest.raises(EncodingError, match="secret key: starts with"):
        SecretKey.from_bytes(keys[0].to_bytes())


@pytest.mark.parametrize("kind", [PublicKey, SecretKey])
def test_an_unknown_version_is_named_whatever_follows(keys: Keys, kind: type[PublicKey] | type[SecretKey]) -> None:
    encoded = bytearray(keys[kind is SecretKey].to_bytes())
    assert encoded[25] == 1
    encoded[25] = 2
    for changed in (bytes(encoded), resealed(encoded), bytes(encoded[:30])):
        with pytest.raises(EncodingError, match="format version 2 is unknown, this library reads version 1"):
            kind.from_bytes(changed)


@pytest.mark.parametrize("of_secret", [False, True])
def test_a_key_of_another_set_is_refused(keys: Keys, of_secret: bool) -> None:
    foreign = generate_keys(5, 2.0, 1e-9, 8.0)[of_secret]
    mixed = replace(keys[of_secret], seal_bytes=foreign.seal_bytes)
    with pytest.raises(EncodingError, match=r"key: (SEAL cannot read it|inflates to over)"):
        type(mixed).from_bytes(mixed.to_bytes())


def test_parameters_that_seal_refuses_are_refused(keys: Keys) -> None:
    """Primes pass the inequalities, but are none."""
    (prime,), step = keys[0].parameters.primes, 2 * keys[0].parameters.ring_degree
    composite = next(q for q in range(prime - step, 0, -step) if not is_prime(q))
    parameters = replace(keys[0].parameters, primes=(composite,))
    with pytest.raises(EncodingError, match="SEAL refuses"):
        PublicKey.from_bytes(replace(keys[0], parameters=parameters).to_bytes())


@pytest.mark.parametrize(
    "primes",
    [lambda q, n: (q, 0), lambda q, n: (q, 1), lambda q, n: (q, 2 * n), lambda q, n: (q + 2,), lambda q, n: (q,) * 4],
)
def test_primes_that_no_set_has_are_refused_before_anything_is_computed(
    keys: Keys, primes: Callable[[int, int], tuple[int, ...]]
) -> None:
    (prime,), degree = keys[0].parameters.primes, keys[0].parameters.ring_degree
    writer = Writer().raw(b"secureagg-ckks-public-key").integer(1, 1)
    keys[0].parameters.grid.write(writer)
    named = primes(prime, degree)
    writer.integer(degree, 4).integer(keys[0].parameters.scale_bits, 1).integer(len(named), 1)
    for each in named:
        writer.integer(each, 8)
    with pytest.raises(EncodingError, match=r"each ≡ 1 mod 2N|log2\(q·P\)|SEAL refuses"):
        PublicKey.from_bytes(with_checksum(writer.blob(b"")))


def test_no_repr_shows_key_material(keys: Keys) -> None:
    for key in keys:
        assert "seal_bytes" not in repr(key)
        assert not any(repr(key.seal_bytes[start : start + 8])[2:-1] in repr(key) for start in range(0, 200, 8))


def test_keys_are_drawn_anew(keys: Keys, other_keys: Keys) -> None:
    assert keys[0].parameters == other_keys[0].parameters
    assert keys[0].key_id != other_keys[0].key_id
    assert keys[1].seal_bytes != other_keys[1].seal_bytes


def test_the_key_id_binds_the_parameters(keys: Keys) -> None:
    grid = replace(keys[0].parameters.grid, clients=4)
    assert replace(keys[0], parameters=replace(keys[0].parameters, grid=grid)).key_id != keys[0].key_id
