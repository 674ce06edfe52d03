"""The tensors and clients of `tests.adapters.common` as NVFlare has them: by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["NAMES", "client_of", "named", "ordered"]

NAMES = ("a.kernel", "b.scale", "c.bias")


def named(tensors: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return tensors of `common` under names, the last first: their order is that of the names all the same."""
    return {name: np.array(tensor) for name, tensor in reversed(list(zip(NAMES, tensors, strict=True)))}


def ordered(model: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Return named tensors in the order of `common`."""
    return [np.asarray(model[name]) for name in NAMES]


def client_of(site: str) -> int:
    """Return the number in `common` of a site: site-1 is client 0."""
    return int(site.rpartition("-")[2]) - 1
