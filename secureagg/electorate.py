"""The committee as a plan describes it: how many members, how many must answer, how many may be corrupt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from secureagg.checks import require_whole
from secureagg.errors import ParameterError

__all__ = ["Committee"]


@dataclass(frozen=True)
class Committee:
    """k members, any t of whom open the sum; `assumed_corrupt` = c of them may collude with the aggregator.

    What is left out follows from the rest: threshold the smallest that withstands c; c the most that the threshold
    withstands, 2t − k − 1; and if neither is given, c = ⌊(k − 1)/3⌋, the most that may collude *or* stay away.
    With c = 0, as for three members, a single colluding member can help the aggregator open two sets of clients.

    `mode`: "optimistic" opens in one exchange; "robust" asks for signed complaints first, so that a client who dealt
    bad shares is left out and a lying member can be blamed.

    Requires: 2t − k > c, so that no two disjoint answers can be collected for two different sets of clients.
    """

    size: int
    threshold: int | None = None
    assumed_corrupt: int | None = None
    mode: Literal["optimistic", "robust"] = "optimistic"

    def __post_init__(self) -> None:
        k = self.size
        require_whole("committee size", k, 1, 254)
        if self.threshold is not None:
            require_whole("threshold", self.threshold, 1, 254)
            if self.threshold > k:
                raise ParameterError(f"threshold t={self.threshold} > size k={k}; the committee could never answer")
        if self.assumed_corrupt is None:
            withstood = (k - 1) // 3 if self.threshold is None else 2 * self.threshold - k - 1
            object.__setattr__(self, "assumed_corrupt", max(0, withstood))
        c = self.colluding
        require_whole("assumed_corrupt members", c, 0, k)
        if self.threshold is None:
            object.__setattr__(self, "threshold", (k + c) // 2 + 1)
        t = self.members_needed
        if t > k:
            raise ParameterError(f"threshold t={t} > size k={k}; the committee could never answer")
        if not 2 * t - k > c:
            raise ParameterError(
                f"2t − k > c fails: 2·{t} − {k} = {2 * t - k}, c = {c} members assumed corrupt could help open two "
                f"different sums; use threshold ≥ {(k + c) // 2 + 1} or assume fewer corrupt"
            )
        if self.mode not in ("optimistic", "robust"):
            raise ParameterError(f"committee mode is 'optimistic' or 'robust', not {self.mode!r}")

    @property
    def members_needed(self) -> int:
        """t, as a number."""
        assert self.threshold is not None
        return self.threshold

    @property
    def colluding(self) -> int:
        """c, as a number."""
        assert self.assumed_corrupt is not None
        return self.assumed_corrupt

    @property
    def tolerated_dropouts(self) -> int:
        """How many honest members may be away while the round still opens: k − c − t, at least 0."""
        return max(0, self.size - self.colluding - self.members_needed)
