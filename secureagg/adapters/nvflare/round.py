"""One round at the server: contributions are admitted as they come, then the committee is asked and the sum opened.

It holds no secret and decides nothing that a site does not check. How messages reach sites is the caller's: `Ask`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.adapters.nvflare.terms import Model, by_name
from secureagg.aggregator import Aggregator
from secureagg.checks import printable
from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    ParameterError,
    QuorumError,
)
from secureagg.exchange import Request
from secureagg.session import Session

__all__ = ["Ask", "Outcome", "Replies", "Round"]


@dataclass(frozen=True)
class Replies:
    """What sites replied, and why the others did not."""

    given: Mapping[str, bytes]
    refusals: Mapping[str, str]

    def __post_init__(self) -> None:
        """Escape what a terminal would act on: a site's words end up in the server's log."""
        object.__setattr__(self, "refusals", {site: printable(reason) for site, reason in self.refusals.items()})

    def why(self) -> str:
        """Return the refusals as the end of a sentence, empty if there are none."""
        return "".join(f"; {site}: {reason}" for site, reason in sorted(self.refusals.items()))


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
            self._refused[site] = printable(reason)
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
