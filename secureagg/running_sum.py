"""The running sum of a round: Σc of the contributions that count, and whose they are. Public: it holds no secret."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import QuorumError
from secureagg.he.total import Total
from secureagg.ids import ClientIds
from secureagg.payload import ContributionView
from secureagg.plan import RoundPlan
from secureagg.ring import workers

__all__ = ["RunningSum"]

_Frame = Callable[[int], bytes | memoryview]


class RunningSum:
    """Σc and the set of contributors in it. Those that change it at once must hold a lock.

    Guarantees: what is counted is counted whole; a `count`, `merge` or `leave_out` that raises changes nothing.
    """

    def __init__(self, plan: RoundPlan) -> None:
        self._plan = plan
        self.total = Total(plan.packing)
        self._counted = np.zeros(plan.contributors, dtype=np.bool_)

    @property
    def contributors(self) -> ClientIds:
        """Ids of all contributions in the sum, ascending."""
        return ClientIds.where(self._counted)

    @property
    def clients(self) -> ClientIds:
        """Ids of the clients in the sum, ascending."""
        return ClientIds.where(self._counted[: self._plan.clients])

    @property
    def noise_members(self) -> tuple[int, ...]:
        """Ids of the committee members whose noise is in the sum, ascending."""
        return tuple(np.flatnonzero(self._counted[self._plan.clients :]).tolist())

    def holds_any(self, contributors: Iterable[int]) -> bool:
        """Return whether one of these is in the sum."""
        return bool(self._counted[list(contributors)].any())

    def require_quorum(self, without: Collection[int] = ()) -> None:
        """Raise QuorumError unless enough clients, and enough members' noise, remain without these contributors."""
        self.require_clients(without)
        plan = self._plan
        noisy, needed = int(np.count_nonzero(self._remaining(without)[plan.clients :])), plan.committee.members_needed
        if plan.noise_members and noisy < needed:
            raise QuorumError(
                f"the noise of {noisy} members is admitted, and {needed} must answer, each with its own in the sum; "
                "have them add_noise()"
            )

    def require_clients(self, without: Collection[int] = ()) -> None:
        """Raise QuorumError unless enough clients remain without these contributors."""
        left = int(np.count_nonzero(self._remaining(without)[: self._plan.clients]))
        if left < self._plan.quorum:
            raise QuorumError(
                f"{left} clients remain (admitted {len(self.clients)}, refused {sorted(without)}), "
                f"the quorum is {self._plan.quorum}"
            )

    def _remaining(self, without: Collection[int]) -> NDArray[np.bool_]:
        remaining = self._counted.copy()
        remaining[list(without)] = False
        return remaining

    def count(self, contributor: int, view: ContributionView) -> None:
        """Add a contribution."""
        self.merge([contributor], view.frame)

    def merge(self, contributors: Sequence[int], frame: _Frame) -> None:
        """Add the sum of these contributors' ciphertexts, given by frame."""
        added: list[int] = []

        def add(index: int) -> None:
            self.total.add(index, frame(index))
            added.append(index)

        try:
            self._each_frame(add)
        except BaseException:
            for index in added:
                self.total.subtract(index, frame(index))
            raise
        self._counted[list(contributors)] = True

    def discount(self, contributor: int, view: ContributionView) -> None:
        """Take out a contribution that was counted."""
        self._each_frame(lambda index: self.total.subtract(index, view.frame(index)))
        self._counted[contributor] = False

    def leave_out(self, contributors: Sequence[int], view: Callable[[int], ContributionView]) -> None:
        """Take all of these out of the sum, or none."""
        for position, contributor in enumerate(contributors):
            try:
                self.discount(contributor, view(contributor))
            except BaseException:
                for earlier in contributors[:position]:
                    self.count(earlier, view(earlier))
                raise

    def _each_frame(self, action: Callable[[int], None]) -> None:
        def act(start: int, stop: int) -> None:
            for index in range(start, stop):
                action(index)

        workers.run(act, len(self._plan.packing.frames))
