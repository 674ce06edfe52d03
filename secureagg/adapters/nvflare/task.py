"""What a task of NVFlare's tells a site beside its model, as bytes that server and sites come to alike.

Who could tell sites different things (another learning rate in a DXO's meta, say) could have all but one of them train
to no effect, and the sum would be that one's update. So all of a task enters the session: the DXO's kind and meta,
every header, every other entry. Left out is what NVFlare sets by site or on the way:

| not bound | what it is |
|---|---|
| task id, audit event, peer's context and properties, task_name | set for each site as the task leaves or arrives |
| message root, its time to live, waiting times, topic, pass-through | delivery |
| the cookie of the task id | the same id once more; other cookies are bound |
| meta's filter_history | which filters the DXO went through, and those of a site may be its own |

The tensors themselves, and their names, enter by `session.session_of`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from enum import Enum

import numpy as np
from nvflare.apis.dxo import MetaKey
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ServerCommandKey
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.private.defs import TaskConstant

from secureagg.errors import ParameterError
from secureagg.wire import Writer

__all__ = ["canonical", "told_by"]

_UNBOUND_HEADERS = frozenset(
    {
        ReservedHeaderKey.TASK_ID,
        ReservedHeaderKey.AUDIT_EVENT_ID,
        ReservedHeaderKey.PEER_CTX,
        ReservedHeaderKey.PEER_PROPS,
        ReservedHeaderKey.MSG_ROOT_ID,
        ReservedHeaderKey.MSG_ROOT_TTL,
        ReservedHeaderKey.REPLY_IS_LATE,
        ReservedHeaderKey.TOPIC,
        ReservedHeaderKey.PASS_THROUGH,
        ReservedKey.TASK_IS_READY,
        ServerCommandKey.TASK_NAME,  # the same name is in ReservedHeaderKey.TASK_NAME, which is bound
        ServerCommandKey.MIN_GET_TASK_TIMEOUT,
        TaskConstant.WAIT_TIME,
    }
)


def told_by(task: Shareable) -> bytes:
    """Return all that a training task says beside its tensors, by the table above.

    Raises: ParameterError for a value that has no canonical bytes.
    """
    headers = {k: v for k, v in task.get(ReservedHeaderKey.HEADERS, {}).items() if k not in _UNBOUND_HEADERS}
    cookies = headers.pop(ReservedHeaderKey.COOKIE_JAR, None) or {}
    headers[ReservedHeaderKey.COOKIE_JAR] = {k: v for k, v in cookies.items() if k != FLContextKey.TASK_ID}
    dxo = task.get(AppConstants.DXO, {})
    meta = {k: v for k, v in (dxo.get("meta") or {}).items() if k != MetaKey.FILTER_HISTORY}
    beside = {k: v for k, v in task.items() if k not in (ReservedHeaderKey.HEADERS, AppConstants.DXO)}
    return canonical({"headers": headers, "kind": dxo.get("kind"), "meta": meta, "beside": beside}, "the task")


def canonical(value: object, where: str) -> bytes:
    """Return bytes that only equal values have, whatever the order of a mapping; `where` names the value in errors.

    A list equals a tuple, an Enum its value, a numpy scalar the Python number: they may come off the wire as either.
    Raises: ParameterError for anything but these, arrays of numbers, mappings, texts, bytes, numbers and None.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return b"n" if value is None else b"t" if value else b"f"
    if isinstance(value, int):
        return Writer().raw(b"i").text(str(value)).getvalue()
    if isinstance(value, float):
        return b"d" + struct.pack("<d", value)
    if isinstance(value, str):
        return Writer().raw(b"s").text(value).getvalue()
    if isinstance(value, bytes | bytearray | memoryview):
        return Writer().raw(b"b").blob(bytes(value)).getvalue()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufc":
        writer = Writer().raw(b"a").text(value.dtype.str).integer(value.ndim, 4)
        for length in value.shape:
            writer.integer(length, 8)
        return writer.raw(value.tobytes()).getvalue()
    if isinstance(value, list | tuple):
        each = [canonical(item, f"{where}[{position}]") for position, item in enumerate(value)]
        return Writer().raw(b"l").integer(len(each), 4).raw(b"".join(each)).getvalue()
    if isinstance(value, Mapping):
        pairs = sorted((canonical(k, where), canonical(v, f"{where}[{k!r}]")) for k, v in value.items())
        return Writer().raw(b"m").integer(len(pairs), 4).raw(b"".join(k + v for k, v in pairs)).getvalue()
    raise ParameterError(
        f"{where} is of {type(value).__name__}, which cannot be bound to the round; send plain values or numpy arrays"
    )
