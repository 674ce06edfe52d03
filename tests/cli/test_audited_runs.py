"""What a terminal shows while an audit runs: how far it is, from where the work is done."""

from __future__ import annotations

import numpy as np
import pytest

from secureagg.cli.audited_runs import Attack, Watched, stream_of
from secureagg.dp.audit import Claim
from secureagg.dp.audit.sums import NoisySums
from secureagg.dp.mechanisms import DistributedGaussian
from secureagg.dp.relation import Relation
from secureagg.events import Event
from secureagg.plan_audit import CrowdedSums, LonelySums, crowded_plan, lonely_plan

CLAIM = Claim(8.0, 1e-5, Relation.ZERO_OUT)
NOISE = DistributedGaussian(epsilon=8.0, delta=1e-5, rounds=2)
CANARIES = 30


@pytest.mark.parametrize(
    ("mechanism", "total"),
    [
        (CrowdedSums(crowded_plan(NOISE, CANARIES), stream=stream_of(1)), 2 * CANARIES),
        (LonelySums(lonely_plan(NOISE), stream=stream_of(1)), CANARIES),
        (NoisySums(CLAIM, stream=stream_of(1)), 8),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_mechanism_tells_how_far_it_is(mechanism: Watched, total: int) -> None:
    told: list[Event] = []
    mechanism.observe = told.append
    mechanism(np.arange(CANARIES) % 2 == 0)
    done = [event.done for event in told]
    assert done == sorted(set(done)) and done[-1] == total
    assert {event.total for event in told} == {total} and len(done) >= total


@pytest.mark.parametrize("alone", [True, False])
def test_training_tells_of_every_step(alone: bool) -> None:
    training = pytest.importorskip("secureagg.dp.audit.training")
    steps = training.LonelySteps(CLAIM) if alone else training.PrivateTraining(CLAIM, rate=1.0, steps=3)
    told: list[Event] = []
    steps.observe = told.append
    steps(np.arange(20) % 2 == 0)
    assert told[-1] == (Event("audit", 20, 20) if alone else Event("audit", 3, 3))


def test_coins_are_no_part_of_what_is_shown() -> None:
    assert "coins" not in repr(Attack(NoisySums(CLAIM), CLAIM, False, stream_of(1)))
