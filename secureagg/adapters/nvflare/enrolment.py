"""What server and sites exchange before the first round of a job, and again when its batch of prekeys is used up.

| message | from → to | says |
|---|---|---|
| Batch | server → site | which rounds prekeys are wanted for |
| Enrolment | site → server | the site's public identity and, of a committee member, a prekey a round of the batch |
| Offer | server → site | the sites in order with their identities, and the committee's prekeys for the batch |

A round of the job has the number `base` + its number in NVFlare. The server draws `base`, so that a journal that lives
longer than a job's run never meets a number twice by accident; a site takes one base a job.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from secureagg.errors import EncodingError
from secureagg.wire import Reader, Writer

__all__ = ["MAX_BATCH", "Batch", "Enrolment", "Offer"]

MAX_BATCH = 1024
_MAX_BASE = 2**62
_MAX_SITES = 10**6
_BATCH, _ENROLMENT, _OFFER, _VERSION = b"SAnb", b"SAne", b"SAno", 1


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

    def to_bytes(self) -> bytes:
        """Encode: magic, version, `write`."""
        return self.write(Writer().raw(_BATCH).integer(_VERSION, 1)).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Batch:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "batch")
        reader.magic(_BATCH, _VERSION)
        batch = cls.read(reader)
        reader.end()
        return batch


@dataclass(frozen=True)
class Enrolment:
    """A site's public identity (64 bytes) and its prekeys, none if it is not on the committee."""

    public: bytes
    prekeys: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Encode: magic, version, identity, count (4), length-prefixed prekeys."""
        writer = Writer().raw(_ENROLMENT).integer(_VERSION, 1).raw(self.public).integer(len(self.prekeys), 4)
        for prekey in self.prekeys:
            writer.blob(prekey)
        return writer.getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Enrolment:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "enrolment")
        reader.magic(_ENROLMENT, _VERSION)
        public, count = bytes(reader.raw(64)), reader.integer(4)
        if count > MAX_BATCH:
            raise reader.error(f"{count} prekeys, at most {MAX_BATCH} are asked for")
        enrolment = cls(public, tuple(bytes(reader.blob()) for _ in range(count)))
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
