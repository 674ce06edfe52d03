"""Files that a crash leaves whole or not at all, and that are there for good once a call has returned."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from secureagg.errors import ParameterError

__all__ = ["make_directory", "make_once", "sync_directory"]


def make_directory(path: Path) -> None:
    """Make a directory, for its owner alone, and those above it. Raises: ParameterError naming one that cannot be."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ParameterError(f"{path} cannot be used: {error.strerror}") from error


def make_once(path: Path, content: bytes) -> bool:
    """Make `path` with `content`, mode 0600, unless it exists; return whether it was made now.

    It is written and synced under another name, then linked into place, which fails if the name is taken: of two
    processes one makes it. Raises: ParameterError naming the path if it cannot be written.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(name, path)
                made = True
            except FileExistsError:
                made = False
        finally:
            os.unlink(name)
        sync_directory(path.parent)
    except OSError as error:
        raise ParameterError(f"{path} cannot be written: {error.strerror}") from error
    return made


def sync_directory(path: Path) -> None:
    """Return when the directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
