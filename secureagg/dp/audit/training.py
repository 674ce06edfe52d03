"""DP-SGD to audit, as `secureagg.dp.dpsgd` ships it or with a seeded bug.

A canary is an example whose gradient is of one weight alone ("Dirac canary", Nasr et al. 2023) and ten times too
long, of alternating sign from step to step; one that is out has the gradient zero in its place. Every step's weights
are seen, as DP-SGD's guarantee allows. In one training all canaries are together. Alone, each is trained on by itself,
beside `_OTHERS` examples that it opposes, or none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_whole
from secureagg.dp.audit.curves import Curves, GaussianCurves, SubsampledGaussianCurves, gaussian_mu
from secureagg.dp.audit.run import Claim
from secureagg.dp.dp_events import BatchSampling
from secureagg.dp.dpsgd import PoissonBatches, PrivateModel, clipped_sums, make_private, private_gradients
from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.gradients import noised_mean
from secureagg.dp.dpsgd.noise import GaussianNoise
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError
from secureagg.events import Event, Observer
from secureagg.ring.xof import KEY_BYTES, SecretStream

__all__ = ["IN_SHARE", "LonelySteps", "PrivateTraining", "TrainingBug"]

_CLIP, _TOO_LONG, _UNCLIPPED = 1.0, 10.0, 1e6
_OTHERS = 16
IN_SHARE = 0.75  # of guesses: with sampling, a canary that is in may still leave no trace


class TrainingBug(StrEnum):
    """What can be wrong with DP-SGD."""

    HALF_NOISE = "half-noise"
    LESS_NOISE = "less-noise"
    NOISE_ONCE = "noise-once"
    SAME_SEED = "same-seed"
    NO_CLIP = "no-clip"
    CLIP_SUM = "clip-sum"
    CLIP_AFTER_NOISE = "clip-after-noise"
    NOISE_OVER_COUNT = "noise-over-count"
    ACTUAL_COUNT = "actual-count"
    NO_NOISE_ALONE = "no-noise-alone"
    NO_SAMPLING = "no-sampling"
    WRONG_RELATION = "wrong-relation"

    @property
    def alone(self) -> bool:
        """Whether it shows only where each canary is trained on by itself."""
        return self in (TrainingBug.LESS_NOISE, TrainingBug.ACTUAL_COUNT, TrainingBug.NO_NOISE_ALONE)


@dataclass
class PrivateTraining:
    """A `Mechanism`: `steps` steps of `fit` with Poisson sampling at `rate`, on as many examples as canaries.

    observe: is told of every step. `WRONG_RELATION` is without sampling, for which the curve of replacing one is known.
    """

    claim: Claim
    bug: TrainingBug | None = None
    rate: float = 0.5
    steps: int = 8
    stream: SecretStream = field(default_factory=SecretStream, repr=False)
    observe: Observer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, 2, 1000)
        if self.bug is not None and self.bug.alone:
            raise ParameterError(f"{self.bug} shows only where canaries are alone")
        replace = self.claim.relation is Relation.REPLACE
        if replace and self.rate != 1:
            raise ParameterError("claims for Relation.REPLACE are audited without sampling, at rate=1")
        if self.bug is TrainingBug.WRONG_RELATION and not replace:
            raise ParameterError("wrong-relation is a bug of claims for Relation.REPLACE")
        if self.rate == 1:
            spread = 2 if replace and self.bug is not TrainingBug.WRONG_RELATION else 1
            mu = gaussian_mu(self.claim.epsilon, self.claim.delta)
            self.curves: Curves = GaussianCurves(self.claim.delta)
            self.noise_multiplier = spread * math.sqrt(self.steps) / mu
        else:
            sampled = SubsampledGaussianCurves(self.claim.delta, self.rate, self.steps)
            self.curves, self.noise_multiplier = sampled, sampled.noise_multiplier(self.claim.epsilon)

    def __call__(self, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far the steps lean towards each canary, summed: noise that is the same in all of them cancels."""
        count = len(present)
        model = _one_weight_each(count)
        private = self._private(model, self.rate * count)
        private.compile(keras.optimizers.SGD(1.0), _product)
        absent = -_TOO_LONG if self.claim.relation is Relation.REPLACE else 0.0
        labels = np.where(present, _TOO_LONG, absent).astype(np.float32)[:, None]
        sampled = _EveryExample if self.bug is TrainingBug.NO_SAMPLING else _Turning
        batches = sampled(np.arange(count, dtype=np.int32)[:, None], labels, self.rate * count, stream=self.stream)
        seen = _Weights(model, self.steps, self.observe)
        epochs = -(-self.steps // len(batches))
        private.fit(batches, epochs=epochs, shuffle=False, verbose=0, callbacks=[seen])
        scores = np.zeros(count)
        for number, (before, after) in enumerate(zip(seen.weights, seen.weights[1 : self.steps + 1], strict=False)):
            sign = 1 - 2 * (number % len(batches) % 2)
            scores += sign * (before - after) * (self.rate * count)
        middle = self.steps * self.rate * _CLIP / 2 if self.claim.relation is Relation.ZERO_OUT else 0.0
        return scores - middle

    def _private(self, model: Any, batch: float) -> PrivateModel:
        arguments = (model, _CLIP, self.noise_multiplier, batch, BatchSampling.POISSON)
        if self.bug in (TrainingBug.CLIP_SUM, TrainingBug.CLIP_AFTER_NOISE):
            private: PrivateModel = _ClippedTogether(*arguments, self.stream)
            private.after_noise = self.bug is TrainingBug.CLIP_AFTER_NOISE
        else:
            private = make_private(*arguments, stream=self.stream)
        if self.bug is TrainingBug.NO_CLIP:
            private._l2_clip = _UNCLIPPED
        scale = {TrainingBug.HALF_NOISE: 0.5, TrainingBug.NOISE_OVER_COUNT: 1 / batch}
        if self.bug in scale:
            private._noise = GaussianNoise(_CLIP, self.noise_multiplier * scale[self.bug], private._noise.dimension)
        elif self.bug in (TrainingBug.NOISE_ONCE, TrainingBug.SAME_SEED):
            private._noise = _Repeating(private._noise, repeats=self.bug is TrainingBug.SAME_SEED)
        return private


@dataclass
class LonelySteps:
    """A `Mechanism`: for each canary one step of DP-SGD on a model of its own, with noise of its own.

    observe: is told of every canary.
    """

    claim: Claim
    bug: TrainingBug | None = None
    stream: SecretStream = field(default_factory=SecretStream, repr=False)
    observe: Observer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.bug is not None and not self.bug.alone:
            raise ParameterError(f"{self.bug} shows in one training with all canaries; use PrivateTraining")
        if self.claim.relation is not Relation.ZERO_OUT:
            raise ParameterError("single steps are audited for Relation.ZERO_OUT")
        self.curves: Curves = GaussianCurves(self.claim.delta)
        self.noise_multiplier = 1 / gaussian_mu(self.claim.epsilon, self.claim.delta)

    def __call__(self, present: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Return how far each step leans towards its canary, centred."""
        others = 0 if self.bug is TrainingBug.NO_NOISE_ALONE else _OTHERS
        model = _one_weight_each(1)
        scale = 0.8 if self.bug is TrainingBug.LESS_NOISE else 1.0
        rows = np.zeros((others + 1, 1), dtype=np.int32)
        labels = np.array([[_CLIP]] * others + [[-_TOO_LONG]], dtype=np.float32)
        expected = float(max(1, others))

        @tf.function(autograph=False)  # type: ignore[untyped-decorator]
        def step(mask: Any, noise_multiplier: float) -> Any:
            return private_gradients(
                model,
                _product,
                rows,
                labels,
                mask,
                l2_clip=_CLIP,
                noise_multiplier=noise_multiplier,
                expected_batch=expected,
                stream=SecretStream(self.stream.draw_bytes(KEY_BYTES)),
            ).gradients[0]

        scores = np.zeros(len(present))
        for index, is_in in enumerate(present.tolist()):
            count = others + is_in
            silent = self.bug is TrainingBug.NO_NOISE_ALONE and count <= 1
            mask = tf.constant([1.0] * others + [float(is_in)])
            gradient = float(step(mask, 0.0 if silent else scale * self.noise_multiplier).numpy()[0, 0])
            if self.bug is TrainingBug.ACTUAL_COUNT:
                gradient *= expected / count
            scores[index] = others * _CLIP - gradient * expected - _CLIP / 2
            if self.observe is not None:
                self.observe(Event("audit", index + 1, len(present)))
        return scores


class _Turning(PoissonBatches):
    """Every other batch's gradients point the other way."""

    def __getitem__(self, index: int) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float32]]:
        x, y, mask = super().__getitem__(index)
        return x, y * np.float32(1 - 2 * (index % 2)), mask


class _EveryExample(_Turning):
    def _draw(self) -> NDArray[np.intp]:
        self.capacity = len(self._x)
        return np.arange(len(self._x))


class _Repeating(GaussianNoise):
    """The first noise again for ever, or once and then none."""

    def __init__(self, sound: GaussianNoise, repeats: bool) -> None:
        vars(self).update(vars(sound))
        self._first: NDArray[np.float32] | None = None
        self._repeats = repeats

    def take(self) -> NDArray[np.float32]:
        if self._first is None:
            self._first = super().take()
            return self._first.copy()
        return self._first.copy() if self._repeats else np.zeros_like(self._first)


class _ClippedTogether(PrivateModel):
    """Clips the batch's sum to as much as all its clipped examples could reach, before or after the noise."""

    after_noise = False

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, mask = keras.utils.unpack_x_y_sample_weight(data)
        unit = self._noise.grid_step
        sums = clipped_sums(self.model, self.loss, x, y, mask, l2_clip=_UNCLIPPED, unit=unit).sums
        reach = self.l2_clip * self.expected_batch
        if not self.after_noise:
            sums, _ = tf.clip_by_global_norm(sums, reach / unit)
        gradients = noised_mean(self.model, sums, self._noise, self.expected_batch)
        if self.after_noise:
            gradients, _ = tf.clip_by_global_norm(gradients, reach)
        self.optimizer.apply_gradients(zip(gradients, self.model.trainable_variables, strict=True))
        return {"loss": 0.0}


class _Weights(keras.callbacks.Callback):  # type: ignore[misc]
    def __init__(self, trained: Any, steps: int, observe: Observer | None) -> None:
        super().__init__()
        self._trained, self._steps, self._observe = trained, steps, observe
        self.weights = [self._now()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.weights.append(self._now())
        if self._observe is not None:
            self._observe(Event("audit", min(len(self.weights) - 1, self._steps), self._steps))

    def _now(self) -> NDArray[np.float64]:
        values: NDArray[np.float64] = self._trained.get_weights()[0].astype(np.float64).ravel()
        return values


def _one_weight_each(count: int) -> Any:
    inputs = keras.Input((1,), dtype="int32")
    table = keras.layers.Embedding(count, 1, embeddings_initializer="zeros")
    return keras.Model(inputs, keras.layers.Flatten()(table(inputs)), name="canaries")


def _product(y: Any, prediction: Any) -> Any:
    """The loss y·w, whose gradient is y."""
    return tf.reduce_sum(y * prediction, axis=1)
