"""From grid values to a contribution: encrypt, deal, prove, sign. Secret side.

The values are taken as they are: `client.contribute` sees to it that they are what they should be, for a member's noise
`committee` does, and with proofs the aggregator sees whether they are.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from secureagg.events import Event, Observer
from secureagg.he.deal import BoxContext, Dealer, seal
from secureagg.he.encrypt import Encryptor, OneTimeKey
from secureagg.he.sharing import Sharing
from secureagg.identity import Identity
from secureagg.payload import Header
from secureagg.ring import workers
from secureagg.roster import Label
from secureagg.session import Session
from secureagg.verification import instance
from secureagg.zk.statement import Statement
from secureagg.zk.validity import Prover, Witness

__all__ = ["Grid", "write_contribution"]


class Grid(Protocol):
    """What is encrypted, coordinate by coordinate, and what is proven of it: `grid.GridUpdate`, `grid.GridNoise`."""

    @property
    def weight(self) -> int:
        """The coordinate after the last value."""

    @property
    def values(self) -> NDArray[np.int64]:
        """All d values; asked for with proofs only."""

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        """Return coordinates [first, last), the weight after the last value; `first` is even."""


def write_contribution(
    session: Session,
    contributor: int,
    identity: Identity,
    grid: Grid,
    write: Callable[[int, bytes | bytearray], None],
    *,
    observe: Observer | None = None,
    deal: Callable[[Sharing, NDArray[np.int64]], Dealer] = Dealer,
    prover: Callable[[Statement, Witness], Prover] = Prover,
) -> None:
    """Write a signed contribution: `write(offset, data)` is called with its parts, from several threads in turn.

    contributor: the id it is sent under; identity: of that client or member. deal: makes the shares of the one-time
    key; prover: the proof, with proofs. Both are the library's own but where a liar is played.
    """
    plan, statement = session.plan, session.plan.statement_of(contributor)
    secrets, frames = _encrypt_within(session, grid, write, observe)
    ephemeral = X25519PrivateKey.generate()
    dealer = deal(plan.sharing, secrets.key.coefficients)
    boxes = [_box(session, dealer, ephemeral, contributor, member_id) for member_id in range(plan.committee.size)]
    digests = tuple(hashlib.sha256(box).digest() for box in boxes)
    header, proof = Header(contributor, b"", ephemeral.public_key().public_bytes_raw(), frames, digests, b""), b""
    if statement is None:
        header = replace(header, check=dealer.check(header.dealing().challenge(session.sid)))
    else:
        header, proof = _prove(session, header, dealer, secrets, grid, partial(prover, statement))
        if observe is not None:
            observe(Event("prove", 1, 1))
    signature = identity.sign(Label.CONTRIBUTION, header.dealing().message(session.sid))
    write(plan.header_bytes + plan.packing.ciphertext_bytes, b"".join([*boxes, proof]))
    write(0, replace(header, signature=signature).to_bytes(session.sid))


def _box(session: Session, dealer: Dealer, ephemeral: X25519PrivateKey, contributor: int, member_id: int) -> bytes:
    public = session.roster.committee[member_id].encoded
    context = BoxContext(session.sid, contributor, member_id, public, session.prekeys[member_id].key)
    return seal(context, ephemeral, dealer.shares(member_id))


@dataclass(frozen=True)
class _Secrets:
    """The one-time key and, for the prover, the errors and the ciphertext it was used with (empty without proofs)."""

    key: OneTimeKey
    errors: NDArray[np.int64] = field(repr=False)
    ciphertext: NDArray[np.uint64] = field(repr=False)


def _encrypt_within(
    session: Session, grid: Grid, write: Callable[[int, bytes | bytearray], None], observe: Observer | None
) -> tuple[_Secrets, tuple[bytes, ...]]:
    """Encrypt under a fresh key; with proofs again if Σe² exceeds B_e², which happens with probability ≤ 2^-40."""
    plan = session.plan
    while True:
        count = plan.packing.coefficients if plan.proofs else 0
        key = OneTimeKey.generate(plan.packing)
        secrets = _Secrets(key, np.empty(count, dtype=np.int64), np.empty(count, dtype=np.uint64))
        frames = _encrypt(session, secrets, grid, write, observe)
        if plan.statement is None or secrets.errors @ secrets.errors <= plan.statement.error_bound:
            return secrets, frames


def _encrypt(
    session: Session,
    secrets: _Secrets,
    grid: Grid,
    write: Callable[[int, bytes | bytearray], None],
    observe: Observer | None,
) -> tuple[bytes, ...]:
    """Pack and encrypt, frame by frame on all cores; return the frames' digests."""
    plan, packing = session.plan, session.plan.packing
    encryptor = Encryptor(packing, session.sid, secrets.key)
    digests = [b""] * len(packing.frames)
    lock = threading.Lock()
    done = 0

    def encrypt_frame(index: int) -> None:
        nonlocal done
        frame = packing.frames[index]
        values = grid.between(*packing.frame_coordinates(frame))
        if plan.proofs:
            sent = slice(*packing.frame_coefficients(frame))
            data = encryptor.encrypt(frame, values, secrets.errors[sent], secrets.ciphertext[sent])
        else:
            data = encryptor.encrypt(frame, values)
        digests[index] = hashlib.sha256(data).digest()
        with lock:
            write(plan.header_bytes + frame.start, data)
            done += 1
            if observe is not None:
                observe(Event("encrypt", done, len(packing.frames)))

    def encrypt_frames(start: int, stop: int) -> None:
        for index in range(start, stop):
            encrypt_frame(index)

    workers.run(encrypt_frames, len(packing.frames))
    return tuple(digests)


def _prove(
    session: Session,
    header: Header,
    dealer: Dealer,
    secrets: _Secrets,
    grid: Grid,
    make_prover: Callable[[Witness], Prover],
) -> tuple[Header, bytes]:
    """Return the header with its commitment, share check and proof's digest, and the proof.

    The commitment comes first, then the share check's challenge, then its answer, then the rest of the proof: whoever
    knew the challenge could commit to another key than it dealt.
    """
    polynomials, masks = dealer.polynomials.view(np.uint64), dealer.masks.view(np.uint64)
    prover = make_prover(Witness(grid.values, secrets.errors, polynomials, masks, grid.weight))
    while True:
        committed = replace(header, commitment=prover.commit())
        checked = replace(committed, check=dealer.check(committed.dealing().challenge(session.sid)))
        proof = prover.prove(instance(session, checked.dealing(), secrets.ciphertext))
        if proof is not None:  # but with probability 2^-41
            return replace(checked, proof=hashlib.sha256(proof).digest()), proof
