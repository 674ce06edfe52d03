"""The standing facts of a run: who trains what with whom, and everything random about it."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

import numpy as np

from fl_core.data import LocalData
from fl_core.errors import ParameterError
from fl_core.server import FedAvg, ServerOptimizer
from fl_core.training import Trainer

__all__ = ["ClientSampling", "Federation"]

# The first entropy word keeps these streams apart (3 is the faults'). Length alone would not: numpy pads entropy
# with zeros, so [seed, round] and [seed, round, client 0] seed the same stream.
_COHORTS, _TRAINING = 1, 2


class ClientSampling(StrEnum):
    """How a round's cohort is drawn. Only Poisson sampling can amplify privacy, and only under conditions."""

    FIXED_SIZE = "fixed-size"  # `cohort_size` clients, every set of them as likely
    POISSON = "poisson"  # each client independently with probability cohort_size / clients


@dataclass(frozen=True)
class Federation:
    """`clients[i]` is the local data of client i, `test` what the global model is evaluated on.

    Each round samples `cohort_size` clients (all of them if not given) and needs `quorum` of them in the mean.
    A client weighs as many as it has examples, or 1 if `weighting` is uniform.

    With `sampling` POISSON, `cohort_size` is the expected size, and the sum is divided by it instead of by the number
    of clients present, which would tell who was drawn; so weighting must be uniform. Privacy that is claimed for
    clients not drawn needs more than this engine can give: it draws from `seed`, so that runs repeat, and what it
    draws is in its results. For a claim the draw must come from a cryptographic generator and be unknown to the
    adversary.
    """

    trainer: Trainer
    clients: Sequence[LocalData]
    test: LocalData
    rounds: int
    server: ServerOptimizer = field(default_factory=FedAvg)
    cohort_size: int | None = None
    sampling: ClientSampling = ClientSampling.FIXED_SIZE
    quorum: int = 1
    weighting: Literal["examples", "uniform"] = "examples"
    seed: int = 0

    def __post_init__(self) -> None:
        size = self._sampled
        if not 1 <= self.quorum <= size <= len(self.clients):
            raise ParameterError(
                f"quorum={self.quorum}, cohort_size={size}, clients={len(self.clients)}: "
                "1 ≤ quorum ≤ cohort_size ≤ clients must hold"
            )
        if self.weighting not in ("examples", "uniform"):
            raise ParameterError(f"weighting={self.weighting!r}: must be 'examples' or 'uniform'")
        if not isinstance(self.sampling, ClientSampling):
            raise ParameterError(f"sampling={self.sampling!r}: must be a ClientSampling")
        if self.sampling is ClientSampling.POISSON and self.weighting != "uniform":
            raise ParameterError(
                f"sampling=poisson with weighting={self.weighting!r}: the sum is divided by the expected number of "
                "clients, so weighting must be 'uniform'"
            )
        if self.rounds < 0 or self.seed < 0:
            raise ParameterError(f"rounds={self.rounds}, seed={self.seed}: neither may be negative")

    @property
    def _sampled(self) -> int:
        return len(self.clients) if self.cohort_size is None else self.cohort_size

    @property
    def expected_clients(self) -> int | None:
        """What a round's sum is divided by, if not by the weights of the clients in it."""
        return self._sampled if self.sampling is ClientSampling.POISSON else None

    def cohort(self, round_number: int) -> tuple[int, ...]:
        """The clients sampled for a round, ascending: a function of seed and round number."""
        rng = np.random.default_rng([_COHORTS, self.seed, round_number])
        if self.sampling is ClientSampling.POISSON:
            draws = rng.random(len(self.clients))
            return tuple(np.flatnonzero(draws < self._sampled / len(self.clients)).tolist())
        return tuple(sorted(rng.choice(len(self.clients), self._sampled, replace=False).tolist()))

    def client_seed(self, round_number: int, client: int) -> int:
        """The seed of one client's training in one round, 64 bits: a function of seed, round number and client."""
        entropy = [_TRAINING, self.seed, round_number, client]
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])

    def describe(self) -> dict[str, str]:
        """Every setting that changes what a round does, by name; so not `rounds`, which only says when to stop."""
        content = hashlib.sha256()
        for x, y in (*self.clients, self.test):
            for array in (x, y):
                content.update(repr((array.shape, array.dtype.str)).encode())
                content.update(array.tobytes())
        return {
            "seed": str(self.seed),
            "clients": str(len(self.clients)),
            "cohort_size": str(self._sampled),
            "sampling": self.sampling.value,
            "quorum": str(self.quorum),
            "weighting": self.weighting,
            "server": repr(self.server),
            "data": content.hexdigest()[:16],
        } | {f"trainer.{name}": value for name, value in self.trainer.describe().items()}
