"""A Keras model whose `fit` trains another by DP-SGD."""

from __future__ import annotations

from typing import Any

from secureagg.dp.dp_events import BatchSampling
from secureagg.dp.dpsgd.backend import keras, tf
from secureagg.dp.dpsgd.contribution import Tensor
from secureagg.dp.dpsgd.gradients import clipped_sums, noised_mean
from secureagg.dp.dpsgd.losses import per_example_loss
from secureagg.dp.dpsgd.noise import GaussianNoise
from secureagg.dp.dpsgd.sampling import FixedSizeBatches, PoissonBatches
from secureagg.dp.dpsgd.units import units_of
from secureagg.dp.relation import require_member
from secureagg.errors import ParameterError
from secureagg.ring.xof import KEY_BYTES, SecretStream

__all__ = ["PrivateModel", "make_private"]


def make_private(
    model: Any,
    l2_clip: float,
    noise_multiplier: float,
    expected_batch: float,
    sampling: BatchSampling,
    *,
    stream: SecretStream | None = None,
) -> PrivateModel:
    """Return a model on the same weights whose `fit` trains them by DP-SGD (Abadi et al. 2016).

    Each example's gradient, by all trainable variables together, is clipped to `l2_clip`; the sum gets Gaussian noise
    of `noise_multiplier`·l2_clip and is divided by `expected_batch`, never by the number of examples at hand.
    `noise_multiplier` 0 clips only and guarantees nothing. `stream` is where noise and sampling come from if not the
    operating system.
    Requires: a built model of one output, with float32 or float64 weights and the same dtype for computation.
    Raises: ParameterError naming the layer, for BatchNormalization and other layers that cannot be clipped per
    example, some of which show themselves at the first batch only; for numbers out of range. Warns once of a layer
    without a fast rule.
    """
    require_member("sampling", sampling, BatchSampling)
    if not expected_batch >= 1:
        raise ParameterError(f"expected_batch={expected_batch}: must be ≥ 1")
    if sampling is BatchSampling.FIXED_SIZE and expected_batch != int(expected_batch):
        raise ParameterError(f"expected_batch={expected_batch}: batches of fixed size have a whole number of examples")
    units_of(model)
    return PrivateModel(model, l2_clip, noise_multiplier, expected_batch, sampling, stream)


class PrivateModel(keras.Model):  # type: ignore[misc]
    """Made by `make_private`. `model` is the model given; saving and loading is of that model, unchanged.

    `l2_clip`, `noise_multiplier`, `expected_batch`, `sampling`, `steps` and `passes` are what an accountant needs; what
    the noise was made for cannot be changed. `nonfinite_examples` counts those left out for a gradient that is not
    finite; like the loss and metrics of `fit`, it is not private.
    """

    def __init__(
        self,
        model: Any,
        l2_clip: float,
        noise_multiplier: float,
        expected_batch: float,
        sampling: BatchSampling,
        stream: SecretStream | None,
    ) -> None:
        super().__init__(name=f"private_{model.name}")
        self.model = model
        self._l2_clip = l2_clip
        self._noise_multiplier = noise_multiplier
        self._expected_batch = expected_batch
        self._sampling = sampling
        self._stream = stream
        dimension = sum(variable.shape.num_elements() for variable in model.trainable_variables)
        # A key drawn from the stream, which moves on: a substream would be the same for the next model made with it.
        noise_stream = None if stream is None else SecretStream(stream.draw_bytes(KEY_BYTES))
        self._noise = GaussianNoise(l2_clip, noise_multiplier, dimension, noise_stream)
        self._passes = 0
        # Steps and examples left out. No Keras variable: the weights are the model's alone.
        self._counts = tf.Variable([0, 0], dtype=tf.int64, trainable=False)
        self.built = True

    @property
    def l2_clip(self) -> float:
        """The largest L2 norm of what an example adds to a sum."""
        return self._l2_clip

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise on a sum ÷ l2_clip."""
        return self._noise_multiplier

    @property
    def expected_batch(self) -> float:
        """What sums are divided by."""
        return self._expected_batch

    @property
    def sampling(self) -> BatchSampling:
        """How batches are drawn."""
        return self._sampling

    @property
    def steps(self) -> int:
        """How many noised gradients there have been."""
        return int(self._counts.numpy()[0])

    @property
    def passes(self) -> int:
        """How many orders of fixed-size batches were begun, the most that any example was used; 0 for Poisson batches.

        An epoch of `fit` begins one, whether it ends or not; a batch given to `train_on_batch` counts as one.
        """
        return self._passes

    @property
    def nonfinite_examples(self) -> int:
        """How many examples were left out because their gradient was not finite. Not private."""
        return int(self._counts.numpy()[1])

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Run the model."""
        return self.model(inputs, training=training)

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **settings: Any) -> None:
        """As Keras's. Raises: ParameterError for a loss that is not one per example, XLA and loss scaling."""
        if settings.pop("jit_compile", False) is True:
            raise ParameterError("jit_compile=True: XLA cannot draw noise from the operating system")
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            raise ParameterError("LossScaleOptimizer scales before clipping; train in float32 or float64")
        if settings.get("loss_weights") is not None:
            raise ParameterError("loss_weights: DP-SGD takes one loss for one output")
        per_example_loss(loss)
        super().compile(optimizer=optimizer, loss=loss, jit_compile=False, **settings)

    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, **settings: Any) -> Any:
        """As Keras's, from arrays x and y, which are sampled as was said, or from `PoissonBatches`/`FixedSizeBatches`.

        Raises: ParameterError for batches drawn in another way than was said, or of another expected size; for settings
        by which an epoch would be less or more than one pass over what the batches hold.
        """
        if settings.get("steps_per_epoch") is not None or keras.config.max_steps_per_epoch() is not None:
            raise ParameterError("steps_per_epoch would cut epochs short and mix their orders; choose epochs instead")
        for name in ("sample_weight", "class_weight", "validation_split"):
            given = settings.get(name)
            if given is not None and not (name == "validation_split" and given == 0):
                raise ParameterError(f"fit({name}=…) is not part of DP-SGD here; weigh the loss, or split beforehand")
        if batch_size not in (None, self.expected_batch):
            raise ParameterError(f"batch_size={batch_size} ≠ expected_batch={self.expected_batch}")
        batches = PoissonBatches if self.sampling is BatchSampling.POISSON else FixedSizeBatches
        if not isinstance(x, PoissonBatches | FixedSizeBatches):
            if y is None or not hasattr(x, "__len__"):
                raise ParameterError(f"fit takes arrays x and y or {batches.__name__}, so that its sampling is known")
            x = batches(x, y, self.expected_batch, stream=self._stream)
        elif not isinstance(x, batches):
            raise ParameterError(f"the model was made for {self.sampling} batches, not for {type(x).__name__}")
        elif y is not None:
            raise ParameterError(f"{type(x).__name__} holds the labels; give no y")
        if x.expected_batch != self.expected_batch:
            raise ParameterError(f"the batches' expected_batch={x.expected_batch} ≠ {self.expected_batch}, the model's")
        if x.workers > 1 or x.use_multiprocessing:
            raise ParameterError("workers and use_multiprocessing fetch batches of another epoch early; leave them")
        if isinstance(x, PoissonBatches):
            return super().fit(x, **settings)
        before = x.passes
        try:
            return super().fit(x, **settings)
        finally:
            self._passes += x.passes - before

    def train_on_batch(
        self, x: Any, y: Any = None, sample_weight: Any = None, class_weight: Any = None, return_dict: bool = False
    ) -> Any:
        """As Keras's. A batch of fixed size may hold any examples, so it counts as a pass of its own."""
        if self.sampling is BatchSampling.FIXED_SIZE:
            self._passes += 1
        return super().train_on_batch(x, y, sample_weight, class_weight, return_dict)

    @tf.autograph.experimental.do_not_convert  # type: ignore[untyped-decorator]
    def train_step(self, data: Any) -> dict[str, Any]:
        """One DP-SGD step; called by `fit`. A third element of `data` is the mask of examples."""
        x, y, mask = keras.utils.unpack_x_y_sample_weight(data)
        checks = self._batch_checks(x, mask)
        with tf.control_dependencies(checks):
            found = clipped_sums(self.model, self.loss, x, y, mask, l2_clip=self.l2_clip, unit=self._noise.grid_step)
        self._counts.assign_add(tf.stack([tf.constant(1, tf.int64), found.nonfinite]))
        variables = self.model.trainable_variables
        gradients = noised_mean(self.model, found.sums, self._noise, self.expected_batch)
        self.optimizer.apply_gradients(zip(gradients, variables, strict=True))
        losses, predictions = found.losses, found.predictions
        if mask is not None:
            present = tf.cast(mask, tf.bool)
            x, y, losses, predictions = tf.nest.map_structure(
                lambda values: tf.boolean_mask(values, present), (x, y, losses, predictions)
            )
        self._loss_tracker.update_state(
            tf.math.divide_no_nan(tf.reduce_sum(losses), tf.cast(tf.size(losses), losses.dtype)),
            sample_weight=tf.size(losses),
        )
        return dict(self.compute_metrics(x, y, predictions))

    def _batch_checks(self, x: Any, mask: Tensor | None) -> list[Any]:
        """Return what must hold before a step, as operations."""
        if self.sampling is BatchSampling.POISSON:
            if mask is None:
                raise ParameterError("Poisson batches come as (x, y, mask); use PoissonBatches")
            ones = tf.cast(tf.cast(mask, tf.bool), mask.dtype)
            return [tf.debugging.assert_equal(mask, ones, "a mask holds 0 and 1 only, no weights")]
        if mask is not None:
            raise ParameterError("batches of fixed size have no mask or weights")
        size = tf.shape(tf.nest.flatten(x)[0])[0]
        message = f"a batch of fixed size must have expected_batch={self.expected_batch} examples"
        return [tf.debugging.assert_equal(size, int(self.expected_batch), message)]

    def save(self, filepath: Any, overwrite: bool = True, **settings: Any) -> None:
        """Save the model that was made private."""
        self.model.save(filepath, overwrite=overwrite, **settings)

    def save_weights(self, filepath: Any, overwrite: bool = True, **settings: Any) -> None:
        """Save its weights."""
        self.model.save_weights(filepath, overwrite=overwrite, **settings)

    def load_weights(self, filepath: Any, skip_mismatch: bool = False, **settings: Any) -> None:
        """Load its weights."""
        self.model.load_weights(filepath, skip_mismatch=skip_mismatch, **settings)
