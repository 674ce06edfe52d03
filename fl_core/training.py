"""Local training and evaluation of Keras 3 models on TensorFlow."""

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fl_core.aggregation import Weights
from fl_core.errors import ParameterError, TrainingDivergedError
from fl_core.extras import extra

__all__ = ["KerasTrainer", "LocalUpdate", "Trainer"]


@dataclass(frozen=True)
class LocalUpdate:
    """What local training gives: `update` = new - old weights, `loss` = the last epoch's mean over `examples`."""

    update: Weights
    examples: int
    loss: float


class Trainer(Protocol):
    """What the engine asks of a model and its training; everything is a function of the arguments alone."""

    @property
    def trainable(self) -> tuple[bool, ...]:
        """For each of the model's weights: does training follow a gradient there?"""

    def initial_weights(self, seed: int) -> Weights: ...

    def train(self, weights: Weights, x: NDArray[Any], y: NDArray[Any], seed: int) -> LocalUpdate: ...

    def evaluate(self, weights: Weights, x: NDArray[Any], y: NDArray[Any]) -> dict[str, float]: ...

    def describe(self) -> dict[str, str]:
        """The settings a saved run belongs to, by name."""


class KerasTrainer:
    """Trains any `keras.Model` of one input and one output on integer labels, one per example.

    `model_fn` returns the model, built (with a `keras.Input`); `optimizer_fn` the client's optimizer (SGD with
    learning rate 0.05 and momentum 0.9 if not given). `loss`, a name or a `keras.losses.Loss`, is by default the
    cross-entropy for the model's output: binary if it is one unit (a probability), else sparse categorical.
    `metrics` are what `keras.Model.compile` takes.

    Weights are `model.weights` that are floating point, in that order, with their shapes and dtypes: trainable
    ones and state such as BatchNorm's moving statistics, which the clients' mean update moves too. Integer state
    (counters, look-up tables) and the states of Keras's seed generators are not weights: the former keep the
    value `model_fn` gave them, the latter are set anew for every client.

    Guarantees: one model and one training step, traced once, serve all clients whatever their sizes. Results
    depend on the arguments of the call only, not on who was trained before, and repeat bit for bit on the same
    machine, TensorFlow and number of threads. To that end the constructor switches on TensorFlow's op
    determinism, which holds for the whole process. Randomness of the model must come from Keras layers' own seed
    generators, as in `Dropout`. Not for use by several threads at once.

    Raises: ParameterError, if the model or the data is not of this kind.
    """

    def __init__(
        self,
        model_fn: Callable[[], Any],
        *,
        optimizer_fn: Callable[[], Any] | None = None,
        loss: Any = None,
        metrics: Sequence[Any] = ("accuracy",),
        epochs: int = 1,
        batch_size: int = 32,
    ) -> None:
        if epochs < 1 or batch_size < 1:
            raise ParameterError(f"epochs={epochs}, batch_size={batch_size}: both must be ≥ 1")
        extra("tensorflow").config.experimental.enable_op_determinism()
        keras = extra("keras")
        if keras.backend.backend() != "tensorflow":
            raise ParameterError(f"KERAS_BACKEND={keras.backend.backend()}: set it to tensorflow")
        self.epochs = epochs
        self.batch_size = batch_size
        self._model_fn = model_fn
        with _seeded(0):  # the values do not matter, but a resumed process should build the very same model
            self._model = _built(model_fn)
        binary = self._model.output_shape[-1] == 1
        self._loss = loss or ("binary_crossentropy" if binary else "sparse_categorical_crossentropy")
        self._optimizer = optimizer_fn() if optimizer_fn else keras.optimizers.SGD(0.05, momentum=0.9)
        self._model.compile(optimizer=self._optimizer, loss=self._loss, metrics=list(metrics))
        # Right after build is the one moment the optimizer is as new. Zeroing its variables later would not do:
        # Keras 3 keeps the learning rate among them.
        self._optimizer.build(self._model.trainable_variables)
        self._fresh_optimizer = _values(self._optimizer.variables)
        self._variables = _float_weights(self._model)
        self._integers = [variable for variable in self._model.weights if not _is_float(variable)]
        self._fresh_integers = _values(self._integers)
        # `weights` leaves the seed generators out, `variables` has them.
        self._generators = [v for v in self._model.variables if v.path.endswith("seed_generator_state")]
        self._train_step, self._test_step = self._compiled_steps()

    @property
    def trainable(self) -> tuple[bool, ...]:
        trained = {id(variable) for variable in self._model.trainable_variables}
        return tuple(id(variable) in trained for variable in self._variables)

    @property
    def loss(self) -> Any:
        """What is minimised: the loss given, or the name of the default one."""
        return self._loss

    def initial_weights(self, seed: int) -> Weights:
        """The weights of a new model under Keras's global seed, which stays set; Python's and numpy's do not."""
        with _seeded(seed):
            return _values(_float_weights(_built(self._model_fn)))

    def keras_model(self, weights: Weights) -> Any:
        """A new `keras.Model` with these weights, for saving and serving."""
        model = _built(self._model_fn)
        _assign(_float_weights(model), weights)
        return model

    def train(self, weights: Weights, x: NDArray[Any], y: NDArray[Any], seed: int) -> LocalUpdate:
        """Trains `epochs` times over the examples, shuffled by `seed` each time; the last batch may be smaller.

        x: [n, …] as the model's input; y: integers[n], 0 … classes-1; n ≥ 1.
        Raises: TrainingDivergedError if the loss or a weight is no longer finite.
        """
        self._check_examples(x, y)
        rng = np.random.default_rng(seed)
        self._reset(weights, rng)
        loss = float("nan")
        for epoch in range(self.epochs):
            order = rng.permutation(len(x))
            loss = self._mean_loss(self._train_step, x[order], y[order], self.batch_size)
            if not np.isfinite(loss):
                raise TrainingDivergedError(f"loss not finite in epoch {epoch + 1}; lower the learning rate")
        update = [new - old for new, old in zip(_values(self._variables), weights, strict=True)]
        for index, layer in enumerate(update):
            if not np.isfinite(layer).all():
                raise TrainingDivergedError(f"layer {index} not finite after training; lower the learning rate")
        return LocalUpdate(update, len(x), loss)

    def evaluate(self, weights: Weights, x: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
        """The loss and the metrics, by Keras's names for them."""
        self._check_examples(x, y)
        _assign(self._variables, weights)
        self._model.reset_metrics()
        loss = self._mean_loss(self._test_step, x, y, _TEST_BATCH_SIZE)
        results = self._model.get_metrics_result()
        return {name: float(value) for name, value in results.items()} | {"loss": loss}

    def describe(self) -> dict[str, str]:
        layers = "".join(map(_settings, self._model.layers))
        return {
            "model": hashlib.sha256(layers.encode()).hexdigest()[:16],
            "optimizer": _settings(self._optimizer),
            "loss": self._loss if isinstance(self._loss, str) else _settings(self._loss),
            "epochs": str(self.epochs),
            "batch_size": str(self.batch_size),
        }

    def _compiled_steps(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        tf = extra("tensorflow")
        model, optimizer = self._model, self._optimizer
        signature = [
            tf.TensorSpec([None, *model.input_shape[1:]], model.inputs[0].dtype),
            tf.TensorSpec([None], tf.int32),
        ]

        def train_step(x: Any, y: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = model.compute_loss(x=x, y=y, y_pred=model(x, training=True), training=True)
                scaled = optimizer.scale_loss(loss)
            variables = model.trainable_variables
            optimizer.apply(tape.gradient(scaled, variables), variables)
            return loss

        def test_step(x: Any, y: Any) -> Any:
            predictions = model(x, training=False)
            model.compute_metrics(x, y, predictions)
            return model.compute_loss(x=x, y=y, y_pred=predictions, training=False)

        # The open batch dimension is what keeps other sizes from being traced anew.
        compiled = tf.function(input_signature=signature)
        return compiled(train_step), compiled(test_step)

    def _mean_loss(self, step: Callable[..., Any], x: NDArray[Any], y: NDArray[Any], batch_size: int) -> float:
        y = y.astype(np.int32)
        losses, sizes = [], []
        for start in range(0, len(x), batch_size):
            batch = slice(start, start + batch_size)
            losses.append(step(x[batch], y[batch]))
            sizes.append(len(y[batch]))
        return float(np.average(np.array(losses, np.float64), weights=sizes))

    def _reset(self, weights: Weights, rng: np.random.Generator) -> None:
        _assign(self._variables, weights)
        _assign(self._integers, self._fresh_integers)
        _assign(self._optimizer.variables, self._fresh_optimizer)
        for generator in self._generators:
            generator.assign([int(rng.integers(2**31)), 0])

    def _check_examples(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        expected = self._model.input_shape[1:]
        if len(x) == 0 or x.shape[1:] != expected:
            shape = ", ".join(map(str, ("n", *expected)))
            raise ParameterError(f"x has shape {x.shape}; the model takes ({shape}), n ≥ 1")
        if y.shape != x.shape[:1] or y.dtype.kind not in "iu":
            raise ParameterError(f"y is {y.dtype} of shape {y.shape}; expected {len(x)} integer labels")
        classes = max(2, self._model.output_shape[-1])
        if y.min() < 0 or y.max() >= classes:
            raise ParameterError(f"y has labels outside 0 … {classes - 1}, those of the model's output")


_TEST_BATCH_SIZE = 1024  # a matter of memory alone


def _built(model_fn: Callable[[], Any]) -> Any:
    model = model_fn()
    if not model.built or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ParameterError("model_fn must return a built keras.Model (with keras.Input), one input, one output")
    return model


def _float_weights(model: Any) -> list[Any]:
    for variable in model.weights:
        if str(variable.dtype) == "bfloat16":
            raise ParameterError(f"{variable.path}: numpy has no bfloat16; use the dtype policy mixed_bfloat16")
    return [variable for variable in model.weights if _is_float(variable)]


def _settings(keras_object: Any) -> str:
    """Type and configuration, without the name, which counts the objects made before."""
    config = {key: value for key, value in keras_object.get_config().items() if key != "name"}
    return type(keras_object).__name__ + json.dumps(config, default=str)


def _is_float(variable: Any) -> bool:
    return str(variable.dtype).startswith("float")


def _values(variables: Sequence[Any]) -> Weights:
    return [variable.numpy().copy() for variable in variables]


def _assign(variables: Sequence[Any], values: Weights) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Keras's initialisers draw their seeds from Python's global generator, so that is seeded, then put back."""
    state, numpy_state = random.getstate(), np.random.get_state()
    extra("keras").utils.set_random_seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(state)
        np.random.set_state(numpy_state)
