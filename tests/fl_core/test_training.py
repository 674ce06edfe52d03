"""Keras training: order-independence bit for bit, one trace, Keras's own fit and evaluate as oracles."""

from __future__ import annotations

import random

import keras
import numpy as np
import pytest

import fl_core as fl


def same(a: fl.Weights, b: fl.Weights) -> bool:
    return [layer.tobytes() for layer in a] == [layer.tobytes() for layer in b]


def test_client_after_another_trains_as_if_alone(used_trainer, noisy_trainer, digits: fl.Dataset) -> None:
    """Adam and momentum keep state, Dropout draws, BatchNorm moves: nothing of client A may reach client B."""
    name, trainer = used_trainer
    weights = trainer.initial_weights(0)
    trainer.train(weights, digits.x_train[:150], digits.y_train[:150], seed=1)
    after = trainer.train(weights, digits.x_train[150:270], digits.y_train[150:270], seed=2)
    fresh = noisy_trainer(name, epochs=2)
    alone = fresh.train(weights, digits.x_train[150:270], digits.y_train[150:270], seed=2)
    assert same(after.update, alone.update)
    assert (after.loss, after.examples) == (alone.loss, 120)
    assert all(np.abs(layer).max() > 1e-4 for layer in after.update)  # the learning rate is still there


def test_sizes_and_last_batches_are_never_traced_anew(used_trainer, digits: fl.Dataset) -> None:
    _, trainer = used_trainer
    weights = trainer.initial_weights(0)
    trainer.train(weights, digits.x_train[:32], digits.y_train[:32], seed=0)
    trainer.evaluate(weights, digits.x_test, digits.y_test)
    steps = trainer._train_step, trainer._test_step
    traces = [step.experimental_get_tracing_count() for step in steps]
    for examples in (1, 2, 31, 33, 64, 100):
        labels = digits.y_train[:examples].astype(np.int64)
        trainer.train(weights, digits.x_train[:examples].astype(np.float64), labels, seed=0)
        trainer.evaluate(weights, digits.x_test[:examples], digits.y_test[:examples])
    assert [step.experimental_get_tracing_count() for step in steps] == traces
    assert traces[0] == 1


def test_seed_decides_shuffling_and_dropout(used_trainer, digits: fl.Dataset) -> None:
    _, trainer = used_trainer
    weights = trainer.initial_weights(0)

    def updates(examples: int) -> list[fl.Weights]:
        x, y = digits.x_train[:examples], digits.y_train[:examples]
        return [trainer.train(weights, x, y, seed).update for seed in (1, 2, 1)]

    for one, other, again in (updates(100), updates(1)):  # with one example there is only dropout to decide
        assert same(one, again)
        assert not same(one, other)


def test_weights_are_the_models_own(used_trainer) -> None:
    _, trainer = used_trainer
    weights = trainer.initial_weights(5)
    model = trainer.keras_model(weights)
    assert [variable.path.split("/")[-1] for variable in model.weights] == [
        *("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "kernel", "bias"),
    ]
    assert [(w.shape, w.dtype) for w in weights] == [(tuple(v.shape), v.dtype) for v in model.weights]
    assert same(weights, model.get_weights())
    assert trainer.trainable == (True, True, True, True, False, False, True, True)
    assert same(weights, trainer.initial_weights(5))
    assert not same(weights, trainer.initial_weights(6))


def test_other_generators_are_left_alone(used_trainer) -> None:
    _, trainer = used_trainer
    random.seed(1)
    np.random.seed(1)
    expected = random.Random(1).random(), np.random.RandomState(1).random()
    trainer.initial_weights(0)
    assert (random.random(), np.random.random()) == expected


def test_evaluate_is_what_keras_evaluates(used_trainer, digits: fl.Dataset) -> None:
    _, trainer = used_trainer
    weights = trainer.initial_weights(0)
    model = trainer.keras_model(weights)
    model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    expected = model.evaluate(digits.x_train, digits.y_train, verbose=0, return_dict=True)
    for _ in range(2):  # metrics start afresh
        assert trainer.evaluate(weights, digits.x_train, digits.y_train) == pytest.approx(expected, rel=1e-5)


def l2_model() -> keras.Model:
    layers = [keras.layers.Flatten(), keras.layers.Dense(10, "softmax", kernel_regularizer=keras.regularizers.L2(0.1))]
    return keras.Sequential([keras.Input((8, 8, 1)), *layers])


@pytest.mark.parametrize(
    "optimizer_fn",
    [
        lambda: keras.optimizers.Adam(0.01),
        lambda: keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5), momentum=0.9),
    ],
)
def test_training_is_what_keras_fits(optimizer_fn, digits: fl.Dataset) -> None:
    """In batches of everything, so that the order of examples does not matter."""
    trainer = fl.KerasTrainer(l2_model, optimizer_fn=optimizer_fn, epochs=4, batch_size=200)
    x, y = digits.x_train[:200], digits.y_train[:200]
    weights = trainer.initial_weights(0)
    trainer.train(weights, x[:50], y[:50], seed=9)
    trained = trainer.train(weights, x, y, seed=1)
    model = trainer.keras_model(weights)
    model.compile(optimizer_fn(), "sparse_categorical_crossentropy")
    history = model.fit(x, y, batch_size=200, epochs=4, verbose=0)
    for update, old, new in zip(trained.update, weights, model.get_weights(), strict=True):
        np.testing.assert_allclose(old + update, new, atol=1e-6)
    assert trained.loss == pytest.approx(history.history["loss"][-1], rel=1e-5)


@keras.saving.register_keras_serializable()
class Counting(keras.layers.Layer):
    """Adds the number of times it was called in training to its input."""

    def build(self, input_shape) -> None:
        self.calls = self.add_weight(shape=(), dtype="int32", initializer="zeros", trainable=False, name="calls")

    def call(self, x, training=False):
        if training:
            self.calls.assign_add(1)
        return x + keras.ops.cast(self.calls, x.dtype)


def test_integer_state_is_no_weight_and_starts_anew_for_each_client(digits: fl.Dataset) -> None:
    def model() -> keras.Model:
        return keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten(), Counting(), keras.layers.Dense(10)])

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    trainer = fl.KerasTrainer(model, loss=loss, optimizer_fn=lambda: keras.optimizers.SGD(0.01))
    weights = trainer.initial_weights(0)
    assert [layer.shape for layer in weights] == [(64, 10), (10,)]
    first, second = (trainer.train(weights, digits.x_train[:64], digits.y_train[:64], seed=1) for _ in range(2))
    assert same(first.update, second.update)


def test_divergence_has_its_own_error_without_values(digits: fl.Dataset) -> None:
    x, y = digits.x_train[:64].copy(), digits.y_train[:64]
    trainer = fl.KerasTrainer(l2_model, optimizer_fn=lambda: keras.optimizers.SGD(1e30), epochs=3)
    weights = trainer.initial_weights(0)
    with pytest.raises(fl.TrainingDivergedError, match=r"^loss not finite in epoch 1; lower the learning rate$"):
        trainer.train(weights, x, y, seed=0)
    last_step = fl.KerasTrainer(l2_model, optimizer_fn=lambda: keras.optimizers.SGD(3e38), batch_size=64)
    with pytest.raises(fl.TrainingDivergedError, match=r"^layer 0 not finite after training; lower"):
        last_step.train(weights, 100 * x, y, seed=0)


@pytest.mark.parametrize(
    ("change", "culprit"),
    [
        (lambda x, y: (x[..., 0], y), r"x has shape \(40, 8, 8\); the model takes \(n, 8, 8, 1\)"),
        (lambda x, y: (x[:0], y[:0]), "n ≥ 1"),
        (lambda x, y: (x, y[:-1]), "expected 40 integer labels"),
        (lambda x, y: (x, y.astype(float)), "y is float64"),
        (lambda x, y: (x, np.eye(10, dtype=int)[y]), r"of shape \(40, 10\)"),
        (lambda x, y: (x, y + 1), r"labels outside 0 … 9"),
        (lambda x, y: (x, y - 1), r"labels outside 0 … 9"),
    ],
)
def test_unfit_data_is_refused(used_trainer, digits: fl.Dataset, change, culprit) -> None:
    _, trainer = used_trainer
    x, y = change(digits.x_train[:40], digits.y_train[:40])
    with pytest.raises(fl.ParameterError, match=culprit):
        trainer.train(trainer.initial_weights(0), x, y, seed=0)
    with pytest.raises(fl.ParameterError, match=culprit):
        trainer.evaluate(trainer.initial_weights(0), x, y)


def two_inputs() -> keras.Model:
    inputs = [keras.Input((2,)), keras.Input((2,))]
    return keras.Model(inputs, keras.layers.Add()(inputs))


@pytest.mark.parametrize(
    ("build", "culprit"),
    [
        (lambda: fl.KerasTrainer(l2_model, epochs=0), "epochs=0"),
        (lambda: fl.KerasTrainer(l2_model, batch_size=0), "batch_size=0"),
        (lambda: fl.KerasTrainer(lambda: keras.Sequential([keras.layers.Dense(3)])), "built keras.Model"),
        (lambda: fl.KerasTrainer(two_inputs), "one input, one output"),
        (
            lambda: fl.KerasTrainer(
                lambda: keras.Sequential([keras.Input((2,)), keras.layers.Dense(2, dtype="bfloat16")])
            ),
            "numpy has no bfloat16",
        ),
    ],
)
def test_unfit_models_are_refused(build, culprit) -> None:
    with pytest.raises(fl.ParameterError, match=culprit):
        build()


def test_binary_classification_learns() -> None:
    cancer = fl.breast_cancer()
    trainer = fl.KerasTrainer(lambda: fl.mlp((30,), 2, hidden=(8,)), epochs=5)
    weights = trainer.initial_weights(0)
    before = trainer.evaluate(weights, cancer.x_test, cancer.y_test)
    trained = trainer.train(weights, cancer.x_train, cancer.y_train, seed=0)
    after = trainer.evaluate(
        [w + u for w, u in zip(weights, trained.update, strict=True)], cancer.x_test, cancer.y_test
    )
    assert after["accuracy"] >= 0.95
    assert after["loss"] < before["loss"] / 2


def test_description_tells_settings_apart_and_nothing_else(noisy_trainer) -> None:
    def described(**changes) -> dict[str, str]:
        return fl.KerasTrainer(lambda: fl.mlp((4,), 3), **changes).describe()

    def differing(other: dict[str, str]) -> set[str]:
        return {name for name, value in described().items() if other[name] != value}

    assert differing(described()) == set()
    assert differing(described(epochs=2)) == {"epochs"}
    assert differing(described(batch_size=8)) == {"batch_size"}
    assert differing(described(optimizer_fn=lambda: keras.optimizers.SGD(0.06, momentum=0.9))) == {"optimizer"}
    assert differing(described(loss=keras.losses.Poisson())) == {"loss"}
    assert differing(fl.KerasTrainer(lambda: fl.mlp((4,), 3, hidden=(31,))).describe()) == {"model"}
