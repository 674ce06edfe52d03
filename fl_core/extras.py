"""Optional dependencies, imported when first needed."""

from importlib import import_module
from typing import Any

from fl_core.errors import MissingExtraError

__all__ = ["extra"]


def extra(module: str) -> Any:
    """The module, imported now; the packages behind it come with `secureagg[tensorflow]`.

    Raises: MissingExtraError if its top-level package is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = module.split(".")[0]
        if error.name != package:  # the package is there but one of its own imports is not: not ours to explain
            raise
        raise MissingExtraError(f"{package} is not installed: pip install 'secureagg[tensorflow]'") from error
