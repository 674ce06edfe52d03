"""What is shown while the demo trains: a live view on a terminal, a line a round elsewhere. All of it on stderr."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from fl_core import Event, RoundResult
from secureagg.cli.demo.wording import LANE_TITLES

__all__ = ["watching"]

_STAGES = {
    "round": "starting",
    "train": "training",
    "contribute": "encoding",
    "admit": "adding",
    "finish": "opening the sum",
    "update": "updating",
    "evaluate": "evaluating",
}
_MOST_DOTS = 40
_SPARKS = "▁▂▃▄▅▆▇█"


@dataclass
class LaneView:
    """What is known of one lane: `marks` has one of "·" to come, "○" trained, "●" sent, "×" dropped per client."""

    title: str
    clients: int
    round_number: int = 0
    stage: str = ""
    marks: dict[int, str] = field(default_factory=dict)
    accuracies: list[float] = field(default_factory=list)

    def saw(self, event: Event) -> None:
        self.round_number = event.round_number
        self.stage = _STAGES.get(event.stage, self.stage)
        if event.stage == "round":
            self.marks = {}
        mark = {"train": "○", "admit": "●", "dropped": "×"}.get(event.stage)
        if event.client is not None and mark:
            self.marks[event.client] = mark

    def dots(self) -> str:
        if self.clients > _MOST_DOTS:
            return f"{sum(mark == '●' for mark in self.marks.values())} of {self.clients} clients"
        return "".join(self.marks.get(client, "·") for client in range(self.clients))

    def sparks(self) -> str:
        return "".join(_SPARKS[min(7, int(8 * accuracy))] for accuracy in self.accuracies[-_MOST_DOTS:])


class LiveProgress:
    """A `Watch` that a `Live` asks for its picture, several times a second."""

    def __init__(self, lanes: Sequence[str], rounds: int, clients: int) -> None:
        self._lanes = {lane: LaneView(LANE_TITLES[lane], clients) for lane in lanes}
        self._rounds = rounds
        self._started = time.perf_counter()

    def saw(self, lane: str, event: Event) -> None:
        self._lanes[lane].saw(event)

    def finished(self, lane: str, result: RoundResult) -> None:
        self._lanes[lane].accuracies.append(result.metrics["accuracy"])
        self._lanes[lane].stage = "done"

    def __rich__(self) -> RenderableType:
        done = sum(len(view.accuracies) for view in self._lanes.values())
        total = self._rounds * len(self._lanes)
        elapsed = time.perf_counter() - self._started
        left = f"some {elapsed / done * (total - done):.0f} s left" if done else ""
        head = Table.grid(padding=(0, 2))
        head.add_row(ProgressBar(total, done, width=40), f"{elapsed:.0f} s", Text(left, style="dim"))
        body = Table.grid(padding=(0, 2))
        for view in self._lanes.values():
            latest = f"{view.accuracies[-1]:.1%}" if view.accuracies else ""
            body.add_row(
                Text(view.title, style="bold"),
                f"round {view.round_number:>2}/{self._rounds}",
                Text(f"{view.stage:<15}", style="dim"),
                Text(view.dots(), style="cyan"),
                Text(f"{latest:>6}", style="bold green"),
                Text(view.sparks(), style="green"),
            )
        return Group(head, body)


class PlainProgress:
    """A `Watch` that prints one line when every lane has finished a round."""

    def __init__(self, lanes: Sequence[str], rounds: int, console: Console) -> None:
        self._lanes = tuple(lanes)
        self._rounds = rounds
        self._console = console
        self._finished: dict[int, dict[str, RoundResult]] = {}

    def saw(self, lane: str, event: Event) -> None:
        return

    def finished(self, lane: str, result: RoundResult) -> None:
        results = self._finished.setdefault(result.round_number, {})
        results[lane] = result
        if len(results) == len(self._lanes):
            accuracies = "   ".join(
                f"{LANE_TITLES[name]} {results[name].metrics['accuracy']:.1%}" for name in self._lanes
            )
            reasons = {client: reason for result in results.values() for client, reason in result.dropped.items()}
            dropped = "".join(f"   client {client}: {reason}" for client, reason in sorted(reasons.items()))
            self._console.print(
                f"round {result.round_number:>3}/{self._rounds}   {accuracies}{dropped}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


@contextmanager
def watching(
    console: Console, lanes: Sequence[str], rounds: int, clients: int
) -> Iterator[LiveProgress | PlainProgress]:
    """Yield a `Watch` of the kind that suits the console; a live view is gone afterwards."""
    if not console.is_terminal:
        yield PlainProgress(lanes, rounds, console)
        return
    view = LiveProgress(lanes, rounds, clients)
    with Live(view, console=console, transient=True, refresh_per_second=8):
        yield view
