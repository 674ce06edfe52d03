"""The two views of a run in progress."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from fl_core import Event, RoundResult
from secureagg.cli.demo.progress import watching


def result_of(round_number: int, accuracy: float, dropped: dict[int, str] | None = None) -> RoundResult:
    empty: dict[int, int] = {}
    return RoundResult(round_number, (0,), dropped or {}, {"accuracy": accuracy}, {0: 1.0}, empty, empty, {}, {})


def console_of(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=120)


def shown(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


class TestLines:
    def test_one_a_round_once_both_have_it(self) -> None:
        console = console_of(terminal=False)
        with watching(console, ["plain", "private"], 2, 3) as watch:
            watch.saw("plain", Event("round", 1))
            watch.finished("plain", result_of(1, 0.5))
            assert shown(console) == ""
            watch.finished("private", result_of(1, 0.25, {2: "vanished before sending"}))
        assert shown(console) == (
            "round   1/2   in the clear 50.0%   encrypted 25.0%   client 2: vanished before sending\n"
        )


class TestLive:
    def test_shows_rounds_stages_and_clients(self) -> None:
        console = console_of(terminal=True)
        with watching(console, ["plain", "private"], 4, 3) as watch:
            watch.finished("plain", result_of(1, 0.97))
            for event in (
                *(Event("round", 1), Event("train", 1, 0), Event("contribute", 1, 0), Event("admit", 1, 0)),
                *(Event("dropped", 1, 1, ValueError()), Event("train", 1, 2)),
            ):
                watch.saw("private", event)
            picture = console_of(terminal=False)
            picture.print(watch)
        first, second = shown(picture).splitlines()[-2:]
        assert "97.0%" in first
        assert "round  1/4" in second and "training" in second and "●×○" in second

    def test_counts_clients_it_cannot_draw(self) -> None:
        picture = console_of(terminal=False)
        with watching(console_of(terminal=True), ["plain"], 4, 500) as watch:
            for client in range(7):
                watch.saw("plain", Event("admit", 1, client))
            picture.print(watch)
        assert "7 of 500 clients" in shown(picture)

    def test_a_new_round_starts_with_nobody(self) -> None:
        picture = console_of(terminal=False)
        with watching(console_of(terminal=True), ["plain"], 4, 3) as watch:
            watch.saw("plain", Event("admit", 1, 0))
            watch.saw("plain", Event("round", 2))
            picture.print(watch)
        assert "···" in shown(picture) and "●" not in shown(picture)

    def test_leaves_nothing_behind_when_it_fails(self) -> None:
        console = console_of(terminal=True)
        with pytest.raises(ZeroDivisionError), watching(console, ["plain"], 4, 3):
            raise ZeroDivisionError
        assert shown(console).endswith("\x1b[2K")
