"""A plan's rounds as they are really released, sound or with a seeded fault: what `plan_audit` audits.

A round is `grid.put_on_grid` for each client and `grid.GridNoise` for each member, the integer sum of what they would
encrypt, and `mean.Mean` of that, as `client`, `committee` and `aggregator` call them. Only encryption is left out,
since what is opened is that sum, bit for bit. A fault is one thing that somebody does wrong: mostly, to follow another
plan than the one that makes the claim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.mechanisms import CentralGaussian, Mechanism, Skellam
from secureagg.dp.rotation import Rotation
from secureagg.electorate import Committee
from secureagg.errors import ParameterError
from secureagg.grid import GridNoise, put_on_grid
from secureagg.mean import Mean
from secureagg.plan import RoundPlan
from secureagg.ring.xof import KEY_BYTES, SecretStream

__all__ = ["TOO_LONG", "Parties", "PlanFault", "Release", "require_possible"]

_Vector = NDArray[np.float64]

TOO_LONG = 10.0  # clips, of a canary's update
_LARGEST_EPSILON = 500.0  # that a plan may claim; plans of those at fault do
_PUBLIC_SEED = 0


class PlanFault(StrEnum):
    """What can go wrong between a plan's claim and its rounds.

    half-noise: every party's noise has half its standard deviation. missing-noise: one party, of those that must, adds
    none. planned-parties: noise is sized for all clients (members) planned, and the quorum's are there. no-clip:
    updates are not clipped. clip-after-noise: what is clipped is not the update but values with noise in them, to the
    norm that such values have. same-seed: a party's noise is the same every round. known-rounding: all clients round
    with the same words every round, so each knows the others'.
    """

    HALF_NOISE = "half-noise"
    MISSING_NOISE = "missing-noise"
    PLANNED_PARTIES = "planned-parties"
    NO_CLIP = "no-clip"
    CLIP_AFTER_NOISE = "clip-after-noise"
    SAME_SEED = "same-seed"
    KNOWN_ROUNDING = "known-rounding"

    @property
    def alone(self) -> bool:
        """Whether it is looked for where each canary is in sums of its own, and few parties are."""
        return self not in (PlanFault.HALF_NOISE, PlanFault.NO_CLIP, PlanFault.SAME_SEED)


def require_possible(noise: Mechanism, fault: PlanFault | None) -> None:
    """Raise ParameterError for a fault that this noise cannot have."""
    if fault is PlanFault.PLANNED_PARTIES and isinstance(noise, CentralGaussian):
        raise ParameterError("planned-parties is a fault of noise in shares; the aggregator's is of one party")
    if fault is PlanFault.KNOWN_ROUNDING and isinstance(noise, Skellam):
        raise ParameterError("known-rounding costs Skellam noise nothing: its ε counts all that rounding can add")


class Parties:
    """Who is in the rounds of a plan: the honest among the fewest whose sum may be opened, and what they do.

    Corrupt ones are left out: whoever colludes with them knows and subtracts what they add. Raises: ParameterError for
    a plan without noise, or a fault that its noise cannot have.
    """

    def __init__(self, plan: RoundPlan, fault: PlanFault | None) -> None:
        if plan.noise is None:
            raise ParameterError("this plan releases exact sums, and claims no ε that could be audited; give it noise")
        require_possible(plan.noise, fault)
        self.plan, self.fault, self.noise = plan, fault, plan.noise
        self.noiseless = replace(plan, noise=None)
        self.followed = self._followed()
        self.clients = plan.quorum - plan.assumed_corrupt_clients
        self.adding = plan.privacy_event().honest
        own = self.noise.noise_by == "clients"
        late = fault is PlanFault.CLIP_AFTER_NOISE
        self.unclipped = self._unclipped() if late or fault is PlanFault.NO_CLIP else None
        self.client_limit = math.sqrt(plan.norm_bound) if late and own else math.inf  # grid steps
        self.mean_limit = self._noisy_mean_norm() if late and not own else math.inf
        missing = fault is PlanFault.MISSING_NOISE
        self.first_client = self.noiseless if missing and own else self.followed
        self.first_member = int(missing and self.noise.noise_by == "committee")
        self.aggregator = self.noiseless if missing and self.noise.noise_by == "aggregator" else self.followed

    def _followed(self) -> RoundPlan:
        """Return the plan that is followed: another than the claim's if that is the fault."""
        plan, noise = self.plan, self.noise
        match self.fault:
            case PlanFault.HALF_NOISE:
                return replace(plan, noise=replace(noise, epsilon=_LARGEST_EPSILON, noise_std_grid=noise.std / 2))
            case PlanFault.PLANNED_PARTIES:
                everybody = Committee(plan.committee.size, plan.committee.size, 0)
                sized = replace(noise, noise_std_grid=None)
                return replace(plan, quorum=plan.clients, assumed_corrupt_clients=0, committee=everybody, noise=sized)
            case _:
                return plan

    def _unclipped(self) -> RoundPlan:
        """Return what an update is put on the grid by if it is not clipped: the same grid, with no bound to keep to."""
        clip = self.plan.l2_clip * TOO_LONG * (1 + 1e-6)
        return replace(self.noiseless, l2_clip=clip, value_bound=self.plan.quantiser.bound)

    def _noisy_mean_norm(self) -> float:
        """Return a norm that an honest mean with its noise keeps to, in the update's unit."""
        longest = self.adding * math.sqrt(self.noise.norm_bound(self.plan.layout.size))
        return self.plan.l2_clip + longest / self.plan.quantiser.scale / self.clients


@dataclass(frozen=True)
class Release:
    """One round, by its number; what is random in it comes from a stream."""

    parties: Parties
    number: int
    stream: SecretStream = field(repr=False)

    @cached_property
    def sid(self) -> bytes:
        """What stands for the session's id."""
        return self.stream.substream(f"session {self.number}").draw_bytes(KEY_BYTES)

    @cached_property
    def _rotation(self) -> Rotation | None:
        return Rotation(self.parties.plan.layout.size, self.sid) if self.parties.plan.rotate else None

    def rotated(self, vector: _Vector) -> _Vector:
        """Return what clients round of this vector: its rotation, if the plan rotates."""
        return vector if self._rotation is None else self._rotation.apply(vector)

    def unrotated(self, vector: _Vector) -> _Vector:
        """Return the vector that `rotated` takes to this one."""
        return vector if self._rotation is None else self._rotation.undo(vector)

    def mean(self, update: Callable[[int], _Vector]) -> _Vector:
        """Return the mean of the clients' updates, of client 0, 1, …, decoded as the aggregator does."""
        parties, plan = self.parties, self.parties.plan
        total = np.zeros(plan.coordinates, dtype=np.int64)
        for client in range(parties.clients):
            total += self.client_values(client, update(client))
        for values in self.member_values():
            total += values
        decoded = Mean(parties.aggregator, self.sid, parties.clients, int(total[-1]), self._noise("aggregator"))
        decoded.write(total[:-1], 0)
        (released,) = decoded.finished(decoded.tensors())
        return _within(released, parties.mean_limit)

    def client_values(self, client: int, update: _Vector) -> NDArray[np.int64]:
        """Return what this client would encrypt: the values with its noise, and the weight."""
        parties, noise = self.parties, self._noise(f"client {client}")
        plan = parties.unclipped or (parties.followed if client else parties.first_client)
        values = put_on_grid(plan, self.sid, [update], 1, self._rounding_rng(client), noise).between(
            0, plan.coordinates
        )
        if parties.unclipped is not None and parties.noise.noise_by == "clients":
            values[:-1] += parties.noise.draw(values.size - 1, noise)
        if math.isfinite(parties.client_limit):
            values[:-1] = np.rint(_within(values[:-1].astype(np.float64), parties.client_limit))
        return values

    def member_values(self) -> Iterator[NDArray[np.int64]]:
        """Yield what the honest members among the fewest who answer would encrypt."""
        parties = self.parties
        if parties.noise.noise_by == "committee":
            for member in range(parties.first_member, parties.adding):
                noise = GridNoise(parties.followed, self._noise(f"member {member}"))
                yield noise.between(0, parties.plan.coordinates)

    def foreseen(self, update: _Vector) -> _Vector:
        """Return what a client with this update adds to the sum but for noise, in the update's unit, as others know it.

        That is the clipped update, or where its rounding is known, what comes of that.
        """
        plan = self.parties.plan
        if self.parties.fault is not PlanFault.KNOWN_ROUNDING:
            return _within(update, plan.l2_clip)
        grid = put_on_grid(self.parties.noiseless, self.sid, [update], 1, self._rounding_rng(0))
        return self.unrotated(grid.between(0, plan.coordinates)[:-1] / plan.quantiser.scale)

    def _noise(self, party: str) -> SecretStream:
        number = 0 if self.parties.fault is PlanFault.SAME_SEED else self.number
        return self.stream.substream(f"noise {number} {party}")

    def _rounding_rng(self, client: int) -> np.random.Generator:
        if self.parties.fault is PlanFault.KNOWN_ROUNDING:
            return np.random.default_rng(_PUBLIC_SEED)
        words = self.stream.substream(f"rounding {self.number} {client}").draw_bytes(KEY_BYTES)
        return np.random.default_rng(np.frombuffer(words, dtype=np.uint32))


def _within(vector: _Vector, limit: float) -> _Vector:
    """Return the vector, made shorter if it is longer than the limit."""
    norm = float(np.linalg.norm(vector))
    return vector * (limit / norm) if norm > limit else vector
