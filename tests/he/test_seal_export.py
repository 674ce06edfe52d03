"""Our kernels against SEAL's, bit for bit and in both directions, through the bytes of `he.seal_export`."""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tenseal import sealapi

from secureagg.errors import EncodingError, MissingExtraError, ParameterError
from secureagg.he import seal_export
from secureagg.he.seal_export import KEY_LIMIT
from secureagg.ring import ntt, residues
from secureagg.ring.params import PARAMETER_NAMES, PRIMES, RingParameters, ring_parameters
from tests.he.seal_reference import SCALE, Integers, Seal, Words, plain_root, reduced, slots_of, words_of

SETS = (*PARAMETER_NAMES, "INSECURE_N16_Q52", "INSECURE_N64_Q104", "INSECURE_N64_Q208")
SPECIAL_PRIMES = {1: (), 2: PRIMES[2:3], 4: (4503599606661121,)}
SIGMA_SEAL = 3.2


class Pair(NamedTuple):
    ring: RingParameters
    seal: Seal


@pytest.fixture(scope="module", params=SETS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair(request.param, tmp_path_factory.mktemp("seal"))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return make_pair("INSECURE_N64_Q104", tmp_path_factory.mktemp("seal"))


def make_pair(name: str, folder: Path) -> Pair:
    ring = ring_parameters(name, allow_insecure=True)
    return Pair(ring, Seal(seal_export.export_parameters(ring), folder))


def uniform(rng: np.random.Generator, ring: RingParameters) -> Words:
    rows = [rng.integers(0, q, ring.degree, dtype=np.uint64) for q in ring.primes]
    return np.array(rows)[None]


def product(ring: RingParameters, a: Words, key: Integers) -> Words:
    """Coefficients of a·s by our kernels. a: NTT form."""
    s = np.zeros_like(a)
    residues.add_signed(s, key[None], ring.primes)
    ntt.forward(s, ring.primes)
    ntt.multiply(s, a, ring.primes)
    ntt.inverse(s, ring.primes)
    return s


def encrypt(ring: RingParameters, key: Integers, a: Words, noisy: Words) -> Words:
    c = product(ring, a, key)
    residues.add(c, noisy, ring.primes)
    return c


def decrypt(ring: RingParameters, key: Integers, c: Words, a: Words) -> Words:
    noisy = c.copy()
    residues.subtract(noisy, product(ring, a, key), ring.primes)
    return noisy


def gaussian(rng: np.random.Generator, ring: RingParameters) -> Integers:
    return np.rint(rng.normal(0, ring.sigma, ring.degree)).astype(np.int64)


KEYS: dict[str, Callable[[np.random.Generator, RingParameters], Integers]] = {
    "gaussian": gaussian,
    "zero": lambda rng, ring: np.zeros(ring.degree, dtype=np.int64),
    "last coefficient": lambda rng, ring: np.eye(ring.degree, dtype=np.int64)[-1],
    "longest": lambda rng, ring: KEY_LIMIT * rng.choice(np.array((-1, 1)), ring.degree),
}


def messages(rng: np.random.Generator, ring: RingParameters) -> dict[str, list[int]]:
    """Noisy messages as integers in [−(q−1)/2, (q−1)/2]."""
    half, n = (ring.modulus - 1) // 2, ring.degree
    scaled = ((rng.integers(-4096, 4096, n) << 20) + gaussian(rng, ring)).tolist()
    anywhere = [int.from_bytes(rng.bytes(32), "little") % ring.modulus - half for _ in range(n)]
    return {
        "packed": scaled,
        "anywhere": anywhere,
        "largest": [half] * n,
        "extremes": [(half, -half, 1, -1, 0)[k % 5] for k in range(n)],
    }


# From SEAL to us.


def test_seal_reads_the_parameters(pair: Pair) -> None:
    ring, seal = pair
    chain = [modulus.value() for modulus in seal.parameters.coeff_modulus()]
    assert chain == [*ring.primes, *SPECIAL_PRIMES[len(ring.primes)]]
    assert seal.parameters.poly_modulus_degree() == ring.degree
    assert seal.parameters.scheme() == sealapi.SCHEME_TYPE.CKKS
    data_level = seal.context.first_context_data().parms().coeff_modulus()
    assert [modulus.value() for modulus in data_level] == list(ring.primes)


def test_a_seal_key_is_ternary_and_in_our_order(pair: Pair) -> None:
    ring, seal = pair
    seal_key = seal.generate_key()
    key = seal_export.import_secret_key(ring, seal.dump(seal_key))
    assert key.shape == (ring.degree,) and key.dtype == np.int64
    values = set(np.unique(key).tolist())
    assert values == {-1, 0, 1} or (ring.degree < 64 and values < {-1, 0, 1})
    rows = words_of(seal_key.data(), ring.degree)
    bits = ring.degree.bit_length() - 1
    for q, row in zip(ring.primes, rows, strict=False):
        psi = plain_root(q, ring.degree)
        for k in (0, 1, ring.degree // 2, ring.degree - 3):
            at = pow(psi, 2 * int(f"{k:0{bits}b}"[::-1], 2) + 1, q)
            value = 0
            for coefficient in reversed(key.tolist()):  # Horner
                value = (value * at + coefficient) % q
            assert int(row[k]) == value


@pytest.mark.parametrize("kind", ["random", "zero", "largest"])
def test_a_seal_ciphertext_opens_with_our_kernels(pair: Pair, kind: str) -> None:
    ring, seal = pair
    rng = np.random.default_rng(1)
    unit = np.exp(2j * np.pi * rng.random(ring.degree // 2))
    slots = {"random": unit * rng.random(unit.size), "zero": 0 * unit, "largest": 1000 * unit}[kind]
    seal_key = seal.generate_key()
    encoded = seal.encrypt(seal_key, slots)
    key = seal_export.import_secret_key(ring, seal.dump(seal_key))
    c, a, scale = seal_export.import_ciphertext(ring, encoded)
    assert scale == SCALE and c.shape == a.shape == (1, len(ring.primes), ring.degree)

    noisy = decrypt(ring, key, c, a)
    rows = residues.centred(noisy, ring.primes)[0]
    assert (rows == rows[0]).all()
    deviation = 6 * SIGMA_SEAL * ring.degree**0.5 / SCALE  # a slot's error has deviation σ·√N; 6 for all slots
    assert np.abs(slots_of(rows[0]) / SCALE - slots).max() < deviation + 1e-6 * np.abs(slots).max()

    plain = seal.decrypt(seal_key, seal.ciphertext(encoded))
    np.testing.assert_allclose(slots_of(rows[0]) / SCALE, seal.encoder.decode_complex(plain), atol=1e-9)
    ntt.forward(noisy, ring.primes)
    np.testing.assert_array_equal(noisy[0], words_of(plain, ring.degree))


# From us to SEAL.


@pytest.mark.parametrize("kind", KEYS)
def test_seal_opens_our_ciphertext_to_exactly_our_message(pair: Pair, kind: str) -> None:
    ring, seal = pair
    rng = np.random.default_rng(2)
    key = KEYS[kind](rng, ring)
    seal_key = seal.load(sealapi.SecretKey(), seal_export.export_secret_key(ring, key))
    for name, integers in messages(rng, ring).items():
        a, noisy = uniform(rng, ring), reduced(integers, ring.primes)
        c = encrypt(ring, key, a, noisy)
        ciphertext = seal.ciphertext(seal_export.export_ciphertext(ring, c, a, SCALE))
        plain = seal.decrypt(seal_key, ciphertext)

        slots = slots_of(np.array(integers, dtype=np.float64)) / SCALE
        np.testing.assert_allclose(
            seal.encoder.decode_complex(plain), slots, rtol=0, atol=1e-11 * np.abs(slots).max(), err_msg=name
        )
        # SEAL adds its plaintext to c and takes all back to coefficients, so no transform of ours is in the way.
        seal.evaluator.add_plain_inplace(ciphertext, plain)
        doubled = seal.coefficients(ciphertext)[None, : len(ring.primes)].copy()
        residues.subtract(doubled, c, ring.primes)
        np.testing.assert_array_equal(doubled, noisy, err_msg=name)


@pytest.mark.parametrize("kind", ["random", "zero", "largest"])
def test_seals_transform_gives_our_coefficients(pair: Pair, kind: str) -> None:
    ring, seal = pair
    rng = np.random.default_rng(3)
    largest = np.array(ring.primes, dtype=np.uint64)[None, :, None] - np.ones(ring.degree, dtype=np.uint64)
    c = {"random": uniform(rng, ring), "zero": np.zeros_like(largest), "largest": largest}[kind]
    a = largest if kind == "largest" else uniform(rng, ring)  # not zero: SEAL refuses to work on what hides nothing
    found = seal.coefficients(seal.ciphertext(seal_export.export_ciphertext(ring, c, a, SCALE)))
    primes = len(ring.primes)
    np.testing.assert_array_equal(found[:primes], c[0])
    a = a.copy()
    ntt.inverse(a, ring.primes)
    q = np.array(ring.primes, dtype=np.uint64)[:, None]
    np.testing.assert_array_equal((found[primes:] + a[0]) % q, np.zeros_like(a[0]))


def test_the_key_that_seal_holds_is_the_one_we_wrote(pair: Pair) -> None:
    ring, seal = pair
    rng = np.random.default_rng(4)
    for make in KEYS.values():
        key = make(rng, ring)
        encoded = seal_export.export_secret_key(ring, key)
        np.testing.assert_array_equal(seal_export.import_secret_key(ring, encoded), key)
        again = seal.dump(seal.load(sealapi.SecretKey(), encoded))
        np.testing.assert_array_equal(seal_export.import_secret_key(ring, again), key)


# Sums.


def test_seals_sum_of_our_ciphertexts_is_our_sum(pair: Pair) -> None:
    ring, seal = pair
    rng = np.random.default_rng(5)
    (c, a), (d, b) = [(uniform(rng, ring), uniform(rng, ring)) for _ in range(2)]
    total = seal.add(*(seal_export.export_ciphertext(ring, *both, SCALE) for both in ((c, a), (d, b))))
    residues.add(c, d, ring.primes)
    residues.add(a, b, ring.primes)
    found_c, found_a, scale = seal_export.import_ciphertext(ring, seal.dump(total))
    np.testing.assert_array_equal(found_c, c)
    np.testing.assert_array_equal(found_a, a)
    assert scale == SCALE


def test_our_sum_of_seal_ciphertexts_opens_in_seal(pair: Pair) -> None:
    ring, seal = pair
    rng = np.random.default_rng(6)
    seal_key = seal.generate_key()
    slots = rng.normal(size=(2, ring.degree // 2)) + 1j * rng.normal(size=(2, ring.degree // 2))
    first, second = (seal.encrypt(seal_key, row) for row in slots)
    (c, a, _), (d, b, _) = (seal_export.import_ciphertext(ring, encoded) for encoded in (first, second))
    residues.add(c, d, ring.primes)
    residues.add(a, b, ring.primes)
    total = seal.ciphertext(seal_export.export_ciphertext(ring, c, a, SCALE))
    seals_total = seal.add(first, second)
    np.testing.assert_array_equal(words_of(total, ring.degree), words_of(seals_total, ring.degree))
    opened = np.array(seal.encoder.decode_complex(seal.decrypt(seal_key, total)))
    assert np.abs(opened - slots.sum(axis=0)).max() < 2 * 6 * SIGMA_SEAL * ring.degree**0.5 / SCALE


@given(
    seed=st.integers(0, 2**32),
    scale=st.floats(min_value=2.0**-1022, max_value=2.0**1023),
    name=st.sampled_from(SETS[3:]),
)
def test_a_ciphertext_comes_back_unchanged(seed: int, scale: float, name: str) -> None:
    ring = ring_parameters(name, allow_insecure=True)
    rng = np.random.default_rng(seed)
    c, a = uniform(rng, ring), uniform(rng, ring)
    found = seal_export.import_ciphertext(ring, seal_export.export_ciphertext(ring, c, a, scale))
    assert (found[0] == c).all() and (found[1] == a).all() and found[2] == scale


# Rejects. Offsets are those of an uncompressed ciphertext, as `export_ciphertext` documents them.

COMPRESSION = 5
ID, FORM, POLYNOMIALS, DEGREE, PRIME_COUNT, CIPHERTEXT_SCALE = 16, 48, 49, 57, 65, 73
INNER, WORDS = 81, 105


def fresh(ring: RingParameters) -> bytes:
    rng = np.random.default_rng(7)
    return seal_export.export_ciphertext(ring, uniform(rng, ring), uniform(rng, ring), SCALE)


def patched(encoded: bytes, offset: int, replacement: bytes) -> bytes:
    return encoded[:offset] + replacement + encoded[offset + len(replacement) :]


def word(value: int) -> bytes:
    return struct.pack("<Q", value)


def without_polynomials(encoded: bytes) -> bytes:
    emptied = patched(patched(encoded[:WORDS], INNER + 8, word(24)), INNER + 16, word(0))
    return patched(patched(emptied, 8, word(len(emptied))), POLYNOMIALS, word(0))


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda b: b"",
    "truncated": lambda b: b[:-1],
    "extended": lambda b: b + b"\0",
    "truncated, with a matching length": lambda b: patched(b, 8, word(len(b) - 8))[:-8],
    "extended, with a matching length": lambda b: patched(b, 8, word(len(b) + 8)) + bytes(8),
    "magic": lambda b: patched(b, 0, b"\x5f"),
    "header length": lambda b: patched(b, 2, b"\x11"),
    "major version": lambda b: patched(b, 3, b"\x02"),
    "version from the future": lambda b: patched(b, 3, b"\x04\x63"),
    "compression that is not there": lambda b: patched(b, 5, b"\x02"),
    "compression unknown": lambda b: patched(b, 5, b"\x07"),
    "parameters id": lambda b: patched(b, ID, bytes([b[ID] ^ 1])),
    "coefficients instead of NTT form": lambda b: patched(b, FORM, b"\0"),
    "one polynomial": lambda b: patched(b, POLYNOMIALS, word(1)),
    "no polynomial": without_polynomials,
    "three polynomials announced": lambda b: patched(b, POLYNOMIALS, word(3)),
    "degree": lambda b: patched(b, DEGREE, word(128)),
    "number of primes": lambda b: patched(b, PRIME_COUNT, word(1)),
    "scale zero": lambda b: patched(b, CIPHERTEXT_SCALE, bytes(8)),
    "scale NaN": lambda b: patched(b, CIPHERTEXT_SCALE, struct.pack("<d", float("nan"))),
    "scale negative": lambda b: patched(b, CIPHERTEXT_SCALE, struct.pack("<d", -1.0)),
    "inner magic": lambda b: patched(b, INNER, b"\0"),
    "inner length": lambda b: patched(b, INNER + 8, word(8)),
    "more words than there are": lambda b: patched(b, INNER + 16, word(1 << 60)),
    "fewer words than there are": lambda b: patched(b, INNER + 16, word(255)),
    "first residue not below its prime": lambda b: patched(b, WORDS, word(PRIMES[0])),
    "last residue not below its prime": lambda b: patched(b, len(b) - 8, word(PRIMES[1])),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_ciphertext_is_refused(small: Pair, damage: str) -> None:
    encoded = fresh(small.ring)
    seal_export.import_ciphertext(small.ring, encoded)
    with pytest.raises(EncodingError):
        seal_export.import_ciphertext(small.ring, DAMAGE[damage](encoded))


def test_every_changed_byte_is_refused_or_harmless(small: Pair) -> None:
    encoded = fresh(small.ring)
    c, a, _ = seal_export.import_ciphertext(small.ring, encoded)
    accepted = set()
    for offset in range(WORDS):
        for flip in (0x01, 0x80, 0xFF):
            changed = patched(encoded, offset, bytes([encoded[offset] ^ flip]))
            try:
                found_c, found_a, _ = seal_export.import_ciphertext(small.ring, changed)
            except EncodingError:
                continue
            assert (found_c == c).all() and (found_a == a).all()
            accepted.add(offset)
    reserved_or_version = {header + field for header in (0, INNER) for field in (4, 6, 7)}
    assert accepted <= reserved_or_version | {FORM} | set(range(CIPHERTEXT_SCALE, INNER))


def test_damaged_zstandard_is_refused(small: Pair) -> None:
    """At every byte. SEAL itself would let std::ios_base::failure escape on some, which ends the process."""
    encoded = small.seal.dump(small.seal.generate_key())
    assert encoded[COMPRESSION] == 2
    key = seal_export.import_secret_key(small.ring, encoded)
    read = 0
    for offset in range(len(encoded)):
        try:
            found = seal_export.import_secret_key(small.ring, patched(encoded, offset, bytes([encoded[offset] ^ 0x41])))
        except EncodingError:
            continue
        assert (found == key).all()  # a reserved byte, or other bits for the same content
        read += 1
    assert read < 0.05 * len(encoded)


def test_objects_of_another_kind_level_or_set_are_refused(small: Pair) -> None:
    ring, seal = small
    key = seal_export.export_secret_key(ring, np.zeros(ring.degree, dtype=np.int64))
    other = ring_parameters("INSECURE_N64_Q52", allow_insecure=True)
    lower = seal.ciphertext(fresh(ring))
    seal.evaluator.mod_switch_to_next_inplace(lower)
    three_polynomials = sealapi.Ciphertext()
    seal.evaluator.multiply(seal.ciphertext(fresh(ring)), seal.ciphertext(fresh(ring)), three_polynomials)
    parameters = seal_export.export_parameters(ring)
    for encoded in (key, fresh(other), seal.dump(lower), seal.dump(three_polynomials), parameters):
        with pytest.raises(EncodingError):
            seal_export.import_ciphertext(ring, encoded)
    for encoded in (fresh(ring), seal_export.export_secret_key(other, np.ones(64, dtype=np.int64))):
        with pytest.raises(EncodingError):
            seal_export.import_secret_key(ring, encoded)


@pytest.mark.parametrize("name", SETS)
def test_words_that_are_no_short_polynomial_are_no_key(name: str) -> None:
    ring = ring_parameters(name, allow_insecure=True)
    encoded = seal_export.export_secret_key(ring, np.ones(ring.degree, dtype=np.int64))
    last = int.from_bytes(encoded[-8:], "little")
    with pytest.raises(EncodingError, match="not one polynomial"):
        seal_export.import_secret_key(ring, patched(encoded, len(encoded) - 8, word(last ^ 1)))


def test_what_cannot_be_written_is_refused() -> None:
    ring = ring_parameters("INSECURE_N16_Q52", allow_insecure=True)
    good = np.zeros((1, 1, 16), dtype=np.uint64)
    for bad in (good[0], good.astype(np.int64), np.zeros((2, 1, 16), np.uint64), good + np.uint64(PRIMES[0])):
        for c, a in ((bad, good), (good, bad)):
            with pytest.raises(ParameterError):
                seal_export.export_ciphertext(ring, c, a, SCALE)
    for scale in (0.0, -1.0, float("nan"), float("inf"), 5e-324):
        with pytest.raises(ParameterError, match="scale"):
            seal_export.export_ciphertext(ring, good, good, scale)
    zeros = np.zeros(16, dtype=np.int64)
    lowest = np.iinfo(np.int64).min
    for key in (zeros[:15], zeros.astype(np.int32), zeros + KEY_LIMIT + 1, zeros - KEY_LIMIT - 1, zeros + lowest):
        with pytest.raises(ParameterError):
            seal_export.export_secret_key(ring, key)


def test_without_tenseal_writing_works_and_reading_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    ring = ring_parameters("INSECURE_N16_Q52", allow_insecure=True)
    monkeypatch.setitem(sys.modules, "tenseal", None)
    seal_export.export_parameters(ring)
    key = seal_export.export_secret_key(ring, np.ones(16, dtype=np.int64))
    for read, encoded in ((seal_export.import_ciphertext, fresh(ring)), (seal_export.import_secret_key, key)):
        with pytest.raises(MissingExtraError, match=r"secureagg\[tenseal\]"):
            read(ring, encoded)
