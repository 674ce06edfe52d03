"""The journal: one answer per roster and round number, prekeys gone once spent, whatever happens in between."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from secureagg.errors import EncodingError, ParameterError
from secureagg.journal import Journal

ROSTER, OTHER, DIGEST = b"r" * 32, b"o" * 32, b"d" * 32


def test_a_prekey_stays_until_it_is_erased(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    assert journal.stored_prekey(1) is None
    assert journal.prekey(1, b"a" * 32) == b"a" * 32
    assert journal.prekey(1, b"b" * 32) == Journal(tmp_path / "journal").prekey(1, b"c" * 32) == b"a" * 32
    assert journal.prekey(2, b"d" * 32) == b"d" * 32
    journal.erase_prekey(1)
    assert journal.stored_prekey(1) is None
    assert journal.stored_prekey(2) == b"d" * 32
    journal.erase_prekey(1)


def test_an_erased_prekey_is_overwritten_first(tmp_path: Path) -> None:
    """Also under a second name, as a crash between linking and unlinking the temporary file leaves one."""
    journal = Journal(tmp_path)
    journal.prekey(1, b"s" * 32)
    left_over = tmp_path / "prekeys" / "left over"
    os.link(tmp_path / "prekeys" / "1.key", left_over)
    journal.erase_prekey(1)
    assert left_over.read_bytes() == bytes(32)


def test_the_first_answer_stands(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.answer(ROSTER, 1) is None
    assert journal.record(ROSTER, 1, DIGEST, b"answer") == (DIGEST, b"answer")
    assert journal.record(ROSTER, 1, b"e" * 32, b"another") == (DIGEST, b"answer")
    assert Journal(tmp_path).answer(ROSTER, 1) == (DIGEST, b"answer")
    assert journal.answer(ROSTER, 2) is None and journal.answer(OTHER, 1) is None
    assert journal.record(OTHER, 1, DIGEST, b"another") == (DIGEST, b"another")


def test_threads_that_record_at_once_get_one_answer(tmp_path: Path) -> None:
    barrier, found = threading.Barrier(8), []

    def record(number: int) -> None:
        journal = Journal(tmp_path)
        barrier.wait()
        found.append(journal.record(ROSTER, 1, bytes([number]) * 32, bytes([number])))

    threads = [threading.Thread(target=record, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(found)) == 1


def test_nobody_else_reads_it_and_nothing_is_left_over(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    journal.prekey(1, b"s" * 32)
    journal.record(ROSTER, 1, DIGEST, b"answer")
    for directory in (tmp_path / "journal", *(path for path in (tmp_path / "journal").iterdir())):
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    files = [path for path in (tmp_path / "journal").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["1.key", f"{ROSTER.hex()}-1.answer"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}


def test_everything_is_synced_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before it is linked into place, the directory after, and nothing is released before both."""
    happened: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        happened.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def link(source: str, target: str) -> None:
        happened.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    Journal(tmp_path).record(ROSTER, 1, DIGEST, b"answer")
    assert happened == ["file", "link", "directory"]


def test_an_erasure_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Zeros first, then the directory without the name."""
    journal, synced, real = Journal(tmp_path), [], os.fsync
    journal.prekey(1, b"s" * 32)

    def fsync(descriptor: int) -> None:
        synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), (tmp_path / "prekeys" / "1.key").exists()))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    journal.erase_prekey(1)
    assert synced == [(False, True), (True, False)]


def test_a_prekey_erased_while_it_is_asked_for_is_not_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was not journalled could open no box later."""
    journal, real = Journal(tmp_path), os.link

    def link(source: str, target: Path) -> None:
        real(source, target)
        Path(target).unlink()  # another process answers and erases it

    monkeypatch.setattr(os, "link", link)
    with pytest.raises(ParameterError, match="round 1 was answered and its prekey erased in this very moment"):
        journal.prekey(1, b"s" * 32)


def test_a_journal_opened_again_erases_the_prekeys_of_answered_rounds(tmp_path: Path) -> None:
    """A crash may have come between the answer and the erasure."""
    journal = Journal(tmp_path)
    for number in (1, 2):
        journal.prekey(number, bytes([number]) * 32)
    journal.record(ROSTER, 1, DIGEST, b"answer")
    assert journal.stored_prekey(1) == b"\1" * 32
    again = Journal(tmp_path)
    assert (again.stored_prekey(1), again.stored_prekey(2)) == (None, b"\2" * 32)


def test_rounds_that_were_given_up_are_retired(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for number in (0, 3, 9, 10, 11, 200):
        journal.prekey(number, bytes([number + 1]) * 32)
    journal.retire(10)
    assert sorted(path.name for path in (tmp_path / "prekeys").iterdir()) == ["11.key", "200.key"]


def test_files_that_are_not_the_journals_are_told(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "prekeys" / "notes.key").write_text("")
    with pytest.raises(ParameterError, match=r"notes.key is no file of the journal; remove it"):
        journal.retire(1)
    (tmp_path / "answers" / "notes.answer").write_text("")
    with pytest.raises(ParameterError, match=r"notes.answer is no file of the journal; remove it"):
        Journal(tmp_path)


def test_damage_is_told_and_nothing_answered(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    (tmp_path / "prekeys" / "1.key").write_bytes(b"short")
    with pytest.raises(EncodingError, match="the journal's prekey for round 1 is damaged"):
        journal.stored_prekey(1)
    for content in (b"", DIGEST):
        (tmp_path / "answers" / f"{ROSTER.hex()}-1.answer").write_bytes(content)
        with pytest.raises(EncodingError, match="the journal's answer for round 1 is damaged; nothing is answered"):
            journal.answer(ROSTER, 1)


def test_a_place_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "missing" / "journal"):
        with pytest.raises(ParameterError, match=r"the journal .* cannot be used"):
            Journal(path)


def test_repr_shows_the_place_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.prekey(1, b"s" * 32)
    assert repr(journal) == f"Journal({str(tmp_path)!r})"


def test_an_erased_prekey_is_overwritten_before_it_is_unlinked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the sync the zeros have reached the file: a name that is still linked elsewhere shows them."""
    journal = Journal(tmp_path)
    journal.prekey(4, b"\7" * 32)
    seen = []
    sync = os.fsync

    def watched(descriptor: int) -> None:
        seen.append(os.pread(descriptor, 32, 0) if os.fstat(descriptor).st_size == 32 else b"")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    journal.erase_prekey(4)
    assert seen[0] == bytes(32)


def test_a_prekey_that_is_being_erased_is_not_used(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.prekey(4, b"\7" * 32)
    (tmp_path / "prekeys" / "4.key").write_bytes(bytes(32))
    with pytest.raises(ParameterError, match="round 4 was answered and its prekey erased in this very moment"):
        journal.prekey(4, b"\7" * 32)
