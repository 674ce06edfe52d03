"""Who may ask a site: the server's process of the job, and no other cell of NVFlare's network."""

from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.fl_constant import ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.f3.cellnet.registry import Callback, Registry
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.stream_const import STREAM_CHANNEL, STREAM_DATA_TOPIC, StreamHeaderKey

from secureagg.adapters.nvflare.wire import serve
from tests.adapters.nvflare.federation import Job

SERVER = ["server.job", "server"]
OTHERS = ["site-3.job", "site-3", "server.another-job", "relay.server.job", "", None]


class Cell:
    """An engine and its cell, as far as a site meets them: messages pass NVFlare's own registry of filters."""

    def __init__(self) -> None:
        self.core_cell = self
        self.filters = Registry()
        self.handlers: dict[str, Any] = {}

    def get_cell(self) -> Cell:
        return self

    def add_incoming_request_filter(self, channel: str, topic: str, cb: Any, *args: Any) -> None:
        self.filters.append(channel, topic, Callback(cb, args, {}))

    def register_aux_message_handler(self, topic: str, message_handle_func: Any) -> None:
        self.handlers[topic] = message_handle_func

    def lets_through(self, channel: str, topic: str, headers: dict[str, Any]) -> bool:
        message = Message({MessageHeaderKey.CHANNEL: channel, MessageHeaderKey.TOPIC: topic} | headers)
        found = self.filters.find(channel, topic) or []
        return all(each.cb(message, *each.args) is None for each in found)


@pytest.fixture
def cell(job: Job) -> Cell:
    made, context = Cell(), FLContext()
    context.set_prop(ReservedKey.ENGINE, made)
    context.set_prop(ReservedKey.RUN_NUM, "job", private=False)
    serve(context, lambda: job.sites["site-1"])
    return made


def streamed(cell: Cell, origin: str | None, topic: str = "secureagg") -> bool:
    headers = {StreamHeaderKey.CHANNEL: CellChannel.AUX_COMMUNICATION, StreamHeaderKey.TOPIC: topic}
    return cell.lets_through(STREAM_CHANNEL, STREAM_DATA_TOPIC, headers | {MessageHeaderKey.ORIGIN: origin})


def plain(cell: Cell, origin: str | None, topic: str = "secureagg") -> bool:
    return cell.lets_through(CellChannel.AUX_COMMUNICATION, topic, {MessageHeaderKey.ORIGIN: origin})


@pytest.mark.parametrize("origin", SERVER)
def test_the_server_is_answered(cell: Cell, origin: str) -> None:
    assert streamed(cell, origin) and plain(cell, origin)
    reply = cell.handlers["secureagg"]("secureagg", Shareable({"verb": "x", "message": b""}), FLContext())
    assert reply.get_return_code() == ReturnCode.BAD_REQUEST_DATA
    assert reply["refusal"] == "a message of an unknown kind"


@pytest.mark.parametrize("origin", OTHERS)
def test_no_other_cell_is(cell: Cell, origin: str | None) -> None:
    assert not streamed(cell, origin)
    assert not plain(cell, origin)


def test_what_is_not_ours_passes(cell: Cell) -> None:
    assert streamed(cell, "site-3.job", "another") and plain(cell, "site-3.job", "another")
    assert cell.lets_through(STREAM_CHANNEL, STREAM_DATA_TOPIC, {MessageHeaderKey.ORIGIN: "site-3.job"})
