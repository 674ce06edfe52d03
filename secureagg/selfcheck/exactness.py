"""Laws of whole rounds: the result is the integer sum of what clients put on the grid, bit for bit, or an error."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from secureagg.aggregator import Aggregator
from secureagg.client import contribute
from secureagg.errors import UnattributedFault
from secureagg.layout import Weights
from secureagg.plan import RoundPlan
from secureagg.selfcheck.homomorphism import decoded_sum
from secureagg.selfcheck.law import Case, Law, LawBroken, require
from secureagg.selfcheck.parties import draw_plan, draw_update, finished, gathered
from secureagg.selfcheck.reference import mean_of, quantised

__all__ = ["LAWS"]


def _same(found: Weights, expected: Weights) -> bool:
    """Return whether tensors are equal bit for bit, shapes and dtypes included."""
    return len(found) == len(expected) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(found, expected, strict=True)
    )


def _round(case: Case, plan: RoundPlan) -> None:
    """Run a round of some of the clients, in some order, with some of the members."""
    random = case.random
    present = random.permutation(plan.clients)[: int(random.integers(plan.quorum, plan.clients, endpoint=True))]
    needed = plan.committee.members_needed
    members = sorted(random.permutation(plan.committee.size)[: int(random.integers(needed, plan.committee.size + 1))])
    sums, total_weight = [0] * plan.layout.size, 0
    with gathered(plan) as parties:
        aggregator = Aggregator(parties.session)
        for client in present.tolist():
            update, weight = draw_update(plan, random), int(random.integers(1, plan.max_weight, endpoint=True))
            seed = int(random.integers(1 << 63))
            grid = quantised(plan, update, weight, np.random.default_rng(seed))
            sums, total_weight = [a + b for a, b in zip(sums, grid, strict=True)], total_weight + weight
            identity, rounding = parties.clients[client], np.random.default_rng(seed)
            aggregator.admit(contribute(parties.session, identity, update, weight, rounding_rng=rounding))
        result = finished(parties, aggregator, members)
    require(list(result.clients) == sorted(present.tolist()), "the result counts other clients than took part")
    require(result.total_weight == total_weight, "the sum of the weights is wrong")
    require(_same(result.mean, mean_of(plan, sums, total_weight)), "the mean is not that of the integers on the grid")


def _plain_round(case: Case) -> None:
    _round(case, draw_plan(case.random))


def _proven_round(case: Case) -> None:
    _round(case, draw_plan(case.random, proofs=True))


def _largest(case: Case) -> None:
    """Every client sends the end of the grid in every coordinate: the sums that come nearest to overflowing."""
    plan = draw_plan(case.random)
    plan = replace(plan, value_bound=plan.l2_clip / math.sqrt(plan.layout.size) / 2)
    sign = int(case.random.choice([-1, 1]))
    grid = np.append(np.full(plan.layout.size, sign * plan.value_limit), plan.max_weight)
    found = decoded_sum(plan, [grid] * plan.clients)
    require(found == (plan.clients * grid).tolist(), f"{plan.clients} times the end of the grid is decoded wrongly")


def _wrong_key(case: Case) -> None:
    plan = draw_plan(case.random)
    grids = [np.append(np.zeros(plan.layout.size, dtype=np.int64), 1) for _ in range(2)]
    lie = int(case.random.choice([-1, 1]) * (1 << case.random.integers(0, 8)))
    try:
        decoded_sum(plan, grids, lie=lie)
    except UnattributedFault:
        return
    raise LawBroken(f"a key sum that is {lie} off in one coefficient opens the sum")


_SUBJECT = "exactness"
LAWS = (
    Law(
        _SUBJECT,
        "round",
        "A round's mean is that of the clients' integers to the last bit, whoever drops out, in any order of arrival.",
        "README.md, What is guaranteed; docs/protocol.md",
        _plain_round,
        25,
        400,
    ),
    Law(
        _SUBJECT,
        "proven-round",
        "So it is with proofs.",
        "README.md, What is guaranteed; docs/proofs/overflow.md",
        _proven_round,
        5,
        100,
    ),
    Law(
        _SUBJECT,
        "largest-sums",
        "The end of the grid in every coordinate of every client decodes exactly: a plan cannot overflow.",
        "secureagg/bounds.py; docs/proofs/overflow.md",
        _largest,
        60,
        2000,
    ),
    Law(
        _SUBJECT,
        "wrong-key-sum",
        "A key sum off by little in one coefficient is refused: an error, never a wrong sum.",
        "docs/proofs/overflow.md, The residual rule",
        _wrong_key,
        60,
        2000,
    ),
)
