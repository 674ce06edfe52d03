"""RoundPlan: one checked, immutable, hashable description of a round.

Every bound is derived in `bounds`: overflow is prevented in `fit` and `fit_proven`, failure probabilities are spent
there and in `fit_sharing`; the committee's rules stand in `Committee`. All inequalities are over exact integers and
are quoted in the error that refuses them. `packings` chooses by bytes, `plan_noise` sizes the noise, `plan_json` has
the canonical form and `plan_report` the words.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from secureagg import plan_json, plan_report
from secureagg.bounds import Bound, Demand, Noise, Proven, error_bound, fit_sharing, steering
from secureagg.checks import require_between, require_flag, require_whole
from secureagg.dp.mechanisms import REDRAW_BITS, Mechanism
from secureagg.dp.noisy_sums import SkellamSum
from secureagg.dp.quantise import (
    MAX_VALUE_BITS,
    MIN_VALUE_BITS,
    ROUNDING_FAILURE_BITS,
    Quantiser,
    norm_squared_bound,
)
from secureagg.dp.rotation import clip_in_steps, rotated_bound
from secureagg.dp.rounded_sums import RoundedGaussianSum
from secureagg.electorate import Committee
from secureagg.errors import ParameterError
from secureagg.he.packing import Packing
from secureagg.he.sharing import Sharing
from secureagg.layout import Layout
from secureagg.packings import cheapest, cheapest_proven
from secureagg.plan_noise import calibrated, exposure
from secureagg.zk.statement import Statement

__all__ = ["Committee", "RoundPlan"]

MAX_VALUES = 2**40
MIN_BOUND, MAX_BOUND = 1e-150, 1e150  # of l2_clip and value_bound: the grid's scale and its inverse stay normal floats
DIGEST_BYTES = 32
TAG_BYTES = 16
HEADER_FIXED_BYTES = 4 + 1 + 32 + 4 + 64 + 32  # magic, version, session id, client id, signature, ephemeral key
HEADER_PROOF_BYTES = 2 * DIGEST_BYTES  # the commitment's root, and the digest of the proof


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """What every party of a round agrees on before it starts.

    layout: shapes and dtypes of the update; d coordinates
    clients: how many stand on the roster; n_max, all of whom may contribute
    quorum: fewest clients whose sum may be opened; ≥ 2 honest + assumed_corrupt_clients
    l2_clip: L2 bound of an update, in the update's own units; larger ones are scaled down by the client
    value_bits: b; a value becomes a grid integer |v| ≤ C = 2^(b−1) − 1
    value_bound: x_max, largest |coordinate| the grid holds, by default l2_clip, or with `rotate` what a rotated update
        stays within; smaller buys resolution, and coordinates beyond it are clamped, which the client is told
    max_weight: weights are whole numbers in [1, max_weight]; 1 means uniform
    noise: differential privacy of the sum (`dp.mechanisms`); weights are uniform then. The plan keeps the mechanism
        with its noise calibrated, which every party holds against ε when it builds the plan. So a plan made of this
        one by `dataclasses.replace` has the noise found for this one, in steps of its grid; give `noise` anew
    rotate: updates are rotated at random before they are rounded, so that a grid of few bits holds them; needs the
        whole update in memory, 8 bytes a value
    proofs: every contribution carries a proof that it is well-formed and within the L2 clip; the committee then works
        in robust mode
    parameters: a named ring parameter set, or "auto" for the one with the fewest bytes

    Guarantees: a constructed plan can neither overflow nor lose a value, and its sum decodes exactly but with
    probability ≤ 2^-39, with noise inside it ≤ 2^-38. Raises: ParameterError quoting the inequality, the numbers and
    what to change.
    """

    layout: Layout
    clients: int
    quorum: int
    l2_clip: float
    value_bits: int
    committee: Committee
    assumed_corrupt_clients: int = 0
    max_weight: int = 1
    value_bound: float | None = None
    noise: Mechanism | None = None
    proofs: bool = False
    rotate: bool = False
    parameters: str = field(default="auto", compare=False)  # two plans with the same packing are the same plan
    allow_insecure: bool = False
    packing: Packing = field(init=False, repr=False)
    proven: Proven | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        require_whole("clients", self.clients, 2, 10**6)
        require_whole("quorum", self.quorum, 2, self.clients)
        require_whole("assumed_corrupt_clients", self.assumed_corrupt_clients, 0, self.clients)
        require_whole("value_bits", self.value_bits, MIN_VALUE_BITS, MAX_VALUE_BITS)
        require_whole("max_weight", self.max_weight, 1, 2**31 - 1)
        for name, value, kind, make in (
            ("layout", self.layout, Layout, "Layout.of(weights)"),
            ("committee", self.committee, Committee, "Committee(size)"),
        ):
            if not isinstance(value, kind):
                raise ParameterError(f"{name} is a {type(value).__name__}, a {kind.__name__} is expected: {make}")
        require_whole("the layout's size d", self.layout.size, 1, MAX_VALUES)
        require_flag("proofs", self.proofs)
        require_flag("rotate", self.rotate)
        require_flag("allow_insecure", self.allow_insecure)
        require_between("l2_clip", self.l2_clip, MIN_BOUND, MAX_BOUND)
        if self.rotate and self.value_bound is None:
            object.__setattr__(self, "value_bound", self.l2_clip * rotated_bound(self.layout.size))
        if self.value_bound is not None:
            require_between("value_bound", self.value_bound, MIN_BOUND, MAX_BOUND)
            if self.value_bound > self.l2_clip:
                raise ParameterError(
                    f"value_bound {self.value_bound} > l2_clip {self.l2_clip}: no coordinate of a clipped update is "
                    "that large, so it would only waste resolution; lower it or leave it out"
                )
        if self.quorum < self.assumed_corrupt_clients + 2:
            raise ParameterError(
                f"quorum ≥ 2 honest + corrupt clients fails: {self.quorum} < 2 + {self.assumed_corrupt_clients}; "
                "with one honest client the sum is its update. Raise the quorum"
            )
        if self.proofs:
            object.__setattr__(self, "committee", replace(self.committee, mode="robust"))
        if self.noise is not None:
            object.__setattr__(self, "noise", calibrated(self, self.noise))
        self._require_representable()
        chosen = self.parameters, self.demand, self.committee
        proven = cheapest_proven(*chosen, allow_insecure=self.allow_insecure) if self.proofs else None
        packing = cheapest(*chosen, allow_insecure=self.allow_insecure) if proven is None else proven.packing
        object.__setattr__(self, "proven", proven)
        object.__setattr__(self, "packing", packing)

    def _require_representable(self) -> None:
        """Raise ParameterError if a mean of honest clients, noise included, could be beyond a tensor's dtype.

        In a coordinate it is at most the value bound, a grid step of rounding and T over the quorum. Rotation spreads
        vectors: then the bound is that of their norms.
        """
        spread = math.sqrt(self.layout.size) if self.rotate else 1.0
        clip = self.l2_clip if self.rotate else self.quantiser.bound
        largest = clip + spread * (1 + self._noise_in_a_mean / self.quorum) / self.quantiser.scale
        for index, dtype in enumerate(self.layout.dtypes):
            most = float(np.finfo(dtype).max)
            if largest > most:
                raise ParameterError(
                    f"tensor {index} is {dtype}, which ends at {most:.5g}, and a mean may reach {largest:.5g}: give a "
                    "smaller value_bound or l2_clip, a wider dtype, or less noise"
                )

    @property
    def value_limit(self) -> int:
        """C, the largest grid value of one client."""
        return self.quantiser.limit

    @cached_property
    def quantiser(self) -> Quantiser:
        """The grid: C / x_max steps per unit of an update of weight max_weight."""
        return Quantiser(self.value_bits, self.l2_clip if self.value_bound is None else self.value_bound)

    @property
    def coordinates(self) -> int:
        """d values and the weight."""
        return self.layout.size + 1

    @property
    def noise_members(self) -> int:
        """Committee members that contribute noise: all, or none."""
        return self.committee.size if self.noise is not None and self.noise.noise_by == "committee" else 0

    @property
    def contributors(self) -> int:
        """Ids of contributions are below this: the clients', and from `clients` on those of members with noise."""
        return self.clients + self.noise_members

    @property
    def statement(self) -> Statement | None:
        """What each client's contribution proves, in numbers; None without proofs."""
        return None if self.proven is None else self.proven.statement

    def statement_of(self, contributor: int) -> Statement | None:
        """Return what this contribution proves: an update's statement, or from id `clients` on that of noise alone."""
        if self.proven is None:
            return None
        return self.proven.statement if contributor < self.clients else self.proven.noise

    @property
    def clip_grid(self) -> float:
        """C_g, the L2 clip in grid steps; the same float whatever the clip is, if the bound follows from it."""
        rotated = self.rotate and self.value_bound == self.l2_clip * rotated_bound(self.layout.size)
        if self.value_bound is None or rotated:
            return clip_in_steps(self.value_limit, self.layout.size, rotate=rotated)
        return self.quantiser.scale * self.l2_clip

    @cached_property
    def rounded_norm_bound(self) -> int:
        """B² ≥ Σv² of an update on the grid, before any noise, but for rounding that is drawn anew."""
        failure_bits = ROUNDING_FAILURE_BITS if self.noise is None else REDRAW_BITS
        return norm_squared_bound(self.clip_grid, self.layout.size, failure_bits)

    @property
    def conditional(self) -> bool:
        """Whether a client rounds, and draws its noise, until what it encrypts is within `norm_bound`."""
        return self.proofs if self.noise is None else self.noise.redraws(proofs=self.proofs)

    @cached_property
    def norm_bound(self) -> int:
        """Σv² of what an honest client encrypts is at most this if `conditional`: B², and its own noise."""
        if self.noise is None or self.noise.noise_by != "clients":
            return self.rounded_norm_bound
        noise = self.noise.norm_bound(self.layout.size)
        return (math.isqrt(self.rounded_norm_bound) + 1 + math.isqrt(noise) + 1) ** 2

    @cached_property
    def coordinate_bound(self) -> int:
        """|v_j| of what an honest client encrypts is at most this: C, and its own noise."""
        if self.noise is None or self.noise.noise_by != "clients":
            return self.value_limit
        return self.value_limit + self.noise.coordinate_bound(self.layout.size)

    def privacy_event(self, rounds: int = 1) -> RoundedGaussianSum | SkellamSum:
        """Return what this many rounds of the plan release about a client, for a ledger.

        Raises: ParameterError for a plan without noise: its sums are exact, and no ledger has room for them.
        """
        if self.noise is None:
            raise ParameterError("this plan releases exact sums, which no (ε, δ) covers; give it noise")
        return self.noise.event(exposure(self, self.noise.noise_by), rounds)

    @property
    def range_argument(self) -> bool:
        """Whether a proof shows |v_j| ≤ C for every coordinate too, which the plan asks for where it saves bytes."""
        return self.proven is not None and self.proven.statement.value_limit > 0

    @cached_property
    def error_bound(self) -> int:
        """E: |Σe| ≤ E in every coefficient while clients are honest, but with probability ≤ 2^-40."""
        return error_bound(self.packing.ring, self.contributors, self.packing.coefficients)

    @cached_property
    def sharing(self) -> Sharing:
        """The Shamir field: p > 2·max|Σs| (but with probability ≤ 2^-40) and p > k; p = q with proofs."""
        return fit_sharing(self.packing, self.contributors, self.committee, proofs=self.proofs)

    def coordinate_limit(self, count: int) -> int:
        """Return the largest |Σv_j| that `count` clients can sum to, with the noise: count·C + T, or with proofs
        count·V + T + contributions·⌈B_e/Δ⌉ + 1.

        V is what is proven of a coordinate, and ⌈B_e/Δ⌉ is how far a client's proven errors can steer the decoding.
        """
        if self.proven is None:
            return count * self.value_limit + self._noise_limit
        steered = (count + self.noise_members) * steering(self.proven.statement) + 1
        return count * self.proven.value_range + self.demand.noise.proven_limit + steered

    @cached_property
    def _noise_limit(self) -> int:
        """T, what the noise inside the encrypted sum exceeds in one coordinate with probability ≤ 2^-40."""
        adds = None if self.noise is None else self.noise.noise_by
        return 0 if adds == "aggregator" else self._noise_in_a_mean

    @property
    def _noise_in_a_mean(self) -> int:
        """The same of all noise, that of the aggregator included."""
        if self.noise is None:
            return 0
        parties = {"clients": self.clients, "committee": self.committee.size, "aggregator": 1}
        assert self.noise.noise_by is not None
        return self.noise.sum_bound(parties[self.noise.noise_by], self.layout.size)

    def weight_limits(self, count: int) -> tuple[int, int]:
        """Return the least and the largest Σw that can be decoded of `count` clients.

        With proofs and max_weight = 1 errors may steer what is decoded; Σw is `count` then, whatever that is. With a
        larger max_weight the weight stands where they cannot (`fit_proven`).
        """
        steered = 0
        if self.proven is not None and self.max_weight == 1:
            steered = (count + self.noise_members) * steering(self.proven.statement) + 1
        return max(1, count - steered), count * self.max_weight + steered

    @cached_property
    def bytes_per_client(self) -> int:
        """Exact bytes of one contribution: header, ciphertext, one box a member, proof (docs/wire-format.md)."""
        return self.contribution_bytes(0)

    def contribution_bytes(self, contributor: int) -> int:
        """Return the exact bytes of this contribution; those of members with noise have a proof of another length."""
        statement = self.statement_of(contributor)
        return self.proof_start + (0 if statement is None else statement.proof_bytes)

    @cached_property
    def longest_contribution(self) -> int:
        """Bytes of the longest contribution."""
        return max(self.contribution_bytes(0), self.contribution_bytes(self.contributors - 1))

    @cached_property
    def proof_start(self) -> int:
        """Bytes before the proof, which ends a contribution."""
        return self.header_bytes + self.packing.ciphertext_bytes + self.committee.size * self.box_bytes

    @cached_property
    def header_bytes(self) -> int:
        """Bytes of a contribution before its ciphertext: fixed fields, a digest a frame and a box, the share check,
        and with proofs the commitment's root and the proof's digest.
        """
        digests = self.packing.frame_count + self.committee.size
        proof = HEADER_PROOF_BYTES if self.proofs else 0
        return HEADER_FIXED_BYTES + DIGEST_BYTES * digests + self.sharing.check_bytes + proof

    @cached_property
    def box_bytes(self) -> int:
        """Bytes of one member's sealed shares: the shares and a 16-byte tag."""
        return self.sharing.share_bytes + TAG_BYTES

    @cached_property
    def proof_bytes(self) -> int:
        """Bytes of a client's proof; 0 without proofs."""
        return 0 if self.proven is None else self.proven.statement.proof_bytes

    @cached_property
    def demand(self) -> Demand:
        """What the round asks of a packing."""
        members = self.noise_members
        own_noise = 0 if members else self._noise_limit
        noise = Noise()
        if self.noise is not None and members:
            noise = Noise(
                members=members,
                corrupt=self.committee.colluding,
                sum_limit=self._noise_limit,
                value_limit=self.noise.coordinate_bound(self.layout.size),
                norm_bound=self.noise.norm_bound(self.layout.size),
            )
        return Demand(
            clients=self.clients,
            corrupt=self.assumed_corrupt_clients,
            values=self.layout.size,
            value_limit=self.coordinate_bound,
            sum_limit=self.clients * self.value_limit + own_noise,
            max_weight=self.max_weight,
            norm_bound=self.norm_bound,
            noise=noise,
        )

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """Every inequality this plan satisfies, with both sides as numbers."""
        return plan_report.bounds(self)

    def report(self) -> str:
        """Return what this plan costs, guarantees and assumes, in words and numbers."""
        return plan_report.report(self)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values; floats are written in hexadecimal, so that nothing is rounded."""
        return plan_json.to_json(self)

    def to_bytes(self) -> bytes:
        """Return the one canonical form, which is what is hashed: JSON, sorted keys, no spaces, ASCII.

        A plan made with parameters="auto" and one that names the set it chose are the same plan.
        """
        return plan_json.to_bytes(self)

    @classmethod
    def from_bytes(cls, encoded: bytes, *, allow_insecure: bool = False) -> RoundPlan:
        """Decode `to_bytes`; anything that is not the canonical form of a feasible plan is an EncodingError.

        A plan that allows toy parameters is refused unless this caller allows them too: bytes cannot ask for that.
        """
        return plan_json.from_bytes(cls, encoded, allow_insecure=allow_insecure)

    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.to_bytes()).digest()
