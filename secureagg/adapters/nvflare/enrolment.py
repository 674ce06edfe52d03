"""What server and sites exchange before the first round of a job, and again when its batch of prekeys is used up.

| message | from → to | says |
|---|---|---|
| Invitation | server → site | which rounds prekeys are wanted for, and a challenge |
| Enrolment | site → server | the site's public identity, shown to be its own for the batch; a member's prekeys |
| Offer | server → site | the sites in order with their identities, and the committee's prekeys for the batch |

A round of the job has the number `base` + its number in NVFlare. The server draws `base`, so that a journal that lives
longer than a job's run never meets a number twice by accident; a site takes one base a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secureagg.errors import EncodingError
from secureagg.identity import Identity, KeyChallenge
from secureagg.roster import SIGNATURE_BYTES, Label, PublicIdentity
from secureagg.session import Prekey
from secureagg.wire import Reader, Writer

__all__ = ["MAX_BATCH", "Batch", "Enrolment", "Invitation", "Offer", "require_prekeys"]

MAX_BATCH = 1024
_MAX_BASE = 2**62
_MAX_SITES = 10**6
_KEY_BYTES = 32
_INVITATION, _ENROLMENT, _OFFER, _VERSION = b"SAni", b"SAne", b"SAno", 1


@dataclass(frozen=True)
class Batch:
    """Rounds `start` … `start` + `count` − 1 of a job, whose numbers in sessions begin with `base`."""

    base: int
    start: int
    count: int

    def __contains__(self, round_number: object) -> bool:
        return isinstance(round_number, int) and self.start <= round_number < self.start + self.count

    def write(self, writer: Writer) -> Writer:
        """Append base (8), start (8) and count (4)."""
        return writer.integer(self.base, 8).integer(self.start, 8).integer(self.count, 4)

    @classmethod
    def read(cls, reader: Reader) -> Batch:
        """Read `write`; refuse what no job needs."""
        batch = cls(reader.integer(8), reader.integer(8), reader.integer(4))
        if batch.base >= _MAX_BASE or batch.start >= _MAX_BASE or not 1 <= batch.count <= MAX_BATCH:
            raise reader.error(f"a batch of {batch.count} rounds from {batch.start} on is not served")
        return batch


@dataclass(frozen=True)
class Invitation:
    """Asks a site to enrol for a batch, and to show by this `KeyChallenge` (32 bytes) that it holds its X25519 key."""

    batch: Batch
    challenge: bytes

    def to_bytes(self) -> bytes:
        """Encode: magic, version, the batch, the challenge (32)."""
        return self.batch.write(Writer().raw(_INVITATION).integer(_VERSION, 1)).raw(self.challenge).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Invitation:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "invitation")
        reader.magic(_INVITATION, _VERSION)
        invitation = cls(Batch.read(reader), bytes(reader.raw(_KEY_BYTES)))
        reader.end()
        return invitation


@dataclass(frozen=True)
class Enrolment:
    """A site's public identity (64 bytes), and its prekeys, none if it is not on the committee.

    It shows that it holds both keys by a signature (64) of the one and a confirmation (32) of the other: without them
    it could publish another site's.
    """

    public: bytes
    prekeys: tuple[bytes, ...]
    signature: bytes
    confirmation: bytes

    @classmethod
    def signed(cls, identity: Identity, site: str, invited: Invitation, prekeys: tuple[bytes, ...]) -> Enrolment:
        """Return the enrolment of a site for the batch it is invited to."""
        message = _signed_by(site, invited.batch, identity.public)
        signature = identity.sign(Label.ENROLMENT, message)
        return cls(identity.public, prekeys, signature, identity.confirm(invited.challenge, message))

    def require_of(self, site: str, batch: Batch, challenge: KeyChallenge) -> None:
        """Raise EncodingError unless `site` itself enrolled with this identity, for this batch."""
        party, message = PublicIdentity(self.public), _signed_by(site, batch, self.public)
        party.verify(Label.ENROLMENT, message, self.signature)
        challenge.verify(party, message, self.confirmation)

    def to_bytes(self) -> bytes:
        """Encode: magic, version, identity, count (4), length-prefixed prekeys, signature (64), confirmation (32)."""
        writer = Writer().raw(_ENROLMENT).integer(_VERSION, 1).raw(self.public).integer(len(self.prekeys), 4)
        for prekey in self.prekeys:
            writer.blob(prekey)
        return writer.raw(self.signature).raw(self.confirmation).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Enrolment:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "enrolment")
        reader.magic(_ENROLMENT, _VERSION)
        public, count = bytes(reader.raw(64)), reader.integer(4)
        if count > MAX_BATCH:
            raise reader.error(f"{count} prekeys, at most {MAX_BATCH} are asked for")
        prekeys = tuple(bytes(reader.blob()) for _ in range(count))
        enrolment = cls(public, prekeys, bytes(reader.raw(SIGNATURE_BYTES)), bytes(reader.raw(_KEY_BYTES)))
        reader.end()
        return enrolment


@dataclass(frozen=True)
class Offer:
    """What the server says a job's rounds are: who takes part, in order, and the committee's prekeys by round."""

    batch: Batch
    sites: tuple[str, ...]
    publics: tuple[bytes, ...]
    prekeys: tuple[tuple[bytes, ...], ...]

    def prekeys_of(self, round_number: int) -> Sequence[bytes]:
        """Return the members' prekeys for a round of the batch, in the committee's order."""
        return self.prekeys[round_number - self.batch.start]

    def agrees_with(self, other: Offer) -> bool:
        """Return whether every round of both batches has the same prekeys in both."""
        start = max(self.batch.start, other.batch.start)
        stop = min(self.batch.start + self.batch.count, other.batch.start + other.batch.count)
        return all(self.prekeys_of(number) == other.prekeys_of(number) for number in range(start, stop))

    def to_bytes(self) -> bytes:
        """Encode: magic, version, batch, site count (4), names with identities, prekeys a round (4), the prekeys."""
        writer = self.batch.write(Writer().raw(_OFFER).integer(_VERSION, 1)).integer(len(self.sites), 4)
        for site, public in zip(self.sites, self.publics, strict=True):
            writer.blob(site.encode()).raw(public)
        writer.integer(len(self.prekeys[0]), 4)
        for of_round in self.prekeys:
            for prekey in of_round:
                writer.blob(prekey)
        return writer.getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Offer:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "offer")
        reader.magic(_OFFER, _VERSION)
        batch, count = Batch.read(reader), reader.integer(4)
        if count > _MAX_SITES:
            raise reader.error(f"{count} sites are too many")
        parties = [(reader.text(), bytes(reader.raw(64))) for _ in range(count)]
        members = reader.integer(4)
        if members > count:
            raise reader.error(f"prekeys of {members} members among {count} sites")
        prekeys = tuple(tuple(bytes(reader.blob()) for _ in range(members)) for _ in range(batch.count))
        reader.end()
        sites = tuple(site for site, _ in parties)
        if len(set(sites)) != len(sites):
            raise EncodingError("offer: a site stands twice")
        return cls(batch, sites, tuple(public for _, public in parties), prekeys)


def require_prekeys(prekeys: Sequence[bytes], public: bytes, batch: Batch) -> None:
    """Raise EncodingError unless these are the prekeys of the member with this identity for the rounds of the batch."""
    if len(prekeys) != batch.count:
        raise EncodingError(f"{len(prekeys)} prekeys for a batch of {batch.count} rounds")
    for position, encoded in enumerate(prekeys):
        prekey = Prekey.from_bytes(encoded)
        if prekey.member.encoded != public or prekey.round_number != batch.base + batch.start + position:
            raise EncodingError(f"prekey {position} of the batch is of another member or another round")


def _signed_by(site: str, batch: Batch, public: bytes) -> bytes:
    """Return what a site signs as it enrols: "nvflare" and its name, each with its length, the batch, the identity."""
    return batch.write(Writer().text("nvflare").text(site)).raw(public).getvalue()
