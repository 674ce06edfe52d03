"""One site's part in a job: it enrols, pins who takes part, contributes, and answers as a committee member.

What comes from the server is checked against what the site holds itself: its workspace (identity, roster, record of the
job), the job's terms, and the task it was given, the model with all else that steers training. The session is rebuilt
from these; nothing is taken on trust but, with collected rosters, who the others are.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from secureagg.adapters.budgets import require_budget
from secureagg.adapters.nvflare.enrolment import Enrolment, Invitation, Offer, require_prekeys
from secureagg.adapters.nvflare.home import Home
from secureagg.adapters.nvflare.record import Pinned
from secureagg.adapters.nvflare.session import session_of
from secureagg.adapters.nvflare.terms import COLLECTED, Model, Terms, require_model, tensors
from secureagg.client import contribute
from secureagg.committee import CommitteeMember
from secureagg.errors import EncodingError, ParameterError
from secureagg.roster import Roster
from secureagg.session import MAX_ROUND, Session

__all__ = ["Site", "SiteRound"]


@dataclass(frozen=True, eq=False)
class SiteRound:
    """A round at a site, as `Site.begin` began it: its session and the names of the model's tensors."""

    session: Session
    names: frozenset[str]


class Site:
    """A site in one job. Calls from several threads are served one after the other.

    Guarantees, also for a job process that starts again: one roster and one base of round numbers a job, and one
    contribution a round. Once a later round has begun, the prekeys of earlier ones are erased. Raises: ParameterError
    for what this site refuses, EncodingError for malformed messages.
    """

    def __init__(self, home: Home, terms: Terms, job: str) -> None:
        self._home = home
        self._terms = terms
        self._identity = home.identity()
        self._record = home.job(job)
        on_committee = home.site in terms.committee
        self._member: CommitteeMember | None = self._record.member(self._identity) if on_committee else None
        self._offer: Offer | None = None
        self._roster: Roster | None = None
        self._round: SiteRound | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The site's name in NVFlare."""
        return self._home.site

    def serve(self, verb: str, message: bytes) -> bytes:
        """Return the reply to a message of the server's: to "enrol", "pin", "noise", "check" or "respond"."""
        if not isinstance(message, bytes):
            raise EncodingError("a message is bytes")
        calls = {
            "enrol": self.enrol,
            "pin": self.pin,
            "noise": self.noise,
            "check": self.check,
            "respond": self.respond,
        }
        if verb not in calls:
            raise EncodingError("a message of an unknown kind")
        return calls[verb](message)

    def enrol(self, invitation: bytes) -> bytes:
        """Return this site's enrolment for a batch of rounds."""
        invited = Invitation.from_bytes(invitation)
        wanted = invited.batch
        with self._lock:
            self._record.require_base(wanted.base)
            first = wanted.base + wanted.start
            numbers = range(first, first + wanted.count) if self._member is not None else ()
            prekeys = tuple(self._member.prekey(number) for number in numbers if self._member is not None)
            return Enrolment.signed(self._identity, self.name, invited, prekeys).to_bytes()

    def pin(self, offer: bytes) -> bytes:
        """Pin who takes part, or refuse; return the roster's digest, by which the server sees that all agree."""
        offered = Offer.from_bytes(offer)
        with self._lock:
            self._record.require_base(offered.batch.base)
            roster = self._checked(offered)
            if self._offer is not None and not self._offer.agrees_with(offered):
                raise ParameterError("other prekeys are pinned for these rounds already")
            self._record.pin(Pinned(offered.batch.base, roster.digest()))
            self._offer, self._roster = offered, roster
            return roster.digest()

    def _checked(self, offer: Offer) -> Roster:
        """Return the roster of an offer that this site agrees with."""
        publics = dict(zip(offer.sites, offer.publics, strict=True))
        if publics.get(self.name) != self._identity.public:
            raise ParameterError("the roster offered does not hold this site with its own identity")
        pinned = self._home.roster()
        if pinned is None and self._terms.roster != COLLECTED:
            raise ParameterError(
                "this site has no roster file, and the job's terms do not allow a collected roster; write "
                "local/secureagg/roster.json in its workspace"
            )
        if pinned is not None:
            for site, public in publics.items():
                if site not in pinned:
                    raise ParameterError(f"site {site!r} is offered, which is not in this site's roster file")
                if pinned[site] != public:
                    raise ParameterError(f"site {site!r} is offered with another identity than this site has pinned")
        missing = [site for site in self._terms.committee if site not in publics]
        if missing:
            raise ParameterError(f"committee sites {missing} are not in the roster offered")
        if len(offer.prekeys[0]) != len(self._terms.committee):
            raise ParameterError(
                f"{len(offer.prekeys[0])} prekeys a round offered, the committee has {len(self._terms.committee)}"
            )
        for site, prekeys in zip(self._terms.committee, zip(*offer.prekeys, strict=True), strict=True):
            require_prekeys(prekeys, publics[site], offer.batch)
        return Roster(offer.publics, (publics[site] for site in self._terms.committee))

    def begin(self, round_number: int, model: Model, told: bytes = b"") -> SiteRound:
        """Return a round made from what is pinned and the model this site was given; it is the current one from now on.

        told: what else this site was told to train by, as `task.told_by`. Raises: BudgetExhausted if this site's ledger
        cannot afford the round; it still serves as a committee member.
        """
        model = require_model(model)
        with self._lock:
            if self._offer is None or self._roster is None or round_number not in self._offer.batch:
                raise ParameterError(f"no roster and prekeys are pinned for round {round_number}")
            session = session_of(self._terms, self._roster, self._offer, round_number, model, told)
            self._round = begun = SiteRound(session, frozenset(model))
            if self._member is not None and session.round_number > 0:
                self._member.retire(session.round_number - 1)
            with self._home.ledger(session.plan) as ledger:
                require_budget(session.plan, ledger)
            return begun

    def contribute(
        self, begun: SiteRound, update: Model, weight: float = 1, rounding: np.random.Generator | None = None
    ) -> bytes:
        """Return this site's contribution to a round; `rounding` seeds the stochastic rounding alone.

        begun: what `begin` returned for the model that the update was trained on. It has to be the current round still:
        a server could otherwise have an update of one model summed with those of another. Tensors are cast to the
        model's dtypes: what training returns is often wider than what it was given. With noise the round is debited
        from this site's ledger first.
        """
        update = require_model(update)
        with self._lock:
            if begun is not self._round:
                raise ParameterError("another round has begun at this site since this update's training did")
            layout = begun.session.plan.layout
            if frozenset(update) != begun.names:
                odd = sorted(frozenset(update) ^ begun.names)
                raise ParameterError(f"model and update differ in the tensors {odd}")
            for name, shape in zip(sorted(update), layout.shapes, strict=True):
                if update[name].shape != shape:
                    raise ParameterError(f"tensor {name!r} has the shape {update[name].shape}, in the model {shape}")
            with np.errstate(over="ignore"):  # an infinity is refused below
                values = [t.astype(dtype, copy=False) for t, dtype in zip(tensors(update), layout.dtypes, strict=True)]
            whole = int(weight) if float(weight).is_integer() else 0  # 0 is refused with the range
            with self._home.ledger(begun.session.plan) as ledger:
                self._record.require_unclaimed(begun.session.round_number)  # before a debit
                made = contribute(begun.session, self._identity, values, whole, rounding_rng=rounding, ledger=ledger)
            self._record.claim(begun.session.round_number)
            return made

    def noise(self, message: bytes) -> bytes:
        """Return this member's contribution of noise, where the plan has its committee add it; `message` is empty."""
        if message:
            raise EncodingError("a request for noise is empty")
        with self._lock:
            return self._as_member().add_noise(self._current())

    def check(self, request: bytes) -> bytes:
        """Return this member's share check."""
        with self._lock:
            return self._as_member().check(self._current(), request)

    def respond(self, request: bytes) -> bytes:
        """Return this member's one answer of the round."""
        with self._lock:
            return self._as_member().respond(self._current(), request)

    def end(self) -> None:
        """Erase what prekeys are left; the job is over."""
        with self._lock:
            if self._member is not None:
                self._member.retire(MAX_ROUND)

    def _as_member(self) -> CommitteeMember:
        if self._member is None:
            raise ParameterError("this site is not on the committee")
        return self._member

    def _current(self) -> Session:
        if self._round is None:
            raise ParameterError("no round has begun at this site")
        return self._round.session

    def __repr__(self) -> str:
        return f"Site({self.name!r})"
