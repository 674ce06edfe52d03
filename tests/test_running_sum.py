"""The running sum: counted whole or not at all, taken out again without a trace, and when it is enough."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest

import secureagg as sa
from secureagg.payload import ContributionView
from secureagg.ring import residues
from secureagg.running_sum import RunningSum
from tests.federation import toy_plan


class Frames:
    """What the sum reads of a contribution: its frames, uniform from a seed; one of them broken, if asked."""

    def __init__(self, plan: sa.RoundPlan, seed: int, broken: int | None = None) -> None:
        self._plan, self._broken, rng = plan, broken, np.random.default_rng(seed)
        primes = plan.packing.ring.primes
        self._values = [
            np.stack([rng.integers(0, p, (f.chunks, f.coefficients), dtype=np.uint64) for p in primes], axis=1)
            for f in plan.packing.frames
        ]

    def frame(self, index: int) -> bytes:
        packed = bytearray(self._plan.packing.frames[index].size)
        residues.pack(packed, self._values[index], self._plan.packing.ring.primes)
        return bytes(packed[:-1] if index == self._broken else packed)


def view(*arguments: Any) -> ContributionView:
    return cast(ContributionView, Frames(*arguments))


@pytest.fixture
def plan() -> sa.RoundPlan:
    made = toy_plan(layout=sa.Layout(((300_000,),), ("float32",)))
    assert len(made.packing.frames) > 2
    return made


def held(running: RunningSum, plan: sa.RoundPlan) -> tuple[list[bytes], tuple[int, ...]]:
    return [running.total.frame(index) for index in range(len(plan.packing.frames))], tuple(running.contributors)


def test_what_is_discounted_leaves_no_trace(plan: sa.RoundPlan) -> None:
    running = RunningSum(plan)
    running.count(1, view(plan, 1))
    before = held(running, plan)
    running.count(3, view(plan, 3))
    assert held(running, plan)[1] == (1, 3) and held(running, plan)[0] != before[0]
    running.discount(3, view(plan, 3))
    assert held(running, plan) == before


def test_the_order_does_not_matter(plan: sa.RoundPlan) -> None:
    one, other = RunningSum(plan), RunningSum(plan)
    for client in (0, 1, 2):
        one.count(client, view(plan, client))
        other.count(2 - client, view(plan, 2 - client))
    assert held(one, plan) == held(other, plan)


@pytest.mark.parametrize("broken", [0, 1, -1])
def test_a_broken_frame_changes_nothing(plan: sa.RoundPlan, broken: int) -> None:
    running = RunningSum(plan)
    running.count(0, view(plan, 0))
    before = held(running, plan)
    with pytest.raises(sa.SecureAggError):
        running.count(1, view(plan, 1, broken % len(plan.packing.frames)))
    assert held(running, plan) == before


def test_all_are_left_out_or_none(plan: sa.RoundPlan) -> None:
    running = RunningSum(plan)
    for client in range(3):
        running.count(client, view(plan, client))
    before = held(running, plan)

    def views(lost: int | None) -> Callable[[int], ContributionView]:
        def of(client: int) -> ContributionView:
            if client == lost:
                raise OSError("the file is gone")
            return view(plan, client)

        return of

    with pytest.raises(OSError, match="gone"):
        running.leave_out([0, 2], views(lost=2))
    assert held(running, plan) == before
    running.leave_out([0, 2], views(lost=None))
    alone = RunningSum(plan)
    alone.count(1, view(plan, 1))
    assert held(running, plan) == held(alone, plan)


def test_who_is_in_it_and_whether_they_are_enough() -> None:
    noise = sa.DistributedGaussian(epsilon=8, delta=1e-5, rounds=1, noise_by="committee")
    plan = toy_plan(noise=noise, parameters="INSECURE_N64_Q104")
    running = RunningSum(plan)
    running.count(0, view(plan, 0))
    for without, match in (((), "1 clients remain"), ((0,), r"0 clients remain \(admitted 1, refused \[0\]\)")):
        with pytest.raises(sa.QuorumError, match=match):
            running.require_clients(without)
    running.count(2, view(plan, 2))
    running.require_clients()
    with pytest.raises(sa.QuorumError, match="the noise of 0 members is admitted, and 3 must answer"):
        running.require_quorum()
    for member in range(3):
        running.count(plan.clients + member, view(plan, 10 + member))
    running.require_quorum()
    assert tuple(running.clients) == (0, 2) and running.noise_members == (0, 1, 2)
    assert running.holds_any([1, 2]) and not running.holds_any([1, 3])
    with pytest.raises(sa.QuorumError, match="the noise of 2 members"):
        running.require_quorum([plan.clients])
