"""What the adapter puts into Flower's messages, and takes out: a marker record, and bytes in chunks of their own.

Every phase travels as a message of the strategy's own type, such as `train`, whose content has the record MARKER;
nothing needs to be registered for it. Bytes that may be long are an ArrayRecord, which Flower moves in chunks.
"""

from __future__ import annotations

from secureagg.adapters.flower.engine import Array, ArrayRecord, ConfigRecord, Error, ErrorCode, Message, RecordDict
from secureagg.checks import printable
from secureagg.errors import EncodingError, ParameterError
from secureagg.wire import Writer

__all__ = [
    "CHECK",
    "CONTRIBUTE",
    "MARKER",
    "MAX_PREKEYS",
    "NOISE",
    "REVEAL",
    "SETUP",
    "attached",
    "enrolment_of",
    "is_request_for_parameters",
    "is_train",
    "marked",
    "number_in",
    "part_in",
    "parts_in",
    "payload_in",
    "phase_of",
    "refusal",
    "stripped",
    "the_arrays",
    "the_metrics",
]

MARKER = "secureagg"
_BYTES = "secureagg-bytes"
_STYPE = "secureagg"
_PREFIX = "secureagg: "
MAX_PREKEYS = 4096  # in one message: a server can make a member write so many small files
SETUP, CONTRIBUTE, NOISE, CHECK, REVEAL = "setup", "contribute", "noise", "check", "reveal"


def is_train(message: Message) -> bool:
    """Return whether a message asks a node to train, under whatever action."""
    return str(message.metadata.message_type).partition(".")[0] == "train"


def is_request_for_parameters(message: Message) -> bool:
    """Return whether a message asks an app of the older API, a `client_fn`, for its weights as they are."""
    return str(message.metadata.message_type) == "get_parameters"


def marked(phase: str, **fields: bytes | int | list[bytes]) -> RecordDict:
    """Return content that marks a phase and carries these fields."""
    return RecordDict({MARKER: ConfigRecord({"phase": phase, **fields})})


def attached(content: RecordDict, payload: bytes) -> RecordDict:
    """Return the content with a payload that Flower sends in chunks."""
    content[_BYTES] = ArrayRecord({"payload": Array("uint8", (len(payload),), _STYPE, payload)})
    return content


def stripped(content: RecordDict) -> RecordDict:
    """Return the content as the strategy made it."""
    return RecordDict({name: record for name, record in content.items() if name not in (MARKER, _BYTES)})


def phase_of(message: Message) -> str | None:
    """Return the phase that a message is marked with, or None."""
    record = message.content.get(MARKER)
    phase = record.get("phase") if isinstance(record, ConfigRecord) else None
    return phase if isinstance(phase, str) else None


def part_in(message: Message, field: str) -> bytes:
    """Return a field of the marker that is bytes. Raises: EncodingError if it is not there, or a list."""
    value = _field(message, field)
    if not isinstance(value, bytes):
        raise _missing(message, field)
    return value


def parts_in(message: Message, field: str) -> list[bytes]:
    """Return a field of the marker that is a list of bytes. Raises: EncodingError if it is not there."""
    value = _field(message, field)
    if not isinstance(value, list) or not all(isinstance(each, bytes) for each in value):
        raise _missing(message, field)
    return value


def payload_in(message: Message) -> bytes:
    """Return the attached payload. Raises: EncodingError if it is not there."""
    record = message.content.get(_BYTES)
    array = record.get("payload") if isinstance(record, ArrayRecord) else None
    if not isinstance(array, Array) or not isinstance(array.data, bytes):
        raise _missing(message, "payload")
    return array.data


def number_in(message: Message, field: str) -> int:
    """Return a whole number of the marker. Raises: EncodingError if it is not there."""
    value = _field(message, field)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _missing(message, field)
    return value


def enrolment_of(identity: bytes, run: int, node: int) -> bytes:
    """Return what a node signs and confirms to show that an identity is its own: run id, node id (8 bytes each), it.

    Without it a node could publish another's, or half of it, before it does.
    """
    return Writer().integer(run, 8).integer(node, 8).raw(identity).getvalue()


def the_arrays(content: RecordDict, whose: str) -> tuple[str, ArrayRecord]:
    """Return the name and the one ArrayRecord. Raises: ParameterError if there is not exactly one."""
    found = list(content.array_records.items())
    if len(found) != 1:
        raise ParameterError(f"{whose} has {len(found)} ArrayRecords; a private round sums exactly one")
    name, record = found[0]
    return name, record


def the_metrics(content: RecordDict) -> dict[str, object]:
    """Return the metrics of the app's reply. Raises: ParameterError if it has not exactly one MetricRecord."""
    found = list(content.metric_records.values())
    if len(found) != 1:
        raise ParameterError(f"the app's reply has {len(found)} MetricRecords; exactly one is expected")
    return dict(found[0].items())


def refusal(message: Message, reason: str) -> Message:
    """Return the reply that lets the strategy see a failure, which may be what a node replied."""
    reason = f"{_PREFIX}{printable(reason).removeprefix(_PREFIX)}"
    return Message(Error(ErrorCode.MOD_FAILED_PRECONDITION, reason), reply_to=message)


def _field(message: Message, field: str) -> object:
    record = message.content.get(MARKER)
    value: object = record.get(field) if isinstance(record, ConfigRecord) else None
    return value


def _missing(message: Message, field: str) -> EncodingError:
    return EncodingError(f"a message of phase {phase_of(message)!r} has no {field}")
