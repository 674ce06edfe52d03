"""Training by DP-SGD for the engine in `fl_core`, whose trainers know nothing of privacy.

Importing this module imports TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fl_core.aggregation import Weights
from fl_core.training import KerasTrainer, LocalUpdate
from secureagg.adapters.fl_core_ledgers import DpSgdTerms
from secureagg.dp.dp_events import MAX_TRUNCATION_PROBABILITY
from secureagg.dp.dpsgd import PoissonBatches, private_gradients
from secureagg.dp.dpsgd.backend import tf
from secureagg.errors import ParameterError

__all__ = ["PrivateTrainer", "Tensor"]

Tensor = Any


class PrivateTrainer:
    """A `fl_core.Trainer` of the same model and loss as `inner`, which evaluates it, by DP-SGD on Poisson batches.

    A client of n examples takes `terms.steps` steps with `terms.noise_multiplier(n)`, so that all its rounds together
    cost at most the terms' ε. Batches and noise come from the operating system: `train` does not repeat, whatever its
    seed. The loss it returns is NaN: no noise covers the clients' own losses, so none leaves them.

    Requires: all of the model's weights are trained. Raises: ParameterError for a layer DP-SGD cannot clip by example.
    """

    def __init__(self, inner: KerasTrainer, optimizer_fn: Callable[[], Any], terms: DpSgdTerms) -> None:
        if not all(inner.trainable):
            raise ParameterError("weights that no gradient trains, such as BatchNormalization's, DP-SGD cannot cover")
        self._inner = inner
        self._terms = terms
        self._model = inner.keras_model(inner.initial_weights(0))
        self._optimizer = optimizer_fn()
        self._optimizer.build(self._model.trainable_variables)
        self._fresh_optimizer = [variable.numpy().copy() for variable in self._optimizer.variables]
        self._loss = inner.loss
        self._steps: dict[tuple[float, float], Callable[..., None]] = {}

    @property
    def trainable(self) -> tuple[bool, ...]:
        """All of them."""
        return self._inner.trainable

    def initial_weights(self, seed: int) -> Weights:
        """As `inner`'s."""
        return self._inner.initial_weights(seed)

    def evaluate(self, weights: Weights, x: NDArray[Any], y: NDArray[Any]) -> dict[str, float]:
        """As `inner`'s."""
        return self._inner.evaluate(weights, x, y)

    def describe(self) -> dict[str, str]:
        """Return `inner`'s settings, the terms and the optimizer's settings."""
        settings = {name: value for name, value in self._optimizer.get_config().items() if name != "name"}
        optimizer = type(self._optimizer).__name__ + json.dumps(settings, default=str)
        return self._inner.describe() | {"dpsgd": repr(self._terms), "dpsgd_optimizer": optimizer}

    def train(self, weights: Weights, x: NDArray[Any], y: NDArray[Any], seed: int) -> LocalUpdate:
        """Train on x: [n, …] and y: integers[n].

        An update that is not finite is returned too. That training diverged depends on the examples: it may be told
        once the round is debited, and every aggregation refuses such an update when it is contributed.
        """
        expected = self._terms.expected_batch(len(x))
        step = self._step(self._terms.noise_multiplier(len(x)), expected)
        for variable, value in zip(self._model.trainable_variables, weights, strict=True):
            variable.assign(value)
        for variable, value in zip(self._optimizer.variables, self._fresh_optimizer, strict=True):
            variable.assign(value)
        labels = y.astype(np.int32)
        batches = PoissonBatches(x, labels if self._model.output_shape[-1] > 1 else labels[:, None], expected)
        assert batches.truncation_probability <= MAX_TRUNCATION_PROBABILITY
        for index in range(self._terms.steps):
            step(*map(tf.convert_to_tensor, batches[index]))
        update = [
            variable.numpy() - old for variable, old in zip(self._model.trainable_variables, weights, strict=True)
        ]
        return LocalUpdate(update, len(x), float("nan"))

    def gradients(
        self, x: Tensor, y: Tensor, mask: Tensor, noise_multiplier: float, expected_batch: float
    ) -> list[Tensor]:
        """Return (Σ clipped gradients + noise) / expected_batch, by trainable variable; traced once for each noise."""
        found = private_gradients(
            self._model,
            self._loss,
            x,
            y,
            mask,
            l2_clip=self._terms.l2_clip,
            noise_multiplier=noise_multiplier,
            expected_batch=expected_batch,
        )
        return found.gradients

    def _step(self, noise_multiplier: float, expected_batch: float) -> Callable[..., None]:
        """Return the compiled step: its noise is fixed as it is traced, so that clients of one size share one."""
        key = (noise_multiplier, expected_batch)
        if key not in self._steps:
            variables, optimizer = self._model.trainable_variables, self._optimizer

            @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
            def step(x: Tensor, y: Tensor, mask: Tensor) -> None:
                optimizer.apply(self.gradients(x, y, mask, noise_multiplier, expected_batch), variables)

            self._steps[key] = tf.function(step, reduce_retracing=True)
        return self._steps[key]
