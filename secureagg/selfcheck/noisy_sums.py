"""The noise of opened sums: whoever adds it, what a round reveals beyond the integers follows the plan's law."""

from __future__ import annotations

from functools import reduce

import numpy as np

from secureagg.aggregator import Aggregator
from secureagg.client import contribute
from secureagg.dp.mechanisms import CentralGaussian, DistributedGaussian, Mechanism, NoiseBy, Skellam
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.selfcheck.law import Case, Extra, Law, require
from secureagg.selfcheck.parties import finished, gathered
from secureagg.selfcheck.samplers import (
    convolved,
    draws_of,
    gaussian_law,
    power_text,
    require_draws,
    skellam_law,
)

__all__ = ["EPSILONS", "LAWS", "WAYS", "Way", "plan_of"]

Way = tuple[type[Mechanism], NoiseBy, bool]
"""A mechanism, who adds the noise, and whether there are proofs."""

_CLIENTS, _MEMBERS = 3, 3
_SHARE = 1 / 8  # of the draws that a sampler alone is asked for
EPSILONS = (2.0, 8.0)  # of the cases, the least and the largest
WAYS: tuple[Way, ...] = (
    (DistributedGaussian, "clients", False),
    (Skellam, "clients", False),
    (CentralGaussian, "aggregator", False),
    (DistributedGaussian, "committee", True),
)


def plan_of(way: Way, values: int, epsilon: float) -> RoundPlan:
    """Return the plan of a case. The grid is coarse, so that a member's noise in 2^21 values can be proven."""
    mechanism, noise_by, proofs = way
    return RoundPlan(
        layout=Layout(((values,),), ("float64",)),
        clients=_CLIENTS,
        quorum=_CLIENTS,
        l2_clip=1.0,
        value_bits=8,
        committee=Committee(_MEMBERS),
        noise=mechanism(epsilon=epsilon, delta=1e-5, rounds=1, noise_by=noise_by),
        proofs=proofs,
    )


def _opened(case: Case) -> None:
    """Open the sum of clients whose updates are zero: what is left is the noise."""
    way = WAYS[case.number % len(WAYS)]
    noise_by, values = way[1], int(_SHARE * draws_of(case))
    plan = plan_of(way, values, float(case.random.uniform(*EPSILONS)))
    assert plan.noise is not None
    with gathered(plan) as parties:
        aggregator = Aggregator(parties.session)
        if plan.noise_members:
            for member in parties.members:
                aggregator.admit(member.add_noise(parties.session))
        for identity in parties.clients:
            aggregator.admit(contribute(parties.session, identity, [np.zeros(values)]))
        result = finished(parties, aggregator, range(_MEMBERS))
    revealed = result.mean[0] * (plan.quantiser.scale * _CLIENTS)
    found = np.rint(revealed)
    require(bool(np.abs(revealed - found).max() < 1e-3), f"{plan.noise.name}: the sum is not of whole grid steps")
    law = skellam_law(plan.noise.std**2) if isinstance(plan.noise, Skellam) else gaussian_law(plan.noise.std)
    drawn = {"clients": _CLIENTS, "committee": _MEMBERS, "aggregator": 1}[noise_by]
    what = f"{plan.noise.name} noise by the {noise_by}"
    require_draws(found.astype(np.int64), reduce(convolved, [law] * drawn), what)


LAWS = (
    Law(
        "samplers",
        "noise-in-sums",
        "An opened sum has the noise that its plan says, and no more, whoever adds it.",
        "secureagg/dp/mechanisms.py; docs/protocol.md",
        _opened,
        len(WAYS),
        len(WAYS),
        needs=Extra("dp_accounting", "dp-accounting", "dp"),
        comparisons=3,
        power=power_text(_SHARE, scaled=True),
    ),
)
