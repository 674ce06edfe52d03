"""The program and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

import secureagg
from secureagg.cli.audit import audit
from secureagg.cli.audit_plan import audit_plan
from secureagg.cli.calibrate import calibrate
from secureagg.cli.demo.command import demo
from secureagg.cli.exit_codes import ExitCode
from secureagg.cli.options import DebugOption
from secureagg.cli.plan import plan
from secureagg.cli.selfcheck import selfcheck
from secureagg.cli.verify import verify
from secureagg.cli.warm_up import warm_up

__all__ = ["app"]

# Markdown. A paragraph each, as older typers join lines.
_EXIT_CODES = "\n\n".join(["Exit codes:", *(f"- {code:d} {code.meaning}" for code in ExitCode)])

app = typer.Typer(
    name="secureagg",
    help="Private aggregation for federated learning: clients' updates, summed while encrypted.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

audits = typer.Typer(no_args_is_help=False)
audits.callback(invoke_without_command=True)(audit)
audits.command("plan", no_args_is_help=False)(audit_plan)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"secureagg {secureagg.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Options that stand before the command."""


app.command(no_args_is_help=False)(demo)
app.command()(plan)
app.command()(calibrate)
app.command()(verify)
app.add_typer(audits, name="audit")
app.command(no_args_is_help=False)(selfcheck)
app.command("warm-up", no_args_is_help=False)(warm_up)
