"""Sites and server of a job in one process, with nothing of NVFlare between them; bytes cross as they would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secureagg.adapters.nvflare import Home, Terms, write_roster
from secureagg.adapters.nvflare.convener import Convener
from secureagg.adapters.nvflare.round import Outcome, Replies, Round
from secureagg.adapters.nvflare.site import Site
from secureagg.errors import SecureAggError
from tests.adapters import common
from tests.adapters.nvflare.names import client_of, named

__all__ = ["Job", "terms_of"]

SITES = tuple(f"site-{n + 1}" for n in range(common.CLIENTS))


def terms_of(**changes: Any) -> Terms:
    """Return the terms by which a job comes to `common.plan_of()`."""
    settings: dict[str, Any] = {
        "committee": SITES[: common.COMMITTEE],
        "quorum": common.QUORUM,
        "l2_clip": common.L2_CLIP,
        "value_bits": common.VALUE_BITS,
        "max_weight": common.MAX_WEIGHT,
        "roster": "collected",
    }
    return Terms(**(settings | changes))


@dataclass
class Job:
    """A job: its sites by name, each with a workspace of its own under `root`, and the server's convener.

    away: sites that say nothing. `asked` lists the verbs of all exchanges; `between` may change a message on its way.
    """

    root: Path
    terms: Terms
    name: str = "job"
    batch: int = 16
    away: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)
    between: Callable[[str, str, bytes], bytes] = lambda verb, site, message: message
    sites: dict[str, Site] = field(init=False)
    convener: Convener = field(init=False)

    def __post_init__(self) -> None:
        self.sites = {site: Site(self.home(site), self.terms, self.name) for site in SITES}
        self.convener = Convener(self.terms, SITES, self.ask, batch=self.batch)

    def home(self, site: str) -> Home:
        return Home(self.root / site, site)

    def pin(self, sites: tuple[str, ...] = SITES) -> None:
        """Provision the roster of these sites to every site."""
        publics = {site: self.home(site).identity().public for site in sites}
        for site in SITES:
            write_roster(self.root / site, publics)

    def ask(self, verb: str, messages: Mapping[str, bytes]) -> Replies:
        self.asked.append(verb)
        given: dict[str, bytes] = {}
        refusals: dict[str, str] = {}
        for site, message in messages.items():
            if site in self.away:
                refusals[site] = "no reply"
                continue
            try:
                given[site] = self.sites[site].serve(verb, self.between(verb, site, message))
            except SecureAggError as error:
                refusals[site] = str(error)
        return Replies(given, refusals)

    def contribution(self, site: str, round_number: int) -> bytes:
        """Return what a site sends after training on the model of `common`."""
        client = client_of(site)
        begun = self.sites[site].begin(round_number, named(common.MODEL))
        update = named(common.update_of(client, round_number))
        if self.terms.noise is not None:  # weights are uniform then, and rounding nobody's to know
            return self.sites[site].contribute(begun, update)
        return self.sites[site].contribute(
            begun, update, common.WEIGHTS[client], common.rounding_of(client, round_number)
        )

    def begin(self, round_number: int) -> Round:
        self.convener.convene(round_number)
        return self.convener.begin(round_number, named(common.MODEL))

    def round(self, round_number: int = 1) -> Outcome:
        """Return the outcome of a round in which all that are not away contribute."""
        return self.round_of([site for site in SITES if site not in self.away], round_number)

    def round_of(self, sites: Sequence[str], round_number: int = 1) -> Outcome:
        """Return the outcome of a round in which these contribute."""
        current = self.begin(round_number)
        for site in sites:
            current.admit(site, self.contribution(site, round_number))
        return current.finish()
