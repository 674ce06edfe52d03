"""Sharing over F_q, whose products do not fit 64 bits, against plain Python integers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError
from secureagg.he import sharing_kernels
from secureagg.he.deal import Dealer
from secureagg.he.sharing import (
    Sharing,
    check_combination,
    evaluate_from,
    key_sum,
    pack_elements,
    unpack_elements,
    verify_shares,
)
from secureagg.ring.params import PRIMES
from secureagg.ring.xof import PublicExpansion

Q = PRIMES[0]
CHALLENGE = bytes(range(32))
MODULI = st.sampled_from([2, 3, 223, 131101, 2**31 - 1, Q, PRIMES[3]])


def field_vector(data: st.DataObject, p: int, count: int) -> np.ndarray:
    """Return elements that are random, or all at one end, or at either end."""
    shape = data.draw(st.sampled_from(["random", "largest", "ends"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    if shape == "largest":
        return np.full(count, p - 1, dtype=np.int64)
    return rng.integers(0, p, count) if shape == "random" else rng.choice(np.array([0, 1, p - 1, p // 2]), count)


@given(MODULI, st.sampled_from([1, 2, 511, 512, 513, 2050]), st.data())
@settings(max_examples=150)
def test_combinations_are_those_of_integers(p: int, count: int, data: st.DataObject) -> None:
    rows = np.stack([field_vector(data, p, count) for _ in range(3)])
    combination = np.stack([field_vector(data, p, count) for _ in range(2)])
    out = np.empty((3, 2), dtype=np.int64)
    sharing_kernels.combine(rows, combination, np.int64(p), out)
    for k, row in enumerate(rows.tolist()):
        for r, coefficients in enumerate(combination.tolist()):
            assert out[k, r] == sum(a * b for a, b in zip(row, coefficients, strict=True)) % p


@given(MODULI, st.sampled_from([1, 2, 300]), st.data())
@settings(max_examples=150)
def test_scaled_sums_are_those_of_integers(p: int, count: int, data: st.DataObject) -> None:
    total, values = field_vector(data, p, count), field_vector(data, p, count)
    factor = int(field_vector(data, p, 1)[0])
    expected = [(t + factor * v) % p for t, v in zip(total.tolist(), values.tolist(), strict=True)]
    sharing_kernels.add_scaled(total, np.int64(factor), values, np.int64(p))
    assert total.tolist() == expected


@pytest.mark.parametrize("extreme", [False, True])
@pytest.mark.parametrize(("members", "threshold"), [(5, 4), (1, 1), (254, 170)])
def test_a_dealing_is_what_its_polynomials_say(members: int, threshold: int, extreme: bool) -> None:
    """Shares, masks and check polynomials, recomputed one integer at a time from what a prover is given."""
    sharing = Sharing(16, Q, members, threshold)
    dealer = Dealer(sharing, np.arange(16) - 8)
    if extreme:
        dealer.polynomials[1:] = dealer.masks[:] = Q - 1
    assert dealer.polynomials[0].tolist() == [(i - 8) % Q for i in range(16)]
    polynomials, masks = dealer.polynomials.tolist(), dealer.masks.tolist()
    combination = check_combination(sharing, CHALLENGE).tolist()
    published = [
        (sum(r * g for r, g in zip(row, polynomials[k], strict=True)) + masks[k][repetition]) % Q
        for k in range(threshold)
        for repetition, row in enumerate(combination)
    ]
    check = dealer.check(CHALLENGE)
    assert unpack_elements(sharing, check, 3 * threshold).tolist() == published
    for member in {0, members // 2, members - 1}:
        x = member + 1
        expected = [sum(polynomials[k][i] * x**k for k in range(threshold)) % Q for i in range(16)] + [
            sum(masks[k][repetition] * x**k for k in range(threshold)) % Q for repetition in range(3)
        ]
        plain = dealer.shares(member)
        assert unpack_elements(sharing, plain, 19).tolist() == expected
        assert verify_shares(sharing, member, CHALLENGE, check, plain).tolist() == expected[:16]


def test_sums_of_dealings_open_to_the_sum_of_keys() -> None:
    """Centred secrets at the ends of what a sum of a million keys can be, over any t members."""
    sharing = Sharing(16, Q, 5, 4)
    secrets = [np.resize([10**8, -(10**8), 0, 1, -1], 16), np.resize([7, -7], 16), np.full(16, -3)]
    sums = {m: np.zeros(16, dtype=np.int64) for m in range(5)}
    for each in secrets:
        dealer = Dealer(sharing, each)
        for member, total in sums.items():
            sharing.add(total, unpack_elements(sharing, dealer.shares(member), 19)[:16])
    for members in ((0, 1, 2, 3), (4, 2, 0, 3), (1, 2, 3, 4)):
        opened = key_sum(sharing, members, sums)
        assert opened.dtype == np.int64 and np.array_equal(opened, sum(secrets))
        for other in range(5):
            assert np.array_equal(evaluate_from(sharing, members, sums, other + 1), sums[other])


def test_the_ends_of_the_centred_range_come_back() -> None:
    sharing, half = Sharing(4, Q, 3, 2), Q // 2
    dealer = Dealer(sharing, np.array([half, -half, 0, -1]))
    sums = {m: unpack_elements(sharing, dealer.shares(m), 7)[:4] for m in range(3)}
    assert key_sum(sharing, (2, 0), sums).tolist() == [half, -half, 0, -1]


@pytest.mark.parametrize("p", [223, 131101, Q])
def test_any_number_of_shares_can_be_added(p: int) -> None:
    """Without reduction, 2048 shares of q − 1 would pass 2^63."""
    sharing = Sharing(4, p, 3, 2)
    total, shares = np.zeros(4, dtype=np.int64), np.array([p - 1, 1, p // 2, 0])
    for _ in range(5000):
        sharing.add(total, shares)
    assert total.tolist() == [5000 * share % p for share in shares.tolist()]


def test_three_repetitions_over_the_ring_prime() -> None:
    """254·q^−3 ≤ 2^-104 there, so that it holds for all members at once; p^−R ≤ 2^-104 wherever p is small."""
    for q in PRIMES:
        assert Sharing(16, q, 3, 2).repetitions == 3
        assert q**3 >= 254 * 2**104 > q**2
    for p in (2, 3, 8191, 8209, 65521, 65537, 131071, 67108859, 2**26 + 15, 2**31 - 1):
        repetitions = Sharing(4, p, 1, 1).repetitions
        assert p**repetitions >= 2**104 > p ** (repetitions - 1)
        assert repetitions == math.ceil(104 / math.log2(p))


def test_the_combination_over_the_ring_prime_is_uniform_by_refusal() -> None:
    """The low 52 bits of the words, a word that is not below q replaced by the first spare one that is."""
    sharing = Sharing(512, Q, 3, 2)
    words = np.empty(1536, dtype=np.uint64)
    expansion = PublicExpansion(CHALLENGE, "share check")
    expansion.fill(0, words)
    expected = [word % 2**52 for word in words.tolist()]
    for i, word in enumerate(expected):
        if word >= Q:
            expected[i] = next(spare % 2**52 for spare in expansion.spares(i) if spare % 2**52 < Q)
    found = check_combination(sharing, CHALLENGE)
    assert found.shape == (3, 512) and found.dtype == np.int64
    assert found.reshape(-1).tolist() == expected
    assert (found != check_combination(sharing, bytes(32))).any()


@given(st.sampled_from([Q, PRIMES[1]]), st.data())
@settings(max_examples=60)
def test_elements_of_52_bits_pack_and_unpack(p: int, data: st.DataObject) -> None:
    sharing, count = Sharing(2, p, 3, 2), data.draw(st.integers(1, 40))
    elements = field_vector(data, p, count)
    packed = pack_elements(sharing, elements)
    number = sum(element << (52 * i) for i, element in enumerate(elements.tolist()))
    assert packed == number.to_bytes(-(-52 * count // 8), "little")
    assert unpack_elements(sharing, packed, count).tolist() == elements.tolist()
    place = data.draw(st.integers(0, count - 1))
    beyond = number + ((data.draw(st.integers(p, 2**52 - 1)) - int(elements[place])) << (52 * place))
    with pytest.raises(EncodingError, match="not in canonical form"):
        unpack_elements(sharing, beyond.to_bytes(len(packed), "little"), count)
    if count % 2:
        with pytest.raises(EncodingError, match="not in canonical form"):
            unpack_elements(sharing, (number | 1 << (52 * count)).to_bytes(len(packed), "little"), count)


@pytest.mark.parametrize("modulus", [2**32, 2**40 + 15, 2**51 - 129, Q - 2])
def test_between_small_and_the_ring_primes_there_is_no_field(modulus: int) -> None:
    with pytest.raises(ParameterError, match=f"{modulus} must be a prime with 2\\^51 < q < 2\\^52"):
        Sharing(4, modulus, 3, 2)
