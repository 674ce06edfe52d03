"""What was released: one frozen record per use of a mechanism, with the neighbouring relation its ε is about.

An event knows its mechanism's privacy, and no accountant: either it is uses of a (Poisson-sampled) Gaussian mechanism,
or it has a Rényi curve of its own (`noisy_sums`). `accounting` composes them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields, replace
from enum import StrEnum

from secureagg.checks import require_between, require_whole
from secureagg.dp.client_sampling import Adversary, ClientSampling, Cohorts, require_claim
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import (
    LARGEST,
    MAX_COUNT,
    MAX_DIMENSION,
    GaussianUses,
    Relation,
    require_member,
    require_positive,
    require_sampling_rate,
)
from secureagg.dp.rounded_sums import RoundedGaussianSum
from secureagg.errors import EncodingError, ParameterError

__all__ = [
    "MAX_TRUNCATION_PROBABILITY",
    "BatchSampling",
    "CentralGaussian",
    "DpSgd",
    "GaussianUses",
    "PrivacyEvent",
    "QuantileCount",
    "event_from_fields",
    "event_to_fields",
    "seen_by",
    "single",
    "update_noise_multiplier",
]

MAX_TRUNCATION_PROBABILITY = 2.0**-40  # of a Poisson batch: `PoissonBatches` sizes its capacity for it


class BatchSampling(StrEnum):
    """How DP-SGD's batches are drawn; amplification by sampling may be claimed for Poisson only."""

    POISSON = "poisson"  # each example is in each batch by itself, with probability expected_batch / examples
    FIXED_SIZE = "fixed-size"  # the examples are shuffled for every pass and cut into batches of expected_batch


@dataclass(frozen=True, kw_only=True)
class DpSgd:
    """`steps` of DP-SGD whose gradient sum is divided by the expected batch; the unit is one example.

    POISSON: amplified by sampling_rate = expected_batch / examples. FIXED_SIZE (shuffled anew for each pass, the rest
    left out): nothing is claimed for the shuffling. Whatever the order, an example is in one batch of a pass at most,
    so that passes begun are uses of the plain Gaussian mechanism (conditioning on the order; Chua et al., ICML 2024,
    show that Poisson's ε would be too small).

    The number of examples is public. An example more or less would change rate, steps and capacity of Poisson batches,
    and with them how often every other example is seen, or every batch of fixed size: add-or-remove is refused.

    passes: `PrivateModel.passes`, how many orders were begun, also those that were not finished; 0 for Poisson batches.
    truncation_probability: of one Poisson batch, to a static size (`PoissonBatches.truncation_probability`);
    (1 + e^ε)·steps·truncation_probability is added to δ (Chua et al., NeurIPS 2024).
    """

    noise_multiplier: float
    expected_batch: float
    examples: int
    steps: int
    relation: Relation
    sampling: BatchSampling = BatchSampling.POISSON
    passes: int = 0
    truncation_probability: float = 0.0

    def __post_init__(self) -> None:
        require_positive("noise_multiplier", self.noise_multiplier)
        require_whole("examples", self.examples, 1, MAX_DIMENSION)
        require_between("expected_batch", self.expected_batch, 1, self.examples)
        require_whole("steps", self.steps, 1, MAX_COUNT)
        require_between("truncation_probability", self.truncation_probability, 0, 1)
        require_member("relation", self.relation, Relation)
        require_member("sampling", self.sampling, BatchSampling)
        if self.relation is Relation.ADD_OR_REMOVE:
            raise ParameterError(
                "relation=add-or-remove: sampling rate, steps and batches all follow from the number of examples, so "
                "that one more or less changes every batch; use zero-out, whose ε is the same"
            )
        if self.sampling is BatchSampling.POISSON:
            if self.passes:
                raise ParameterError(f"passes={self.passes}: Poisson batches have none; each is drawn from all")
        else:
            self._require_passes()

    def _require_passes(self) -> None:
        if self.expected_batch != int(self.expected_batch):
            raise ParameterError(f"expected_batch={self.expected_batch} must be whole for fixed-size batches")
        if self.truncation_probability:
            raise ParameterError("truncation_probability is about Poisson batches, and these are of fixed size")
        require_whole("passes", self.passes, 1, self.steps)
        most = self.passes * (self.examples // int(self.expected_batch))
        if self.steps > most:
            raise ParameterError(f"steps={self.steps} > {most}, all batches of passes={self.passes}")

    @property
    def count(self) -> int:
        """Steps."""
        return self.steps

    @property
    def slack(self) -> float:
        """What multiplies 1 + e^ε in δ, beyond the mechanism's own."""
        return self.steps * self.truncation_probability

    @property
    def sampling_rate(self) -> float:
        """The probability that one step sees a given example."""
        return self.expected_batch / self.examples

    def uses(self) -> GaussianUses:
        """Return the Gaussian mechanism's uses that touch one example."""
        if self.sampling is BatchSampling.POISSON:
            return GaussianUses(float(self.noise_multiplier), float(self.sampling_rate), self.steps)
        return GaussianUses(float(self.noise_multiplier), 1.0, self.passes)


@dataclass(frozen=True, kw_only=True)
class _ClientRounds:
    """`rounds` of a federation, the unit one client; fields after `relation` come from `seen_by`.

    sampling_rate: below 1 only for Poisson sampling, against who sees the models alone (`client_sampling`). adversary:
    RECIPIENTS where the aggregator adds the noise, as it then holds against everybody but it.
    shortfall_probability: of a round to release nothing; (1 + e^ε)·rounds·shortfall_probability is added to δ.
    """

    rounds: int
    relation: Relation
    sampling_rate: float = 1.0
    sampling: ClientSampling = ClientSampling.FIXED_SIZE
    adversary: Adversary = Adversary.PARTICIPANTS
    shortfall_probability: float = 0.0

    def __post_init__(self) -> None:
        require_whole("rounds", self.rounds, 1, MAX_COUNT)
        require_member("relation", self.relation, Relation)
        require_sampling_rate(self.sampling_rate, self.relation)
        require_claim(self.sampling_rate, self.sampling, self.adversary)
        require_between("shortfall_probability", self.shortfall_probability, 0, 1)
        if self.shortfall_probability and self.sampling_rate == 1:
            raise ParameterError("shortfall_probability is about Poisson sampling, and nothing is claimed for it here")

    @property
    def count(self) -> int:
        """Rounds."""
        return self.rounds

    @property
    def slack(self) -> float:
        """What multiplies 1 + e^ε in δ, beyond the mechanism's own."""
        return self.rounds * self.shortfall_probability


@dataclass(frozen=True, kw_only=True)
class CentralGaussian(_ClientRounds):
    """Gaussian noise of `noise_std` on the mean of clients' updates, each of L2 norm ≤ l2_clip, `rounds` times.

    clients: what the sum was divided by, the clients *counted*; the sensitivity is l2_clip / clients. With a
    sampling_rate below 1 it is the expected number.
    """

    noise_std: float
    l2_clip: float
    clients: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("noise_std", self.noise_std)
        require_positive("l2_clip", self.l2_clip)
        require_between("clients", self.clients, 1, LARGEST)

    def uses(self) -> GaussianUses:
        """Return the Gaussian mechanism's uses, noise_multiplier = noise_std·clients / l2_clip."""
        multiplier = self.noise_std * self.clients / self.l2_clip
        require_positive("noise_std·clients / l2_clip", multiplier)
        return GaussianUses(multiplier, float(self.sampling_rate), self.rounds)


@dataclass(frozen=True, kw_only=True)
class QuantileCount(_ClientRounds):
    """The noisy count of clients below the clip, by which adaptive clipping moves it, `rounds` times.

    noise_std: of the count. Each client adds b − 1/2 for its bit b, so the sensitivity is 1/2 and the noise multiplier
    2·noise_std (Andrew, Thakkar, McMahan, Ramaswamy, NeurIPS 2021, Theorem 1).
    """

    noise_std: float

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive("noise_std", self.noise_std)

    def uses(self) -> GaussianUses:
        """Return the Gaussian mechanism's uses."""
        return GaussianUses(2 * float(self.noise_std), float(self.sampling_rate), self.rounds)


PrivacyEvent = DpSgd | CentralGaussian | QuantileCount | DiscreteGaussianSum | SkellamSum | RoundedGaussianSum
_KINDS = {
    kind.__name__: kind
    for kind in (DpSgd, CentralGaussian, QuantileCount, DiscreteGaussianSum, SkellamSum, RoundedGaussianSum)
}


def update_noise_multiplier(noise_multiplier: float, count_noise_std: float) -> float:
    """Return z_Δ = (z⁻² − (2σ_b)⁻²)^(−1/2), by which update and count together cost what z alone would.

    Andrew et al., NeurIPS 2021, Theorem 1. Requires: 2·count_noise_std > noise_multiplier.
    """
    require_positive("noise_multiplier", noise_multiplier)
    require_positive("count_noise_std", count_noise_std)
    left = noise_multiplier**-2 - (2 * count_noise_std) ** -2
    if left <= 0:
        raise ParameterError(
            f"2·count_noise_std={2 * count_noise_std:g} must exceed noise_multiplier={noise_multiplier:g}"
        )
    return float(left**-0.5)


def seen_by(adversary: Adversary, event: PrivacyEvent, cohorts: Cohorts) -> PrivacyEvent:
    """Return the event to debit in the ledger that is kept against this adversary, for rounds of these cohorts.

    Gaussian rounds of Poisson-drawn cohorts are amplified against who sees the models alone. Everything else is
    returned as it is: against participants, for cohorts of fixed size, and of events that are amplified by nothing
    here (DP-SGD, whose batches have their own sampling; discrete Gaussian and Skellam sums).
    Requires: an event as for all clients, sampling_rate 1. Raises: ParameterError if the mean of a round that would be
    amplified was not over the expected number of clients.
    """
    require_member("adversary", adversary, Adversary)
    claimed = adversary is Adversary.MODELS_ALONE and cohorts.sampling is ClientSampling.POISSON
    if not claimed or not isinstance(event, CentralGaussian | QuantileCount) or cohorts.sampling_rate == 1:
        return event
    if isinstance(event, CentralGaussian) and event.clients != cohorts.size:
        raise ParameterError(
            f"clients={event.clients:g} ≠ {cohorts.size:g}, the cohorts' expected size: to be amplified by Poisson "
            "sampling the sum must be divided by the expected number of clients, not by those present"
        )
    return replace(
        event,
        sampling_rate=cohorts.sampling_rate,
        sampling=ClientSampling.POISSON,
        adversary=adversary,
        shortfall_probability=cohorts.shortfall_probability,
    )


def event_to_fields(event: PrivacyEvent) -> dict[str, str | int | float]:
    """Return the event's fields and its `kind`, for JSON."""
    return {"kind": type(event).__name__, **asdict(event)}


def event_from_fields(given: object) -> PrivacyEvent:
    """Return the event `event_to_fields` made these of. Raises: EncodingError."""
    kind = _KINDS.get(given["kind"]) if isinstance(given, dict) and isinstance(given.get("kind"), str) else None
    if kind is None or not isinstance(given, dict) or set(given) != {"kind", *(field.name for field in fields(kind))}:
        raise EncodingError("this is no privacy event, or one of a later version")
    values = {name: value for name, value in given.items() if name != "kind"}
    try:
        values["relation"] = Relation(values["relation"])
        if kind is DpSgd:
            values["sampling"] = BatchSampling(values["sampling"])
        elif issubclass(kind, _ClientRounds):
            values["sampling"] = ClientSampling(values["sampling"])
        if "adversary" in values:
            values["adversary"] = Adversary(values["adversary"])
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise EncodingError(f"a privacy event that cannot be: {error}") from error


def single(event: PrivacyEvent) -> PrivacyEvent:
    """Return one step or round of the event."""
    if isinstance(event, DpSgd):
        return replace(event, steps=1, passes=min(1, event.passes))
    return replace(event, rounds=1)
