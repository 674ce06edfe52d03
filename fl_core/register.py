"""Who was admitted to a round and who refused, what each sent, and how long it took: the same for every aggregation."""

from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager

from fl_core.errors import NoContributionsError, Refused
from fl_core.stopwatch import Stopwatch

__all__ = ["Register"]


class Register:
    """A round's account of its clients, kept by doing each step within the block that is named after it.

    `refused` gives the reason of each client that sent something and is not admitted; `bytes_up` counts all that a
    client sent, admitted or not.
    """

    def __init__(self, round_number: int, cohort: Collection[int]) -> None:
        self._round_number = round_number
        self._cohort = frozenset(cohort)
        self._watch = Stopwatch("contribute", "admit", "finish")
        self.admitted: set[int] = set()
        self.refused: dict[int, str] = {}
        self.bytes_up: dict[int, int] = {}

    @property
    def seconds(self) -> dict[str, float]:
        """What each stage took."""
        return dict(self._watch.seconds)

    def contributing(self) -> AbstractContextManager[None]:
        """Around what a client does."""
        return self._watch.stage("contribute")

    @contextmanager
    def admitting(self, client: int, payload: bytes) -> Iterator[None]:
        """Around taking a payload into the sum: the client is admitted if the block ends, and refused by its Refused.

        Raises: Refused, before the block, for a client that is not in the cohort or is admitted already.
        """
        with self._watch.stage("admit"):
            self.bytes_up[client] = self.bytes_up.get(client, 0) + len(payload)
            if client in self.admitted:
                raise Refused(client, "already admitted in this round")
            try:
                if client not in self._cohort:
                    raise Refused(client, "not in this round's cohort")
                yield
            except Refused as refusal:
                self.refused[client] = refusal.reason
                raise
            self.admitted.add(client)
            self.refused.pop(client, None)

    @contextmanager
    def finishing(self) -> Iterator[None]:
        """Around opening the sum. Raises: NoContributionsError, before the block, if nobody was admitted."""
        with self._watch.stage("finish"):
            if not self.admitted:
                raise NoContributionsError(self._round_number, len(self.refused))
            yield
