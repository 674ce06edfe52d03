"""Audits of what a plan really does: canaries in rounds made by the code that ships, sound or with a seeded fault.

A canary is a client whose update, ten times too long, points along a direction of its own, forwards and backwards in
turn over the rounds, so that noise which differs from round to round hides it, and nothing else. Where the plan rotates
updates, that is the direction after the rotation, which is public. `CrowdedSums` has all
canaries in the same sums. In `LonelySums` each is in sums of its own, of as few parties as the plan allows: only so can
it be seen whether one party's noise is missing. All is done in one thread: a canary's part is so short that threads
would spend their time taking turns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_whole
from secureagg.dp.audit import Claim
from secureagg.dp.mechanisms import Mechanism, Skellam
from secureagg.dp.relation import Relation
from secureagg.dp.rotation import Rotation
from secureagg.electorate import Committee
from secureagg.errors import ParameterError
from secureagg.events import Event, Observer
from secureagg.layout import Layout
from secureagg.plan import RoundPlan
from secureagg.plan_faults import TOO_LONG, Parties, PlanFault, Release
from secureagg.ring.xof import KEY_BYTES, SecretStream

__all__ = ["CrowdedSums", "LonelySums", "claim_of", "crowded_plan", "lonely_plan"]

_Vector = NDArray[np.float64]

_COMMITTEE = Committee(4, threshold=4, assumed_corrupt=2)  # the noise of two honest members is in every sum
_LONELY_CLIENTS, _LONELY_QUORUM, _LONELY_SIZE = 4, 2, 1024
_FINE_BITS = 14
_COARSE_BITS, _COARSE_BITS_ROTATED = 5, 3  # a clip of 15 steps in 1024 values: half of what is sent is rounding


def crowded_plan(noise: Mechanism, canaries: int, *, rotate: bool = False) -> RoundPlan:
    """Return a plan of as many clients as canaries, all of them in the sum, and as many values."""
    require_whole("canaries", canaries, 20, 10**6)
    return _plan(canaries, canaries, canaries, _FINE_BITS, noise, rotate)


def lonely_plan(noise: Mechanism, *, rotate: bool = False) -> RoundPlan:
    """Return a plan whose sums may be of two clients, of four; two parties' noise, or the aggregator's, is in them.

    The grid is so coarse that half of what a client sends is rounding, which a Gaussian's ε hardly counts
    (docs/proofs/rounding.md). Skellam's ε counts all of it; there the grid is fine, or the claim's slack hid faults.
    """
    coarse = _COARSE_BITS_ROTATED if rotate else _COARSE_BITS
    bits = _FINE_BITS if isinstance(noise, Skellam) else coarse
    return _plan(_LONELY_SIZE, _LONELY_CLIENTS, _LONELY_QUORUM, bits, noise, rotate)


def claim_of(plan: RoundPlan) -> Claim:
    """Return what the plan says of its rounds together. Raises: ParameterError for a plan without noise."""
    noise = Parties(plan, None).noise
    return Claim(noise.epsilon, noise.delta, Relation.ZERO_OUT)


@dataclass
class CrowdedSums:
    """A `dp.audit.Mechanism`: the plan's rounds with all canaries in them, and how far the means lean towards each.

    plan: with noise for an even number of rounds, and at least as many values as canaries, which are all the honest
    clients of a quorum. stream: where sessions, rounding and noise come from; by default the operating system. observe:
    is told of every update of every round.
    Raises: ParameterError for another plan, and for a fault that shows only where canaries are alone.
    """

    plan: RoundPlan
    fault: PlanFault | None = None
    stream: SecretStream = field(default_factory=SecretStream, repr=False)
    observe: Observer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._parties = _parties(self.plan, self.fault)
        if self.fault is not None and self.fault.alone:
            raise ParameterError(f"{self.fault} shows only where canaries are alone")
        self._directions = Rotation(self.plan.layout.size, bytes(KEY_BYTES))

    def __call__(self, present: NDArray[np.bool_]) -> _Vector:
        """Return a score for each canary: what the means of all rounds hold of it, less half of what they could."""
        parties, count = self._parties, len(present)
        if count != parties.clients:
            raise ParameterError(f"{count} canaries for {parties.clients} honest clients of a quorum; give one each")
        scores = np.zeros(count)
        for number in range(parties.noise.rounds):
            sign, release = _sign(number), Release(parties, number, self.stream)
            mean = release.mean(partial(self._update, release, sign * present, number * count))
            scores += sign * count * self._directions.undo(release.rotated(mean))[:count]
        self._tell(parties.noise.rounds * count, count)
        return scores - parties.noise.rounds * self.plan.l2_clip / 2

    def _update(self, release: Release, signs: NDArray[np.int64], earlier: int, canary: int) -> _Vector:
        self._tell(earlier + canary, len(signs))
        if not signs[canary]:
            return np.zeros(self.plan.layout.size)
        return release.unrotated(_update(self._directions, self.plan, canary, float(signs[canary])))

    def _tell(self, done: int, canaries: int) -> None:
        if self.observe is not None:
            self.observe(Event("audit", done, self._parties.noise.rounds * canaries))


@dataclass
class LonelySums:
    """A `dp.audit.Mechanism` for `independent=True`: each canary in rounds of its own, beside the other honest clients
    of a quorum, whose updates are known, too long and across it.

    Fields as in `CrowdedSums`; any fault. `observe` is told of every canary.
    """

    plan: RoundPlan
    fault: PlanFault | None = None
    stream: SecretStream = field(default_factory=SecretStream, repr=False)
    observe: Observer | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self._parties = _parties(self.plan, self.fault)
        directions = Rotation(self.plan.layout.size, bytes(KEY_BYTES))
        self._updates = np.array([_update(directions, self.plan, i, 1.0) for i in range(self._parties.clients)])

    def __call__(self, present: NDArray[np.bool_]) -> _Vector:
        """Return a score for each canary, above 0 if its sums are nearer to those with it than to those without."""
        scores = np.zeros(len(present))
        for canary, is_in in enumerate(present.tolist()):
            scores[canary] = self._score(is_in, self.stream.substream(f"canary {canary}"))
            if self.observe is not None:
                self.observe(Event("audit", canary + 1, len(present)))
        return scores

    def _score(self, present: bool, stream: SecretStream) -> float:
        score = 0.0
        for number in range(self._parties.noise.rounds):
            release, sign = Release(self._parties, number, stream), _sign(number)
            canary, *others = (release.unrotated(update) for update in self._updates)
            total = self._parties.clients * release.mean([sign * present * canary, *others].__getitem__)
            for other in others:
                total -= release.foreseen(other)
            sent = release.foreseen(sign * canary)
            score += float(sent @ (total - sent / 2))
        return score


def _plan(size: int, clients: int, quorum: int, value_bits: int, noise: Mechanism, rotate: bool) -> RoundPlan:
    return RoundPlan(
        layout=_layout(size),
        clients=clients,
        quorum=quorum,
        l2_clip=1.0,
        value_bits=value_bits,
        committee=_COMMITTEE,
        noise=noise,
        rotate=rotate,
    )


def _parties(plan: RoundPlan, fault: PlanFault | None) -> Parties:
    parties = Parties(plan, fault)
    if parties.noise.rounds % 2:
        raise ParameterError(f"rounds={parties.noise.rounds}: must be even, for as many forwards as backwards")
    if plan.layout != _layout(plan.layout.size):
        raise ParameterError("the layout must be one float64 vector, whose means are not rounded")
    if parties.clients > plan.layout.size:
        raise ParameterError(f"{parties.clients} clients need as many directions, and d={plan.layout.size}")
    return parties


def _layout(size: int) -> Layout:
    return Layout(((size,),), ("float64",))


def _sign(number: int) -> int:
    return 1 - 2 * (number % 2)


def _update(directions: Rotation, plan: RoundPlan, client: int, sign: float) -> _Vector:
    """Return an update along one column of an orthogonal matrix, whose entries are all about as large."""
    unit = np.zeros(directions.size)
    unit[client] = sign * TOO_LONG * plan.l2_clip
    return directions.apply(unit)
