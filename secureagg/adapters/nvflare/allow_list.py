"""What NVFlare's component authoriser has to be told: a job without custom code may only build classes on a list.

`python -m secureagg.adapters.nvflare allow-list WORKSPACE` puts ours on a site's list.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST

from secureagg.errors import ParameterError

__all__ = ["COMPONENTS", "allow_components", "allow_list"]

COMPONENTS = (
    "secureagg.adapters.nvflare.aggregator.PrivateAggregator",
    "secureagg.adapters.nvflare.filters.EncryptUpdates",
    "secureagg.adapters.nvflare.terms.Terms",
)
_KEY = "class_allow_list"


def allow_list() -> list[str]:
    """Return NVFlare's own default list and our three classes; a list in resources.json replaces the default."""
    return [*DEFAULT_CLASS_ALLOW_LIST, *COMPONENTS]


def allow_components(workspace: str | os.PathLike[str]) -> Path:
    """Put our three classes on the `class_allow_list` of a site's local/resources.json, and return that file's path.

    All else in it stays. Where there is no list, NVFlare's default becomes one; where there is no such file,
    resources.json.default does, which NVFlare reads in its place.

    Raises: ParameterError if neither file is there, or what is there cannot be read or has no list in that place.
    """
    folder = Path(workspace) / "local"
    resources = folder / "resources.json"
    source = resources if resources.exists() else folder / "resources.json.default"
    try:
        settings = json.loads(source.read_text(encoding="utf-8"))
        listed = settings.setdefault(_KEY, list(DEFAULT_CLASS_ALLOW_LIST))
        listed += [component for component in COMPONENTS if component not in listed]
    except FileNotFoundError as error:
        raise ParameterError(f"{folder} has no resources.json: it is no workspace of NVFlare") from error
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise ParameterError(f"{source} cannot be read, or its {_KEY} is no list: {error}") from error
    written = folder / "resources.json.new"
    written.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    os.replace(written, resources)
    return resources
