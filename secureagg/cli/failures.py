"""How a command fails: one line on stderr and a numbered exit, a traceback only on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from secureagg.cli.exit_codes import ExitCode

__all__ = ["DebugOption", "debugging", "reported"]

DebugOption = Annotated[
    bool,
    typer.Option("--debug", metavar="", help="Show an error's traceback and TensorFlow's log, instead of one line."),
]


def debugging(context: typer.Context, debug: bool) -> bool:
    """Return whether `--debug` stands before the command or after it."""
    return debug or bool(context.find_root().params["debug"])


@contextmanager
def reported(debug: bool) -> Iterator[None]:
    """Turn whatever leaves the block into one line and an `ExitCode`."""
    try:
        yield
    except (typer.Exit, typer.BadParameter):  # typer's own ends: it prints and numbers them itself
        raise
    except (Exception, KeyboardInterrupt) as error:  # the boundary of the program: nothing may pass it unnumbered
        code = ExitCode.of(error)
        console = Console(stderr=True, soft_wrap=True)
        if debug:
            console.print_exception(show_locals=False)
        console.print("[bold red]error:[/]", end=" ")
        console.print(_line(error, code, debug), markup=False, highlight=False)
        raise typer.Exit(code) from error


def _line(error: BaseException, code: ExitCode, debug: bool) -> str:
    message = " ".join(str(error).split())
    if code is ExitCode.INTERRUPTED:
        return "interrupted"
    if code is ExitCode.UNEXPECTED:
        advice = "" if debug else "; please report it with what --debug shows"
        return f"unexpected {type(error).__name__}: {message}{advice}"
    if len(message) > _LONGEST and not debug:
        return f"{message[:_LONGEST]}… (all of it with --debug)"
    return message


_LONGEST = 500  # a quorum error tells of every client
