"""What a validity proof says, in public numbers: fixed by the plan, the same for every client of a round."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from secureagg.errors import ParameterError
from secureagg.zk import soundness
from secureagg.zk.proof import proof_bytes
from secureagg.zk.soundness import PROJECTION_ROWS, SHARE_REPETITIONS, Rows, Shape

__all__ = ["Statement", "soundness_bits", "soundness_terms"]

EXTENSION = 3  # degree of the extension field of the range argument


@dataclass(frozen=True)
class Statement:
    """The relations R1–R5 of docs/proofs/statement.md in numbers.

    degree: N; keys: one-time keys, each for `chunks_per_key` chunks; coefficients: n_c, all that are sent; fields, of
    `field_bits` = W bits each, scaled by `delta` = Δ; values: d; max_weight: w ∈ [1, max_weight], or w = 0 if it is 0,
    which is said of noise alone; norm_bound: B² ≥ Σv²; error_bound: B_e² ≥ Σe²; value_limit: C ≥ |v_j| proven by the
    range argument, 0 without it; threshold: of the sharing; prime: q.

    Raises: ParameterError if the bounds are so large that a sum of squares could wrap mod q, or the proof would have
    less than 100 bits of soundness.
    """

    degree: int
    keys: int
    chunks_per_key: int
    coefficients: int
    fields: int
    field_bits: int
    delta: int
    values: int
    max_weight: int
    norm_bound: int
    error_bound: int
    value_limit: int
    threshold: int
    prime: int

    def __post_init__(self) -> None:
        chunks = -(-self.coefficients // self.degree)
        if self.values >= self.fields * self.coefficients or chunks > self.keys * self.chunks_per_key:
            raise ParameterError(
                f"no proof: {self.values} values and a weight do not fit {self.coefficients} coefficients of "
                f"{self.fields} fields, or {chunks} chunks {self.keys} keys for {self.chunks_per_key} each"
            )
        if not 0 <= self.max_weight < 1 << 32:
            raise ParameterError(f"no proof: max_weight {self.max_weight} is outside [0, 2^32): it could wrap mod q")
        if not self.largest_square < self.prime:
            raise ParameterError(
                f"no proof: 81·4^m + 2^{self._widest_norm} < q fails with m = {self.projection_bits} projection bits: "
                "a sum of squares could wrap mod q; use fewer value_bits or fewer values, or a larger value_bound "
                "where one is set"
            )
        _ = self.shape  # which has the soundness that is asked for, or is refused

    @cached_property
    def projection_bits(self) -> int:
        """m: the projections lie in [−2^m, 2^m)."""
        return soundness.projection_bits(self.norm_bound + self.error_bound)

    @property
    def largest_square(self) -> int:
        """81·4^m + 2^bits: no sum of squares in the proof is larger (docs/proofs/projection.md)."""
        return soundness.projection_norm_bound(self.projection_bits) + (1 << self._widest_norm)

    @property
    def _widest_norm(self) -> int:
        return max(self.norm_bits, self.error_bits)

    @property
    def norm_bits(self) -> int:
        """Bits of B² − Σv²."""
        return self.norm_bound.bit_length()

    @property
    def error_bits(self) -> int:
        """Bits of B_e² − Σe²."""
        return self.error_bound.bit_length()

    @property
    def min_weight(self) -> int:
        """The least weight: 1, or 0 of a contribution of noise alone."""
        return min(1, self.max_weight)

    @property
    def weight_bits(self) -> int:
        """Bits of w − min_weight, and of max_weight − w."""
        return (self.max_weight - self.min_weight).bit_length()

    @property
    def bits(self) -> int:
        """Committed bits in all."""
        return PROJECTION_ROWS * (self.projection_bits + 1) + self.norm_bits + self.error_bits + 2 * self.weight_bits

    @property
    def secrets(self) -> int:
        """Coefficients of all one-time keys."""
        return self.keys * self.degree

    @property
    def dealt(self) -> int:
        """Elements of the third kind of rows: the dealing polynomials, their masks, the weight."""
        return self.threshold * (self.secrets + SHARE_REPETITIONS) + 1

    @property
    def table(self) -> int:
        """Entries of the range argument's table −C … C; 0 without it."""
        return 2 * self.value_limit + 1 if self.value_limit else 0

    @cached_property
    def shape(self) -> Shape:
        """The sizes of the proof."""
        lengths = soundness.message_lengths()
        rows = {length: self.rows(length) for length in lengths}
        return soundness.choose_shape(self.prime, rows, {length: self._poles(length) for length in lengths})

    def rows(self, length: int) -> Rows:
        """Return the rows of both oracles at this message length: V, E, S and M rows, then B and G rows."""
        value_rows = -(-self.values // length)
        first = value_rows + sum(-(-count // length) for count in (self.coefficients, self.dealt, self.table))
        return Rows(first, -(-self.bits // length) + (EXTENSION * value_rows if self.table else 0))

    def _poles(self, length: int) -> int:
        return length * -(-self.values // length) + self.table if self.table else 0

    @cached_property
    def soundness_terms(self) -> Mapping[str, float]:
        """Bits of soundness, term by term."""
        return soundness.soundness_terms(self.shape, self.prime, self._poles(self.shape.message_length))

    @property
    def soundness_bits(self) -> float:
        """Bits of soundness in all."""
        return soundness.total_bits(self.soundness_terms)

    @property
    def proof_bytes(self) -> int:
        """Exact bytes of a proof; the first root is not in it but in the contribution's header."""
        return proof_bytes(self.shape)


class _Plan(Protocol):
    """What is asked of a plan here."""

    @property
    def statement(self) -> Statement | None: ...


def soundness_terms(plan: _Plan) -> Mapping[str, float]:
    """Return the bits of soundness of a plan's proofs, term by term. Raises: ParameterError if it has none."""
    if plan.statement is None:
        raise ParameterError("this plan asks for no proofs; make it with proofs=True")
    return plan.statement.soundness_terms


def soundness_bits(plan: _Plan) -> float:
    """Return −log2 of the probability that a false contribution passes, once. Raises: as `soundness_terms`."""
    return soundness.total_bits(soundness_terms(plan))
