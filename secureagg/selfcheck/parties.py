"""Plans drawn at random, and everybody who takes part in a round of one; toy rings, where a secure one is too slow."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.aggregator import Aggregator, Result
from secureagg.committee import CommitteeMember
from secureagg.errors import ParameterError
from secureagg.identity import Identity
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.protocol import open_sum
from secureagg.roster import Roster
from secureagg.selfcheck.law import LawBroken
from secureagg.session import Session

__all__ = ["Parties", "Update", "draw_plan", "draw_update", "finished", "gathered"]

Update = list[NDArray[np.floating[Any]]]

_DTYPES = ("float16", "float32", "float64")
_TOYS = ("INSECURE_N16_Q52", "INSECURE_N64_Q52", "INSECURE_N64_Q104", "INSECURE_N64_Q208")
_ATTEMPTS = 100


@dataclass(frozen=True)
class Parties:
    """A session with its clients and its committee."""

    session: Session
    clients: tuple[Identity, ...]
    members: tuple[CommitteeMember, ...]
    member_identities: tuple[Identity, ...]

    def another(self, round_number: int) -> Session:
        """Return the session of another round of the same parties."""
        plan = self.session.plan
        prekeys = [member.prekey(round_number) for member in self.members]
        model = _model(plan)
        return Session(plan, self.session.roster, prekeys=prekeys, round_number=round_number, model=model)


@contextmanager
def gathered(plan: RoundPlan) -> Iterator[Parties]:
    """Yield parties of a plan; their journals go when the context ends."""
    with tempfile.TemporaryDirectory() as directory:
        clients = tuple(Identity.generate() for _ in range(plan.clients))
        identities = tuple(Identity.generate() for _ in range(plan.committee.size))
        members = tuple(CommitteeMember(each, journal=Path(directory) / str(m)) for m, each in enumerate(identities))
        roster = Roster([client.public for client in clients], [member.public for member in members])
        prekeys = [member.prekey(1) for member in members]
        session = Session(plan, roster, prekeys=prekeys, round_number=1, model=_model(plan))
        yield Parties(session, clients, members, identities)


def _model(plan: RoundPlan) -> Update:
    return [np.zeros(shape, dtype) for shape, dtype in zip(plan.layout.shapes, plan.layout.dtypes, strict=True)]


def draw_plan(random: np.random.Generator, *, proofs: bool = False) -> RoundPlan:
    """Return a plan of a few clients and up to some hundred values on a toy ring."""
    for _ in range(_ATTEMPTS):
        layout = _layout(random)
        clients = int(random.integers(2, 7))
        members = int(random.integers(3, 6)) if proofs else int(random.integers(1, 6))
        clip = float(2.0 ** random.integers(-6, 7))
        try:
            return RoundPlan(
                layout=layout,
                clients=clients,
                quorum=2,
                l2_clip=clip,
                value_bits=int(random.integers(6, 14)) if proofs else int(random.integers(2, 20)),
                value_bound=None if proofs else clip / math.sqrt(layout.size),
                committee=Committee(members, mode="robust" if random.random() < 0.5 else "optimistic"),
                max_weight=int(random.choice([1, 3, 1000])),
                proofs=proofs,
                parameters="INSECURE_N64_Q52" if proofs else str(random.choice(_TOYS)),
                allow_insecure=True,
            )
        except ParameterError:
            continue  # too many bits for so small a ring
    raise LawBroken(f"none of {_ATTEMPTS} plans was admitted")


def _layout(random: np.random.Generator) -> Layout:
    shapes = tuple(
        tuple(int(n) for n in random.integers(1, 8, int(random.integers(0, 3)))) for _ in range(random.integers(1, 4))
    )
    return Layout(shapes, tuple(str(random.choice(_DTYPES)) for _ in shapes))


def draw_update(plan: RoundPlan, random: np.random.Generator) -> Update:
    """Return an update within half of the clip; now and then one whose coordinates are all equal."""
    bound = plan.l2_clip / 2 / math.sqrt(plan.layout.size)
    if random.random() < 0.2:
        flat = np.full(plan.layout.size, bound * random.choice([-1, 1]))
    else:
        flat = random.uniform(-bound, bound, plan.layout.size)
    parts = np.split(flat, plan.layout.offsets[1:-1])
    return [
        part.reshape(shape).astype(dtype)
        for part, shape, dtype in zip(parts, plan.layout.shapes, plan.layout.dtypes, strict=True)
    ]


def finished(parties: Parties, aggregator: Aggregator, members: Sequence[int]) -> Result:
    """Return the result of a round whose contributions are admitted, with these members present."""
    return open_sum(aggregator, parties.session, [parties.members[m] for m in members])
