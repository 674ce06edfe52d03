"""What NVFlare's component authoriser has to be told: a job without custom code may only build classes on a list.

`python -m secureagg.adapters.nvflare allow-list` prints the entry for a site's local/resources.json.
"""

from __future__ import annotations

from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST

__all__ = ["COMPONENTS", "allow_list"]

COMPONENTS = (
    "secureagg.adapters.nvflare.aggregator.PrivateAggregator",
    "secureagg.adapters.nvflare.filters.EncryptUpdates",
    "secureagg.adapters.nvflare.terms.Terms",
)


def allow_list() -> list[str]:
    """Return NVFlare's own default list and our three classes; a list in resources.json replaces the default."""
    return [*DEFAULT_CLASS_ALLOW_LIST, *COMPONENTS]
