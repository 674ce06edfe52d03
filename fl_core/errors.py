"""Errors of the engine, by who is to blame. No message holds a value of a client's data or update."""

__all__ = [
    "ClientTrainingError",
    "DataError",
    "FederationError",
    "MissingExtraError",
    "NoContributionsError",
    "ParameterError",
    "QuorumError",
    "Refused",
    "StateError",
    "TrainingDivergedError",
]


class FederationError(Exception):
    """Base of every error this package raises on purpose."""


class ParameterError(FederationError, ValueError):
    """The caller asked for something infeasible; the message says what to change."""


class MissingExtraError(FederationError, ImportError):
    """An optional dependency is not installed; the message is the pip command."""


class DataError(FederationError, ValueError):
    """A file of a data set is missing or malformed; the message names the file."""


class StateError(FederationError):
    """A saved run is damaged, or belongs to another configuration; the message names what differs."""


class TrainingDivergedError(FederationError, ArithmeticError):
    """Local training left the finite numbers."""


class Refused(FederationError):
    """The aggregation does not take this client's contribution."""

    def __init__(self, client: int, reason: str) -> None:
        super().__init__(f"client {client} refused: {reason}")
        self.client = client
        self.reason = reason


class ClientTrainingError(FederationError):
    """A client's own training failed; the failure itself is `__cause__`, only its type is in the message."""

    def __init__(self, client: int, failure: type[BaseException]) -> None:
        self.client = client
        self.reason = f"{type(self).__name__}: {failure.__name__}"
        super().__init__(f"client {client}: {self.reason}")


class NoContributionsError(FederationError):
    """An aggregation was finished before it had admitted anyone, so there is no mean."""

    def __init__(self, round_number: int, refused: int) -> None:
        super().__init__(f"round {round_number}: no client was admitted, {refused} refused; there is no mean")


class QuorumError(FederationError):
    """Too few clients were left in a round to reveal their sum."""

    def __init__(self, round_number: int, present: int, quorum: int, dropped: dict[int, str]) -> None:
        lost = "; ".join(f"{client}: {reason}" for client, reason in sorted(dropped.items()))
        super().__init__(f"round {round_number}: {present} clients took part, quorum={quorum}; dropped: {lost}")
        self.round_number = round_number
        self.present = present
        self.quorum = quorum
