"""`secureagg warm-up`, and what a command says while kernels are compiled."""

from __future__ import annotations

import time

import typer
from rich.console import Console

import secureagg
from secureagg.cli.failures import reported
from secureagg.cli.options import DebugOption
from secureagg.events import Event, Observer

__all__ = ["telling", "warm_up"]

_CACHED_SECONDS = 2.0  # loading numba and its cached code takes less


def warm_up(context: typer.Context, debug: DebugOption = False) -> None:
    """Compile the kernels of the one-shot scheme, once per machine, so that no first round has to wait."""
    with reported(context, debug):
        started = time.perf_counter()
        secureagg.warm_up(telling(Console(stderr=True)))
        typer.echo(f"Kernels are ready, after {time.perf_counter() - started:.1f} s.")


def telling(said: Console) -> Observer:
    """Return an observer of `secureagg.warm_up` that speaks once it takes longer than loading compiled code does."""
    times: list[float] = []

    def observe(event: Event) -> None:
        times.append(time.perf_counter())
        if times[-1] - times[0] > _CACHED_SECONDS:
            said.print(f"Compiling kernels, once per machine: {event.done} of {event.total} modules …", style="dim")

    return observe
