"""A member's journal: its secret prekeys until they are spent, and its one answer per roster and round number.

A directory of small files, each made once (`durable`), so that two processes with one journal cannot both answer, and a
crash at any point leaves either no answer or the answer. A prekey's file is overwritten and unlinked once its answer is
journalled; what a file system or a disk keeps of overwritten blocks is beyond this module (docs/threat-model.md).
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from secureagg.durable import make_once, sync_directory
from secureagg.errors import EncodingError, ParameterError

__all__ = ["Journal"]

_DIGEST_BYTES = 32
_PREKEY_BYTES = 32


class Journal:
    """The journal in directory `path`, made if it is not there; readable by its owner alone."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(path)
        try:
            for part in (self._root, self._root / "prekeys", self._root / "answers"):
                part.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise ParameterError(f"the journal {self._root} cannot be used: {error.strerror}") from error
        for answered in self._root.joinpath("answers").glob("*.answer"):
            self.erase_prekey(_round_of(answered))  # a crash may have come between the two

    def retire(self, round_number: int) -> None:
        """Erase the prekeys of all rounds up to this one, answered or given up."""
        for path in self._root.joinpath("prekeys").glob("*.key"):
            if _round_of(path) <= round_number:
                self.erase_prekey(_round_of(path))

    def prekey(self, round_number: int, fresh: bytes) -> bytes:
        """Return the secret prekey of this round: the one journalled before, or else `fresh`, now journalled."""
        make_once(self._prekey_path(round_number), fresh)
        stored = self.stored_prekey(round_number)
        if stored is None:
            raise ParameterError(f"round {round_number} was answered and its prekey erased in this very moment")
        return stored

    def stored_prekey(self, round_number: int) -> bytes | None:
        """Return the journalled prekey, or None: never made, or spent."""
        try:
            secret = self._prekey_path(round_number).read_bytes()
        except FileNotFoundError:
            return None
        if len(secret) != _PREKEY_BYTES:
            raise EncodingError(f"the journal's prekey for round {round_number} is damaged")
        return secret if any(secret) else None  # all zero: overwritten, and about to be removed

    def erase_prekey(self, round_number: int) -> None:
        """Overwrite and remove the prekey of this round, if it is there."""
        path = self._prekey_path(round_number)
        with suppress(FileNotFoundError):
            with path.open("r+b") as file:
                file.write(bytes(_PREKEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            path.unlink()
            sync_directory(path.parent)

    def answer(self, roster: bytes, round_number: int) -> tuple[bytes, bytes] | None:
        """Return (request digest, answer) given under this roster for this round number, or None."""
        try:
            stored = self._answer_path(roster, round_number).read_bytes()
        except FileNotFoundError:
            return None
        if len(stored) <= _DIGEST_BYTES:
            raise EncodingError(f"the journal's answer for round {round_number} is damaged; nothing is answered")
        return stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]

    def record(self, roster: bytes, round_number: int, request: bytes, answer: bytes) -> tuple[bytes, bytes]:
        """Journal an answer, durably, before it is released; return what the journal holds, an earlier one if any."""
        make_once(self._answer_path(roster, round_number), request + answer)
        stored = self.answer(roster, round_number)
        assert stored is not None
        return stored

    def _prekey_path(self, round_number: int) -> Path:
        return self._root / "prekeys" / f"{round_number}.key"

    def _answer_path(self, roster: bytes, round_number: int) -> Path:
        return self._root / "answers" / f"{roster.hex()}-{round_number}.answer"

    def __repr__(self) -> str:
        return f"Journal({str(self._root)!r})"


def _round_of(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    if not (number.isascii() and number.isdecimal()):
        raise ParameterError(f"{path} is no file of the journal; remove it")
    return int(number)
