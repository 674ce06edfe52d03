"""The inequalities behind a plan: which packing holds a round's sums, with how many keys, shared in which field.

Numbers in, a packing out, or a ParameterError that quotes what fails. All inequalities are over exact integers.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace

from secureagg.electorate import Committee
from secureagg.errors import ParameterError
from secureagg.he.packing import Packing
from secureagg.he.reconstruct import EXCEEDING_DIVISOR
from secureagg.he.sharing import Sharing
from secureagg.ring.bounds import noise_squared_norm_bound, smoothing_parameter, tail_bound
from secureagg.ring.params import RingParameters, is_prime
from secureagg.zk.statement import Statement

__all__ = [
    "FAILURE_BITS",
    "SMOOTHING_BITS",
    "Bound",
    "Demand",
    "Noise",
    "Proven",
    "error_bound",
    "fit",
    "fit_proven",
    "fit_sharing",
    "packing_bounds",
    "proven_bounds",
    "sharing_bounds",
    "steering",
]

FAILURE_BITS = 40  # each of two tails (errors, key sum) is missed with probability ≤ 2^-40 over the whole round
SMOOTHING_BITS = 128  # statistical distance of the Hint-MLWE reduction (eprint 2023/623, Theorem 1)
MAX_DELTA = 2**31  # a larger Δ buys nothing: Δ/2 is then a million times the errors' standard deviation
PROVEN_CHUNKS_PER_KEY = 2  # `Packing.coefficients` says why


@dataclass(frozen=True)
class Bound:
    """One inequality of a plan: what it prevents, how it reads, and its two sides."""

    meaning: str
    inequality: str
    numbers: str


@dataclass(frozen=True)
class Noise:
    """Noise contributions of committee members: how many there may be, how many of them from corrupt members.

    sum_limit: T, what the noise of all, honest, exceeds in one coordinate with probability ≤ 2^-40. With proofs one
    member's is shown to have no coordinate beyond value_limit and a squared norm of at most norm_bound.
    """

    members: int = 0
    corrupt: int = 0
    sum_limit: int = 0
    value_limit: int = 0
    norm_bound: int = 0

    @property
    def proven_limit(self) -> int:
        """The largest coordinate of the noise of all with proofs: honest noise, and as much as corrupt members can."""
        return self.sum_limit + self.corrupt * self.value_limit


@dataclass(frozen=True)
class Demand:
    """What a round asks of a packing.

    clients: n_max; corrupt: how many of them; values: d; value_limit: the largest |v_j| of an honest client, C and its
    own noise; sum_limit: that of the sum over all clients; max_weight; norm_bound: B² ≥ Σv² of an honest client.
    """

    clients: int
    corrupt: int
    values: int
    value_limit: int
    sum_limit: int
    max_weight: int
    norm_bound: int
    noise: Noise = Noise()

    @property
    def contributions(self) -> int:
        """How many ciphertexts a sum may have."""
        return self.clients + self.noise.members


@dataclass(frozen=True)
class Proven:
    """A packing with the statement that is proven about its ciphertexts.

    value_range: V, the largest |v_j| that can pass: ⌊√B²⌋, or the value limit with the range argument. noise: what is
    proven of a committee member's noise contribution, where members add noise.
    """

    packing: Packing
    statement: Statement
    value_range: int
    noise: Statement | None = None

    def total_bytes(self, committee: Committee) -> int:
        """Return the bytes of ciphertext, shares and proof: what depends on the choice."""
        shares = fit_sharing(self.packing, 2, committee, proofs=True).share_bytes
        return self.packing.ciphertext_bytes + committee.size * shares + self.statement.proof_bytes


def error_bound(ring: RingParameters, contributions: int, coefficients: int) -> int:
    """Return E: |Σe| ≤ E for honest contributors in every coefficient, but with probability ≤ 2^-40."""
    return tail_bound(ring.sigma, contributions, coefficients, FAILURE_BITS)


def _message_limit(packing: Packing) -> int:
    """Return M = L·Σ_k 2^(Wk)."""
    return sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields))


def steering(statement: Statement) -> int:
    """Return ⌈B_e/Δ⌉: how many steps one client's proven errors can move a coordinate (docs/proofs/overflow.md)."""
    return -(-_root_up(statement.error_bound) // statement.delta)


def fit(ring: RingParameters, demand: Demand) -> Packing:
    """Return the packing with the most fields a coefficient that `ring` allows.

    Requires (else ParameterError), with L = max(n_max·C + T, n_max·max_weight), T the noise, M = L·Σ_k 2^(Wk):
      L ≤ 2^(W−1) − 1                                              no field of the sum overflows
      Δ > 2E and 2Δ·M + Δ/2 + E < q                                the sum decodes, and does not wrap mod q
      σ ≥ 2√2·η                                                    the key is hidden given the sums (`_keys`)
    """
    largest = max(demand.sum_limit + demand.noise.sum_limit, demand.clients * demand.max_weight)
    field_bits, coordinates = largest.bit_length() + 1, demand.values + 1
    for fields in range(ring.modulus.bit_length() // field_bits, 0, -1):
        message = sum(largest << (field_bits * k) for k in range(fields))
        bound = error_bound(ring, demand.contributions, coordinates // fields + ring.degree)
        delta = min(2 * (ring.modulus - 1 - bound) // (4 * message + 1), MAX_DELTA)
        if delta > 2 * bound:
            packing = Packing(ring, coordinates, field_bits, fields, delta, largest)
            return replace(packing, keys=_keys(packing))
    raise ParameterError(
        f"{ring.name}: 2Δ·M + Δ/2 + E < q with Δ > 2E fails even for one field a coefficient: "
        f"W = {field_bits} bits for max(clients·C + noise, clients·max_weight) = {largest}, log2 q = "
        f"{math.log2(ring.modulus):.1f}; use fewer value_bits, fewer clients, a smaller max_weight "
        "or a larger parameter set"
    )


def fit_proven(ring: RingParameters, demand: Demand, threshold: int, *, range_argument: bool) -> Proven:
    """Return the packing with the most fields a coefficient for contributions with proofs.

    Requires (else ParameterError), with V = ⌊√B²⌋, or the value limit with the range argument, s = ⌈B_e/Δ⌉, m noise
    contributions of members and T what is proven of their sum, c corrupt contributors, n the fewest coefficients
    under one key, L = max(n_max·V + T, n_max·max_weight) + (n_max + m)·s + 1 and M = L·Σ_k 2^(Wk):
      L ≤ 2^(W−1) − 1                                              no field of the sum overflows
      2(Δ·M + (n_max + m)·⌈B_e⌉) + Δ/2 < q                         the sum does not wrap mod q
      Δ > 4E                                                       honest errors stay below Δ/4
      4c·B_e/(Δ − 4E) ≤ √(n/64)                                    corrupt clients cannot make the sum undecodable
      2((n_max + m)·⌈B_e⌉ + E) < Δ                                 errors cannot steer the sum of the weights; only
                                                                   if max_weight > 1 and it stands in a lowest field
      σ ≥ 2√2·η                                                    the key is hidden given the sums (`_keys`)

    The fourth: a coefficient whose residual exceeds Δ/4 has a part from the c corrupt clients above Δ/4 − E. The sum
    of their errors has a norm of at most c·B_e, so there are at most (c·B_e/(Δ/4 − E))² such coefficients; the
    decoder refuses the sum if they are more than n/64 (docs/proofs/overflow.md).
    """
    norm_bound, noise = demand.norm_bound, demand.noise
    if max(norm_bound, noise.norm_bound) >= ring.modulus:
        raise ParameterError(
            f"{ring.name}: B² < q fails: B² = 2^{norm_bound.bit_length()} grid steps for an update, "
            f"2^{noise.norm_bound.bit_length()} for a member's noise, log2 q = "
            f"{math.log2(ring.modulus):.1f}; use fewer value_bits or fewer values, or a larger value_bound where "
            "one is set"
        )
    value_range = demand.value_limit if range_argument else math.isqrt(norm_bound)
    for packing, squared_errors in _proven_packings(ring, demand, value_range):
        statement = Statement(
            degree=ring.degree,
            keys=packing.keys,
            chunks_per_key=packing.chunks_per_key,
            coefficients=packing.coefficients,
            fields=packing.fields,
            field_bits=packing.field_bits,
            delta=packing.delta,
            values=demand.values,
            max_weight=demand.max_weight,
            norm_bound=norm_bound,
            error_bound=squared_errors,
            value_limit=demand.value_limit if range_argument else 0,
            threshold=threshold,
            prime=ring.modulus,
        )
        noise_statement = None
        if noise.members:
            # Noise is as long as √d coordinates make it, so its coordinates are bounded by the range argument.
            noise_statement = replace(
                statement, max_weight=0, norm_bound=noise.norm_bound, value_limit=noise.value_limit
            )
        return Proven(packing, statement, value_range, noise_statement)
    raise ParameterError(
        f"{ring.name}: Δ > 4E and 4c·B_e/(Δ − 4E) ≤ √(n/64) fail even for one field a coefficient: {demand.clients} "
        f"clients, c = {demand.corrupt} of them corrupt, |v| ≤ V = {value_range}, max_weight {demand.max_weight}, "
        f"log2 q = {math.log2(ring.modulus):.1f}; use fewer value_bits, fewer clients, a larger value_bound or a "
        "smaller max_weight"
    )


def _proven_packings(ring: RingParameters, demand: Demand, value_range: int) -> Iterator[tuple[Packing, int]]:
    """Yield the packings that satisfy `fit_proven`'s inequalities, with B_e², most fields first."""
    n, c = demand.contributions, demand.corrupt + demand.noise.corrupt
    summed = max(demand.clients * value_range + demand.noise.proven_limit, demand.clients * demand.max_weight)
    largest = summed + n + 1
    for fields in range(ring.modulus.bit_length() // (largest.bit_length() + 1), 0, -1):
        # How many coefficients and keys there are depends on the fields alone; Δ, W and L come after.
        sizes = Packing(ring, demand.values + 1, 2, fields, 1, 1, 1, PROVEN_CHUNKS_PER_KEY)
        sizes = replace(sizes, keys=_keys(sizes))
        honest = error_bound(ring, n, sizes.coefficients)
        squared = noise_squared_norm_bound(ring.sigma, sizes.coefficients, FAILURE_BITS)
        widest, steps, needed = _root_up(squared), 0, 1
        while steps < needed:  # s and Δ depend on each other: the smallest s that is enough for its Δ
            steps = needed
            limit = summed + n * steps + 1
            field_bits = limit.bit_length() + 1
            message = sum(limit << (field_bits * k) for k in range(fields))
            delta = min((2 * ring.modulus - 1 - 4 * n * widest) // (4 * message + 1), MAX_DELTA)
            if delta <= 4 * honest:
                break
            needed = -(-widest // delta)
        else:
            steers_weight = _weight_in_reach(sizes, demand) and 2 * (n * widest + honest) >= delta
            if (
                16 * EXCEEDING_DIVISOR * c * c * squared <= sizes.key_coefficients * (delta - 4 * honest) ** 2
                and not steers_weight
            ):
                packing = replace(sizes, field_bits=field_bits, delta=delta, field_limit=limit, steering=n * steps + 1)
                yield packing, squared


def _weight_in_reach(packing: Packing, demand: Demand) -> bool:
    """Return whether errors could move the sum of weights: it stands in a lowest field, and is not |S| anyway."""
    return demand.max_weight > 1 and packing.weight_field == 0


def _root_up(square: int) -> int:
    """⌈√square⌉."""
    return math.isqrt(square - 1) + 1 if square else 0


def _keys(packing: Packing) -> int:
    """Return how many one-time keys the chunks need so that σ ≥ 2√2·η for what is revealed under each.

    Under one key the sums of N secrets and of the errors of its chunks become public (docs/threat-model.md,
    Hint-MLWE). Raises: ParameterError if even the fewest chunks a key are too much.
    """
    ring = packing.ring

    def too_many(chunks: int) -> bool:
        revealed = ring.degree * (1 + chunks)
        return ring.sigma < 2 * math.sqrt(2) * smoothing_parameter(revealed, SMOOTHING_BITS)

    chunks_per_key = bisect_left(range(1, packing.chunks + 1), True, key=too_many)
    if chunks_per_key < packing.min_chunks_per_key:
        fewest = "a single chunk" if packing.min_chunks_per_key == 1 else f"{packing.min_chunks_per_key} chunks"
        raise ParameterError(f"{ring.name}: σ = {ring.sigma} < 2√2·η for {fewest}; use another parameter set")
    return -(-packing.chunks // chunks_per_key)


def fit_sharing(packing: Packing, contributions: int, committee: Committee, *, proofs: bool) -> Sharing:
    """Return how keys are shared: over the ring's F_q with proofs, else over the smallest F_p that holds their sum."""
    secrets = packing.keys * packing.ring.degree
    modulus = packing.ring.modulus
    if not proofs:
        modulus = max(2 * _key_sum_bound(packing, contributions), committee.size) + 1
        while not is_prime(modulus):
            modulus += 1
    return Sharing(secrets, modulus, committee.size, committee.members_needed)


def _key_sum_bound(packing: Packing, contributions: int) -> int:
    """Return what |Σs| exceeds in some coefficient of honest keys with probability ≤ 2^-40."""
    return tail_bound(packing.ring.sigma, contributions, packing.keys * packing.ring.degree, FAILURE_BITS)


def sharing_bounds(packing: Packing, sharing: Sharing, contributions: int, *, proofs: bool) -> tuple[Bound, ...]:
    """Return the inequalities of `fit_sharing` with numbers."""
    p, k = sharing.modulus, sharing.members
    points = Bound("every member has a point of its own", "p > k", f"{p} > {k}")
    if proofs:
        return (Bound("the key sum is the one that decrypts", "p = q", f"{p} = {packing.ring.modulus}"), points)
    twice = 2 * _key_sum_bound(packing, contributions)
    return (Bound("the key sum fits its field", "p > 2·max|Σs|", f"{p} > {twice}"), points)


def packing_bounds(packing: Packing, errors: int) -> tuple[Bound, ...]:
    """Return the inequalities of `fit` with numbers; `errors` is E."""
    ring = packing.ring
    most = 2 * packing.delta * _message_limit(packing) + packing.delta // 2 + errors
    return (
        Bound(
            "no field overflows",
            "max(clients·C + noise, clients·max_weight) ≤ 2^(W−1) − 1",
            f"{packing.field_limit} ≤ {2 ** (packing.field_bits - 1) - 1}",
        ),
        Bound(
            "the sum does not wrap",
            "2Δ·M + Δ/2 + E < q",
            f"q − 2Δ·M − Δ/2 − E = 2^{math.log2(ring.modulus - most):.1f}, log2 q = {math.log2(ring.modulus):.2f}",
        ),
        Bound("errors stay below the message", "Δ > 2E", f"{packing.delta} > {2 * errors}"),
    )


def proven_bounds(proven: Proven, demand: Demand, errors: int) -> tuple[Bound, ...]:
    """Return the inequalities of `fit_proven` with numbers; `errors` is E."""
    packing, statement, noise = proven.packing, proven.statement, demand.noise
    n, c = demand.contributions, demand.corrupt + noise.corrupt
    q, delta, steps, widest = packing.ring.modulus, packing.delta, steering(statement), _root_up(statement.error_bound)
    room, most = 2 ** (packing.field_bits - 1) - 1, 2 * (delta * _message_limit(packing) + n * widest) + delta // 2
    one = 4 * math.sqrt(statement.error_bound) / (delta - 4 * errors)
    most_steered = math.sqrt(packing.key_coefficients / EXCEEDING_DIVISOR)
    return (
        Bound(
            "no field overflows",
            "clients·V + noise + contributions·⌈B_e/Δ⌉ + 1 ≤ 2^(W−1) − 1",
            f"{demand.clients * proven.value_range + noise.proven_limit + n * steps + 1} ≤ {room}",
        ),
        Bound(
            "no sum of weights overflows",
            "clients·max_weight + contributions·⌈B_e/Δ⌉ + 1 ≤ 2^(W−1) − 1",
            f"{demand.clients * demand.max_weight + n * steps + 1} ≤ {room}",
        ),
        Bound(
            "the sum does not wrap",
            "2(Δ·M + contributions·⌈B_e⌉) + Δ/2 < q",
            f"q − 2(Δ·M + contributions·⌈B_e⌉) − Δ/2 = 2^{math.log2(q - most):.1f}, log2 q = {math.log2(q):.2f}",
        ),
        Bound(
            "no norm wraps",
            "81·4^m + 2^bits < q",
            f"2^{math.log2(max(each.largest_square for each in (statement, proven.noise) if each is not None)):.2f} "
            f"< 2^{math.log2(q):.2f}",
        ),
        Bound("honest errors stay below Δ/4", "Δ > 4E", f"{delta} > {4 * errors}"),
        *(
            [
                Bound(
                    "errors cannot steer the sum of weights",
                    "2(contributions·⌈B_e⌉ + E) < Δ",
                    f"{2 * (n * widest + errors)} < {delta}",
                )
            ]
            if _weight_in_reach(packing, demand)
            else []
        ),
        Bound(
            f"{c} corrupt {'clients and members' if noise.members else 'clients'} cannot spoil the sum",
            "4c·B_e/(Δ − 4E) ≤ √(n/64)",
            f"{c * one:.1f} ≤ {most_steered:.1f}, which {int(most_steered / one)} could not exceed",
        ),
    )
