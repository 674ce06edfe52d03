"""Writes the rounds with noise: `python -m tests.vectors.generate_noisy DIRECTORY` (secureagg/selfcheck/stored/noisy to
renew the stored ones): each law, and each party that may add it.

TEST ONLY, as generate.py: all that is random follows from a label, the noise too.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import secureagg as sa
from secureagg.dp.mechanisms import Mechanism
from tests.vectors.generate import build, write_all

__all__ = ["noisy_plan", "rounds"]

SMALL = sa.Layout(((2, 4), (), (9,)), ("float32", "float64", "float16"))
LARGE = sa.Layout(((3, 4), (), (0, 2), (220,)), ("float32", "float64", "float32", "float16"))


def noisy_plan(noise: Mechanism, committee: sa.Committee, layout: sa.Layout = SMALL, **changes: Any) -> sa.RoundPlan:
    """Return a plan of four clients with this noise, whose standard deviation is given: a search for it would tie the
    stored bytes to a version of what accounts for ε.
    """
    fields: dict[str, Any] = {
        "layout": layout,
        "clients": 4,
        "quorum": 3,
        "l2_clip": 1.5,
        "value_bits": 7,
        "committee": committee,
        "parameters": "INSECURE_N64_Q52",
        "allow_insecure": True,
    }
    return sa.RoundPlan(noise=noise, **fields | changes)


def rounds(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, vector) of every round."""
    budget: dict[str, Any] = {"epsilon": 30.0, "delta": 1e-5, "rounds": 2}
    three = dict.fromkeys((0, 1, 3), 1)
    yield (
        "gaussian-clients",
        build(
            "gaussian-clients",
            "Clients add discrete Gaussians, in two frames; one client and one member are away.",
            noisy_plan(
                sa.DistributedGaussian(**budget, noise_by="clients", noise_std_grid=60.0),
                sa.Committee(size=4, threshold=3),
                LARGE,
            ),
            three,
            (0, 1, 3),
            {},
            directory,
        ),
    )
    yield (
        "skellam-clients",
        build(
            "skellam-clients",
            "Clients add Skellam noise, so wide that it is drawn in cells, and round until a bound holds.",
            noisy_plan(sa.Skellam(**budget, noise_by="clients", noise_std_grid=640.0), sa.Committee(size=2), clients=3),
            dict.fromkeys(range(3), 1),
            (0, 1),
            {},
            directory,
        ),
    )
    yield (
        "gaussian-committee",
        build(
            "gaussian-committee",
            "Members add discrete Gaussians. Member 2 deals its noise badly to two others, and is done without; "
            "client 1 deals badly to one of the others and is out.",
            noisy_plan(
                sa.DistributedGaussian(**budget, noise_by="committee", noise_std_grid=60.0),
                sa.Committee(size=5, threshold=4, assumed_corrupt=1, mode="robust"),
            ),
            dict.fromkeys(range(4), 1),
            (0, 1, 3, 4),
            {1: [4], 4 + 2: [0, 3]},
            directory,
            noisy=range(5),
        ),
    )
    yield (
        "skellam-committee",
        build(
            "skellam-committee",
            "Members add Skellam noise; one client is away, and one member altogether.",
            noisy_plan(
                sa.Skellam(**budget, noise_by="committee", noise_std_grid=80.0),
                sa.Committee(size=4, threshold=3),
                parameters="INSECURE_N64_Q104",
            ),
            three,
            (0, 2, 3),
            {},
            directory,
            noisy=(0, 2, 3),
        ),
    )
    yield (
        "central",
        build(
            "central",
            "The aggregator adds discrete Gaussians to the sum it has decoded; noise_seed is of their stream.",
            noisy_plan(sa.CentralGaussian(**budget, noise_std_grid=700.0), sa.Committee(size=3)),
            three,
            (0, 1, 2),
            {},
            directory,
        ),
    )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_all(dict(rounds(Path(scratch))), Path(sys.argv[1]))
