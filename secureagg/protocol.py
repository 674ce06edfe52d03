"""The whole round on one page: what each party does, in order, with everyone in one process.

A host system runs the same calls with its own transport between them; only bytes cross.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from secureagg.aggregator import Aggregator, Result
from secureagg.client import contribute
from secureagg.committee import CommitteeMember
from secureagg.dp.ledger import Ledger
from secureagg.errors import FaultyClientError
from secureagg.identity import Identity
from secureagg.layout import Weights
from secureagg.session import Session

__all__ = ["Participant", "open_sum", "run_round"]


@dataclass(frozen=True)
class Participant:
    """A client that takes part: its identity, its update and its weight."""

    identity: Identity
    update: Weights = field(repr=False)
    weight: int = field(default=1, repr=False)


def run_round(
    session: Session,
    participants: Iterable[Participant],
    members: Sequence[CommitteeMember],
    *,
    spool: str | os.PathLike[str] | None = None,
    ledger: Ledger | None = None,
    rounding_rng: np.random.Generator | None = None,
) -> Result:
    """Return the result of one round. Clients and members that are not given are absent. ledger: the aggregator's.

    Raises: QuorumError if too few clients or members take part; otherwise as the calls below.
    """
    aggregator = Aggregator(session, spool=spool, ledger=ledger)
    if session.plan.noise_members:
        for member in members:
            aggregator.admit(member.add_noise(session))
    refused: dict[int, str] = {}
    for each in participants:
        payload = contribute(session, each.identity, each.update, each.weight, rounding_rng=rounding_rng)
        try:
            aggregator.admit(payload)
        except FaultyClientError as error:
            refused[error.client_id] = error.reason
    result = open_sum(aggregator, session, members)
    refused = {client_id: reason for client_id, reason in refused.items() if client_id not in result.clients}
    return replace(result, refused={**refused, **result.refused})


def open_sum(aggregator: Aggregator, session: Session, members: Sequence[CommitteeMember]) -> Result:
    """Return what these members open of all that was admitted: share check where the committee is robust, and answers.

    Raises: as `Aggregator.close`, `CommitteeMember.respond` and `Aggregator.open`.
    """
    reports = None
    if session.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in members]
    request = aggregator.close(reports)
    asked = [member for member in members if session.member_id(member.public) in aggregator.asked]
    return aggregator.open([member.respond(session, request) for member in asked])
