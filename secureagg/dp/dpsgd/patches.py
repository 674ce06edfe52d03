"""The windows a convolution looks at, as one tensor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.dpsgd.backend import tf
from secureagg.dp.dpsgd.contribution import Tensor

__all__ = ["Windows"]

_SHORT = 8  # channels below which copying them one position at a time costs more than a convolution with the identity


@dataclass(frozen=True)
class Windows:
    """The geometry of one convolution over spatial dimensions of static sizes; `padding` as in Keras."""

    sizes: tuple[int, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    padding: str

    @cached_property
    def spans(self) -> tuple[int, ...]:
        """How many positions a window reaches over, per dimension."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))

    @cached_property
    def pads(self) -> tuple[tuple[int, int], ...]:
        """Zeros before and after, per dimension (TensorFlow's rule for "same")."""
        pads = []
        for size, span, stride in zip(self.sizes, self.spans, self.strides, strict=True):
            if self.padding == "same":
                total = max((math.ceil(size / stride) - 1) * stride + span - size, 0)
                pads.append((total // 2, total - total // 2))
            else:
                pads.append((span - 1, 0) if self.padding == "causal" else (0, 0))
        return tuple(pads)

    @cached_property
    def padded(self) -> tuple[int, ...]:
        return tuple(size + sum(pad) for size, pad in zip(self.sizes, self.pads, strict=True))

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        return tuple(
            (size - span) // stride + 1
            for size, span, stride in zip(self.padded, self.spans, self.strides, strict=True)
        )

    def extract(self, x: Tensor) -> Tensor:
        """Return [B, T, K, C] from [B, *sizes, C]: T output positions, K positions of the kernel, both row-major."""
        channels = x.shape[-1]
        batch = tf.shape(x)[0]
        x = tf.pad(x, [(0, 0), *self.pads, (0, 0)])
        shape = (batch, math.prod(self.outputs), math.prod(self.kernel), channels)
        if channels >= _SHORT:
            flat = tf.reshape(x, (batch, math.prod(self.padded), channels))
            return tf.reshape(tf.gather(flat, _indices(self.padded, self._axes()), axis=1), shape)
        # Window rows first: along the last dimension by a convolution that copies, then whole rows at a time.
        width = self.kernel[-1] * channels
        copy = tf.reshape(tf.eye(width, dtype=x.dtype), (1, self.kernel[-1], channels, width))
        lines = tf.reshape(x, (batch, math.prod(self.padded[:-1]), self.padded[-1], channels))
        strides, dilations = [1, self.strides[-1]], [1, self.dilations[-1]]
        rows = tf.nn.conv2d(lines, copy, strides, "VALID", dilations=dilations)
        if len(self.sizes) == 1:
            return tf.reshape(rows, shape)
        each = np.arange(self.outputs[-1])[:, None]
        sizes = (*self.padded[:-1], self.outputs[-1])
        flat = tf.reshape(rows, (batch, math.prod(sizes), width))
        return tf.reshape(tf.gather(flat, _indices(sizes, [*self._axes()[:-1], each]), axis=1), shape)

    def _axes(self) -> list[NDArray[np.int64]]:
        return [
            np.arange(o)[:, None] * s + np.arange(k) * d
            for o, k, s, d in zip(self.outputs, self.kernel, self.strides, self.dilations, strict=True)
        ]


def _indices(sizes: Sequence[int], axes: Sequence[NDArray[np.int64]]) -> Any:
    """Return int32[T·K], the row-major positions of (output position, kernel position), from those per dimension."""
    rank = len(sizes)
    total: Any = 0
    for dimension, axis in enumerate(axes):
        shape = [1] * (2 * rank)
        shape[dimension], shape[rank + dimension] = axis.shape
        total = total * sizes[dimension] + axis.reshape(shape)
    return np.asarray(total).reshape(-1).astype(np.int32)
