"""What every adapter is given, and the integer sum each must find: fixed updates, weights and rounding seeds.

Imports no engine. The expected sums come from plain integers (`tests.federation.quantised`), not from secureagg's
kernels. The model is zero, so that new weights are the mean itself, and the grid is so coarse beside float32 that the
integers can be read back from it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from tests.federation import Update, mean_of, quantised

__all__ = [
    "CLIENTS",
    "COMMITTEE",
    "EXPECTED",
    "L2_CLIP",
    "MAX_WEIGHT",
    "MODEL",
    "SEED",
    "VALUE_BITS",
    "WEIGHTS",
    "digest_of",
    "expected_mean",
    "expected_sums",
    "plan_of",
    "rounding_of",
    "sums_in",
    "update_of",
]

CLIENTS, QUORUM, COMMITTEE = 4, 2, 3
L2_CLIP, VALUE_BITS = 4.0, 16  # no update below is as long as that
WEIGHTS, MAX_WEIGHT = (3, 40, 7, 25), 40
MODEL: Update = [np.zeros((6, 5), np.float32), np.zeros((), np.float64), np.zeros(17, np.float32)]
SEED = 20

# digest_of(*expected_sums()): all clients, in round 1.
EXPECTED = "197b5d1cba80bdf8decda055a1cf134b404e413a038062e5dedc8a5573c59d12"


def plan_of(clients: int = CLIENTS, *, proofs: bool = False) -> sa.RoundPlan:
    """Return the plan that an adapter must come to with these settings."""
    return sa.RoundPlan(
        layout=sa.Layout.of(MODEL),
        clients=clients,
        quorum=QUORUM,
        l2_clip=L2_CLIP,
        value_bits=VALUE_BITS,
        max_weight=MAX_WEIGHT,
        committee=sa.Committee(COMMITTEE),
        proofs=proofs,
    )


def update_of(client: int, round_number: int = 1) -> Update:
    """Return what this client adds to the model in this round: its new weights, too, as the model is zero."""
    rng = np.random.default_rng([1, SEED, round_number, client])
    return [np.asarray(rng.uniform(-0.3, 0.3, t.shape)).astype(t.dtype) for t in MODEL]


def rounding_of(client: int, round_number: int = 1) -> np.random.Generator:
    """Return what seeds this client's rounding: as `adapters.fl_core` does with seed=SEED."""
    return np.random.default_rng([4, SEED, round_number, client])


def expected_sums(clients: Iterable[int] = range(CLIENTS), round_number: int = 1) -> tuple[list[int], int]:
    """Return (Σv of each coordinate, Σw) in plain integers."""
    clients = list(clients)
    plan = plan_of()
    grids = [quantised(plan, update_of(c, round_number), WEIGHTS[c], rounding_of(c, round_number)) for c in clients]
    return [sum(column) for column in zip(*grids, strict=True)], sum(WEIGHTS[c] for c in clients)


def expected_mean(clients: Iterable[int] = range(CLIENTS), round_number: int = 1) -> Update:
    """Return the mean of the quantised updates, in the model's shapes and dtypes."""
    return mean_of(plan_of(), *expected_sums(clients, round_number))


def sums_in(mean: Sequence[NDArray[Any]], total_weight: int) -> list[int]:
    """Return the integers Σv that this mean was made of. Raises AssertionError if it was made of none."""
    steps = (2 ** (VALUE_BITS - 1) - 1) / L2_CLIP * total_weight / MAX_WEIGHT
    scaled = np.concatenate([np.asarray(t, np.float64).ravel() for t in mean]) * steps
    sums = np.rint(scaled)
    assert np.abs(scaled - sums).max() < 0.1, "these are no sums of grid integers"
    return [int(value) for value in sums]


def digest_of(sums: Sequence[int], total_weight: int) -> str:
    """Return SHA-256 over Σw and every Σv, each 8 bytes, little-endian, signed."""
    digest = hashlib.sha256()
    for value in (total_weight, *sums):
        digest.update(value.to_bytes(8, "little", signed=True))
    return digest.hexdigest()
