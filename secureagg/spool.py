"""Where an aggregator keeps the contributions of a round: in a temporary file, or a directory that survives a crash.

A contribution is staged, verified and only then kept. In a directory it is copied first, so what is verified is what
is added even if the sender changes its file meanwhile; keeping it is one rename, so a crash leaves it in or out.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from secureagg.durable import sync_directory
from secureagg.errors import EncodingError, ParameterError
from secureagg.ids import ClientIds
from secureagg.payload import ContributionView, require_length, require_possible_length
from secureagg.plan import RoundPlan
from secureagg.session import Session
from secureagg.wire import Reader, Writer

__all__ = ["DirectorySpool", "Spool", "Staged", "TemporarySpool", "open_spool"]

_COPY_BYTES = 1 << 16


class Staged:
    """A contribution that is not yet part of the round; `view` reads it, `keep` makes it part."""

    def __init__(self, view: ContributionView, keep: Callable[[int], None]) -> None:
        self.view = view
        self.keep = keep


class Spool(Protocol):
    """What the aggregator needs of its storage."""

    keeps_ciphertexts: bool
    fixed: bool

    def fix(self) -> None:
        """Note, durably, that the set of clients is fixed."""

    def noted(self, what: str) -> bool:
        """Return whether this was noted."""

    def note(self, what: str) -> None:
        """Note this, durably. Raises: ParameterError if it was noted before, perhaps by another process."""

    def reports(self) -> list[bytes] | None:
        """Return the share checks that the round was closed with, or None if there were none."""

    def keep_reports(self, reports: Sequence[bytes]) -> None:
        """Keep, durably, the share checks that the round is closed with."""

    def stage(self, payload: bytes | BinaryIO) -> AbstractContextManager[Staged]:
        """Take in a payload, length-checked; leaving the context forgets it unless it was kept."""

    def view(self, client_id: int) -> ContributionView:
        """Return the kept contribution of a client."""

    def clients(self) -> ClientIds:
        """Return the ids of all kept contributions."""

    def publish(self, tally: Iterable[bytes]) -> Callable[[], bytes] | None:
        """Keep the round's tally beside its contributions; return how to read it, None if nothing is kept."""


class TemporarySpool:
    """Keeps what is still needed of a contribution in an unnamed temporary file, which goes with the process.

    That is header and boxes, and the ciphertext where the committee may ask for one to be left out; never the proof,
    which is verified before a contribution is kept. In memory is where each client's part begins, 8 bytes.
    """

    def __init__(self, session: Session) -> None:
        self._plan = session.plan
        self.keeps_ciphertexts = session.plan.committee.mode == "robust"
        self.fixed = False
        self._notes: set[str] = set()
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        self._starts = np.full(session.plan.contributors, -1, dtype=np.int64)
        self._end = 0

    def fix(self) -> None:
        """Note that the set of clients is fixed."""
        self.fixed = True

    def noted(self, what: str) -> bool:
        """Return whether this was noted."""
        return what in self._notes

    def note(self, what: str) -> None:
        """Note this. Raises: ParameterError if it was noted before."""
        _require_first(what, self.noted(what))
        self._notes.add(what)

    def reports(self) -> None:
        """Return None: what goes with the process is closed once."""

    def keep_reports(self, reports: Sequence[bytes]) -> None:
        """Keep nothing."""

    @contextmanager
    def stage(self, payload: bytes | BinaryIO) -> Iterator[Staged]:
        """Read bytes in place; copy a file to a temporary one of its own."""
        if isinstance(payload, bytes):
            require_possible_length(len(payload), self._plan)
            yield self._staged(_reader(memoryview(payload)), len(payload))
            return
        with tempfile.TemporaryFile() as copy:
            length = _copy(payload, copy, self._plan)
            copy.flush()
            yield self._staged(_file_reader(copy.fileno()), length)

    def _staged(self, read: Callable[[int, int], bytes | memoryview], length: int) -> Staged:
        def keep(client_id: int) -> None:
            end = self._end
            for offset, length in self._parts():
                for start in range(0, length, _COPY_BYTES):
                    end = _write(self._file.fileno(), read(offset + start, min(_COPY_BYTES, length - start)), end)
            self._starts[client_id], self._end = self._end, end

        return Staged(ContributionView(self._plan, read, length), keep)

    def _parts(self) -> list[tuple[int, int]]:
        """Return the (offset, length) of what is kept of a contribution, in the order of the file."""
        plan = self._plan
        boxes = plan.header_bytes + plan.packing.ciphertext_bytes
        parts = [(0, plan.header_bytes), (boxes, plan.committee.size * plan.box_bytes)]
        return [*parts, (plan.header_bytes, plan.packing.ciphertext_bytes)] if self.keeps_ciphertexts else parts

    def view(self, client_id: int) -> ContributionView:
        """Return the kept parts; reading a part that is not kept is an error of the caller."""
        start = int(self._starts[client_id])
        assert start >= 0, "this client's contribution was not kept"

        def read(offset: int, length: int) -> bytes:
            before = start
            for first, size in self._parts():
                if first <= offset and offset + length <= first + size:
                    return os.pread(self._file.fileno(), length, before + offset - first)
                before += size
            raise AssertionError("this part of the contribution was not kept")

        return ContributionView(self._plan, read, self._plan.contribution_bytes(client_id))

    def clients(self) -> ClientIds:
        """Return the ids of all kept contributions."""
        return ClientIds.where(self._starts >= 0)

    def publish(self, tally: Iterable[bytes]) -> None:
        """Publish nothing: what goes with the process nobody checks later."""


class DirectorySpool:
    """Keeps whole contributions in a directory, one file a client, beside the record of their session and the tally.

    Raises: ParameterError if the directory holds another session's contributions.
    """

    keeps_ciphertexts = True

    def __init__(self, session: Session, path: str | os.PathLike[str]) -> None:
        self._plan = session.plan
        self._path = Path(path)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            mark = self._path / "session"
            if not mark.exists():
                _replace(mark, [session.to_bytes()])
            if mark.read_bytes() != session.to_bytes():
                raise ParameterError(f"the spool {self._path} belongs to another session; give each round its own")
            for left_over in self._files(".partial"):
                os.unlink(left_over)
            self.fixed = (self._path / "fixed").exists()
        except OSError as error:
            raise ParameterError(f"the spool {self._path} cannot be used: {error.strerror}") from error

    def fix(self) -> None:
        """Note that the set of clients is fixed: whoever goes on with this directory after a crash keeps to it."""
        (self._path / "fixed").touch()
        sync_directory(self._path)
        self.fixed = True

    def noted(self, what: str) -> bool:
        """Return whether this was noted, perhaps before a crash."""
        return (self._path / what).exists()

    def note(self, what: str) -> None:
        """Note this in a file of that name. Raises: ParameterError if it was noted, perhaps by another process."""
        try:
            (self._path / what).touch(exist_ok=False)
        except FileExistsError:
            _require_first(what, True)
        sync_directory(self._path)

    def reports(self) -> list[bytes] | None:
        """Return what `keep_reports` kept, perhaps before a crash. Raises: ParameterError if the file is damaged."""
        file = self._path / "reports"
        try:
            reader = Reader(file.read_bytes(), str(file))
        except FileNotFoundError:
            return None
        try:
            reports = [bytes(reader.blob()) for _ in range(reader.integer(4))]
            reader.end()
        except EncodingError as error:
            raise ParameterError(f"{error}; remove it to close the round anew, if no member has answered") from error
        return reports

    def keep_reports(self, reports: Sequence[bytes]) -> None:
        """Write the file `reports`: a count (4 bytes), then each with its length."""
        writer = Writer().integer(len(reports), 4)
        for report in reports:
            writer.blob(report)
        _replace(self._path / "reports", [writer.getvalue()])
        sync_directory(self._path)

    @contextmanager
    def stage(self, payload: bytes | BinaryIO) -> Iterator[Staged]:
        """Copy the payload into the directory under a temporary name."""
        descriptor, name = tempfile.mkstemp(dir=self._path, suffix=".partial")
        with os.fdopen(descriptor, "w+b") as copy:
            try:
                length = _copy(io.BytesIO(payload) if isinstance(payload, bytes) else payload, copy, self._plan)
                copy.flush()

                def keep(client_id: int) -> None:
                    os.fsync(copy.fileno())
                    os.rename(name, self._file(client_id))
                    sync_directory(self._path)

                yield Staged(ContributionView(self._plan, _file_reader(copy.fileno()), length), keep)
            finally:
                _leave_cache(copy.fileno())
                with suppress(FileNotFoundError):
                    os.unlink(name)

    def view(self, client_id: int) -> ContributionView:
        """Return the stored contribution, read from its file part by part."""

        def read(offset: int, length: int) -> bytes:
            try:
                descriptor = os.open(self._file(client_id), os.O_RDONLY)
            except OSError as error:
                raise ParameterError(f"the spool's file of client {client_id}: {error.strerror}") from error
            try:
                require_length(os.fstat(descriptor).st_size, self._plan.contribution_bytes(client_id))
                return os.pread(descriptor, length, offset)
            finally:
                os.close(descriptor)

        return ContributionView(self._plan, read, self._plan.contribution_bytes(client_id))

    def clients(self) -> ClientIds:
        """Return the ids of all stored contributions. Raises: ParameterError for a file that is none."""
        return ClientIds(self._stored())

    def publish(self, tally: Iterable[bytes]) -> Callable[[], bytes]:
        """Write the file `tally`."""
        file = self._path / "tally"
        _replace(file, tally)
        sync_directory(self._path)
        return file.read_bytes

    def _stored(self) -> Iterator[int]:
        for path in self._files(".contribution"):
            name = os.path.basename(path).removesuffix(".contribution")
            contributors = self._plan.contributors
            if not (name.isascii() and name.isdecimal() and name == str(int(name)) and int(name) < contributors):
                raise ParameterError(f"{path} is no contribution of a client on the roster; remove it")
            yield int(name)

    def _files(self, suffix: str) -> Iterator[str]:
        """Yield the files of this suffix one by one; `Path.glob` would list them all first."""
        with os.scandir(self._path) as entries:
            yield from (entry.path for entry in entries if entry.name.endswith(suffix))

    def _file(self, client_id: int) -> str:
        # Text, since a Path interns its parts: every client would leave a place in the interpreter's own table.
        return os.path.join(self._path, f"{client_id}.contribution")


def open_spool(session: Session, path: str | os.PathLike[str] | None) -> Spool:
    """Return the spool in directory `path`, or one that goes with the process."""
    return TemporarySpool(session) if path is None else DirectorySpool(session, path)


def _require_first(what: str, noted: bool) -> None:
    if noted:
        raise ParameterError(f"this round is noted as {what} already; a round that goes on takes a new number")


def _copy(source: BinaryIO, target: BinaryIO, plan: RoundPlan) -> int:
    """Copy a contribution of one of the plan's lengths, and return it; never write more, however long the source is."""
    copied = 0
    while block := source.read(min(_COPY_BYTES, plan.longest_contribution + 1 - copied)):
        target.write(block)
        copied += len(block)
    require_possible_length(copied, plan)
    return copied


def _reader(encoded: memoryview) -> Callable[[int, int], memoryview]:
    return lambda offset, length: encoded[offset : offset + length]


def _file_reader(descriptor: int) -> Callable[[int, int], bytes]:
    return lambda offset, length: os.pread(descriptor, length, offset)


def _write(descriptor: int, data: bytes | memoryview, offset: int) -> int:
    """Write all of `data` at an offset, a disk that fills up being an OSError; return where it ends."""
    left = memoryview(data)
    while left:
        written = os.pwrite(descriptor, left, offset)
        left, offset = left[written:], offset + written
    return offset


def _leave_cache(descriptor: int) -> None:
    """Give back the page cache of a file that is on the disk and not read again before the round is closed.

    Else a round's cache grows to the size of all its contributions, and each takes pages the system has to find anew.
    """
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _replace(path: Path, content: Iterable[bytes]) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        file.writelines(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)
