"""From the sum's grid values to the mean: noise where the aggregator is the one to add it, the grid's unit, and the
rotation undone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.rotation import Rotation
from secureagg.errors import ParameterError, UnattributedFault
from secureagg.he.reconstruct import Decoder
from secureagg.he.total import Total
from secureagg.layout import Assembly, Layout
from secureagg.plan import RoundPlan
from secureagg.ring import workers
from secureagg.ring.xof import SecretStream
from secureagg.session import Session

__all__ = ["Mean", "decode"]

_Tensors = list[NDArray[np.floating[Any]]]


class Mean:
    """The mean of one sum, written range by range: max_weight · Σv / (scale · Σw).

    sid: the session's id; clients: how many are in the sum; total_weight: Σw. noise: where the words of the
    aggregator's noise come from if not the operating system, as in audits.
    """

    def __init__(
        self, plan: RoundPlan, sid: bytes, clients: int, total_weight: int, noise: SecretStream | None = None
    ) -> None:
        self._plan, self._sid, self._stream = plan, sid, noise
        self._factor = plan.max_weight / (plan.quantiser.scale * total_weight)
        self._limit = plan.coordinate_limit(clients)
        self._central = plan.noise if plan.noise is not None and plan.noise.noise_by == "aggregator" else None
        self._assembly = Assembly(Layout(((plan.layout.size,),), ("float64",)) if plan.rotate else plan.layout)

    def write(self, values: NDArray[np.int64], first: int) -> None:
        """Write the sum's coordinates [first, first + len(values)); ranges may be written by several threads at once.

        Write each once: noise is drawn here. Raises: UnattributedFault for a coordinate beyond what the plan allows, or
        a mean beyond its tensor's dtype, which honest clients' is not (`RoundPlan`).
        """
        if max(int(values.max()), -int(values.min())) > self._limit:
            raise UnattributedFault(f"a coordinate of the sum is beyond {self._limit}; nothing was decoded")
        if self._central is not None:
            values = values + self._central.draw(values.size, self._stream)
        with _fitting():
            self._assembly.write(values * self._factor, first)

    def tensors(self) -> _Tensors:
        """Return views of what is written, now or later; `finished` makes the mean of them."""
        return self._assembly.tensors()

    def finished(self, tensors: _Tensors) -> _Tensors:
        """Return the mean in the layout's shapes and dtypes. Requires: all is written."""
        if not self._plan.rotate:
            return tensors
        layout = self._plan.layout
        with _fitting():
            return layout.unflatten(Rotation(layout.size, self._sid).undo(tensors[0]))


@contextmanager
def _fitting() -> Iterator[None]:
    try:
        yield
    except ParameterError as error:
        raise UnattributedFault(f"the mean is beyond what honest clients' can be: {error}") from error


def decode(session: Session, decoder: Decoder, total: Total, clients: int) -> tuple[_Tensors, int]:
    """Return the mean and Σw of the sum over so many clients.

    Raises: UnattributedFault if any part of the sum is outside what the plan allows.
    """
    plan = session.plan
    total_weight = int(decoder.values(total, plan.packing.weight_frame)[-1])
    least, most = plan.weight_limits(clients)
    if not least <= total_weight <= most:
        raise UnattributedFault(
            f"the sum of the weights is outside [{least}, {most}]; a client lied about its weight and cannot be "
            "named, or the key sum is wrong. Nothing was decoded"
        )
    if plan.proofs and plan.max_weight == 1:
        total_weight = clients  # proven of each client; errors may have steered what was decoded
    mean = Mean(plan, session.sid, clients, total_weight)

    def decode_frame(index: int) -> None:
        values = decoder.values(total, index)
        first, _ = plan.packing.frame_coordinates(plan.packing.frames[index])
        values = values[: max(0, plan.layout.size - first)]
        if values.size:
            mean.write(values, first)

    frames = len(plan.packing.frames)
    tensors: _Tensors = []

    def work(start: int, stop: int) -> None:
        for index in range(start, stop):
            if index < frames:
                decode_frame(index)
            else:  # views of what is decoded: a piece of work of its own, for the thread that is done first
                tensors.extend(mean.tensors())

    workers.run(work, frames + 1)
    decoder.verify_residuals()
    return mean.finished(tensors), total_weight
