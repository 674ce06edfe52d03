"""How messages between server and sites travel in NVFlare: one topic of its auxiliary channel, bytes in a Shareable."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor

from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.server_engine_spec import ServerEngineSpec
from nvflare.apis.shareable import Shareable, make_reply

from secureagg.adapters.nvflare.convener import Replies
from secureagg.adapters.nvflare.site import Site
from secureagg.errors import SecureAggError

__all__ = ["CONTRIBUTION", "ask", "serve"]

CONTRIBUTION = "secureagg.contribution"
"""The one key of an encrypted update's data."""

_TOPIC = "secureagg"
_VERB, _MESSAGE, _REPLY, _REFUSAL = "verb", "message", "reply", "refusal"
_FIRST_SECONDS = 1.0  # between attempts at sites that may not have started their job


def ask(
    engine: ServerEngineSpec, verb: str, messages: Mapping[str, bytes], *, timeout: float, patience: float = 0.0
) -> Replies:
    """Send each site its message and return what came back within `timeout` seconds.

    Sites that say nothing are asked again for `patience` seconds: they may not have started their job yet, and
    nothing tells. Requires: a message that may come twice, if `patience` is not 0.
    """
    given: dict[str, bytes] = {}
    refusals: dict[str, str] = {}
    silent = dict.fromkeys(messages, "")
    deadline = time.monotonic() + patience
    wait = min(_FIRST_SECONDS, timeout) if patience else timeout
    while True:
        started = time.monotonic()
        replies = _send(engine, verb, {site: messages[site] for site in silent}, wait)
        for site in list(silent):
            reply = replies.get(site)
            if isinstance(reply, Shareable) and isinstance(reply.get(_REPLY), bytes):
                given[site] = reply[_REPLY]
            elif isinstance(reply, Shareable) and isinstance(reply.get(_REFUSAL), str):
                refusals[site] = reply[_REFUSAL]
            else:
                silent[site] = f"no reply ({reply.get_return_code() if reply else 'away'})"
                continue
            del silent[site]
        if not silent or time.monotonic() >= deadline:
            return Replies(given, refusals | silent)
        time.sleep(max(0.0, started + _FIRST_SECONDS - time.monotonic()))  # where nobody is there, nothing waits
        wait = min(2 * wait, timeout)


def _send(
    engine: ServerEngineSpec, verb: str, messages: Mapping[str, bytes], timeout: float
) -> dict[str, Shareable]:
    """Return what each site replied. One call a message: NVFlare 2.9.0 cannot send several in one.

    (`multicast_aux_requests` passes an argument on that the cell's call does not take.)
    """
    sites_of: dict[bytes, list[str]] = {}
    for site, message in messages.items():
        sites_of.setdefault(message, []).append(site)

    def send(message: bytes) -> dict[str, Shareable]:
        with engine.new_context() as fl_ctx:
            request = Shareable({_VERB: verb, _MESSAGE: message})
            return engine.send_aux_request(sites_of[message], _TOPIC, request, timeout, fl_ctx, optional=True) or {}

    with ThreadPoolExecutor(max_workers=len(sites_of)) as threads:
        return {site: reply for replies in threads.map(send, sites_of) for site, reply in replies.items()}


def serve(fl_ctx: FLContext, site: Callable[[], Site | None]) -> None:
    """Have a site's process answer the server's messages."""

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

    fl_ctx.get_engine().register_aux_message_handler(topic=_TOPIC, message_handle_func=answer)
