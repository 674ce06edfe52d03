"""Whole rounds with noise: the sum holds what was rounded and what was drawn, each once, and nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.dp.noise import discrete_gaussian
from secureagg.dp.rotation import Rotation
from secureagg.errors import ParameterError, QuorumError
from secureagg.grid import GridNoise
from tests.federation import Federation, mean_of, same
from tests.noise import KINDS, Kind, admitted, contribution, given, noisy_federation, opened, recorded

MODES: list[tuple[Kind, Any]] = [
    (sa.DistributedGaussian, "clients"),
    (sa.DistributedGaussian, "committee"),
    (sa.Skellam, "clients"),
    (sa.Skellam, "committee"),
    (sa.CentralGaussian, "aggregator"),
]
ADDERS = {"clients": 3, "committee": 4, "aggregator": 1}  # of those who take part below


def sums(everyone: Federation, result: sa.Result) -> np.ndarray:
    """Return the integers a mean was made of, from its definition."""
    plan = everyone.plan
    flat = plan.layout.flatten(result.mean)
    if plan.rotate:
        flat = Rotation(flat.size, everyone.session.sid).apply(flat)
    return flat * plan.quantiser.scale * len(result.clients)


@pytest.mark.parametrize("rotate", [False, True], ids=["plain", "rotated"])
@pytest.mark.parametrize("proofs", [False, True], ids=["unproven", "proven"])
@pytest.mark.parametrize(("kind", "noise_by"), MODES, ids=[f"{kind.name}-{by}" for kind, by in MODES])
def test_the_sum_holds_every_update_and_every_noise_once(kind: Kind, noise_by: Any, proofs: bool, rotate: bool) -> None:
    """Client 3 and member 4 are away. Integers come back exactly; rotated ones to the mean's 24 bits."""
    with noisy_federation(given(kind, noise_by=noise_by), proofs=proofs, rotate=rotate) as everyone, recorded() as kept:
        result = opened(everyone, admitted(everyone, [0, 1, 2], range(4)), range(4))
        assert (len(kept.rounded), len(kept.drawn)) == (3, ADDERS[noise_by])
        assert all(each.size == 18 for each in (*kept.rounded, *kept.drawn))
        if not rotate:
            assert same(result.mean, mean_of(everyone.plan, kept.total.tolist(), 3))
        np.testing.assert_allclose(sums(everyone, result), kept.total, rtol=0, atol=1e-3)
        assert any((each != 0).any() for each in kept.drawn)
        assert tuple(result.clients) == (0, 1, 2) and result.total_weight == 3
        assert result.noise_members == ((0, 1, 2, 3) if noise_by == "committee" else ())
        assert not result.faults and not result.refused and not result.disagreeing


def spread(everyone: Federation, clients: int, members: int) -> float:
    """Return the standard deviation of a round's sum of zero updates, in grid steps."""
    zeros = [np.zeros(shape, dtype) for shape, dtype in zip(everyone.plan.layout.shapes, ["float64"], strict=True)]
    aggregator = sa.Aggregator(everyone.session)
    for member in everyone.members[:members] if everyone.plan.noise_members else ():
        aggregator.admit(member.add_noise(everyone.session))
    for client_id in range(clients):
        aggregator.admit(contribution(everyone, client_id, update=zeros))
    return float(sums(everyone, opened(everyone, aggregator, range(members))).std())


@pytest.mark.parametrize("factor", [1.0, 2 / 3, 1.5])
@pytest.mark.parametrize(("kind", "noise_by"), MODES, ids=[f"{kind.name}-{by}" for kind, by in MODES])
def test_the_sums_noise_is_that_of_the_parties_who_add_it(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, noise_by: Any, factor: float
) -> None:
    """σ·√parties to within 10 %, of 4000 coordinates: nine standard errors of 1/√8000. Two thirds of the noise, or half
    as much again, is twenty and more away, and refused.
    """
    if factor != 1:
        monkeypatch.setattr(kind, "draw", lambda self, size, stream=None: discrete_gaussian(size, factor * self.std))
        # Clients would draw so much noise anew for ever, as they keep to the bound of what they should draw.
        monkeypatch.setattr(sa.RoundPlan, "conditional", property(lambda self: False))
    layout = sa.Layout.of([np.zeros(4000)])
    with noisy_federation(given(kind, noise_by=noise_by), layout=layout) as everyone:
        found = spread(everyone, 3, 4) / (everyone.plan.noise.std * ADDERS[noise_by] ** 0.5)
    assert (abs(found - 1) < 0.1) == (factor == 1)
    assert found == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_noise_is_drawn_anew_for_every_contribution_and_round(kind: Kind) -> None:
    with noisy_federation(given(kind)) as everyone, recorded() as kept:
        first = opened(everyone, admitted(everyone))
        everyone.session = everyone.session_of(2)
        second = opened(everyone, admitted(everyone))
        assert (
            len({each.tobytes() for each in kept.drawn})
            == len(kept.drawn)
            == 2 * (4 if kind is not sa.CentralGaussian else 1)
        )
        assert not same(first.mean, second.mean)


def test_run_round_asks_members_for_their_noise_and_only_those_that_gave_it() -> None:
    with noisy_federation(proofs=True) as everyone:
        participants = [
            sa.Participant(sa.Identity(c.to_seed()), everyone.update(i)) for i, c in enumerate(everyone.clients)
        ]
        result = sa.run_round(everyone.session, participants, everyone.members[1:])
        assert result.noise_members == (1, 2, 3, 4) and len(result.clients) == 4


# Members that are away.


@pytest.mark.parametrize("mode", ["optimistic", "robust"])
def test_as_many_members_as_must_answer_must_add_noise(mode: Any) -> None:
    committee = sa.Committee(size=5, threshold=4, assumed_corrupt=1, mode=mode)
    with noisy_federation(committee=committee) as everyone:
        few = admitted(everyone, members=[0, 2, 3])
        for call in (few.share_check, few.close) if mode == "optimistic" else (few.share_check,):
            with pytest.raises(QuorumError, match="the noise of 3 members is admitted, and 4 must answer"):
                call()
        few.admit(everyone.members[4].add_noise(everyone.session))  # nothing is lost: another may still come
        assert opened(everyone, few, [0, 2, 3, 4]).noise_members == (0, 2, 3, 4)


@pytest.mark.parametrize("proofs", [False, True])
def test_a_member_that_adds_noise_and_goes_is_missed_by_nobody(proofs: bool) -> None:
    with noisy_federation(proofs=proofs) as everyone, recorded() as kept:
        aggregator = admitted(everyone)
        result = opened(everyone, aggregator, [0, 1, 3, 4])
        assert result.noise_members == (0, 1, 2, 3, 4) == aggregator.asked
        assert same(result.mean, mean_of(everyone.plan, kept.total.tolist(), 4))


def test_clients_noise_makes_no_members_noise() -> None:
    with noisy_federation(given(noise_by="clients")) as everyone:
        with pytest.raises(ParameterError, match="asks its committee for no noise"):
            everyone.members[0].add_noise(everyone.session)
        aggregator = admitted(everyone)
        assert aggregator.asked == (0, 1, 2, 3, 4) and aggregator.noise_members == ()


def test_a_stranger_adds_no_noise() -> None:
    with noisy_federation() as everyone, pytest.raises(ParameterError, match="not a committee member on the roster"):
        sa.CommitteeMember(everyone.clients[0], journal=everyone.directory / "strange").add_noise(everyone.session)


# Nothing that is secret is shown.


def test_rounding_that_somebody_could_repeat_is_refused() -> None:
    for noise in (given(), given(sa.CentralGaussian), given(noise_by="clients")):
        with noisy_federation(noise) as everyone:
            with pytest.raises(ParameterError, match="rounding_rng with noise"):
                everyone.contribution(0)
            contribution(everyone, 0)  # and the refusal has not used up the round


def test_no_repr_shows_noise() -> None:
    with noisy_federation() as everyone, recorded() as kept:
        aggregator = admitted(everyone)
        result = opened(everyone, aggregator)
        shown = repr(result) + repr(everyone.session) + repr(aggregator)
        assert all(str(each.tolist())[1:20] not in shown for each in (*kept.drawn, *kept.rounded))
        assert repr(GridNoise(everyone.plan)) == "GridNoise(secret)"


def test_a_member_draws_until_its_noise_is_within_what_it_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Too long without a coordinate beyond its limit, then with one and short enough, then fine."""
    with noisy_federation(proofs=True) as everyone:
        statement = everyone.plan.statement_of(4)
        assert statement is not None
        limit, long, beyond = statement.value_limit, np.zeros(18, np.int64), np.zeros(18, np.int64)
        long[:2], beyond[5] = limit, -limit - 1
        assert 2 * limit**2 > statement.norm_bound >= (limit + 1) ** 2
        draws = [long, beyond, np.arange(18)]
        monkeypatch.setattr(sa.DistributedGaussian, "draw", lambda self, size, stream=None: draws.pop(0))
        assert GridNoise(everyone.plan).values.tolist() == list(range(18)) and not draws


@pytest.mark.parametrize("proofs", [False, True])
def test_stored_noise_is_admitted_beside_stored_updates(tmp_path: Path, proofs: bool) -> None:
    """Files in any order, verified by workers: contributions of two lengths, and one member's noise twice."""
    with noisy_federation(proofs=proofs) as everyone, recorded() as kept:
        paths = [tmp_path / str(i) for i in range(8)]
        for member_id in range(4):
            paths[2 * member_id].write_bytes(everyone.members[member_id].add_noise(everyone.session))
            paths[2 * member_id + 1].write_bytes(contribution(everyone, member_id))
        aggregator = sa.Aggregator(everyone.session)
        with ThreadPoolExecutor(1) as executor:
            verdicts = aggregator.admit_many([*paths, paths[0]], executor=executor)
        assert [verdict.client_id for verdict in verdicts] == [4, 0, 5, 1, 6, 2, 7, 3, 4]
        assert [verdict.reason is None for verdict in verdicts] == [True] * 8 + [False]
        result = opened(everyone, aggregator, range(4))
        assert same(result.mean, mean_of(everyone.plan, kept.total.tolist(), 4))
