"""How messages between server and sites travel in NVFlare: one topic of its auxiliary channel, bytes in a Shareable."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.f3.cellnet.defs import ReturnCode as CellReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.utils import make_reply as make_cellnet_reply
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.stream_const import STREAM_CHANNEL, STREAM_DATA_TOPIC, StreamHeaderKey

from secureagg.adapters.nvflare.round import Replies
from secureagg.adapters.nvflare.site import Site
from secureagg.errors import SecureAggError

__all__ = ["CONTRIBUTION", "TOPIC", "ask", "serve"]

CONTRIBUTION = "secureagg.contribution"
"""The one key of an encrypted update's data."""

TOPIC = "secureagg"
"""Of the auxiliary channel, for whatever server and sites have to say to one another."""

_VERB, _MESSAGE, _REPLY, _REFUSAL = "verb", "message", "reply", "refusal"


def ask(engine: ServerEngineSpec, verb: str, messages: Mapping[str, bytes], timeout: float) -> Replies:
    """Send each site its message and return what came back within `timeout` seconds."""
    given: dict[str, bytes] = {}
    refusals: dict[str, str] = {}
    replies = _send(engine, verb, messages, timeout)
    for site in messages:
        reply = replies.get(site)
        if not isinstance(reply, Shareable):
            refusals[site] = "no reply"
        elif isinstance(reply.get(_REPLY), bytes):
            given[site] = reply[_REPLY]
        else:
            refusals[site] = str(reply.get(_REFUSAL, f"no reply ({reply.get_return_code()})"))
    return Replies(given, refusals)


def _send(engine: ServerEngineSpec, verb: str, messages: Mapping[str, bytes], timeout: float) -> dict[str, Shareable]:
    """Return what each site replied. One call a message: NVFlare 2.9.0 cannot send several in one.

    (`multicast_aux_requests` passes an argument on that the cell's call does not take.)
    """
    sites_of: dict[bytes, list[str]] = {}
    for site, message in messages.items():
        sites_of.setdefault(message, []).append(site)

    def send(message: bytes) -> dict[str, Shareable]:
        with engine.new_context() as fl_ctx:
            request = Shareable({_VERB: verb, _MESSAGE: message})
            return engine.send_aux_request(sites_of[message], TOPIC, request, timeout, fl_ctx) or {}

    with ThreadPoolExecutor(max_workers=max(1, len(sites_of))) as threads:
        return {site: reply for replies in threads.map(send, sites_of) for site, reply in replies.items()}


def serve(fl_ctx: FLContext, site: Callable[[], Site | None]) -> None:
    """Have a site's process answer the server's messages, and nobody else's.

    A handler of the auxiliary channel sees only who the sender says it is. The cell below knows where a message comes
    from, which a secure deployment binds to the connection's credentials, so that is where others are turned away.
    """

    def answer(topic: str, request: Shareable, fl_ctx: FLContext) -> Shareable:
        present = site()
        if present is None:
            return make_reply(ReturnCode.SERVICE_UNAVAILABLE)
        try:
            reply = make_reply(ReturnCode.OK)
            reply[_REPLY] = present.serve(request.get(_VERB, ""), request.get(_MESSAGE))
        except SecureAggError as error:
            reply = make_reply(ReturnCode.BAD_REQUEST_DATA)
            reply[_REFUSAL] = str(error)
        return reply

    engine, root = fl_ctx.get_engine(), FQCN.ROOT_SERVER
    server = (root, FQCN.join([root, fl_ctx.get_job_id()]))  # the simulator runs a job in the server's own process
    core = engine.get_cell().core_cell
    for channel, topic in ((CellChannel.AUX_COMMUNICATION, TOPIC), (STREAM_CHANNEL, STREAM_DATA_TOPIC)):
        core.add_incoming_request_filter(channel, topic, turn_away, server)
    engine.register_aux_message_handler(topic=TOPIC, message_handle_func=answer)


def turn_away(message: Message, server: tuple[str, str]) -> Message | None:
    """Return what a message on our topic is answered with, unless it comes from a cell of `server`."""
    plain = message.get_header(MessageHeaderKey.CHANNEL), message.get_header(MessageHeaderKey.TOPIC)
    streamed = message.get_header(StreamHeaderKey.CHANNEL), message.get_header(StreamHeaderKey.TOPIC)
    ours = (CellChannel.AUX_COMMUNICATION, TOPIC) in (plain, streamed)
    if not ours or message.get_header(MessageHeaderKey.ORIGIN) in server:
        return None
    return make_cellnet_reply(CellReturnCode.UNAUTHENTICATED, "only the server asks for this")
