"""Aggregations for the engine in `fl_core`: private ones, under its names and with its errors."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from fl_core.aggregation import Aggregate, Weights
from fl_core.errors import Refused
from fl_core.federation import Federation
from fl_core.register import Register
from secureagg.aggregator import Aggregator, Result
from secureagg.client import contribute
from secureagg.committee import CommitteeMember
from secureagg.dp.client_sampling import ClientSampling, Cohorts
from secureagg.dp.ledger import Ledger
from secureagg.dp.mechanisms import Mechanism
from secureagg.errors import BudgetExhausted, EncodingError, FaultyClientError, ParameterError
from secureagg.events import Event
from secureagg.he import tenseal
from secureagg.identity import Identity
from secureagg.layout import Layout
from secureagg.payload import Header
from secureagg.plan import Committee, RoundPlan
from secureagg.protocol import open_sum
from secureagg.roster import Roster
from secureagg.session import Session

__all__ = ["Contribute", "OneShotAggregation", "TensealAggregation", "cohorts_of"]

Contribute = Callable[[Session, Identity, Weights, int, np.random.Generator | None], bytes]
"""What a client runs: its contribution, given session, identity, update, weight, and what seeds its rounding."""

# First entropy word of the seeds of rounding; 1 to 3 are the engine's own streams.
_ROUNDING = 4


def cohorts_of(federation: Federation, *, dropout_rate: float = 0.0) -> Cohorts:
    """Return how a federation's cohorts are drawn, for `dp_events.seen_by`.

    In a simulation the draw is repeatable and in the results: what is amplified by it is what a federation of this kind
    would have that draws in secret, as `Cohorts.draw` does.
    """
    clients = len(federation.clients)
    return Cohorts(
        clients=clients,
        size=clients if federation.cohort_size is None else federation.cohort_size,
        sampling=ClientSampling(federation.sampling.value),
        quorum=federation.quorum,
        dropout_rate=dropout_rate,
    )


class OneShotAggregation:
    """One-shot private summation: clients, aggregator and committee in one process, only bytes between them.

    quorum, l2_clip, value_bits, committee, max_weight, assumed_corrupt_clients, parameters: as in `RoundPlan`, whose
    clients are each round's cohort. Weights are whole numbers in [1, max_weight]. absent_members: committee members
    that never answer, by their ids. seed: of the stochastic rounding alone, which a plan with noise takes none for;
    keys, errors and noise always come from the operating system. noise, rotate: as in `RoundPlan`; ledger: the
    aggregator's, which each round is debited from, and which refuses one in begin() that it cannot afford. proofs:
    every contribution is proven, and the committee robust. dishonest: clients that run code of their own in place of
    `contribute`, to see what comes of it.

    `clipped` counts, by round, the updates that were scaled down or clamped: known here because the clients are
    simulated, and otherwise to each client alone. Each begin() opens a session of a new number, so that one object
    serves several runs; journals are in a temporary directory that goes with this object.

    Guarantees: with a seed, means repeat bit for bit. A round of n clients none of whom was clipped is within
    n·max_weight / (scale·Σw) of `PlainMean`'s in every value (each rounds to less than a grid step), before rounding
    to the layers' dtypes. Raises: ParameterError, for a committee or absent members that cannot be, and from begin()
    if no plan fits; BudgetExhausted from begin().
    """

    def __init__(
        self,
        *,
        quorum: int,
        l2_clip: float,
        value_bits: int = 16,
        committee: Committee | None = None,
        max_weight: int = 1,
        assumed_corrupt_clients: int = 0,
        parameters: str = "auto",
        absent_members: Collection[int] = (),
        seed: int | None = None,
        proofs: bool = False,
        noise: Mechanism | None = None,
        rotate: bool = False,
        ledger: Ledger | None = None,
        dishonest: Mapping[int, Contribute] | None = None,
    ) -> None:
        committee = Committee(3) if committee is None else committee
        if not set(absent_members) <= set(range(committee.size)):
            raise ParameterError(
                f"absent_members={sorted(absent_members)}: the committee's ids are 0 … {committee.size - 1}"
            )
        self.clipped: dict[int, int] = {}
        self.seed = seed
        self.dishonest = {} if dishonest is None else dict(dishonest)
        self._plan = partial(
            RoundPlan,
            quorum=quorum,
            l2_clip=l2_clip,
            value_bits=value_bits,
            committee=committee,
            max_weight=max_weight,
            assumed_corrupt_clients=assumed_corrupt_clients,
            parameters=parameters,
            proofs=proofs,
            noise=noise,
            rotate=rotate,
        )
        self.ledger = ledger
        self._absent = frozenset(absent_members)
        self._identities: dict[int, Identity] = {}
        self._sessions = 0
        journals = tempfile.mkdtemp(prefix="secureagg-journals-")
        weakref.finalize(self, shutil.rmtree, journals, ignore_errors=True)
        self._members = [
            CommitteeMember(Identity.generate(), journal=Path(journals) / str(member_id))
            for member_id in range(committee.size)
        ]

    def plan(self, model: Weights, clients: int) -> RoundPlan:
        """Return the plan of a round over this many clients. Raises: ParameterError."""
        return self._plan(layout=Layout.of(model), clients=clients)

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> OneShotRound:
        plan = self.plan(model, len(cohort))
        if self.ledger is not None and not self.ledger.affords(plan.privacy_event()):
            # `Aggregator.close` would refuse as well, but only once every client has trained and sent in vain.
            raise BudgetExhausted(
                f"round {round_number} is more than what is left of {self.ledger.budget}, "
                f"with {len(self.ledger)} rounds debited"
            )
        for client in cohort:
            self._identities.setdefault(client, Identity.generate())
        identities = {client: self._identities[client] for client in cohort}
        self._sessions += 1
        session = Session(
            plan,
            Roster((each.public for each in identities.values()), (member.public for member in self._members)),
            prekeys=[member.prekey(self._sessions) for member in self._members],
            round_number=self._sessions,
            model=model,
        )
        present = [member for member_id, member in enumerate(self._members) if member_id not in self._absent]
        return OneShotRound(self, round_number, session, identities, present)


class OneShotRound:
    """A `Round` of `OneShotAggregation`. The position in the cohort is the id on the roster.

    Raises from finish(): QuorumError, if too few clients or members took part; FaultyMemberError; UnattributedFault.
    """

    def __init__(
        self,
        aggregation: OneShotAggregation,
        round_number: int,
        session: Session,
        identities: Mapping[int, Identity],
        members: Sequence[CommitteeMember],
    ) -> None:
        self._aggregation = aggregation
        self._round_number = round_number
        self._session = session
        self._identities = identities
        self._cohort = tuple(identities)
        self._members = members
        self._aggregator = Aggregator(session, ledger=aggregation.ledger)
        self._register = Register(round_number, identities)
        aggregation.clipped[round_number] = 0

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        with self._register.contributing():
            if client not in self._identities:
                raise Refused(client, "not in this round's cohort")
            if not float(weight).is_integer():
                raise Refused(client, "its weight is no whole number, such as a count of examples")
            try:
                identity, rounding = self._identities[client], self._rounding(client)
                if (dishonest := self._aggregation.dishonest.get(client)) is not None:
                    return dishonest(self._session, identity, update, int(weight), rounding)
                return contribute(
                    self._session, identity, update, int(weight), rounding_rng=rounding, observe=self._saw
                )
            except ParameterError as error:
                raise Refused(client, str(error)) from error

    def admit(self, client: int, payload: bytes) -> None:
        with self._register.admitting(client, payload):
            self._add(client, payload)

    def finish(self) -> Aggregate:
        with self._register.finishing():
            result = self._open()
        clients = tuple(sorted(self._cohort[client_id] for client_id in result.clients))
        refused = {self._cohort[client_id]: reason for client_id, reason in result.refused.items()}
        register = self._register
        return Aggregate(result.mean, clients, register.refused | refused, register.bytes_up, register.seconds)

    def _add(self, client: int, payload: bytes) -> None:
        try:
            claimed = Header.from_bytes(payload[: self._session.plan.header_bytes], self._session).client_id
            if claimed != self._cohort.index(client):
                raise Refused(client, "the payload is another client's")
            self._aggregator.admit(payload)
        except FaultyClientError as error:
            raise Refused(client, error.reason) from error
        except EncodingError as error:
            raise Refused(client, str(error)) from error

    def _open(self) -> Result:
        """Let the committee members that are present open the sum, with their noise in it if the plan asks for that."""
        if self._session.plan.noise_members:
            self._aggregator.require_clients()
            for member in self._members:
                self._aggregator.admit(member.add_noise(self._session))
        return open_sum(self._aggregator, self._session, self._members)

    def _rounding(self, client: int) -> np.random.Generator | None:
        seed = self._aggregation.seed
        if seed is None or self._session.plan.noise is not None:
            return None
        return np.random.default_rng([_ROUNDING, seed, self._round_number, client])

    def _saw(self, event: Event) -> None:
        if event.clamped or (event.clip_factor is not None and event.clip_factor < 1):
            self._aggregation.clipped[self._round_number] += 1


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
        self._layout = layout
        self._sum = tenseal.Accumulator(aggregation.public, layout)
        self._register = Register(round_number, cohort)

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        with self._register.contributing():
            try:
                self._layout.require_same(Layout.of(update))
                return tenseal.encrypt(self._aggregation.encrypting, update, weight)
            except ParameterError as error:
                raise Refused(client, str(error)) from error

    def admit(self, client: int, payload: bytes) -> None:
        with self._register.admitting(client, payload):
            self._add(client, payload)

    def finish(self) -> Aggregate:
        with self._register.finishing():
            mean: Weights = list(tenseal.decrypt(self._aggregation.secret, self._sum.to_bytes(), self._layout))
        register = self._register
        return Aggregate(mean, tuple(sorted(register.admitted)), register.refused, register.bytes_up, register.seconds)

    def _add(self, client: int, payload: bytes) -> None:
        try:
            self._sum.add(payload, at_most=1)
        except EncodingError as error:
            raise Refused(client, str(error)) from error
