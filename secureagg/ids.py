"""A set of clients, by their ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClientIds"]


class ClientIds(Sequence[int]):
    """Ids in ascending order, each once, at four bytes an id (a tuple of large ones takes forty).

    Equal to any sequence that holds the same ids in the same order.
    """

    __slots__ = ("_ids",)

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids: NDArray[np.uint32] = np.unique(np.fromiter(ids, dtype=np.uint32))

    @classmethod
    def where(cls, chosen: NDArray[np.bool_]) -> ClientIds:
        """Return the positions at which `chosen` is true."""
        made = cls(())
        made._ids = np.flatnonzero(chosen).astype(np.uint32)
        return made

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        return tuple(self._ids[index].tolist()) if isinstance(index, slice) else int(self._ids[index])

    def __contains__(self, client_id: object) -> bool:
        if not isinstance(client_id, int | np.integer) or not 0 <= client_id < 1 << 32:
            return False
        place = int(np.searchsorted(self._ids, np.uint32(client_id)))
        return place < len(self._ids) and self._ids[place] == client_id

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"ClientIds({self._ids.tolist()})"
