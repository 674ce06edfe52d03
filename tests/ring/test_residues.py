"""Sums, lifts and packed bytes against plain integers; refusal of residues that are not canonical."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError
from secureagg.ring import ntt, residues
from secureagg.ring.params import PRIMES
from tests.ring import reference

SHAPES = [(1, 1, 16), (3, 1, 48), (5, 2, 64), (40, 4, 16), (9, 1, 2048)]


def random_words(shape: tuple[int, int, int], seed: int = 0) -> ntt.Words:
    """Return canonical residues, a quarter of them 0 or q − 1."""
    random = np.random.default_rng([seed, *shape])
    out = np.empty(shape, dtype=np.uint64)
    for p in range(shape[1]):
        q = PRIMES[p]
        row = random.integers(0, q, (shape[0], shape[2]), dtype=np.uint64)
        edge = random.choice(np.array([0, q - 1], dtype=np.uint64), row.shape)
        out[:, p] = np.where(random.random(row.shape) < 0.25, edge, row)
    return out


@pytest.mark.parametrize("shape", SHAPES)
def test_add_and_subtract(shape: tuple[int, int, int]) -> None:
    primes = PRIMES[: shape[1]]
    a, b = random_words(shape, 1), random_words(shape, 2)
    total = a.copy()
    residues.add(total, b, primes)
    q = np.array(primes, dtype=np.uint64)[:, None]
    assert np.array_equal(total, (a + b) % q)
    residues.subtract(total, b, primes)
    assert np.array_equal(total, a)
    residues.subtract(total, b, primes)
    assert np.array_equal(total, (a + (q - b)) % q)


@pytest.mark.parametrize("q", PRIMES)
def test_add_signed_takes_any_integer(q: int) -> None:
    edge = [0, 1, -1, q, -q, q - 1, 1 - q, 2 * q, -2 * q, (q - 1) // 2, (1 << 63) - 1, -(1 << 63), -(1 << 62)]
    integers = np.array(edge + np.random.default_rng(5).integers(-(1 << 63), 1 << 63, 51).tolist(), dtype=np.int64)
    for start in (0, 1, q - 1):
        total = np.full((1, 1, 64), start, dtype=np.uint64)
        residues.add_signed(total, integers[None], (q,))
        assert total[0, 0].tolist() == [(start + x) % q for x in integers.tolist()]


def test_add_signed_reduces_the_same_integers_mod_every_prime() -> None:
    integers = np.random.default_rng(6).integers(-(1 << 63), 1 << 63, (7, 16))
    total = np.zeros((7, 4, 16), dtype=np.uint64)
    residues.add_signed(total, integers, PRIMES)
    expected = [[[x % q for x in row] for q in PRIMES] for row in integers.tolist()]
    assert total.tolist() == expected


@pytest.mark.parametrize("q", PRIMES)
def test_centred(q: int) -> None:
    edge = [0, 1, q - 1, (q - 1) // 2, (q + 1) // 2, (q - 3) // 2]
    values = np.array([edge + np.random.default_rng(7).integers(0, q, 58).tolist()], dtype=np.uint64)[:, None]
    lifted = residues.centred(values, (q,))
    assert lifted.dtype == np.int64
    assert lifted[0, 0].tolist() == [reference.centred(x, q) for x in values[0, 0].tolist()]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("misaligned", [0, 1, 3, 7])
def test_packing_is_one_integer_of_52_bit_digits(shape: tuple[int, int, int], misaligned: int) -> None:
    primes, values = PRIMES[: shape[1]], random_words(shape)
    buffer = bytearray(misaligned + residues.packed_bytes(shape))
    packed = memoryview(buffer)[misaligned:]
    residues.pack(packed, values, primes)
    assert bytes(packed) == b"".join(reference.pack(row) for row in values.reshape(-1, shape[2]).tolist())
    for source in (packed, bytes(packed), packed.toreadonly()):
        out = np.empty_like(values)
        residues.unpack(out, source, primes)
        assert np.array_equal(out, values)


@pytest.mark.parametrize("shape", SHAPES)
def test_add_packed_is_unpack_then_add(shape: tuple[int, int, int]) -> None:
    primes, values, start = PRIMES[: shape[1]], random_words(shape, 3), random_words(shape, 4)
    packed = bytearray(residues.packed_bytes(shape))
    residues.pack(packed, values, primes)
    total, expected = start.copy(), start.copy()
    residues.add_packed(total, bytes(packed), primes)
    residues.add(expected, values, primes)
    assert np.array_equal(total, expected)


@pytest.mark.parametrize("position", range(16))
@pytest.mark.parametrize("prime", range(4))
def test_one_residue_that_is_not_canonical_is_refused(position: int, prime: int) -> None:
    """In every place of a group, and for every prime; the largest canonical residue is not refused."""
    shape = (3, 4, 32)
    for value, refused in ((PRIMES[prime] - 1, False), (PRIMES[prime], True), ((1 << 52) - 1, True)):
        values = np.zeros(shape, dtype=np.uint64)
        values[1, prime, 16 + position] = value
        packed = b"".join(reference.pack(row) for row in values.reshape(-1, 32).tolist())
        for take in (residues.unpack, residues.add_packed):
            out = np.zeros(shape, dtype=np.uint64)
            if refused:
                with pytest.raises(EncodingError, match="1 residues or more are not below their prime"):
                    take(out, packed, PRIMES)
            else:
                take(out, packed, PRIMES)
                assert np.array_equal(out, values)


@given(st.lists(st.integers(0, PRIMES[0] - 1), min_size=16, max_size=16))
def test_packing_round_trip(row: list[int]) -> None:
    values = np.array(row, dtype=np.uint64).reshape(1, 1, 16)
    packed = bytearray(104)
    residues.pack(packed, values, PRIMES[:1])
    out = np.empty_like(values)
    residues.unpack(out, packed, PRIMES[:1])
    assert out.ravel().tolist() == row and bytes(packed) == reference.pack(row)


@pytest.mark.parametrize("extra", [-104, -8, -1, 1, 8])
def test_other_lengths_are_refused(extra: int) -> None:
    values = np.zeros((2, 1, 16), dtype=np.uint64)
    buffer = bytearray(208 + extra)
    with pytest.raises(ParameterError, match="pack into 208"):
        residues.pack(buffer, values, PRIMES[:1])
    with pytest.raises(ParameterError, match="pack into 208"):
        residues.unpack(values, buffer, PRIMES[:1])
    with pytest.raises(ParameterError, match="pack into 208"):
        residues.add_packed(values, buffer, PRIMES[:1])


def test_rows_that_do_not_fill_words_are_refused() -> None:
    with pytest.raises(ParameterError, match="16 must divide n"):
        residues.pack(bytearray(65), np.zeros((1, 1, 10), dtype=np.uint64), PRIMES[:1])


def test_no_chunk_is_no_work() -> None:
    empty = np.zeros((0, 1, 16), dtype=np.uint64)
    residues.add(empty, empty, PRIMES[:1])
    residues.pack(bytearray(), empty, PRIMES[:1])
    residues.add_packed(empty, b"", PRIMES[:1])
    assert residues.centred(empty, PRIMES[:1]).shape == (0, 1, 16)


def test_arrays_of_another_form_are_refused() -> None:
    total = np.zeros((2, 1, 16), dtype=np.uint64)
    for other in (total[:1], total.astype(np.int64), np.zeros((2, 2, 16), np.uint64)):
        for operation in (residues.add, residues.subtract):
            with pytest.raises(ParameterError, match="needed"):
                operation(total, other, PRIMES[:1])
    for integers in (np.zeros((2, 16), np.int32), np.zeros((1, 16), np.int64)):
        with pytest.raises(ParameterError, match=r"int64\[2, 16\] needed"):
            residues.add_signed(total, integers, PRIMES[:1])
    with pytest.raises(ParameterError, match="must be a prime"):
        residues.centred(total, (12345,))
