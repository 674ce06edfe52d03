"""One small robust round that can be run again and again, and an oracle in plain integers for what it must give."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import secureagg as sa
from secureagg.errors import UnattributedFault
from secureagg.he import packing as packing_module
from secureagg.he.deal import BoxContext, unseal
from secureagg.he.sharing import key_sum, verify_shares
from tests.cheating import Parts, dealing
from tests.federation import Federation, Update, federation, mean_of, quantised, same
from tests.he import reference

__all__ = ["LIAR", "MALLORY", "MEMBERS", "SHAPES", "World", "make_world", "own_grid"]

MEMBERS = 4
MALLORY, LIAR = 2, 1  # the client and the member who mutate and sign what they send
SHAPES = (((6, 7), "float32"), ((), "float64"), ((11,), "float32"))


def own_grid(everyone: Federation, contributor: int) -> list[int]:
    """Return what a contributor encrypts, the weight last, with the noise that is its to add."""
    plan = everyone.plan
    noise = plan.noise.draw(plan.layout.size).tolist() if plan.noise is not None else [0] * plan.layout.size
    if contributor >= plan.clients:
        return [*noise, 0]
    values = quantised(plan, everyone.update(contributor), 1, np.random.default_rng(contributor))
    added = plan.noise is not None and plan.noise.noise_by == "clients"
    return [*(v + x * added for v, x in zip(values, noise, strict=True)), 1]


@dataclass
class World:
    """Clients 0, 1 and, if it is who mutates, 2 of four take part; where the committee adds noise, all four members, of
    whom three open.

    sender: the id of who mutates, MALLORY's or of the LIAR's noise; payloads: what was sent, by who sent it.
    """

    everyone: Federation
    sender: int = MALLORY
    payloads: dict[int, bytes] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        everyone, plan = self.everyone, self.everyone.plan
        parts, self.dealer = dealing(everyone, self.sender, grid=own_grid(everyone, self.sender))
        for contributor in sorted({0, 1, self.sender, *range(plan.clients, plan.contributors)}):
            self.payloads[contributor] = self.another(contributor)
        self.payloads[self.sender] = parts.signed(self.session, self.identity)
        self.others = tuple(contributor for contributor in self.payloads if contributor != self.sender)
        self._prekeys = [member._journal.stored_prekey(1) or b"" for member in everyone.members]

    @property
    def identity(self) -> sa.Identity:
        """The sender's."""
        clients = self.everyone.clients
        return [*clients, *self.everyone.member_identities][self.sender]

    def another(self, contributor: int, session: sa.Session | None = None) -> bytes:
        """Return a contribution of this client, or of this member's noise, as the library makes it."""
        everyone, session = self.everyone, session or self.session
        if contributor >= everyone.plan.clients:
            return everyone.members[contributor - everyone.plan.clients].add_noise(session)
        rounding = None if everyone.plan.noise is not None else np.random.default_rng(contributor)
        return everyone.contribution(contributor, session, rounding_rng=rounding)

    @property
    def session(self) -> sa.Session:
        return self.everyone.session

    def aggregator(self, contributors: Iterable[int] | None = None) -> sa.Aggregator:
        """Return an aggregator that has admitted these contributors', all unless given."""
        aggregator = sa.Aggregator(self.session)
        for contributor in self.payloads if contributors is None else contributors:
            aggregator.admit(self.payloads[contributor])
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
    def _keys(self) -> dict[int, tuple[int, ...]]:
        """The one-time keys that were dealt, as the whole committee together could learn them."""
        keys, session, sharing = {}, self.session, self.everyone.plan.sharing
        for client_id, payload in self.payloads.items():
            parts, shares = Parts.of(session, payload), {}
            dealing = parts.header.dealing()
            for m, identity in enumerate(self.everyone.member_identities[: sharing.threshold]):
                context = BoxContext(session.sid, client_id, m, identity.public, session.prekeys[m].key)
                prekey = X25519PrivateKey.from_private_bytes(self._prekeys[m])
                plain = unseal(context, prekey, identity.agree, dealing.ephemeral, parts.boxes[m])
                shares[m] = verify_shares(sharing, m, dealing.challenge(session.sid), dealing.check, plain)
            keys[client_id] = tuple(key_sum(sharing, tuple(shares), shares).tolist())
        return keys

    @cached_property
    def _honest_numbers(self) -> list[list[int]]:
        return [self.numbers(self.payloads[contributor]) for contributor in self.others]

    def right_sum(self, payload: bytes | None) -> Update | None:
        """Return the mean over all others and the sender of `payload` (if any), or None if it must not be decoded.

        All bounds of docs/protocol.md, "Opening", in plain integers.
        """
        plan, packing = self.everyone.plan, self.everyone.plan.packing
        (q,) = packing.ring.primes
        terms = self._honest_numbers + ([] if payload is None else [self.numbers(payload)])
        senders = self.others if payload is None else (*self.others, self.sender)
        clients = sum(sender < plan.clients for sender in senders)
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
        fine &= not any(padding) and clients <= weight <= clients * plan.max_weight
        fine &= all(abs(v) <= clients * plan.value_limit + self._noise_limit for v in data)
        return mean_of(plan, data, weight) if fine else None

    @cached_property
    def _noise_limit(self) -> int:
        """T: what the noise inside a sum stays within."""
        plan = self.everyone.plan
        parties = plan.noise_members or plan.clients
        return 0 if plan.noise is None else plan.noise.sum_bound(parties, plan.layout.size)

    def finish(self, aggregator: sa.Aggregator, payload: bytes) -> str:
        """Run the rest of a round in which the sender's `payload` was admitted; return why its outcome is right."""
        members, session, clients = self.members(), self.session, self.everyone.plan.clients
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in members])
        included = self.sender in request.clients
        expected = self.right_sum(payload if included else None)
        try:
            result = aggregator.open([members[m].respond(session, request) for m in aggregator.asked])
        except UnattributedFault:
            assert included and expected is None, "an honest sum was not opened"
            raise
        assert expected is not None, "a sum was opened that must not be"
        assert same(result.mean, expected), "a wrong sum was opened"
        left_out = {*result.refused, *(clients + member for member in result.faults)}
        assert left_out == (set() if included else {self.sender}) and not result.disagreeing, "somebody else is blamed"
        return "harmless: right sum with it" if included else "share check: right sum without it"

    def unchanged(self, aggregator: sa.Aggregator) -> bool:
        """Return whether an aggregator still holds exactly the others' contributions."""
        return aggregator._sum.contributors == self.others and self._frames(aggregator) == self._sum_of_others

    def _frames(self, aggregator: sa.Aggregator) -> list[bytes]:
        return [aggregator._sum.total.frame(index) for index in range(len(self.everyone.plan.packing.frames))]

    @cached_property
    def _sum_of_others(self) -> list[bytes]:
        return self._frames(self.aggregator(self.others))


@contextmanager
def make_world(sender: int = MALLORY, **changes: Any) -> Iterator[World]:
    """Make the world: chunks in frames of their own on the smallest ring, Δ no power of two."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(packing_module, "FRAME_RESIDUES", 16)
        layout = sa.Layout.of([np.zeros(shape, dtype) for shape, dtype in SHAPES])
        committee = sa.Committee(MEMBERS, mode="robust")
        fields = {"parameters": "INSECURE_N16_Q52", "value_bits": 10, "max_weight": 3, "quorum": 2}
        with federation(layout=layout, committee=committee, **fields | changes) as everyone:
            packing = everyone.plan.packing
            assert len(packing.frames) > 1 and packing.delta.bit_count() > 1
            yield World(everyone, sender)
