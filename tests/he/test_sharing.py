"""Shamir's sharing: any t of k members reconstruct, fewer learn nothing, and a dealing off the polynomial is found."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg.errors import EncodingError, ParameterError
from secureagg.he import deal
from secureagg.he import sharing as sharing_module
from secureagg.he.deal import Dealer
from secureagg.he.sharing import (
    Sharing,
    check_combination,
    evaluate_from,
    key_sum,
    lagrange_at,
    pack_elements,
    unpack_elements,
    verify_shares,
)
from secureagg.ring.params import PRIMES

CHALLENGE = bytes(range(32))
SHARINGS = st.sampled_from(
    [
        Sharing(16, 223, 3, 2),
        Sharing(5, 7, 5, 5),
        Sharing(64, 359, 1, 1),
        Sharing(9, 1009, 7, 4),
        Sharing(3, 131101, 30, 17),
        Sharing(16, PRIMES[0], 5, 4),
    ]
)


def shares_of(sharing: Sharing, dealer: Dealer, members: range | None = None) -> dict[int, np.ndarray]:
    """Return members' verified shares of the secrets."""
    check = dealer.check(CHALLENGE)
    return {m: verify_shares(sharing, m, CHALLENGE, check, dealer.shares(m)) for m in members or range(sharing.members)}


def centred_secrets(sharing: Sharing, seed: int) -> np.ndarray:
    half = sharing.modulus // 2
    secrets = np.random.default_rng(seed).integers(-half, half + 1, sharing.secrets)
    secrets[:2] = [half, -half]
    return secrets


@given(SHARINGS, st.integers(0, 2**32), st.data())
@settings(max_examples=100)
def test_any_t_members_reconstruct_the_sum_of_dealings(sharing: Sharing, seed: int, data: st.DataObject) -> None:
    secrets = [np.fix(centred_secrets(sharing, seed + i) / 3).astype(np.int64) for i in range(3)]
    dealings = [shares_of(sharing, Dealer(sharing, each)) for each in secrets]
    sums = {m: sum(shares[m] for shares in dealings) % sharing.modulus for m in range(sharing.members)}
    members = data.draw(st.permutations(range(sharing.members)))[: sharing.threshold]
    assert np.array_equal(key_sum(sharing, members, sums), sum(secrets))
    other = data.draw(st.integers(0, sharing.members - 1))
    assert np.array_equal(evaluate_from(sharing, members, sums, other + 1), sums[other])


def test_the_ends_of_the_centred_range_come_back() -> None:
    sharing = Sharing(4, 223, 3, 2)
    secrets = np.array([111, -111, 0, -1])
    assert key_sum(sharing, (2, 0), shares_of(sharing, Dealer(sharing, secrets))).tolist() == secrets.tolist()


def every_dealing(monkeypatch: pytest.MonkeyPatch, sharing: Sharing, secret: int) -> Iterator[Dealer]:
    """Yield the dealings of one secret under all outcomes of the dealer's randomness (the secret's place included)."""
    count = sharing.threshold * (1 + sharing.repetitions)
    for outcome in itertools.product(range(sharing.modulus), repeat=count):
        words = list(outcome)

        def rigged(length: int, words: list[int] = words) -> bytes:
            taken = [words.pop() for _ in range(length // 16)]
            return np.array([0] * len(taken) + taken, dtype=np.uint64).tobytes()

        monkeypatch.setattr(deal.os, "urandom", rigged)
        yield Dealer(sharing, np.array([secret]))


@pytest.mark.parametrize(("modulus", "members", "threshold"), [(5, 3, 2), (3, 2, 2), (3, 1, 1)])
def test_fewer_than_t_members_and_the_published_check_tell_nothing(
    monkeypatch: pytest.MonkeyPatch, modulus: int, members: int, threshold: int
) -> None:
    """Exhaustively: what t − 1 members and the aggregator see has the same distribution for every secret."""
    monkeypatch.setattr(sharing_module, "CHECK_BITS", 1)
    sharing = Sharing(1, modulus, members, threshold)
    assert sharing.repetitions == 1
    for coalition in itertools.combinations(range(members), threshold - 1):
        views = [
            Counter(
                (dealer.check(CHALLENGE), *(dealer.shares(member) for member in coalition))
                for dealer in every_dealing(monkeypatch, sharing, secret)
            )
            for secret in range(modulus)
        ]
        assert all(view == views[0] for view in views)
        # With one member more the secret is determined: the views of different secrets have nothing in common.
        larger = [
            {
                tuple(dealer.shares(member) for member in range(threshold))
                for dealer in every_dealing(monkeypatch, sharing, s)
            }
            for s in range(modulus)
        ]
        assert not set.intersection(*larger[:2])


@given(SHARINGS, st.integers(0, 2**32), st.data())
@settings(max_examples=100)
def test_a_wrong_share_is_found(sharing: Sharing, seed: int, data: st.DataObject) -> None:
    """One element of one member's shares or masks off: the check refuses it (but with probability 2^-104)."""
    dealer = Dealer(sharing, centred_secrets(sharing, seed))
    member = data.draw(st.integers(0, sharing.members - 1))
    count = sharing.secrets + sharing.repetitions
    elements = unpack_elements(sharing, dealer.shares(member), count)
    place = data.draw(st.integers(0, count - 1))
    elements[place] = (elements[place] + data.draw(st.integers(1, sharing.modulus - 1))) % sharing.modulus
    with pytest.raises(EncodingError, match="do not lie on the published check polynomials"):
        verify_shares(sharing, member, CHALLENGE, dealer.check(CHALLENGE), pack_elements(sharing, elements))


@given(SHARINGS, st.integers(0, 2**32), st.data())
@settings(max_examples=60)
def test_another_check_another_challenge_or_anothers_shares_are_refused(
    sharing: Sharing, seed: int, data: st.DataObject
) -> None:
    dealer = Dealer(sharing, centred_secrets(sharing, seed))
    member = data.draw(st.integers(0, sharing.members - 1))
    check, plain = dealer.check(CHALLENGE), dealer.shares(member)
    count = sharing.repetitions * sharing.threshold
    altered = unpack_elements(sharing, check, count)
    place = data.draw(st.integers(0, count - 1))
    altered[place] = (altered[place] + 1) % sharing.modulus
    wrong = [(CHALLENGE, pack_elements(sharing, altered), plain), (bytes(32), check, plain)]
    if sharing.threshold > 1:
        wrong.append((CHALLENGE, check, dealer.shares((member + 1) % sharing.members)))
    for challenge, published, shares in wrong:
        with pytest.raises(EncodingError, match="do not lie on the published check polynomials"):
            verify_shares(sharing, member, challenge, published, shares)


def test_a_cheat_that_guesses_passes_as_often_as_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    """One repetition over F_7: shares off by one pass for 1/7 of the challenges, 500 of 3500 within 5 deviations."""
    monkeypatch.setattr(sharing_module, "CHECK_BITS", 2)
    sharing = Sharing(4, 7, 3, 2)
    assert sharing.repetitions == 1
    dealer = Dealer(sharing, np.array([1, 2, 3, -1]))
    elements = unpack_elements(sharing, dealer.shares(0), 5)
    elements[:4] = (elements[:4] + np.array([1, 0, 2, 5])) % 7
    plain, passed = pack_elements(sharing, elements), 0
    for number in range(3500):
        challenge = number.to_bytes(32, "little")
        try:
            verify_shares(sharing, 0, challenge, dealer.check(challenge), plain)
            passed += 1
        except EncodingError:
            pass
    assert abs(passed - 500) < 5 * math.sqrt(3500 / 7 * 6 / 7)


def test_a_polynomial_of_degree_t_is_not_accepted_by_all() -> None:
    """Shares on a polynomial of degree t (one too high): whatever check the dealer publishes, t + 1 members differ."""
    sharing = Sharing(8, 223, 4, 2)
    higher = Sharing(8, 223, 4, 3)
    dealer = Dealer(higher, centred_secrets(higher, 1))
    full = unpack_elements(higher, dealer.check(CHALLENGE), 3 * higher.repetitions).reshape(3, -1)
    # The best a cheat can do: the line through what members 0 and 1 expect.
    expected = [sum(full[k] * (m + 1) ** k for k in range(3)) % 223 for m in range(2)]
    slope = (expected[1] - expected[0]) % 223
    check = pack_elements(sharing, np.concatenate([(expected[0] - slope) % 223, slope]))
    for member, accepted in ((0, True), (1, True), (2, False), (3, False)):
        if accepted:
            verify_shares(sharing, member, CHALLENGE, check, dealer.shares(member))
        else:
            with pytest.raises(EncodingError, match="do not lie"):
                verify_shares(sharing, member, CHALLENGE, check, dealer.shares(member))


@given(SHARINGS, st.data())
@settings(max_examples=100)
def test_elements_pack_and_unpack(sharing: Sharing, data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 20))
    elements = data.draw(st.lists(st.integers(0, sharing.modulus - 1), min_size=count, max_size=count))
    packed = pack_elements(sharing, np.array(elements, dtype=np.int64))
    width = (sharing.modulus - 1).bit_length()
    number = sum(element << (width * i) for i, element in enumerate(elements))
    assert packed == number.to_bytes(-(-width * count // 8), "little")
    assert unpack_elements(sharing, packed, count).tolist() == elements
    for wrong in (packed[:-1], packed + b"\0"):
        with pytest.raises(EncodingError, match=f"{len(wrong)} bytes of field elements, {len(packed)} expected"):
            unpack_elements(sharing, wrong, count)


def test_elements_have_one_encoding() -> None:
    sharing = Sharing(3, 223, 3, 2)
    assert unpack_elements(sharing, bytes([222, 0, 222]), 3).tolist() == [222, 0, 222]
    for place in range(3):
        for value in (223, 255):
            with pytest.raises(EncodingError, match="not in canonical form"):
                unpack_elements(sharing, bytes(value if i == place else 0 for i in range(3)), 3)
    odd = Sharing(3, 359, 3, 2)  # 27 of 32 bits used
    for bit in range(27, 32):
        with pytest.raises(EncodingError, match="not in canonical form"):
            unpack_elements(odd, (1 << bit).to_bytes(4, "little"), 3)


def test_sizes_are_those_of_the_packed_elements() -> None:
    for sharing in (Sharing(64, 223, 3, 2), Sharing(2048, 359, 7, 5), Sharing(16, 131101, 254, 254)):
        dealer = Dealer(sharing, np.zeros(sharing.secrets, dtype=np.int64))
        assert 2 ** -(sharing.repetitions * math.log2(sharing.modulus)) <= 2**-104
        assert len(dealer.shares(0)) == sharing.share_bytes
        assert len(dealer.check(CHALLENGE)) == sharing.check_bytes
        assert len(pack_elements(sharing, np.zeros(sharing.secrets, dtype=np.int64))) == sharing.answer_bytes


def test_the_combination_is_uniform_and_bound_to_the_challenge() -> None:
    sharing = Sharing(512, 7, 3, 2)
    combination = check_combination(sharing, CHALLENGE)
    assert combination.shape == (38, 512)
    counts = np.bincount(combination.ravel(), minlength=7)
    assert len(counts) == 7
    assert ((counts - combination.size / 7) ** 2).sum() / (combination.size / 7) < 35  # χ², 6 degrees, p < 10^-5
    assert np.array_equal(combination, check_combination(sharing, CHALLENGE))
    assert (combination != check_combination(sharing, bytes(32))).any()


def test_lagrange_is_interpolation() -> None:
    sharing = Sharing(1, 10007, 6, 4)
    for points in itertools.permutations((1, 3, 4, 6)):
        for at in range(8):
            value = sum(
                c * (5 + 2 * x + 7 * x**2 + x**3) for c, x in zip(lagrange_at(sharing, points, at), points, strict=True)
            )
            assert value % 10007 == 5 + 2 * at + 7 * at**2 + at**3


@pytest.mark.parametrize(("modulus", "members", "threshold"), [(223, 3, 0), (223, 3, 4), (3, 3, 2), (223, 0, 0)])
def test_impossible_sharings_are_refused(modulus: int, members: int, threshold: int) -> None:
    with pytest.raises(ParameterError, match=f"got {threshold}, {members}, {modulus}"):
        Sharing(4, modulus, members, threshold)
