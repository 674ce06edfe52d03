"""The gradient noise: its law at a fixed seed, refusing ⅔σ and 1.5σ; the grid; every draw used once."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray
from scipy import stats

from secureagg.dp.dpsgd import GaussianNoise, private_gradients
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

SEED = b"noise of DP-SGD, a fixed seed 32."


def stream(label: str) -> SecretStream:
    return SecretStream(SEED[:32]).substream(label)


def p_of_variance(values: NDArray[Any], std: float) -> float:
    """Return the two-sided p-value of Σx²/σ² under χ²."""
    statistic = float((values.astype(np.float64) ** 2).sum()) / std**2
    below = float(stats.chi2.cdf(statistic, values.size))
    return 2 * min(below, 1 - below)


def test_the_standard_deviation_is_the_stated_one() -> None:
    noise = GaussianNoise(0.5, 1.3, 200_000, stream("std"))
    values = noise.draw() * noise.grid_step
    assert p_of_variance(values, noise.std) > 1e-3
    assert p_of_variance(values, noise.std * 2 / 3) < 1e-9
    assert p_of_variance(values, noise.std * 1.5) < 1e-9
    assert 0.65 <= noise.std <= 0.65 * (1 + 1e-3)


def test_the_law_is_normal_in_the_middle_and_in_the_tails() -> None:
    noise = GaussianNoise(1.0, 1.0, 2_000_000, stream("law"))
    values = noise.draw().astype(np.float64) * noise.grid_step / noise.std
    positive = np.concatenate([np.linspace(0.05, 3.6, 72), [3.6541528853610088, 3.9, 4.3]])
    edges = np.concatenate([-positive[::-1], [0.0], positive])
    expected = np.diff(stats.norm.cdf(np.concatenate([[-np.inf], edges, [np.inf]]))) * values.size
    found = np.histogram(values, np.concatenate([[-np.inf], edges, [np.inf]]))[0]
    statistic = ((found - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(statistic, len(expected) - 1) > 1e-3
    neighbours = float(np.corrcoef(values[:-1], values[1:])[0, 1])
    assert abs(neighbours) < 5 / math.sqrt(values.size)


def test_refills_when_the_words_run_out() -> None:
    short = GaussianNoise(1.0, 1.0, 1, stream("short"))
    many = np.array([short.draw()[0] for _ in range(4000)]) * short.grid_step
    assert p_of_variance(many, short.std) > 1e-3


@pytest.mark.parametrize("dimension", [1, 7, 1 << 15, (1 << 15) + 1, 300_001])
def test_whole_grid_steps_of_a_power_of_two_in_every_dimension(dimension: int) -> None:
    noise = GaussianNoise(0.37, 2.5, dimension, stream("grid"))
    values = noise.draw()
    assert values.shape == (dimension,) and values.dtype == np.float32
    assert np.array_equal(values, np.rint(values)) and np.abs(values).max() < 2**24
    assert math.frexp(noise.grid_step)[0] == 0.5
    assert noise.std == pytest.approx(2.5 * (0.37 + noise.grid_step * math.sqrt(dimension)), rel=1e-15)


def test_each_draw_is_given_out_once_also_to_several_threads() -> None:
    noise = GaussianNoise(1.0, 1.0, 50, stream("once"))
    with ThreadPoolExecutor(4) as threads:
        taken = list(threads.map(lambda _: noise.take().tobytes(), range(60)))
    assert len(set(taken)) == 60  # and they are the first 60 of the stream
    again = GaussianNoise(1.0, 1.0, 50, stream("once"))
    assert {again.draw().tobytes() for _ in range(60)} == set(taken)


def test_a_compiled_step_draws_anew_each_time() -> None:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x, y = tf.zeros((4, 3)), tf.zeros((4, 2))
    step = tf.function(
        lambda: private_gradients(model, "mse", x, y, l2_clip=1.0, noise_multiplier=1.0, expected_batch=4).gradients[0]
    )
    assert len({step().numpy().tobytes() for _ in range(10)}) == 10


def test_the_gradients_are_noised_clipped_means_on_the_grid() -> None:
    """All of it together: Σ over repetitions of (gradient − clipped mean)² has the stated variance."""
    model = keras.Sequential([keras.Input((40,)), keras.layers.Dense(50)])
    rng = np.random.default_rng(1)
    x, y = (tf.constant(rng.normal(size=shape), tf.float32) for shape in ((6, 40), (6, 50)))
    own = stream("step")
    settings = {"l2_clip": 0.25, "expected_batch": 32.0}
    clean = private_gradients(model, "mse", x, y, noise_multiplier=0.0, **settings).gradients
    off = []
    for _ in range(20):
        noisy = private_gradients(model, "mse", x, y, noise_multiplier=1.5, stream=own, **settings).gradients
        off += [(a - b).numpy().ravel() for a, b in zip(noisy, clean, strict=True)]
    values = np.concatenate(off)
    noise = GaussianNoise(0.25, 1.5, 2050)
    assert p_of_variance(values, noise.std / 32) > 1e-3
    assert p_of_variance(values, noise.std / 32 * 2 / 3) < 1e-9
    assert p_of_variance(values, noise.std / 32 * 1.5) < 1e-9


def test_what_is_released_lies_on_the_grid_whatever_the_sum() -> None:
    """In float64, where nothing hides it: a sum that was not rounded would show between the grid's points."""
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(5, dtype="float64")])
    rng = np.random.default_rng(2)
    x, y = tf.constant(rng.normal(size=(6, 7))), tf.constant(rng.normal(size=(6, 5)))
    settings = {"l2_clip": 0.3, "noise_multiplier": 0.9, "expected_batch": 64.0}
    released = private_gradients(model, "mse", x, y, **settings).gradients
    steps = np.concatenate([g.numpy().ravel() for g in released]) * 64 / GaussianNoise(0.3, 0.9, 40).grid_step
    assert np.array_equal(steps, np.rint(steps)) and np.abs(steps).max() > 1000


@pytest.mark.parametrize("settings", [(0.0, 1.0, 3), (1.0, -1.0, 3), (1.0, 1.0, 0), (math.inf, 1.0, 3)])
def test_refuses(settings: tuple[float, float, int]) -> None:
    with pytest.raises(ParameterError):
        GaussianNoise(*settings)


def test_refuses_to_go_on_in_a_forked_process(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = GaussianNoise(1.0, 1.0, 3)
    monkeypatch.setattr("os.getpid", lambda: -1)
    with pytest.raises(ParameterError, match="fork"):
        noise.take()
