"""How a command fails: one line on stderr and a numbered exit, a traceback only on request."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import typer
from rich.console import Console

from secureagg.cli.exit_codes import ExitCode

__all__ = ["debugging", "reported"]


def debugging(context: typer.Context, debug: bool) -> bool:
    """Return whether `--debug` stands before the command or after it."""
    return debug or bool(context.find_root().params["debug"])


@contextmanager
def reported(context: typer.Context, debug: bool, aliases: Mapping[str, str] | None = None) -> Iterator[None]:
    """Turn whatever leaves the block into one line and an `ExitCode`.

    What the library calls by a parameter's name is called by its option's; aliases: other names it has for options.
    """
    debug = debugging(context, debug)
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
        names = _option_names(context) | dict(aliases or {})
        console.print(_line(error, code, debug, names), markup=False, highlight=False)
        raise typer.Exit(code) from error


def _option_names(context: typer.Context) -> dict[str, str]:
    """Return the options of the command by the names of their parameters."""
    spelled = ((each.name, max(each.opts, key=len)) for each in context.command.params)
    return {name: option for name, option in spelled if name is not None and option.startswith("--")}


def _line(error: BaseException, code: ExitCode, debug: bool, names: Mapping[str, str]) -> str:
    message = " ".join(str(error).split())
    if code is ExitCode.PARAMETERS:
        # Only where a value is spoken of: "rounds=3", "epsilon must be"; elsewhere the same word is no option.
        known = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
        message = re.sub(rf"(?<![\w./-])({known})(?==| must be )", lambda found: names[found[1]], message)
    if code is ExitCode.INTERRUPTED:
        return "interrupted"
    if code is ExitCode.UNEXPECTED:
        advice = "" if debug else "; please report it with what --debug shows"
        return f"unexpected {type(error).__name__}: {message}{advice}"
    if len(message) > _LONGEST and not debug:
        return f"{message[:_LONGEST]}… (all of it with --debug)"
    return message


_LONGEST = 500  # a quorum error tells of every client
