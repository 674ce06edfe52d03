"""Mechanisms: noise that is enough and not much more, numbers that survive JSON, and bounds that hold and can fail."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.special import ive

from secureagg.dp import mechanisms as mechanisms_module
from secureagg.dp.accounting import epsilon
from secureagg.dp.mechanisms import (
    CentralGaussian,
    DistributedGaussian,
    Exposure,
    Mechanism,
    Skellam,
    mechanism_from_json,
)
from secureagg.dp.noise import discrete_gaussian, skellam
from secureagg.dp.noisy_sums import SkellamSum
from secureagg.dp.relation import Relation
from secureagg.dp.rounded_sums import RoundedGaussianSum
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

Kind = type[DistributedGaussian] | type[Skellam] | type[CentralGaussian]
KINDS: tuple[Kind, ...] = (DistributedGaussian, Skellam, CentralGaussian)
every = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)

COARSE = Exposure(l2_clip_grid=31.0, norm_bound=2400, dimension=1000, honest=3, redrawn=0.0)
FINE = Exposure(l2_clip_grid=2000.0, norm_bound=4_100_000, dimension=64, honest=40, redrawn=2.0**-50)


def made(kind: Kind, **changes: Any) -> Mechanism:
    return kind(**{"epsilon": 4.0, "delta": 1e-5, "rounds": 1} | changes)


def adder(kind: Kind) -> Any:
    return "aggregator" if kind is CentralGaussian else "committee"


@every
@pytest.mark.parametrize(("exposure", "rounds"), [(COARSE, 1), (FINE, 12)], ids=["coarse", "fine"])
def test_calibrated_noise_is_enough_and_hardly_more(kind: Kind, exposure: Exposure, rounds: int) -> None:
    asked = made(kind, rounds=rounds)
    found = asked.calibrated(exposure, adder(kind))
    assert (asked.noise_std_grid, found.noise_by) == (None, adder(kind))
    assert asked.epsilon * 0.985 <= epsilon(found.event(exposure), asked.delta) <= asked.epsilon
    assert found.calibrated(exposure, adder(kind)) == found  # who is given it holds it against ε, and keeps it
    less = replace(found, noise_std_grid=found.std * 0.98)
    with pytest.raises(ParameterError, match=rf"costs ε = 4\.\d+ over {rounds} rounds, more than epsilon=4"):
        less.calibrated(exposure, adder(kind))


@every
def test_events_say_what_is_released(kind: Kind) -> None:
    mechanism = made(kind, rounds=7, noise_std_grid=30.0)
    exposure = replace(COARSE, redrawn=2.0**-40)
    for rounds, event in ((7, mechanism.event(exposure)), (1, mechanism.event(exposure, 1))):
        assert (event.rounds, event.honest, event.dimension) == (rounds, 3, 1000)
        assert (event.relation, event.redrawn_probability) == (Relation.ZERO_OUT, 2.0**-40)
        if isinstance(event, SkellamSum):
            assert event.noise_variance_grid == 900 and 2400 <= event.l2_bound_grid**2 < 2400.001
        else:
            assert isinstance(event, RoundedGaussianSum)
            assert (event.noise_std_grid, event.l2_clip_grid) == (30.0, 31.0)


@pytest.mark.parametrize(
    ("kind", "exposure", "least"),
    [
        (DistributedGaussian, COARSE, 8 / math.sqrt(3)),
        (CentralGaussian, replace(COARSE, honest=1), 8),
        (Skellam, COARSE, 0.5),
    ],
)
def test_however_little_is_asked_for_rounding_is_hidden(kind: Kind, exposure: Exposure, least: float) -> None:
    """At an ε that hardly any noise is needed for, the least that the accounting is valid for is taken."""
    asked = made(kind, epsilon=499.0)
    assert asked.calibrated(replace(exposure, l2_clip_grid=1.0, norm_bound=2), adder(kind)).std == pytest.approx(least)
    if kind is not Skellam:
        with pytest.raises(ParameterError, match="do not hide the rounding"):
            replace(asked, noise_std_grid=least * 0.999).calibrated(exposure, adder(kind))


@every
def test_no_noise_that_can_be_drawn_is_enough(kind: Kind) -> None:
    with pytest.raises(ParameterError, match="needs more noise than"):
        made(kind, epsilon=1e-6).calibrated(replace(COARSE, l2_clip_grid=1e9, norm_bound=10**18), adder(kind))


@every
def test_json_keeps_every_bit(kind: Kind) -> None:
    for mechanism in (made(kind), made(kind, epsilon=0.1 + 0.2, noise_by=adder(kind), noise_std_grid=math.pi * 1e3)):
        fields = json.loads(json.dumps(mechanism.to_json()))
        found = mechanism_from_json(fields)
        assert found == mechanism and type(found) is kind and found.to_json() == fields
        for other in KINDS:
            if other is not kind:
                assert made(other) != made(kind)


@every
@pytest.mark.parametrize(
    "change",
    [
        {"mechanism": "gaussian"}, {"mechanism": None}, {"extra": 1}, {"epsilon": None}, {"epsilon": "nan"},
        {"epsilon": "inf"}, {"epsilon": "0x0p+0"}, {"delta": "0x1p+0"}, {"delta": "x"}, {"rounds": 0}, {"rounds": 1.0},
        {"rounds": True}, {"rounds": 10**10}, {"noise_by": "nobody"}, {"noise_by": ["clients"]},
        {"noise_std_grid": "0x1p-2"}, {"noise_std_grid": "inf"}, {"noise_std_grid": "0x1p+40"},
    ],
    ids=str,
)  # fmt: skip
def test_json_of_anything_else_is_refused(kind: Kind, change: dict[str, object]) -> None:
    fields = made(kind).to_json()
    with pytest.raises((KeyError, TypeError, ValueError)):
        mechanism_from_json({**fields, **change})


@pytest.mark.parametrize(
    ("kind", "noise_by"),
    [(CentralGaussian, "clients"), (CentralGaussian, "committee"), (DistributedGaussian, "aggregator"), (Skellam, "x")],
)
def test_who_cannot_add_it_is_refused(kind: Kind, noise_by: Any) -> None:
    with pytest.raises(ParameterError, match="noise_by is one of None"):
        made(kind, noise_by=noise_by)


# Bounds.


def gaussian_tail(variance: float, beyond: int) -> float:
    """P(|x| > beyond) of the discrete Gaussian of this parameter, summed up."""
    reach = np.arange(0, beyond + int(40 * math.sqrt(variance)) + 40)
    weights = np.exp(-(reach.astype(float) ** 2) / (2 * variance))
    return float(2 * weights[beyond + 1 :].sum() / (2 * weights.sum() - 1))


def skellam_tail(variance: float, beyond: int) -> float:
    """P(|x| > beyond) of the Skellam law of this variance, summed up."""
    reach = np.arange(beyond + 1, beyond + int(40 * math.sqrt(variance)) + 40)
    return float(2 * ive(reach, variance).sum())


@pytest.mark.parametrize(("kind", "tail"), [(DistributedGaussian, gaussian_tail), (Skellam, skellam_tail)])
@pytest.mark.parametrize(("std", "parties", "dimension"), [(0.6, 3, 1), (3.0, 1, 18), (40.0, 7, 10**6)])
def test_tails_are_bounded_and_by_little_more_than_they_are(
    kind: Kind, tail: Any, std: float, parties: int, dimension: int
) -> None:
    """Exact laws: of a sum of discrete Gaussians the Gaussian's own, which it is within a factor of."""
    mechanism = made(kind, noise_std_grid=std)
    cases = ((mechanism.sum_bound(parties, dimension), parties, 40), (mechanism.coordinate_bound(dimension), 1, 60))
    for bound, added, bits in cases:
        variance = added * std**2
        assert dimension * tail(variance, bound) <= 2.0**-bits
        assert dimension * tail(variance, int(bound * 0.85) - 1) > 2.0**-bits
        assert dimension * tail(2.25 * variance, bound) > 2.0**-bits  # what 1.5 times the noise breaks


SAMPLERS = {DistributedGaussian: lambda size, std, rng: discrete_gaussian(size, std, rng),
            Skellam: lambda size, std, rng: skellam(size, std**2, rng)}  # fmt: skip


@pytest.mark.parametrize("kind", [DistributedGaussian, Skellam])
@pytest.mark.parametrize("std", [0.8, 20.0])
def test_bounds_are_missed_no_more_often_than_they_say(monkeypatch: pytest.MonkeyPatch, kind: Kind, std: float) -> None:
    """At one in 2^4 instead of 2^60, of 2000 vectors of 96: 250 expected at most, so 330 with probability < 10^-6."""
    monkeypatch.setattr(mechanisms_module, "REDRAW_BITS", 4)
    mechanism = made(kind, noise_std_grid=std)
    drawn = SAMPLERS[kind](2000 * 96, std, SecretStream(bytes(32))).reshape(2000, 96)
    assert int((np.abs(drawn).max(axis=1) > mechanism.coordinate_bound(96)).sum()) <= 330 // 2
    assert int(((drawn**2).sum(axis=1) > mechanism.norm_bound(96)).sum()) <= 330 // 2
    halved = SAMPLERS[kind](200 * 96, 2.5 * std, SecretStream(bytes(32))).reshape(200, 96)  # nor are they idle
    assert int((np.abs(halved).max(axis=1) > mechanism.coordinate_bound(96)).sum()) > 100
    assert int(((halved**2).sum(axis=1) > mechanism.norm_bound(96)).sum()) > 100


@pytest.mark.parametrize("kind", [DistributedGaussian, Skellam])
def test_norm_bounds_tell_noise_from_half_as_much_again(kind: Kind) -> None:
    for std, dimension in itertools.product((2.0, 50.0), (1 << 14, 1 << 20)):
        bound = made(kind, noise_std_grid=std).norm_bound(dimension)
        assert dimension * std**2 < bound < dimension * (1.5 * std) ** 2


@pytest.mark.parametrize(("kind", "variance"), [(DistributedGaussian, 1.0), (Skellam, 1.0), (CentralGaussian, 1.0)])
def test_draws_have_the_law_of_the_mechanism(kind: Kind, variance: float) -> None:
    """Its standard deviation to within 2 %, nine standard errors of 100,000 draws; and for Skellam its kurtosis, which
    is 1/v more than a Gaussian's, to tell one from the other.
    """
    drawn = made(kind, noise_std_grid=1.0).draw(100_000).astype(float)
    assert drawn.std() == pytest.approx(1.0, rel=0.02) and abs(drawn.mean()) < 0.02
    excess = (drawn**4).mean() / drawn.var() ** 2 - 3
    assert excess == pytest.approx(1 / variance if kind is Skellam else 0.0, abs=0.3)
