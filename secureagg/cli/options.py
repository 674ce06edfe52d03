"""Options that only one scheme uses."""

from __future__ import annotations

from collections.abc import Mapping

import typer

__all__ = ["refuse_unused"]


def refuse_unused(context: typer.Context, scheme: str, used_by: Mapping[str, str]) -> None:
    """Refuse an option on the command line that this scheme would ignore; `used_by` maps parameters to schemes."""
    for name, owner in used_by.items():
        source = context.get_parameter_source(name)
        if owner != scheme and source is not None and source.name == "COMMANDLINE":
            raise typer.BadParameter(
                f"only --scheme {owner} uses it, and this is {scheme}", param_hint=f"--{name.replace('_', '-')}"
            )
