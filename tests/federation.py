"""A small federation to test with: a toy ring, seeded identities, members with journals in a directory of their own."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from secureagg.selfcheck.reference import mean_of, quantised

__all__ = [
    "TOYS",
    "Federation",
    "Update",
    "answers_of",
    "federation",
    "mean_of",
    "quantised",
    "same",
    "seeded",
    "toy_plan",
    "toy_update",
]

Update = list[NDArray[Any]]

TOYS = ("INSECURE_N16_Q52", "INSECURE_N64_Q52", "INSECURE_N64_Q104", "INSECURE_N64_Q208")
MEMORY = "/dev/shm"  # journals sync every file, which costs milliseconds on a disk and nothing here

SHAPES: tuple[tuple[tuple[int, ...], str], ...] = (
    ((3, 4), "float32"),
    ((), "float64"),
    ((0, 2), "float32"),
    ((5,), "float32"),
)


def seeded(name: str) -> sa.Identity:
    """Return the identity that always goes with this name."""
    return sa.Identity(hashlib.sha256(name.encode()).digest())


def toy_update(seed: int, layout: sa.Layout | None = None, size: float = 0.2) -> Update:
    """Return an update of this layout, coordinates uniform in ±size."""
    rng = np.random.default_rng(seed)
    shapes = SHAPES if layout is None else tuple(zip(layout.shapes, layout.dtypes, strict=True))
    return [np.asarray(rng.uniform(-size, size, shape)).astype(dtype) for shape, dtype in shapes]


def toy_plan(**changes: Any) -> sa.RoundPlan:
    """Return a plan of 4 clients, 3 members and 18 values on a toy ring, with these fields changed."""
    fields: dict[str, Any] = {
        "layout": sa.Layout.of(toy_update(0)),
        "clients": 4,
        "quorum": 2,
        "l2_clip": 10.0,
        "value_bound": 1.0,
        "value_bits": 12,
        "committee": sa.Committee(3),
        "parameters": "INSECURE_N64_Q52",
        "allow_insecure": True,
    }
    return sa.RoundPlan(**(fields | changes))


def frames_of(aggregator: sa.Aggregator) -> list[bytes]:
    """Return the sum so far, frame by frame."""
    return [aggregator._sum.total.frame(index) for index in range(len(aggregator._session.plan.packing.frames))]


@dataclass
class Federation:
    """Everybody who takes part in a round. `session(n)` makes the session of another round number."""

    plan: sa.RoundPlan
    clients: list[sa.Identity]
    members: list[sa.CommitteeMember]
    member_identities: list[sa.Identity]
    directory: Path
    roster: sa.Roster = field(init=False)
    model: Update = field(init=False)
    session: sa.Session = field(init=False)

    def __post_init__(self) -> None:
        self.roster = sa.Roster([c.public for c in self.clients], [m.public for m in self.members])
        self.model = toy_update(0, self.plan.layout)
        self.session = self.session_of(1)

    def session_of(self, number: int, **changes: Any) -> sa.Session:
        """Return a session of this federation with these arguments changed."""
        arguments: dict[str, Any] = {
            "plan": self.plan,
            "roster": self.roster,
            "prekeys": [member.prekey(number) for member in self.members],
            "round_number": number,
            "model": self.model,
        }
        arguments |= changes
        return sa.Session(arguments.pop("plan"), arguments.pop("roster"), **arguments)

    def update(self, client_id: int) -> Update:
        """Return the update that client always sends."""
        return toy_update(100 + client_id, self.plan.layout)

    def contribution(self, client_id: int, session: sa.Session | None = None, **arguments: Any) -> bytes:
        """Return a client's contribution, from a host that has just started (no round is claimed yet)."""
        arguments = {"rounding_rng": np.random.default_rng(client_id), "update": self.update(client_id)} | arguments
        identity = sa.Identity(self.clients[client_id].to_seed())
        return sa.contribute(session or self.session, identity, arguments.pop("update"), **arguments)

    def aggregator(self, clients: Iterable[int] | None = None, **arguments: Any) -> sa.Aggregator:
        """Return an aggregator of `session` that has admitted these clients, all unless given."""
        aggregator = sa.Aggregator(self.session, **arguments)
        for client_id in range(self.plan.clients) if clients is None else clients:
            aggregator.admit(self.contribution(client_id))
        return aggregator

    def restarted(self, member_id: int) -> sa.CommitteeMember:
        """Return the same member as another process would have it: same identity, same journal, nothing else."""
        identity = sa.Identity(self.member_identities[member_id].to_seed())
        return sa.CommitteeMember(identity, journal=self.directory / f"journal-{member_id}")

    def expected(self, clients: Sequence[int], weights: Sequence[int] | None = None) -> Update:
        """Return the mean of what `contribution` sends, computed on integers, without secureagg's kernels."""
        weights = [1] * len(clients) if weights is None else weights
        grids = [
            quantised(self.plan, self.update(client_id), weight, np.random.default_rng(client_id))
            for client_id, weight in zip(clients, weights, strict=True)
        ]
        return mean_of(self.plan, [sum(column) for column in zip(*grids, strict=True)], sum(weights))


@contextmanager
def federation(plan: sa.RoundPlan | None = None, **changes: Any) -> Iterator[Federation]:
    """Make a federation for a plan (or for `toy_plan(**changes)`), with journals that go when the context ends."""
    plan = plan or toy_plan(**changes)
    with tempfile.TemporaryDirectory(dir=MEMORY if os.path.isdir(MEMORY) else None) as name:
        identities = [seeded(f"member {i}") for i in range(plan.committee.size)]
        members = [sa.CommitteeMember(each, journal=Path(name) / f"journal-{i}") for i, each in enumerate(identities)]
        yield Federation(plan, [seeded(f"client {i}") for i in range(plan.clients)], members, identities, Path(name))


def answers_of(members: Iterable[sa.CommitteeMember], session: sa.Session, request: Any) -> list[bytes]:
    """Return these members' answers to one request."""
    return [member.respond(session, request) for member in members]


def same(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> bool:
    """Return whether two lists of tensors are equal bit for bit, shapes and dtypes included."""
    return len(found) == len(expected) and all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in zip(found, expected, strict=True)
    )
