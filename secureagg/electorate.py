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

    Requires: 3t > 2k + c. A malicious aggregator may ask each member about another set of clients, and answers about
    different sets can be combined linearly. With h = k − c honest members and r = t − c answers it lacks, whatever it
    learns is a multiple of the sum over one set of at least `quorum` clients if h < 3r/2, which is this inequality
    (docs/protocol.md, One answer). The weaker 2t − k > c, enough against two sets that t members each agree on, lets
    the aggregator alone learn −3·Σ_X + Σ_Y of two sets from three members with t = 2.

    What is left out follows from the rest: threshold the smallest that withstands c; c the most that the threshold
    withstands, 3t − 2k − 1; and if neither is given, c = ⌊(k − 1)/4⌋, the most that may collude *or* stay away.

    `mode`: "optimistic" opens in one exchange; "robust" asks for signed complaints first, so that a client who dealt
    bad shares is left out.
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
            withstood = (k - 1) // 4 if self.threshold is None else 3 * self.threshold - 2 * k - 1
            object.__setattr__(self, "assumed_corrupt", max(0, withstood))
        c = self.colluding
        require_whole("assumed_corrupt members", c, 0, k)
        if self.threshold is None:
            object.__setattr__(self, "threshold", (2 * k + c) // 3 + 1)
        t = self.members_needed
        if t > k:
            raise ParameterError(f"threshold t={t} > size k={k}; the committee could never answer")
        if not 3 * t > 2 * k + c:
            raise ParameterError(
                f"3t > 2k + c fails: 3·{t} = {3 * t}, 2·{k} + {c} = {2 * k + c}: an aggregator with {c} members "
                "could ask the others about different sets of clients and learn more than one sum; use threshold "
                f"≥ {(2 * k + c) // 3 + 1}, or fewer members"
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
