"""Options that commands share, how one is declared, and how one that this run would not heed is refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer
from typer.models import OptionInfo

__all__ = [
    "L2_CLIP",
    "MAGNITUDE",
    "ONE_SHOT",
    "PRECISION",
    "TENSEAL",
    "VALUE_BITS",
    "CanaryDeltaOption",
    "CanaryEpsilonOption",
    "CanarySeedOption",
    "DebugOption",
    "JsonOption",
    "MembersOption",
    "flag",
    "option",
    "refuse_given",
    "refuse_unused",
]


def option(
    metavar: str,
    text: str,
    panel: str | None = None,
    *,
    least: float | None = None,
    most: float | None = None,
    default: str | bool = True,
) -> OptionInfo:
    """Return an option with a value; least, most: what it may be. default: what to show of it, if not its value."""
    declared: OptionInfo = typer.Option(
        metavar=metavar, help=text, rich_help_panel=panel, min=least, max=most, show_default=default
    )
    return declared


def flag(name: str, text: str, panel: str | None = None) -> OptionInfo:
    """Return an option without a value; but for the empty metavar the help would show it as taking `<bool>`."""
    declared: OptionInfo = typer.Option(name, metavar="", help=text, rich_help_panel=panel)
    return declared


# Panels and texts where commands differ in type or default.
ONE_SHOT, TENSEAL = "With --scheme one-shot", "With --scheme tenseal"
L2_CLIP = "Largest L2 norm of an update, in the weights' own units; longer ones are scaled down."
VALUE_BITS = "Bits of a value on the grid."
MAGNITUDE = "Largest |value| of an update, in the weights' own units; larger ones are refused."
PRECISION = "Largest error of a value of the mean, in the same units."

DebugOption = Annotated[bool, flag("--debug", "Show an error's traceback and TensorFlow's log, instead of one line.")]
JsonOption = Annotated[bool, flag("--json", "Print one JSON object instead.")]
MembersOption = Annotated[int, option("K", "Committee members.", ONE_SHOT)]
CanaryEpsilonOption = Annotated[float, option("X", "The ε that is claimed, and that the noise is made for.")]
CanaryDeltaOption = Annotated[float, option("X", "The δ beside it.")]
CanarySeedOption = Annotated[
    int | None, option("N", "Repeat a run: all that is random from this number, not the system.", least=0)
]


def refuse_unused(context: typer.Context, scheme: str, used_by: Mapping[str, str]) -> None:
    """Refuse an option on the command line that this scheme would ignore; `used_by` maps parameters to schemes."""
    for name, owner in used_by.items():
        if owner != scheme:
            refuse_given(context, name, f"only --scheme {owner} uses it, and this is {scheme}")


def refuse_given(context: typer.Context, name: str, reason: str) -> None:
    """Refuse a parameter if it stands on the command line."""
    source = context.get_parameter_source(name)
    if source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter(reason, param_hint=f"--{name.replace('_', '-')}")
