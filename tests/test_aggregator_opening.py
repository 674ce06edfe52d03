"""Opening: members who lie, and answers that cannot be used. The sum is right or refused, and the honest not blamed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import pytest

import secureagg as sa
from secureagg import answers as answers_module
from secureagg.errors import FaultyMemberError, QuorumError, UnattributedFault
from secureagg.exchange import RevealAnswer
from secureagg.he import packing as packing_module
from secureagg.he.reconstruct import Decoder
from secureagg.he.sharing import pack_elements, unpack_elements
from tests.cheating import dealt, signed_answer
from tests.federation import Federation, answers_of, federation, same


def lie(everyone: Federation, answer: bytes, place: int = 0, step: int = 1) -> bytes:
    """Return a member's answer with one share sum changed, signed properly."""
    sharing = everyone.plan.sharing
    shares = unpack_elements(sharing, RevealAnswer.from_bytes(answer, everyone.session).sums, sharing.secrets)
    shares[place] = (shares[place] + step) % sharing.modulus
    return signed_answer(everyone, answer, sums=pack_elements(sharing, shares))


@pytest.fixture
def four() -> Iterator[Federation]:
    """Four members, any three of whom open the sum."""
    with federation(committee=sa.Committee(4)) as made:
        yield made


@pytest.mark.parametrize("liar", [0, 1, 3])
@pytest.mark.parametrize("place", [0, 63])
def test_a_member_that_lies_is_named_and_the_sum_is_right(four: Federation, liar: int, place: int) -> None:
    everyone = four
    aggregator = everyone.aggregator()
    answers = answers_of(everyone.members, everyone.session, aggregator.close())
    answers[liar] = lie(everyone, answers[liar], place)
    result = aggregator.open(answers)
    assert result.faults == {liar: "its share sum is not on the polynomial that opens the sum"}
    assert same(result.mean, everyone.expected([0, 1, 2, 3]))
    # With too few honest answers nothing is decoded, and nobody can be named.
    for away in set(range(4)) - {liar}:
        with pytest.raises(UnattributedFault, match="the residual exceeds the plan's noise bound"):
            aggregator.open([answer for member, answer in enumerate(answers) if member != away])


def test_a_corrupt_client_and_a_corrupt_member_have_nobody_blamed() -> None:
    """The client deals shares of another key than it encrypts under, and member 4 lies so that its answer and those
    of members 0, 1 and 2 open the sum. Honest member 3 looks as if it lied; with five members nobody is named."""
    with federation(committee=sa.Committee(5)) as everyone:
        assert (everyone.plan.committee.members_needed, everyone.plan.committee.colluding) == (4, 1)
        aggregator = everyone.aggregator([0, 1])
        aggregator.admit(dealt(everyone, 2, key_step=1))
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        p = everyone.plan.sharing.modulus
        step = -1 % p  # e(0) = −1, and e vanishes at the points 1, 2 and 3 of members 0, 1 and 2
        for point in (1, 2, 3):
            step = step * (point - 5) * pow(point, -1, p) % p
        answers[4] = lie(everyone, answers[4], 0, step)
        result = aggregator.open(answers)
        assert (dict(result.faults), result.disagreeing) == ({}, (3,))
        assert same(result.mean, everyone.expected([0, 1, 2]))


def test_a_liar_among_many_members_is_found_beyond_an_exhaustive_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """In lexicographic order the first subsets all hold member 0; drawn at random they do not."""
    monkeypatch.setattr(answers_module, "MAX_SUBSETS", 40)
    with federation(committee=sa.Committee(13, 9), parameters="INSECURE_N16_Q52") as everyone:
        aggregator = everyone.aggregator()
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        answers[0] = lie(everyone, answers[0])
        result = aggregator.open(answers)
        assert set(result.faults) == {0}
        assert same(result.mean, everyone.expected([0, 1, 2, 3]))


def test_a_lie_about_the_second_key_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """With several one-time keys the liar may leave the first chunk's alone."""
    monkeypatch.setattr("secureagg.bounds.SMOOTHING_BITS", 148)
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 16)
    layout = sa.Layout.of([np.zeros(200)])
    with federation(parameters="INSECURE_N16_Q52", layout=layout, committee=sa.Committee(4, 2 + 1)) as everyone:
        assert everyone.plan.packing.keys > 1
        for liar in range(4):
            aggregator = everyone.aggregator()
            everyone.members = [everyone.restarted(m) for m in range(4)]
            answers = answers_of(everyone.members, everyone.session, aggregator.close())
            answers[liar] = lie(everyone, answers[liar], 20)
            result = aggregator.open(answers)
            assert set(result.faults) == {liar}
            assert same(result.mean, everyone.expected([0, 1, 2, 3]))
            everyone.session = everyone.session_of(everyone.session.round_number + 1)


def test_answers_in_any_order_and_twice(four: Federation) -> None:
    everyone = four
    aggregator = everyone.aggregator()
    answers = answers_of(everyone.members, everyone.session, aggregator.close())
    for given in (
        answers[::-1],
        answers[1:],
        [answers[i] for i in (3, 0, 2)],
        answers * 2,
        answers[:1] * 3 + answers[1:3],
    ):
        result = aggregator.open(given)
        assert (result.faults, result.clients, result.total_weight) == ({}, (0, 1, 2, 3), 4)
        assert same(result.mean, everyone.expected([0, 1, 2, 3]))
    for given in ([], answers[:2], [answers[1]] * 5):
        with pytest.raises(QuorumError, match="of 3 needed answers can be used"):
            aggregator.open(given)


Spoil = Callable[[Federation, bytes], list[bytes]]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e, a: [a, lie(e, a)], "it signed two different share sums"),
        (lambda e, a: [signed_answer(e, a, sums=b"\xff" * 64)], "a field element is not in canonical form"),
    ],
    ids=["two different", "not canonical"],
)
def test_answers_that_cannot_be_used_name_their_member(four: Federation, spoil: Spoil, message: str) -> None:
    everyone = four
    aggregator = everyone.aggregator()
    answers = answers_of(everyone.members, everyone.session, aggregator.close())
    spoiled = spoil(everyone, answers[1])
    result = aggregator.open([answers[0], *spoiled, *answers[2:]])
    assert result.faults == {1: message}
    assert same(result.mean, everyone.expected([0, 1, 2, 3]))
    with pytest.raises(FaultyMemberError, match=f"committee member 1: {message}; 2 of 3 needed") as caught:
        aggregator.open([answers[0], *spoiled, answers[2]])
    assert caught.value.member_id == 1


def test_liars_who_make_a_polynomial_of_their_own_for_the_same_sum_have_nobody_blamed() -> None:
    """Members 0 and 1 of nine step off by δ(1) and δ(2), δ of degree t − 1 = 6 with zeros at 0 and at members 2 to 6:
    those seven open the sum, and so do the seven honest ones, to the same value."""
    with federation(committee=sa.Committee(9), parameters="INSECURE_N16_Q52") as everyone:
        assert (everyone.plan.committee.members_needed, everyone.plan.committee.colluding) == (7, 2)
        aggregator = everyone.aggregator()
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        for liar, x in ((0, 1), (1, 2)):
            answers[liar] = lie(everyone, answers[liar], 3, x * math.prod(x - point for point in range(3, 8)))
        result = aggregator.open(answers)
        assert same(result.mean, everyone.expected([0, 1, 2, 3]))
        assert not result.faults and set(result.disagreeing) in ({0, 1}, {7, 8})


def test_two_key_sums_that_both_open_the_sum_open_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """No such sums can be made for a test, so the residual is made to accept everything."""
    with federation(committee=sa.Committee(5)) as everyone:
        aggregator = everyone.aggregator()
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        answers[0] = lie(everyone, answers[0])
        monkeypatch.setattr(Decoder, "fits", lambda self, total: True)
        with pytest.raises(UnattributedFault, match="two different key sums open the sum; nothing was decoded"):
            aggregator.open(answers)


def test_a_fault_is_not_the_reason_where_answers_are_missing_anyway(four: Federation) -> None:
    """One of three needed can be used and one member is at fault: a third did not answer at all."""
    aggregator = four.aggregator()
    answers = answers_of(four.members, four.session, aggregator.close())
    with pytest.raises(QuorumError, match="1 of 3 needed answers can be used"):
        aggregator.open([answers[0], answers[1], lie(four, answers[1])])
