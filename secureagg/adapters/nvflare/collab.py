"""Private sums by NVFlare's collab API: a site publishes what a round needs, the server calls it.

class Trainer(PrivateSite):
    terms = TERMS

    def train(self, model, round_number):  # not published: what it returns stays at the site
        …
        return update, examples

class Server:
    @collab.main
    def run(self):
        private = PrivateSum(TERMS)
        for round_number in range(3):
            outcome = private.round(round_number, model)
            model = {name: model[name] + outcome.mean[name] for name in model}
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
from nvflare.collab import CollabCallError, collab

from secureagg.adapters.nvflare.convener import Convener
from secureagg.adapters.nvflare.home import Home
from secureagg.adapters.nvflare.round import Outcome, Replies, Round
from secureagg.adapters.nvflare.site import Site
from secureagg.adapters.nvflare.terms import Model, Terms
from secureagg.errors import ParameterError

__all__ = ["PrivateSite", "PrivateSum"]


class PrivateSite(ABC):
    """A collab client whose updates are only ever summed. Subclasses set `terms` and write `train`."""

    terms: ClassVar[Terms]
    _site: Site | None = None

    @abstractmethod
    def train(self, model: Model, round_number: int) -> tuple[Model, int]:
        """Return this site's update, the difference to `model`, and its weight (1 unless `terms.max_weight` is more).

        Not published, so that no server can ask for it.
        """

    def rounding(self, site: str, round_number: int) -> np.random.Generator | None:
        """Return what seeds the rounding alone; None, and the operating system does. For tests to override."""
        return None

    @collab.init  # type: ignore[untyped-decorator]
    def join(self) -> None:
        """Take part in the job, with the identity and the roster of this site's workspace."""
        home = Home(collab.workspace.get_root_dir(), collab.site_name)
        self._site = Site(home, self.terms, collab.fl_ctx.get_job_id())

    @collab.final  # type: ignore[untyped-decorator]
    def leave(self) -> None:
        """Erase what prekeys are left."""
        if self._site is not None:
            self._site.end()

    @collab.publish  # type: ignore[untyped-decorator]
    def contribute(self, round_number: int, model: dict[str, Any]) -> bytes:
        """Train on `model` and return the contribution to the round."""
        site = self._asked()
        begun = site.begin(round_number, {name: np.array(tensor) for name, tensor in model.items()})
        update, weight = self.train(model, round_number)
        return site.contribute(begun, update, weight, self.rounding(site.name, round_number))

    @collab.publish  # type: ignore[untyped-decorator]
    def serve(self, verb: str, message: bytes) -> bytes:
        """Answer the server: enrolment and, on the committee, share checks and answers."""
        return self._asked().serve(verb, message)

    def _asked(self) -> Site:
        if collab.caller != "server":  # what is published, every client of the job may call
            raise ParameterError("only the server asks for this")
        if self._site is None:
            raise ParameterError("the job has not started at this site")
        return self._site


class PrivateSum:
    """Runs rounds from within a collab server's own functions, over all clients of the job.

    timeout: seconds that training and sending may take; a site that takes longer is left out of the round.
    exchange_timeout: the same for enrolment and the committee's answers. batch: rounds whose prekeys are collected at
    once.
    """

    def __init__(
        self, terms: Terms, *, timeout: float = 600.0, exchange_timeout: float = 60.0, batch: int = 16
    ) -> None:
        self._terms = terms
        self._timeout = timeout
        self._exchange_timeout = exchange_timeout
        self._batch = batch
        self._convener: Convener | None = None

    def round(self, round_number: int, model: Model, sites: Sequence[str] | None = None) -> Outcome:
        """Have `sites` (all, unless given) train on the model, and return the mean of their updates.

        Committee sites that are not among `sites` are away in this round. Raises: as `Convener.convene` and
        `Round.finish`.
        """
        if self._convener is None:
            everyone = [client.name for client in collab.clients]
            self._convener = Convener(self._terms, everyone, self._ask, batch=self._batch)
        self._convener.convene(round_number)
        current = self._convener.begin(round_number, model)
        chosen = collab.clients if sites is None else collab.get_clients(list(sites))
        called = chosen(timeout=self._timeout, process_resp_cb=_admit, current=current)
        results = called.contribute(round_number, dict(model))
        for site, error in results.failures.items():
            current.refuse(site, str(error.cause))
        return current.finish()

    def _ask(self, verb: str, messages: Mapping[str, bytes]) -> Replies:
        given: dict[str, bytes] = {}
        refusals: dict[str, str] = {}

        def call(proxy: Any) -> None:
            try:
                given[proxy.name] = proxy(timeout=self._exchange_timeout).serve(verb, messages[proxy.name])
            except CollabCallError as error:
                refusals[proxy.name] = str(error.cause)

        with ThreadPoolExecutor(max_workers=len(messages)) as threads:
            list(threads.map(call, collab.get_clients(list(messages))))
        return Replies(given, refusals)


def _admit(call: Any, payload: object, current: Round) -> None:
    """Admit a contribution as soon as it is there, and keep nothing of it."""
    current.admit(call.target_name.split(".", 1)[0], payload)
