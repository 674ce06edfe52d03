"""secureagg.he.tenseal, laws: the sum under encryption is the sum, bit for bit, whatever the order and the layout."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from secureagg.he.tenseal import Accumulator, PublicKey, SecretKey, add, decrypt, encrypt, generate_keys
from secureagg.he.tenseal_wire import Payload
from secureagg.layout import Layout

Keys = tuple[PublicKey, SecretKey]
Model = list[NDArray[np.floating[Any]]]

MAGNITUDE, PRECISION, MAX_WEIGHT, CLIENTS = 2.0, 1e-4, 8.0, 5  # of the `keys` fixture
LAYOUTS = st.builds(
    lambda pairs: Layout(tuple(shape for shape, _ in pairs), tuple(dtype for _, dtype in pairs)),
    st.lists(
        st.tuples(
            hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
            st.sampled_from(["float16", "float32", "float64"]),
        ),
        min_size=1,
        max_size=5,
    ).filter(lambda pairs: any(0 not in shape for shape, _ in pairs)),
)


@st.composite
def rounds(draw: st.DrawFn, whole_weights: bool = False) -> tuple[Layout, list[Model], list[float], list[bool]]:
    """A layout, each client's update (often at ± the magnitude), its weight, and whether it has the secret key."""
    layout = draw(LAYOUTS)
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, CLIENTS))
    spread = draw(st.sampled_from([0.01, 1.0, 10.0]))
    models = [
        [
            np.clip(rng.normal(0, spread, shape), -MAGNITUDE, MAGNITUDE).astype(dtype)
            for shape, dtype in zip(layout.shapes, layout.dtypes, strict=True)
        ]
        for _ in range(count)
    ]
    weight = st.integers(1, int(MAX_WEIGHT)).map(float) if whole_weights else st.floats(1, MAX_WEIGHT)
    return layout, models, [draw(weight) for _ in range(count)], [draw(st.booleans()) for _ in range(count)]


def contributions(keys: Keys, models: list[Model], weights: list[float], with_secret: list[bool]) -> list[bytes]:
    return [
        encrypt(keys[secret], model, weight) for model, weight, secret in zip(models, weights, with_secret, strict=True)
    ]


@given(rounds())
def test_the_mean_is_the_weighted_mean(keys: Keys, drawn: tuple[Layout, list[Model], list[float], list[bool]]) -> None:
    """decrypt ∘ add ∘ encrypt, public-key and seeded contributions mixed, against exact rational arithmetic."""
    layout, models, weights, with_secret = drawn
    means = decrypt(keys[1], add(contributions(keys, models, weights, with_secret)))
    assert Layout.of(means) == layout
    total = sum(map(Fraction, weights))
    for index, mean in enumerate(means):
        half_ulp = Fraction(float(np.finfo(mean.dtype).eps)) * Fraction(MAGNITUDE)  # of the result's own dtype
        for position, found in enumerate(mean.reshape(-1)):
            terms = zip(weights, models, strict=True)
            exact = sum(Fraction(w) * Fraction(float(m[index].reshape(-1)[position])) for w, m in terms) / total
            assert abs(Fraction(float(found)) - exact) <= Fraction(PRECISION) + half_ulp


@given(rounds(whole_weights=True))
def test_the_mean_is_that_of_integers_bit_for_bit(
    keys: Keys, drawn: tuple[Layout, list[Model], list[float], list[bool]]
) -> None:
    layout, models, weights, with_secret = drawn
    means = decrypt(keys[1], add(contributions(keys, models, weights, with_secret)))
    step = Fraction(keys[0].parameters.grid.step)
    assert step == Fraction(1, 2**14)
    sums: NDArray[np.int64] = np.zeros(layout.size, dtype=np.int64)
    for model, weight in zip(models, weights, strict=True):
        flat = np.concatenate([tensor.reshape(-1).astype(np.float64) for tensor in model])
        sums += np.rint(flat * weight * 2**14).astype(np.int64)
    expected = np.array([float(Fraction(int(s)) * step / Fraction(sum(weights))) for s in sums])
    assert all(np.array_equal(a, b) for a, b in zip(means, layout.unflatten(expected), strict=True))


@given(rounds(), st.randoms(use_true_random=False), st.data())
def test_order_and_grouping_change_no_bit(
    keys: Keys, drawn: tuple[Layout, list[Model], list[float], list[bool]], random: Any, data: st.DataObject
) -> None:
    payloads = contributions(keys, *drawn[1:])
    total = add(payloads)
    shuffled = random.sample(payloads, len(payloads))
    assert add(shuffled) == total
    cut = data.draw(st.integers(0, len(payloads)))
    groups = [add(group) for group in (shuffled[:cut], shuffled[cut:]) if group]
    assert add(groups) == total


def test_one_contribution_is_a_total(keys: Keys) -> None:
    """A public-key contribution is its own sum to the byte; a seeded one is expanded."""
    model = [np.linspace(-2, 2, 7)]
    public, seeded = encrypt(keys[0], model, 3.0), encrypt(keys[1], model, 3.0)
    assert add([public]) == public
    opened = [decrypt(keys[1], payload)[0] for payload in (public, seeded, add([seeded]))]
    assert all(np.array_equal(opened[0], other) for other in opened[1:])


@pytest.mark.parametrize("size", [1, 2046, 2047, 2048, 2049, 4095, 4096])
def test_the_ends_of_ciphertexts_are_no_seam(keys: Keys, size: int) -> None:
    """N = 2048: the weight is the last slot of one ciphertext, or alone in the next."""
    model = [np.linspace(-MAGNITUDE, MAGNITUDE, size)]
    payload = encrypt(keys[0], model)
    assert len(Payload.from_bytes(payload).ciphertexts) == (size + 2048) // 2048
    assert np.abs(decrypt(keys[1], add([payload]))[0] - model[0]).max() <= PRECISION


def test_bytes_do_not_depend_on_the_number_of_tensors(keys: Keys) -> None:
    flat = np.random.default_rng(3).normal(0, 0.1, 62 * 2048).astype(np.float32)
    for key, share in zip(keys, (1.0, 0.52), strict=True):
        one, many = len(encrypt(key, [flat])), len(encrypt(key, np.array_split(flat, 62)))
        assert abs(one - many) <= 0.01 * one
        assert one <= share * flat.size * keys[0].parameters.value_bytes * 1.03


def test_any_strides_and_byte_order_give_the_same_mean(keys: Keys) -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4) / 16
    strided = np.repeat(plain.T, 2, axis=0)[::2].T
    assert not strided.flags.c_contiguous
    for model in ([strided], [plain.astype(">f4")], [np.asfortranarray(plain)]):
        before = model[0].copy()
        (mean,) = decrypt(keys[1], encrypt(keys[0], model))
        assert np.array_equal(mean, plain) and np.array_equal(model[0], before)


def test_two_encryptions_of_one_update_share_nothing(keys: Keys) -> None:
    for key in keys:
        first, second = (Payload.from_bytes(encrypt(key, [np.zeros(5)])) for _ in range(2))
        assert first.nonces != second.nonces
        assert bytes(first.ciphertexts[0]) != bytes(second.ciphertexts[0])


def test_every_kind_of_set_works() -> None:
    """One prime; one and a special prime; two and a special prime."""
    seen = set()
    for clients, magnitude, precision, max_weight in ((3, 1.0, 1e-6, 1.0), (3, 1.0, 1e-3, 1.0), (3, 1.0, 1e-7, 4e4)):
        public, secret = generate_keys(clients, magnitude, precision, max_weight)
        seen.add(len(public.parameters.primes))
        models = [[np.linspace(-magnitude, magnitude, 5000) / (1 + client)] for client in range(clients)]
        weights = [1.0, max_weight, (1 + max_weight) / 2]
        for key in (public, secret):
            total = add(encrypt(key, model, weight) for model, weight in zip(models, weights, strict=True))
            exact = np.average([model[0] for model in models], axis=0, weights=weights)
            assert np.abs(decrypt(secret, total)[0] - exact).max() <= precision
    assert seen == {1, 2, 3}


def test_an_accumulator_is_add_one_by_one(keys: Keys) -> None:
    payloads = [encrypt(keys[0], [np.full(3, client / 4)]) for client in range(4)]
    accumulator = Accumulator(keys[0], Layout(((3,),), ("float64",)))
    for count, payload in enumerate(payloads, start=1):
        accumulator.add(payload)
        assert accumulator.contributions == count
        assert accumulator.to_bytes() == add(payloads[:count])
    accumulator.add(encrypt(keys[1], [np.full(3, 1.0)]))
    assert np.array_equal(decrypt(keys[1], accumulator.to_bytes())[0], np.full(3, 0.5))


ACCUMULATION = """
import os, resource, sys
from dataclasses import replace
import numpy as np
from secureagg.he.tenseal import Accumulator, encrypt, generate_keys
from secureagg.he.tenseal_wire import Payload

public, _ = generate_keys(1000, 1.0, 1e-4)
first = Payload.from_bytes(encrypt(public, [np.zeros(40_000, np.float32)]))
accumulator, peaks = Accumulator(public), []
for count in (50, 350):
    for _ in range(count):
        accumulator.add(replace(first, nonces=(os.urandom(16),)).to_bytes())
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform == "darwin" else 1))
print(peaks[1] - peaks[0])
"""


def test_memory_does_not_grow_with_clients() -> None:
    """The peak, in KiB, of a process of its own; kept, the last 350 contributions would take 190 MB."""
    printed = subprocess.run([sys.executable, "-c", ACCUMULATION], capture_output=True, text=True, check=True).stdout
    assert int(printed) < 4096


def test_threads_do_not_disturb_each_other(keys: Keys) -> None:
    def exchange(client: int) -> bool:
        model = [np.full(5000, client / 10, np.float64)]
        (mean,) = decrypt(keys[1], add([encrypt(keys[client % 2], model) for _ in range(3)]))
        return bool(np.abs(mean - model[0]).max() <= PRECISION)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(exchange, range(16)))
