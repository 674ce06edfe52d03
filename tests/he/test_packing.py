"""Where coordinates lie, and the kernels that put them there and take them apart, against plain integers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.errors import ParameterError
from secureagg.he import packing as packing_module
from secureagg.he import packing_kernels
from secureagg.he.packing import Packing, decoding_constants, message_factors
from secureagg.ring.ntt import tables
from secureagg.ring.params import RingParameters, ring_parameters
from tests.federation import TOYS
from tests.he import reference

RINGS = [ring_parameters(name, allow_insecure=True) for name in TOYS]
TAMPERED = 1 << 63


@st.composite
def packings(draw: st.DrawFn, rings: list[RingParameters] = RINGS) -> Packing:
    """Any packing that decodes: field widths, numbers of fields and Δ up to what the modulus holds."""
    ring = draw(st.sampled_from(rings))
    limit = draw(st.sampled_from([1, 3, 4, 8188, 2**20 - 1, 2**30]))
    field_bits = limit.bit_length() + 1
    fields = draw(st.integers(1, max(1, (ring.modulus.bit_length() - 8) // field_bits)))
    most = reference.largest_delta(ring.modulus, field_bits, fields, limit)
    shape = draw(st.sampled_from(["largest", "odd", "even", "power of two", "any"]))
    delta = most if shape == "largest" else draw(st.integers(2, most))
    delta = {
        "odd": delta | 1 if delta < most else delta - 1 | 1,
        "even": delta & ~1,
        "power of two": 1 << (delta.bit_length() - 1),
    }.get(shape, delta)
    return Packing(
        ring, draw(st.integers(1, 3 * ring.degree * fields)), field_bits, fields, max(2, min(delta, most)), limit
    )


def test_a_packing_by_hand() -> None:
    """N = 16, two fields: 35 coordinates need 18 coefficients, so one full chunk and one of 16."""
    packing = Packing(RINGS[0], 35, 20, 2, 1000, 2**19 - 1)
    assert (packing.coefficients, packing.chunks, packing.ciphertext_bytes) == (32, 2, 32 * 52 // 8)
    (frame,) = packing.frames
    assert (frame.chunks, frame.coefficients, packing.frame_coordinates(frame)) == (2, 16, (0, 35))
    # Coordinate 34 is the third of the second chunk: field 0, coefficient 2.
    assert reference.place_of(packing, 34) == (1, 0, 2)


@given(packings())
@settings(max_examples=200)
def test_frames_hold_every_coordinate_once(packing: Packing) -> None:
    check_frames(packing)


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
@pytest.mark.parametrize("fields", [1, 2, 5])
def test_frames_at_the_borders_of_chunks(ring: RingParameters, fields: int) -> None:
    for border in (0, 16 * fields, ring.degree * fields, 2 * ring.degree * fields):
        for coordinates in {max(1, border + step) for step in (-1, 0, 1)}:
            check_frames(Packing(ring, coordinates, 4, fields, 1000, 7))


@given(st.sampled_from([1, 16, 200, 1 << 16]), packings())
def test_frames_of_any_size(frame_residues: int, packing: Packing) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "FRAME_RESIDUES", frame_residues)
        check_frames(replace(packing))


def check_frames(packing: Packing) -> None:
    needed, n = -(-packing.coordinates // packing.fields), packing.ring.degree
    # One chunk at least is whole, and all are where there are several keys: no key sum is hidden by what is not sent.
    assert packing.coefficients == max(
        n, -(-needed // (n if packing.keys > 1 else 16)) * (n if packing.keys > 1 else 16)
    )
    assert packing.chunks == -(-packing.coefficients // packing.ring.degree)
    start = chunk = coordinate = coefficients = 0
    for frame in packing.frames:
        assert (frame.start, frame.first_chunk, frame.first_coordinate) == (start, chunk, coordinate)
        assert frame.size * 8 == frame.chunks * frame.coefficients * len(packing.ring.primes) * 52
        assert frame.coefficients == packing.ring.degree or frame is packing.frames[-1]
        first, last = packing.frame_coordinates(frame)
        assert first < last == min(packing.coordinates, first + frame.chunks * frame.coefficients * packing.fields)
        start, chunk, coordinate = start + frame.size, chunk + frame.chunks, last
        coefficients += frame.chunks * frame.coefficients
    assert (start, chunk, coordinate) == (packing.ciphertext_bytes, packing.chunks, packing.coordinates)
    assert coefficients == packing.coefficients


def assembled(packing: Packing, values: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Return e + Δ·m mod the primes by the kernel: uint64[chunks, primes, n]."""
    factors, companions = message_factors(packing)
    constants = np.ascontiguousarray(tables(packing.ring.primes, packing.ring.degree).constants[:, :2])
    out = np.zeros((values.shape[0], len(packing.ring.primes), values.shape[2]), dtype=np.uint64)
    packing_kernels.add_message(out, values, errors, factors, companions, constants)
    return out


def large_residuals(packing: Packing, chunk: list[int]) -> int:
    """Return how many of these numbers mod q are further than Δ/4 from the nearest multiple of Δ."""
    q, delta = packing.ring.modulus, packing.delta
    bias = delta * sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields))
    rests = [((number + bias + delta // 2) % q) % delta - delta // 2 for number in chunk]
    return sum(4 * abs(rest) > delta for rest in rests)


def decoded(packing: Packing, sums: np.ndarray) -> tuple[np.ndarray, int]:
    """Return (fields, worst error or the mark of tampering) by the kernel."""
    constants = decoding_constants(packing)
    out = np.empty((sums.shape[0], packing.fields, sums.shape[2]), dtype=np.int64)
    worst = packing_kernels.decode(
        sums,
        constants.moduli,
        constants.inverses,
        constants.companions,
        constants.divisor,
        np.uint64(packing.field_bits),
        np.uint64(2 * packing.field_limit),
        out,
    )
    if sums.shape[1] == 1:
        again = np.empty_like(out)
        width, limit = np.uint64(packing.field_bits), np.uint64(2 * packing.field_limit)
        exceeding = np.empty(len(sums), dtype=np.int64)
        quick = packing_kernels.decode_one_prime(
            sums, constants.moduli, constants.divisor, width, limit, again, exceeding
        )
        assert quick == worst and np.array_equal(again, out)
        assert exceeding.tolist() == [large_residuals(packing, chunk) for chunk in sums[:, 0].tolist()]
    return out, int(worst)


def boundary_fields(packing: Packing, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return fields [2, f, 16] and errors [2, 16] at ±L, ±1, 0 and ±E in all combinations, the rest random."""
    rng = np.random.default_rng(seed)
    limit, most = packing.field_limit, (packing.delta - 1) // 2
    values = rng.integers(-limit, limit + 1, (2, packing.fields, 16))
    errors = rng.integers(-most, most + 1, (2, 16))
    for i, (value, error) in enumerate((v, e) for v in (limit, -limit, 0) for e in (most, -most, 0)):
        values[0, :, i], errors[0, i] = value, error
        values[1, :, i], errors[1, i] = np.resize([limit, -limit], packing.fields), error
    return values, errors


@given(packings(), st.integers(0, 2**32))
@settings(max_examples=300)
def test_the_kernels_are_the_integers(packing: Packing, seed: int) -> None:
    values, errors = boundary_fields(packing, seed)
    sums = assembled(packing, values, errors)
    for c in range(2):
        for i in range(16):
            number = reference.coefficient(
                values[c, :, i].tolist(), int(errors[c, i]), packing.delta, packing.field_bits
            )
            assert sums[c, :, i].tolist() == reference.residues_of(number, packing.ring.primes)
            split = reference.fields_of(number, packing.delta, packing.field_bits, packing.fields)
            assert split == (values[c, :, i].tolist(), errors[c, i], 0)
    out, worst = decoded(packing, sums)
    assert np.array_equal(out, values)
    assert worst == int(np.abs(errors).max())


@given(packings(), st.data())
@settings(max_examples=100)
def test_a_message_is_added_to_what_is_there(packing: Packing, data: st.DataObject) -> None:
    """Any canonical mask, any values below 2^51: the sum is exact mod every prime."""
    primes, rng = packing.ring.primes, np.random.default_rng(data.draw(st.integers(0, 2**32)))
    edge = data.draw(st.sampled_from([1, 2**20, 2**51 - 1]))
    values = rng.integers(-edge, edge + 1, (1, packing.fields, 16))
    errors = rng.integers(-edge, edge + 1, (1, 16))
    values[0, :, 0], errors[0, 0], values[0, :, 1], errors[0, 1] = edge, edge, -edge, -edge
    masks = np.stack([rng.integers(0, q, (1, 16), dtype=np.uint64) for q in primes], axis=1)
    masks[0, :, :2] = np.array(primes, dtype=np.uint64)[:, None] - np.uint64(1)
    found = masks.copy()
    factors, companions = message_factors(packing)
    constants = np.ascontiguousarray(tables(primes, packing.ring.degree).constants[:, :2])
    packing_kernels.add_message(found, values, errors, factors, companions, constants)
    for i in range(16):
        number = reference.coefficient(values[0, :, i].tolist(), int(errors[0, i]), packing.delta, packing.field_bits)
        assert found[0, :, i].tolist() == [(int(masks[0, p, i]) + number) % q for p, q in enumerate(primes)]


@given(packings(), st.data())
@settings(max_examples=200)
def test_what_no_honest_sum_holds_is_told(packing: Packing, data: st.DataObject) -> None:
    """One residue of one coefficient replaced: the kernel's verdict is that of the integers."""
    values, errors = boundary_fields(packing, data.draw(st.integers(0, 2**32)))
    sums = assembled(packing, values, errors)
    c, p, i = (data.draw(st.integers(0, extent - 1)) for extent in sums.shape)
    sums[c, p, i] = data.draw(st.integers(0, packing.ring.primes[p] - 1))
    number = reference.centred_crt([int(x) for x in sums[c, :, i]], packing.ring.primes)
    bias = packing.delta * sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields))
    biased = (number + bias + packing.delta // 2) % packing.ring.modulus
    quotient, fields, within = biased // packing.delta, [], True
    for _ in range(packing.fields):
        fields.append(quotient % (1 << packing.field_bits) - packing.field_limit)
        within &= fields[-1] <= packing.field_limit
        quotient >>= packing.field_bits
    out, worst = decoded(packing, sums)
    if not within or quotient:
        assert worst == TAMPERED
    else:
        errors[c, i] = biased % packing.delta - packing.delta // 2
        assert worst == int(np.abs(errors).max())
        assert out[c, :, i].tolist() == fields


@pytest.mark.parametrize("ring", RINGS, ids=lambda ring: ring.name)
def test_a_field_one_beyond_the_limit_is_told(ring: RingParameters) -> None:
    packing = Packing(ring, 16, 12, 3, 4001, 1000)
    for field in range(3):
        for value in (1001, -1001):
            values, errors = np.zeros((1, 3, 16), dtype=np.int64), np.zeros((1, 16), dtype=np.int64)
            values[0, field, 7] = value
            assert decoded(packing, assembled(packing, values, errors))[1] == TAMPERED


@pytest.mark.parametrize(("coordinates", "field_bits", "fields"), [(0, 8, 1), (1, 1, 1), (1, 63, 1), (1, 8, 0)])
def test_impossible_packings_are_refused(coordinates: int, field_bits: int, fields: int) -> None:
    with pytest.raises(ParameterError, match=f"got {coordinates}, {fields}, {field_bits}"):
        Packing(RINGS[0], coordinates, field_bits, fields, 1000, 1)


@pytest.mark.parametrize(("field_bits", "limit"), [(2, 1), (62, 2**61 - 1)])
def test_the_narrowest_and_the_widest_field(field_bits: int, limit: int) -> None:
    packing = Packing(RINGS[3], 16, field_bits, 3, 4001, limit)
    values, errors = boundary_fields(packing, 1)
    out, worst = decoded(packing, assembled(packing, values % 2**50 if limit > 2**51 else values, errors))
    assert np.array_equal(out, values % 2**50 if limit > 2**51 else values) and worst == 2000


def test_constants_are_the_numbers_they_say() -> None:
    for ring in RINGS:
        packing = Packing(ring, 16, 12, 3, 3 << 20, 1000)
        factors, companions = message_factors(packing)
        constants = decoding_constants(packing)
        bias = reference.coefficient([1000] * 3, (3 << 20) // 2, 3 << 20, 12)
        for p, q in enumerate(ring.primes):
            for k in range(3):
                assert int(factors[p, k]) == (3 << (20 + 12 * k)) % q
                assert int(companions[p, k]) == (int(factors[p, k]) << 64) // q
            assert constants.moduli[p].tolist() == [q, (1 << 83) // q, bias % q]
            for i in range(p):
                assert int(constants.inverses[p, i]) * ring.primes[i] % q == 1
        delta, reciprocal, radix_rest, odd, twos, inverse = (int(x) for x in constants.divisor)
        assert (delta, reciprocal, radix_rest) == (3 << 20, (2**64 - 1) // (3 << 20), 2**64 % (3 << 20))
        assert (odd, twos, inverse * odd % 2**64) == (3, 20, 1)


@given(st.integers(1, 2000), st.integers(1, 3), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=300)
def test_every_key_has_its_full_chunks(coordinates: int, fields: int, keys: int, least: int) -> None:
    """At least `min_chunks_per_key` whole chunks under each key, as few as that takes, and room for everything."""
    packing = Packing(RINGS[0], coordinates, 4, fields, 1000, 7, keys, least)
    n, needed = packing.ring.degree, -(-coordinates // fields)
    assert needed <= packing.coefficients
    full = packing.coefficients // n
    chunks = [len(range(full)[k * packing.chunks_per_key : (k + 1) * packing.chunks_per_key]) for k in range(keys)]
    assert min(chunks) >= least and sum(chunks) == full
    assert packing.coefficients % n == 0 or keys == 1
    assert packing.key_coefficients == packing.coefficients - (keys - 1) * packing.chunks_per_key * n >= least * n
    if keys == 1:
        assert packing.coefficients == max(least * n, needed + -needed % 16)
    else:
        assert full <= max(-(-needed // n), keys * least) + keys + least
    assert packing.frames[-1].start + packing.frames[-1].size == packing.ciphertext_bytes
    assert sum(last - first for first, last in map(packing.frame_coefficients, packing.frames)) == packing.coefficients
