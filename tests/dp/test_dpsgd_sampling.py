"""Poisson sampling as it is claimed: inclusion rate, independence, padding, truncation; fixed-size batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from secureagg.dp.dpsgd import FixedSizeBatches, PoissonBatches
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

N = 40
X, Y = np.arange(1, N + 1)[:, None] * np.ones((1, 3)), np.arange(1, N + 1)


def stream(label: str) -> SecretStream:
    return SecretStream(b"sampling of DP-SGD, fixed seed.."[:32]).substream(label)


def draws(batches: PoissonBatches, count: int) -> NDArray[np.bool_]:
    """Return [count, N]: which examples each batch held."""
    held = np.zeros((count, N), dtype=bool)
    for index in range(count):
        _, y, mask = batches[0]
        held[index, y[mask == 1] - 1] = True
    return held


def test_every_example_is_included_at_the_stated_rate() -> None:
    held = draws(PoissonBatches(X, Y, 10, stream=stream("rate")), 4000)
    counts = held.sum(axis=0)
    for rate, accepted in ((0.25, True), (0.22, False), (0.28, False)):
        statistic = ((counts - 4000 * rate) ** 2 / (4000 * rate * (1 - rate))).sum()
        assert bool(stats.chi2.sf(statistic, N) > 1e-3) is accepted


def test_examples_and_batches_are_independent() -> None:
    held = draws(PoissonBatches(X, Y, 10, stream=stream("independence")), 4000)
    pairs = np.corrcoef(held.T.astype(float))[np.triu_indices(N, 1)]
    assert np.abs(pairs).max() < 5 / np.sqrt(4000)
    assert 0.9 < pairs.std() * np.sqrt(4000) < 1.1
    following = np.corrcoef(held[:-1].ravel(), held[1:].ravel())[0, 1]
    assert abs(following) < 5 / np.sqrt(4000 * N)
    sizes = held.sum(axis=1)  # the batch's size varies as Binomial(n, q); a fixed size would have variance 0
    statistic = 3999 * sizes.var(ddof=1) / (N * 0.25 * 0.75)
    assert 1e-3 < stats.chi2.cdf(statistic, 3999) < 1 - 1e-3


def test_batches_are_padded_with_masked_zeros() -> None:
    batches = PoissonBatches(X, Y, 10, capacity=24, stream=stream("padding"))
    for _ in range(50):
        x, y, mask = batches[0]
        size = int(mask.sum())
        assert x.shape == (24, 3) and y.shape == mask.shape == (24,)
        assert (mask[:size] == 1).all() and (y[:size] > 0).all() and not x[size:].any() and not y[size:].any()
        assert np.array_equal(x[:size, 0], y[:size])
    assert batches.truncations == 0


def test_truncation_is_counted_and_keeps_a_random_part() -> None:
    batches = PoissonBatches(X, Y, 10, capacity=10, stream=stream("truncation"))
    assert batches.truncation_probability == pytest.approx(stats.binom.sf(10, N, 0.25), rel=1e-9)
    held = draws(batches, 4000)
    assert held.sum(axis=1).max() == 10
    assert stats.binomtest(batches.truncations, 4000, batches.truncation_probability).pvalue > 1e-3
    counts = held.sum(axis=0)  # nobody is left out for standing last
    assert abs(np.corrcoef(counts, np.arange(N))[0, 1]) < 0.5


@pytest.mark.parametrize(("n", "expected"), [(60_000, 256), (1000, 1), (1000, 999), (7, 7), (10**6, 4096.5)])
def test_the_default_capacity_truncates_with_probability_below_two_to_the_minus_forty(n: int, expected: float) -> None:
    batches = PoissonBatches(np.zeros((n, 1), np.float32), np.zeros(n), expected)
    assert batches.truncation_probability <= 2.0**-40
    assert batches.truncation_probability == pytest.approx(stats.binom.sf(batches.capacity, n, expected / n), rel=1e-6)
    assert batches.capacity == n or stats.binom.sf(batches.capacity - 8, n, expected / n) > 2.0**-40
    assert len(batches) == max(1, round(n / expected))


def test_the_default_randomness_is_not_repeated() -> None:
    first, second = PoissonBatches(X, Y, 10), PoissonBatches(X, Y, 10)
    assert not np.array_equal(draws(first, 20), draws(second, 20))


def test_all_examples_with_rate_one() -> None:
    assert draws(PoissonBatches(X, Y, N), 20).all()


def test_fixed_batches_cut_a_new_permutation_every_epoch() -> None:
    batches = FixedSizeBatches(X, Y, 12, stream=stream("fixed"))
    orders = []
    for passed in range(3):
        assert batches.passes == passed
        batches.on_epoch_begin()
        rows = [batches[index] for index in range(len(batches))]
        assert [len(y) for _, y in rows] == [12, 12, 12]
        assert all(np.array_equal(x[:, 0], y) for x, y in rows)
        orders.append(np.concatenate([y for _, y in rows]))
        assert len(set(orders[-1])) == 36
    assert not np.array_equal(orders[0], orders[1]) and not np.array_equal(orders[1], orders[2])


REFUSED: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = [
    (PoissonBatches, (X, Y, 0.5), {}),
    (PoissonBatches, (X, Y, N + 1), {}),
    (PoissonBatches, (X, Y[:-1], 10), {}),
    (PoissonBatches, (X, Y, 10), {"capacity": 9}),
    (PoissonBatches, (X[:0], Y[:0], 1), {}),
    (FixedSizeBatches, (X, Y, 2.5), {}),
    (FixedSizeBatches, (X, Y, N + 1), {}),
]


@pytest.mark.parametrize(("kind", "arguments", "settings"), REFUSED)
def test_refuses(kind: Any, arguments: tuple[Any, ...], settings: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        kind(*arguments, **settings)
