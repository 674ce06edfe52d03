"""Whole rounds: the right sum bit for bit, whoever is missing, and whoever cheats within what the plan assumes."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secureagg as sa
from secureagg.errors import FaultyMemberError, QuorumError, UnattributedFault
from secureagg.exchange import ShareCheck
from tests.cheating import dealt, signed_check
from tests.federation import TOYS, Federation, answers_of, federation, mean_of, quantised, same, toy_update


def participants(everyone: Federation, clients: list[int], weights: list[int] | None = None) -> list[sa.Participant]:
    chosen = [1] * len(clients) if weights is None else weights
    identities = [sa.Identity(everyone.clients[i].to_seed()) for i in clients]
    return [sa.Participant(who, everyone.update(i), w) for who, i, w in zip(identities, clients, chosen, strict=True)]


@given(
    st.sampled_from(TOYS),
    st.sampled_from(["optimistic", "robust"]),
    st.integers(2, 24),
    st.sampled_from([1, 2, 7, 1000]),
    st.lists(st.integers(0, 3), min_size=2, max_size=4, unique=True),
    st.lists(st.sampled_from(["float16", "float32", "float64"]), min_size=1, max_size=3),
    st.data(),
)
@settings(max_examples=120)
def test_the_result_is_the_integer_mean_of_the_quantised_updates(
    name: str, mode: Any, value_bits: int, max_weight: int, clients: list[int], dtypes: list[str], data: st.DataObject
) -> None:
    """Any ring, resolution, weights, dtypes, set of clients and order of arrival; equal bit for bit."""
    shapes = data.draw(
        st.lists(st.sampled_from([(), (1,), (3, 5), (0,), (70,)]), min_size=len(dtypes), max_size=len(dtypes))
    )
    layout = sa.Layout(((2,), *shapes), ("float32", *dtypes))
    weights = data.draw(st.lists(st.integers(1, max_weight), min_size=len(clients), max_size=len(clients)))
    bound = data.draw(st.sampled_from([0.15, 0.3, 1.0]))  # the smallest clamps some coordinates of ±0.2
    changes = {
        "value_bits": value_bits,
        "value_bound": bound,
        "layout": layout,
        "max_weight": max_weight,
        "parameters": name,
    }
    with federation(committee=sa.Committee(4, mode=mode), **changes) as everyone:
        generator = np.random.default_rng(1)
        result = sa.run_round(
            everyone.session, participants(everyone, clients, weights), everyone.members, rounding_rng=generator
        )
        generator = np.random.default_rng(1)
        grids = [
            quantised(everyone.plan, everyone.update(i), w, generator) for i, w in zip(clients, weights, strict=True)
        ]
    sums = [sum(column) for column in zip(*grids, strict=True)]
    assert same(result.mean, mean_of(everyone.plan, sums, sum(weights)))
    assert result.total_weight == sum(weights) and result.clients == tuple(sorted(clients))
    assert (result.refused, result.faults, result.tally) == ({}, {}, None)
    # And the mean is near the exact one: within a grid step of weight max_weight for each client.
    step = Fraction(bound) / max(1, 2 ** (value_bits - 1) - 1) * max_weight * len(clients) / sum(weights)
    place = int(np.prod(layout.shapes[0]))
    for i in range(place):
        exact = sum(
            w * min(max(Fraction(float(everyone.update(c)[0][i])), -Fraction(bound)), Fraction(bound))
            for c, w in zip(clients, weights, strict=True)
        )
        assert abs(Fraction(float(result.mean[0][i])) - exact / sum(weights)) <= step + Fraction(1, 10**6)


@pytest.mark.parametrize("name", [*TOYS, "N2048_Q52"])
@pytest.mark.parametrize(("clients", "value_bits"), [(2, 24), (3, 24), (4, 12), (4, 2)])
def test_everybody_at_the_end_of_the_grid(name: str, clients: int, value_bits: int) -> None:
    """The largest sum a plan allows, in both directions, at once in all fields: it decodes, whatever the errors are."""
    layout = sa.Layout.of([np.zeros(300)])
    for pattern in ([1.0], [-1.0], [1.0, -1.0]):
        update = [np.resize(np.array(pattern), 300)]
        with federation(
            clients=clients,
            value_bits=value_bits,
            layout=layout,
            l2_clip=20.0,
            parameters=name,
            committee=sa.Committee(1),
        ) as everyone:
            identities = [sa.Identity(c.to_seed()) for c in everyone.clients]
            result = sa.run_round(everyone.session, [sa.Participant(i, update) for i in identities], everyone.members)
        assert np.abs(result.mean[0] - update[0]).max() < 1e-12


def test_weights_are_hidden_coordinates() -> None:
    """Nothing outside the ciphertext depends on the weight: headers differ in what is random alone."""
    with federation(max_weight=9) as everyone:
        payloads = {w: everyone.contribution(1, weight=w) for w in (1, 9)}
        lengths = {len(payload) for payload in payloads.values()}
        result = sa.run_round(everyone.session, participants(everyone, [0, 1, 3], [9, 1, 4]), everyone.members)
    assert len(lengths) == 1
    assert result.total_weight == 14
    weighted = sum(w * everyone.update(i)[0].astype(np.float64) for i, w in ((0, 9), (1, 1), (3, 4))) / 14
    assert np.abs(result.mean[0] - weighted).max() < 9 * 3 / 14 / everyone.plan.quantiser.scale


@pytest.mark.parametrize("mode", ["optimistic", "robust"])
@pytest.mark.parametrize("absent", [(), (0,), (4,), (1, 3)])
def test_members_may_be_missing(mode: Any, absent: tuple[int, ...]) -> None:
    with federation(committee=sa.Committee(7, 5, mode=mode)) as everyone:
        present = [member for m, member in enumerate(everyone.members) if m not in absent]
        result = sa.run_round(
            everyone.session, participants(everyone, [0, 2, 3]), present, rounding_rng=np.random.default_rng(1)
        )
    assert (result.clients, result.faults) == ((0, 2, 3), {})


@pytest.mark.parametrize("mode", ["optimistic", "robust"])
def test_too_few_parties_open_nothing(mode: Any) -> None:
    with federation(committee=sa.Committee(7, 5, mode=mode), quorum=3) as everyone:
        with pytest.raises(QuorumError, match="2 of 5 needed"):
            sa.run_round(everyone.session, participants(everyone, [0, 1, 2]), everyone.members[:2])
        with pytest.raises(QuorumError, match="2 clients remain"):
            sa.run_round(everyone.session_of(2), participants(everyone, [0, 1]), everyone.members)


def test_clients_that_vanish_after_sending_are_in_the_sum() -> None:
    """Before sending: out. After sending: in, since a client has nothing more to do."""
    with federation(committee=sa.Committee(4)) as everyone:
        aggregator = sa.Aggregator(everyone.session)
        for client_id in (2, 0):
            aggregator.admit(everyone.contribution(client_id))
        everyone.clients.clear()
        request = aggregator.close()
        members = everyone.members[1:]
        result = aggregator.open(answers_of(members, everyone.session, request))
    with federation() as fresh:
        assert same(result.mean, fresh.expected([0, 2]))


def test_members_may_vanish_between_check_and_answer() -> None:
    with federation(committee=sa.Committee(7, 5, mode="robust")) as everyone:
        aggregator = everyone.aggregator([0, 1, 3])
        check = aggregator.share_check()
        request = aggregator.close([member.check(everyone.session, check) for member in everyone.members[:6]])
        result = aggregator.open(answers_of(everyone.members[2:], everyone.session, request))
        assert same(result.mean, everyone.expected([0, 1, 3]))


@pytest.mark.parametrize("bad", [(1,), (0, 4), (0, 1, 2), (0, 1, 2, 3, 4, 5, 6)])
def test_bad_shares_in_a_robust_round(bad: tuple[int, ...]) -> None:
    """Members complain; the client is left out unless t members had good shares, who then open the sum with it."""
    with federation(committee=sa.Committee(7, 5, mode="robust")) as everyone:
        aggregator = everyone.aggregator([0, 1, 2])
        aggregator.admit(dealt(everyone, 3, members=bad))
        check = aggregator.share_check()
        reports = [member.check(everyone.session, check) for member in everyone.members]
        assert [ShareCheck.from_bytes(r, everyone.session).complaints for r in reports] == [
            (3,) if m in bad else () for m in range(7)
        ]
        request = aggregator.close(reports)
        result = aggregator.open(answers_of(everyone.members, everyone.session, request))
        kept = [0, 1, 2, 3] if len(bad) <= 2 else [0, 1, 2]
        assert list(result.clients) == kept
        assert set(result.refused) == {0, 1, 2, 3} - set(kept)
        if result.refused:
            assert result.refused[3] == f"dealt bad shares: members {list(bad)} complain"
        assert same(result.mean, everyone.expected(kept))


@pytest.mark.parametrize("bad", [(1,), (0, 4)])
def test_bad_shares_for_a_minority_in_an_optimistic_round(bad: tuple[int, ...]) -> None:
    """Those members answer with their complaints; the others are enough, and the client's update is in the sum."""
    with federation(committee=sa.Committee(7, 5)) as everyone:
        aggregator = everyone.aggregator([0, 1, 2])
        aggregator.admit(dealt(everyone, 3, members=bad))
        result = aggregator.open(answers_of(everyone.members, everyone.session, aggregator.close()))
        assert (result.clients, result.faults) == ((0, 1, 2, 3), {})
        assert same(result.mean, everyone.expected([0, 1, 2, 3]))


def test_bad_shares_for_a_majority_stop_an_optimistic_round() -> None:
    """Nothing is opened; the error says who complains about whom."""
    with federation(committee=sa.Committee(7, 5)) as everyone:
        aggregator = everyone.aggregator([0, 1, 2])
        aggregator.admit(dealt(everyone, 3, members=(0, 1, 2)))
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        with pytest.raises(
            QuorumError, match=r"4 of 5 needed answers can be used; .*member 0 complains about clients \[3\]"
        ):
            aggregator.open(answers)


CHEATS: list[tuple[dict[str, Any], str]] = [
    ({"grid": [4 * 8188, *[0] * 17, 1]}, "the padding of the sum is not zero"),  # by the carry into the next field
    ({"grid": [*[0] * 12, *[9 * 8188] * 6, 1]}, "the residual exceeds|the padding of the sum"),
    ({"grid": [3 * 2047 + 900, *[0] * 17, 1]}, "a coordinate of the sum is beyond"),
    ({"grid": [*[0] * 18, 0]}, "the sum of the weights is outside"),
    ({"grid": [*[0] * 18, 2]}, "the sum of the weights is outside"),
    ({"grid": [*[0] * 18, -3]}, "the sum of the weights is outside"),
    ({"key_step": 1}, "the residual exceeds the plan's noise bound"),
]


@pytest.mark.parametrize("mode", ["optimistic", "robust"])
@pytest.mark.parametrize(
    ("cheat", "message"), CHEATS, ids=["field", "fields", "coordinate", "no weight", "weight", "negative", "key"]
)
def test_a_client_that_encrypts_something_else_stops_the_round(mode: Any, cheat: dict[str, Any], message: str) -> None:
    """Values beyond the grid, another weight, another key than it dealt: refused every time, and nobody named."""
    with federation(committee=sa.Committee(4, mode=mode)) as everyone:
        assert (everyone.plan.packing.field_limit, everyone.plan.value_limit) == (8188, 2047)
        aggregator = everyone.aggregator([0, 1])
        aggregator.admit(dealt(everyone, 2, **cheat))
        reports = None
        if mode == "robust":
            check = aggregator.share_check()
            reports = [member.check(everyone.session, check) for member in everyone.members]
        answers = answers_of(everyone.members, everyone.session, aggregator.close(reports))
        for given in (answers, answers[1:]):
            with pytest.raises(UnattributedFault, match=message):
                aggregator.open(given)


def robust_round(everyone: Federation) -> tuple[sa.Aggregator, list[bytes]]:
    aggregator = everyone.aggregator([0, 1, 2])
    check = aggregator.share_check()
    return aggregator, [member.check(everyone.session, check) for member in everyone.members]


@pytest.mark.parametrize("complaints", [(0,), (0, 1, 2), (1, 2)])
def test_a_member_that_complains_falsely_is_passed_over(complaints: tuple[int, ...]) -> None:
    with federation(committee=sa.Committee(4, mode="robust")) as everyone:
        aggregator, reports = robust_round(everyone)
        reports[1] = signed_check(everyone, reports[1], complaints=complaints)
        request = aggregator.close(reports)
        assert request.clients == (0, 1, 2)
        result = aggregator.open(answers_of([everyone.members[m] for m in (0, 2, 3)], everyone.session, request))
        assert (result.refused, same(result.mean, everyone.expected([0, 1, 2]))) == ({}, True)


def test_where_no_t_members_are_content_as_few_clients_as_possible_are_left_out() -> None:
    """Members 0 and 1 complain about 0, member 2 about 1 and 2: leaving out client 0 costs least."""
    with federation(committee=sa.Committee(4, 3, mode="robust")) as everyone:
        aggregator = everyone.aggregator([0, 1, 2, 3])
        check = aggregator.share_check()
        reports = [member.check(everyone.session, check) for member in everyone.members]
        for member, complaints in enumerate([(0,), (0,), (1, 2), ()]):
            reports[member] = signed_check(everyone, reports[member], complaints=complaints)
        request = aggregator.close(reports)
        assert request.clients == (1, 2, 3)
        result = aggregator.open(answers_of(everyone.members, everyone.session, request))
        assert set(result.refused) == {0}
        assert same(result.mean, everyone.expected([1, 2, 3]))


def test_share_checks_that_cannot_be_used_name_their_member() -> None:
    """Two different ones, one about another set, one that is none: left aside as long as t others are there."""
    with federation(committee=sa.Committee(4, mode="robust")) as everyone:
        _, reports = robust_round(everyone)
        other = signed_check(everyone, reports[1], request=bytes(32))
        different = signed_check(everyone, reports[1], complaints=(2,))
        for spoiled, fault in (
            ([other], None),
            ([reports[1], different], "it signed two different share checks"),
            ([b"SAch"], None),
        ):
            aggregator = sa.Aggregator(everyone.session)
            for client_id in range(3):
                aggregator.admit(everyone.contribution(client_id))
            fresh = [member.check(everyone.session, aggregator.share_check()) for member in everyone.members]
            digest = ShareCheck.from_bytes(fresh[1], everyone.session).request
            bad = [signed_check(everyone, s, request=digest) if fault and "two" in fault else s for s in spoiled]
            with pytest.raises(
                FaultyMemberError if fault else QuorumError, match="2 of 3 needed share checks can be used"
            ):
                aggregator.close([fresh[0], fresh[3], *bad])
            request = aggregator.close([fresh[0], *bad, fresh[2], fresh[3]])
            assert request.clients == (0, 1, 2)


@pytest.mark.parametrize(
    ("asked", "opens"),
    [([(0, 1), (0, 1, 2), (0, 1, 2), (0, 1, 2)], True), ([(0, 1), (0, 2), (1, 2), (1, 2)], False)],
)
def test_an_aggregator_that_asks_members_about_different_sets(asked: list[tuple[int, ...]], opens: bool) -> None:
    """Each member answers one set, so at most one set finds t answers; the others can never be opened."""
    with federation(committee=sa.Committee(4)) as everyone:
        payloads = [everyone.contribution(i) for i in range(3)]

        def closed(clients: tuple[int, ...]) -> sa.Aggregator:
            aggregator = sa.Aggregator(everyone.session)
            for client_id in clients:
                aggregator.admit(payloads[client_id])
            return aggregator

        answers = []
        for member, clients in zip(everyone.members, asked, strict=True):
            answers.append(member.respond(everyone.session, closed(clients).close()))
        for clients in set(asked):
            aggregator = closed(clients)
            request = aggregator.close()
            if opens and clients == (0, 1, 2):
                result = aggregator.open(answers)
                assert same(result.mean, everyone.expected([0, 1, 2]))
                assert result.faults == {}  # asked for another set, perhaps; not its fault
                continue
            with pytest.raises(QuorumError, match=r"member . is about another set of clients"):
                aggregator.open(answers)
            for member, first in zip(everyone.members, asked, strict=True):
                if first != clients:
                    with pytest.raises(sa.ParameterError, match="already answered under this roster, for another set"):
                        member.respond(everyone.session, request)


def test_a_sum_over_other_clients_than_the_request_is_not_opened() -> None:
    """An aggregator whose sum leaves a client of the request out, or holds one more, gets no result at all."""
    with federation() as everyone:
        aggregator = everyone.aggregator([0, 1, 2])
        answers = answers_of(everyone.members, everyone.session, aggregator.close())
        for action in (aggregator._sum.discount, aggregator._sum.count):
            spare = sa.Aggregator(everyone.session, spool=everyone.directory / action.__name__)
            spare.admit(everyone.contribution(1))
            action(1, spare._spool.view(1))
            with pytest.raises(UnattributedFault, match=r"[nN]othing was decoded"):
                aggregator.open(answers)


def test_a_participant_shows_no_update() -> None:
    shown = repr(sa.Participant(sa.Identity(bytes(32)), toy_update(0), 7))
    assert "update" not in shown and "7" not in shown.split("public=")[0]
