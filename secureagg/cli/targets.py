"""Where a command is to write: found out before an hour of work, by writing there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import typer

__all__ = ["require_writable_file", "require_writable_folder"]


def require_writable_file(path: Path, option: str) -> None:
    """Make the folders above a file; the file stays as it is, or absent. Raises: typer.BadParameter."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not path.exists()
        with path.open("ab"):  # access rights alone say little: to root all is allowed, and some file systems take none
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise _refused(path, option, error) from error


def require_writable_folder(path: Path, option: str) -> None:
    """Make a folder, if it is not there. Raises: typer.BadParameter."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise _refused(path, option, error) from error


def _refused(path: Path, option: str, error: OSError) -> typer.BadParameter:
    return typer.BadParameter(f"{path} cannot be written: {error.strerror}", param_hint=option)
