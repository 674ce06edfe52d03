"""Clients that vanish, on purpose and repeatably."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from fl_core.errors import FederationError, ParameterError

__all__ = ["Fault", "Faults", "Vanished", "seeded_faults"]


class Fault(Enum):
    """When a client vanishes. After sending, its one message is there and it counts like any other."""

    BEFORE_TRAINING = "vanished before training"
    BEFORE_SEND = "vanished before sending"
    AFTER_SEND = "vanished after sending"


Faults = Callable[[int, int], Fault | None]
"""(round number, client) → its fault, the same one whenever it is asked."""


# First entropy word of all fault draws; see `Federation` for the other streams.
_STREAM = 3


class Vanished(FederationError):
    """A client is gone for this round."""

    def __init__(self, client: int, fault: Fault) -> None:
        super().__init__(f"client {client} {fault.value}")
        self.client = client
        self.reason = fault.value


def seeded_faults(
    seed: int, *, before_training: float = 0.0, before_send: float = 0.0, after_send: float = 0.0
) -> Faults:
    """Each client of each round vanishes with these probabilities, at most once, independently of all others."""
    rates = (before_training, before_send, after_send)
    if min(rates) < 0 or not sum(rates) <= 1:
        raise ParameterError(f"fault rates {rates}: none below 0, their sum at most 1")
    return _SeededFaults(seed, rates)


@dataclass(frozen=True)
class _SeededFaults:
    """A function with a repr that tells its settings, so that a saved run knows them."""

    seed: int
    rates: tuple[float, float, float]

    def __call__(self, round_number: int, client: int) -> Fault | None:
        draw = np.random.default_rng([_STREAM, self.seed, round_number, client]).random()
        for fault, limit in zip(Fault, np.cumsum(self.rates), strict=True):
            if draw < limit:
                return fault
        return None
