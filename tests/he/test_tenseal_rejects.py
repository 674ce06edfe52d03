"""secureagg.he.tenseal, refusals: each flips one thing and names the error. Nothing is decoded into garbage."""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError, UnattributedFault
from secureagg.he.seal_files import SealFile, sealapi
from secureagg.he.tenseal import Accumulator, PublicKey, SecretKey, add, decrypt, encrypt, generate_keys
from secureagg.he.tenseal_parameters import CkksParameters
from secureagg.he.tenseal_wire import Payload
from secureagg.layout import Layout

Keys = tuple[PublicKey, SecretKey]
Forge = Callable[..., Payload]
LAYOUT = Layout(((3,),), ("float64",))


@pytest.fixture(scope="module")
def payloads(keys: Keys) -> dict[str, bytes]:
    """One of each kind, of two ciphertexts."""
    model = [np.linspace(-1, 1, 2500)]
    public, seeded = encrypt(keys[0], model), encrypt(keys[1], model)
    return {"public": public, "seeded": seeded, "total": add([public, seeded])}


@given(st.data())
def test_every_mutation_is_refused(keys: Keys, payloads: dict[str, bytes], data: st.DataObject) -> None:
    encoded = payloads[data.draw(st.sampled_from(sorted(payloads)))]
    position = data.draw(st.integers(0, len(encoded) - 1))
    flipped = (
        encoded[:position] + bytes([encoded[position] ^ 1 << data.draw(st.integers(0, 7))]) + encoded[position + 1 :]
    )
    inserted = data.draw(st.binary(min_size=1, max_size=40))
    for changed in (
        flipped,
        encoded[:position],
        encoded + inserted,
        encoded[:position] + inserted + encoded[position:],
        encoded[:position] + encoded[position + 1 :],
    ):
        if changed == encoded:
            continue
        with pytest.raises(EncodingError):
            add([changed])
        with pytest.raises(EncodingError):
            decrypt(keys[1], changed)


@given(st.data())
def test_no_mutation_behind_the_checksum_is_decoded(
    keys: Keys, payloads: dict[str, bytes], data: st.DataObject
) -> None:
    """SEAL's own bytes, changed on purpose: an error, or (a bit of zstd's frame that means nothing) the same mean."""
    payload = Payload.from_bytes(payloads[data.draw(st.sampled_from(sorted(payloads)))])
    changed = bytearray(payload.ciphertexts[0])
    for _ in range(data.draw(st.integers(1, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    forged = replace(payload, ciphertexts=[bytes(changed), payload.ciphertexts[1]]).to_bytes()
    try:
        (mean,) = decrypt(keys[1], forged)
    except (EncodingError, UnattributedFault):
        return
    assert np.abs(mean - np.linspace(-1, 1, 2500)).max() <= 1e-4


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 2.0001])
def test_values_that_cannot_be_encrypted(keys: Keys, bad: float) -> None:
    for key in keys:
        with pytest.raises(ParameterError, match="tensor 1 holds"):
            encrypt(key, [np.zeros(2), np.array([[0.0, bad]])])


@pytest.mark.parametrize("weight", [0.0, 0.99, 8.01, math.nan, math.inf])
def test_weights_that_cannot_be_encrypted(keys: Keys, weight: float) -> None:
    with pytest.raises(ParameterError, match="1 ≤ weight ≤ max_weight=8"):
        encrypt(keys[0], [np.zeros(2)], weight)


def test_models_that_cannot_be_encrypted(keys: Keys) -> None:
    with pytest.raises(ParameterError, match="d = 0"):
        encrypt(keys[0], [np.zeros((0, 3))])
    with pytest.raises(ParameterError, match="tensor 0 has dtype int64"):
        encrypt(keys[0], [np.zeros(3, dtype=np.int64)])


def test_another_key_is_refused(keys: Keys, other_keys: Keys) -> None:
    mine, foreign = encrypt(keys[0], [np.ones(3)]), encrypt(other_keys[0], [np.ones(3)])
    for refuse in (
        lambda: add([mine, foreign]),
        lambda: Accumulator(keys[0]).add(foreign),
        lambda: decrypt(keys[1], foreign),
    ):
        with pytest.raises(EncodingError, match=f"under key {other_keys[0].key_id.hex()[:16]}…, expected key"):
            refuse()


def test_another_key_under_a_forged_id_is_not_decoded(keys: Keys, other_keys: Keys) -> None:
    foreign = Payload.from_bytes(encrypt(other_keys[0], [np.ones(3)]))
    with pytest.raises(UnattributedFault, match=r"ciphertext 0: a slot is .* from an integer"):
        decrypt(keys[1], replace(foreign, key_id=keys[0].key_id).to_bytes())


def test_other_parameters_are_refused(keys: Keys) -> None:
    grid = replace(keys[0].parameters.grid, clients=4)
    fewer = replace(keys[0], parameters=replace(keys[0].parameters, grid=grid))
    for refuse in (
        lambda: Accumulator(fewer).add(encrypt(keys[0], [np.ones(3)])),
        lambda: decrypt(keys[1], encrypt(fewer, [np.ones(3)])),
    ):
        with pytest.raises(EncodingError, match="made for other parameters"):
            refuse()


def test_a_duplicate_is_refused_also_inside_a_sum(keys: Keys) -> None:
    first, second, third = (encrypt(keys[0], [np.ones(3)]) for _ in range(3))
    name = Payload.from_bytes(first).nonces[0].hex()
    for repeated in ([first, first], [first, add([second, first])], [add([first, second]), add([third, first])]):
        with pytest.raises(EncodingError, match=f"position 1: payload: contribution {name} has already been added"):
            add(repeated)


def test_more_clients_than_planned_are_refused(keys: Keys) -> None:
    payloads = [encrypt(keys[1], [np.ones(3)]) for _ in range(6)]
    add(payloads[:5])
    with pytest.raises(EncodingError, match=r"position 5: .*contributions ≤ clients=5 is required, this would make 6"):
        add(payloads)
    with pytest.raises(EncodingError, match="this would make 6"):
        add([add(payloads[:3]), add(payloads[3:])])


def test_another_layout_is_refused_and_the_tensor_named(keys: Keys) -> None:
    first = encrypt(keys[0], [np.ones(3), np.ones((2, 2))])
    with pytest.raises(EncodingError, match=r"position 1: .*tensor 1 is float64\[4\], expected float64\[2, 2\]"):
        add([first, encrypt(keys[0], [np.ones(3), np.ones(4)])])
    with pytest.raises(EncodingError, match="2 tensors given, 1 expected"):
        Accumulator(keys[0], LAYOUT).add(first)
    with pytest.raises(EncodingError, match="2 tensors given, 1 expected"):
        Accumulator.like(encrypt(keys[0], [np.ones(3)])).add(first)


def test_an_unknown_version_is_named(keys: Keys, payloads: dict[str, bytes]) -> None:
    newer = payloads["public"][:18] + b"\x07" + payloads["public"][19:]
    for refuse in (lambda: add([newer]), lambda: decrypt(keys[1], newer), lambda: Accumulator(keys[0]).add(newer)):
        with pytest.raises(EncodingError, match="format version 7 is unknown"):
            refuse()


def test_nothing_has_no_sum(keys: Keys) -> None:
    with pytest.raises(ParameterError, match="no payload given"):
        add([])
    with pytest.raises(ParameterError, match="nothing was added"):
        Accumulator(keys[0]).to_bytes()
    with pytest.raises(ParameterError, match="nothing was added"):
        Accumulator(keys[0], LAYOUT).to_bytes()


def test_a_refused_payload_changes_nothing(keys: Keys, payloads: dict[str, bytes]) -> None:
    """The first ciphertext is fine and staged; the second is not."""
    accumulator = Accumulator(keys[0])
    accumulator.add(payloads["public"])
    before = accumulator.to_bytes()
    broken = Payload.from_bytes(encrypt(keys[0], [np.linspace(-1, 1, 2500)]))
    broken = replace(broken, ciphertexts=[broken.ciphertexts[0], bytes(broken.ciphertexts[1])[:-1] + b"\0\0"])
    with pytest.raises(EncodingError, match="ciphertext 1"):
        accumulator.add(broken.to_bytes())
    assert accumulator.to_bytes() == before
    accumulator.add(payloads["seeded"])
    assert accumulator.to_bytes() == payloads["total"]


def test_a_refused_first_payload_does_not_fix_the_layout(keys: Keys) -> None:
    accumulator = Accumulator(keys[0])
    broken = replace(Payload.from_bytes(encrypt(keys[0], [np.ones(2)])), ciphertexts=[b"not what SEAL wrote"])
    with pytest.raises(EncodingError, match="not one whole SEAL object"):
        accumulator.add(broken.to_bytes())
    accumulator.add(encrypt(keys[0], [np.ones(3)]))
    assert accumulator.contributions == 1


@pytest.mark.parametrize("refused", [10, 3 * 2048 + 10], ids=["fewer", "more"])
@pytest.mark.parametrize("contributions", [1, 2, 3])
def test_a_refused_first_payload_of_another_size_leaves_nothing(keys: Keys, refused: int, contributions: int) -> None:
    """Of fewer or more ciphertexts than what is admitted later, which stage in its place."""
    accumulator, template = Accumulator(keys[0]), Payload.from_bytes(encrypt(keys[0], [np.ones(refused)]))
    broken = replace(template, ciphertexts=[*template.ciphertexts[:-1], b"not what SEAL wrote"])
    with pytest.raises(EncodingError, match="not one whole SEAL object"):
        accumulator.add(broken.to_bytes())
    model = np.linspace(-1, 1, 2048 + 10)
    for _ in range(contributions):
        accumulator.add(encrypt(keys[0], [model]))
    (mean,) = decrypt(keys[1], accumulator.to_bytes())
    assert np.abs(mean - model).max() < keys[0].parameters.grid.precision


def test_a_total_of_another_layout_is_refused_by_who_knows_it(keys: Keys) -> None:
    total = encrypt(keys[0], [np.ones(3)])
    assert len(decrypt(keys[1], total, LAYOUT)) == 1
    with pytest.raises(EncodingError, match=r"tensor 0 is float64\[3\], expected float64\[4\]"):
        decrypt(keys[1], total, Layout(((4,),), ("float64",)))


def test_a_sum_takes_no_places_of_others(keys: Keys) -> None:
    accumulator = Accumulator(keys[0])
    both = add([encrypt(keys[0], [np.ones(3)]), encrypt(keys[0], [np.ones(3)])])
    with pytest.raises(EncodingError, match="a sum of 2 contributions, at most 1 is taken"):
        accumulator.add(both, at_most=1)
    accumulator.add(both, at_most=2)
    assert accumulator.contributions == 2


def test_a_mean_that_its_dtype_cannot_hold_is_nobodys_fault(keys: Keys, forge: Forge) -> None:
    public, secret = generate_keys(2, 1000.0, 1.0, 100.0)
    grid = public.parameters.grid
    forged = forge(public, Layout(((1,),), ("float16",)), np.array([grid.contribution_bound, grid.unit_weight]))
    with pytest.raises(UnattributedFault, match="tensor 0: a value does not fit float16"):
        decrypt(secret, forged.to_bytes())


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ([1.0, 2.0, 0.5, 1.0], r"ciphertext 0: a slot is 0\.(50|4\d) from an integer"),
        ([1.0, 2.0, 0.3, 1.0], r"a slot is 0\.(2[6-9]|3[0-4]) from an integer"),
        ([8.125, 0.0, 0.0, 1.0], r"\|Σv\| ≤ contributions · B = 1 · 262144 does not hold"),
        ([0.0, 0.0, 0.0, 0.0], "Σm ≤ 1 · 262144 does not hold"),
        ([0.0, 0.0, 0.0, 0.999], "1 · 32768 ≤ Σm"),
        ([0.0, 0.0, 0.0, 8.001], "does not hold for the sum of weights"),
        ([0.0, 0.0, 0.0, -1.0], "does not hold for the sum of weights"),
        ([0.0, 0.0, 0.0, 1.0, 1.0], "a slot beyond the weight is not zero"),
    ],
)
def test_slots_no_contribution_has(keys: Keys, forge: Forge, slots: list[float], message: str) -> None:
    """Written in units of K = 32768 grid steps, but for the fractions of one step."""
    unit = keys[0].parameters.grid.unit_weight
    assert unit == 32768
    grid_steps = [value if 0 < value < 0.9 else np.rint(value * unit) for value in slots]
    with pytest.raises(UnattributedFault, match=message):
        decrypt(keys[1], forge(keys[0], LAYOUT, np.array(grid_steps)).to_bytes())


def test_the_extremes_of_what_a_contribution_has_are_accepted(keys: Keys, forge: Forge) -> None:
    bound = keys[0].parameters.grid.contribution_bound
    payload = forge(keys[0], LAYOUT, np.array([bound, -bound, 0, bound]))
    assert decrypt(keys[1], payload.to_bytes())[0].tolist() == [2.0, -2.0, 0.0]


def test_a_sum_that_wrapped_is_not_decoded(keys: Keys, forge: Forge) -> None:
    """64 contributions at the extremes, announced as one; with 40 nonces the count alone would be refused."""
    bound = keys[0].parameters.grid.contribution_bound
    payload = forge(keys[0], LAYOUT, np.array([bound, -bound, bound, bound]), copies=64)
    with pytest.raises(UnattributedFault, match="from an integer"):
        decrypt(keys[1], payload.to_bytes())


def test_a_contribution_counted_twice_under_one_nonce_is_noticed(keys: Keys, forge: Forge) -> None:
    payload = forge(keys[0], LAYOUT, np.array([1, 2, 3, 8 * 32768]), copies=2)
    with pytest.raises(UnattributedFault, match="the number of contributions inside is not the announced one"):
        decrypt(keys[1], payload.to_bytes())


def crafted(parameters: CkksParameters, size: int = 2, ntt: int = 1, scale: float = 1.0, second: int = 5) -> bytes:
    """Return an uncompressed SEAL ciphertext (ciphertext.cpp, save_members) whose polynomials are constant."""
    level = struct.pack("<4Q", *parameters.context().first_parms_id())
    degree = parameters.ring_degree
    words = [3] * degree + [second] * (degree * (size - 1))
    array = struct.pack("<Q", len(words)) + struct.pack(f"<{len(words)}Q", *words)
    with SealFile() as file:  # magic, header size and this SEAL's version; then no compression, and two bytes unused
        header = file.dump(sealapi().Ciphertext())[:5] + bytes(3)
    array = header + struct.pack("<Q", 16 + len(array)) + array
    members = level + struct.pack("<B3QdQ", ntt, size, degree, 1, parameters.scale * scale, 1) + array
    return header + struct.pack("<Q", 16 + len(members)) + members


@pytest.mark.parametrize(
    "change",
    [{"size": 3}, {"ntt": 0}, {"scale": 2.0}, {"second": 0}],
    ids=["three polynomials", "coefficient form", "another scale", "nothing hidden"],
)
def test_ciphertexts_seal_accepts_and_we_do_not(keys: Keys, change: dict[str, int]) -> None:
    template = Payload.from_bytes(encrypt(keys[0], [np.ones(3)]))
    parameters = keys[0].parameters
    add([replace(template, ciphertexts=[crafted(parameters)]).to_bytes()])
    refused = replace(template, ciphertexts=[crafted(parameters, **change)]).to_bytes()  # type: ignore[arg-type]
    with SealFile() as file:  # so that it is our check that is tested
        file.load(sealapi().Ciphertext(), parameters.context(), crafted(parameters, **change), "ciphertext")  # type: ignore[arg-type]
    for refuse in (lambda: add([refused]), lambda: decrypt(keys[1], refused)):
        with pytest.raises(EncodingError, match="ciphertext 0: size, level, form or scale"):
            refuse()


def test_a_ciphertext_of_a_lower_level_is_refused() -> None:
    """Two primes of q: SEAL could drop one, and the room above the sum with it."""
    public, secret = generate_keys(2, 1.0, 1e-7, 1e5)
    parameters, seal = public.parameters, sealapi()
    assert len(parameters.primes) == 3
    payload = Payload.from_bytes(encrypt(public, [np.ones(3)]))
    ciphertext = seal.Ciphertext()
    with SealFile() as file:
        file.load(ciphertext, parameters.context(), payload.ciphertexts[0], "ciphertext")
        seal.Evaluator(parameters.context()).mod_switch_to_next_inplace(ciphertext)
        lower = replace(payload, ciphertexts=[file.dump(ciphertext)]).to_bytes()
    for refuse in (lambda: add([lower]), lambda: decrypt(secret, lower)):
        with pytest.raises(EncodingError, match="ciphertext 0: size, level, form or scale"):
            refuse()


def test_a_sum_whose_second_half_cancels_is_refused(keys: Keys) -> None:
    """SEAL would throw in the middle of the addition; the sum before it stays."""
    template, parameters = Payload.from_bytes(encrypt(keys[0], [np.ones(3)])), keys[0].parameters
    (q,) = parameters.primes
    one, minus_one = (
        replace(template, nonces=(os.urandom(16),), ciphertexts=[crafted(parameters, second=second)]).to_bytes()
        for second in (5, q - 5)
    )
    accumulator = Accumulator(keys[0])
    accumulator.add(one)
    before = accumulator.to_bytes()
    with pytest.raises(EncodingError, match="ciphertext 0: SEAL cannot read it"):
        accumulator.add(minus_one)
    assert accumulator.to_bytes() == before and accumulator.contributions == 1
