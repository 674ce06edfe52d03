"""Real data sets, and how their training examples are spread over clients."""

import gzip
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_core.errors import DataError, ParameterError
from fl_core.extras import extra

__all__ = [
    "Dataset",
    "LocalData",
    "Partition",
    "breast_cancer",
    "digits",
    "dirichlet",
    "iid",
    "localise",
    "mnist",
    "read_idx",
    "shards",
]

LocalData = tuple[NDArray[Any], NDArray[Any]]
"""One client's examples and their labels."""

Partition = list[NDArray[np.int64]]
"""One ascending array of training-example indices per client; together every index exactly once."""

_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


@dataclass(frozen=True)
class Dataset:
    """`x_*`: float32[n, …]; `y_*`: int32[n], labels 0 … classes-1."""

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    classes: int


def localise(dataset: Dataset, partition: Partition) -> list[LocalData]:
    """Each client's own copy of its part of the training set; the position is the client's id."""
    return [(dataset.x_train[indices], dataset.y_train[indices]) for indices in partition]


def digits(seed: int = 0, test_fraction: float = 0.2) -> Dataset:
    """scikit-learn's 1797 handwritten digits as float32[n, 8, 8, 1] in [0, 1]; stratified split by `seed`."""
    bunch = extra("sklearn.datasets").load_digits()
    images = (bunch.images[..., None] / 16.0).astype(np.float32)  # the scans hold 0 … 16
    return Dataset("digits", *_split(images, bunch.target, seed, test_fraction), classes=10)


def breast_cancer(seed: int = 0, test_fraction: float = 0.2) -> Dataset:
    """scikit-learn's 569 Wisconsin diagnoses as float32[n, 30], two classes; stratified split by `seed`.

    Each feature is standardised with the mean and deviation of the training part alone.
    """
    bunch = extra("sklearn.datasets").load_breast_cancer()
    x_train, y_train, x_test, y_test = _split(bunch.data, bunch.target, seed, test_fraction)
    centre, spread = x_train.mean(axis=0), x_train.std(axis=0)
    x_train, x_test = (((x - centre) / spread).astype(np.float32) for x in (x_train, x_test))
    return Dataset("breast_cancer", x_train, y_train, x_test, y_test, classes=2)


def mnist(directory: str | os.PathLike[str] | None = None) -> Dataset:
    """MNIST as float32[n, 28, 28, 1] in [0, 1], from a directory of its four IDX files, each gzipped or not.

    Without a directory: from the file Keras caches, `$KERAS_HOME/datasets/mnist.npz` (`~/.keras` by default).
    Nothing is downloaded. Raises: DataError naming the file.
    """
    if directory is None:
        cache = _keras_cache()
        return _mnist_dataset([cache] * 4, _read_npz(cache))
    paths = [_idx_file(Path(directory), name) for name in _MNIST_FILES]
    return _mnist_dataset(paths, [read_idx(path) for path in paths])


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes, gzipped or not (by its content, not its name).

    Format (yann.lecun.com/exdb/mnist): 0 · 0 · type 0x08 · dimensions u8 · each dimension u32 big-endian ·
    values in C order. Raises: DataError naming the file if anything is missing, follows, or is of another type.
    """
    try:
        content = path.read_bytes()
        if content.startswith(b"\x1f\x8b"):
            content = gzip.decompress(content)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    if not content.startswith(b"\0\0\x08") or len(content) < 4 or len(content) < (start := 4 + 4 * content[3]):
        raise DataError(f"{path}: no header of an IDX file of unsigned bytes")
    shape = struct.unpack_from(f">{content[3]}I", content, 4)
    if len(content) - start != math.prod(shape):
        raise DataError(f"{path}: shape {shape} needs {math.prod(shape)} bytes, the file has {len(content) - start}")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def iid(labels: NDArray[Any], clients: int, seed: int) -> Partition:
    """Examples at random, client sizes equal to within one."""
    _check_enough(len(labels), clients, min_examples=1)
    order = np.random.default_rng(seed).permutation(len(labels))
    return [np.sort(part) for part in np.array_split(order, clients)]


def dirichlet(labels: NDArray[Any], clients: int, alpha: float, seed: int, min_examples: int = 1) -> Partition:
    """Every class spread over the clients by its own draw from Dirichlet(alpha): small alpha, much skew.

    After Hsu et al. 2019 (arXiv:1909.06335) as commonly implemented, by class. Where others draw again until
    every client has `min_examples`, here the largest client gives random examples away, which always ends.
    """
    if not 0 < alpha < float("inf"):
        raise ParameterError(f"alpha={alpha}: must be finite and > 0")
    _check_enough(len(labels), clients, min_examples)
    rng = np.random.default_rng(seed)
    parts: list[list[int]] = [[] for _ in range(clients)]
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        shares = rng.dirichlet(np.full(clients, alpha))
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(int)
        for part, indices in zip(parts, np.split(members, cuts), strict=True):
            part.extend(indices.tolist())
    for part in parts:
        while len(part) < min_examples:
            largest = max(parts, key=len)
            part.append(largest.pop(int(rng.integers(len(largest)))))
    return [np.sort(np.array(part, np.int64)) for part in parts]


def shards(labels: NDArray[Any], clients: int, labels_per_client: int, seed: int) -> Partition:
    """Each client holds `labels_per_client` shards of one label each, so at most that many labels.

    McMahan et al. 2017 (arXiv:1602.05629) cut the sorted examples into equal shards, which may straddle two
    labels; here every label is cut by itself, into a number of shards that follows its size.
    Raises: ParameterError if there are fewer shards than labels, or than can be filled.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    total = clients * labels_per_client
    if not len(classes) <= total <= len(labels):
        raise ParameterError(
            f"clients · labels_per_client = {total}: must be at least the {len(classes)} labels "
            f"and at most the {len(labels)} examples"
        )
    counts = np.ones(len(classes), np.int64)
    for _ in range(total - len(classes)):  # the next shard goes to the label whose shards are largest
        counts[np.argmax(sizes / counts)] += 1
    rng = np.random.default_rng(seed)
    pieces: Partition = []
    for label, count in zip(classes, counts, strict=True):
        pieces.extend(np.array_split(rng.permutation(np.flatnonzero(labels == label)), int(count)))
    hands = rng.permutation(total).reshape(clients, labels_per_client)
    return [np.sort(np.concatenate([pieces[piece] for piece in hand])) for hand in hands]


def _check_enough(examples: int, clients: int, min_examples: int) -> None:
    if clients < 1 or min_examples < 1 or clients * min_examples > examples:
        raise ParameterError(
            f"clients={clients}, min_examples={min_examples}: both must be ≥ 1 and "
            f"their product at most the {examples} examples"
        )


def _split(
    x: NDArray[Any], y: NDArray[Any], seed: int, test_fraction: float
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    x_train, x_test, y_train, y_test = extra("sklearn.model_selection").train_test_split(
        x, y.astype(np.int32), test_size=test_fraction, stratify=y, random_state=seed
    )
    return x_train, y_train, x_test, y_test


def _idx_file(folder: Path, name: str) -> Path:
    """`name` in `folder`, else its gzipped form; the latter also if neither exists, for the error to name."""
    plain = folder / name
    return plain if plain.exists() else folder / f"{name}.gz"


def _keras_cache() -> Path:
    return Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets" / "mnist.npz"


def _read_npz(path: Path) -> list[NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in ("x_train", "y_train", "x_test", "y_test")]
    except FileNotFoundError as error:
        raise DataError(
            f"{path}: no such file; give the directory of MNIST's IDX files, "
            "or let keras.datasets.mnist.load_data() download it"
        ) from error
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path}: not the archive Keras caches: {error}") from error


def _mnist_dataset(paths: Sequence[Path], arrays: Sequence[NDArray[Any]]) -> Dataset:
    """`paths` and `arrays`: training images, their labels, test images, their labels."""
    for image, label in ((0, 1), (2, 3)):
        x, y = arrays[image], arrays[label]
        if x.shape[1:] != (28, 28) or x.dtype != np.uint8 or len(x) == 0:
            raise DataError(f"{paths[image]}: {x.dtype} of shape {x.shape}, MNIST's images are uint8 (n, 28, 28)")
        if y.shape != x.shape[:1] or y.dtype != np.uint8 or y.max() > 9:
            raise DataError(f"{paths[label]}: not {len(x)} uint8 labels 0 … 9, one for each image")
    x_train, x_test = (arrays[i][..., None] / np.float32(255) for i in (0, 2))
    y_train, y_test = (arrays[i].astype(np.int32) for i in (1, 3))
    return Dataset("mnist", x_train, y_train, x_test, y_test, classes=10)
