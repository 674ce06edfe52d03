"""What one unit adds to each example's squared gradient norm, and to the weighted sum of gradients.

Tensors follow Bu et al. (2023, "Differentially private optimization on large foundation models"): for a layer that is
linear in its kernel, A holds what the kernel was applied to and G the gradient of the loss by what came out, so that
an example's kernel gradient is AᵀG over the positions t. T positions, p values in, q out, h groups.

Squared norms are upper bounds, whatever the examples hold: a square below the dtype's smallest normal number, `tiny`,
may become zero, and a huge factor elsewhere would still make a long gradient of what then counts as none. What is
missing by that is added; beside the squares of an ordinary example it vanishes in the rounding. Over many positions
(`_gram`) the rounding itself is added, which is more where positions cancel. Derivations: docs/proofs/clipping.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from secureagg.dp.dpsgd.backend import tf

__all__ = [
    "Clean",
    "Contribution",
    "Tensor",
    "flushed",
    "matrix_products",
    "per_example",
    "rounding_unit",
    "sum_of_squares",
]

Tensor = Any
Clean = Callable[[Tensor], Tensor]  # zeros in the rows of examples that are left out, so that 0·∞ does not arise

_SPARE_ROUNDINGS = 8  # of the few operations on lengths and sums that are not counted one by one


@dataclass(frozen=True)
class Contribution:
    """Of one unit: an upper bound on squared norms, to within rounding; and weighted sums.

    `squared_norms`: [B]. `weighted_sums(weights[B], clean)` returns Σ_b weights[b]·gradient_b for each variable.
    """

    variables: tuple[Any, ...]
    squared_norms: Tensor
    weighted_sums: Callable[[Tensor, Clean], list[Tensor]]


def sum_of_squares(values: Tensor) -> Tensor:
    """Return [B], at least each row's Σ values², from [B, …] of static sizes."""
    sums = tf.reduce_sum(tf.square(values), axis=list(range(1, len(values.shape))))
    return sums + flushed(math.prod(values.shape[1:]), values.dtype)


def per_example(variable: Any, gradients: Tensor) -> Contribution:
    """Return the contribution of a variable whose per-example gradients [B, …] are there."""
    flat = tf.reshape(gradients, (tf.shape(gradients)[0], variable.shape.num_elements()))

    def weighted_sums(weights: Tensor, clean: Clean) -> list[Tensor]:
        return [tf.reshape(tf.linalg.matvec(clean(flat), weights, transpose_a=True), variable.shape)]

    return Contribution((variable,), sum_of_squares(flat), weighted_sums)


def matrix_products(variable: Any, a: Tensor, g: Tensor, to_kernel: Callable[[Tensor], Tensor]) -> Contribution:
    """Return the contribution of a kernel whose gradient is AᵀG: A [B, h, T, p], G [B, h, T, q].

    `to_kernel` shapes [h, p, q] as the kernel. One position: ‖aᵀg‖² = ‖a‖²·‖g‖² (Goodfellow 2015). A gradient no
    larger than twice A and G is formed once and serves norm and sum; else the norm is taken from the Gram matrices
    (Li et al. 2021), ‖AᵀG‖² = Σ AAᵀ∘GGᵀ, and the sum from one product, without any example's gradient.
    """
    positions, p, q = a.shape[2], a.shape[3], g.shape[3]
    if positions != 1 and positions is not None and p * q <= 2 * positions * (p + q):
        formed = tf.matmul(g, a, transpose_a=True)  # [B, h, q, p]: half the time of AᵀG in TensorFlow

        def sums_of_formed(weights: Tensor, clean: Clean) -> list[Tensor]:
            flat = tf.reshape(clean(formed), (tf.shape(formed)[0], a.shape[1] * p * q))
            sums = tf.reshape(tf.linalg.matvec(flat, weights, transpose_a=True), (a.shape[1], q, p))
            return [to_kernel(tf.transpose(sums, (0, 2, 1)))]

        return Contribution((variable,), sum_of_squares(formed), sums_of_formed)

    def weighted_sums(weights: Tensor, clean: Clean) -> list[Tensor]:
        weighted = clean(g) * tf.reshape(weights, (-1, 1, 1, 1))
        return [to_kernel(_sum_of_products(clean(a), weighted))]

    norms = _one_position if positions == 1 else _gram
    return Contribution((variable,), norms(a, g), weighted_sums)


def _sum_of_products(a: Tensor, g: Tensor) -> Tensor:
    groups, p, q = a.shape[1], a.shape[3], g.shape[3]
    if groups == 1:
        return tf.matmul(tf.reshape(a, (-1, p)), tf.reshape(g, (-1, q)), transpose_a=True)[None]
    return tf.einsum("bhtp,bhtq->hpq", a, g)


def _one_position(a: Tensor, g: Tensor) -> Tensor:
    squares_a, squares_g = (
        tf.reduce_sum(tf.square(values), axis=3) + flushed(values.shape[3], values.dtype) for values in (a, g)
    )
    return tf.reduce_sum(squares_a * squares_g, axis=(1, 2))


def _gram(a: Tensor, g: Tensor) -> Tensor:
    """The sum over pairs of positions may cancel to less than its own rounding, which is therefore added.

    Each of the T² products is off by at most (p + q + 1)·u times the four lengths, u half of `rounding_unit`, and each
    of the two sums of T terms adds T·u. A length so small that its square may be flushed counts as √(2·tiny / u): that
    is what makes (p + q)·u times it cover the flushed part of the dot product, too.
    """
    unit = rounding_unit(a.dtype) / 2
    shift = tf.constant(flushed(1, a.dtype) / unit, a.dtype)
    dots_a, dots_g = tf.matmul(a, a, transpose_b=True), tf.matmul(g, g, transpose_b=True)
    lengths = tf.sqrt(tf.linalg.diag_part(dots_a) + shift) * tf.sqrt(tf.linalg.diag_part(dots_g) + shift)
    positions = tf.cast(tf.shape(a)[2], a.dtype) if a.shape[2] is None else float(a.shape[2])
    roundings = unit * (a.shape[3] + g.shape[3] + 2 * positions + _SPARE_ROUNDINGS)
    margin = tf.where(roundings < 0.5, roundings / (1 - roundings), math.inf)  # past that nothing is bounded, nor added
    rounding = tf.cast(margin, a.dtype) * tf.square(tf.reduce_sum(lengths, axis=2))
    sums = tf.reduce_sum(tf.reduce_sum(dots_a * dots_g, axis=3), axis=2)
    return tf.reduce_sum(sums + rounding + flushed(positions * positions, a.dtype), axis=1)


def flushed(terms: Any, dtype: Any) -> Any:
    """Return what a sum of so many products may lack because each product and each partial sum is flushed to zero.

    terms: a number, or a scalar tensor of this dtype.
    """
    return terms * (2.0**-1021 if dtype == tf.float64 else 2.0**-125)


def rounding_unit(dtype: Any) -> float:
    """Return the distance from 1 to the next value of float32 or float64."""
    return 2.0**-52 if dtype == tf.float64 else 2.0**-23
