"""The baseline with float noise: clipped as it says, noised as it says, the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

import fl_core as fl

MODEL = [np.zeros((200, 100), np.float32), np.zeros(1, np.float64)]


def mean_of(aggregation: fl.Aggregation, updates: list[fl.Weights], round_number: int = 1) -> fl.Weights:
    current = aggregation.begin(round_number, MODEL, range(len(updates)))
    for client, update in enumerate(updates):
        current.admit(client, current.contribute(client, update, 1.0))
    aggregate = current.finish()
    assert aggregate.clients == tuple(range(len(updates)))
    return aggregate.mean


def update_of(norm: float) -> fl.Weights:
    """An update of this norm in its last coordinate, which is a layer of its own."""
    return [np.zeros_like(MODEL[0]), np.full(1, norm)]


def test_without_noise_it_is_the_mean_of_clipped_updates() -> None:
    mean = mean_of(fl.FloatNoiseMean(l2_clip=2.0, noise_multiplier=0.0, seed=0), [update_of(1.0), update_of(5.0)])
    assert mean[1] == pytest.approx((1.0 + 2.0) / 2)
    assert not mean[0].any() and [layer.dtype for layer in mean] == [np.float32, np.float64]


def test_a_clip_is_of_all_layers_together() -> None:
    both = [np.full_like(MODEL[0], 3 / np.sqrt(MODEL[0].size)), np.full(1, 4.0)]
    mean = mean_of(fl.FloatNoiseMean(l2_clip=1.0, noise_multiplier=0.0, seed=0), [both, both])
    assert mean[1] == pytest.approx(4 / 5) and np.linalg.norm(mean[0]) == pytest.approx(3 / 5, rel=1e-5)


@pytest.mark.parametrize("clients", [2, 8])
def test_noise_is_the_multiple_of_the_clip_over_the_clients(clients: int) -> None:
    mean = mean_of(fl.FloatNoiseMean(l2_clip=0.5, noise_multiplier=3.0, seed=1), [update_of(0.0)] * clients)
    drawn = mean[0].ravel()
    expected = 3.0 * 0.5 / clients
    assert drawn.std() == pytest.approx(expected, rel=0.03)  # of 20,000 draws: six standard errors
    assert abs(drawn.mean()) < 5 * expected / np.sqrt(drawn.size)


def test_noise_follows_from_seed_and_round() -> None:
    updates = [update_of(1.0)] * 2
    drawn = {
        (seed, number): mean_of(fl.FloatNoiseMean(1.0, 1.0, seed), updates, number)[0].tobytes()
        for seed in (0, 1)
        for number in (1, 2)
    }
    assert len(set(drawn.values())) == 4
    assert mean_of(fl.FloatNoiseMean(1.0, 1.0, 0), updates, 1)[0].tobytes() == drawn[0, 1]


def test_a_weight_is_refused() -> None:
    current = fl.FloatNoiseMean(1.0, 1.0, 0).begin(1, MODEL, [7])
    with pytest.raises(fl.Refused, match="weight must be 1") as refused:
        current.contribute(7, update_of(1.0), 2.0)
    assert refused.value.client == 7


def test_what_is_no_number_is_refused() -> None:
    current = fl.FloatNoiseMean(1.0, 1.0, 0).begin(1, MODEL, [3])
    with pytest.raises(fl.Refused, match="NaN or inf"):
        current.admit(3, current.contribute(3, update_of(float("nan")), 1.0))


@pytest.mark.parametrize(("clip", "noise"), [(0.0, 1.0), (float("inf"), 1.0), (1.0, -1.0), (1.0, float("nan"))])
def test_numbers_that_cannot_be_are_refused(clip: float, noise: float) -> None:
    with pytest.raises(fl.ParameterError, match="must be finite"):
        fl.FloatNoiseMean(clip, noise, 0)
