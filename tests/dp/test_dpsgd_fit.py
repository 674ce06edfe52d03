"""`make_private` as a drop-in: fit, evaluate, weights, what an accountant reads, and what it refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from numpy.typing import NDArray

from secureagg.dp.dp_events import BatchSampling, DpSgd
from secureagg.dp.dpsgd import FixedSizeBatches, PoissonBatches, PrivateModel, make_private
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

L = keras.layers
RNG = np.random.default_rng(9)
X = RNG.normal(size=(512, 6)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0).astype(np.int32)
STREAM = b"fits of DP-SGD, one fixed seed.."[:32]


def plain() -> Any:
    keras.utils.set_random_seed(3)
    return keras.Sequential([keras.Input((6,)), L.Dense(8, activation="relu"), L.Dense(2, activation="softmax")])


def private(sampling: BatchSampling = BatchSampling.FIXED_SIZE, batch: float = 64, noise: float = 0.5) -> PrivateModel:
    made = make_private(plain(), 1.0, noise, batch, sampling, stream=SecretStream(STREAM))
    made.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return made


@pytest.mark.parametrize("sampling", BatchSampling)
def test_fit_trains_and_records_what_an_accountant_needs(sampling: BatchSampling) -> None:
    model = private(sampling)
    before = model.evaluate(X, Y, verbose=0, return_dict=True)
    history = model.fit(X, Y, epochs=6, verbose=0, validation_data=(X, Y)).history
    after = model.evaluate(X, Y, verbose=0, return_dict=True)
    assert after["accuracy"] > 0.9 and after["loss"] < before["loss"]
    assert history["accuracy"][-1] > 0.85 and history["val_accuracy"][-1] == pytest.approx(after["accuracy"])
    assert model.steps == 6 * 8
    assert model.passes == (6 if sampling is BatchSampling.FIXED_SIZE else 0)
    assert model.nonfinite_examples == 0
    assert (model.l2_clip, model.noise_multiplier, model.expected_batch, model.sampling) == (1.0, 0.5, 64, sampling)


def test_without_noise_and_clipping_it_is_the_plain_step() -> None:
    reference = plain()
    reference.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    made = make_private(plain(), 1e6, 0.0, 64, BatchSampling.FIXED_SIZE)
    made.compile(keras.optimizers.SGD(0.5), "sparse_categorical_crossentropy", metrics=["accuracy"])
    for start in range(0, 512, 64):
        rows = slice(start, start + 64)
        ours = made.train_on_batch(X[rows], Y[rows], return_dict=True)
        theirs = reference.train_on_batch(X[rows], Y[rows], return_dict=True)
        assert ours == pytest.approx(theirs, rel=1e-5)
    for one, other in zip(made.get_weights(), reference.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_loss_and_metrics_leave_padding_out() -> None:
    model = private(BatchSampling.POISSON)
    x, y, mask = np.zeros((96, 6), np.float32), np.zeros(96, np.int32), np.zeros(96, np.float32)
    x[:50], y[:50], mask[:50] = X[:50], Y[:50], 1
    expected = model.evaluate(X[:50], Y[:50], batch_size=50, verbose=0, return_dict=True)
    model.reset_metrics()
    found = model.train_on_batch(x, y, sample_weight=mask, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-5)


def test_an_empty_batch_is_noise_alone() -> None:
    model = private(BatchSampling.POISSON)
    before = model.get_weights()
    zeros = np.zeros(96, np.float32)
    model.train_on_batch(np.zeros((96, 6), np.float32), zeros.astype(np.int32), sample_weight=zeros)
    moved = np.concatenate([(a - b).ravel() for a, b in zip(model.get_weights(), before, strict=True)])
    assert np.isfinite(moved).all() and 0.5 * 0.5 / 64 / 1.5 < moved.std() < 0.5 * 0.5 / 64 * 1.5
    assert model.steps == 1


def test_the_weights_are_those_of_the_model_given(tmp_path: Path) -> None:
    given = plain()
    made = make_private(given, 1.0, 0.5, 64, BatchSampling.FIXED_SIZE)
    assert all(a is b for a, b in zip(made.weights, given.weights, strict=True))
    made.compile("sgd", "sparse_categorical_crossentropy")
    made.fit(X, Y, verbose=0)
    values = [value.copy() for value in made.get_weights()]
    made.save_weights(tmp_path / "a.weights.h5")
    other = plain()
    other.load_weights(tmp_path / "a.weights.h5")
    given.save_weights(tmp_path / "b.weights.h5")
    made.set_weights([np.zeros_like(value) for value in values])
    made.load_weights(tmp_path / "b.weights.h5")
    made.save(tmp_path / "c.keras")
    loaded = keras.models.load_model(tmp_path / "c.keras")
    for model in (other, made, given, loaded):
        assert type(model) is not PrivateModel or model is made
        assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), values, strict=True))


def test_no_batch_is_traced_anew() -> None:
    model = private(BatchSampling.POISSON)
    traces = []
    step = model.train_step
    object.__setattr__(model, "train_step", lambda data: (traces.append(1), step(data))[1])
    model.fit(X, Y, epochs=2, verbose=0)
    assert len(traces) <= 2  # TensorFlow traces once more what creates variables, here the metrics'
    model.fit(X, Y, epochs=2, verbose=0)
    assert len(traces) <= 2


def test_fit_takes_the_samplers_themselves() -> None:
    poisson, fixed = private(BatchSampling.POISSON), private(BatchSampling.FIXED_SIZE)
    poisson.fit(PoissonBatches(X, Y, 64, capacity=120), verbose=0)
    fixed.fit(FixedSizeBatches(X[:500], Y[:500], 64), verbose=0)
    assert (poisson.steps, fixed.steps) == (8, 7)


class Stop(keras.callbacks.Callback):  # type: ignore[misc]
    """Ends the training within an epoch."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__()
        self.at = epoch, batch

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.model.stop_training = (self.epoch, batch) == self.at


@pytest.mark.parametrize("reused", [True, False])
def test_passes_are_the_most_that_an_example_is_used(reused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every epoch that was begun is one permutation, and no example is in more batches than there are passes."""
    numbered, labels = np.zeros((60, 6), np.float32), np.zeros(60, np.int32)
    numbered[:, 0] = np.arange(60)
    model = private(BatchSampling.FIXED_SIZE, 10)
    seen: list[NDArray[np.int64]] = []
    checks = model._batch_checks

    def noting(x: Any, mask: Any) -> list[Any]:
        return [*checks(x, mask), tf.numpy_function(lambda rows: seen.append(rows[:, 0].astype(int)), [x], [])]

    monkeypatch.setattr(model, "_batch_checks", noting)
    batches = FixedSizeBatches(numbered, labels, 10)
    for callbacks in ([], [Stop(0, 2)], [Stop(1, 0)], [Stop(2, 4)]):
        given = (batches,) if reused else (numbered, labels)
        model.fit(*given, epochs=3, verbose=0, callbacks=callbacks)
    assert model.steps == len(seen) == 18 + 3 + 7 + 17
    assert model.passes == 3 + 1 + 2 + 3
    start = 0
    for count in (6, 6, 6, 3, 6, 1, 6, 6, 5):
        assert len(np.unique(np.concatenate(seen[start : start + count]))) == 10 * count
        start += count
    uses = np.bincount(np.concatenate(seen), minlength=60)
    assert uses.max() <= model.passes
    fixed = {"relation": Relation.ZERO_OUT, "sampling": BatchSampling.FIXED_SIZE, "passes": model.passes}
    event = DpSgd(noise_multiplier=0.5, expected_batch=10, examples=60, steps=model.steps, **fixed)  # type: ignore[arg-type]
    assert event.uses().times == 9


def test_a_batch_of_fixed_size_by_itself_is_a_pass() -> None:
    model = private()
    for _ in range(3):
        model.train_on_batch(X[:64], Y[:64])
    assert (model.steps, model.passes) == (3, 3)


@pytest.mark.parametrize("sampling", BatchSampling)
def test_refuses_epochs_that_are_no_passes(sampling: BatchSampling) -> None:
    model = private(sampling)
    keras.config.set_max_steps_per_epoch(2)
    try:
        with pytest.raises(ParameterError, match="cut epochs short"):
            model.fit(X, Y, verbose=0)
    finally:
        keras.config.set_max_steps_per_epoch(None)
    batches = (PoissonBatches if sampling is BatchSampling.POISSON else FixedSizeBatches)(X, Y, 64)
    batches.workers = 2
    with pytest.raises(ParameterError, match="workers"):
        model.fit(batches, verbose=0)
    assert (model.steps, model.passes) == (0, 0)


def test_two_models_of_one_stream_have_their_own_noise() -> None:
    stream = SecretStream(STREAM)
    one, other = (make_private(plain(), 1.0, 1.0, 64, BatchSampling.POISSON, stream=stream)._noise for _ in range(2))
    assert not np.array_equal(one.draw(), other.draw())


@pytest.mark.parametrize("name", ["l2_clip", "noise_multiplier", "expected_batch", "sampling", "steps", "passes"])
def test_what_the_noise_was_made_for_cannot_be_changed(name: str) -> None:
    model = private()
    before = getattr(model, name)
    with pytest.raises(AttributeError, match=name):
        setattr(model, name, 2.0)
    assert getattr(model, name) == before


def test_examples_that_are_not_finite_are_counted() -> None:
    x = X.copy()
    x[[3, 70]] = np.nan
    model = private()
    model.fit(x, Y, verbose=0)
    assert model.nonfinite_examples == 2
    assert all(np.isfinite(value).all() for value in model.get_weights())


FIXED, POISSON = BatchSampling.FIXED_SIZE, BatchSampling.POISSON
REFUSED: dict[str, tuple[BatchSampling, tuple[Any, ...], dict[str, Any]]] = {
    "fixed-size batches claimed to be Poisson": (POISSON, (FixedSizeBatches(X, Y, 64),), {}),
    "Poisson batches claimed to be of fixed size": (FIXED, (PoissonBatches(X, Y, 64),), {}),
    "another expected batch": (POISSON, (PoissonBatches(X, Y, 32),), {}),
    "another batch size": (FIXED, (X, Y, 32), {}),
    "more than there are": (FIXED, (X[:20], Y[:20]), {}),
    "batches of unknown sampling": (FIXED, (tf.data.Dataset.from_tensor_slices((X, Y)).batch(64),), {}),
    "weights": (FIXED, (X, Y), {"sample_weight": np.ones(512)}),
    "class weights": (FIXED, (X, Y), {"class_weight": {0: 2.0}}),
    "a split": (FIXED, (X, Y), {"validation_split": 0.5}),
    "part of an epoch": (FIXED, (X, Y), {"steps_per_epoch": 1}),
    "more than an epoch": (POISSON, (X, Y), {"steps_per_epoch": 9}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_fit_refuses(name: str) -> None:
    sampling, arguments, settings = REFUSED[name]
    model = private(sampling)
    with pytest.raises(ParameterError):
        model.fit(*arguments, verbose=0, **settings)
    assert model.steps == 0


def test_batches_of_another_size_or_without_mask_are_refused() -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match="must have expected_batch=64"):
        private().train_on_batch(X[:63], Y[:63])
    with pytest.raises(ParameterError, match="no mask"):
        private().train_on_batch(X[:64], Y[:64], sample_weight=np.ones(64))
    with pytest.raises(ParameterError, match=r"\(x, y, mask\)"):
        private(BatchSampling.POISSON).train_on_batch(X[:64], Y[:64])
    with pytest.raises(tf.errors.InvalidArgumentError, match="0 and 1 only"):
        private(BatchSampling.POISSON).train_on_batch(X[:64], Y[:64], sample_weight=np.full(64, 2.0))


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": keras.losses.MeanSquaredError(reduction="sum")},
        {"loss": "mse", "jit_compile": True},
        {"loss": "mse", "loss_weights": [2.0]},
        {"loss": None},
        {"loss": ["mse"]},
        {"loss": "mse", "optimizer": keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD())},
    ],
)
def test_compile_refuses(settings: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        make_private(plain(), 1.0, 1.0, 64, BatchSampling.POISSON).compile(**settings)


def test_refuses_to_go_on_with_other_trainable_weights() -> None:
    model = private()
    model.model.layers[0].trainable = False
    with pytest.raises(ParameterError, match="make it private anew"):
        model.fit(X, Y, verbose=0)


def test_refuses_a_fractional_fixed_batch() -> None:
    with pytest.raises(ParameterError, match="whole number"):
        private(BatchSampling.FIXED_SIZE, 64.5)


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_nothing_but_dpsgd_imports_tensorflow() -> None:
    check = "import sys, secureagg, secureagg.dp; print(sorted({'tensorflow', 'keras'} & set(sys.modules)))"
    assert run(check) == "[]"


@pytest.mark.parametrize("missing", ["tensorflow", "keras"])
def test_says_what_to_install(missing: str) -> None:
    code = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == {missing!r}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Absent())
from secureagg.errors import MissingExtraError
try:
    import secureagg.dp.dpsgd
except MissingExtraError as error:
    print(error)
"""
    assert run(code) == "tensorflow is not installed; run: pip install 'secureagg[tensorflow]'"
