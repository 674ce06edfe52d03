"""A ledger for each client of a federation that trains by DP-SGD: what it may spend, and who stops when it has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from fl_core.aggregation import Aggregate, Aggregation, Round, Weights
from fl_core.errors import Refused
from secureagg.checks import require_between, require_whole
from secureagg.dp.accounting import require_delta, require_epsilon
from secureagg.dp.calibration import EPSILON_MARGIN, calibrate_noise
from secureagg.dp.dp_events import MAX_TRUNCATION_PROBABILITY, DpSgd
from secureagg.dp.ledger import Ledger
from secureagg.dp.relation import MAX_COUNT, Relation
from secureagg.errors import BudgetExhausted

__all__ = ["ClientLedgers", "DpSgdTerms", "Ledgered"]


@dataclass(frozen=True)
class DpSgdTerms:
    """What every client keeps to: at most (ε, δ) for each of its examples, over `rounds` rounds of `steps` steps each.

    l2_clip: of an example's gradient. batch: expected examples of a Poisson batch, all of them if a client has fewer.
    The relation is zero-out: how many examples a client has is public, since noise and sampling rate follow from it.
    """

    epsilon: float
    delta: float
    rounds: int
    steps: int
    batch: int
    l2_clip: float

    def __post_init__(self) -> None:
        require_epsilon("epsilon", self.epsilon)
        require_delta(self.delta)
        for name in ("rounds", "steps", "batch"):
            require_whole(name, getattr(self, name), 1, MAX_COUNT)
        require_between("l2_clip", self.l2_clip, 1e-12, 1e12)

    def expected_batch(self, examples: int) -> float:
        """Return the expected size of a batch of a client with so many examples."""
        return float(min(self.batch, examples))

    def noise_multiplier(self, examples: int) -> float:
        """Return the noise of a client with so many examples: the fewer, the more, as each is sampled more often."""
        return _noise_multiplier(self, examples)

    def event(self, examples: int, rounds: int = 1) -> DpSgd:
        """Return what this many rounds of such a client release."""
        return _event(self, examples, self.noise_multiplier(examples), rounds)


@lru_cache(maxsize=1024)
def _noise_multiplier(terms: DpSgdTerms, examples: int) -> float:
    return calibrate_noise(
        EPSILON_MARGIN * terms.epsilon, terms.delta, lambda noise: _event(terms, examples, noise, terms.rounds)
    )


def _event(terms: DpSgdTerms, examples: int, noise_multiplier: float, rounds: int) -> DpSgd:
    return DpSgd(
        noise_multiplier=noise_multiplier,
        expected_batch=terms.expected_batch(examples),
        examples=examples,
        steps=terms.steps * rounds,
        relation=Relation.ZERO_OUT,
        truncation_probability=MAX_TRUNCATION_PROBABILITY,
    )


class ClientLedgers:
    """One ledger a client, in `folder`, which is made if needed: `client-0007.ledger`. A simulation holds them all.

    examples: how many each client has. Raises: as `Ledger`, such as for one made with other terms.
    """

    def __init__(self, folder: Path, terms: DpSgdTerms, examples: Sequence[int]) -> None:
        self.folder = folder
        self.terms = terms
        self.examples = tuple(examples)
        self._ledgers: list[Ledger] = []
        self._spent: dict[tuple[int, int], float] = {}
        folder.mkdir(parents=True, exist_ok=True)
        try:
            for client, count in enumerate(self.examples):
                self._ledgers.append(self._open(client, count))
        except BaseException:
            self.close()
            raise

    def _open(self, client: int, examples: int) -> Ledger:
        terms = self.terms
        return Ledger(
            self.folder / f"client-{client:04d}.ledger",
            (terms.epsilon, terms.delta),
            Relation.ZERO_OUT,
            planned=[terms.event(examples, terms.rounds)],
            unit="one example of this client",
        )

    def affords(self, client: int) -> bool:
        """Return whether this client can take part in one more round."""
        return self._ledgers[client].affords(self.terms.event(self.examples[client]))

    def debit(self, client: int, note: str) -> None:
        """Debit one round of this client. Raises: BudgetExhausted."""
        self._ledgers[client].debit(self.terms.event(self.examples[client]), note)

    def rounds_of(self, client: int) -> int:
        """Return how many rounds this client has debited."""
        return len(self._ledgers[client])

    def spent_by(self, client: int) -> float:
        """Return ε of all that this client has debited."""
        # Clients of one size in as many rounds have spent alike, and composing takes up to a second.
        key = (self.examples[client], len(self._ledgers[client]))
        if key not in self._spent:
            self._spent[key] = self._ledgers[client].spent().epsilon
        return self._spent[key]

    def spent(self) -> float:
        """Return ε of the client that has spent most."""
        return max(map(self.spent_by, range(len(self._ledgers))))

    def close(self) -> None:
        """Release the files."""
        for ledger in self._ledgers:
            ledger.close()


class Ledgered:
    """An aggregation whose clients debit their ledgers before anything of a round leaves them.

    A client that cannot afford the round refuses it. Raises from begin(): BudgetExhausted, if fewer than `quorum`
    clients can afford it, so that nobody trains in vain.
    """

    def __init__(self, inner: Aggregation, ledgers: ClientLedgers, quorum: int) -> None:
        self._inner = inner
        self._ledgers = ledgers
        self._quorum = quorum

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> LedgeredRound:
        able = sum(map(self._ledgers.affords, cohort))
        if able < self._quorum:
            terms = self._ledgers.terms
            raise BudgetExhausted(
                f"{able} of {len(cohort)} clients can afford round {round_number} within ε = {terms.epsilon:g} at "
                f"δ = {terms.delta:g}, planned for {terms.rounds} rounds; the quorum is {self._quorum}"
            )
        return LedgeredRound(self._inner.begin(round_number, model, cohort), self._ledgers, round_number)


class LedgeredRound:
    """A `Round` of `Ledgered`."""

    def __init__(self, inner: Round, ledgers: ClientLedgers, round_number: int) -> None:
        self._inner = inner
        self._ledgers = ledgers
        self._round_number = round_number

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        try:
            self._ledgers.debit(client, f"round {self._round_number}")
        except BudgetExhausted as error:
            raise Refused(client, f"its privacy budget is spent: {error}") from error
        return self._inner.contribute(client, update, weight)

    def admit(self, client: int, payload: bytes) -> None:
        self._inner.admit(client, payload)

    def finish(self) -> Aggregate:
        return self._inner.finish()
