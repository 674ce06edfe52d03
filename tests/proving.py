"""Rounds with proofs on a toy ring, and clients that lie in them and then go on as honest ones would.

`forged` commits, answers the share check, proves and signs by itself, with the prover of tests/zk/lying.py, so that
what it lies about is all that is wrong.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import secureagg as sa
from secureagg.he.deal import BoxContext, Dealer, seal
from secureagg.he.encrypt import OneTimeKey
from secureagg.he.masking import polynomials
from secureagg.he.sharing import Sharing
from secureagg.payload import Header
from secureagg.ring import residues
from secureagg.roster import Label
from secureagg.verification import instance, view_of
from secureagg.zk.relations import Instance
from secureagg.zk.validity import Witness
from tests.federation import Federation, federation, quantised
from tests.zk.instances import Case, encrypt
from tests.zk.lying import Claim, Liar, Repair

__all__ = ["FIVE", "ProvenParts", "asked", "finished", "forged", "honest_grid", "parts_of", "proven_federation"]

Words = NDArray[np.uint64]
FIVE = sa.Committee(size=5, threshold=4, assumed_corrupt=1)


def proven_federation(**changes: Any) -> AbstractContextManager[Federation]:
    """Make a federation whose contributions carry proofs: four clients, by default three members."""
    fields = {"proofs": True, "parameters": "INSECURE_N64_Q52", "l2_clip": 1.0, "value_bound": None}
    return federation(**fields | changes)


def honest_grid(everyone: Federation, client_id: int, weight: int = 1) -> list[int]:
    """Return the values that `everyone.contribution(client_id)` encrypts."""
    return quantised(everyone.plan, everyone.update(client_id), weight, np.random.default_rng(client_id))


def asked(everyone: Federation, aggregator: sa.Aggregator, members: Iterable[int] | None = None) -> Any:
    """Have these members check, all unless given, and close the round; return the request."""
    check = aggregator.share_check()
    chosen = range(len(everyone.members)) if members is None else members
    return aggregator.close([everyone.members[m].check(everyone.session, check) for m in chosen])


def finished(everyone: Federation, aggregator: sa.Aggregator, members: Iterable[int] | None = None) -> sa.Result:
    """Run the rest of the round with these members, all unless given."""
    chosen = list(range(len(everyone.members)) if members is None else members)
    request = asked(everyone, aggregator, chosen)
    return aggregator.open([everyone.members[m].respond(everyone.session, request) for m in chosen])


@dataclass(frozen=True)
class ProvenParts:
    """A contribution with its proof in pieces; `signed` puts it together again."""

    header: Header
    frames: tuple[bytes, ...]
    boxes: tuple[bytes, ...]
    proof: bytes

    def signed(self, session: sa.Session, identity: sa.Identity, *, digests: bool = True) -> bytes:
        """Return the bytes, signed by `identity`; without `digests`, those in the header stay as they are."""
        header = self.header
        if digests:
            frames, boxes = (tuple(hashlib.sha256(p).digest() for p in parts) for parts in (self.frames, self.boxes))
            header = replace(header, frames=frames, boxes=boxes, proof=hashlib.sha256(self.proof).digest())
        signature = identity.sign(Label.CONTRIBUTION, header.dealing().message(session.sid))
        encoded = replace(header, signature=signature).to_bytes(session.sid)
        return b"".join([encoded, *self.frames, *self.boxes, self.proof])


def parts_of(session: sa.Session, payload: bytes) -> ProvenParts:
    """Take a contribution apart."""
    view, plan = view_of(session, payload), session.plan
    return ProvenParts(
        Header.from_bytes(view.header(), session),
        tuple(bytes(view.frame(i)) for i in range(len(plan.packing.frames))),
        tuple(bytes(view.box(m)) for m in range(plan.committee.size)),
        bytes(view.proof()),
    )


def _within(case: Case) -> Case:
    """Return the case with values that the range argument's table holds, for `Claim.of` counts those alone."""
    limit = case.statement.value_limit
    if not limit:
        return case
    return replace(case, witness=replace(case.witness, values=np.clip(case.witness.values, -limit, limit)))


class _Client(Liar):
    """A prover whose share check goes into the contribution's header before the rest of the proof is made."""

    def __init__(self, claim: Claim, instance_of: Callable[[bytes], Instance], repair: Repair) -> None:
        super().__init__(claim, repair=repair)
        self._instance_of = instance_of

    def make_instance(self, root: bytes) -> Instance:
        return self._instance_of(root)


def forged(
    everyone: Federation,
    client_id: int,
    *,
    session: sa.Session | None = None,
    grid: Iterable[int] | None = None,
    weight: int = 1,
    errors: dict[int, int] | None = None,
    added: dict[int, int] | None = None,
    key_step: int = 0,
    deal: Callable[[Sharing, NDArray[np.int64]], Dealer] = Dealer,
    plain: Callable[[int, list[bytes]], bytes] = lambda member, shares: shares[member],
    spoil: Callable[[int, bytes], bytes] = lambda member, box: box,
    claim: Callable[[Claim], Claim] = lambda claim: claim,
    repair: Repair = "digits",
) -> ProvenParts:
    """Return a contribution, not yet signed, that is honest but for what is given.

    client_id: from `clients` on that of a member, whose noise it is. grid, weight: what is encrypted, by default what
    `everyone.contribution` would. errors: what replaces the errors at
    these coefficients. added: what is added to these coefficients of the ciphertext alone. key_step: what is added to
    the first key coefficient that is dealt. deal, plain(member, all
    members' shares), spoil(member, box): the dealing. claim: makes of the truth what the proof commits to.
    """
    session = session or everyone.session
    plan, statement = session.plan, session.plan.statement_of(client_id)
    assert statement is not None
    random = np.random.default_rng(client_id)
    values = np.array(list(honest_grid(everyone, client_id) if grid is None else grid), dtype=np.int64)
    noise = np.rint(random.normal(0, 6.0, plan.packing.coefficients)).astype(np.int64)
    for place, error in (errors or {}).items():
        noise[place] = error
    key = OneTimeKey.generate(plan.packing).coefficients
    public = polynomials(session.sid)
    first_row = (key % statement.prime).astype(np.uint64)[None]
    ciphertext = encrypt(statement, public, Witness(values, noise, first_row, first_row[:, :2], weight))
    for place, number in (added or {}).items():
        ciphertext[place] = (int(ciphertext[place]) + number) % statement.prime
    frames = []
    for frame in plan.packing.frames:
        first, last = plan.packing.frame_coefficients(frame)
        packed = bytearray(frame.size)
        part = ciphertext[first:last].reshape(frame.chunks, 1, frame.coefficients)
        residues.pack(packed, np.ascontiguousarray(part), plan.packing.ring.primes)
        frames.append(bytes(packed))
    dealer = deal(plan.sharing, key + key_step * (np.arange(key.size) == 0))
    ephemeral = X25519PrivateKey.generate()
    shares, boxes = [dealer.shares(m) for m in range(plan.committee.size)], []
    for m in range(plan.committee.size):
        context = BoxContext(session.sid, client_id, m, session.roster.committee[m].encoded, session.prekeys[m].key)
        boxes.append(spoil(m, seal(context, ephemeral, plain(m, shares))))
    digests = (tuple(hashlib.sha256(p).digest() for p in parts) for parts in (frames, boxes))
    header = Header(client_id, b"", ephemeral.public_key().public_bytes_raw(), *digests, b"")

    def instance_of(root: bytes) -> Instance:
        nonlocal header
        header = replace(header, commitment=root)
        header = replace(header, check=dealer.check(header.dealing().challenge(session.sid)))
        return instance(session, header.dealing(), ciphertext)

    dealt, masks = dealer.polynomials.view(np.uint64), dealer.masks.view(np.uint64)
    case = Case(statement, Witness(values, noise, dealt, masks, 1), ciphertext, public)
    truth = Claim.of(_within(case)).telling(dealt={statement.dealt - 1: weight}, encrypted=False)
    truth = truth.telling(values={i: int(v) for i, v in enumerate(values)}, encrypted=False)
    proof = _Client(claim(truth), instance_of, repair).prove().proof
    return ProvenParts(header, tuple(frames), tuple(boxes), proof)
