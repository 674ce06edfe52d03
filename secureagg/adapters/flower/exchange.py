"""One exchange with some nodes: messages out, replies in one by one, so that no more than Flower holds is held."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

from secureagg.adapters.flower.engine import Grid, Message

__all__ = ["replies"]

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0  # a SuperNode looks for messages every three seconds


def replies(
    grid: Grid, messages: Sequence[Message], timeout: float | None, *, enough: int | None = None
) -> Iterator[tuple[int, Message]]:
    """Send the messages; yield (node id, reply) as replies come, until all came or `timeout` seconds are over.

    enough: once so many came that are no errors, the others have ten seconds left. A caller may stop early; what comes
    later stays in the SuperLink until it expires. The node is the one the message was sent to, which is also right for
    errors that Flower itself made.
    """
    sent = {each for each in grid.push_messages(messages) if each is not None}
    # Grids set the id of each message when they push it; one that could not be pushed is not among those sent.
    nodes = {m.metadata.message_id: int(m.metadata.dst_node_id) for m in messages if m.metadata.message_id in sent}
    deadline = None if timeout is None else time.monotonic() + timeout
    good = 0
    while nodes:
        for reply in grid.pull_messages(list(nodes)):
            node = nodes.pop(reply.metadata.reply_to_message_id, None)
            if node is not None:
                good += not reply.has_error()
                yield node, reply
        if enough is not None and good >= enough:
            deadline = min(time.monotonic() + _GRACE_SECONDS, math.inf if deadline is None else deadline)
            enough = None
        if not nodes or (deadline is not None and time.monotonic() >= deadline):
            return
        time.sleep(_POLL_SECONDS)
