"""Who holds a ledger: one process, any of its threads, and the file that is at its path."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from secureagg.dp.dp_events import CentralGaussian, PrivacyEvent
from secureagg.dp.ledger import Ledger
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted, ParameterError

ROUND = CentralGaussian(noise_std=0.1, l2_clip=1.0, clients=100, rounds=1, relation=Relation.ZERO_OUT)


def opened(path: Path, *, planned: list[PrivacyEvent] | None = None) -> Ledger:
    return Ledger(path, (4.0, 1e-5), Relation.ZERO_OUT, planned=planned)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.ledger"


class TestFiles:
    def test_a_file_replaced_while_it_is_held(self, path: Path, tmp_path: Path) -> None:
        """Debits in a file that nobody finds again are not acknowledged, whoever holds the one in its place."""
        ledger = opened(path)
        ledger.debit(ROUND, "kept")
        copy = tmp_path / "restored"
        copy.write_bytes(path.read_bytes())
        copy.rename(path)
        with opened(path) as found:
            with pytest.raises(ParameterError, match="was replaced by another file"):
                ledger.debit(ROUND, "lost")
            found.debit(ROUND, "after")
        ledger.close()
        with opened(path) as again:
            assert [debit.note for debit in again] == ["kept", "after"]

    def test_a_file_removed_or_replaced_during_a_write(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        real = os.fsync

        def fsync(descriptor: int) -> None:
            real(descriptor)
            path.unlink()

        ledger = opened(path)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fsync)
            with pytest.raises(ParameterError, match="is no longer there"):
                ledger.debit(ROUND)
        with pytest.raises(ParameterError, match="failed before"):
            ledger.debit(ROUND)
        assert len(ledger) == 0

    def test_a_relative_path_outlives_a_change_of_directory(
        self, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with opened(Path(path.name)) as ledger:
            (tmp_path / "elsewhere").mkdir()
            monkeypatch.chdir(tmp_path / "elsewhere")
            ledger.debit(ROUND)
        with opened(path) as ledger:
            assert len(ledger) == 1


class TestThreads:
    @pytest.mark.parametrize("is_planned", [True, False])
    def test_only_as_many_are_admitted_as_there_is_room_for(
        self, path: Path, monkeypatch: pytest.MonkeyPatch, is_planned: bool
    ) -> None:
        real, ready = os.fsync, threading.Barrier(4)

        def slow(descriptor: int) -> None:  # every other thread would be admitted meanwhile
            time.sleep(0.05)
            real(descriptor)

        def debited(_: int) -> bool:
            ready.wait()
            try:
                ledger.debit(last)
            except BudgetExhausted:
                return False
            return True

        with opened(path, planned=[ROUND] if is_planned else None) as ledger:
            last = ROUND
            if not is_planned:
                while ledger.affords(replace(ROUND, rounds=10)):
                    ledger.debit(replace(ROUND, rounds=10))
                last = replace(
                    ROUND, rounds=next(n for n in range(9, 0, -1) if ledger.affords(replace(ROUND, rounds=n)))
                )
            before = len(ledger)
            monkeypatch.setattr(os, "fsync", slow)
            with ThreadPoolExecutor(4) as threads:
                assert sum(threads.map(debited, range(4))) == 1
            assert len(ledger) == before + 1
        monkeypatch.undo()
        with opened(path, planned=[ROUND] if is_planned else None) as ledger:
            assert len(ledger) == before + 1

    def test_a_process_forked_during_a_debit_does_not_wait_for_it(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real, writing, go_on = os.fsync, threading.Event(), threading.Event()

        def held(descriptor: int) -> None:
            writing.set()
            assert go_on.wait(60)
            real(descriptor)

        ledger = opened(path)
        monkeypatch.setattr(os, "fsync", held)
        with ThreadPoolExecutor(1) as thread:
            debit = thread.submit(ledger.debit, ROUND)
            assert writing.wait(60)
            child = os.fork()
            if child == 0:
                signal.alarm(20)  # ends a child that waits
                try:
                    ledger.debit(ROUND)
                except ParameterError:
                    ledger.close()
                    os._exit(0)
                os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            go_on.set()
            debit.result()
        assert len(ledger) == 1
        ledger.close()
