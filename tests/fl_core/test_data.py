"""Data sets, the IDX parser, and partitions judged by their class histograms."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fl_core as fl
from fl_core.data import read_idx

LABELS = np.repeat(np.arange(10), [40, 60, 80, 100, 120, 120, 100, 80, 60, 40])


def histograms(labels: np.ndarray, partition: fl.Partition) -> np.ndarray:
    return np.stack([np.bincount(labels[indices], minlength=10) for indices in partition])


def chi_square(table: np.ndarray) -> float:
    """Pearson's statistic of clients × classes against independence, whose mean is (rows-1)·(columns-1)."""
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0, keepdims=True) / table.sum()
    return float(((table - expected) ** 2 / expected).sum())


def assert_exact_partition(partition: fl.Partition, examples: int, least: int = 1) -> None:
    assert min(map(len, partition)) >= least
    np.testing.assert_array_equal(np.sort(np.concatenate(partition)), np.arange(examples))
    assert all((np.diff(indices) > 0).all() for indices in partition)


@given(
    st.lists(st.integers(0, 4), min_size=12, max_size=60),
    st.integers(1, 6),
    st.floats(0.01, 100),
    st.integers(0, 2**32),
)
def test_every_partition_holds_every_index_once(labels, clients, alpha, seed) -> None:
    labels = np.array(labels)
    assert_exact_partition(fl.iid(labels, clients, seed), len(labels))
    assert_exact_partition(fl.dirichlet(labels, clients, alpha, seed, min_examples=2), len(labels), least=2)
    per_client = -(-len(np.unique(labels)) // clients)
    assert_exact_partition(fl.shards(labels, clients, per_client, seed), len(labels))


def test_iid_is_as_even_as_chance_has_it() -> None:
    partition = fl.iid(LABELS, 8, seed=1)
    assert {len(indices) for indices in partition} == {100}
    assert chi_square(histograms(LABELS, partition)) < 92  # the 99th percentile at (8-1)·(10-1) = 63 degrees


def test_dirichlet_skews_more_for_smaller_alpha() -> None:
    skew = [chi_square(histograms(LABELS, fl.dirichlet(LABELS, 8, alpha, seed=1))) for alpha in (1000, 10, 1, 0.1)]
    assert skew[0] < 92
    assert sorted(skew) == skew
    assert skew[-1] > 10 * 63


def test_dirichlet_shares_have_the_dirichlets_moments() -> None:
    """Of one large class, a client's share has mean 1/k and variance (1/k)(1-1/k)/(kα+1)."""
    labels, clients, alpha = np.zeros(10_000, int), 4, 0.5
    shares = np.array([[len(i) for i in fl.dirichlet(labels, clients, alpha, seed)] for seed in range(500)]) / 10_000
    assert shares.mean() == pytest.approx(0.25)
    assert shares.var() == pytest.approx(0.25 * 0.75 / (clients * alpha + 1), rel=0.1)


@pytest.mark.parametrize("labels_per_client", [2, 3])
def test_shards_give_each_client_few_labels(labels_per_client: int) -> None:
    table = histograms(LABELS, fl.shards(LABELS, 8, labels_per_client, seed=1))
    assert ((table > 0).sum(axis=1) <= labels_per_client).all()
    assert table.sum(axis=1).max() < 3 * table.sum(axis=1).min()  # shards follow the labels' sizes


@pytest.mark.parametrize(
    "partition",
    [
        lambda seed: fl.iid(LABELS, 5, seed),
        lambda seed: fl.dirichlet(LABELS, 5, 0.5, seed),
        lambda seed: fl.shards(LABELS, 5, 2, seed),
    ],
)
def test_partitions_follow_their_seed(partition) -> None:
    def key(seed: int) -> list[list[int]]:
        return [indices.tolist() for indices in partition(seed)]

    assert key(1) == key(1)
    assert key(1) != key(2)


@pytest.mark.parametrize(
    ("build", "culprit"),
    [
        (lambda: fl.iid(LABELS, 0, 0), "clients=0"),
        (lambda: fl.iid(LABELS, 801, 0), "clients=801"),
        (lambda: fl.dirichlet(LABELS, 5, 0.0, 0), "alpha=0"),
        (lambda: fl.dirichlet(LABELS, 5, float("nan"), 0), "alpha=nan"),
        (lambda: fl.dirichlet(LABELS, 5, 1.0, 0, min_examples=161), "min_examples=161"),
        (lambda: fl.shards(LABELS, 4, 2, 0), "labels_per_client = 8: must be at least the 10 labels"),
        (lambda: fl.shards(LABELS, 400, 3, 0), "at most the 800 examples"),
    ],
)
def test_infeasible_partitions_are_refused(build, culprit) -> None:
    with pytest.raises(fl.ParameterError, match=culprit):
        build()


def test_localise_copies_each_clients_part(digits: fl.Dataset) -> None:
    partition = fl.iid(digits.y_train, 3, seed=0)
    clients = fl.localise(digits, partition)
    for (x, y), indices in zip(clients, partition, strict=True):
        np.testing.assert_array_equal(x, digits.x_train[indices])
        np.testing.assert_array_equal(y, digits.y_train[indices])
        assert not np.shares_memory(x, digits.x_train)


def test_digits_are_scaled_and_stratified(digits: fl.Dataset) -> None:
    assert (digits.x_train.shape, digits.x_test.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (digits.x_train.dtype, digits.y_train.dtype, digits.classes) == (np.float32, np.int32, 10)
    assert (digits.x_train.min(), digits.x_train.max()) == (0.0, 1.0)
    train, test = (np.bincount(y) / len(y) for y in (digits.y_train, digits.y_test))
    assert np.abs(train - test).max() < 0.005
    assert not np.array_equal(fl.digits(seed=1).y_test, digits.y_test)


def test_breast_cancer_is_standardised_by_its_training_part() -> None:
    cancer = fl.breast_cancer()
    assert (cancer.x_train.shape, cancer.x_test.shape, cancer.classes) == ((455, 30), (114, 30), 2)
    np.testing.assert_allclose(cancer.x_train.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(cancer.x_train.std(axis=0), 1, atol=1e-6)
    assert np.abs(cancer.x_test.mean(axis=0)).max() > 1e-3


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def idx_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        f"{part}-{kind}": idx(array)
        for part, examples in (("train", 30), ("t10k", 10))
        for kind, array in (
            ("images-idx3-ubyte", rng.integers(0, 256, (examples, 28, 28)).astype(np.uint8)),
            ("labels-idx1-ubyte", rng.integers(0, 10, examples).astype(np.uint8)),
        )
    }


@pytest.mark.parametrize("gzipped", [False, True])
def test_mnist_from_idx_files(idx_files, tmp_path, gzipped: bool) -> None:
    for name, content in idx_files.items():
        (tmp_path / (f"{name}.gz" if gzipped else name)).write_bytes(gzip.compress(content) if gzipped else content)
    mnist = fl.mnist(tmp_path)
    assert (mnist.x_train.shape, mnist.x_test.shape, mnist.classes) == ((30, 28, 28, 1), (10, 28, 28, 1), 10)
    assert (mnist.x_train.dtype, mnist.y_train.dtype) == (np.float32, np.int32)
    assert mnist.x_train.tobytes() == (read(idx_files, "train-images-idx3-ubyte") / np.float32(255)).tobytes()
    np.testing.assert_array_equal(mnist.y_test, read(idx_files, "t10k-labels-idx1-ubyte"))


def read(files: dict[str, bytes], name: str) -> np.ndarray:
    header = 16 if "idx3" in name else 8
    return np.frombuffer(files[name][header:], np.uint8).reshape((-1, 28, 28) if "idx3" in name else -1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda content: b"", "no header"),
        (lambda content: content[:10], "no header"),
        (lambda content: b"\0\0\x0d" + content[3:], "no header"),
        (lambda content: b"\0\1" + content[2:], "no header"),
        (lambda content: content[:-1], r"shape \(4, 3\) needs 12 bytes, the file has 11"),
        (lambda content: content + b"\0", r"shape \(4, 3\) needs 12 bytes, the file has 13"),
        (lambda content: content[:4] + b"\xff" * 4 + content[8:], "the file has 12"),
        (lambda content: gzip.compress(content)[:-9], "cannot be read"),
        (lambda content: gzip.compress(content) + b"trailing", "cannot be read"),
    ],
)
def test_bad_idx_files_are_refused_by_name(tmp_path, change, reason) -> None:
    path = tmp_path / "bad-idx"
    content = idx(np.arange(12, dtype=np.uint8).reshape(4, 3))
    path.write_bytes(content)
    np.testing.assert_array_equal(read_idx(path), np.arange(12).reshape(4, 3))
    path.write_bytes(change(content))
    with pytest.raises(fl.DataError, match=reason) as raised:
        read_idx(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("train-images-idx3-ubyte", np.zeros((30, 28), np.uint8)),
        ("t10k-images-idx3-ubyte", np.zeros((10, 28, 27), np.uint8)),
        ("train-labels-idx1-ubyte", np.zeros(29, np.uint8)),
        ("t10k-labels-idx1-ubyte", np.full(10, 10, np.uint8)),
    ],
)
def test_idx_files_that_are_not_mnist_are_refused_by_name(idx_files, tmp_path, name, array) -> None:
    for file, content in (idx_files | {name: idx(array)}).items():
        (tmp_path / file).write_bytes(content)
    with pytest.raises(fl.DataError, match=name):
        fl.mnist(tmp_path)


def test_missing_idx_file_is_named(tmp_path) -> None:
    with pytest.raises(fl.DataError, match=r"train-images-idx3-ubyte.gz: no such file"):
        fl.mnist(tmp_path)


def test_mnist_from_the_cache_of_keras(tmp_path, monkeypatch, idx_files) -> None:
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(fl.DataError, match=r"mnist\.npz: no such file"):
        fl.mnist()
    cache = tmp_path / "datasets" / "mnist.npz"
    cache.parent.mkdir()
    cache.write_bytes(b"PK\3\4 not a zip file")
    with pytest.raises(fl.DataError, match="not the archive Keras caches"):
        fl.mnist()
    np.savez(cache, x_train=np.array([object()]), y_train=np.array([object()]))
    with pytest.raises(fl.DataError, match="not the archive Keras caches"):
        fl.mnist()
    kinds = {"x": "images-idx3-ubyte", "y": "labels-idx1-ubyte"}
    parts = {"train": "train", "test": "t10k"}
    np.savez(cache, **{f"{x}_{part}": read(idx_files, f"{parts[part]}-{kinds[x]}") for x in "xy" for part in parts})
    assert fl.mnist().x_train.shape == (30, 28, 28, 1)
