"""Opening a sum: exact under the right key sum, refused under any other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.errors import UnattributedFault
from secureagg.he import packing as packing_module
from secureagg.he.encrypt import OneTimeKey
from secureagg.he.packing import Packing
from secureagg.he.reconstruct import Decoder
from secureagg.he.total import Total
from secureagg.ring import residues
from tests.federation import TOYS
from tests.he.test_encrypt import BOUND, SID, decrypted, encrypted, grid, toy_packing


@given(st.sampled_from(TOYS), st.integers(1, 200), st.integers(0, 10**6), st.sampled_from([-2, -1, 1, 100]))
@settings(max_examples=100)
def test_a_key_off_by_one_anywhere_opens_nothing(name: str, coordinates: int, place: int, step: int) -> None:
    packing = toy_packing(name, coordinates)
    key = OneTimeKey.generate(packing)
    frames = encrypted(packing, grid(packing, place), key)
    wrong = key.coefficients.copy()
    wrong[place % wrong.size] += step
    with pytest.raises(UnattributedFault, match=f"exceeds the plan's noise bound E = {BOUND}"):
        decrypted(packing, frames, wrong)


def test_another_session_opens_nothing() -> None:
    packing, key = toy_packing(), OneTimeKey(np.arange(16, dtype=np.int64) - 8)
    total = Total(packing)
    total.add(0, encrypted(packing, grid(packing, 1), key)[0])
    assert Decoder(packing, SID, BOUND, key.coefficients).fits(total)
    assert not Decoder(packing, bytes(32), BOUND, key.coefficients).fits(total)


def with_number(packing: Packing, number: int) -> Total:
    """Return a sum under the zero key whose first coefficient is `number` mod q and the others are 0."""
    total, frame = Total(packing), packing.frames[0]
    values = np.zeros((frame.chunks, len(packing.ring.primes), frame.coefficients), dtype=np.uint64)
    values[0, :, 0] = [number % q for q in packing.ring.primes]
    packed = bytearray(frame.size)
    residues.pack(packed, values, packing.ring.primes)
    total.add(0, packed)
    return total


@pytest.mark.parametrize("name", TOYS)
def test_the_bounds_are_exact(name: str) -> None:
    """An error of E and fields of ±L pass; an error of E + 1 and fields of ±(L + 1) do not."""
    packing = toy_packing(name, 16 * 3, 3)
    decoder = Decoder(packing, SID, BOUND, np.zeros(packing.ring.degree, dtype=np.int64))
    delta, limit = packing.delta, packing.field_limit
    for sign in (-1, 1):
        assert decoder.values(with_number(packing, sign * BOUND), 0).tolist()[0] == 0
        assert decoder.values(with_number(packing, sign * (delta * limit + BOUND)), 0)[0] == sign * limit
        for number in (BOUND + 1, delta // 2, delta * (limit + 1), delta * ((limit + 1) << 28)):
            with pytest.raises(UnattributedFault, match=r"residual exceeds.*Nothing was decoded"):
                decoder.values(with_number(packing, sign * number), 0)


def test_padding_must_be_zero() -> None:
    """Coordinates end in the middle of a coefficient: what a client puts behind them is refused."""
    packing = toy_packing(TOYS[0], 17, 2)
    decoder = Decoder(packing, SID, BOUND, np.zeros(16, dtype=np.int64))
    # Coefficient 0 holds coordinates 0 (field 0) and 16 (field 1); coefficient 1 holds 1 and a padding field.
    assert decoder.values(with_number(packing, packing.delta << 14), 0).tolist() == [0] * 16 + [1]
    total = Total(packing)
    values = np.zeros((1, 1, 16), dtype=np.uint64)
    values[0, 0, 1] = packing.delta << 14
    packed = bytearray(packing.frames[0].size)
    residues.pack(packed, values, packing.ring.primes)
    total.add(0, packed)
    with pytest.raises(UnattributedFault, match="frame 0: the padding of the sum is not zero"):
        decoder.values(total, 0)


def test_fits_looks_at_a_frame_of_every_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several one-time keys, one wrong key sum must not hide behind a first frame that another key opens."""
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 16)
    packing = toy_packing(TOYS[0], 16 * 6, 1, keys=3)
    key = OneTimeKey.generate(packing)
    total = Total(packing)
    for index, frame in enumerate(encrypted(packing, grid(packing, 1), key)):
        total.add(index, frame)
    assert Decoder(packing, SID, BOUND, key.coefficients).fits(total)
    for place in range(3):
        wrong = key.coefficients.copy()
        wrong[16 * place + 5] += 1
        assert not Decoder(packing, SID, BOUND, wrong).fits(total)
