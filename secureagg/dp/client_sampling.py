"""Which clients take part in a round, and against whom it counts that nobody knows.

A client that may not have been drawn is protected by that too, but only against those who cannot see who was. The
aggregator, the committee, the clients of a round and its auditors all see its roster; so amplification by sampling is
claimed against who sees the released models and nothing else, and only where it holds:

- Each client is drawn independently, with the same probability q in every round, from secret randomness
  (`Cohorts.draw`). Of cohorts of a fixed size nothing is claimed.
- The sum is divided by the *expected* number of clients, q·N, and its noise does not depend on how many there are: the
  mean over those present would tell how many, and so who. So would noise that every client adds its share of: in many
  dimensions its variance can be measured, and counts the shares.
- That a round fell short of its quorum is seen, as the model stays the same. Rounds that never do are within
  `shortfall_probability` of those that may, and (1 + e^ε)·rounds·shortfall_probability is added to δ.

Under zero-out, a client that is drawn and one whose part is zeros leave the same number of clients; so the sums of two
neighbours are, each round, N(0, σ²) beside the mixture of it with N(C, σ²) that Poisson sampling makes, as under
add-or-remove.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from secureagg.checks import require_between, require_whole
from secureagg.dp.binomial import binomial_tail
from secureagg.dp.relation import MAX_COUNT, require_member
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

__all__ = ["Adversary", "ClientSampling", "Cohorts", "require_claim"]


class ClientSampling(StrEnum):
    """How the clients of a round are drawn."""

    POISSON = "poisson"  # each independently, with probability q
    FIXED_SIZE = "fixed-size"  # a set number of them, or all


class Adversary(StrEnum):
    """Who is kept from telling two inputs apart, from whom sees most to who sees least."""

    PARTICIPANTS = "participants"  # aggregator, committee, clients of the round, auditors: they see who takes part
    RECIPIENTS = "recipients"  # all of these but the aggregator and who gets its exact sum: they see the noisy means
    MODELS_ALONE = "models-alone"  # sees the released models, and nothing of who took part or how many

    def covers(self, other: Adversary) -> bool:
        """Return whether what holds against this one holds against the other too, who sees no more."""
        order = list(Adversary)
        return order.index(self) <= order.index(other)


@dataclass(frozen=True, kw_only=True)
class Cohorts:
    """How every round's cohort is drawn from clients 0 … clients − 1.

    size: of a cohort; with POISSON the expected one. quorum: with fewer present a round releases nothing.
    dropout_rate: the largest probability with which a client that was drawn is missing all the same, independently of
    the others.
    """

    clients: int
    size: float
    sampling: ClientSampling
    quorum: int = 1
    dropout_rate: float = 0.0

    def __post_init__(self) -> None:
        require_whole("clients", self.clients, 1, MAX_COUNT)
        require_between("size", self.size, 1, self.clients)
        require_member("sampling", self.sampling, ClientSampling)
        require_between("dropout_rate", self.dropout_rate, 0, 1)
        require_whole("quorum", self.quorum, 1, self.clients)
        if self.sampling is ClientSampling.FIXED_SIZE and self.size != int(self.size):
            raise ParameterError(f"size={self.size} must be whole for cohorts of fixed size")
        if self.quorum > self.size * (1 - self.dropout_rate):
            raise ParameterError(
                f"quorum={self.quorum} > size·(1 − dropout_rate) = {self.size * (1 - self.dropout_rate):g}: "
                "most rounds would fall short of it"
            )

    @property
    def sampling_rate(self) -> float:
        """q, the probability that a round has a given client."""
        return self.size / self.clients

    @property
    def shortfall_probability(self) -> float:
        """The probability that a round has fewer clients than its quorum. Not asked for with FIXED_SIZE."""
        present = self.sampling_rate * (1 - self.dropout_rate)
        return binomial_tail(self.clients, 1 - present, self.clients - self.quorum)

    def draw(self, stream: SecretStream | None = None) -> tuple[int, ...]:
        """Return one round's cohort, ascending, from the operating system's randomness unless a stream is given.

        For an amplified claim the result goes to nobody but the participants of that round, and is drawn anew each.
        """
        words = np.empty(self.clients, dtype=np.uint64)
        (stream or SecretStream()).fill(words)
        if self.sampling is ClientSampling.FIXED_SIZE:
            return tuple(sorted(np.argsort(words, kind="stable")[: int(self.size)].tolist()))
        # A word is below ⌊q·2^64⌋ with that probability to within 2^-53; the last word of all stands for q = 1.
        chosen = words <= np.uint64(min(int(self.sampling_rate * 2**64), 2**64 - 1))
        return tuple(np.flatnonzero(chosen).tolist())


def require_claim(sampling_rate: float, sampling: ClientSampling, adversary: Adversary) -> None:
    """Raise ParameterError unless this amplification may be claimed: any if sampling_rate is 1, as none is then."""
    require_member("sampling", sampling, ClientSampling)
    require_member("adversary", adversary, Adversary)
    if sampling_rate < 1 and sampling is not ClientSampling.POISSON:
        raise ParameterError(
            f"sampling_rate={sampling_rate:g} < 1 with sampling={sampling}: no amplification is claimed for cohorts of "
            "fixed size; leave sampling_rate=1, or draw every client independently (poisson)"
        )
    if sampling_rate < 1 and adversary is not Adversary.MODELS_ALONE:
        raise ParameterError(
            f"sampling_rate={sampling_rate:g} < 1 with adversary={adversary}: they see who was drawn, so "
            "nothing is amplified against them; leave sampling_rate=1, or claim it against models-alone"
        )
