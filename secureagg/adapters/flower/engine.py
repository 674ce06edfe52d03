"""Flower's names that the adapter uses, or an error that says what to install."""

from __future__ import annotations

from secureagg.errors import MissingExtraError

try:
    from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
    from flwr.common.constant import ErrorCode
    from flwr.serverapp import Grid, strategy
except ModuleNotFoundError as error:
    if error.name is None or error.name.partition(".")[0] != "flwr":
        raise  # flwr is there but one of its own imports is not: not ours to explain
    raise MissingExtraError("flwr 1.41 or newer", "flower") from error

__all__ = [
    "Array",
    "ArrayRecord",
    "ConfigRecord",
    "Context",
    "Error",
    "ErrorCode",
    "Grid",
    "Message",
    "MetricRecord",
    "RecordDict",
    "strategy",
]
