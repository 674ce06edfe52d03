"""One small robust round that can be run again and again, and an oracle in plain integers for what it must give."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import secureagg as sa
from secureagg.errors import UnattributedFault
from secureagg.he import packing as packing_module
from secureagg.he.deal import BoxContext, unseal
from secureagg.he.sharing import key_sum, verify_shares
from tests.cheating import Parts, dealing
from tests.federation import Federation, Update, federation, mean_of, same
from tests.he import reference

__all__ = ["MALLORY", "MEMBERS", "World", "make_world"]

MEMBERS = 4
MALLORY = 2  # the client, and of the members number 1, who mutate and sign what they send
SHAPES = (((6, 7), "float32"), ((), "float64"), ((11,), "float32"))


@dataclass
class World:
    """Clients 0, 1 and 2 of four take part, four members of whom three open; `payloads` is what was sent."""

    everyone: Federation
    payloads: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        parts, self.dealer = dealing(self.everyone, MALLORY)
        self.payloads = [self.everyone.contribution(i) for i in range(2)]
        self.payloads.append(parts.signed(self.session, self.everyone.clients[MALLORY]))
        self._prekeys = [member._journal.stored_prekey(1) or b"" for member in self.everyone.members]

    @property
    def session(self) -> sa.Session:
        return self.everyone.session

    def aggregator(self, clients: Sequence[int] = (0, 1, 2)) -> sa.Aggregator:
        aggregator = sa.Aggregator(self.session)
        for client_id in clients:
            aggregator.admit(self.payloads[client_id])
        return aggregator

    def members(self) -> list[sa.CommitteeMember]:
        """Return the members as they were before the round: prekeys published, nothing answered."""
        for member_id, secret in enumerate(self._prekeys):
            journal = self.everyone.directory / f"journal-{member_id}"
            for answer in (journal / "answers").iterdir():
                answer.unlink()
            (journal / "prekeys" / "1.key").write_bytes(secret)
        return self.everyone.members

    def numbers(self, payload: bytes) -> list[int]:
        """Return Σe + Δ·m of a contribution, coefficient by coefficient, in plain integers."""
        packing, parts = self.everyone.plan.packing, Parts.of(self.session, payload)
        client_id = parts.header.client_id
        (q,), n = packing.ring.primes, packing.ring.degree
        residues = reference.unpack(b"".join(parts.frames), packing.coefficients)
        masks = [reference.mask(self.session.sid, (q,), n, c, self._keys[client_id])[0] for c in range(packing.chunks)]
        return [(residue - masks[i // n][i % n]) % q for i, residue in enumerate(residues)]

    @cached_property
    def _keys(self) -> list[tuple[int, ...]]:
        """The one-time keys the clients dealt, as the whole committee together could learn them."""
        keys, session, sharing = [], self.session, self.everyone.plan.sharing
        for client_id, payload in enumerate(self.payloads):
            parts, shares = Parts.of(session, payload), {}
            dealing = parts.header.dealing()
            for m, identity in enumerate(self.everyone.member_identities[: sharing.threshold]):
                context = BoxContext(session.sid, client_id, m, identity.public, session.prekeys[m].key)
                prekey = X25519PrivateKey.from_private_bytes(self._prekeys[m])
                plain = unseal(context, prekey, identity.agree, dealing.ephemeral, parts.boxes[m])
                shares[m] = verify_shares(sharing, m, dealing.challenge(session.sid), dealing.check, plain)
            keys.append(tuple(key_sum(sharing, tuple(shares), shares).tolist()))
        return keys

    @cached_property
    def _honest_numbers(self) -> list[list[int]]:
        return [self.numbers(payload) for payload in self.payloads]

    def right_sum(self, payload: bytes | None) -> Update | None:
        """Return the mean over clients 0, 1 and the sender of `payload` (if any), or None if it must not be decoded.

        All bounds of docs/protocol.md, "Opening", in plain integers.
        """
        plan, packing = self.everyone.plan, self.everyone.plan.packing
        (q,) = packing.ring.primes
        terms = self._honest_numbers[:2] + ([] if payload is None else [self.numbers(payload)])
        totals = [reference.centred_crt([sum(column) % q], [q]) for column in zip(*terms, strict=True)]
        split = [reference.fields_of(t, packing.delta, packing.field_bits, packing.fields) for t in totals]
        fine = all(
            abs(error) <= plan.error_bound and above == 0 and all(abs(v) <= packing.field_limit for v in fields)
            for fields, error, above in split
        )
        values, n = [], packing.ring.degree
        for first in range(0, len(split), n):
            chunk = split[first : first + n]
            values += [fields[k] for k in range(packing.fields) for fields, _, _ in chunk]
        data, weight, padding = values[: plan.layout.size], values[plan.layout.size], values[plan.layout.size + 1 :]
        fine &= not any(padding) and len(terms) <= weight <= len(terms) * plan.max_weight
        fine &= all(abs(v) <= len(terms) * plan.value_limit for v in data)
        return mean_of(plan, data, weight) if fine else None

    def finish(self, aggregator: sa.Aggregator, payload: bytes) -> str:
        """Run the rest of a round in which Mallory's `payload` was admitted; return why its outcome is right."""
        members, session = self.members(), self.session
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in members])
        included = MALLORY in request.clients
        expected = self.right_sum(payload if included else None)
        try:
            result = aggregator.open([member.respond(session, request) for member in members])
        except UnattributedFault:
            assert included and expected is None, "an honest sum was not opened"
            raise
        assert expected is not None, "a sum was opened that must not be"
        assert same(result.mean, expected), "a wrong sum was opened"
        assert (
            not result.faults and not result.disagreeing and set(result.refused) == (set() if included else {MALLORY})
        )
        return "harmless: right sum with it" if included else "share check: right sum without it"

    def unchanged(self, aggregator: sa.Aggregator, clients: tuple[int, ...] = (0, 1)) -> bool:
        """Return whether an aggregator still holds exactly these clients' contributions."""
        frames = range(len(self.everyone.plan.packing.frames))
        if clients not in self._sums:
            fresh = self.aggregator(clients)
            self._sums[clients] = [fresh._sum.total.frame(index) for index in frames]
        found = [aggregator._sum.total.frame(index) for index in frames]
        return aggregator.clients == clients and found == self._sums[clients]

    @cached_property
    def _sums(self) -> dict[tuple[int, ...], list[bytes]]:
        return {}


@contextmanager
def make_world() -> Iterator[World]:
    """Make the world: two chunks in two frames on the smallest ring, Δ no power of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "FRAME_RESIDUES", 16)
        layout = sa.Layout.of([np.zeros(shape, dtype) for shape, dtype in SHAPES])
        committee = sa.Committee(MEMBERS, mode="robust")
        changes = {"parameters": "INSECURE_N16_Q52", "value_bits": 10, "max_weight": 3, "quorum": 2}
        with federation(layout=layout, committee=committee, **changes) as everyone:
            packing = everyone.plan.packing
            assert len(packing.frames) == 2 and packing.delta.bit_count() > 1
            yield World(everyone)
