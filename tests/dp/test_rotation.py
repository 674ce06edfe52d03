"""The rotation is the product of matrices it says, keeps norms, comes undone, and spreads vectors it does not know."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from secureagg.dp.rotation import Rotation
from secureagg.errors import ParameterError
from tests.ring.reference import keystream_word, public_key

SEED = b"a session's id"
SIZES = [1, 2, 3, 4, 7, 8, 9, 63, 64, 65, 100, 128, 129, 1000, 8191, 8192, 8193, 16_384, 40_000, 131_072, 300_001]


def normal(size: int, seed: int = 0) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=size)


def signs(size: int, first: int) -> NDArray[np.float64]:
    """Return the signs that words first, first + 1, … of the seed's expansion give, by definition."""
    key = public_key(SEED, "rotation")
    return np.array([1.0 - 2 * (keystream_word(key, first + i // 64) >> (i % 64) & 1) for i in range(size)])


def by_matrices(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation with Sylvester's matrix written out, H[i, j] = (−1)^popcount(i & j)."""
    block = 1 << (vector.size.bit_length() - 1)
    hadamard = np.array([[(-1.0) ** (i & j).bit_count() for j in range(block)] for i in range(block)]) / block**0.5
    out = vector.copy()
    out[:block] = hadamard @ (signs(block, 0) * out[:block])
    if block < vector.size:
        words = -(-block // 64)
        out[-block:] = hadamard @ (signs(block, words + words % 2) * out[-block:])
    return out


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8, 31, 32, 33, 100, 128, 200, 300, 512])
def test_it_is_the_matrices_it_says(size: int) -> None:
    x = normal(size)
    assert np.allclose(Rotation(size, SEED).apply(x), by_matrices(x), rtol=0, atol=1e-13)


def test_signs_of_a_large_block_are_those_of_their_words() -> None:
    """H·(1, 0, …) is constant, so undoing it shows the signs; looked at in every 1009th place."""
    size, key = 1 << 18, public_key(SEED, "rotation")
    found = Rotation(size, SEED).undo(np.eye(1, size)[0]) * 512
    for i in range(0, size, 1009):
        assert found[i] == 1 - 2 * (keystream_word(key, i // 64) >> (i % 64) & 1)


@pytest.mark.parametrize("size", SIZES)
def test_norms_are_kept_and_undone_is_as_before(size: int) -> None:
    """No padding: as many coordinates as before. Also with values of very different sizes."""
    rotation = Rotation(size, SEED)
    assert rotation.size == size and rotation.block <= size < 2 * rotation.block
    for x in (normal(size), normal(size) ** 9 * 1e100, np.full(size, -3.0), np.eye(1, size, size - 1)[0]):
        z = rotation.apply(x)
        norm = np.linalg.norm(x)
        assert z.shape == x.shape and z.dtype == np.float64
        assert abs(np.linalg.norm(z) - norm) <= 1e-12 * norm
        assert np.abs(rotation.undo(z) - x).max() <= 1e-13 * norm
        assert np.abs(rotation.apply(rotation.undo(x)) - x).max() <= 1e-13 * norm


@pytest.mark.parametrize("size", [3, 1000, 16_384, 300_001])
def test_float32_is_the_same_map(size: int) -> None:
    rotation, x = Rotation(size, SEED), normal(size).astype(np.float32)
    z = rotation.apply(x)
    assert z.dtype == np.float32 and rotation.undo(z).dtype == np.float32
    exact = rotation.apply(x.astype(np.float64))
    assert np.linalg.norm(z - exact) <= 1e-6 * np.linalg.norm(x)
    assert np.linalg.norm(rotation.undo(z) - x) <= 2e-6 * np.linalg.norm(x)


@given(st.integers(1, 3000), st.floats(-3, 3), st.floats(-3, 3), st.binary(max_size=40), st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_linear_and_orthogonal(size: int, a: float, b: float, seed: bytes, number: int) -> None:
    rotation, x, y = Rotation(size, seed), normal(size, number), normal(size, number + 1)
    rotated = rotation.apply(a * x + b * y)
    assert np.allclose(rotated, a * rotation.apply(x) + b * rotation.apply(y), rtol=0, atol=1e-11)
    assert math.isclose(rotation.apply(x) @ rotation.apply(y), x @ y, rel_tol=0, abs_tol=1e-12 * size + 1e-12)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_seed_gives_one_map_whatever_the_threads(threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(300_001)
    expected = Rotation(x.size, SEED).apply(x)
    monkeypatch.setenv("SECUREAGG_THREADS", threads)
    assert np.array_equal(Rotation(x.size, SEED).apply(x), expected)


def test_other_seeds_give_other_maps() -> None:
    """Signs of 1000 coordinates under 50 seeds: all different but for 2^-980; and uncorrelated, within 6/√1000."""
    found = [np.sign(Rotation(1024, bytes([n])).undo(np.eye(1, 1024)[0])) for n in range(50)]
    for i, one in enumerate(found):
        for other in found[:i]:
            assert abs(one @ other) <= 6 * 1024**0.5


@pytest.mark.parametrize("size", [1024, 1500, 2047, 100_000])
@pytest.mark.parametrize("place", ["first", "middle", "last", "block", "ramp"])
def test_what_does_not_know_the_seed_is_spread(size: int, place: str) -> None:
    """max |z_i| ≤ ‖x‖·√(2·ln(2·size/β)/L) with β = 10^-9, over 20 seeds: a false alarm has probability ≤ 2·10^-8.

    Within a factor 2 of the best possible, ‖x‖/√size, times √(ln): no block is small, wherever the energy is.
    """
    x = np.zeros(size)
    if place in ("first", "middle", "last"):
        x[{"first": 0, "middle": size // 2, "last": size - 1}[place]] = 1.0
    elif place == "block":
        x[-size // 3 :] = 1.0
    else:
        x = np.arange(size, dtype=np.float64)
    for seed in range(20):
        rotation = Rotation(size, seed.to_bytes(2, "big"))
        bound = np.linalg.norm(x) * math.sqrt(2 * math.log(2 * size / 1e-9) / rotation.block)
        assert np.abs(rotation.apply(x)).max() <= bound
    assert rotation.block > size / 2


def test_without_signs_a_constant_would_not_be_spread() -> None:
    """Why there are signs: the matrix alone gathers a constant in one coordinate."""
    rotation, size = Rotation(1024, SEED), 1024
    gathered = rotation.apply(signs(size, 0))
    assert abs(gathered[0] - 32) < 1e-12 and np.abs(gathered[1:]).max() < 1e-12
    assert np.abs(rotation.apply(np.ones(size))).max() < 6


def test_the_input_is_left_alone_and_may_be_strided() -> None:
    rotation, x = Rotation(1000, SEED), normal(2000)
    kept = x.copy()
    assert np.array_equal(rotation.apply(x[::2]), rotation.apply(x[::2].copy()))
    frozen = x[:1000]
    frozen.flags.writeable = False
    rotation.apply(frozen), rotation.undo(frozen)
    assert np.array_equal(x, kept)


def test_not_a_number_spreads_and_raises_nothing() -> None:
    x = normal(100)
    x[3] = np.nan
    assert np.isnan(Rotation(100, SEED).apply(x)[:64]).all()


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "8", 1 << 41])
def test_sizes_that_are_none_are_refused(size: object) -> None:
    with pytest.raises(ParameterError, match=r"^size must be a whole number in"):
        Rotation(size, SEED)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "vector",
    [np.zeros(7), np.zeros(9), np.zeros((2, 4)), np.zeros(8, np.int64), np.zeros(8, np.float16), np.zeros(8, ">f8")],
    ids=str,
)
def test_vectors_of_another_form_are_refused(vector: NDArray[np.float64]) -> None:
    rotation = Rotation(8, SEED)
    for turn in (rotation.apply, rotation.undo):
        with pytest.raises(ParameterError, match=r"given, float32 or float64\[8\] needed"):
            turn(vector)
