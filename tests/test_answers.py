"""Members' reports and answers: which members are chosen, and how many make an honest polynomial.

That the sum comes out right or not at all, whoever lies, is in test_aggregator_opening.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import secureagg as sa
from secureagg import answers as answers_module
from secureagg.answers import _fewest, _subsets, contributions_left_out, enough_to_blame
from secureagg.errors import FaultyMemberError, QuorumError
from secureagg.exchange import ShareCheck
from secureagg.roster import Label
from tests.federation import Federation, federation

COMPLAINTS = st.dictionaries(st.integers(0, 6), st.frozensets(st.integers(0, 5), max_size=3), min_size=3, max_size=6)


def refused(complaints: Mapping[int, frozenset[int]], members: tuple[int, ...]) -> int:
    return len(frozenset().union(*(complaints[member] for member in members)))


@given(COMPLAINTS)
def test_the_fewest_clients_are_left_out(complaints: dict[int, frozenset[int]]) -> None:
    chosen = _fewest(complaints, 3, 100)
    assert len(set(chosen)) == 3
    best = min(refused(complaints, members) for members in itertools.combinations(complaints, 3))
    assert refused(complaints, chosen) == best


def test_beyond_an_exhaustive_search_the_next_member_adds_the_fewest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers_module, "MAX_SUBSETS", 1)
    complaints = {0: frozenset({1, 2}), 1: frozenset({3}), 2: frozenset(), 3: frozenset({3})}
    assert _fewest(complaints, 3, 100) == (2, 1, 3)


def test_all_subsets_are_tried_or_as_many_at_random(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(_subsets([2, 4, 5], 2)) == [(2, 4), (2, 5), (4, 5)]
    monkeypatch.setattr(answers_module, "MAX_SUBSETS", 50)
    drawn = list(_subsets(range(20), 10))
    assert len(drawn) == 50 < math.comb(20, 10)
    assert all(list(subset) == sorted(set(subset)) and len(subset) == 10 for subset in drawn)
    assert {member for subset in drawn for member in subset} == set(range(20))  # but with probability 20 / 2^50


def test_blame_takes_all_corrupt_members_and_a_threshold_of_honest_ones() -> None:
    committee = sa.Committee(9)
    assert enough_to_blame(committee) == committee.members_needed + committee.colluding == 9


@pytest.fixture
def robust() -> Iterator[Federation]:
    with federation(committee=sa.Committee(4, mode="robust")) as made:
        yield made


def complaining(everyone: Federation, report: bytes, *clients: int, **changes: bytes) -> bytes:
    """Return a member's share check with these complaints instead of its own, signed properly."""
    sid = everyone.session.sid
    altered = replace(ShareCheck.from_bytes(report, everyone.session), complaints=clients, **changes)
    signature = everyone.member_identities[altered.member_id].sign(Label.SHARE_CHECK, altered.message(sid))
    return replace(altered, signature=signature).to_bytes(sid)


def test_reports_that_cannot_be_used_name_their_member_or_nobody(robust: Federation) -> None:
    request = robust.aggregator([0, 1, 3]).share_check()
    reports = [member.check(robust.session, request) for member in robust.members]
    assert contributions_left_out(robust.session, request, reports) == ({}, {})
    twice = [*reports, complaining(robust, reports[1], 3)]
    stranger = [reports[0], complaining(robust, reports[1], 2), *reports[2:]]
    for given_reports, reason in (
        (twice, "it signed two different share checks"),
        (stranger, "it complains about a client that was not to be checked"),
    ):
        assert contributions_left_out(robust.session, request, given_reports) == ({}, {1: reason})
        with pytest.raises(FaultyMemberError, match=reason) as caught:
            contributions_left_out(robust.session, request, given_reports[1:])
        assert caught.value.member_id == 1
    replayed = complaining(robust, reports[1], request=bytes(32))
    for other, note in ((replayed, "about another set of clients"), (reports[1][:-1], "truncated")):
        assert contributions_left_out(robust.session, request, [reports[0], other, *reports[2:]]) == ({}, {})
        with pytest.raises(QuorumError, match=note):
            contributions_left_out(robust.session, request, [other, *reports[2:]])
