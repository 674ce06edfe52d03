"""A committee member: publishes prekeys, checks the shares it was dealt, and answers once per round with their sum.

A member never sees a client's ciphertext. What it releases is the sum of its shares over a set of at least `quorum`
clients, under which at least t members must answer alike before anybody learns the sum of the one-time keys. Where the
plan has the committee add noise, a member contributes its own, and answers only for a sum that holds it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from secureagg.checks import as_whole
from secureagg.contribution import write_contribution
from secureagg.errors import EncodingError, ParameterError, QuorumError
from secureagg.exchange import (
    CHECK,
    REVEAL,
    Request,
    RequestHeader,
    RevealAnswer,
    ShareCheck,
    read_exactly,
    request_digest,
    request_entries,
)
from secureagg.grid import GridNoise
from secureagg.he.deal import BoxContext, unseal
from secureagg.he.sharing import pack_elements, verify_shares
from secureagg.identity import Identity
from secureagg.journal import Journal
from secureagg.payload import Dealing
from secureagg.roster import Label, PublicIdentity
from secureagg.session import MAX_ROUND, Prekey, Session
from secureagg.wire import Reader

__all__ = ["CommitteeMember"]


class CommitteeMember:
    """One member, with its identity and its journal (a directory, made if needed; never shared between members).

    Guarantees: at most one answer per roster and round number leaves this object, also across crashes and processes
    that share the journal; after it, the round's prekey is erased, so that a later theft of every key this member
    holds opens no box of that round.
    """

    def __init__(self, identity: Identity, *, journal: str | os.PathLike[str]) -> None:
        self._identity = identity
        self._journal = Journal(journal)
        self.public = identity.public

    def prekey(self, round_number: int) -> bytes:
        """Return this member's signed one-session key for a round; the same bytes until the round is answered."""
        round_number = as_whole("round_number", round_number, 0, MAX_ROUND)
        secret = X25519PrivateKey.from_private_bytes(self._journal.prekey(round_number, os.urandom(32)))
        key = secret.public_key().public_bytes_raw()
        signature = self._identity.sign(Label.PREKEY, Prekey.message(round_number, key))
        return Prekey(round_number, PublicIdentity(self.public), key, signature).to_bytes()

    def retire(self, up_to_round: int) -> None:
        """Erase the prekeys of all rounds up to this one.

        For rounds that were given up: their prekeys are otherwise kept, and a thief of t members' keys could open
        single contributions of those rounds.
        """
        self._journal.retire(up_to_round)

    def add_noise(self, session: Session) -> bytes:
        """Return this member's contribution of noise, to be admitted like a client's (noise_by="committee").

        The noise is drawn anew at each call; only one contribution of a member is admitted. Raises: ParameterError if
        this member is not on the roster, or the plan does not ask its committee for noise.
        """
        plan, member_id = session.plan, session.member_id(self.public)
        if not plan.noise_members:
            raise ParameterError('this plan asks its committee for no noise; noise_by="committee" would')
        contributor = plan.clients + member_id
        buffer = bytearray(plan.contribution_bytes(contributor))

        def write(offset: int, data: bytes | bytearray) -> None:
            buffer[offset : offset + len(data)] = data

        write_contribution(session, contributor, self._identity, GridNoise(plan), write)
        return bytes(buffer)

    def check(self, session: Session, request: bytes | BinaryIO | Request) -> bytes:
        """Return signed complaints about clients whose shares do not open or do not lie on one polynomial.

        Reveals nothing else. Raises: EncodingError if the request itself is wrong, which only the aggregator can be
        blamed for; ParameterError if this member is not on the roster or the round is already answered.
        """
        member_id, header, source = self._open(session, request, CHECK)
        prekey = self._journal.stored_prekey(session.round_number)
        digest, complaints, _ = self._examine(session, member_id, prekey, header, source)
        report = ShareCheck(member_id, digest, complaints)
        signature = self._identity.sign(Label.SHARE_CHECK, report.message(session.sid))
        return ShareCheck(member_id, digest, complaints, signature).to_bytes(session.sid)

    def respond(self, session: Session, request: bytes | BinaryIO | Request) -> bytes:
        """Return the signed sum of this member's shares over the request's clients, or its complaints instead.

        The identical request again returns the identical bytes. Raises: ParameterError if another set of clients was
        answered under this roster and round number; QuorumError if the set is below the plan's quorum, clients alone
        counted, or holds no noise of this member where the committee adds it; EncodingError if the request is
        malformed, of another session, or holds a contribution its client did not sign.
        """
        member_id, header, source = self._open(session, request, REVEAL)
        roster, round_number = session.roster.digest(), session.round_number
        # In this order: an answer is journalled before its prekey goes, so whoever finds no prekey finds the answer.
        prekey = self._journal.stored_prekey(round_number)
        given = self._journal.answer(roster, round_number)
        if given is not None:
            entries = request_entries(source, session, header, member_id)
            digest = request_digest(session.sid, (dealing for dealing, _ in entries))
        else:
            digest, complaints, sums = self._examine(session, member_id, prekey, header, source, revealing=True)
            answer = RevealAnswer(member_id, digest, b"" if complaints else sums, complaints)
            signature = self._identity.sign(Label.REVEAL, answer.message(session.sid))
            signed = RevealAnswer(member_id, digest, answer.sums, complaints, signature).to_bytes(session.sid)
            if complaints:
                return signed
            given = self._journal.record(roster, round_number, digest, signed)
        if given[0] != digest:
            raise ParameterError(
                f"round {round_number} was already answered under this roster, for another set of clients; "
                "a retried round takes a new round number"
            )
        self._journal.erase_prekey(round_number)
        return given[1]

    def _open(
        self, session: Session, request: bytes | BinaryIO | Request, kind: int
    ) -> tuple[int, RequestHeader, BinaryIO]:
        member_id = session.member_id(self.public)
        if isinstance(request, Request):
            request = request.for_member(member_id)
        source = io.BytesIO(request) if isinstance(request, bytes | bytearray | memoryview) else request
        encoded = read_exactly(source, RequestHeader.BYTES, "request")
        header = RequestHeader.read(Reader(encoded, "request"), session)
        if header.kind != kind:
            raise EncodingError(f"request: kind {header.kind} given where kind {kind} is answered")
        return member_id, header, source

    def _examine(
        self,
        session: Session,
        member_id: int,
        secret: bytes | None,
        header: RequestHeader,
        source: BinaryIO,
        *,
        revealing: bool = False,
    ) -> tuple[bytes, tuple[int, ...], bytes]:
        """Return (digest of the set, complaints, packed sum of the accepted shares).

        revealing: refuse a set of too few clients, or without this member's noise where it must be in it.
        """
        if secret is None:
            raise ParameterError(
                f"this member holds no prekey for round {session.round_number}: it was never published, or the round "
                "is answered and the key erased. A retried round takes a new round number"
            )
        prekey = X25519PrivateKey.from_private_bytes(secret)
        if prekey.public_key().public_bytes_raw() != session.prekeys[member_id].key:
            raise ParameterError(f"the session holds another prekey of this member for round {session.round_number}")
        sharing = session.plan.sharing
        sums = np.zeros(sharing.secrets, dtype=np.int64)
        complaints: list[int] = []
        clients, own = 0, session.plan.clients + member_id
        missing = session.plan.noise_members > 0

        def accept() -> Iterator[Dealing]:
            nonlocal clients, missing
            for dealing, box in request_entries(source, session, header, member_id):
                dealing.verify(session)
                clients += dealing.client_id < session.plan.clients
                missing = missing and dealing.client_id != own
                shares = self._shares(session, prekey, member_id, dealing, box)
                if shares is None:
                    complaints.append(dealing.client_id)
                else:
                    sharing.add(sums, shares)
                yield dealing

        digest = request_digest(session.sid, accept())
        if revealing and clients < session.plan.quorum:
            raise QuorumError(f"{clients} clients requested, the quorum is {session.plan.quorum}; nothing revealed")
        if revealing and missing:
            raise QuorumError("this member's own noise is not in the sum that it is asked to open; nothing revealed")
        return digest, tuple(complaints), pack_elements(sharing, sums)

    def _shares(
        self, session: Session, prekey: X25519PrivateKey, member_id: int, dealing: Dealing, box: bytes
    ) -> NDArray[np.int64] | None:
        """Return the shares in a box, or None if it does not open or its shares fail the check."""
        context = BoxContext(session.sid, dealing.client_id, member_id, self.public, session.prekeys[member_id].key)
        try:
            plain = unseal(context, prekey, self._identity.agree, dealing.ephemeral, box)
            challenge = dealing.challenge(session.sid)
            return verify_shares(session.plan.sharing, member_id, challenge, dealing.check, plain)
        except EncodingError:
            return None
