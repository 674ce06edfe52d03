"""Amplification by client sampling: claimed for Poisson, against who sees the models alone, and nowhere else."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from secureagg.dp.accounting import Guarantee, epsilon
from secureagg.dp.adaptive_clipping import AdaptiveClip, joint_event
from secureagg.dp.binomial import binomial_tail
from secureagg.dp.client_sampling import Adversary, ClientSampling, Cohorts
from secureagg.dp.dp_events import (
    CentralGaussian,
    DpSgd,
    PrivacyEvent,
    QuantileCount,
    event_from_fields,
    event_to_fields,
    seen_by,
)
from secureagg.dp.ledger import Ledger
from secureagg.dp.noisy_sums import DiscreteGaussianSum
from secureagg.dp.relation import Relation
from secureagg.errors import EncodingError, ParameterError
from secureagg.ring.xof import SecretStream

ZERO_OUT = Relation.ZERO_OUT
POISSON, FIXED = ClientSampling.POISSON, ClientSampling.FIXED_SIZE
MODELS, PARTICIPANTS = Adversary.MODELS_ALONE, Adversary.PARTICIPANTS
COHORTS = Cohorts(clients=1000, size=50, sampling=POISSON, quorum=10)
ROUNDS = CentralGaussian(noise_std=0.02, l2_clip=1.0, clients=50, rounds=200, relation=ZERO_OUT)
COUNT = QuantileCount(noise_std=2.0, rounds=200, relation=ZERO_OUT)
SUM = DiscreteGaussianSum(
    noise_std_grid=40.0, honest=20, l2_bound_grid=100.0, dimension=10, rounds=3, relation=ZERO_OUT
)
SGD = DpSgd(noise_multiplier=1.0, expected_batch=100, examples=10_000, steps=10, relation=ZERO_OUT)


class TestClaims:
    def test_poisson_amplifies_against_who_sees_the_models_alone(self) -> None:
        amplified = seen_by(MODELS, ROUNDS, COHORTS)
        assert amplified == replace(
            ROUNDS,
            sampling_rate=0.05,
            sampling=POISSON,
            adversary=MODELS,
            shortfall_probability=COHORTS.shortfall_probability,
        )
        assert epsilon(amplified, 1e-5) < epsilon(ROUNDS, 1e-5) / 5
        assert isinstance(amplified, CentralGaussian) and amplified.uses() == (1.0, 0.05, 200)

    def test_a_round_that_may_fall_short_costs_delta(self) -> None:
        scarce = replace(COHORTS, quorum=45)
        assert scarce.shortfall_probability > 0.1
        assert seen_by(MODELS, ROUNDS, scarce).slack == 200 * scarce.shortfall_probability  # type: ignore[union-attr]
        assert epsilon(seen_by(MODELS, ROUNDS, scarce), 1e-5) == math.inf
        assert 0 < COHORTS.shortfall_probability < 1e-11
        certain = replace(seen_by(MODELS, ROUNDS, COHORTS), shortfall_probability=0.0)
        assert epsilon(certain, 1e-5) <= epsilon(seen_by(MODELS, ROUNDS, COHORTS), 1e-5) < epsilon(certain, 0.99e-5)

    def test_count_and_joint_release_are_amplified_alike(self) -> None:
        state = AdaptiveClip(clip=0.5, noise_multiplier=1.0, count_noise_std=2.5)
        joint = seen_by(MODELS, joint_event(state, 50, 200, ZERO_OUT), COHORTS)
        assert joint.uses() == (pytest.approx(1.0), 0.05, 200)  # type: ignore[union-attr]
        assert seen_by(MODELS, COUNT, COHORTS).uses() == (4.0, 0.05, 200)  # type: ignore[union-attr]

    @pytest.mark.parametrize("event", [ROUNDS, COUNT, SUM, SGD])
    def test_participants_see_who_was_drawn(self, event: PrivacyEvent) -> None:
        assert seen_by(PARTICIPANTS, event, COHORTS) == event

    @pytest.mark.parametrize("event", [ROUNDS, COUNT, SUM, SGD])
    def test_nothing_is_claimed_for_cohorts_of_fixed_size(self, event: PrivacyEvent) -> None:
        assert seen_by(MODELS, event, replace(COHORTS, sampling=FIXED)) == event

    @pytest.mark.parametrize("event", [SUM, SGD])
    def test_nor_for_what_has_no_curve_of_its_own_for_it(self, event: PrivacyEvent) -> None:
        assert seen_by(MODELS, event, COHORTS) == event

    def test_nor_where_everybody_is_drawn(self) -> None:
        everybody = Cohorts(clients=50, size=50, sampling=POISSON)
        assert seen_by(MODELS, ROUNDS, everybody) == ROUNDS

    def test_the_guarantee_says_against_whom(self) -> None:
        assert str(Guarantee(1.0, 1e-5, ZERO_OUT)) == "ε = 1 at δ = 1e-05 (zero-out)"
        assert str(Guarantee(1.0, 1e-5, ZERO_OUT, MODELS)).endswith("(zero-out, against who sees the models alone)")


class TestLedger:
    def test_keeps_claims_against_the_models_alone_apart(self, tmp_path: Path) -> None:
        amplified = replace(seen_by(MODELS, ROUNDS, COHORTS), rounds=1)
        with Ledger(tmp_path / "participants", (8.0, 1e-5), ZERO_OUT) as ledger:
            with pytest.raises(ParameterError, match="against models-alone only, in a ledger against participants"):
                ledger.debit(amplified)
            with pytest.raises(ParameterError, match="against models-alone only"):
                ledger.affords(amplified)
            assert len(ledger) == 0
        with pytest.raises(ParameterError, match="against models-alone only"):
            Ledger(tmp_path / "planned", (8.0, 1e-5), ZERO_OUT, planned=[amplified])
        with Ledger(tmp_path / "models", (8.0, 1e-5), ZERO_OUT, adversary=MODELS) as ledger:
            ledger.debit(amplified)
            ledger.debit(replace(ROUNDS, rounds=1, noise_std=1.0))  # what nobody can tell, they cannot either
            assert ledger.spent().adversary is ledger.remaining().adversary is MODELS
        with pytest.raises(ParameterError, match=r"other terms \(adversary\)"):
            Ledger(tmp_path / "models", (8.0, 1e-5), ZERO_OUT)
        with Ledger(tmp_path / "models", (8.0, 1e-5), ZERO_OUT, adversary=MODELS) as ledger:
            assert ledger.events[0] == amplified


class TestDraw:
    def test_poisson_holds_each_client_independently_at_the_rate(self) -> None:
        cohorts = Cohorts(clients=40, size=10, sampling=POISSON)
        stream = SecretStream(b"client sampling, one fixed seed."[:32])
        held = np.zeros((4000, 40), dtype=bool)
        for row in held:
            row[list(cohorts.draw(stream))] = True
        counts = held.sum(axis=0)
        for rate, accepted in ((0.25, True), (0.22, False), (0.28, False)):
            statistic = ((counts - 4000 * rate) ** 2 / (4000 * rate * (1 - rate))).sum()
            assert bool(stats.chi2.sf(statistic, 40) > 1e-3) is accepted
        assert np.abs(np.corrcoef(held.T.astype(float))[np.triu_indices(40, 1)]).max() < 5 / np.sqrt(4000)
        assert 1e-3 < stats.chi2.cdf(3999 * held.sum(axis=1).var(ddof=1) / (40 * 0.25 * 0.75), 3999) < 1 - 1e-3

    def test_fixed_size(self) -> None:
        cohorts = Cohorts(clients=10, size=4, sampling=FIXED)
        stream = SecretStream(b"client sampling, one fixed seed."[:32])
        drawn = [cohorts.draw(stream) for _ in range(500)]
        assert all(len(set(each)) == 4 and each == tuple(sorted(each)) for each in drawn)
        counts = np.bincount([client for each in drawn for client in each], minlength=10)
        assert np.abs(counts - 200).max() < 4 * math.sqrt(500 * 0.4 * 0.6)

    def test_by_default_from_the_operating_system(self) -> None:
        assert COHORTS.draw() != COHORTS.draw()

    def test_everybody(self) -> None:
        assert Cohorts(clients=5, size=5, sampling=POISSON).draw() == (0, 1, 2, 3, 4)

    @pytest.mark.parametrize("dropout_rate", [0.0, 0.3])
    def test_shortfall_is_a_binomial_tail(self, dropout_rate: float) -> None:
        cohorts = replace(COHORTS, dropout_rate=dropout_rate)
        expected = stats.binom.cdf(9, 1000, 0.05 * (1 - dropout_rate))
        assert cohorts.shortfall_probability == pytest.approx(expected, rel=1e-9)
        assert Cohorts(clients=5, size=5, sampling=POISSON, quorum=5).shortfall_probability == 0.0


def test_binomial_tail() -> None:
    for n, rate, above in ((40, 0.25, 10), (10, 0.5, 9), (1000, 0.001, 5)):
        assert binomial_tail(n, rate, above) == pytest.approx(stats.binom.sf(above, n, rate), rel=1e-9)
    assert (binomial_tail(10, 0.5, 10), binomial_tail(10, 0.0, 3), binomial_tail(10, 1.0, 9)) == (0.0, 0.0, 1.0)


AMPLIFIED = seen_by(MODELS, ROUNDS, COHORTS)
REFUSED: list[tuple[Callable[[], object], str]] = [
    (lambda: replace(ROUNDS, sampling_rate=0.05), "no amplification is claimed for cohorts of fixed size"),
    (lambda: replace(AMPLIFIED, sampling=FIXED), "no amplification is claimed for cohorts of fixed size"),
    (lambda: replace(AMPLIFIED, adversary=PARTICIPANTS), "nothing is amplified against them"),
    (lambda: replace(AMPLIFIED, sampling="poisson"), "sampling must be a ClientSampling"),  # type: ignore[arg-type]
    (lambda: replace(AMPLIFIED, adversary="models-alone"), "adversary must be"),  # type: ignore[arg-type]
    (lambda: replace(AMPLIFIED, shortfall_probability=1.5), "shortfall_probability"),
    (lambda: replace(ROUNDS, shortfall_probability=0.1), "shortfall_probability"),
    (lambda: seen_by(MODELS, replace(ROUNDS, clients=49), COHORTS), "clients=49 ≠ 50, the cohorts' expected size"),
    (lambda: seen_by("models-alone", ROUNDS, COHORTS), "adversary must be"),  # type: ignore[arg-type]
    (lambda: Guarantee(1.0, 1e-5, ZERO_OUT, "all"), "adversary must be"),  # type: ignore[arg-type]
    (lambda: replace(COHORTS, clients=0), "clients"),
    (lambda: replace(COHORTS, size=1001), "size"),
    (lambda: replace(COHORTS, size=math.nan), "size"),
    (lambda: replace(COHORTS, size=50.5, sampling=FIXED), "size=50.5 must be whole"),
    (lambda: replace(COHORTS, quorum=51), "quorum=51 > size"),
    (lambda: replace(COHORTS, dropout_rate=0.9), "quorum=10 > size"),
    (lambda: replace(COHORTS, dropout_rate=-0.1), "dropout_rate"),
    (lambda: replace(COHORTS, sampling="poisson"), "sampling must be a ClientSampling"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("ask", "reason"), REFUSED)
def test_refuses(ask: Callable[[], object], reason: str) -> None:
    with pytest.raises(ParameterError, match=reason):
        ask()


@pytest.mark.parametrize("event", [AMPLIFIED, seen_by(MODELS, COUNT, COHORTS), ROUNDS])
def test_fields_say_what_was_claimed_and_against_whom(event: PrivacyEvent) -> None:
    given = event_to_fields(event)
    assert event_from_fields(given) == event
    for changed in (
        {"sampling": "shuffled"},
        {"adversary": "nobody"},
        {"sampling_rate": 0.01, "sampling": "fixed-size"},
    ):
        with pytest.raises(EncodingError):
            event_from_fields(given | changed)
