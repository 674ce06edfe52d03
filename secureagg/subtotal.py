"""The sum of some stored contributions, each verified first: what can be worked out elsewhere and merged into a round.

Public: no secret passes here. A file is read once, so what is verified is what is summed, and the digests say which
bytes that was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from secureagg.errors import EncodingError, FaultyClientError, FaultyMemberError
from secureagg.he.total import Total
from secureagg.payload import ContributionView
from secureagg.session import Session
from secureagg.verification import (
    Verdict,
    judged,
    read_contribution,
    verify_digests,
    verify_header,
    verify_parts,
    view_of,
)

__all__ = ["Subtotal", "is_the_verified", "repeated", "subtotal"]


@dataclass(frozen=True)
class Subtotal:
    """What became of some contributions.

    verdicts: one for each, in order. digests: by contributor in the sum, that of its dealing, which fixes every byte.
    frames: Σc of those, packed.
    """

    verdicts: tuple[Verdict, ...]
    digests: Mapping[int, bytes]
    frames: tuple[bytes, ...]


def subtotal(session: Session, paths: Sequence[str | os.PathLike[str]]) -> Subtotal:
    """Verify stored contributions as `Aggregator.admit` would in this order, and sum the right ones.

    One is in memory at a time. Raises: ParameterError if a file cannot be read.
    """
    frames, digests = range(len(session.plan.packing.frames)), dict[int, bytes]()
    total = Total(session.plan.packing)

    def take(path: str | os.PathLike[str]) -> int:
        view = view_of(session, read_contribution(session, path))
        header = verify_header(session, view)
        if header.client_id in digests:
            raise repeated(session, header.client_id)
        verify_parts(session, view, header)
        for index in frames:
            total.add(index, view.frame(index))
        digests[header.client_id] = header.dealing().digest(session.sid)
        return header.client_id

    verdicts = tuple([judged(session, partial(take, path)) for path in paths])
    return Subtotal(verdicts, digests, tuple([total.frame(index) for index in frames]))


def is_the_verified(session: Session, client_id: int, view: ContributionView, found: Subtotal) -> bool:
    """Return whether a stored contribution has the very bytes that a subtotal counts for this client."""
    try:
        header = verify_header(session, view)
        verify_digests(session, view, header)
    except (EncodingError, FaultyClientError, FaultyMemberError):
        return False
    return header.dealing().digest(session.sid) == found.digests[client_id]


def repeated(session: Session, contributor: int) -> FaultyClientError | FaultyMemberError:
    """Return the error that refuses a second contribution."""
    who = "client" if contributor < session.plan.clients else "member"
    return session.fault(contributor, f"a contribution of this {who} is already admitted")
