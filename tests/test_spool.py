"""The spool: contributions as they were sent, kept whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

import secureagg as sa
from secureagg.errors import EncodingError, ParameterError
from secureagg.spool import DirectorySpool, TemporarySpool, open_spool
from tests.federation import Federation, federation


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation(committee=sa.Committee(3, mode="robust")) as made:
        yield made


@pytest.fixture(scope="module")
def payload(everyone: Federation) -> bytes:
    return everyone.contribution(2)


class Slow(io.RawIOBase):
    """A file that gives a few bytes at a time, like a pipe, and says it cannot seek."""

    def __init__(self, content: bytes) -> None:
        self._source = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray) -> int:
        return self._source.readinto(memoryview(buffer)[:7])


class Endless(io.RawIOBase):
    """A source that never ends; counts what was taken from it."""

    taken = 0

    def read(self, size: int = -1) -> bytes:
        assert 0 <= size <= 1 << 20
        self.taken += size
        return bytes(size)


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize("form", [bytes, io.BytesIO, Slow])
def test_what_is_kept_is_what_was_sent(
    everyone: Federation, payload: bytes, directory: bool, form: type, tmp_path: Path
) -> None:
    spool = open_spool(everyone.session, tmp_path / "spool" if directory else None)
    assert isinstance(spool, DirectorySpool if directory else TemporarySpool)
    with spool.stage(form(payload)) as staged:
        assert spool.clients() == []
        staged.keep(2)
    assert spool.clients() == [2]
    view, plan = spool.view(2), everyone.plan
    whole = b"".join([bytes(view.header()), bytes(view.frame(0)), *(bytes(view.box(m)) for m in range(3))])
    assert whole == payload and len(whole) == plan.bytes_per_client


@pytest.mark.parametrize("directory", [True, False])
def test_what_is_not_kept_is_forgotten(everyone: Federation, payload: bytes, directory: bool, tmp_path: Path) -> None:
    spool = open_spool(everyone.session, tmp_path / "spool" if directory else None)
    with spool.stage(payload) as staged:
        staged.view.header()
    with pytest.raises(KeyError), spool.stage(io.BytesIO(payload)):
        raise KeyError
    assert spool.clients() == []
    if directory:
        assert [file.name for file in (tmp_path / "spool").iterdir()] == ["session"]


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize("change", [-1, 1, -679, 10**6])
def test_another_length_is_refused(
    everyone: Federation, payload: bytes, directory: bool, change: int, tmp_path: Path
) -> None:
    spool = open_spool(everyone.session, tmp_path / "spool" if directory else None)
    altered = payload[:change] if change < 0 else payload + bytes(change)
    read = len(altered) if change < 0 else len(payload) + 1
    for form, seen in ((altered, len(altered) if not directory else read), (io.BytesIO(altered), read)):
        with pytest.raises(EncodingError, match=f"{seen} bytes, {len(payload)} expected"), spool.stage(form):
            pass


@pytest.mark.parametrize("directory", [True, False])
def test_an_endless_source_is_read_no_further_than_needed(
    everyone: Federation, directory: bool, tmp_path: Path
) -> None:
    spool, source = open_spool(everyone.session, tmp_path / "spool" if directory else None), Endless()
    with pytest.raises(EncodingError, match=r"bytes, .* expected"), spool.stage(source):
        pass
    assert source.taken == everyone.plan.bytes_per_client + 1


def test_without_a_directory_only_robust_rounds_keep_ciphertexts(everyone: Federation, payload: bytes) -> None:
    assert TemporarySpool(everyone.session).keeps_ciphertexts
    with federation() as optimistic:
        spool = TemporarySpool(optimistic.session)
        assert not spool.keeps_ciphertexts
        mine = optimistic.contribution(1)
        with spool.stage(mine) as staged:
            staged.keep(1)
        plan = optimistic.plan
        assert bytes(spool.view(1).box(2)) == mine[-plan.box_bytes :]
        assert bytes(spool.view(1).header()) == mine[: plan.header_bytes]
        with pytest.raises(AssertionError, match="not kept"):
            spool.view(1).frame(0)


def test_a_directory_serves_one_session(everyone: Federation, tmp_path: Path) -> None:
    DirectorySpool(everyone.session, tmp_path / "a" / "b")
    DirectorySpool(everyone.session, tmp_path / "a" / "b")
    with pytest.raises(ParameterError, match="belongs to another session; give each round its own"):
        DirectorySpool(everyone.session_of(2), tmp_path / "a" / "b")


def test_left_overs_of_a_crash_are_removed(everyone: Federation, tmp_path: Path) -> None:
    DirectorySpool(everyone.session, tmp_path)
    (tmp_path / "abc.partial").write_bytes(b"half a contribution")
    assert DirectorySpool(everyone.session, tmp_path).clients() == []
    assert not (tmp_path / "abc.partial").exists()


@pytest.mark.parametrize("name", ["4", "notes", "-1", "²", "1e0"])
def test_files_that_are_no_contributions_are_refused(everyone: Federation, name: str, tmp_path: Path) -> None:
    spool = DirectorySpool(everyone.session, tmp_path)
    (tmp_path / f"{name}.contribution").write_bytes(b"")
    with pytest.raises(ParameterError, match="is no contribution of a client on the roster; remove it"):
        spool.clients()


def test_what_is_kept_is_on_the_disk(
    everyone: Federation, payload: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contribution before it gets its name, the directory after; and the mark that the set is fixed."""
    spool, happened, real_fsync, real_rename = DirectorySpool(everyone.session, tmp_path), [], os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        happened.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real_fsync(descriptor)

    def rename(source: str, target: str) -> None:
        happened.append("rename")
        real_rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    # Only what is on the disk can leave the cache, and only when it has been read.
    monkeypatch.setattr(os, "posix_fadvise", lambda *_: happened.append("cache"), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", 4, raising=False)
    with spool.stage(payload) as staged:
        staged.keep(2)
        assert happened == ["file", "rename", "directory"]
    assert happened.pop() == "cache"
    spool.fix()
    assert happened[3:] == ["directory"]
    assert (
        DirectorySpool(everyone.session, tmp_path).fixed and not DirectorySpool(everyone.session, tmp_path / "b").fixed
    )


def test_a_place_that_cannot_be_used_is_refused(everyone: Federation, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "spool"):
        with pytest.raises(ParameterError, match=r"the spool .* cannot be used"):
            DirectorySpool(everyone.session, path)


def test_a_disk_that_takes_a_part_is_asked_for_the_rest(
    everyone: Federation, payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr("secureagg.spool.os.pwrite", lambda fd, data, at: pwrite(fd, bytes(data)[:100], at))
    spool = TemporarySpool(everyone.session)
    with spool.stage(payload) as staged:
        staged.keep(2)
    assert bytes(spool.view(2).frame(0)) == payload[everyone.plan.header_bytes :][: len(bytes(spool.view(2).frame(0)))]


@pytest.mark.parametrize("name", ["007", "+1", "1_0"])
def test_a_name_no_spool_writes_is_refused(everyone: Federation, payload: bytes, tmp_path: Path, name: str) -> None:
    spool = DirectorySpool(everyone.session, tmp_path)
    (tmp_path / f"{name}.contribution").write_bytes(payload)
    with pytest.raises(ParameterError, match="is no contribution of a client on the roster"):
        spool.clients()


def test_a_stored_contribution_that_grew_or_went_is_named(everyone: Federation, payload: bytes, tmp_path: Path) -> None:
    spool = DirectorySpool(everyone.session, tmp_path)
    with spool.stage(payload) as staged:
        staged.keep(2)
    with (tmp_path / "2.contribution").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EncodingError, match=r"bytes, .* expected"):
        spool.view(2).header()
    (tmp_path / "2.contribution").unlink()
    with pytest.raises(ParameterError, match="the spool's file of client 2: No such file"):
        spool.view(2).header()


@pytest.mark.parametrize("kept", [False, True])
def test_a_note_is_made_once(everyone: Federation, tmp_path: Path, kept: bool) -> None:
    spool = open_spool(everyone.session, tmp_path if kept else None)
    assert not spool.noted("released")
    spool.note("released")
    with pytest.raises(ParameterError, match="noted as released already"):
        spool.note("released")
    assert spool.noted("released") and not spool.noted("debited")
    if kept:  # and whoever goes on with the directory knows
        anew = open_spool(everyone.session, tmp_path)
        assert anew.noted("released") and not anew.fixed and len(anew.clients()) == 0
        with pytest.raises(ParameterError):
            anew.note("released")
