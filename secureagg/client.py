"""The client's one message: checked, clipped, rotated, put on the grid, and written as a contribution. The client may
vanish afterwards.

Who sees plaintext: only this function, on the client's own machine.
"""

from __future__ import annotations

import io
from typing import BinaryIO, overload

import numpy as np

from secureagg.checks import as_whole
from secureagg.contribution import write_contribution
from secureagg.dp.ledger import Ledger
from secureagg.errors import BudgetExhausted, ParameterError
from secureagg.events import Event, Observer
from secureagg.grid import put_on_grid
from secureagg.identity import Identity
from secureagg.layout import Weights
from secureagg.session import Session

__all__ = ["contribute"]


@overload
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = ...,
    *,
    rounding_rng: np.random.Generator | None = ...,
    ledger: Ledger | None = ...,
    out: None = ...,
    observe: Observer | None = ...,
) -> bytes: ...
@overload
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = ...,
    *,
    rounding_rng: np.random.Generator | None = ...,
    ledger: Ledger | None = ...,
    out: BinaryIO,
    observe: Observer | None = ...,
) -> None: ...
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = 1,
    *,
    rounding_rng: np.random.Generator | None = None,
    ledger: Ledger | None = None,
    out: BinaryIO | None = None,
    observe: Observer | None = None,
) -> bytes | None:
    """Return this client's contribution to a session, or write it to `out`, a seekable binary file.

    update: arrays of the plan's layout (memory-mapped ones are read piece by piece); weight: whole, in
    [1, max_weight]; rounding_rng seeds the stochastic rounding alone: keys, errors and noise always come from the
    operating system. ledger: this client's own, which the round is debited from before anything can leave; a plan
    without noise is refused then, as no ledger has room for it, and noise that the aggregator adds in a ledger against
    the aggregator. `observe` is told the clip factor and how many
    coordinates were clamped.

    Raises: ParameterError for an update that does not fit the layout or is not finite, a weight out of range, an
    identity that is not on the roster, a second contribution of this identity for one roster and round number, or a
    seed of the rounding where the plan has noise: privacy counts on rounding that nobody knows
    (docs/proofs/rounding.md); an `out` that cannot be written or sought; BudgetExhausted if the ledger cannot afford
    the round. None of these takes anything. Once writing has begun the identity's turn is over, and the round debited,
    whatever becomes of `out`: what was written may have left.
    """
    plan = session.plan
    event = None
    if ledger is not None:
        event = plan.privacy_event()  # refuses a plan without noise
        ledger.require_kind(event)
    client_id = session.client_id(identity.public)
    if plan.noise is not None and rounding_rng is not None:
        raise ParameterError("rounding_rng with noise: whoever knew its seed would see through the rounding")
    weight = as_whole("weight (at most the plan's max_weight)", weight, 1, plan.max_weight)
    grid = put_on_grid(plan, session.sid, update, weight, rounding_rng)
    buffer = bytearray(plan.bytes_per_client if out is None else 0)
    start = 0 if out is None else _place_in(out)
    note = f"round {session.round_number}"
    if ledger is not None and event is not None and not ledger.affords(event):
        raise BudgetExhausted(f"{note} is more than what is left of {ledger.budget}")
    identity.claim(session.roster.digest(), session.round_number)
    if ledger is not None and event is not None:
        ledger.debit(event, note)

    def write(offset: int, data: bytes | bytearray) -> None:
        if out is None:
            buffer[offset : offset + len(data)] = data
        else:
            out.seek(start + offset)
            out.write(data)

    write_contribution(session, client_id, identity, grid, write, observe=observe)
    if observe is not None:
        observe(Event("clip", 1, 1, clip_factor=grid.clip, clamped=grid.clamped))
    if out is None:
        return bytes(buffer)
    out.seek(start + plan.bytes_per_client)
    return None


def _place_in(out: BinaryIO) -> int:
    """Return where `out` stands. Raises: ParameterError if no contribution can be written there."""
    if (
        isinstance(out, io.TextIOBase)
        or not (out.writable() and out.seekable())
        or "a" in str(getattr(out, "mode", ""))
    ):
        raise ParameterError('out is no binary file that can be written and sought; open it with "w+b"')
    return out.tell()
