"""What a site keeps of one job, beyond the process that runs it: what it pinned, where it contributed, its journal.

| in the job's directory | |
|---|---|
| pinned | base of the round numbers (8), digest of the roster (32) |
| claims/<round number> | empty; the site has contributed to this round |
| prekeys, answers | the journal of a committee member |

Each file is made once, whole and synced, so that a job process that starts again trusts nobody anew and contributes to
no round twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from secureagg.committee import CommitteeMember
from secureagg.durable import make_directory, make_once
from secureagg.errors import EncodingError, ParameterError
from secureagg.identity import Identity
from secureagg.wire import Reader, Writer

__all__ = ["JobRecord", "Pinned"]


@dataclass(frozen=True)
class Pinned:
    """What a site takes once a job: `Batch.base` and the roster, by its digest."""

    base: int
    roster: bytes

    def to_bytes(self) -> bytes:
        """Encode: base (8), digest (32)."""
        return Writer().integer(self.base, 8).raw(self.roster).getvalue()

    @classmethod
    def from_bytes(cls, encoded: bytes) -> Pinned:
        """Decode `to_bytes`; anything else is an EncodingError."""
        reader = Reader(encoded, "what this site has pinned")
        pinned = cls(reader.integer(8), bytes(reader.raw(32)))
        reader.end()
        return pinned


class JobRecord:
    """The record of a job in `directory`, made if it is not there. Raises: ParameterError if it cannot be used."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        for part in (directory, directory / "claims"):
            make_directory(part)

    def pinned(self) -> Pinned | None:
        """Return what was pinned, or None."""
        try:
            return Pinned.from_bytes((self._directory / "pinned").read_bytes())
        except FileNotFoundError:
            return None
        except EncodingError as error:
            raise ParameterError(f"{self._directory / 'pinned'} is damaged: {error}") from error

    def pin(self, wanted: Pinned) -> None:
        """Pin this, or raise ParameterError if something else is pinned."""
        make_once(self._directory / "pinned", wanted.to_bytes())
        self.require_base(wanted.base)
        if self.pinned() != wanted:
            raise ParameterError("another roster is pinned for this job already")

    def require_base(self, base: int) -> None:
        """Raise ParameterError if another base is pinned."""
        pinned = self.pinned()
        if pinned is not None and pinned.base != base:
            raise ParameterError("the numbers of this job's rounds have another base already")

    def require_unclaimed(self, round_number: int) -> None:
        """Raise ParameterError if this site has contributed to the round, before the work of doing so again."""
        if self._claim(round_number).exists():
            raise _twice(round_number)

    def claim(self, round_number: int) -> None:
        """Note that this site contributes to the round. Raises: ParameterError the second time."""
        if not make_once(self._claim(round_number), b""):
            raise _twice(round_number)

    def member(self, identity: Identity) -> CommitteeMember:
        """Return this site as a committee member of the job."""
        return CommitteeMember(identity, journal=self._directory)

    def _claim(self, round_number: int) -> Path:
        return self._directory / "claims" / str(round_number)

    def __repr__(self) -> str:
        return f"JobRecord({str(self._directory)!r})"


def _twice(round_number: int) -> ParameterError:
    return ParameterError(f"this site has already contributed to round {round_number} of this job")
