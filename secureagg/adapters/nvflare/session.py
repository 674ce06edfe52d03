"""The session of a round, made alike at server and sites from what each of them holds."""

from __future__ import annotations

from secureagg.adapters.nvflare.enrolment import Offer
from secureagg.adapters.nvflare.terms import Model, Terms, tensors
from secureagg.layout import Layout
from secureagg.roster import Roster
from secureagg.session import Session
from secureagg.wire import Writer

__all__ = ["session_of"]


def session_of(terms: Terms, roster: Roster, offer: Offer, round_number: int, model: Model, told: bytes) -> Session:
    """Return the session of a round of the offer's batch that trains `model`, told what `told` says beside it.

    The session's task is the number of tensors (4), their names in order, each with its length (4), then `told`:
    tensors that exchange their names would pass for the same model otherwise. Requires: `require_model(model)` passed.
    """
    values = tensors(model)
    task = Writer().integer(len(model), 4)
    for name in sorted(model):
        task.text(name)
    return Session(
        terms.plan(Layout.of(values), len(offer.sites)),
        roster,
        prekeys=offer.prekeys_of(round_number),
        round_number=offer.batch.base + round_number,
        model=values,
        task=task.raw(told).getvalue(),
    )
