"""What client, server and test have in common."""

from __future__ import annotations

import numpy as np
from flwr.app import UserConfig

import secureagg as sa
from secureagg.adapters.flower import Committee, Terms

ROUNDS = 3
SEED = 20


def terms(config: UserConfig, *, proofs: bool = False) -> Terms:
    """Return the terms that this run config asks for; what is proven is more than nodes ask for.

    With an epsilon the committee adds noise, for all rounds but the last.
    """
    epsilon, noise = float(config["epsilon"]), None
    if epsilon > 0:
        noise = sa.DistributedGaussian(epsilon=epsilon, delta=1e-5, rounds=ROUNDS - 1, noise_by="committee")
    return Terms(
        l2_clip=4.0,
        value_bits=20,  # so fine that not one of the test examples is told otherwise than in plain training
        max_weight=1 if noise else 100,
        quorum=2,
        committee=Committee(int(config["committee"])),
        proofs=proofs,
        noise=noise,
        metrics={"loss": 5.0},
    )


def rounding(client: int, server_round: int) -> np.random.Generator:
    """Return what seeds a client's rounding."""
    return np.random.default_rng([4, SEED, server_round, client])
