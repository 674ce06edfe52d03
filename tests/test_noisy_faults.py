"""Who cheats where the committee adds noise: every lie is signed and honest otherwise, and is refused with its name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.answers import _fewest
from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    ParameterError,
    QuorumError,
    UnattributedFault,
)
from secureagg.exchange import CHECK, REVEAL, Request
from tests.cheating import dealing, signed_check
from tests.federation import Federation, answers_of, federation, frames_of
from tests.noise import admitted, closed, contribution, given, noisy_federation, opened
from tests.proving import forged
from tests.zk.cheating import PRODUCT, SUM
from tests.zk.lying import Claim

LIAR = 2  # the member
ID = 4 + LIAR  # of its contribution
ROBUST = sa.Committee(size=5, threshold=4, assumed_corrupt=1, mode="robust")


@pytest.fixture
def everyone() -> Iterator[Federation]:
    with noisy_federation() as made:
        yield made


@pytest.fixture
def robust() -> Iterator[Federation]:
    with noisy_federation(committee=ROBUST) as made:
        yield made


@pytest.fixture(scope="module")
def proven() -> Iterator[Federation]:
    """Nobody answers in this one, so that it serves many tests."""
    with noisy_federation(proofs=True) as made:
        yield made


def dealt_noise(everyone: Federation, member_id: int = LIAR, weight: int = 0, **changes: Any) -> bytes:
    """Return a member's noise of zeros, signed by it, honest but for the changes."""
    parts, _ = dealing(everyone, everyone.plan.clients + member_id, grid=[*[0] * 18, weight], **changes)
    return parts.signed(everyone.session, everyone.member_identities[member_id])


# A member answers only for a sum that holds its own noise.


def asking(everyone: Federation, aggregator: sa.Aggregator, without: int, kind: int = REVEAL) -> Request:
    """Return a request about all that is admitted but one member's noise, as an aggregator that cheats makes it."""
    asked = [contributor for contributor in (*range(4), *range(4, 9)) if contributor != 4 + without]
    return Request(everyone.session, kind, asked, aggregator._spool.view)


@pytest.mark.parametrize("mode", ["optimistic", "robust", "proven"])
def test_no_member_answers_for_a_sum_without_its_noise(mode: str) -> None:
    changes: dict[str, Any] = {"optimistic": {}, "robust": {"committee": ROBUST}, "proven": {"proofs": True}}[mode]
    with noisy_federation(**changes) as everyone:
        aggregator = admitted(everyone)
        for member in (everyone.members[LIAR], everyone.restarted(LIAR)):
            with pytest.raises(QuorumError, match="this member's own noise is not in the sum"):
                member.respond(everyone.session, asking(everyone, aggregator, LIAR))
        others = asking(everyone, aggregator, LIAR)
        assert len(answers_of(everyone.members[:LIAR], everyone.session, others)) == 2  # theirs is in it
        # It has answered nothing yet, so it still answers for a sum that holds its noise; and then for no other.
        whole = Request(everyone.session, REVEAL, range(9), aggregator._spool.view)
        answer = everyone.members[LIAR].respond(everyone.session, whole)
        assert everyone.restarted(LIAR).respond(everyone.session, whole) == answer
        for member in (everyone.members[LIAR], everyone.restarted(LIAR)):
            with pytest.raises(ParameterError, match="already answered under this roster, for another set"):
                member.respond(everyone.session, others)


def test_another_draw_of_a_members_noise_is_another_set(everyone: Federation) -> None:
    """What add_noise() returned twice can be in two sums, and only one of them is answered for."""
    first, second = (admitted(everyone) for _ in range(2))
    answers_of(everyone.members, everyone.session, closed(everyone, first))
    request = closed(everyone, second)
    with pytest.raises(ParameterError, match="for another set"):
        everyone.members[0].respond(everyone.session, request)


def test_noise_counts_for_no_client(everyone: Federation) -> None:
    """Two clients and five members' noise are seven contributions, and the quorum is three clients."""
    aggregator = admitted(everyone, clients=[0, 1])
    with pytest.raises(QuorumError, match="2 clients remain"):
        aggregator.close()
    request = Request(everyone.session, REVEAL, [0, 1, *range(4, 9)], aggregator._spool.view)
    with pytest.raises(QuorumError, match="2 clients requested, the quorum is 3"):
        everyone.members[0].respond(everyone.session, request)


def test_a_check_reveals_nothing_and_needs_no_own_noise(robust: Federation) -> None:
    aggregator = admitted(robust)
    everyone = asking(robust, aggregator, LIAR, CHECK)
    assert len(robust.members[LIAR].check(robust.session, everyone)) < 150


# Who is who.


def test_noise_signed_by_another_is_refused(everyone: Federation) -> None:
    """A client that poses as a member, a member as a client, and one member as another."""
    aggregator = admitted(everyone, clients=[0, 1], members=[0, 1])
    parts, _ = dealing(everyone, ID, grid=[0] * 19)
    for identity in (everyone.clients[2], everyone.member_identities[0]):
        with pytest.raises(FaultyMemberError, match="signature") as caught:
            aggregator.admit(parts.signed(everyone.session, identity))
        assert caught.value.member_id == LIAR
    parts, _ = dealing(everyone, 3, grid=[*[0] * 18, 1])
    with pytest.raises(FaultyClientError, match="signature") as refused:
        aggregator.admit(parts.signed(everyone.session, everyone.member_identities[LIAR]))
    assert refused.value.client_id == 3
    assert aggregator.clients == (0, 1) and aggregator.noise_members == (0, 1)


def test_an_id_beyond_the_members_is_nobodys(everyone: Federation) -> None:
    parts, _ = dealing(everyone, 9, grid=[0] * 19)
    with pytest.raises(EncodingError, match="client 9 is not on the roster of 4, whose committee adds 5 more"):
        sa.Aggregator(everyone.session).admit(parts.signed(everyone.session, everyone.member_identities[0]))
    with federation(noise=given(noise_by="clients"), l2_clip=1.0, value_bits=7) as clients_only:
        parts, _ = dealing(clients_only, 4, grid=[0] * 19)
        with pytest.raises(EncodingError, match=r"client 4 is not on the roster of 4$"):
            sa.Aggregator(clients_only.session).admit(
                parts.signed(clients_only.session, clients_only.member_identities[0])
            )


def test_a_members_noise_is_admitted_once(everyone: Federation) -> None:
    aggregator = admitted(everyone)
    before = frames_of(aggregator)
    with pytest.raises(FaultyMemberError, match="of this member is already admitted") as caught:
        aggregator.admit(everyone.members[LIAR].add_noise(everyone.session))
    assert caught.value.member_id == LIAR
    assert frames_of(aggregator) == before


def test_noise_of_another_round_is_refused(everyone: Federation) -> None:
    noise = everyone.members[LIAR].add_noise(everyone.session_of(2))
    with pytest.raises(EncodingError, match="made for another session"):
        sa.Aggregator(everyone.session).admit(noise)


def test_a_contribution_of_the_others_length_is_refused(proven: Federation) -> None:
    """A member's has another length than a client's; each is held to its own."""
    aggregator, plan = admitted(proven, clients=[0], members=[0]), proven.plan
    assert plan.contribution_bytes(0) != plan.contribution_bytes(4)
    for payload, other in (
        (contribution(proven, 1), plan.contribution_bytes(4)),
        (proven.members[LIAR].add_noise(proven.session), plan.contribution_bytes(0)),
    ):
        resized = payload[:other] + bytes(max(0, other - len(payload)))
        with pytest.raises(EncodingError, match=rf"{other} bytes, {len(payload)} expected"):
            aggregator.admit(resized)
        for wrong in (payload[:-1], payload + b"\0"):
            with pytest.raises(EncodingError, match="expected"):
                aggregator.admit(wrong)
    assert aggregator.clients == (0,) and aggregator.noise_members == (0,)


# Without proofs.


def test_noise_with_a_weight_spoils_the_sum_and_opens_nothing(everyone: Federation) -> None:
    aggregator = admitted(everyone, members=[0, 1, 3, 4])
    aggregator.admit(dealt_noise(everyone, weight=1))
    with pytest.raises(UnattributedFault, match=r"sum of the weights is outside \[4, 4\]"):
        opened(everyone, aggregator)


def test_noise_beyond_what_honest_noise_can_be_opens_nothing(everyone: Federation) -> None:
    aggregator = admitted(everyone, members=[0, 1, 3, 4])
    most = 1 << (everyone.plan.packing.field_bits - 1)
    assert most - everyone.plan.packing.field_limit > 10 * 60  # five standard deviations of the other members' noise
    parts, _ = dealing(everyone, ID, grid=[most, *[0] * 18])
    aggregator.admit(parts.signed(everyone.session, everyone.member_identities[LIAR]))
    with pytest.raises(UnattributedFault, match=r"[Nn]othing was decoded"):
        opened(everyone, aggregator)


# Bad shares.


def test_badly_dealt_noise_is_left_out_and_its_member_blamed(robust: Federation) -> None:
    """Two members complain, more than may be corrupt; the liar itself answers nothing, since its noise is not in it."""
    aggregator = admitted(robust, members=[0, 1, 3, 4])
    aggregator.admit(dealt_noise(robust, members=[0, 3]))
    request = closed(robust, aggregator)
    assert tuple(request.clients) == (0, 1, 2, 3, 4, 5, 7, 8) and aggregator.asked == (0, 1, 3, 4)
    with pytest.raises(QuorumError, match="own noise is not in the sum"):
        robust.members[LIAR].respond(robust.session, request)
    result = aggregator.open(answers_of([robust.members[m] for m in (0, 1, 3, 4)], robust.session, request))
    assert result.faults == {LIAR: "its noise: dealt bad shares: members [0, 3] complain"}
    assert not result.refused and result.noise_members == (0, 1, 3, 4) and len(result.clients) == 4


class BadDealer(sa.CommitteeMember):
    """A member who deals bad shares of its noise to members 0 and 3."""

    everyone: Federation

    def add_noise(self, session: sa.Session) -> bytes:
        return dealt_noise(self.everyone, members=[0, 3])


def test_run_round_does_without_a_member_whose_noise_is_left_out(robust: Federation) -> None:
    cheat = BadDealer(robust.member_identities[LIAR], journal=robust.directory / f"journal-{LIAR}")
    cheat.everyone = robust
    members = [*robust.members[:LIAR], cheat, *robust.members[LIAR + 1 :]]
    clients = [sa.Participant(sa.Identity(c.to_seed()), robust.update(i)) for i, c in enumerate(robust.clients)]
    result = sa.run_round(robust.session, clients, members)
    assert set(result.faults) == {LIAR} and result.noise_members == (0, 1, 3, 4)


def test_a_member_that_complains_about_others_noise_is_done_without(robust: Federation) -> None:
    aggregator = admitted(robust)
    check = aggregator.share_check()
    reports = [member.check(robust.session, check) for member in robust.members]
    reports[LIAR] = signed_check(robust, reports[LIAR], complaints=(4, 5, 7, 8))
    request = aggregator.close(reports)
    assert tuple(request.clients) == tuple(range(9))  # nobody's noise is left out for one member's word
    assert aggregator.open(answers_of(robust.members, robust.session, request)).faults == {}


def test_members_that_refuse_each_others_noise_end_the_round(robust: Federation) -> None:
    aggregator = admitted(robust)
    check = aggregator.share_check()
    reports = [member.check(robust.session, check) for member in robust.members]
    for liar, victim in ((2, 4), (3, 5)):
        reports[liar] = signed_check(robust, reports[liar], complaints=(victim,))
    with pytest.raises(QuorumError, match="no 4 members accept each other's noise"):
        aggregator.close(reports)


def test_members_whose_noise_is_not_there_are_not_asked_to_choose(robust: Federation) -> None:
    """Four members' noise is in; the fifth reports too, and its complaints count for nothing."""
    aggregator = admitted(robust, members=[0, 1, 3, 4])
    check = aggregator.share_check()
    reports = [member.check(robust.session, check) for member in robust.members]
    reports[LIAR] = signed_check(robust, reports[LIAR], complaints=(0, 1))
    assert len(aggregator.close(reports).clients) == 8
    few = admitted(robust, members=[0, 1, 3, 4])
    check = few.share_check()
    reports = [robust.members[m].check(robust.session, check) for m in (0, 1, 2, 3)]
    with pytest.raises(QuorumError, match="3 of 4 needed share checks of members whose noise is in the sum"):
        few.close(reports)


def conflicts(edges: dict[int, set[int]], members: int) -> dict[int, frozenset[int]]:
    """Return complaints about members' noise, where ids of contributions begin at 100."""
    return {m: frozenset(100 + other for other in edges.get(m, ())) for m in range(members)}


@pytest.mark.parametrize(
    "edges",
    [
        {m: {0} for m in range(1, 20)},  # 0 dealt badly to all, and complains about nobody
        {0: {*range(1, 20)}},
        {0: {0}},
        # Those who complain are honest; one of them does of all five others, each of whom three complain of.
        {10: {0, 1, 2, 3, 4}, 11: {0, 4}, 12: {0}, 13: {1}, 14: {1}, 15: {2}, 16: {2}, 17: {3}, 18: {3}, 19: {4}},
    ],
    ids=["dealt badly", "complains of all", "complains of itself", "an honest one is in most disputes"],
)
def test_corrupt_members_of_a_large_committee_cannot_stop_it(edges: dict[int, set[int]]) -> None:
    """20 members are too many to try all sets of 15; five may be corrupt, and the other fifteen agree."""
    chosen = _fewest(conflicts(edges, 20), 15, 100)
    assert len(set(chosen)) == 15
    assert not {100 + m for m in chosen} & {c for m in chosen for c in conflicts(edges, 20)[m]}


def test_a_large_committee_in_hopeless_dispute_is_told_so() -> None:
    edges = {m: {m + 10} for m in range(6)}  # six pairs, one of each of which must go, and five may
    with pytest.raises(QuorumError, match="no 15 members accept each other's noise"):
        _fewest(conflicts(edges, 20), 15, 100)


# With proofs.


def refuse(everyone: Federation, payload: bytes, why: str) -> None:
    """Assert that an aggregator refuses this, blames the member, and goes on as if nothing had been."""
    aggregator = admitted(everyone, clients=[0], members=[0])
    before = frames_of(aggregator)
    with pytest.raises(FaultyMemberError) as caught:
        aggregator.admit(payload)
    assert caught.value.member_id == LIAR and why in caught.value.reason
    assert aggregator.noise_members == (0,)
    assert frames_of(aggregator) == before


def noise_of(everyone: Federation, **changes: Any) -> bytes:
    """Return a member's proven noise, honest but for the changes."""
    honest = np.random.default_rng(7).integers(-90, 91, 18).tolist()
    parts = forged(everyone, ID, **{"grid": honest, "weight": 0} | changes)
    return parts.signed(everyone.session, everyone.member_identities[LIAR])


def longest(everyone: Federation, more: int) -> list[int]:
    """Return noise whose squared norm is the bound and `more`, no coordinate beyond its limit."""
    statement = everyone.plan.statement_of(ID)
    left, values = statement.norm_bound + more, []
    while left:
        values.append(min(int(left**0.5), statement.value_limit))
        left -= values[-1] ** 2
    assert len(values) <= 18
    return values + [0] * (18 - len(values))


def test_the_longest_noise_is_let_in(proven: Federation) -> None:
    """The cheats below are honest but for one thing: without it, they are in the sum."""
    limit = proven.plan.statement_of(ID).value_limit
    for changes in ({}, {"grid": longest(proven, 0)}, {"grid": [limit, *[0] * 17]}, {"grid": [*[0] * 17, -limit]}):
        aggregator = admitted(proven, clients=[0], members=[0])
        assert aggregator.admit(noise_of(proven, **changes)) == ID
        assert aggregator.noise_members == (0, LIAR)


@pytest.mark.parametrize(("repair", "why"), [("digits", PRODUCT), ("bits", SUM)])
def test_noise_longer_than_its_bound_by_one_is_refused(proven: Federation, repair: Any, why: str) -> None:
    refuse(proven, noise_of(proven, grid=longest(proven, 1), repair=repair), why)


@pytest.mark.parametrize("sign", [1, -1])
def test_noise_with_a_coordinate_beyond_its_limit_is_refused(proven: Federation, sign: int) -> None:
    """Its norm is within its bound, so the range argument alone stands in the way."""
    statement = proven.plan.statement_of(ID)
    grid = [*[0] * 17, sign * (statement.value_limit + 1)]
    assert grid[-1] ** 2 <= statement.norm_bound
    refuse(proven, noise_of(proven, grid=grid), SUM)


@pytest.mark.parametrize("weight", [1, -1])
def test_noise_with_a_weight_is_refused(proven: Federation, weight: int) -> None:
    refuse(proven, noise_of(proven, weight=weight), SUM)


def hidden(claim: Claim) -> Claim:
    return claim.telling(dealt={claim.statement.dealt - 1: 0}, encrypted=False)


def test_noise_with_a_weight_that_it_does_not_tell_is_refused(proven: Federation) -> None:
    refuse(proven, noise_of(proven, weight=1, claim=hidden), SUM)


def test_a_client_is_held_to_the_clip_and_a_member_to_no_weight(proven: Federation) -> None:
    """What one may send, the other may not: an update as long as noise, and noise as heavy as an update."""
    plan, client = proven.plan, 3
    assert plan.statement_of(ID).norm_bound > 4 * plan.statement.norm_bound
    payload = forged(proven, client, grid=longest(proven, 0)).signed(proven.session, proven.clients[client])
    with pytest.raises(FaultyClientError, match=PRODUCT) as caught:
        sa.Aggregator(proven.session).admit(payload)
    assert caught.value.client_id == client
    weightless = forged(proven, client, grid=[0] * 18, weight=0).signed(proven.session, proven.clients[client])
    with pytest.raises(FaultyClientError, match=SUM):
        sa.Aggregator(proven.session).admit(weightless)


def test_a_corrupt_member_moves_a_sum_by_what_its_proof_allows() -> None:
    """Its largest noise, in full, is decoded beside that of the others, and stays within what the plan allows for."""
    with noisy_federation(proofs=True) as everyone:
        limit, plan = everyone.plan.statement_of(ID).value_limit, everyone.plan
        aggregator = admitted(everyone, members=[0, 1, 3, 4])
        aggregator.admit(noise_of(everyone, grid=[limit, *[0] * 17]))
        result = opened(everyone, aggregator)
        first = float(plan.layout.flatten(result.mean)[0]) * plan.quantiser.scale * 4
        tail = plan.noise.sum_bound(4, 18) if plan.noise else 0
        assert limit - 4 * plan.value_limit - tail <= first <= plan.coordinate_limit(4)
        assert not result.faults and LIAR in result.noise_members
