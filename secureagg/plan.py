"""RoundPlan: one checked, immutable, hashable description of a round. Every bound is derived here, and only here.

Overflow is prevented in `_fit`, failure probabilities are spent in `_fit` and `_sharing`, and the committee's rules
stand in `Committee`. All inequalities are over exact integers and are quoted in the error that refuses them.
"""

from __future__ import annotations

import hashlib
import json
import math
from bisect import bisect_left
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from secureagg.checks import require_between, require_flag, require_whole
from secureagg.dp.quantise import MAX_VALUE_BITS, MIN_VALUE_BITS, Quantiser
from secureagg.electorate import Committee
from secureagg.errors import EncodingError, ParameterError
from secureagg.he.packing import Packing
from secureagg.he.sharing import Sharing
from secureagg.layout import Layout
from secureagg.ring.bounds import noise_bound, smoothing_parameter
from secureagg.ring.params import PARAMETER_NAMES, RingParameters, is_prime, ring_parameters

__all__ = ["Committee", "RoundPlan"]

FAILURE_BITS = 40  # each of two tails (errors, key sum) is missed with probability ≤ 2^-40 over the whole round
SMOOTHING_BITS = 128  # statistical distance of the Hint-MLWE reduction (eprint 2023/623, Theorem 1)
MAX_DELTA = 2**31  # a larger Δ buys nothing: Δ/2 is then a million times the errors' standard deviation
MAX_VALUES = 2**40
MIN_BOUND, MAX_BOUND = 1e-150, 1e150  # of l2_clip and value_bound: the grid's scale and its inverse stay normal floats
FORMAT = "secureagg plan v1"
DIGEST_BYTES = 32
TAG_BYTES = 16
HEADER_FIXED_BYTES = 4 + 1 + 32 + 4 + 64 + 32  # magic, version, session id, client id, signature, ephemeral key


@dataclass(frozen=True)
class Bound:
    """One inequality of a plan: what it prevents, how it reads, and its two sides."""

    meaning: str
    inequality: str
    numbers: str


@dataclass(frozen=True, kw_only=True)
class RoundPlan:
    """What every party of a round agrees on before it starts.

    layout: shapes and dtypes of the update; d coordinates
    clients: how many stand on the roster; n_max, all of whom may contribute
    quorum: fewest clients whose sum may be opened; ≥ 2 honest + assumed_corrupt_clients
    l2_clip: L2 bound of an update, in the update's own units; larger ones are scaled down by the client
    value_bits: b; a value becomes a grid integer |v| ≤ C = 2^(b−1) − 1
    value_bound: x_max, largest |coordinate| the grid holds, by default l2_clip; smaller buys resolution, and
        coordinates beyond it are clamped, which the client is told
    max_weight: weights are whole numbers in [1, max_weight]; 1 means uniform
    parameters: a named ring parameter set, or "auto" for the one with the fewest bytes

    Guarantees: a constructed plan can neither overflow nor lose a value, and its sum decodes exactly but with
    probability ≤ 2^-40. Raises: ParameterError quoting the inequality, the numbers and what to change.
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
    noise: None = None
    proofs: bool = False
    parameters: str = field(default="auto", compare=False)  # two plans with the same packing are the same plan
    allow_insecure: bool = False
    packing: Packing = field(init=False, repr=False)

    def __post_init__(self) -> None:
        require_whole("clients", self.clients, 2, 10**6)
        require_whole("quorum", self.quorum, 2, self.clients)
        require_whole("assumed_corrupt_clients", self.assumed_corrupt_clients, 0, self.clients)
        require_whole("value_bits", self.value_bits, MIN_VALUE_BITS, MAX_VALUE_BITS)
        require_whole("max_weight", self.max_weight, 1, 2**31 - 1)
        require_whole("the layout's size d", self.layout.size, 1, MAX_VALUES)
        require_flag("proofs", self.proofs)
        require_flag("allow_insecure", self.allow_insecure)
        require_between("l2_clip", self.l2_clip, MIN_BOUND, MAX_BOUND)
        if self.value_bound is not None:
            require_between("value_bound", self.value_bound, MIN_BOUND, MAX_BOUND)
            if self.value_bound > self.l2_clip:
                raise ParameterError(
                    f"value_bound {self.value_bound} > l2_clip {self.l2_clip}: no coordinate of a clipped update is "
                    "that large, so it would only waste resolution; lower it or leave it out"
                )
        if self.noise is not None:
            raise ParameterError("noise is not available in this version; leave noise=None")
        if self.proofs:
            raise ParameterError("proofs are not available in this version; leave proofs=False")
        if self.quorum < self.assumed_corrupt_clients + 2:
            raise ParameterError(
                f"quorum ≥ 2 honest + corrupt clients fails: {self.quorum} < 2 + {self.assumed_corrupt_clients}; "
                "with one honest client the sum is its update. Raise the quorum"
            )
        object.__setattr__(self, "packing", self._choose())

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

    @cached_property
    def error_bound(self) -> int:
        """E: |Σe| ≤ E in every coefficient, but with probability ≤ 2^-40."""
        return _error_bound(self.packing.ring, self.clients, self.packing.coefficients)

    @cached_property
    def sharing(self) -> Sharing:
        """The Shamir field: p > 2·max|Σs| (but with probability ≤ 2^-40) and p > k."""
        return _sharing(self.packing, self.clients, self.committee)

    @cached_property
    def bytes_per_client(self) -> int:
        """Exact bytes of one contribution: header, ciphertext, one box a member (docs/wire-format.md)."""
        return self.header_bytes + self.packing.ciphertext_bytes + self.committee.size * self.box_bytes

    @cached_property
    def header_bytes(self) -> int:
        """Bytes of a contribution before its ciphertext: fixed fields, a digest a frame and a box, the share check."""
        digests = len(self.packing.frames) + self.committee.size
        return HEADER_FIXED_BYTES + DIGEST_BYTES * digests + self.sharing.check_bytes

    @cached_property
    def box_bytes(self) -> int:
        """Bytes of one member's sealed shares: the shares and a 16-byte tag."""
        return self.sharing.share_bytes + TAG_BYTES

    def _choose(self) -> Packing:
        """Return the packing of the named set, or of the set with the fewest bytes."""
        if self.parameters != "auto":
            return self._fit(ring_parameters(self.parameters, allow_insecure=self.allow_insecure))
        found: list[tuple[int, int, Packing]] = []
        refusals = []
        for order, name in enumerate(PARAMETER_NAMES):
            ring = ring_parameters(name)
            try:
                packing = self._fit(ring)
            except ParameterError as error:
                refusals.append(str(error))
                continue
            shares = _sharing(packing, self.clients, self.committee).share_bytes
            found.append((packing.ciphertext_bytes + self.committee.size * shares, order, packing))
        if not found:
            raise ParameterError("no parameter set fits: " + "; ".join(refusals))
        return min(found, key=lambda choice: choice[:2])[2]

    def _fit(self, ring: RingParameters) -> Packing:
        """Return the packing with the most fields a coefficient that `ring` allows.

        Requires (else ParameterError), with L = n_max·max(C, max_weight), M = L·Σ_k 2^(Wk):
          L ≤ 2^(W−1) − 1                                              no field of the sum overflows
          Δ > 2E and 2Δ·M + Δ/2 + E < q                                the sum decodes, and does not wrap mod q
          σ ≥ 2√2·η                                                    the key is hidden given the sums (`_keys`)
        """
        largest = self.clients * max(self.value_limit, self.max_weight)
        field_bits = largest.bit_length() + 1
        for fields in range(ring.modulus.bit_length() // field_bits, 0, -1):
            message = sum(largest << (field_bits * k) for k in range(fields))
            coefficients = self.coordinates // fields + ring.degree
            bound = _error_bound(ring, self.clients, coefficients)
            delta = min(2 * (ring.modulus - 1 - bound) // (4 * message + 1), MAX_DELTA)
            if delta > 2 * bound:
                packing = Packing(ring, self.coordinates, field_bits, fields, delta, largest)
                return replace(packing, keys=_keys(packing))
        raise ParameterError(
            f"{ring.name}: 2Δ·M + Δ/2 + E < q with Δ > 2E fails even for one field a coefficient: "
            f"W = {field_bits} bits for clients·max(C, max_weight) = {largest}, log2 q = {math.log2(ring.modulus):.1f};"
            " use fewer value_bits, fewer clients, a smaller max_weight or a larger parameter set"
        )

    @cached_property
    def bounds(self) -> tuple[Bound, ...]:
        """Every inequality this plan satisfies, with both sides as numbers."""
        packing, ring, committee = self.packing, self.packing.ring, self.committee
        message = sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields))
        most = 2 * packing.delta * message + packing.delta // 2 + self.error_bound
        k, t, c = committee.size, committee.members_needed, committee.colluding
        revealed = ring.degree * (1 + packing.chunks_per_key)
        width = 2 * math.sqrt(2) * smoothing_parameter(revealed, SMOOTHING_BITS)
        return (
            Bound(
                "no field overflows",
                "clients·max(C, max_weight) ≤ 2^(W−1) − 1",
                f"{packing.field_limit} ≤ {2 ** (packing.field_bits - 1) - 1}",
            ),
            Bound(
                "the sum does not wrap",
                "2Δ·M + Δ/2 + E < q",
                f"q − 2Δ·M − Δ/2 − E = 2^{math.log2(ring.modulus - most):.1f}, log2 q = {math.log2(ring.modulus):.2f}",
            ),
            Bound("errors stay below the message", "Δ > 2E", f"{packing.delta} > {2 * self.error_bound}"),
            Bound("the key sum fits its field", "p > 2·max|Σs| and p > k", f"{self.sharing.modulus}"),
            Bound("Hint-MLWE reduction", "σ ≥ 2√2·η", f"{ring.sigma} ≥ {width:.2f} for {revealed} revealed"),
            Bound("one set of clients per round", "3t > 2k + c", f"{3 * t} > {2 * k + c}"),
            Bound(
                "a client hides among honest ones",
                "quorum ≥ 2 + assumed corrupt",
                f"{self.quorum} ≥ {2 + self.assumed_corrupt_clients}",
            ),
        )

    def report(self) -> str:
        """Return what this plan costs, guarantees and assumes, in words and numbers."""
        packing, ring, committee = self.packing, self.packing.ring, self.committee
        size, plain = (
            self.bytes_per_client,
            sum(
                math.prod(shape) * np.dtype(dtype).itemsize
                for shape, dtype in zip(self.layout.shapes, self.layout.dtypes, strict=True)
            ),
        )
        chosen = "fewest bytes among the sets that fit" if self.parameters == "auto" else "named in the plan"
        lines = [
            f"{self.layout.size:,} values in {len(self.layout.shapes)} tensors, {self.clients} clients, "
            f"quorum {self.quorum}",
            f"grid: {self.value_bits} bits, C = {self.value_limit}, step {1 / self.quantiser.scale:.3g} "
            f"(values beyond ±{self.quantiser.bound:g} are clamped, updates beyond L2 norm {self.l2_clip:g} scaled)",
            f"parameters: {ring.name} ({chosen}): N = {ring.degree}, log2 q = {math.log2(ring.modulus):.1f}, "
            f"σ = {ring.sigma}",
            f"packing: {packing.fields} fields of {packing.field_bits} bits a coefficient, Δ = {packing.delta}, "
            f"{packing.chunks} chunks, {packing.keys} one-time key{'s' if packing.keys > 1 else ''}",
            f"bytes per client: {size:,} ({size / self.layout.size:.2f} a value; plain {plain:,}), of which "
            f"{self.box_bytes:,} for each committee member; a member answers with {self.sharing.answer_bytes:,}",
            f"committee: any {committee.members_needed} of {committee.size} open the sum ({committee.mode}); "
            f"{committee.size - committee.members_needed} may be away, {committee.colluding} may collude",
            f"failure: with everybody honest the sum opens exactly, but with probability ≤ 2^-{FAILURE_BITS - 1}",
            f"security: {ring.security_bits} bits classical in the MATZOV cost model, {ring.core_svp_bits} in core-SVP "
            "(lattice-estimator, width 3.2 after the hint)"
            if ring.is_secure
            else "security: none, a toy set for tests",
            "proofs: none. A client may send any vector and weight; only sums are checked against their limits",
            "privacy: the sum is exact; nothing is differentially private",
            "bounds, each checked:",
        ]
        lines += [f"  {bound.meaning}: {bound.inequality}: {bound.numbers}" for bound in self.bounds]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values; floats are written in hexadecimal, so that nothing is rounded."""
        return {
            "format": FORMAT,
            "layout": self.layout.to_bytes().hex(),
            "clients": self.clients,
            "quorum": self.quorum,
            "l2_clip": float(self.l2_clip).hex(),
            "value_bits": self.value_bits,
            "value_bound": None if self.value_bound is None else float(self.value_bound).hex(),
            "committee": {
                "size": self.committee.size,
                "threshold": self.committee.threshold,
                "assumed_corrupt": self.committee.assumed_corrupt,
                "mode": self.committee.mode,
            },
            "assumed_corrupt_clients": self.assumed_corrupt_clients,
            "max_weight": self.max_weight,
            "noise": None,
            "proofs": self.proofs,
            "parameters": self.packing.ring.name,
            "allow_insecure": self.allow_insecure,
        }

    def to_bytes(self) -> bytes:
        """Return the one canonical form, which is what is hashed: JSON, sorted keys, no spaces, ASCII.

        A plan made with parameters="auto" and one that names the set it chose are the same plan.
        """
        return json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()

    @classmethod
    def from_bytes(cls, encoded: bytes, *, allow_insecure: bool = False) -> RoundPlan:
        """Decode `to_bytes`; anything that is not the canonical form of a feasible plan is an EncodingError.

        A plan that allows toy parameters is refused unless this caller allows them too: bytes cannot ask for that.
        """
        try:
            fields = json.loads(encoded)
            if fields.pop("format") != FORMAT:
                raise EncodingError(f"plan: unknown format, this library reads {FORMAT!r}")
            bound = fields["value_bound"]
            fields |= {
                "layout": Layout.from_bytes(bytes.fromhex(fields["layout"])),
                "committee": Committee(**fields["committee"]),
                "l2_clip": float.fromhex(fields["l2_clip"]),
                "value_bound": None if bound is None else float.fromhex(bound),
            }
            plan = cls(**fields)
        except EncodingError:
            raise
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise EncodingError(f"plan: {error}") from error
        if plan.allow_insecure and not allow_insecure:
            raise EncodingError("plan: allows toy parameters; only tests accept that, with allow_insecure=True")
        if plan.to_bytes() != encoded:
            raise EncodingError("plan: not in canonical form")
        return plan

    def digest(self) -> bytes:
        """SHA-256 of the canonical form."""
        return hashlib.sha256(self.to_bytes()).digest()


def _error_bound(ring: RingParameters, clients: int, coefficients: int) -> int:
    return noise_bound(ring.sigma, clients, coefficients, FAILURE_BITS)


def _keys(packing: Packing) -> int:
    """Return how many one-time keys the chunks need so that σ ≥ 2√2·η for what is revealed under each.

    Under one key the sums of N secrets and of the errors of its chunks become public (docs/threat-model.md,
    Hint-MLWE). Raises: ParameterError if even one chunk a key is too much.
    """
    ring = packing.ring

    def too_many(chunks: int) -> bool:
        revealed = ring.degree * (1 + chunks)
        return ring.sigma < 2 * math.sqrt(2) * smoothing_parameter(revealed, SMOOTHING_BITS)

    chunks_per_key = bisect_left(range(1, packing.chunks + 1), True, key=too_many)
    if chunks_per_key == 0:
        raise ParameterError(f"{ring.name}: σ = {ring.sigma} < 2√2·η for a single chunk; use another parameter set")
    return -(-packing.chunks // chunks_per_key)


def _sharing(packing: Packing, clients: int, committee: Committee) -> Sharing:
    secrets = packing.keys * packing.ring.degree
    largest = noise_bound(packing.ring.sigma, clients, secrets, FAILURE_BITS)
    modulus = max(2 * largest, committee.size) + 1
    while not is_prime(modulus):
        modulus += 1
    return Sharing(secrets, modulus, committee.size, committee.members_needed)
