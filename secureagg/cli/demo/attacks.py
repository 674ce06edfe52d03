"""Dishonest clients: each runs code of its own where the library's is `contribute`, on the library's own pieces.

What they send is signed and of the planned form. With proofs they prove what would be accepted of an honest client,
since the prover refuses anything else: the verifier has to find that it is not what they encrypted or dealt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from secureagg.adapters.fl_core import Contribute
from secureagg.cli.demo.settings import Attack, AttackSettings
from secureagg.client import contribute
from secureagg.contribution import write_contribution
from secureagg.dp.clipping import clip_factor
from secureagg.grid import GridUpdate
from secureagg.he.deal import Dealer
from secureagg.he.sharing import Sharing
from secureagg.identity import Identity
from secureagg.layout import Weights
from secureagg.plan import RoundPlan
from secureagg.session import Session

__all__ = ["dishonest_clients"]

_Values = NDArray[np.int64]
_GARBAGE = 1 << 50  # the largest |value| the packing takes


def dishonest_clients(attack: AttackSettings) -> dict[int, Contribute]:
    """Return what each malicious client runs, afresh for each training."""
    match attack.kind:
        case Attack.SCALE:
            return dict.fromkeys(attack.clients, _scale)
        case Attack.NOISE:
            return dict.fromkeys(attack.clients, _noise)
        case Attack.NAN:
            return dict.fromkeys(attack.clients, _garbage)
        case Attack.WRONG_SHARES:
            return dict.fromkeys(attack.clients, _wrong_shares)
        case Attack.REPLAY:
            replay = _Replay(attack.clients)
            return {client: partial(replay.contribute, client) for client in attack.clients}
        case Attack.NONE:
            return {}


def _scale(
    session: Session, identity: Identity, update: Weights, weight: int, rng: np.random.Generator | None
) -> bytes:
    """Encrypt the update times the largest negative factor whose values the grid holds."""
    honest = _honest(session.plan, update, weight, rng)
    factor = session.plan.value_limit // max(1, int(np.abs(honest).max()))
    return _written(session, identity, _TwoFaced(np.multiply(honest, -factor), honest, weight))


def _noise(
    session: Session, identity: Identity, update: Weights, weight: int, rng: np.random.Generator | None
) -> bytes:
    """Encrypt values drawn from all the grid."""
    honest, limit = _honest(session.plan, update, weight, rng), session.plan.value_limit
    drawn = np.random.default_rng(rng).integers(-limit, limit, honest.size, dtype=np.int64, endpoint=True)
    return _written(session, identity, _TwoFaced(drawn, honest, weight))


def _garbage(
    session: Session, identity: Identity, update: Weights, weight: int, rng: np.random.Generator | None
) -> bytes:
    """Encrypt what a cast of NaN leaves: integers far beyond the grid; mod q, that is anything."""
    drawn = np.random.default_rng(rng).integers(-_GARBAGE, _GARBAGE, session.plan.layout.size)
    return _written(session, identity, _TwoFaced(drawn, np.zeros_like(drawn), weight))


def _wrong_shares(
    session: Session, identity: Identity, update: Weights, weight: int, rng: np.random.Generator | None
) -> bytes:
    """Encrypt honestly, and deal every second member, the last included, shares of another key."""
    honest = _honest(session.plan, update, weight, rng)
    members = frozenset(range(session.plan.committee.size - 1, -1, -2))
    return _written(session, identity, _TwoFaced(honest, honest, weight), partial(_TwoKeys, members))


class _Replay:
    """Malicious clients who keep what they sent first, an honest contribution, and send it again in later rounds.

    Every second one of them sends the bytes of the one before it instead of its own.
    """

    def __init__(self, clients: tuple[int, ...]) -> None:
        self._source = {client: clients[index - index % 2] for index, client in enumerate(clients)}
        self._kept: dict[int, tuple[int, bytes]] = {}  # session number and bytes

    def contribute(
        self,
        client: int,
        session: Session,
        identity: Identity,
        update: Weights,
        weight: int,
        rng: np.random.Generator | None,
    ) -> bytes:
        number, payload = self._kept.get(self._source[client], (session.round_number, b""))
        if number < session.round_number:
            return payload
        payload = contribute(session, identity, update, weight, rounding_rng=rng)
        self._kept.setdefault(client, (session.round_number, payload))
        return payload


def _honest(plan: RoundPlan, update: Weights, weight: int, rng: np.random.Generator | None) -> _Values:
    """Return what an honest client would encrypt, without the weight."""
    clip = clip_factor(plan.layout, update, plan.l2_clip)
    return GridUpdate(plan, plan.layout, update, clip, weight, rng).between(0, plan.layout.size)


def _written(
    session: Session,
    identity: Identity,
    grid: _TwoFaced,
    deal: Callable[[Sharing, _Values], Dealer] = Dealer,
) -> bytes:
    buffer = bytearray(session.plan.bytes_per_client)

    def write(offset: int, data: bytes | bytearray) -> None:
        buffer[offset : offset + len(data)] = data

    write_contribution(session, session.client_id(identity.public), identity, grid, write, deal=deal)
    return bytes(buffer)


@dataclass
class _TwoFaced:
    """A `Grid` that encrypts one vector and proves another."""

    encrypted: _Values
    values: _Values
    weight: int

    def between(self, first: int, last: int) -> _Values:
        part = self.encrypted[first:last]
        return part if len(part) == last - first else np.append(part, self.weight)


class _TwoKeys(Dealer):
    """Deals `members` shares of another key; its share check is that of the right one."""

    def __init__(self, members: frozenset[int], sharing: Sharing, key: _Values) -> None:
        super().__init__(sharing, key)
        self._other = Dealer(sharing, -key)
        self._members = members

    def shares(self, member_id: int) -> bytes:
        return self._other.shares(member_id) if member_id in self._members else super().shares(member_id)
