"""The server's part: it convenes sites for a job, admits their contributions round by round, and opens the sums.

It holds no secret and decides nothing that a site does not check. How messages reach sites is the caller's: `Ask`.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.adapters.nvflare.enrolment import MAX_BATCH, Batch, Enrolment, Offer
from secureagg.adapters.nvflare.rounds import session_of
from secureagg.adapters.nvflare.terms import Model, Terms, by_name, require_model
from secureagg.aggregator import Aggregator
from secureagg.checks import printable, require_whole
from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    ParameterError,
    QuorumError,
)
from secureagg.exchange import Request
from secureagg.roster import Roster
from secureagg.session import Session

__all__ = ["Ask", "Convener", "Outcome", "Replies", "Round"]


@dataclass(frozen=True)
class Replies:
    """What sites replied, and why the others did not."""

    given: Mapping[str, bytes]
    refusals: Mapping[str, str]

    def why(self) -> str:
        """Return the refusals as the end of a sentence, empty if there are none."""
        return "".join(f"; {site}: {printable(reason)}" for site, reason in sorted(self.refusals.items()))


Ask = Callable[[str, Mapping[str, bytes]], Replies]
"""Sends each site its message under one of `Site.serve`'s verbs, and returns when all replied or time is up."""


@dataclass(frozen=True)
class Outcome:
    """What a round reveals.

    mean: the weighted mean of the updates by tensor; total_weight: Σw; sites: whose updates are in it; refused: sites
    whose contributions are not, with the reason; faults: committee sites that answered wrongly or not at all.
    """

    mean: dict[str, NDArray[np.floating[Any]]] = field(repr=False)
    total_weight: int
    sites: tuple[str, ...]
    refused: Mapping[str, str]
    faults: Mapping[str, str]


@dataclass(frozen=True)
class _Convened:
    """The sites of a job, and the prekeys of the batch at hand."""

    offer: Offer
    roster: Roster


class Convener:
    """Convenes `sites` (as NVFlare names them) under a job's terms.

    batch: for how many rounds prekeys are collected at once. `absent` says which sites did not enrol or did not agree,
    and why; they are not on the roster, or contribute nothing that is admitted.
    """

    def __init__(self, terms: Terms, sites: Sequence[str], ask: Ask, *, batch: int = 16) -> None:
        require_whole("batch", batch, 1, MAX_BATCH)
        self._terms = terms
        self._sites = tuple(sorted(sites))
        self._ask = ask
        self._batch = batch
        self._base = secrets.randbits(40) << 20  # a job of 2^20 rounds stays below the next job's base
        self._convened: _Convened | None = None
        self.absent: dict[str, str] = {}

    def convene(self, round_number: int) -> None:
        """Collect identities and prekeys and have all sites pin them, unless that is done for this round.

        Raises: QuorumError if too few sites or not all of the committee enrolled, or too few agreed; ParameterError
        if a site changed its identity.
        """
        require_whole("round_number", round_number, 0, 2**20 - 1)
        if self._convened is not None and round_number in self._convened.offer.batch:
            return
        offer, roster = self._enrolled(Batch(self._base, round_number, self._batch))
        if self._convened is not None and self._convened.roster.digest() != roster.digest():
            raise ParameterError("a site's identity or the set of sites changed within the job; start another job")
        replies = self._ask("pin", dict.fromkeys(offer.sites, offer.to_bytes()))
        agreed = [site for site, digest in replies.given.items() if digest == roster.digest()]
        self.absent |= {site: "did not pin the same roster" for site in offer.sites if site not in agreed}
        self.absent |= dict(replies.refusals)
        members = [site for site in agreed if site in self._terms.committee]
        needed = self._terms.electorate().members_needed
        if len(agreed) < self._terms.quorum or len(members) < needed:
            raise QuorumError(
                f"{len(agreed)} sites, {len(members)} of them on the committee, pinned the roster; "
                f"{self._terms.quorum} and {needed} are needed{replies.why()}"
            )
        self._convened = _Convened(offer, roster)

    def _enrolled(self, batch: Batch) -> tuple[Offer, Roster]:
        """Return what the sites that enrolled make together."""
        asked = self._sites if self._convened is None else self._convened.offer.sites
        replies = self._ask("enrol", dict.fromkeys(asked, batch.to_bytes()))
        enrolled: dict[str, Enrolment] = {}
        refusals = dict(replies.refusals)
        for site, reply in sorted(replies.given.items()):
            try:
                enrolled[site] = Enrolment.from_bytes(reply)
            except EncodingError as error:
                refusals[site] = str(error)
        if self._convened is not None:  # who is away now stays on the roster that was pinned
            known = dict(zip(asked, self._convened.offer.publics, strict=True))
            enrolled = {site: enrolled.get(site, Enrolment(known[site], ())) for site in asked}
        self.absent |= refusals
        without = [site for site in self._terms.committee if len(_prekeys(enrolled, site)) != batch.count]
        if without or len(enrolled) < max(2, self._terms.quorum):
            raise QuorumError(
                f"{len(enrolled)} sites enrolled, the quorum is {self._terms.quorum}; committee sites without "
                f"prekeys: {without}{Replies({}, refusals).why()}"
            )
        sites = tuple(sorted(enrolled))
        prekeys = zip(*(enrolled[site].prekeys for site in self._terms.committee), strict=True)
        offer = Offer(batch, sites, tuple(enrolled[site].public for site in sites), tuple(prekeys))
        return offer, Roster(offer.publics, (enrolled[site].public for site in self._terms.committee))

    def begin(self, round_number: int, model: Model, told: bytes = b"") -> Round:
        """Return a round on this model, in which all sites are told `told` beside it (`task.told_by`).

        Requires: `convene(round_number)` returned.
        """
        if self._convened is None or round_number not in self._convened.offer.batch:
            raise ParameterError(f"convene({round_number}) comes first")
        offer, model = self._convened.offer, require_model(model)
        session = session_of(self._terms, self._convened.roster, offer, round_number, model, told)
        return Round(session, model, offer.sites, tuple(self._terms.committee), self._ask, self.absent)


class Round:
    """One round: contributions come in in any order and from any thread, then `finish` opens the sum."""

    def __init__(
        self,
        session: Session,
        model: Model,
        sites: tuple[str, ...],
        committee: tuple[str, ...],
        ask: Ask,
        absent: Mapping[str, str],
    ) -> None:
        self._session = session
        self._names = frozenset(model)
        self._sites = sites
        self._committee = committee
        self._ask = ask
        self._aggregator = Aggregator(session)
        self._refused = dict(absent)
        self._lock = threading.Lock()

    def admit(self, site: str, payload: object) -> bool:
        """Admit what came from a site; return whether it is in the sum. A refusal is kept under the site's name."""
        if not isinstance(payload, bytes):
            return self.refuse(site, "sent no contribution")
        try:
            self._aggregator.admit(payload)
        except (FaultyClientError, FaultyMemberError) as error:
            return self.refuse(site, error.reason)
        except (EncodingError, ParameterError) as error:
            return self.refuse(site, str(error))
        return True

    def refuse(self, site: str, reason: str) -> bool:
        """Keep why nothing of a site is in the sum; return False."""
        with self._lock:
            self._refused[site] = reason
        return False

    @property
    def refused(self) -> dict[str, str]:
        """Sites refused so far, with the reason."""
        with self._lock:
            return dict(self._refused)

    def finish(self) -> Outcome:
        """Ask the committee and return the outcome.

        Raises: QuorumError, with what sites were refused for, if too few contributed or answered; FaultyMemberError,
        UnattributedFault as `Aggregator.open`.
        """
        plan, silent = self._session.plan, dict[str, str]()
        try:
            if plan.noise_members:
                silent |= self._collect_noise()
            reports = None
            if plan.committee.mode == "robust":
                reports = self._from_members("check", self._aggregator.share_check(), silent)
            request = self._aggregator.close(reports)
            result = self._aggregator.open(self._from_members("respond", request, silent))
        except QuorumError as error:
            raise QuorumError(f"{error}{Replies({}, self.refused | silent).why()}") from error
        except FaultyMemberError as error:
            raise FaultyMemberError(error.member_id, f"{self._committee[error.member_id]}: {error.reason}") from error
        sites = tuple(self._sites[client_id] for client_id in result.clients)
        refused = dict.fromkeys(self._sites, "sent no contribution") | self.refused
        refused |= {self._sites[client_id]: reason for client_id, reason in result.refused.items()}
        return Outcome(
            mean=by_name(self._names, result.mean),
            total_weight=result.total_weight,
            sites=sites,
            refused={site: reason for site, reason in refused.items() if site not in sites},
            faults=silent | {self._committee[member]: reason for member, reason in result.faults.items()},
        )

    def _collect_noise(self) -> dict[str, str]:
        """Admit the members' noise; return the members without, with the reason.

        Raises: QuorumError if too few clients contributed; nobody is asked then.
        """
        self._aggregator.require_clients()
        replies = self._ask("noise", dict.fromkeys(self._committee, b""))
        without = dict(replies.refusals)
        for site, payload in replies.given.items():
            try:
                self._aggregator.admit(payload)
            except (EncodingError, FaultyClientError, FaultyMemberError) as error:
                without[site] = f"its noise: {error}"
        return without

    def _from_members(self, verb: str, request: Request, silent: dict[str, str]) -> list[bytes]:
        """Return what the members who can answer reply; `silent` gains who does not, with the reason."""
        asked = {self._committee[number]: request.for_member(number) for number in self._aggregator.asked}
        replies = self._ask(verb, asked)
        silent |= replies.refusals
        return list(replies.given.values())


def _prekeys(enrolled: Mapping[str, Enrolment], site: str) -> tuple[bytes, ...]:
    return enrolled[site].prekeys if site in enrolled else ()
