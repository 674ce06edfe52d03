"""What a round asks of an aggregation, and the aggregation in the clear that every private one is held against."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fl_core.errors import FederationError, ParameterError, Refused
from fl_core.register import Register

__all__ = ["Aggregate", "Aggregation", "Beside", "PlainMean", "Round", "Weights"]

Weights = list[NDArray[Any]]
"""A model's weights, or an update of them: one float array a layer variable, in the model's own order."""


@dataclass(frozen=True)
class Aggregate:
    """What a finished round reveals.

    `mean` has the model's shapes and dtypes. `clients` are those in it, ascending; `refused` gives the reason of
    each client that sent something and is not in it. `bytes_up` counts all that a client sent, admitted or
    not; `seconds` is the aggregation's own account of its time, by its own stages.
    """

    mean: Weights
    clients: tuple[int, ...]
    refused: dict[int, str]
    bytes_up: dict[int, int]
    seconds: dict[str, float]


class Round(Protocol):
    """One round in progress. In a simulation it plays both sides: `contribute` is the client's, the rest not."""

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        """What the client sends. Raises: Refused if its update cannot be expressed."""

    def admit(self, client: int, payload: bytes) -> None:
        """Takes the payload into the sum. Raises: Refused, leaving the sum as it was."""

    def finish(self) -> Aggregate:
        """The weighted mean of the admitted updates. Raises: NoContributionsError if there are none."""


class Aggregation(Protocol):
    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> Round:
        """A round over the clients of `cohort`, for updates with the shapes and dtypes of `model`."""


class PlainMean:
    """The weighted mean in the clear: the test oracle, exact to float64 accumulation and one final rounding.

    Payload, little-endian: version u8 = 1 · weight f64 · layers u32 · per layer (dtype u8, one of `e f d` ·
    dimensions u8 · each as u32) · the layers' values in C order. Nothing follows.

    | contribution                                      | outcome                            |
    |---------------------------------------------------|------------------------------------|
    | shape, dtype, version or length not the model's   | Refused, naming the layer          |
    | NaN or ±inf in a layer, or a sum past float64     | Refused, naming the layer          |
    | weight NaN, inf, zero or negative                 | Refused                            |
    | a second one of an admitted client                | Refused; the first one stays       |
    | empty layer (a dimension of 0)                    | admitted; its mean is empty        |
    """

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> "PlainRound":
        for index, layer in enumerate(model):
            if layer.dtype.char not in _DTYPES:
                raise ParameterError(f"layer {index}: dtype {layer.dtype}; only float16, 32 and 64 are aggregated")
        return PlainRound(round_number, model, cohort)


class PlainRound:
    """A `Round` of `PlainMean`."""

    def __init__(self, round_number: int, model: Weights, cohort: Sequence[int]) -> None:
        self._model = [np.empty_like(layer) for layer in model]
        self._sums = [np.zeros(layer.shape, np.float64) for layer in model]
        self._total_weight = 0.0
        self._register = Register(round_number, cohort)

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        with self._register.contributing():
            for index, layer in enumerate(update):
                if layer.dtype.char not in _DTYPES:
                    raise Refused(client, f"layer {index}: dtype {layer.dtype} is not float16, 32 or 64")
            header = _HEAD.pack(_VERSION, weight, len(update)) + b"".join(map(_description, update))
            return header + b"".join(layer.astype(_wire(layer.dtype)).tobytes() for layer in update)

    def admit(self, client: int, payload: bytes) -> None:
        with self._register.admitting(client, payload):
            self._add(client, payload)

    def finish(self) -> Aggregate:
        with self._register.finishing():
            mean = [
                (total / self._total_weight).astype(layer.dtype)
                for total, layer in zip(self._sums, self._model, strict=True)
            ]
        register = self._register
        return Aggregate(mean, tuple(sorted(register.admitted)), register.refused, register.bytes_up, register.seconds)

    def _add(self, client: int, payload: bytes) -> None:
        weight, update = _decode(client, payload, self._model)
        total_weight = self._total_weight + weight
        if not (weight > 0 and math.isfinite(total_weight)):
            raise Refused(client, "weight must be finite and > 0, as must the sum of weights")
        with np.errstate(over="ignore"):
            sums = [
                total + np.multiply(layer, weight, dtype=np.float64)
                for total, layer in zip(self._sums, update, strict=True)
            ]
        for index, (layer, total) in enumerate(zip(update, sums, strict=True)):
            if not np.isfinite(layer).all():
                raise Refused(client, f"layer {index}: NaN or inf")
            if not np.isfinite(total).all():
                raise Refused(client, f"layer {index}: the weighted sum leaves float64")
        self._sums, self._total_weight = sums, total_weight


class Beside:
    """Runs a private aggregation and, on the same updates, an oracle; the result is the private one.

    `deviation` maps each finished round to the largest absolute difference of the two means over the clients
    the private one counted. The oracle is silent otherwise: it sends nothing and refuses nobody. Its work falls
    into `contribute` and `finish`, so measure a private aggregation's time without it.
    """

    def __init__(self, private: Aggregation, oracle: Aggregation) -> None:
        self.private = private
        self.oracle = oracle
        self.deviation: dict[int, float] = {}

    def begin(self, round_number: int, model: Weights, cohort: Sequence[int]) -> "BesideRound":
        return BesideRound(self, round_number, model, cohort)


class BesideRound:
    """A `Round` of `Beside`; it keeps the oracle's payloads until `finish`, when it is known who counts."""

    def __init__(self, beside: Beside, round_number: int, model: Weights, cohort: Sequence[int]) -> None:
        self._deviation = beside.deviation
        self._round_number = round_number
        self._private = beside.private.begin(round_number, model, cohort)
        self._oracle = beside.oracle.begin(round_number, model, cohort)
        self._oracle_payloads: dict[int, bytes] = {}

    def contribute(self, client: int, update: Weights, weight: float) -> bytes:
        payload = self._private.contribute(client, update, weight)
        self._oracle_payloads[client] = self._oracle.contribute(client, update, weight)
        return payload

    def admit(self, client: int, payload: bytes) -> None:
        self._private.admit(client, payload)

    def finish(self) -> Aggregate:
        aggregate = self._private.finish()
        for client in aggregate.clients:
            if client not in self._oracle_payloads:
                raise FederationError(f"client {client} was admitted without contributing through this round")
            try:
                self._oracle.admit(client, self._oracle_payloads[client])
            except Refused as refusal:
                raise FederationError(f"admitted by the private round alone: {refusal}") from refusal
        pairs = zip(aggregate.mean, self._oracle.finish().mean, strict=True)
        gaps = [np.abs(np.subtract(a, b, dtype=np.float64)).max(initial=0.0) for a, b in pairs]
        self._deviation[self._round_number] = float(np.max(gaps, initial=0.0))  # unlike max(), lets a NaN through
        return aggregate


_VERSION = 1
_HEAD = struct.Struct("<BdI")
_DTYPES = frozenset("efd")  # numpy's codes of float16, float32, float64


def _wire(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("<")


def _description(layer: NDArray[Any]) -> bytes:
    return struct.pack(f"<BB{layer.ndim}I", ord(layer.dtype.char), layer.ndim, *layer.shape)


def _decode(client: int, payload: bytes, model: Weights) -> tuple[float, Weights]:
    """The weight and update of a payload whose every layer is described as the model's is.

    The expected description is compared, not the received one parsed, so no number a client sent sizes anything.
    Raises: Refused.
    """
    if len(payload) < _HEAD.size:
        raise Refused(client, f"payload_bytes={len(payload)}, its head alone has {_HEAD.size}")
    version, weight, layers = _HEAD.unpack_from(payload)
    if version != _VERSION:
        raise Refused(client, f"payload version {version}, this is version {_VERSION}")
    if layers != len(model):
        raise Refused(client, f"layers={layers}, the model has {len(model)}")
    offset = _HEAD.size
    for index, layer in enumerate(model):
        expected = _description(layer)
        if payload[offset : offset + len(expected)] != expected:
            raise Refused(client, f"layer {index}: not of the model's shape {layer.shape} and dtype {layer.dtype}")
        offset += len(expected)
    expected_bytes = offset + sum(layer.nbytes for layer in model)
    if len(payload) != expected_bytes:
        raise Refused(client, f"payload_bytes={len(payload)}, expected {expected_bytes}")
    update: Weights = []
    for layer in model:
        update.append(np.ndarray(layer.shape, _wire(layer.dtype), payload, offset))
        offset += layer.nbytes
    return weight, update
