"""The command line: `secureagg` and `python -m secureagg`. Nothing else in the package knows typer or rich."""

from __future__ import annotations

import sys

from secureagg.cli.exit_codes import ExitCode
from secureagg.errors import MissingExtraError

__all__ = ["main"]


def main() -> None:
    """Run the command in `sys.argv` and exit with an `ExitCode`."""
    try:
        from secureagg.cli.app import app
    except ModuleNotFoundError as error:
        if error.name not in ("typer", "rich"):
            raise
        print(f"error: {MissingExtraError(error.name, 'cli')}", file=sys.stderr)
        sys.exit(ExitCode.MISSING_EXTRA)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    app(prog_name="secureagg")
