"""The plain mean: float32 bytes into a float64 sum."""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.overhead.cells import Cell
from benchmarks.overhead.figures import Figures, medians, peak_bytes
from benchmarks.overhead.updates import Updates, errors, shapes

__all__ = ["serve", "take_part"]


def take_part(cell: Cell, channel: Connection) -> None:
    """Send each client's update."""
    updates, taken = Updates(cell.values), []
    for client in range(cell.contributions):
        update = updates.of(client)
        start = time.perf_counter()
        payload = b"".join(tensor.tobytes() for tensor in update)
        taken.append({"protect": time.perf_counter() - start})
        channel.send_bytes(payload)
        channel.recv()
    channel.send((taken, peak_bytes()))


def serve(cell: Cell, channel: Connection) -> Figures:
    """Sum what arrives."""
    total, admitted, sent = np.zeros(cell.values), [], 0
    for _ in range(cell.contributions):
        payload = channel.recv_bytes()
        start = time.perf_counter()
        total += np.frombuffer(payload, dtype=np.float32)
        admitted.append({"admit": time.perf_counter() - start})
        sent = len(payload)
        channel.send(None)
    taken, client_peak = channel.recv()
    start = time.perf_counter()
    mean = np.split((total / cell.contributions).astype(np.float32), np.cumsum(shapes(cell.values))[:-1])
    opened = time.perf_counter() - start
    stages = medians(taken)
    return Figures(
        client=sum(stages.values()),
        stages=stages | medians(admitted) | {"open": opened},
        upload_bytes=sent,
        client_peak_bytes=client_peak,
        server_peak_bytes=peak_bytes(),
        errors=errors(mean, cell.values, cell.contributions),
    )
