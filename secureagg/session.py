"""A session: plan, roster, prekeys, round number and model, and the id that everything is bound to.

sid = SHA-256(label ‖ plan digest ‖ roster digest ‖ prekeys ‖ round number ‖ model digest). Each party rebuilds the
session from the plan and roster it has pinned, the round number and the model it trains on, with whatever else it was
told to train by; it is never downloaded whole. Two parties that differ in any of these have different ids, and refuse
each other's messages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from secureagg.checks import as_whole
from secureagg.errors import EncodingError, FaultyClientError, FaultyMemberError, ParameterError
from secureagg.layout import Layout, Weights
from secureagg.plan import RoundPlan
from secureagg.roster import SIGNATURE_BYTES, Identities, Label, PublicIdentity, Roster
from secureagg.wire import Reader, Writer

__all__ = ["Prekey", "Session", "model_digest"]

_LABEL = b"secureagg v1 session"
_PREKEY_MAGIC = b"SApk"
_RECORD_MAGIC = b"SAse"
_VERSION = 1
MAX_ROUND = 2**63 - 1


@dataclass(frozen=True)
class Prekey:
    """A committee member's X25519 key for one round, signed by its identity.

    Bytes: magic, version, round number (8), member's public identity (64), X25519 key (32), signature (64).
    """

    round_number: int
    member: PublicIdentity
    key: bytes
    signature: bytes

    @staticmethod
    def message(round_number: int, key: bytes) -> bytes:
        """Return what the member signs."""
        return Writer().integer(round_number, 8).raw(key).getvalue()

    def to_bytes(self) -> bytes:
        """Encode."""
        writer = Writer().raw(_PREKEY_MAGIC).integer(_VERSION, 1).integer(self.round_number, 8)
        return writer.raw(self.member.encoded).raw(self.key).raw(self.signature).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Prekey:
        """Decode and verify the signature; anything else is an EncodingError."""
        reader = Reader(encoded, "prekey")
        reader.magic(_PREKEY_MAGIC, _VERSION)
        prekey = cls(
            reader.integer(8),
            PublicIdentity(bytes(reader.raw(64))),
            bytes(reader.raw(32)),
            bytes(reader.raw(SIGNATURE_BYTES)),
        )
        reader.end()
        prekey.member.verify(Label.PREKEY, cls.message(prekey.round_number, prekey.key), prekey.signature)
        return prekey


class Session:
    """Everything the parties of one round agree on. Public; holds no secret.

    model: the weights the clients start from, in the plan's layout; they enter the session id by their digest. task:
    whatever else steers their training, as bytes that all of them come to alike, such as the names of the tensors and a
    learning rate: who may give clients different ones can make all updates but one vanish, and the sum is that one
    (Pasquini, Francati, Ateniese, "Eluding secure aggregation in federated learning via model inconsistency", CCS
    2022).
    prekeys: `CommitteeMember.prekey(round_number)` of each member, in the roster's order.

    Raises: ParameterError if counts differ from the plan's, or a prekey is of another member or round;
    EncodingError if a prekey is malformed or its signature wrong; FaultyMemberError if no client could agree on a
    secret with a member's keys.
    """

    def __init__(
        self,
        plan: RoundPlan,
        roster: Roster,
        *,
        prekeys: Sequence[bytes],
        round_number: int,
        model: Weights,
        task: bytes = b"",
    ) -> None:
        self._agree(plan, roster, prekeys, round_number, model_digest(plan.layout, model, task))

    def _agree(
        self, plan: RoundPlan, roster: Roster, prekeys: Sequence[bytes], round_number: int, digest: bytes
    ) -> None:
        if len(roster.clients) != plan.clients or len(roster.committee) != plan.committee.size:
            raise ParameterError(
                f"the roster has {len(roster.clients)} clients and {len(roster.committee)} committee members, "
                f"the plan {plan.clients} and {plan.committee.size}"
            )
        self.plan = plan
        self.roster = roster
        self.round_number = as_whole("round_number", round_number, 0, MAX_ROUND)
        self.prekeys = _checked_prekeys(roster, prekeys, self.round_number)
        self.model_digest = digest
        self.sid = self._session_id()

    def _session_id(self) -> bytes:
        writer = Writer().blob(_LABEL).raw(self.plan.digest()).raw(self.roster.digest())
        for prekey in self.prekeys:
            writer.blob(prekey.to_bytes())
        return hashlib.sha256(writer.integer(self.round_number, 8).raw(self.model_digest).getvalue()).digest()

    def to_bytes(self) -> bytes:
        """Return the session's record, for auditors: magic, version, then what the session id is made of.

        Plan, roster and each prekey as length-prefixed bytes, the round number (8), the model's digest (32).
        """
        writer = Writer().raw(_RECORD_MAGIC).integer(_VERSION, 1).blob(self.plan.to_bytes())
        writer.blob(self.roster.to_bytes())
        for prekey in self.prekeys:
            writer.blob(prekey.to_bytes())
        return writer.integer(self.round_number, 8).raw(self.model_digest).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes, *, allow_insecure: bool = False) -> Session:
        """Decode a record. Whoever takes part builds the session from what it has pinned instead.

        Whether it is the round that was agreed on, only a comparison of `sid` with a pinned one tells.
        Raises: EncodingError, also for a plan or roster that could not be; FaultyMemberError as the constructor.
        """
        reader = Reader(encoded, "session record")
        reader.magic(_RECORD_MAGIC, _VERSION)
        plan = RoundPlan.from_bytes(bytes(reader.blob()), allow_insecure=allow_insecure)
        roster = Roster.from_bytes(reader.blob())
        prekeys = [bytes(reader.blob()) for _ in range(plan.committee.size)]
        round_number, digest = reader.integer(8), bytes(reader.raw(32))
        reader.end()
        session = cls.__new__(cls)
        try:
            session._agree(plan, roster, prekeys, round_number, digest)
        except ParameterError as error:
            raise reader.error(str(error)) from error
        return session

    def contributor(self, contributor_id: int) -> PublicIdentity:
        """Return who contributes under this id: a client, or from id `plan.clients` on a member that adds noise.

        Raises: EncodingError if nobody does.
        """
        if contributor_id < self.plan.clients:
            return self.roster.clients[contributor_id]
        if contributor_id < self.plan.contributors:
            return self.roster.committee[contributor_id - self.plan.clients]
        noisy = f", whose committee adds {self.plan.noise_members} more" if self.plan.noise_members else ""
        raise EncodingError(f"client {contributor_id} is not on the roster of {self.plan.clients}{noisy}")

    def fault(self, contributor_id: int, reason: str) -> FaultyClientError | FaultyMemberError:
        """Return the error that blames whoever contributes under this id."""
        if contributor_id < self.plan.clients:
            return FaultyClientError(contributor_id, reason)
        return FaultyMemberError(contributor_id - self.plan.clients, reason)

    def client_id(self, public: bytes) -> int:
        """Return the id of the client with this public identity. Raises: ParameterError if it is not on the roster."""
        return _position(self.roster.clients, public, "client")

    def member_id(self, public: bytes) -> int:
        """Return the id of the committee member with this public identity. Raises: ParameterError."""
        return _position(self.roster.committee, public, "committee member")

    def __repr__(self) -> str:
        return f"Session(round_number={self.round_number}, sid={self.sid.hex()[:16]}…)"


def model_digest(layout: Layout, model: Weights, task: bytes = b"") -> bytes:
    """Return SHA-256 over the layout, the little-endian values of a model that has this layout, and the task."""
    layout.check(model)
    digest = hashlib.sha256(layout.to_bytes())
    for tensor in model:
        little = np.ascontiguousarray(tensor.astype(tensor.dtype.newbyteorder("<"), copy=False))
        digest.update(little.reshape(-1).view(np.uint8).data)
    digest.update(task)  # how many bytes precede it follows from the layout
    return digest.digest()


def _checked_prekeys(roster: Roster, encoded: Sequence[bytes], round_number: int) -> tuple[Prekey, ...]:
    if len(encoded) != len(roster.committee):
        raise ParameterError(f"{len(encoded)} prekeys given, the committee has {len(roster.committee)} members")
    prekeys = []
    for member_id, (member, each) in enumerate(zip(roster.committee, encoded, strict=True)):
        try:
            prekey = Prekey.from_bytes(each)
        except EncodingError as error:
            raise EncodingError(f"committee member {member_id}: {error}") from error
        if prekey.member != member or prekey.round_number != round_number:
            raise ParameterError(
                f"prekey {member_id} is of another member or round; give prekey({round_number}) of each member, "
                "in the roster's order"
            )
        if not (_usable(prekey.key) and _usable(member.encoded[32:])):
            raise FaultyMemberError(member_id, "one of its X25519 keys is a low-order point")
        prekeys.append(prekey)
    return tuple(prekeys)


def _usable(key: bytes) -> bool:
    """Return whether a secret can be agreed with this X25519 key: not with a low-order point (RFC 7748, section 6.1).

    Any secret key shows it, since all are multiples of the cofactor.
    """
    try:
        X25519PrivateKey.from_private_bytes(bytes(32)).exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def _position(identities: Identities, public: bytes, role: str) -> int:
    position = identities.position(public)
    if position is None:
        raise ParameterError(f"this identity is not a {role} on the roster")
    return position
