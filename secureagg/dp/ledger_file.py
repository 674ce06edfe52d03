"""The bytes of a ledger: canonical JSON lines, each with the hash of all before it, locked, synced before they count.

    {"body":{…},"hash":"SHA-256(domain ‖ previous hash ‖ canonical body)"}\n

What a crash can leave is a last line without its line feed. Whole (its hash is right), it is kept: it may have been
written, and counting it errs on the safe side. A prefix of a line was never acknowledged, since `append` returns after
the sync of all of it, so it is dropped. Anything else, at any place, is damage, and refused.

A file that was renamed or replaced while it is held, by a restored copy say, is no longer the ledger that the next
holder finds; nothing is acknowledged in it any more.

Not detected: last lines removed whole by somebody who may write the file. Pin `head` elsewhere against that.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path

from secureagg.durable import sync_directory
from secureagg.errors import EncodingError, ParameterError

__all__ = ["LedgerFile"]

_DOMAIN = b"secureagg ledger v1"
_START = b'{"body":{'


class LedgerFile:
    """The file at `path`, made if it is not there; one holder at a time, in one process."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.bodies: list[dict[str, object]] = []
        self._place = self.path.absolute()  # the process may change its directory
        self._process, self._broken = os.getpid(), False
        self._head = hashlib.sha256(_DOMAIN).digest()
        try:
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ParameterError(f"the ledger {self.path} cannot be used: {error.strerror}") from error
        try:
            self._lock()
            self._require_in_place()  # it may have been replaced between opening and locking
            self._recover()
            sync_directory(self.path.parent)
        except BaseException:
            self.close()
            raise

    @property
    def head(self) -> str:
        """The hash of everything acknowledged, in hexadecimal."""
        return self._head.hex()

    @property
    def is_own(self) -> bool:
        """Whether this process opened the file; a process forked from that one never writes to it."""
        return os.getpid() == self._process

    def require_own(self) -> None:
        """Raise ParameterError in a process forked from the one that opened the file."""
        if not self.is_own:
            raise ParameterError(f"the ledger {self.path} belongs to another process; open it in this one")

    def append(self, body: dict[str, object]) -> None:
        """Write one line, durably, before returning. After a failure nothing more is written until it is reopened.

        Requires: one thread at a time. Raises: ParameterError if the line cannot be written, or the file is no longer
        the one at its path.
        """
        self.require_own()
        if self._descriptor < 0 or self._broken:
            raise ParameterError(f"the ledger {self.path} is closed, or failed before")
        self._require_in_place()
        text = _canonical(body)
        head = self._following(text)
        line = b'{"body":' + text + b',"hash":"' + head.hex().encode() + b'"}\n'
        self._broken = True
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError as error:
            raise ParameterError(f"the ledger {self.path} cannot be written: {error.strerror}") from error
        self._require_in_place()
        self._broken = False
        self._head = head
        self.bodies.append(body)

    def close(self) -> None:
        """Release the file; another may open it."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ParameterError(
                f"the ledger {self.path} is open elsewhere; one process at a time debits it"
            ) from error

    def _require_in_place(self) -> None:
        try:
            found = os.stat(self._place)
        except OSError as error:
            raise ParameterError(
                f"the ledger {self.path} is no longer there: {error.strerror}; put the file back and open it again"
            ) from error
        if not os.path.samestat(found, os.fstat(self._descriptor)):
            raise ParameterError(
                f"the ledger {self.path} was replaced by another file while it was open, and nothing more is debited "
                "in the one that was; keep the file with more debits there, and open it again"
            )

    def _recover(self) -> None:
        with open(self._descriptor, "rb", closefd=False) as file:
            content = file.read()
        *lines, tail = content.split(b"\n")
        for line in lines:
            self._take(line)
        kept = len(content) - len(tail)
        if tail and _is_whole(tail):
            self._take(tail)
            os.pwrite(self._descriptor, b"\n", len(content))
            kept = len(content) + 1
        elif tail:
            os.ftruncate(self._descriptor, kept)
        # Also what is whole may not have reached the disk when its writer was killed.
        os.fsync(self._descriptor)
        os.lseek(self._descriptor, kept, os.SEEK_SET)

    def _take(self, line: bytes) -> None:
        """Append a line's body, if the line is canonical and follows those before it."""
        position = len(self.bodies)
        try:
            body = json.loads(line)["body"]
            text = _canonical(body)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise EncodingError(f"line {position + 1} of the ledger {self.path} is damaged") from error
        head = self._following(text)
        if line != b'{"body":' + text + b',"hash":"' + head.hex().encode() + b'"}':
            raise EncodingError(
                f"line {position + 1} of the ledger {self.path} is damaged, or lines before it are gone"
            )
        self._head = head
        self.bodies.append(body)

    def _following(self, text: bytes) -> bytes:
        return hashlib.sha256(_DOMAIN + self._head + text).digest()


def _is_whole(tail: bytes) -> bool:
    """Return whether an unended line has all of its content; False if it is a prefix of a line, and so dropped.

    Raises: EncodingError if it is neither, such as a line whose line feed was overwritten.
    """
    if not (tail.startswith(_START) or _START.startswith(tail)) or not all(0x20 <= byte < 0x7F for byte in tail):
        raise EncodingError("the ledger's last line is damaged; no crash leaves such a line")
    try:
        _, end = json.JSONDecoder().raw_decode(tail.decode("ascii"))
    except ValueError:
        return False
    if end != len(tail):
        raise EncodingError("the ledger's last line is damaged; no crash leaves such a line")
    return True


def _canonical(body: object) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")
