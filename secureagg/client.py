"""The client's one message: checked, clipped, put on the grid, and written as a contribution. It may vanish afterwards.

Who sees plaintext: only this function, on the client's own machine.
"""

from __future__ import annotations

from typing import BinaryIO, overload

import numpy as np

from secureagg.checks import as_whole
from secureagg.contribution import write_contribution
from secureagg.dp.clipping import clip_factor
from secureagg.errors import ParameterError
from secureagg.events import Event, Observer
from secureagg.grid import GridUpdate
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
    out: BinaryIO | None = None,
    observe: Observer | None = None,
) -> bytes | None:
    """Return this client's contribution to a session, or write it to `out`, a seekable binary file.

    update: arrays of the plan's layout (memory-mapped ones are read piece by piece); weight: whole, in
    [1, max_weight]; rounding_rng seeds the stochastic rounding alone: keys and errors always come from the operating
    system. `observe` is told the clip factor and how many coordinates were clamped.

    Raises: ParameterError for an update that does not fit the layout or is not finite, a weight out of range, an
    identity that is not on the roster, or a second contribution of this identity for one roster and round number.
    """
    plan = session.plan
    session.client_id(identity.public)  # refuses one who is not on the roster
    weight = as_whole("weight (at most the plan's max_weight)", weight, 1, plan.max_weight)
    plan.layout.check_shapes(update)
    layout, vector = plan.layout.joined, plan.layout.join(update)
    try:
        clip = clip_factor(layout, vector, plan.l2_clip)
    except ParameterError:
        plan.layout.check_finite(update)  # names the tensor as the caller knows it
        raise
    grid = GridUpdate(plan, layout, vector, clip, weight, rounding_rng)
    buffer = bytearray(plan.bytes_per_client if out is None else 0)
    start = 0 if out is None else out.tell()
    identity.claim(session.roster.digest(), session.round_number)

    def write(offset: int, data: bytes | bytearray) -> None:
        if out is None:
            buffer[offset : offset + len(data)] = data
        else:
            out.seek(start + offset)
            out.write(data)

    write_contribution(session, identity, grid, write, observe=observe)
    if observe is not None:
        observe(Event("clip", 1, 1, clip_factor=clip, clamped=grid.clamped))
    if out is None:
        return bytes(buffer)
    out.seek(start + plan.bytes_per_client)
    return None
