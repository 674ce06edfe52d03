"""The updates all ways sum, and the error of their means."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.overhead.updates import L2_CLIP, LARGEST_TENSOR, Updates, errors, shapes


@pytest.mark.parametrize("clients", [1, 3, 4, 10])
def test_the_mean_is_that_of_the_updates(clients):
    updates = Updates(1000)
    stacked = np.stack([np.concatenate(updates.of(client)) for client in range(clients)]).astype(np.float64)
    np.testing.assert_allclose(updates.mean(clients), stacked.mean(axis=0), rtol=1e-15, atol=1e-18)


def test_no_update_is_beyond_the_clip_and_they_are_the_same_each_time():
    longest = np.concatenate(Updates(1000).of(0))
    assert np.linalg.norm(longest) == pytest.approx(0.9) and L2_CLIP == 1
    assert np.array_equal(longest, np.concatenate(Updates(1000).of(4)))


def test_tensors_hold_a_million_values_at_most():
    assert shapes(10) == [10]
    assert shapes(2 * LARGEST_TENSOR + 1) == [LARGEST_TENSOR, LARGEST_TENSOR, 1]
    assert [tensor.size for tensor in Updates(LARGEST_TENSOR + 1).of(0)] == shapes(LARGEST_TENSOR + 1)


def test_errors_are_those_of_the_difference():
    exact = Updates(1000).mean(3)
    found = errors([exact[:400] + 0.5, exact[400:] - 0.5], 1000, 3)
    assert found["max_error"] == pytest.approx(0.5) and found["rms_error"] == pytest.approx(0.5)
    assert found["rms_mean"] == pytest.approx(np.linalg.norm(exact) / np.sqrt(1000))
    assert errors([exact], 1000, 3)["max_error"] == 0
