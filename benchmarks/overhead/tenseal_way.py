"""TenSEAL as NVFlare uses it: `benchmarks/tenseal_baseline.py` says how, with the lines it follows.

Contexts are left out, in bytes and seconds: they are NVFlare's on the wire, but not CKKS's.
"""

from __future__ import annotations

import time
from multiprocessing.connection import Connection

import numpy as np

from benchmarks.overhead.cells import Cell
from benchmarks.overhead.figures import Figures, Refused, medians, peak_bytes
from benchmarks.overhead.updates import Updates, errors, shapes

__all__ = ["serve", "take_part"]


def take_part(cell: Cell, channel: Connection) -> None:
    """Send each client's encrypted tensors, then decrypt the mean as one of the clients, who all hold the key."""
    import tenseal as ts

    from benchmarks.tenseal_baseline import contexts

    client_context, server_context = contexts()
    channel.send_bytes(server_context.serialize(save_relin_keys=True))
    updates, taken = Updates(cell.values), []
    for client in range(cell.contributions):
        update = updates.of(client)
        start = time.perf_counter()
        payload = [ts.ckks_vector(client_context, tensor).serialize() for tensor in update]
        taken.append({"protect": time.perf_counter() - start})
        for tensor in payload:
            channel.send_bytes(tensor)
        del payload
        channel.recv()
    channel.send((taken, peak_bytes()))
    seconds = 0.0
    for _ in shapes(cell.values):
        answer = channel.recv_bytes()
        start = time.perf_counter()
        mean = np.array(ts.ckks_vector_from(client_context, answer).decrypt(), dtype=np.float32)
        seconds += time.perf_counter() - start
        channel.send_bytes(mean.tobytes())
    channel.send(seconds)


def serve(cell: Cell, channel: Connection) -> Figures:
    """Add the ciphertexts, and give the scaled sum to be decrypted."""
    try:
        import tenseal as ts
    except ImportError as error:
        raise Refused("TenSEAL is not installed; pip install 'secureagg[tenseal]'") from error

    context = ts.context_from(channel.recv_bytes())
    total: list[ts.CKKSVector] = []
    admitted, sent = [], 0
    for _ in range(cell.contributions):
        seconds, sent = 0.0, 0
        for number in range(len(shapes(cell.values))):  # a tensor at a time, as memory is scarce
            encoded = channel.recv_bytes()
            sent += len(encoded)
            start = time.perf_counter()
            vector = ts.ckks_vector_from(context, encoded)
            if number == len(total):
                total.append(vector)
            else:
                total[number] = total[number] + vector
            seconds += time.perf_counter() - start
        admitted.append({"admit": seconds})
        channel.send(None)
    taken, client_peak = channel.recv()
    opened, mean = 0.0, []
    for tensor in total:
        start = time.perf_counter()
        answer = (tensor * (1 / cell.contributions)).serialize()
        opened += time.perf_counter() - start
        channel.send_bytes(answer)
        mean.append(np.frombuffer(channel.recv_bytes(), dtype=np.float32))
    stages = medians(taken)
    return Figures(
        client=sum(stages.values()),
        stages=stages | medians(admitted) | {"open": opened, "respond": channel.recv()},
        upload_bytes=sent,
        client_peak_bytes=client_peak,
        server_peak_bytes=peak_bytes(),
        errors=errors(mean, cell.values, cell.contributions),
    )
