"""Rounds with noise on a toy ring, and what was drawn and rounded in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from secureagg.dp.mechanisms import Mechanism
from secureagg.dp.quantise import Quantiser
from tests.federation import Federation, answers_of, federation
from tests.proving import FIVE

__all__ = [
    "KINDS",
    "Kind",
    "Recorded",
    "admitted",
    "closed",
    "contribution",
    "given",
    "noisy_federation",
    "opened",
    "recorded",
]

Kind = type[sa.DistributedGaussian] | type[sa.Skellam] | type[sa.CentralGaussian]
KINDS: tuple[Kind, ...] = (sa.DistributedGaussian, sa.Skellam, sa.CentralGaussian)
Grid = NDArray[np.int64]


def given(kind: Kind = sa.DistributedGaussian, **changes: Any) -> Mechanism:
    """Return a mechanism whose noise is given, so that a plan need not search for it."""
    return kind(**{"epsilon": 30.0, "delta": 1e-5, "rounds": 1, "noise_std_grid": 60.0} | changes)


def noisy_federation(noise: Mechanism | None = None, **changes: Any) -> AbstractContextManager[Federation]:
    """Make a federation of four clients and five members, any four of whom open the sum, one of whom may be corrupt.

    By default members add discrete Gaussians, without proofs.
    """
    noise = given(noise_by="committee") if noise is None else noise
    fields = {"l2_clip": 1.0, "value_bits": 7, "committee": FIVE, "quorum": 3}
    return federation(noise=noise, **fields | changes)


def contribution(everyone: Federation, client_id: int, session: sa.Session | None = None, **arguments: Any) -> bytes:
    """Return a client's contribution; a plan with noise takes no seed for the rounding."""
    return everyone.contribution(client_id, session, rounding_rng=None, **arguments)


def admitted(
    everyone: Federation, clients: Any = (0, 1, 2, 3), members: Any = (0, 1, 2, 3, 4), **arguments: Any
) -> sa.Aggregator:
    """Return an aggregator that has admitted these clients, and these members' noise if the plan asks them for it."""
    aggregator = sa.Aggregator(everyone.session, **arguments)
    for member_id in members if everyone.plan.noise_members else ():
        aggregator.admit(everyone.members[member_id].add_noise(everyone.session))
    for client_id in clients:
        aggregator.admit(contribution(everyone, client_id))
    return aggregator


def closed(everyone: Federation, aggregator: sa.Aggregator, members: Any = (0, 1, 2, 3, 4)) -> Any:
    """Close a round, after these members' check if it is robust; return the request."""
    reports = None
    if everyone.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [everyone.members[m].check(everyone.session, check) for m in members]
    return aggregator.close(reports)


def opened(everyone: Federation, aggregator: sa.Aggregator, members: Any = (0, 1, 2, 3, 4)) -> sa.Result:
    """Run the rest of a round with these members, as far as they can answer."""
    request = closed(everyone, aggregator, members)
    answering = [everyone.members[m] for m in members if m in aggregator.asked]
    return aggregator.open(answers_of(answering, everyone.session, request))


@dataclass
class Recorded:
    """What was rounded and what was drawn, call by call."""

    rounded: list[Grid] = field(default_factory=list)
    drawn: list[Grid] = field(default_factory=list)

    @property
    def total(self) -> Grid:
        """The integers that the sum must hold."""
        return np.sum([*self.rounded, *self.drawn], axis=0)


@contextmanager
def recorded() -> Iterator[Recorded]:
    """Keep what is rounded and drawn in plans small enough for one call a contribution."""
    kept = Recorded()
    quantise = Quantiser.quantise

    def rounding(self: Quantiser, *arguments: Any) -> Any:
        values, clamped = quantise(self, *arguments)
        kept.rounded.append(values.copy())
        return values, clamped

    def drawing(draw: Any) -> Any:
        def drawn(self: Mechanism, size: int, stream: Any = None) -> Grid:
            kept.drawn.append(draw(self, size, stream))
            return kept.drawn[-1].copy()

        return drawn

    with (
        patch.object(Quantiser, "quantise", rounding),
        patch.object(sa.DistributedGaussian, "draw", drawing(sa.DistributedGaussian.draw)),
        patch.object(sa.Skellam, "draw", drawing(sa.Skellam.draw)),
        patch.object(sa.CentralGaussian, "draw", drawing(sa.CentralGaussian.draw)),
    ):
        yield kept
