"""One-time keys and encryption: what a ciphertext holds is what plain integers find in it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.he import packing as packing_module
from secureagg.he.encrypt import Encryptor, OneTimeKey
from secureagg.he.masking import Masking
from secureagg.he.packing import Packing
from secureagg.he.reconstruct import Decoder
from secureagg.he.total import Total, unpack_frame
from secureagg.ring.bounds import tail_bound
from secureagg.ring.params import ring_parameters
from tests.federation import TOYS
from tests.he import reference

SID = bytes(range(32))
BOUND = tail_bound(6.6, 1, 10**4, 40)


def toy_packing(name: str = TOYS[0], coordinates: int = 37, fields: int = 2, keys: int = 1) -> Packing:
    return Packing(ring_parameters(name, allow_insecure=True), coordinates, 14, fields, 1021, 8000, keys)


def grid(packing: Packing, seed: int, limit: int | None = None) -> np.ndarray:
    """Return coordinates in ±limit (±L unless given), the first two at its ends."""
    limit = packing.field_limit if limit is None else limit
    values = np.random.default_rng(seed).integers(-limit, limit + 1, packing.coordinates)
    values[:2] = [limit, -limit][: values.size]
    return values


def encrypted(packing: Packing, values: np.ndarray, key: OneTimeKey) -> list[bytes]:
    """Return the frames of a ciphertext."""
    encryptor, frames = Encryptor(packing, SID, key), []
    for frame in packing.frames:
        first, last = packing.frame_coordinates(frame)
        frames.append(bytes(encryptor.encrypt(frame, values[first:last])))
    return frames


def decrypted(packing: Packing, frames: list[bytes], key: np.ndarray, clients: int = 1) -> np.ndarray:
    """Return the coordinates of a sum of ciphertexts under the key sum."""
    total = Total(packing)
    for index, frame in enumerate(frames):
        total.add(index, frame)
    decoder = Decoder(packing, SID, tail_bound(6.6, clients, 10**4, 40), key)
    return np.concatenate([decoder.values(total, index) for index in range(len(frames))])


@pytest.mark.parametrize("name", TOYS)
def test_plain_integers_decrypt_it(name: str) -> None:
    """Two chunks, the second cut short, under every number of primes."""
    packing = toy_packing(name, coordinates=ring_parameters(name, allow_insecure=True).degree * 2 + 5)
    values, key = grid(packing, 1), OneTimeKey.generate(packing)
    frames = encrypted(packing, values, key)
    found, errors = reference.decrypt(packing, SID, key.coefficients.tolist(), b"".join(frames))
    assert found == values.tolist()
    assert 0 < max(abs(error) for error in errors) <= BOUND


@given(st.sampled_from(TOYS), st.integers(1, 300), st.integers(1, 3), st.integers(0, 2**32))
@settings(max_examples=150)
def test_decryption_undoes_encryption(name: str, coordinates: int, fields: int, seed: int) -> None:
    packing = toy_packing(name, coordinates, fields)
    values, key = grid(packing, seed), OneTimeKey.generate(packing)
    assert np.array_equal(decrypted(packing, encrypted(packing, values, key), key.coefficients), values)


@given(st.integers(1, 200), st.integers(1, 12), st.integers(0, 2**32))
@settings(max_examples=60)
def test_each_of_several_keys_serves_its_own_chunks(coordinates: int, keys: int, seed: int) -> None:
    """With a key changed, exactly the chunks it serves no longer decrypt."""
    packing = toy_packing(TOYS[0], coordinates, 1)
    keys = min(keys, packing.chunks)
    packing = toy_packing(TOYS[0], coordinates, 1, keys)
    values, key = grid(packing, seed), OneTimeKey.generate(packing)
    frames = encrypted(packing, values, key)
    assert np.array_equal(decrypted(packing, frames, key.coefficients), values)
    before = [Masking(packing, SID, key.coefficients).frame(frame) for frame in packing.frames]
    changed = seed % keys
    altered = key.coefficients.copy()
    altered[changed * packing.ring.degree] += 1
    after = [Masking(packing, SID, altered).frame(frame) for frame in packing.frames]
    differ = {
        frame.first_chunk + c
        for frame, a, b in zip(packing.frames, before, after, strict=True)
        for c in range(frame.chunks)
        if (a[c] != b[c]).any()
    }
    step = packing.chunks_per_key
    assert differ == set(range(changed * step, min(packing.chunks, (changed + 1) * step)))


def test_keys_and_errors_are_fresh_and_of_the_right_width() -> None:
    """Same values, same session: two ciphertexts share nothing, and key and errors have σ = 6.6 within 7 %."""
    packing = toy_packing(TOYS[1], 64 * 60, 1)
    values, keys = grid(packing, 1), [OneTimeKey.generate(packing) for _ in range(2)]
    first, second = (encrypted(packing, values, key) for key in keys)
    assert (keys[0].coefficients != keys[1].coefficients).any()
    assert all(a != b for a, b in zip(first, second, strict=True))
    again = encrypted(packing, values, keys[0])
    errors = [reference.decrypt(packing, SID, keys[0].coefficients.tolist(), b"".join(f))[1] for f in (first, again)]
    assert errors[0] != errors[1]
    for errors_of_one in errors:
        assert 0.93 * 6.6 < np.std(errors_of_one) < 1.07 * 6.6
    many = np.concatenate([OneTimeKey.generate(packing).coefficients for _ in range(100)])
    assert 0.93 * 6.6 < np.std(many) < 1.07 * 6.6
    assert abs(many.mean()) < 5 * 6.6 / np.sqrt(many.size)


def test_secrets_are_neither_shown_nor_pickled() -> None:
    packing = toy_packing()
    key = OneTimeKey.generate(packing)
    for secret in (key, Encryptor(packing, SID, key)):
        assert not any(character.isdigit() for character in repr(secret))
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="not pickled"):
                attempt(secret)
    assert repr(Masking(packing, SID, key.coefficients)) == "Masking(…)"


@pytest.mark.parametrize("coordinates", [5, 37, 80, 200])
@pytest.mark.parametrize("frame_residues", [16, 48, 1 << 16])
def test_a_prover_gets_what_is_encrypted_with(
    monkeypatch: pytest.MonkeyPatch, coordinates: int, frame_residues: int
) -> None:
    """c = a·s + e + Δ·m with the errors and residues handed out, over chunks in order, the last one cut short."""
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", frame_residues)
    packing = toy_packing(TOYS[0], coordinates)
    values, key = grid(packing, 3), OneTimeKey.generate(packing)
    errors = np.full(packing.coefficients, 2**40, dtype=np.int64)
    sent = np.full(packing.coefficients, 2**63, dtype=np.uint64)
    encryptor, frames = Encryptor(packing, SID, key), []
    for frame in packing.frames:
        first, last = packing.frame_coordinates(frame)
        place = slice(*packing.frame_coefficients(frame))
        frames.append(bytes(encryptor.encrypt(frame, values[first:last], errors[place], sent[place])))
    found, expected = reference.decrypt(packing, SID, key.coefficients.tolist(), b"".join(frames))
    assert found == values.tolist() and errors.tolist() == expected
    unpacked = [unpack_frame(packing, index, data).reshape(-1) for index, data in enumerate(frames)]
    assert np.array_equal(np.concatenate(unpacked), sent)
    assert packing.frame_coefficients(packing.frames[-1])[1] == packing.coefficients
