"""The server's part before a round: it convenes the sites of a job, and again for each batch of prekeys.

It holds no secret and decides nothing that a site does not check.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from secureagg.adapters.nvflare.enrolment import MAX_BATCH, Batch, Enrolment, Invitation, Offer, require_prekeys
from secureagg.adapters.nvflare.round import Ask, Replies, Round
from secureagg.adapters.nvflare.session import session_of
from secureagg.adapters.nvflare.terms import Model, Terms, require_model
from secureagg.checks import require_whole
from secureagg.errors import EncodingError, FaultyMemberError, ParameterError, QuorumError
from secureagg.identity import KeyChallenge
from secureagg.roster import Roster

__all__ = ["Convener"]


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

        Who enrols with what is not its own, or with another identity than before, is named in `absent` and left out; of
        a later batch it stays on the roster that is pinned. Raises: QuorumError if too few sites or not all of the
        committee enrolled, or too few agreed.
        """
        require_whole("round_number", round_number, 0, 2**20 - 1)
        if self._convened is not None and round_number in self._convened.offer.batch:
            return
        offer, roster = self._enrolled(Batch(self._base, round_number, self._batch))
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
        known: dict[str, bytes] = {}
        if self._convened is not None:
            known = dict(zip(self._convened.offer.sites, self._convened.offer.publics, strict=True))
        challenge = KeyChallenge()
        invitation = Invitation(batch, challenge.public).to_bytes()
        replies = self._ask("enrol", dict.fromkeys(known or self._sites, invitation))
        enrolled: dict[str, Enrolment] = {}
        refusals = dict(replies.refusals)
        for site, reply in sorted(replies.given.items()):
            try:
                enrolled[site] = self._checked(site, reply, batch, challenge, known.get(site))
            except (EncodingError, ParameterError) as error:
                refusals[site] = str(error)
        for site, other in _doubles(enrolled, self._terms.committee).items():
            refusals[site] = f"enrolled with a key of {other}"
            enrolled.pop(site)
        self.absent |= refusals
        without = [site for site in self._terms.committee if site not in enrolled]
        enrolled |= {site: Enrolment(public, (), b"", b"") for site, public in known.items() if site not in enrolled}
        if without or len(enrolled) < max(2, self._terms.quorum):
            raise QuorumError(
                f"{len(enrolled)} sites enrolled, the quorum is {self._terms.quorum}; committee sites without "
                f"prekeys: {without}{Replies({}, refusals).why()}"
            )
        sites = tuple(sorted(enrolled))
        prekeys = zip(*(enrolled[site].prekeys for site in self._terms.committee), strict=True)
        offer = Offer(batch, sites, tuple(enrolled[site].public for site in sites), tuple(prekeys))
        return offer, Roster(offer.publics, (enrolled[site].public for site in self._terms.committee))

    def _checked(
        self, site: str, reply: bytes, batch: Batch, challenge: KeyChallenge, known: bytes | None
    ) -> Enrolment:
        """Return a site's enrolment. Raises: EncodingError, ParameterError if it is not its own, or another's."""
        enrolment = Enrolment.from_bytes(reply)
        enrolment.require_of(site, batch, challenge)
        if known is not None and enrolment.public != known:
            raise ParameterError("enrolled with another identity than before in this job")
        if site in self._terms.committee:
            require_prekeys(enrolment.prekeys, enrolment.public, batch)
        return enrolment

    def begin(self, round_number: int, model: Model, told: bytes = b"") -> Round:
        """Return a round on this model, in which all sites are told `told` beside it (`task.told_by`).

        Requires: `convene(round_number)` returned.
        """
        if self._convened is None or round_number not in self._convened.offer.batch:
            raise ParameterError(f"convene({round_number}) comes first")
        offer, model = self._convened.offer, require_model(model)
        committee = tuple(self._terms.committee)
        try:
            session = session_of(self._terms, self._convened.roster, offer, round_number, model, told)
        except FaultyMemberError as error:
            raise FaultyMemberError(error.member_id, f"{committee[error.member_id]}: {error.reason}") from error
        return Round(session, model, offer.sites, committee, self._ask, self.absent)


def _doubles(enrolled: Mapping[str, Enrolment], committee: Sequence[str]) -> dict[str, str]:
    """Return the sites that enrolled with a key of another's, with that other; no roster can hold both.

    Each has shown that it holds its keys, so two such sites share a secret. Committee sites come first, as the job
    needs them, then it goes by name.
    """
    owners: dict[bytes, str] = {}
    doubles: dict[str, str] = {}
    for site in sorted(enrolled, key=lambda name: (name not in committee, name)):
        public = enrolled[site].public
        for half in (public[:32], public[32:]):
            if owners.setdefault(half, site) != site:
                doubles[site] = owners[half]
    return doubles
