"""Aggregations for the engine in `fl_core`: private ones, under its names and with its errors."""

from __future__ import annotations

from collections.abc import Sequence

from fl_core.aggregation import Aggregate, Weights
from fl_core.errors import NoContributionsError, Refused
from fl_core.stopwatch import Stopwatch
from secureagg.errors import EncodingError, ParameterError
from secureagg.he import tenseal
from secureagg.he.tenseal_wire import Payload
from secureagg.layout import Layout

__all__ = ["TensealAggregation"]


class TensealAggregation:
    """The weighted mean under CKKS, `secureagg.he.tenseal`: clients, aggregator and key holder in one process.

    clients: the largest cohort. magnitude, precision: of an update's values, and of the mean's error. max_weight:
    weights lie in [1, max_weight]. seeded: clients encrypt with the secret key; half the bytes, but then any client
    can open another's update.

    One key pair serves all rounds, so a payload kept from an earlier round would still add up: telling rounds apart
    is for the transport. Guarantees: means repeat bit for bit, and are within `precision` of `PlainMean`'s, both
    before rounding to the layers' dtypes. Raises: ParameterError, if no parameters fit; MissingExtraError.
    """

    def __init__(
        self, clients: int, magnitude: float, precision: float, max_weight: float = 1.0, seeded: bool = False
    ) -> None:
        self.public, self.secret = tenseal.generate_keys(clients, magnitude, precision, max_weight)
        self.encrypting = self.secret if seeded else self.public

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> TensealRound:
        return TensealRound(self, round_number, Layout.of(model), cohort)


class TensealRound:
    """A `Round` of `TensealAggregation`. A sum that does not decrypt cleanly is an UnattributedFault."""

    def __init__(
        self, aggregation: TensealAggregation, round_number: int, layout: Layout, cohort: Sequence[int]
    ) -> None:
        self._aggregation = aggregation
        self._round_number = round_number
        self._layout = layout
        self._cohort = frozenset(cohort)
        self._sum = tenseal.Accumulator(aggregation.public, layout)
        self._admitted: set[int] = set()
        self._refused: dict[int, str] = {}
        self._bytes_up: dict[int, int] = {}
        self._watch = Stopwatch("contribute", "admit", "finish")

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        with self._watch.stage("contribute"):
            try:
                self._layout.require_same(Layout.of(update))
                return tenseal.encrypt(self._aggregation.encrypting, update, weight)
            except ParameterError as error:
                raise Refused(client, str(error)) from error

    def admit(self, client: int, payload: bytes) -> None:
        with self._watch.stage("admit"):
            self._bytes_up[client] = self._bytes_up.get(client, 0) + len(payload)
            try:
                self._add(client, payload)
            except Refused as refusal:
                if client not in self._admitted:
                    self._refused[client] = refusal.reason
                raise
            self._admitted.add(client)
            self._refused.pop(client, None)

    def finish(self) -> Aggregate:
        with self._watch.stage("finish"):
            if not self._admitted:
                raise NoContributionsError(self._round_number, len(self._refused))
            mean: Weights = list(tenseal.decrypt(self._aggregation.secret, self._sum.to_bytes()))
        return Aggregate(mean, tuple(sorted(self._admitted)), self._refused, self._bytes_up, dict(self._watch.seconds))

    def _add(self, client: int, payload: bytes) -> None:
        if client not in self._cohort:
            raise Refused(client, "not in this round's cohort")
        if client in self._admitted:
            raise Refused(client, "already admitted in this round")
        try:
            # A sum of several would add up as well, and take the places of clients still to come.
            if len(Payload.from_bytes(payload).nonces) != 1:
                raise Refused(client, "the payload is a sum of several contributions")
            self._sum.add(payload)
        except EncodingError as error:
            raise Refused(client, str(error)) from error
