"""What a run tells: events while a round goes on, one result after it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from fl_core.aggregation import Weights
from fl_core.stopwatch import Stopwatch

__all__ = ["STAGES", "Event", "Observer", "RoundResult", "Stages"]

STAGES = ("train", "contribute", "admit", "finish", "update", "evaluate")


@dataclass(frozen=True)
class Event:
    """Something begins in a round: the "round" itself, one of `STAGES` (for a client, if it has one), or a client
    is "dropped", with its cause, which is for the eyes of that client alone: it may hold values."""

    stage: str
    round_number: int
    client: int | None = None
    cause: Exception | None = None


Observer = Callable[[Event], None]


class Stages:
    """Times the stages of one round and tells of each when it begins."""

    def __init__(self, round_number: int, observe: Observer | None) -> None:
        self._round_number = round_number
        self._observe = observe
        self._watch = Stopwatch(*STAGES)
        self.seconds = self._watch.seconds

    def tell(self, stage: str, client: int | None = None, cause: Exception | None = None) -> None:
        if self._observe:
            self._observe(Event(stage, self._round_number, client, cause))

    @contextmanager
    def at(self, stage: str, client: int | None = None) -> Iterator[None]:
        self.tell(stage, client)
        with self._watch.stage(stage):
            yield


@dataclass(frozen=True)
class RoundResult:
    """What a round came to. Dictionaries by client have its id as key.

    `metrics` are the new global model's on the test data; `losses` the mean local training losses of `clients`,
    those in the mean; `dropped` says why the others of the cohort are not. `bytes_down` counts the model for
    each client it was sent to, `bytes_up` what each client sent. `seconds` is wall-clock time by `STAGES`,
    clients one after the other; `aggregation_seconds` is the aggregation's own account, by its own stages.
    `weights` is the new global model; empty in an earlier result of a saved run.
    """

    round_number: int
    clients: tuple[int, ...]
    dropped: dict[int, str]
    metrics: dict[str, float]
    losses: dict[int, float]
    bytes_up: dict[int, int]
    bytes_down: dict[int, int]
    seconds: dict[str, float]
    aggregation_seconds: dict[str, float]
    weights: Weights = field(default_factory=list, repr=False, compare=False)

    def to_json(self) -> dict[str, Any]:
        """Everything but the weights, for `json.dumps`."""
        return {item.name: getattr(self, item.name) for item in fields(self) if item.name != "weights"}

    @staticmethod
    def from_json(record: dict[str, Any]) -> "RoundResult":
        """The result, without weights, from what `json.loads` gives: it has turned client ids into strings."""
        by_client = {
            name: {int(client): value for client, value in record[name].items()}
            for name in ("dropped", "losses", "bytes_up", "bytes_down")
        }
        return RoundResult(**record | by_client | {"clients": tuple(record["clients"])})
