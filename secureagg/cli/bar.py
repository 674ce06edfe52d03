"""A bar for calls that tell how far they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from secureagg.events import Event, Observer

__all__ = ["bar"]


@contextmanager
def bar(said: Console, doing: str) -> Iterator[Observer]:
    """Yield an observer that draws a bar on a terminal, gone afterwards, and nothing elsewhere."""
    columns = (TextColumn(doing), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=said, transient=True, disable=not said.is_terminal) as progress:
        task = progress.add_task(doing, total=None)

        def observe(event: Event) -> None:
            progress.update(task, completed=event.done, total=event.total)

        yield observe
