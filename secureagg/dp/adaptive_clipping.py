"""A clip that follows a quantile of the clients' norms, learnt from a count that the noisy sum carries beside them.

Andrew, Thakkar, McMahan and Ramaswamy, "Differentially private learning with adaptive clipping", NeurIPS 2021. Each
client clips its update u to the round's C and adds one coordinate that says whether it had to:

    joint_update = (u·min(1, C/‖u‖), s·(b − ½)),  b = 1 if ‖u‖ ≤ C, else 0

One noisy sum of these, with noise of σ = z·J in every coordinate and J = √(C² + s²/4), is what everybody learns; from
its mean come the mean update and the noisy share b̃ of the clients within C, and C ← C·exp(−η·(b̃ − γ)).

*Sensitivity.* Under zero-out a client's whole joint vector is replaced by zeros. Its square is at most C² + s²/4,
since |s·(b − ½)| = s/2 whatever b is, so sums of neighbours are at most J apart. ½ is taken off for that: s·b would
make it C² + s². Adding it back, for b̃, needs only the number of clients, which zero-out leaves as it is.

*Cost.* So one use of the Gaussian mechanism with noise multiplier σ/J = z (`joint_event`), count included, however
large C has become: each round's C follows from rounds before, and the mechanism is the same one. By Theorem 1 it is
two: noise multiplier z_Δ = σ/C on the update and deviation σ_b = σ/s on the count, z⁻² = z_Δ⁻² + (2σ_b)⁻². From z and
σ_b that gives s (`count_scale`) and z_Δ (`dp_events.update_noise_multiplier`).

Depart: the paper's b̃ is any number; here it is brought to [0, 1], which is post-processing, so that no draw of noise
moves C by more than a factor e^±η.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between
from secureagg.dp.clipping import clip_update
from secureagg.dp.dp_events import CentralGaussian, update_noise_multiplier
from secureagg.dp.relation import Relation, require_positive
from secureagg.errors import ParameterError
from secureagg.layout import Layout, Weights

__all__ = ["AdaptiveClip", "joint_clip", "joint_event", "joint_layout", "joint_update", "split"]

_SMALLEST, _LARGEST = 1e-18, 1e18
_COUNT_DTYPE = "float64"
_SLACK = 1e-11  # relative; ten times what clipping leaves open, so that a plan's own clip changes nothing


@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """What clients and server agree on before a round; `split` gives the next round's.

    clip: C, in the update's own units. noise_multiplier: z, of the joint release. count_noise_std: σ_b, the deviation
    of the count of clients within C, in clients; a twentieth of the clients is the paper's choice. target_quantile: γ,
    the share of the clients that C is to hold. learning_rate: η.

    Requires: 2·σ_b > z, or the count alone would cost more than both may.
    """

    clip: float
    noise_multiplier: float
    count_noise_std: float
    target_quantile: float = 0.5
    learning_rate: float = 0.2

    def __post_init__(self) -> None:
        require_between("clip", self.clip, _SMALLEST, _LARGEST)
        require_between("target_quantile", self.target_quantile, 0, 1)
        require_between("learning_rate", self.learning_rate, 0, 10)
        require_positive("count_noise_std", self.count_noise_std)
        update_noise_multiplier(self.noise_multiplier, self.count_noise_std)

    @property
    def count_scale(self) -> float:
        """s = z·C / √(σ_b² − z²/4), so that noise of z·J on the sum is noise of σ_b on the count."""
        half = self.noise_multiplier / 2
        return (
            self.noise_multiplier * self.clip / math.sqrt((self.count_noise_std - half) * (self.count_noise_std + half))
        )

    @property
    def noise_std(self) -> float:
        """σ = z·J: of every coordinate of the sum of joint vectors, in the update's units."""
        return self.noise_multiplier * joint_clip(self)


def joint_clip(state: AdaptiveClip) -> float:
    """Return J = √(C² + s²/4), rounded up: the l2_clip of the round's plan.

    A plan's value_bound, if it has one, must be at least s/2, or the count would be clamped.
    """
    return math.hypot(state.clip, state.count_scale / 2) * (1 + _SLACK)


def joint_layout(layout: Layout) -> Layout:
    """Return the layout of joint vectors, for the round's plan: the update's and one more tensor, float64[1]."""
    return Layout((*layout.shapes, (1,)), (*layout.dtypes, _COUNT_DTYPE))


def joint_update(update: Weights, state: AdaptiveClip) -> list[NDArray[np.floating[Any]]]:
    """Return what a client contributes: its update clipped to C, and s·(b − ½).

    Guarantees: a norm within `joint_clip(state)` for every finite update. To be contributed with weight 1, as a weight
    would count a client's bit several times. Raises: ParameterError as `clip_update`.
    """
    clipped, factor = clip_update(Layout.of(update), update, state.clip)
    within = 0.5 if factor >= 1 else -0.5
    return [*clipped, np.array([state.count_scale * within], dtype=_COUNT_DTYPE)]


def joint_event(state: AdaptiveClip, clients: float, rounds: int, relation: Relation) -> CentralGaussian:
    """Return what `rounds` with Gaussian noise cost, update and count together, for `split`'s states too.

    clients: what the sum is divided by. In units of the joint clip, in which noise and sensitivity are the same every
    round: a ledger that planned `rounds` of them admits each, whatever C has become by then.
    """
    noise_std = state.noise_multiplier / clients
    return CentralGaussian(noise_std=noise_std, l2_clip=1.0, clients=clients, rounds=rounds, relation=relation)


def split(mean: Weights, state: AdaptiveClip) -> tuple[list[NDArray[np.floating[Any]]], AdaptiveClip]:
    """Return (the mean update, the next round's state) from the noisy mean of joint vectors.

    mean: the noisy sum over the number of clients in it, or over the expected number with Poisson sampling; then b̃ is
    right on average. Raises: ParameterError if its last tensor is not the one `joint_update` adds, or holds no number,
    or if C would leave [10^-18, 10^18].
    """
    *update, count = mean or [np.empty(0)]
    if count.shape != (1,) or count.dtype.name != _COUNT_DTYPE or not np.isfinite(count[0]):
        raise ParameterError("the mean's last tensor is no noisy count, which is float64[1] and finite")
    share = min(max(float(count[0]) / state.count_scale + 0.5, 0.0), 1.0)
    moved = state.clip * math.exp(-state.learning_rate * (share - state.target_quantile))
    return update, replace(state, clip=moved)
