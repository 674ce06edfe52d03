"""Six mistakes that other systems allow: the ε each would have cost, and what refuses it here.

The setting but where said: a thousand rounds, each client in one with probability 0.01, noise multiplier 1, so ε = 1.83
at δ = 10^-5 against who sees the models alone.
"""

from __future__ import annotations

import copy
import math
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fl_core as fl
import secureagg as sa
from secureagg.dp.accounting import Guarantee, epsilon, quick_epsilon
from secureagg.dp.client_sampling import Adversary, ClientSampling, Cohorts
from secureagg.dp.clipping import clip_factor
from secureagg.dp.dp_events import BatchSampling, CentralGaussian, DpSgd, seen_by, single
from secureagg.dp.ledger import Ledger
from secureagg.dp.noise import discrete_gaussian
from secureagg.dp.noisy_sums import DiscreteGaussianSum, honest_contributors
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted, ParameterError
from secureagg.grid import GridUpdate
from secureagg.ring.xof import SecretStream
from tests.federation import federation, toy_plan, toy_update

DELTA, CLIP, RATE, ROUNDS = 1e-5, 1.0, 0.01, 1000
EXPECTED, PRESENT = 100, 70
COHORTS = Cohorts(clients=10_000, size=EXPECTED, sampling=ClientSampling.POISSON)
TRUE = 1.83


def rounds_with(noise_std: float, relation: Relation = Relation.ZERO_OUT, clip: float = CLIP) -> CentralGaussian:
    """Rounds whose *sum* has noise of this deviation; each client's part in it is at most `clip`."""
    event = CentralGaussian(
        noise_std=noise_std / EXPECTED, l2_clip=clip, clients=EXPECTED, rounds=ROUNDS, relation=relation
    )
    amplified = seen_by(Adversary.MODELS_ALONE, event, COHORTS)
    assert isinstance(amplified, CentralGaussian)
    return amplified


def printed(value: float, digits: int = 2) -> float:
    return round(value, digits)


def test_what_is_claimed_when_nothing_is_wrong() -> None:
    assert printed(epsilon(rounds_with(1.0), DELTA)) == TRUE


class TestNoiseUncompensatedForDropouts:
    """A hundred clients each add a hundredth of the variance, and thirty never send it: √0.7 of the noise is there."""

    def test_costs(self) -> None:
        share = 1.0 / math.sqrt(EXPECTED)
        assert printed(epsilon(rounds_with(share * math.sqrt(PRESENT)), DELTA)) == 2.78

    def test_shares_are_sized_for_the_fewest_that_can_be_summed(self) -> None:
        share = 1.0 / math.sqrt(honest_contributors(quorum=PRESENT, assumed_corrupt=0))
        assert all(share * math.sqrt(present) >= 1.0 - 1e-12 for present in range(PRESENT, EXPECTED + 1))
        assert honest_contributors(quorum=PRESENT, assumed_corrupt=10) == PRESENT - 10
        with pytest.raises(ParameterError, match="nobody's noise is left"):
            honest_contributors(quorum=PRESENT, assumed_corrupt=PRESENT)

    def test_a_plan_sizes_and_counts_them_so(self) -> None:
        noise = sa.DistributedGaussian(epsilon=20.0, delta=DELTA, rounds=1, noise_by="clients")
        shares = {}
        for quorum in (2, 4):
            event = toy_plan(quorum=quorum, noise=noise, parameters="auto").privacy_event()
            assert event.honest == quorum  # of four clients, however many turn up
            shares[quorum] = event.noise_std_grid
        assert shares[2] == pytest.approx(shares[4] * math.sqrt(2), rel=0.01)

    def test_and_a_sum_is_counted_by_them(self, tmp_path: Path) -> None:
        """A ledger that was promised shares sized for 70 does not take a round of shares sized for 100."""
        enough = DiscreteGaussianSum(
            noise_std_grid=1000 / math.sqrt(70),
            honest=70,
            l2_bound_grid=100.0,
            dimension=10,
            rounds=1,
            relation=Relation.ZERO_OUT,
        )
        with Ledger(tmp_path / "ledger", (4.0, DELTA), Relation.ZERO_OUT, planned=[enough]) as ledger:
            with pytest.raises(BudgetExhausted):
                ledger.debit(replace(enough, noise_std_grid=1000 / math.sqrt(100)))
            ledger.debit(enough)


class TestNoiseScaledByClientsPlanned:
    """The mean over the 70 clients present gets noise z·C/100, as for the 100 planned: 0.7 of what it needs."""

    NOISE_ON_MEAN = CLIP / EXPECTED

    def test_costs(self) -> None:
        as_planned = rounds_with(1.0)
        truly = replace(as_planned, noise_std=self.NOISE_ON_MEAN, clients=PRESENT)
        assert printed(epsilon(truly, DELTA)) == 4.62

    def test_a_round_of_fewer_is_no_round_that_was_planned(self, tmp_path: Path) -> None:
        planned = CentralGaussian(
            noise_std=self.NOISE_ON_MEAN * 10, l2_clip=CLIP, clients=100, rounds=5, relation=Relation.ZERO_OUT
        )
        with Ledger(tmp_path / "ledger", (4.0, DELTA), Relation.ZERO_OUT, planned=[planned]) as ledger:
            with pytest.raises(BudgetExhausted, match="1 > 0 planned uses"):
                ledger.debit(replace(planned, clients=PRESENT, rounds=1))
            ledger.debit(single(planned))

    def test_amplified_means_are_over_the_expected_number_only(self) -> None:
        event = CentralGaussian(
            noise_std=0.01, l2_clip=CLIP, clients=PRESENT, rounds=ROUNDS, relation=Relation.ZERO_OUT
        )
        with pytest.raises(ParameterError, match="clients=70 ≠ 100, the cohorts' expected size"):
            seen_by(Adversary.MODELS_ALONE, event, COHORTS)


class TestClippingBeforeWeighting:
    """An update clipped to C and then counted twice is one of length 2C."""

    def test_costs(self) -> None:
        assert printed(epsilon(rounds_with(1.0, clip=2 * CLIP), DELTA), 1) == 13.4

    @pytest.mark.parametrize("weight", [1, 2, 3])
    def test_a_weighted_update_is_within_the_clip(self, weight: int) -> None:
        plan = toy_plan(max_weight=3, l2_clip=1.0, value_bound=None)
        update = toy_update(1, size=50.0)
        clip = clip_factor(plan.layout, update, plan.l2_clip)
        grid = GridUpdate(plan, plan.layout, update, clip, weight, np.random.default_rng(0))
        values = grid.between(0, plan.layout.size)[: plan.layout.size]
        limit = plan.quantiser.scale * plan.l2_clip * weight / 3 + math.sqrt(plan.layout.size)  # one step of rounding
        assert math.sqrt(float(values @ values)) <= limit

    def test_a_weight_beyond_the_public_maximum_is_refused(self) -> None:
        with federation(max_weight=3) as parties, pytest.raises(ParameterError, match="max_weight"):
            parties.contribution(0, weight=4)

    def test_a_plan_with_noise_has_no_weights(self) -> None:
        with pytest.raises(ParameterError, match="max_weight"):
            toy_plan(max_weight=3, noise=sa.DistributedGaussian(epsilon=20.0, delta=DELTA, rounds=1))

    def test_poisson_cohorts_are_not_weighted(self) -> None:
        with pytest.raises(fl.ParameterError, match="weighting must be 'uniform'"):
            fl.Federation(
                trainer=None,
                clients=[(np.zeros(1), np.zeros(1))] * 3,
                test=(np.zeros(1), np.zeros(1)),
                rounds=1,
                cohort_size=2,
                sampling=fl.ClientSampling.POISSON,
            )


def epsilon_of_mixtures(other: float, ours: float, sigma: float, rate: float, times: int) -> float:
    """ε at DELTA of telling (1 − q)·N(0, σ²) + q·N(ours, σ²) from the same with `other`, `times` times.

    By the distribution of the privacy loss on a grid of 10^-4, whose mass between two points is shared out so that the
    mean stays, and its FFT. It shares no code with any accountant, and is two inputs' own loss: a lower bound on what
    a mechanism costs that can have them.
    """
    step, size = 1e-4, 1 << 19
    x = np.linspace(-1 - 12 * sigma, 1 + 12 * sigma, 400_001)

    def law(mean: float) -> np.ndarray:
        drawn, not_drawn = (np.exp(-((x - at) ** 2) / (2 * sigma**2)) for at in (mean, 0.0))
        return rate * drawn + (1 - rate) * not_drawn

    p, q = law(ours), law(other)
    at = np.log(p / q) / step
    low = np.floor(at).astype(np.int64)
    mass = np.bincount(low % size, p * (1 - (at - low)), size) + np.bincount((low + 1) % size, p * (at - low), size)
    total = np.fft.irfft(np.fft.rfft(mass / mass.sum()) ** times, size)
    losses = step * np.where(np.arange(size) < size // 2, np.arange(size), np.arange(size) - size)
    lowest, highest = 0.0, 25.0
    while highest - lowest > 1e-5:
        middle = (lowest + highest) / 2
        above = losses > middle
        missed = float((total[above] * -np.expm1(middle - losses[above])).sum())
        lowest, highest = (middle, highest) if missed > DELTA else (lowest, middle)
    return highest


class TestReplaceReportedAsAddOrRemove:
    """Another client in one's place moves a sum by 2C, from −C to C: the ε of add-or-remove is not for that."""

    def test_costs(self) -> None:
        assert printed(epsilon_of_mixtures(0.0, 1.0, 1.0, RATE, ROUNDS)) == TRUE  # the oracle, where we know it
        truly = epsilon_of_mixtures(-1.0, 1.0, 1.0, RATE, ROUNDS)
        assert printed(truly) == 2.84
        assert printed(epsilon(replace(rounds_with(1.0), relation=Relation.ADD_OR_REMOVE), DELTA)) == TRUE
        assert epsilon(rounds_with(1.0, Relation.REPLACE), DELTA) >= truly - 1e-3  # dp-accounting 0.6: 2.84, 0.4.3: 4.2

    def test_relations_are_not_taken_for_each_other(self, tmp_path: Path) -> None:
        with pytest.raises(ParameterError, match="different neighbouring relations"):
            epsilon([rounds_with(1.0, Relation.REPLACE), rounds_with(1.0)], DELTA)
        against = Adversary.MODELS_ALONE
        ledger = Ledger(tmp_path / "ledger", (4.0, DELTA), Relation.ADD_OR_REMOVE, adversary=against)
        with ledger, pytest.raises(ParameterError, match="for replace, and this ledger is for add-or-remove"):
            ledger.debit(single(rounds_with(1.0, Relation.REPLACE)))
        assert "replace" in str(Guarantee(2.84, DELTA, Relation.REPLACE))
        with pytest.raises(TypeError, match="relation"):
            CentralGaussian(noise_std=1.0, l2_clip=1.0, clients=1, rounds=1)


class TestPoissonClaimedForShuffling:
    """MNIST's usual 15 epochs of 256 out of 60 000 at z = 1.1: begun epochs are plain uses of the mechanism."""

    TRAINING = DpSgd(
        noise_multiplier=1.1, expected_batch=256, examples=60_000, steps=15 * 234, relation=Relation.ZERO_OUT
    )

    def test_costs(self) -> None:
        assert printed(epsilon(self.TRAINING, DELTA)) == 1.13
        assert printed(epsilon(replace(self.TRAINING, sampling=BatchSampling.FIXED_SIZE, passes=15), DELTA), 1) == 20.6

    def test_nothing_is_claimed_for_cohorts_of_fixed_size(self) -> None:
        plain = CentralGaussian(
            noise_std=0.01, l2_clip=CLIP, clients=EXPECTED, rounds=ROUNDS, relation=Relation.ZERO_OUT
        )
        assert seen_by(Adversary.MODELS_ALONE, plain, replace(COHORTS, sampling=ClientSampling.FIXED_SIZE)) == plain
        with pytest.raises(ParameterError, match="no amplification is claimed for cohorts of fixed size"):
            replace(plain, sampling_rate=RATE, adversary=Adversary.MODELS_ALONE)

    def test_nor_against_who_sees_the_cohort(self) -> None:
        with pytest.raises(ParameterError, match="nothing is amplified against them"):
            replace(rounds_with(1.0), adversary=Adversary.PARTICIPANTS)


class TestNoiseSeedUsedTwice:
    """Two sums with the same noise: their difference has none, so no ε bounds what it tells."""

    SEED = b"a seed that somebody used twice."

    def test_costs(self) -> None:
        sums = np.array([[3, -1, 4], [3, -1, 5]])  # the second with one client more
        first, second = (each + discrete_gaussian(3, 50.0, SecretStream(self.SEED)) for each in sums)
        assert (second - first).tolist() == [0, 0, 1]
        once = CentralGaussian(noise_std=0.1, l2_clip=CLIP, clients=1, rounds=1, relation=Relation.ZERO_OUT)
        costs = [quick_epsilon(replace(once, noise_std=std), DELTA) for std in (0.1, 0.01, 0.001)]
        assert 50 < costs[0] < costs[1] / 10 < costs[2] / 100
        with pytest.raises(ParameterError, match="noise_std"):
            rounds_with(0.0)

    def test_a_stream_gives_no_word_twice(self) -> None:
        stream = SecretStream(self.SEED)
        assert not np.array_equal(discrete_gaussian(64, 50.0, stream), discrete_gaussian(64, 50.0, stream))
        assert not np.array_equal(discrete_gaussian(64, 50.0), discrete_gaussian(64, 50.0))
        for again in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="cannot be copied or pickled"):
                again(stream)

    def test_a_client_contributes_to_a_round_once(self) -> None:
        with federation() as parties:
            identity = sa.Identity(parties.clients[0].to_seed())
            sa.contribute(parties.session, identity, parties.update(0))
            with pytest.raises(ParameterError):
                sa.contribute(parties.session, identity, parties.update(0))
