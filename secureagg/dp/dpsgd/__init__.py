"""DP-SGD on Keras 3: per-example clipping at about the cost of the plain step, noise from the CSPRNG, real sampling.

Importing this package imports TensorFlow; nothing else in `secureagg` does.

What is guaranteed: the gradient given to the optimizer is (Σ clipped gradients + noise) / expected batch, where one
example changes the sum by at most `l2_clip` in L2 norm (to within the rounding of the model's own dtype), and the
noise is Gaussian with `noise_multiplier` times that. What is not: the loss and metrics that `fit` shows are those of
the training examples, without noise; and operations that mix examples, other than Keras's own layers, cannot be told
from ones that do not: custom layers without state, `Lambda`, `keras.ops` along axis 0, losses that compare examples.
"""

from secureagg.dp.dpsgd.gradients import ClippedSums, PrivateGradients, clipped_sums, private_gradients
from secureagg.dp.dpsgd.model import PrivateModel, make_private
from secureagg.dp.dpsgd.noise import GaussianNoise
from secureagg.dp.dpsgd.sampling import FixedSizeBatches, PoissonBatches

__all__ = [
    "ClippedSums",
    "FixedSizeBatches",
    "GaussianNoise",
    "PoissonBatches",
    "PrivateGradients",
    "PrivateModel",
    "clipped_sums",
    "make_private",
    "private_gradients",
]
