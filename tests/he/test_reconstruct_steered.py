"""Opening a sum with proofs: errors that are proven small in norm may be large in few coefficients."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from secureagg.errors import UnattributedFault
from secureagg.he import packing as packing_module
from secureagg.he.encrypt import OneTimeKey
from secureagg.he.packing import Packing
from secureagg.he.reconstruct import Decoder
from secureagg.he.total import Total
from secureagg.ring import residues
from secureagg.ring.params import ring_parameters
from tests.he.test_encrypt import SID, encrypted, grid

DELTA, STEERING, HONEST = 1021, 3, 60


def steered_packing(coordinates: int, keys: int = 1) -> Packing:
    ring = ring_parameters("INSECURE_N16_Q52", allow_insecure=True)
    return Packing(ring, coordinates, 14, 2, DELTA, 8000, keys, 2, STEERING)


def total_of(packing: Packing, numbers: Sequence[int]) -> Total:
    """Return the sum under the zero key that has these numbers as its first coefficients."""
    flat = np.zeros(packing.coefficients, dtype=np.uint64)
    flat[: len(numbers)] = [number % packing.ring.modulus for number in numbers]
    total = Total(packing)
    for index, frame in enumerate(packing.frames):
        first, last = packing.frame_coefficients(frame)
        packed = bytearray(frame.size)
        part = flat[first:last].reshape(frame.chunks, 1, frame.coefficients)
        residues.pack(packed, np.ascontiguousarray(part), packing.ring.primes)
        total.add(index, packed)
    return total


def opened(packing: Packing, total: Total, key: np.ndarray | None = None) -> list[int]:
    """Return all coordinates, or raise what `Decoder` raises."""
    key = np.zeros(packing.keys * packing.ring.degree, dtype=np.int64) if key is None else key
    decoder = Decoder(packing, SID, HONEST, key)
    values = np.concatenate([decoder.values(total, index) for index in range(len(packing.frames))])
    decoder.verify_residuals()
    assert decoder.fits(total)
    return values.tolist()


@pytest.mark.parametrize("frame_residues", [16, 1 << 16])
def test_one_in_64_may_be_large_and_no_more(monkeypatch: pytest.MonkeyPatch, frame_residues: int) -> None:
    """1024 coefficients, the large ones all in the first chunk: counted over all frames, not in each."""
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", frame_residues)
    packing = steered_packing(2048)
    assert packing.coefficients == 1024
    for sign in (-1, 1):
        large = sign * (DELTA // 4 + 1)
        assert opened(packing, total_of(packing, [large] * 16)) == [0] * 2048
        assert opened(packing, total_of(packing, [sign * (DELTA // 4)] * 1024)) == [0] * 2048
        total = total_of(packing, [large] * 17)
        with pytest.raises(UnattributedFault, match=r"in 17 of 1024 coefficients the residual exceeds Δ/4 = 255.25"):
            opened(packing, total)
        assert not Decoder(packing, SID, HONEST, np.zeros(16, dtype=np.int64)).fits(total)


def test_large_errors_are_rounded_to_the_nearest() -> None:
    """An error of more than half Δ moves the lowest field by a step; the fields above stay."""
    packing = steered_packing(512)
    message = DELTA * (5 - (7 << 14))
    values = opened(packing, total_of(packing, [message + DELTA // 2, message + DELTA // 2 + 1, message - 2 * DELTA]))
    assert values[:3] == [5, 6, 3] and values[16:19] == [-7, -7, -7]


def test_each_key_is_counted_on_its_own() -> None:
    """Two keys of 1024 coefficients: 17 large ones under the second are refused although they are 17 of 2048."""
    packing = steered_packing(4096, keys=2)
    assert (packing.coefficients, packing.key_coefficients) == (2048, 1024)
    large = DELTA // 3
    assert opened(packing, total_of(packing, [large] * 16 + [0] * 1008 + [large] * 16)) == [0] * 4096
    with pytest.raises(UnattributedFault, match="in 17 of 1024"):
        opened(packing, total_of(packing, [0] * 1024 + [large] * 17))


def test_a_liar_who_makes_one_of_two_chunks_fit_is_found() -> None:
    """δ = a_2^-1·Δ·m leaves no residual in the second chunk, and half of the first chunk's beyond Δ/4: n/4 of n."""
    packing = steered_packing(64)
    rng = np.random.default_rng(3)
    for _ in range(50):
        numbers = [
            *rng.integers(-DELTA * 100, DELTA * 100, 16).tolist(),
            *(DELTA * rng.integers(-100, 100, 16)).tolist(),
        ]
        with pytest.raises(UnattributedFault, match=r"of 32 coefficients the residual exceeds"):
            opened(packing, total_of(packing, numbers))


def test_padding_is_zero_but_for_what_errors_steer() -> None:
    packing = steered_packing(20)  # two chunks of 16 coefficients, the second all padding
    for steered, accepted in ((STEERING, True), (-STEERING, True), (STEERING + 1, False), (-STEERING - 1, False)):
        total = total_of(packing, [0] * 16 + [DELTA * steered])
        if accepted:
            assert opened(packing, total) == [0] * 20
        else:
            with pytest.raises(UnattributedFault, match="frame 0: the padding of the sum is not zero"):
                opened(packing, total)


def test_a_field_beyond_the_limit_is_refused() -> None:
    packing = steered_packing(64)
    for field in (8000, -8000):
        assert opened(packing, total_of(packing, [DELTA * field]))[0] == field
    for number in (DELTA * 8001, -DELTA * 8001, DELTA << 28):
        with pytest.raises(UnattributedFault, match="frame 0: a field exceeds the plan's limit L = 8000"):
            opened(packing, total_of(packing, [number]))


def test_a_wrong_key_sum_opens_nothing_and_the_right_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 64)
    packing = steered_packing(600, keys=2)
    key, values = OneTimeKey.generate(packing), grid(packing, 1)
    total = Total(packing)
    for index, frame in enumerate(encrypted(packing, values, key)):
        total.add(index, frame)
    assert opened(packing, total, key.coefficients) == values.tolist()
    for place in range(2):
        wrong = key.coefficients.copy()
        wrong[16 * place + 3] += 1
        assert not Decoder(packing, SID, HONEST, wrong).fits(total)


def test_residuals_alone_find_a_wrong_key() -> None:
    """Fields so wide that nearly every number decodes: uniform residuals exceed Δ/4 in about half of 4096 places."""
    ring = ring_parameters("INSECURE_N16_Q52", allow_insecure=True)
    limit = (ring.modulus - 1) // (2 * DELTA) - 1
    packing = Packing(ring, 4096, limit.bit_length() + 1, 1, DELTA, limit, 1, 2, STEERING)
    rng = np.random.default_rng(1)
    spread = DELTA * limit
    numbers = rng.integers(-spread, spread, 4096).tolist()
    with pytest.raises(UnattributedFault, match=r"in (19|20|21)\d\d of 4096 coefficients"):
        opened(packing, total_of(packing, numbers))
