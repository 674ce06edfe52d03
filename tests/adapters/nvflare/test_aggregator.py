"""The server's aggregator alone, driven by the events and calls of NVFlare's controllers."""

from __future__ import annotations

from typing import Any

import pytest
from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.app_constant import AppConstants

from secureagg.adapters.nvflare import PrivateAggregator
from secureagg.adapters.nvflare.task import told_by
from secureagg.adapters.nvflare.wire import CONTRIBUTION
from tests.adapters import common
from tests.adapters.nvflare.federation import Job, terms_of
from tests.adapters.nvflare.names import named


class Server:
    """An aggregator whose sites are those of a job; `warned` is what it logs."""

    def __init__(self, job: Job) -> None:
        self.aggregator = PrivateAggregator(terms_of())
        self.aggregator._convener = job.convener
        self.warned: list[str] = []
        self.aggregator.log_warning = lambda _, text: self.warned.append(text)
        job.convener.convene(1)

    def sends(self, site: str, **headers: Any) -> Shareable:
        """Let a training task go out to a site."""
        task = DXO(DataKind.WEIGHTS, data=named(common.MODEL)).to_shareable()
        for key, value in ({AppConstants.CURRENT_ROUND: 1} | headers).items():
            task.set_header(key, value)
        context, peer = FLContext(), FLContext()
        peer.set_prop(ReservedKey.IDENTITY_NAME, site, private=False)
        context.set_peer_context(peer)
        context.set_prop(FLContextKey.TASK_NAME, "train")
        context.set_prop(FLContextKey.TASK_DATA, task, private=True, sticky=False)
        self.aggregator.handle_event(EventType.AFTER_TASK_DATA_FILTER, context)
        return task

    def gets(self, site: str, result: Shareable) -> bool:
        result.set_peer_props({ReservedKey.IDENTITY_NAME: site})
        return self.aggregator.accept(result, FLContext())


@pytest.fixture
def server(job: Job) -> Server:
    return Server(job)


def contribution(job: Job, site: str, task: Shareable) -> Shareable:
    begun = job.sites[site].begin(1, named(common.MODEL), told_by(task))
    payload = job.sites[site].contribute(begun, named(common.update_of(0)), 3)
    return DXO(DataKind.WEIGHT_DIFF, data={CONTRIBUTION: payload}).to_shareable()


def test_the_first_task_of_a_round_says_what_all_are_told(server: Server, job: Job) -> None:
    same = [(site, server.sends(site, lr=0.1)) for site in ("site-1", "site-2")]
    assert not server.warned
    odd = server.sends("site-4", lr=0.0)
    assert server.warned == [
        "secureagg: the task of site-4 differs in headers or meta from those of the round's other sites, so that its "
        "contribution will be refused"
    ]
    assert all(server.gets(site, contribution(job, site, task)) for site, task in same)
    assert not server.gets("site-4", contribution(job, "site-4", odd))
    assert "secureagg: site-4 is refused" in server.warned[-1] and "session" in server.warned[-1]


MALFORMED: dict[str, Any] = {
    "no DXO": {},
    "an empty DXO": {"DXO": {}},
    "a list": {"DXO": [1]},
    "data that is a list": {"DXO": {"kind": DataKind.WEIGHT_DIFF, "data": [1], "meta": {}}},
    "app-defined data": {"DXO": {"kind": DataKind.APP_DEFINED, "data": [1], "meta": {}}},
    "no contribution": {"DXO": {"kind": DataKind.WEIGHT_DIFF, "data": {"a": 1}, "meta": {}}},
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
def test_a_result_that_is_none(server: Server, content: dict[str, Any]) -> None:
    server.sends("site-4")
    result = Shareable(content)
    result.set_header("__content_type__", "DXO")
    assert not server.gets("site-4", result)
    assert server.warned == ["secureagg: site-4 is refused: sent no contribution"]


@pytest.mark.parametrize("params", [None, [1], {"a": 1}])
def test_a_model_that_is_none(server: Server, params: Any) -> None:
    server.sends("site-4")
    model = FLModel(params={"a": 1}, meta={"client_name": "site-4"})
    model.params = params
    server.aggregator.fl_ctx = FLContext()
    server.aggregator.accept_model(model)
    assert server.warned == ["secureagg: site-4 is refused: sent no contribution"]
