"""Rounds as audits make them: bit for bit what a whole encrypted round opens, and each fault is the one it says."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

import secureagg as sa
from secureagg import client as client_module
from secureagg import committee as committee_module
from secureagg import mean as mean_module
from secureagg.dp.mechanisms import Mechanism
from secureagg.errors import ParameterError
from secureagg.grid import GridUpdate
from secureagg.mean import Mean
from secureagg.plan_audit import lonely_plan
from secureagg.plan_faults import Parties, PlanFault, Release
from secureagg.protocol import Participant, run_round
from secureagg.ring.xof import SecretStream
from tests.federation import federation

BUDGET = {"epsilon": 4.0, "delta": 1e-5, "rounds": 2}
NOISES: dict[str, Mechanism] = {
    "clients": sa.DistributedGaussian(**BUDGET, noise_by="clients"),
    "committee": sa.DistributedGaussian(**BUDGET, noise_by="committee"),
    "skellam": sa.Skellam(**BUDGET, noise_by="clients"),
    "aggregator": sa.CentralGaussian(**BUDGET),
}
SHARES = [name for name in NOISES if name != "aggregator"]


def stream(number: int = 0) -> SecretStream:
    return SecretStream(number.to_bytes(32, "little"))


def release(name: str, fault: PlanFault | None = None, number: int = 0, rotate: bool = False) -> Release:
    return Release(Parties(lonely_plan(NOISES[name], rotate=rotate), fault), number, stream())


def update(seed: int, norm: float) -> NDArray[np.float64]:
    vector = np.random.default_rng(seed).normal(size=1024)
    return vector * (norm / np.linalg.norm(vector))


class Prepared:
    """Grid values that are ready to be encrypted."""

    weight, clip, clamped = 1, 1.0, 0

    def __init__(self, values: NDArray[np.int64]) -> None:
        self.values, self.weight = values[:-1], int(values[-1])

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        return np.append(self.values, self.weight)[first:last]


@pytest.mark.parametrize("rotate", [False, True])
@pytest.mark.parametrize("name", NOISES)
def test_an_encrypted_round_of_the_same_values_opens_to_the_same_mean(
    monkeypatch: pytest.MonkeyPatch, name: str, rotate: bool
) -> None:
    made = release(name, rotate=rotate)
    updates = [update(1, 10.0), update(2, 0.5)]
    with federation(made.parties.plan) as parties:
        monkeypatch.setattr(Release, "sid", parties.session.sid)
        expected = made.mean(updates.__getitem__)
        clients = iter([made.client_values(i, each) for i, each in enumerate(updates)])
        zeros = np.zeros(1025, dtype=np.int64)

        def members() -> Iterator[NDArray[np.int64]]:
            yield from made.member_values()
            while True:
                yield zeros  # of the two who are assumed corrupt

        noises = members()
        monkeypatch.setattr(client_module, "put_on_grid", lambda *_: Prepared(next(clients)))
        monkeypatch.setattr(committee_module, "GridNoise", lambda *_: Prepared(next(noises)))
        monkeypatch.setattr(mean_module, "Mean", partial(Mean, noise=made._noise("aggregator")))
        present = [Participant(parties.clients[i], [each]) for i, each in enumerate(updates)]
        (mean,) = run_round(parties.session, present, parties.members).mean
    assert mean.tobytes() == expected.tobytes()


def test_a_client_contributes_what_put_on_grid_makes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The two ends of the same: a round with the library's own calls, whose grid values are looked at."""
    made: list[GridUpdate] = []

    def recording(*arguments: object) -> GridUpdate:
        made.append(original(*arguments))  # type: ignore[arg-type]
        return made[-1]

    original = client_module.put_on_grid
    monkeypatch.setattr(client_module, "put_on_grid", recording)
    plan = lonely_plan(NOISES["skellam"], rotate=True)  # conditional, so that values stay
    with federation(plan) as parties:
        present = [Participant(parties.clients[i], [update(i, 5.0)]) for i in range(2)]
        (mean,) = run_round(parties.session, present, parties.members).mean
        total = sum((grid.values for grid in made), np.zeros(1024, dtype=np.int64))
        decoded = Mean(plan, parties.session.sid, 2, 2)
        decoded.write(total, 0)
        assert mean.tobytes() == decoded.finished(decoded.tensors())[0].tobytes()


def noise_std(made: Release) -> float:
    """Return the standard deviation of what two absent clients' sum holds, in shares of the plan's own."""
    plan = made.parties.plan
    mean = made.mean(lambda i: np.zeros(1024))
    honest = plan.privacy_event().honest
    assert plan.noise is not None
    return float(mean.std()) * 2 * plan.quantiser.scale / (plan.noise.std * honest**0.5)


class TestFaults:
    """Deviations of 1024 draws are within 2.2 % at one standard error; 10 % is 4.5 of them."""

    @pytest.mark.parametrize("name", NOISES)
    def test_a_sound_sum_has_the_noise_of_the_quorum(self, name: str) -> None:
        assert noise_std(release(name)) == pytest.approx(1, rel=0.1)

    @pytest.mark.parametrize("name", NOISES)
    def test_half_noise(self, name: str) -> None:
        assert noise_std(release(name, PlanFault.HALF_NOISE)) == pytest.approx(0.5, rel=0.1)

    @pytest.mark.parametrize("name", SHARES)
    @pytest.mark.parametrize("fault", [PlanFault.MISSING_NOISE, PlanFault.PLANNED_PARTIES])
    def test_noise_of_one_party_of_two_or_sized_for_four(self, name: str, fault: PlanFault) -> None:
        assert noise_std(release(name, fault)) == pytest.approx(0.5**0.5, rel=0.1)

    def test_the_aggregator_has_no_share_to_miss(self) -> None:
        assert noise_std(release("aggregator", PlanFault.MISSING_NOISE)) == 0.0

    @pytest.mark.parametrize("name", NOISES)
    def test_the_same_seed_cancels_and_another_does_not(self, name: str) -> None:
        for fault, same in ((PlanFault.SAME_SEED, True), (None, False)):
            rounds = [release(name, fault, number).mean(lambda i: np.zeros(1024)) for number in (0, 1)]
            assert np.array_equal(*rounds) is same

    @pytest.mark.parametrize("name", NOISES)
    @pytest.mark.parametrize("fault", [PlanFault.NO_CLIP, PlanFault.CLIP_AFTER_NOISE, None])
    def test_what_is_clipped(self, name: str, fault: PlanFault | None) -> None:
        """Along its direction an update of ten clips is ten long, or one; the same noise is in both sums."""
        direction = update(1, 1.0)
        sent, zeros = (release(name, fault).mean(lambda i, n=n: n * direction * (i == 0)) for n in (10, 0))  # type: ignore[misc]
        length = 2 * float((sent - zeros) @ direction)
        assert length == pytest.approx(10 if fault else 1, rel=0.2, abs=0.2)

    @pytest.mark.parametrize("rotate", [False, True])
    def test_known_rounding_is_foreseen_to_the_bit(self, rotate: bool) -> None:
        made = release("clients", PlanFault.KNOWN_ROUNDING, rotate=rotate)
        first = update(1, 10.0)
        total = made.mean(lambda i: first * (i == 0)) - made.mean(lambda i: 0 * first)
        assert np.allclose(2 * total, made.foreseen(first), atol=1e-9)
        assert np.linalg.norm(made.foreseen(first)) > 1.3  # clips: half of it is rounding

    @pytest.mark.parametrize(
        ("name", "fault"), [("aggregator", PlanFault.PLANNED_PARTIES), ("skellam", PlanFault.KNOWN_ROUNDING)]
    )
    def test_refuses_what_cannot_be(self, name: str, fault: PlanFault) -> None:
        with pytest.raises(ParameterError, match=fault.value):
            release(name, fault)

    def test_refuses_a_plan_that_claims_nothing(self) -> None:
        plan = sa.RoundPlan(
            layout=sa.Layout(((8,),), ("float64",)),
            clients=2,
            quorum=2,
            l2_clip=1.0,
            value_bits=8,
            committee=sa.Committee(1),
        )
        with pytest.raises(ParameterError, match="exact sums"):
            Parties(plan, None)

    def test_shows_no_secret(self) -> None:
        assert "Stream" not in repr(release("clients"))
