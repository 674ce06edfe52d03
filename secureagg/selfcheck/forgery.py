"""Dishonest contributions: one lie, and then everything recomputed and signed as an honest client would."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from secureagg.contribution import write_contribution
from secureagg.he.deal import Dealer
from secureagg.he.sharing import Sharing
from secureagg.identity import Identity
from secureagg.payload import Header
from secureagg.roster import Label
from secureagg.selfcheck.liar import Liar
from secureagg.session import Session
from secureagg.verification import view_of
from secureagg.zk.validity import Witness

__all__ = ["Parts", "TwoKeys", "forged", "truth"]

_Integers = NDArray[np.int64]


def truth(witness: Witness) -> Witness:
    """Return what is told by who does not lie about its witness."""
    return witness


@dataclass(frozen=True)
class _Grid:
    """What is encrypted: any values, any weight. Requires: all below 2^50, which the packing takes."""

    values: _Integers = field(repr=False)
    weight: int

    def between(self, first: int, last: int) -> _Integers:
        part = self.values[first:last]
        return part if len(part) == last - first else np.append(part, self.weight)


class TwoKeys(Dealer):
    """Deals some members shares of another key; its share check is that of the right one."""

    def __init__(self, members: frozenset[int], sharing: Sharing, key: _Integers) -> None:
        super().__init__(sharing, key)
        self._members, self._other = members, Dealer(sharing, -key)

    def shares(self, member_id: int) -> bytes:
        """Return what this member is dealt."""
        return self._other.shares(member_id) if member_id in self._members else super().shares(member_id)


def forged(
    session: Session,
    identity: Identity,
    values: _Integers,
    weight: int,
    *,
    hiding: bool,
    tell: Callable[[Witness], Witness] = truth,
    victims: frozenset[int] = frozenset(),
) -> bytes:
    """Return a proven contribution of these values and weight that proves what `tell` makes of the truth.

    hiding: as in `Liar`; victims: members who are dealt shares of another key.
    """
    buffer = bytearray(session.plan.bytes_per_client)

    def write(offset: int, data: bytes | bytearray) -> None:
        buffer[offset : offset + len(data)] = data

    prover, deal = partial(Liar, tell=tell, hiding=hiding), partial(TwoKeys, victims)
    contributor = session.client_id(identity.public)
    write_contribution(session, contributor, identity, _Grid(values, weight), write, deal=deal, prover=prover)
    return bytes(buffer)


@dataclass(frozen=True)
class Parts:
    """A contribution in pieces; `signed` puts it together again, with digests and signature made anew."""

    header: Header
    frames: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    proof: bytes

    @classmethod
    def of(cls, session: Session, payload: bytes) -> Parts:
        """Take a contribution apart."""
        view, plan = view_of(session, payload), session.plan
        return cls(
            Header.from_bytes(view.header(), session),
            tuple(bytes(view.frame(index)) for index in range(len(plan.packing.frames))),
            tuple(bytes(view.box(member)) for member in range(plan.committee.size)),
            bytes(view.proof()),
        )

    def signed(self, session: Session, identity: Identity) -> bytes:
        """Return the bytes of a contribution of this client to this session, signed."""
        frames, boxes = (tuple(hashlib.sha256(p).digest() for p in parts) for parts in (self.frames, self.boxes))
        proof = hashlib.sha256(self.proof).digest() if self.proof else b""
        header = replace(
            self.header, client_id=session.client_id(identity.public), frames=frames, boxes=boxes, proof=proof
        )
        signature = identity.sign(Label.CONTRIBUTION, header.dealing().message(session.sid))
        encoded = replace(header, signature=signature).to_bytes(session.sid)
        return b"".join([encoded, *self.frames, *self.boxes, self.proof])
