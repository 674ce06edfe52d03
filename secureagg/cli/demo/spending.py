"""What a demo with a privacy budget may spend: its noise, its ledgers, and whom that is sized for."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import fl_core
from secureagg.adapters.fl_core_ledgers import ClientLedgers, DpSgdTerms
from secureagg.cli.demo.settings import DP_SGD, PrivacySettings, Settings, Unit
from secureagg.dp.calibration import calibrate_noise
from secureagg.dp.dp_events import CentralGaussian
from secureagg.dp.ledger import Ledger
from secureagg.dp.mechanisms import DistributedGaussian
from secureagg.dp.relation import Relation
from secureagg.plan import RoundPlan

__all__ = [
    "AggregatorMeter",
    "Meter",
    "assumed_corrupt",
    "distributed_noise",
    "dp_sgd_terms",
    "float_noise",
    "ledger_home",
    "open_meter",
    "quorum",
]

_QUORUM = 2  # the mean of a single update is that update
_CORRUPT_SHARE = 0.05
_STANDARD_DEVIATIONS = 4.0  # fewer than this below the expected number are left about once in 30,000 rounds


class Meter(Protocol):
    """Who knows what is spent."""

    def spent(self) -> float:
        """Return ε so far, of the unit that has spent most."""

    def close(self) -> None:
        """Release the ledgers' files."""


class AggregatorMeter:
    """The aggregator's ledger, as a `Meter`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger

    def spent(self) -> float:
        """Return ε of all rounds debited."""
        return self.ledger.spent().epsilon

    def close(self) -> None:
        """Release the file."""
        self.ledger.close()


def quorum(settings: Settings) -> int:
    """Return how many clients a sum needs: two or, with a budget, as many as are there in all but rare rounds.

    The noise is sized for the quorum, so it must not be small; it follows from public numbers.
    """
    clients, left = settings.clients, 1 - settings.drop
    if settings.privacy is None:
        return min(_QUORUM, clients)
    rare = _STANDARD_DEVIATIONS * math.sqrt(clients * left * (1 - left))
    return min(clients, max(_QUORUM + assumed_corrupt(settings), math.floor(clients * left - rare)))


def assumed_corrupt(settings: Settings) -> int:
    """Return how many clients' noise counts as none, since they may tell it to the aggregator: one in twenty."""
    by_unit = settings.privacy is not None and settings.privacy.unit is Unit.CLIENT
    return int(_CORRUPT_SHARE * settings.clients) if by_unit else 0


def distributed_noise(settings: Settings, *, proofs: bool) -> DistributedGaussian | None:
    """Return the noise of the encrypted sum: the committee's with proofs, else the clients'; None if it is exact."""
    budget = settings.privacy
    if budget is None or budget.unit is not Unit.CLIENT:
        return None
    return DistributedGaussian(
        epsilon=budget.epsilon,
        delta=budget.delta,
        rounds=budget.rounds,
        noise_by="committee" if proofs else "clients",
    )


def float_noise(budget: PrivacySettings, l2_clip: float, seed: int) -> fl_core.FloatNoiseMean:
    """Return the baseline: a plain mean with the noise that a trusted server would need for the same (ε, δ)."""

    def released(noise: float) -> CentralGaussian:
        return CentralGaussian(
            noise_std=noise, l2_clip=1.0, clients=1, rounds=budget.rounds, relation=Relation.ZERO_OUT
        )

    return fl_core.FloatNoiseMean(l2_clip, calibrate_noise(budget.epsilon, budget.delta, released), seed)


def dp_sgd_terms(settings: Settings) -> DpSgdTerms:
    """Return what every client's DP-SGD keeps to. Requires: a budget about examples."""
    budget, training = settings.privacy, DP_SGD[settings.dataset]
    assert budget is not None and budget.unit is Unit.EXAMPLE
    return DpSgdTerms(
        epsilon=budget.epsilon,
        delta=budget.delta,
        rounds=budget.rounds,
        steps=training.steps,
        batch=training.batch,
        l2_clip=training.l2_clip,
    )


@contextmanager
def ledger_home(budget: PrivacySettings | None, chosen: Path | None, state_dir: Path | None) -> Iterator[Path | None]:
    """Yield where ledgers are kept: where was chosen, else beside a saved run, else nowhere for long.

    The aggregator's is a file, the clients' are a folder of files.
    """
    if budget is None:
        yield None
        return
    name = "aggregator.ledger" if budget.unit is Unit.CLIENT else "client-ledgers"
    if chosen is not None or state_dir is not None:
        home = chosen if chosen is not None else Path(state_dir or ".") / name
        home.parent.mkdir(parents=True, exist_ok=True)
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="secureagg-ledger-") as folder:
        yield Path(folder) / name


def open_meter(settings: Settings, plan: RoundPlan, examples: Sequence[int], home: Path) -> Meter:
    """Return the ledgers of a run, made with its terms if they are not there. Requires: a budget.

    Raises: ParameterError for ledgers that were made with other terms, or are open elsewhere.
    """
    budget = settings.privacy
    assert budget is not None
    if budget.unit is Unit.EXAMPLE:
        return ClientLedgers(home, dp_sgd_terms(settings), examples)
    return AggregatorMeter(
        Ledger(
            home,
            (budget.epsilon, budget.delta),
            Relation.ZERO_OUT,
            planned=[plan.privacy_event(budget.rounds)],
            unit="one client's updates",
        )
    )
