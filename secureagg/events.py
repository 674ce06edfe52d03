"""Progress of long calls: what a caller's `observe` is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Event", "Observer"]


@dataclass(frozen=True)
class Event:
    """`done` of `total` pieces of `stage` are finished.

    The "clip" stage of `contribute` also says by which factor the update was scaled (1.0: not at all) and how many
    coordinates were clamped to `value_bound`; it goes to the client alone.
    """

    stage: str
    done: int
    total: int
    clip_factor: float | None = None
    clamped: int | None = None


Observer = Callable[[Event], None]
