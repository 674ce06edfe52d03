"""Flower's own SecAgg+ functions, called in the order of its `secaggplus_mod` and `SecAggPlusWorkflow` (flwr 1.x).

Only these functions are timed, not Flower's messages and transport. All clients stay, with the neighbours of
`cells.neighbours`, 0.7 of them to reconstruct, the default grid of 2^22 steps and modulus 2^32, and ±1 as the range of
a value, which no coordinate of a clipped update leaves. Bytes are those of the keys, ciphertexts, vectors and shares a
client sends, without Flower's framing. Routing the shares is not timed.

The round is one of the measured clients alone, each with as many neighbours as among all: what a client and the server
do for a client depends on that number only. What the server does for each client to unmask is scaled to all clients.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

from numpy.typing import NDArray

from benchmarks.overhead.cells import Cell, neighbours
from benchmarks.overhead.figures import Figures, Refused, medians, peak_bytes
from benchmarks.overhead.updates import L2_CLIP, Updates, errors, shapes

__all__ = ["serve", "take_part"]

os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}  # read when flwr is imported
try:
    from flwr.common import bytes_to_ndarray, ndarray_to_bytes
    from flwr.common.secure_aggregation import ndarrays_arithmetic as arithmetic
    from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
    from flwr.common.secure_aggregation.crypto.symmetric_encryption import decrypt, encrypt, generate_shared_key
    from flwr.common.secure_aggregation.quantization import dequantize, quantize
    from flwr.common.secure_aggregation.secaggplus_utils import (
        pseudo_rand_gen,
        share_keys_plaintext_concat,
        share_keys_plaintext_separate,
    )
    from flwr.supercore.primitives.asymmetric import (
        bytes_to_private_key,
        bytes_to_public_key,
        generate_key_pairs,
        private_key_to_bytes,
        public_key_to_bytes,
    )
except ImportError as error:
    raise Refused(f"this interpreter has no Flower with SecAgg+ where it is looked for ({error})") from error

STEPS, MODULUS, THRESHOLD = 2**22, 2**32, 0.7
_Vector = list[NDArray[Any]]
_Shares = dict[int, tuple[bytes, bytes]]  # by who they are of: of its mask's seed, of its first private key


@dataclass
class _Client:
    """A client's keys and shares, and what it has spent and sent."""

    number: int
    secrets: tuple[bytes, bytes] = (b"", b"")
    public: tuple[bytes, bytes] = (b"", b"")
    seed: bytes = b""
    shared: dict[int, bytes] = field(default_factory=dict)
    shares: _Shares = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(("prepare", "protect", "share"), 0.0))
    sent: int = 0

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the time of what is done inside."""
        start = time.perf_counter()
        yield
        self.seconds[stage] += time.perf_counter() - start

    def generate_keys(self) -> None:
        (one, public_one), (two, public_two) = generate_key_pairs(), generate_key_pairs()
        self.secrets = private_key_to_bytes(one), private_key_to_bytes(two)
        self.public = public_key_to_bytes(public_one), public_key_to_bytes(public_two)
        self.sent += sum(map(len, self.public))

    def share_keys(self, public: dict[int, tuple[bytes, bytes]]) -> dict[int, bytes]:
        """Return a ciphertext for each neighbour."""
        self.seed = os.urandom(32)
        threshold = max(2, round(THRESHOLD * len(public)))
        of_seed = create_shares(self.seed, threshold, len(public))
        of_key = create_shares(self.secrets[0], threshold, len(public))
        sealed = {}
        for position, (other, (_, key)) in enumerate(public.items()):
            if other == self.number:
                self.shares[other] = of_seed[position], of_key[position]
                continue
            self.shared[other] = generate_shared_key(bytes_to_private_key(self.secrets[1]), bytes_to_public_key(key))
            plain = share_keys_plaintext_concat(self.number, other, of_seed[position], of_key[position])
            sealed[other] = encrypt(self.shared[other], plain)
        self.sent += sum(map(len, sealed.values()))
        return sealed

    def open_shares(self, sealed: dict[int, bytes]) -> None:
        for other, ciphertext in sealed.items():
            _, _, of_seed, of_key = share_keys_plaintext_separate(decrypt(self.shared[other], ciphertext))
            self.shares[other] = of_seed, of_key

    def mask(self, vector: _Vector, public: dict[int, tuple[bytes, bytes]]) -> list[bytes]:
        sizes = arithmetic.get_parameters_shape(vector)
        vector = arithmetic.parameters_addition(vector, pseudo_rand_gen(self.seed, MODULUS, sizes))
        for other, (key, _) in public.items():
            if other == self.number:
                continue
            agreed = generate_shared_key(bytes_to_private_key(self.secrets[0]), bytes_to_public_key(key))
            mask = pseudo_rand_gen(agreed, MODULUS, sizes)
            change = arithmetic.parameters_addition if self.number > other else arithmetic.parameters_subtraction
            vector = change(vector, mask)
        return [bytes(ndarray_to_bytes(tensor)) for tensor in arithmetic.parameters_mod(vector, MODULUS)]


def _prepared(update: _Vector) -> _Vector:
    """Return an update of the largest weight on the grid, after its weight."""
    scaled = arithmetic.parameters_multiply(update, 1.0)
    prepared: _Vector = arithmetic.factor_combine(STEPS, quantize(scaled, L2_CLIP, STEPS))
    return prepared


def take_part(cell: Cell, channel: Connection) -> None:
    """Play all clients: set up, share keys, send masked vectors, give out the shares of everyone's seed."""
    clients = [_Client(number) for number in range(cell.contributions)]
    half = neighbours(cell.clients) >> 1
    near = [sorted({(each + step) % len(clients) for step in range(-half, half + 1)}) for each in range(len(clients))]
    for client in clients:
        with client.timed("share"):
            client.generate_keys()
    public = [{other: clients[other].public for other in of_client} for of_client in near]
    sealed = []
    for client, keys in zip(clients, public, strict=True):
        with client.timed("share"):
            sealed.append(client.share_keys(keys))
    updates = Updates(cell.values)
    for client, keys in zip(clients, public, strict=True):
        given = {other: sealed[other][client.number] for other in keys if other != client.number}
        update = updates.of(client.number)
        with client.timed("share"):
            client.open_shares(given)
        with client.timed("prepare"):
            vector = _prepared(update)
        with client.timed("protect"):
            payload = client.mask(vector, keys)
        del vector
        client.sent += sum(map(len, payload))
        for tensor in payload:
            channel.send_bytes(tensor)
        del payload
        channel.recv()
    peak = peak_bytes()
    of_owner: list[list[bytes]] = [[] for _ in clients]
    for client, keys in zip(clients, public, strict=True):
        with client.timed("share"):
            given_out = {other: client.shares[other][0] for other in keys}
        client.sent += sum(map(len, given_out.values()))
        for other, share in given_out.items():
            of_owner[other].append(share)
    channel.send(([client.seconds for client in clients], max(client.sent for client in clients), peak, of_owner))


def serve(cell: Cell, channel: Connection) -> Figures:
    """Add masked vectors, take the masks off again, and return to the grid's values."""
    total: _Vector = []
    admitted = []
    for _ in range(cell.contributions):
        payload = [channel.recv_bytes() for _ in range(1 + len(shapes(cell.values)))]
        start = time.perf_counter()
        vector = [bytes_to_ndarray(encoded) for encoded in payload]
        total = arithmetic.parameters_addition(total, vector) if total else vector
        admitted.append({"admit": time.perf_counter() - start})
        channel.send(None)
    taken, sent, client_peak, of_owner = channel.recv()
    start = time.perf_counter()
    total = arithmetic.parameters_mod(total, MODULUS)
    sizes = arithmetic.get_parameters_shape(total)
    for shares in of_owner:
        mask = pseudo_rand_gen(combine_shares(shares), MODULUS, sizes)
        total = arithmetic.parameters_subtraction(total, mask)
    unmasked = time.perf_counter() - start
    start = time.perf_counter()
    weight, summed = arithmetic.factor_extract(arithmetic.parameters_mod(total, MODULUS))
    mean = dequantize(summed, L2_CLIP, STEPS)
    for tensor in mean:
        tensor -= (cell.contributions - 1) * L2_CLIP
        tensor *= STEPS / weight
    opened = time.perf_counter() - start
    stages = medians(taken)
    scaled = cell.contributions < cell.clients
    return Figures(
        client=medians([{"all": sum(each.values())} for each in taken])["all"],
        stages=stages | medians(admitted) | {"open": unmasked * cell.clients / cell.contributions + opened},
        upload_bytes=sent,
        client_peak_bytes=client_peak,
        server_peak_bytes=peak_bytes(),
        errors=errors(mean, cell.values, cell.contributions),
        notes=["open: its work for each client scaled to all clients"] if scaled else [],
    )
