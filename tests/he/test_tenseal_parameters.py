"""secureagg.he.tenseal_parameters: the inequalities, recomputed by other means, and the constants, measured."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError
from secureagg.he.seal_files import SealFile, seal_context, sealapi
from secureagg.he.tenseal import add, choose_parameters, decrypt, encrypt, generate_keys
from secureagg.he.tenseal_grid import Grid
from secureagg.he.tenseal_parameters import (
    _STORED_BITS,
    ERROR_VARIANCE,
    FLOAT_ERROR,
    MODULUS_CAPS,
    TAIL,
    CkksParameters,
    noise_variance,
)
from secureagg.wire import Reader, Writer

CAPS = {2048: (53, 54), 4096: (106, 109), 8192: (214, 218)}  # ours (security.md) and SEAL's
# Room to fail one check at a time.
WIDE = CkksParameters(Grid(8, 1.0, 1e-4, 1.0), 4096, (1152921504606830593,), 30)


@st.composite
def requests(draw: st.DrawFn, client_bits: float = 20) -> tuple[int, float, float, float]:
    """Requests whose sums are at most 2^45 (a step is up to four times finer), from one client to a million."""
    magnitude = 2.0 ** draw(st.floats(-20, 20))
    clients = int(2 ** draw(st.floats(0, client_bits)))
    max_weight = draw(st.one_of(st.just(1.0), st.floats(1, 1e5)))
    sum_bits = draw(st.floats(math.log2(clients * max_weight) + 1, 42.9))
    precision = magnitude * max_weight * clients * 2.0**-sum_bits
    assume(precision < magnitude / 2)
    return clients, magnitude, precision, max_weight


def isprime(number: int) -> bool:
    """Miller and Rabin's test, exact below 3.3·10^24 with these bases."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41):
        powers = [pow(base, odd << k, number) for k in range(twos)]
        if number % base and powers[0] != 1 and number - 1 not in powers:
            return False
    return number > 41


@given(requests())
@example((10, 1.0, 1e-6, 1.0))
@example((2**32 - 1, 1.0, 1e-3, 1.0))
@example((1, 1.0, 0.4, 1.0))
def test_the_chosen_set_is_secure_and_cannot_wrap(request_: tuple[int, float, float, float]) -> None:
    clients = request_[0]
    chosen = choose_parameters(*request_)
    special = chosen.primes[-1] if len(chosen.primes) > 1 else 1
    q = math.prod(chosen.primes) // special
    assert chosen.context().parameters_set()  # SEAL's own check at 128 bits
    assert math.log2(q * special) <= min(CAPS[chosen.ring_degree])
    assert len(set(chosen.primes)) == len(chosen.primes)
    assert all(isprime(p) and p % (2 * chosen.ring_degree) == 1 for p in chosen.primes)
    # 2·(√2·R + 1)·S < q, squared to stay in integers. B is what the extremes give: test_tenseal_grid.
    scale, bound = 2**chosen.scale_bits, chosen.grid.contribution_bound
    assert 8 * (clients * bound * scale) ** 2 < (q - 2 * scale) ** 2
    assert 8 * (2 * bound * scale) ** 2 < q**2
    noise = TAIL * chosen.noise_std_grid + chosen.grid.sum_bound * 2.0**-48
    assert noise <= 0.25


@given(requests())
def test_bytes_round_trip(request_: tuple[int, float, float, float]) -> None:
    chosen = choose_parameters(*request_)
    writer = Writer()
    chosen.write(writer)
    assert len(writer.getvalue()) == 34 + 8 * len(chosen.primes)
    assert CkksParameters.read(Reader(writer.getvalue(), "parameters")) == chosen


@given(requests(client_bits=3.6))
def test_the_extremes_neither_wrap_nor_round_wrongly(request_: tuple[int, float, float, float]) -> None:
    """All clients at ± the planned magnitude and the largest weight: a real sum, opened."""
    count, magnitude, precision, max_weight = request_
    public, secret = generate_keys(*request_)
    signs = np.where(np.arange(33) % 3 == 0, -1.0, 1.0)
    update = [signs * magnitude, np.full(3, -magnitude)]
    payloads = [encrypt(secret if client % 4 == 3 else public, update, max_weight) for client in range(count)]
    means = decrypt(secret, add(payloads))
    assert all(np.abs(mean - u).max() <= precision for mean, u in zip(means, update, strict=True))


def test_the_set_for_ten_clients_and_a_millionth() -> None:
    """What README and the benchmark state."""
    chosen = choose_parameters(10, 1.0, 1e-6)
    assert (chosen.ring_degree, chosen.primes, chosen.scale_bits) == (2048, (140737488273409,), 22)
    assert chosen.grid.step == 2.0**-20
    assert chosen.value_bytes == pytest.approx(13.6, abs=0.1)


def test_less_precision_never_takes_more_bytes_worth_mentioning() -> None:
    sizes = [choose_parameters(10, 1.0, 10.0**-digits).value_bytes for digits in range(1, 12)]
    assert all(coarse <= 1.1 * fine for coarse, fine in pairwise(sizes))


def test_the_report_says_why() -> None:
    report = choose_parameters(10, 1.0, 1e-6, 3.0).report()
    for part in (
        "10 clients",
        "weights in [1, 3]",
        "2^-20",
        "128 bits",
        "of at most 53 bits",
        "2024/463",
        "next",
        "1/4",
    ):
        assert part in report


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ring_degree": 1024}, "N ∈ {2048, 4096, 8192}"),
        ({"ring_degree": 16384}, "N ∈ {2048, 4096, 8192}"),
        ({"ring_degree": 2048}, r"log2\(q·P\) ≤ 53 is required for N=2048: 60 bits"),
        ({"primes": ()}, "one prime of q or more"),
        ({"primes": (2**61 - 1,)}, "one prime of q or more"),
        ({"primes": (1152921504606830593, 1152921504606748673)}, r"log2\(q·P\) ≤ 106"),
        ({"primes": (1099511480321, 40961), "scale_bits": 23}, "is required: 2\\^41.5 ≥ 2\\^40.0"),
        ({"scale_bits": 22}, r"noise/S \+ R·2\^-48 ≤ 1/4 is required: 0.27 "),
        ({"scale_bits": 43}, r"2·\(√2·max\(R, 2B\) \+ 1\)·S < q is required"),
        ({"scale_bits": 0}, "1 ≤ log2 S ≤ 64"),
        ({"scale_bits": 65}, "1 ≤ log2 S ≤ 64"),
        ({"grid": Grid(2**20, 1.0, 1e-4, 1.0)}, "≤ 1/4 is required"),
        ({"grid": Grid(8, 1.0, 1e-10, 1.0)}, "< q is required"),
    ],
)
def test_every_inequality_is_checked(change: dict[str, object], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        replace(WIDE, **change)  # type: ignore[arg-type]


def test_a_single_client_leaves_room_for_the_encoder() -> None:
    """2B in place of R: without it SEAL's encoder would refuse the extremes at encryption time."""
    public, secret = generate_keys(1, 1.0, 2.0**-20)
    for extreme in (1.0, -1.0):
        (mean,) = decrypt(secret, encrypt(public, [np.full(2047, extreme)]))
        assert np.abs(mean - extreme).max() == 0


@pytest.mark.parametrize(
    ("ring_degree", "widths"), [(2048, [50]), (2048, [38, 14]), (4096, [45, 16]), (4096, [40, 40, 16])]
)
def test_the_noise_has_the_derived_size(ring_degree: int, widths: list[int]) -> None:
    """Measured over 40 encryptions of zero under two keys: accepted at σ, refused at 2σ/3 and 1.5σ."""
    seal = sealapi()
    primes = tuple(m.value() for m in seal.CoeffModulus.Create(ring_degree, widths))
    special = primes[-1] if len(primes) > 1 else None
    # A slot's part sums N coefficients with mean square weight 1/2.
    expected = math.sqrt(noise_variance(ring_degree, special) * ring_degree / 2) / 2.0**20
    measured = _slot_noise(ring_degree, primes, seeded=False)
    assert 0.9 * expected < measured < 1.1 * expected
    assert not any(0.9 * wrong < measured < 1.1 * wrong for wrong in (2 * expected / 3, 1.5 * expected))
    assert (
        _slot_noise(ring_degree, primes, seeded=True)
        < 1.1 * math.sqrt((ERROR_VARIANCE + 1 / 12) * ring_degree / 2) / 2.0**20
    )


def _slot_noise(ring_degree: int, primes: tuple[int, ...], seeded: bool) -> float:
    seal = sealapi()
    context = seal_context(ring_degree, primes)
    encoder, plain, opened = seal.CKKSEncoder(context), seal.Plaintext(), seal.Plaintext()
    encoder.encode([0.0], 2.0**20, plain)
    squares = []
    for _ in range(2):
        generator, public, ciphertext = seal.KeyGenerator(context), seal.PublicKey(), seal.Ciphertext()
        generator.create_public_key(public)
        encryptor = seal.Encryptor(context, public, generator.secret_key())
        encrypt_plain = encryptor.encrypt_symmetric if seeded else encryptor.encrypt
        for _ in range(20):
            encrypt_plain(plain, ciphertext)
            seal.Decryptor(context, generator.secret_key()).decrypt(ciphertext, opened)
            squares.append(np.mean(np.array(encoder.decode_complex(opened)).view(float) ** 2))
    return float(np.sqrt(np.mean(squares)))


def test_the_tail_holds_at_2_to_the_minus_72_and_one_less_does_not() -> None:
    """∫ exp(−x) exp(−T²/2x) dx by the midpoint rule."""
    x = (np.arange(400_000) + 0.5) / 1000

    def log2_tail(t: float) -> float:
        return float(np.log2(np.sum(np.exp(-x - t * t / (2 * x))) / 1000))

    assert log2_tail(TAIL) < -72 < log2_tail(TAIL - 1)


@pytest.mark.parametrize("ring_degree", MODULUS_CAPS)
def test_float64_transforms_are_as_exact_as_assumed(ring_degree: int) -> None:
    """Encoding and decoding at a scale where only the transforms err; half the allowance is left for other inputs."""
    seal = sealapi()
    widths = {2048: [53], 4096: [60], 8192: [60]}[ring_degree]
    primes = tuple(m.value() for m in seal.CoeffModulus.Create(ring_degree, widths))
    context = seal_context(ring_degree, primes)
    encoder, plain = seal.CKKSEncoder(context), seal.Plaintext()
    rng = np.random.default_rng(7)
    top, scale = 2.0**10, 2.0 ** (widths[0] - 13)
    for slots in (
        rng.integers(-1024, 1025, ring_degree),
        rng.choice([-top, top], ring_degree),
        np.full(ring_degree, top),
    ):
        values = slots.astype(float)
        encoder.encode(values.view(complex).tolist(), scale, plain)
        error = np.abs(np.array(encoder.decode_complex(plain)).view(float) - values).max()
        rounding_of_coefficients = 6 * math.sqrt(ring_degree / 24) / scale  # dominates at N = 2048 only
        assert error <= FLOAT_ERROR / 2 * top + rounding_of_coefficients


@pytest.mark.parametrize(
    ("ring_degree", "bits"), [(2048, 24), (2048, 32), (2048, 47), (2048, 53), (4096, 36), (4096, 60)]
)
def test_the_table_of_stored_bits_is_right_to_3_percent(ring_degree: int, bits: int) -> None:
    seal = sealapi()
    primes = tuple(m.value() for m in seal.CoeffModulus.Create(ring_degree, [bits]))
    context = seal_context(ring_degree, primes)
    generator, ciphertext, plain = seal.KeyGenerator(context), seal.Ciphertext(), seal.Plaintext()
    encryptor = seal.Encryptor(context, generator.secret_key())
    seal.CKKSEncoder(context).encode([1.0], 2.0**10, plain)
    with SealFile() as file:
        sizes, seeded = [], []
        for _ in range(10):
            encryptor.encrypt_symmetric(plain, ciphertext)
            sizes.append(len(file.dump(ciphertext)))
            seeded.append(len(file.dump(encryptor.encrypt_symmetric(plain))))
    expected = 2 * ring_degree * _STORED_BITS[bits - 20] / 8
    assert np.mean(sizes) == pytest.approx(expected, rel=0.03)
    assert np.mean(seeded) == pytest.approx(expected / 2, rel=0.05)


def test_bytes_of_parameters_that_break_an_inequality_are_refused() -> None:
    writer = Writer()
    WIDE.write(writer)
    encoded = bytearray(writer.getvalue())
    encoded[32] = 22  # log2 S
    with pytest.raises(EncodingError, match=r"parameters: .*≤ 1/4 is required"):
        CkksParameters.read(Reader(encoded, "parameters"))
