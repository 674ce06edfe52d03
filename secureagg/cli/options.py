"""Options that only some runs use."""

from __future__ import annotations

from collections.abc import Mapping

import typer

__all__ = ["refuse_given", "refuse_unused"]


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
