"""The client's one message: checked, clipped, rotated, put on the grid, and written as a contribution. The client may
vanish afterwards.

Who sees plaintext: only this function, on the client's own machine.
"""

from __future__ import annotations

from typing import BinaryIO, overload

import numpy as np

from secureagg.checks import as_whole
from secureagg.contribution import write_contribution
from secureagg.dp.ledger import Ledger
from secureagg.errors import ParameterError
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
    (docs/proofs/rounding.md); BudgetExhausted if the ledger cannot afford the round.
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
    start = 0 if out is None else out.tell()
    identity.claim(session.roster.digest(), session.round_number)
    if ledger is not None and event is not None:
        ledger.debit(event, f"round {session.round_number}")

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
