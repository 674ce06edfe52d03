"""What steers a round's training besides the model's values, as a digest that server and nodes come to alike.

It enters the session id as the session's `task`. Were it left out, a server could give the others the same values under
exchanged names, or a learning rate of 0: their updates would vanish, and the sum be that of one node.

The digest is SHA-256 over, each text and each blob with its length before it (4 bytes, little-endian; so are counts):

    "secureagg v1 flower task" ‖ SHA-256 of the run config ‖ message type ‖ group id ‖ number of records ‖ records

A record is its name, its kind (`A`, `C` or `M`), the number of its entries and these, all in the order of the message.
The adapter's own records are left out. An entry is its name, and

- in an ArrayRecord dtype, serialisation and extents, three texts, the last as `6,5`: the values are in the session's
  model digest;
- in a ConfigRecord or a MetricRecord a value: `b` and one byte for a bool, `i` and the decimal text of an integer, `f`
  and its binary64, `s` and a text, `y` and a blob, `l` and the count and so many values.

The run config is the count of its entries, and each one's name and value, by name. Of what Flower adds to a message
(ids, times, the time to live) nothing is bound: it differs from node to node.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

from secureagg.adapters.flower.engine import ArrayRecord, Message, MetricRecord
from secureagg.adapters.flower.envelope import stripped
from secureagg.errors import ParameterError
from secureagg.wire import Writer

__all__ = ["require_one_task", "settings_of", "task_of"]

_LABEL = b"secureagg v1 flower task"


def task_of(message: Message, settings: bytes) -> bytes:
    """Return the digest (32 bytes) of a train message's task in a run with these settings, `settings_of`'s."""
    writer = Writer().blob(_LABEL).raw(settings)
    for part in _parts(message).values():
        writer.raw(part)
    return hashlib.sha256(writer.getvalue()).digest()


def settings_of(run_config: Mapping[str, object]) -> bytes:
    """Return the digest (32 bytes) of a run config."""
    writer = Writer().integer(len(run_config), 4)
    for name in sorted(run_config):
        _write(writer.text(name), run_config[name])
    return hashlib.sha256(writer.getvalue()).digest()


def require_one_task(messages: Iterable[Message]) -> None:
    """Return None if these messages have one task. Raises: ParameterError that says where they differ."""
    first, *others = [_parts(message) for message in messages]
    for other in others:
        if list(other) != list(first):
            raise ParameterError("the strategy sends nodes different records; a private round gives all the same task")
        for what, part in first.items():
            if other[what] != part:
                raise ParameterError(
                    f"the strategy sends nodes a different {what}; a private round gives all the same task"
                )


def _parts(message: Message) -> dict[str, bytes]:
    """Return the digest's parts that a message gives, by what they are."""
    content = stripped(message.content)
    return {
        "message type": Writer().text(str(message.metadata.message_type)).getvalue(),
        "group id": Writer().text(str(message.metadata.group_id)).integer(len(content), 4).getvalue(),
        **{f"record {name!r}": _record(name, record) for name, record in content.items()},
    }


def _record(name: str, record: Mapping[str, object]) -> bytes:
    if isinstance(record, ArrayRecord):
        writer = Writer().text(name).raw(b"A").integer(len(record), 4)
        for key, array in record.items():
            writer.text(key).text(array.dtype).text(array.stype).text(",".join(map(str, array.shape)))
        return writer.getvalue()
    writer = Writer().text(name).raw(b"M" if isinstance(record, MetricRecord) else b"C").integer(len(record), 4)
    for key, value in record.items():
        _write(writer.text(key), value)
    return writer.getvalue()


def _write(writer: Writer, value: object) -> None:
    """Append a value of a record. Raises: ParameterError if it is of a type that records have not."""
    if isinstance(value, bool):
        writer.raw(b"b").integer(value, 1)
    elif isinstance(value, int):
        writer.raw(b"i").text(str(int(value)))
    elif isinstance(value, float):
        writer.raw(b"f").real(value)
    elif isinstance(value, str):
        writer.raw(b"s").text(value)
    elif isinstance(value, bytes):
        writer.raw(b"y").blob(value)
    elif isinstance(value, list):
        writer.raw(b"l").integer(len(value), 4)
        for each in value:  # Flower sends a list as all of its first element's type: [1, True] arrives as [1, 1]
            _write(writer, type(value[0])(each))
    else:
        raise ParameterError(f"a record holds a {type(value).__name__}, which cannot be told to a node")
