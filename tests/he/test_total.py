"""The running sum: any order, any subset, nothing that is not canonical."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.errors import EncodingError
from secureagg.he import packing as packing_module
from secureagg.he.encrypt import OneTimeKey
from secureagg.he.packing import Packing
from secureagg.he.total import Total, unpack_frame
from secureagg.ring.params import ring_parameters
from tests.federation import TOYS
from tests.he import reference
from tests.he.test_encrypt import decrypted, encrypted, grid, toy_packing


def frames_of(total: Total, packing: Packing) -> list[bytes]:
    return [total.frame(index) for index in range(len(packing.frames))]


@given(st.sampled_from(TOYS), st.integers(1, 150), st.permutations(range(5)), st.sets(st.integers(0, 4)), st.data())
@settings(max_examples=100)
def test_a_sum_is_the_sum_in_any_order(
    name: str, coordinates: int, order: list[int], out: set[int], data: st.DataObject
) -> None:
    """Five ciphertexts added in any order, some taken out again: the key sum opens exactly the sum of the rest."""
    seed = data.draw(st.integers(0, 2**32))
    packing = toy_packing(name, coordinates)
    values = [grid(packing, seed + i, packing.field_limit // 5) for i in range(5)]
    keys = [OneTimeKey.generate(packing) for _ in range(5)]
    ciphertexts = [encrypted(packing, v, k) for v, k in zip(values, keys, strict=True)]
    total = Total(packing)
    for i in order:
        for index, frame in enumerate(ciphertexts[i]):
            total.add(index, frame)
    for i in out:
        for index, frame in enumerate(ciphertexts[i]):
            total.subtract(index, frame)
    left = [i for i in range(5) if i not in out]
    key_sum = sum((keys[i].coefficients for i in left), np.zeros_like(keys[0].coefficients))
    expected = sum((values[i] for i in left), np.zeros_like(values[0]))
    assert np.array_equal(decrypted(packing, frames_of(total, packing), key_sum, clients=5), expected)


def test_the_sum_is_that_of_the_residues() -> None:
    packing = toy_packing(TOYS[2], 300)
    ciphertexts = [encrypted(packing, grid(packing, i), OneTimeKey.generate(packing)) for i in range(3)]
    total = Total(packing)
    for frames in ciphertexts:
        for index, frame in enumerate(frames):
            total.add(index, frame)
    count = packing.coefficients * len(packing.ring.primes)
    rows = [reference.unpack(b"".join(frames), count) for frames in ciphertexts]
    start = 0
    for index, frame in enumerate(packing.frames):
        shape = (frame.chunks, len(packing.ring.primes), frame.coefficients)
        stop = start + int(np.prod(shape))
        moduli = np.broadcast_to(np.array(packing.ring.primes)[:, None], shape).ravel().tolist()
        columns = zip(*(row[start:stop] for row in rows), moduli, strict=True)
        assert total.residues(index).ravel().tolist() == [sum(column[:-1]) % column[-1] for column in columns]
        start = stop


def test_an_empty_sum_is_zero() -> None:
    packing = toy_packing()
    assert not any(any(frame) for frame in frames_of(Total(packing), packing))


@pytest.mark.parametrize("name", TOYS)
def test_a_residue_at_its_prime_is_refused(name: str) -> None:
    packing = toy_packing(name, ring_parameters(name, allow_insecure=True).degree * 2)
    primes, frame = packing.ring.primes, packing.frames[0]
    for row, place in ((0, 0), (len(primes) - 1, frame.coefficients - 1)):
        for value, accepted in ((primes[row] - 1, True), (primes[row], False), (2**52 - 1, False)):
            number = value << (52 * (row * frame.coefficients + place))
            data = number.to_bytes(frame.size, "little")
            if accepted:
                assert unpack_frame(packing, 0, data)[0, row, place] == value
            else:
                with pytest.raises(EncodingError, match="not below their prime"):
                    unpack_frame(packing, 0, data)


def test_a_frame_of_another_length_is_refused() -> None:
    packing = toy_packing()
    frame = encrypted(packing, grid(packing, 1), OneTimeKey.generate(packing))[0]
    for data in (frame[:-1], frame + b"\0", b""):
        with pytest.raises(EncodingError, match=f"frame 0 has {len(data)} bytes, {len(frame)} expected"):
            unpack_frame(packing, 0, data)


def test_where_frames_are_cut_changes_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are the unit of the ciphertext; frames only of work."""
    whole = toy_packing(TOYS[1], 64 * 7 * 2 + 9)
    data = b"".join(encrypted(whole, grid(whole, 1), OneTimeKey.generate(whole)))
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 128)
    cut = toy_packing(TOYS[1], 64 * 7 * 2 + 9)
    assert (len(whole.frames), len(cut.frames)) == (2, 5)
    totals = [Total(whole), Total(cut)]
    for packing, total in zip((whole, cut), totals, strict=True):
        for index, frame in enumerate(packing.frames):
            total.add(index, data[frame.start : frame.start + frame.size])
    assert b"".join(frames_of(totals[0], whole)) == b"".join(frames_of(totals[1], cut)) == data
