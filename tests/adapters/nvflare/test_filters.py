"""The client's filter alone: what is not one update of weights leaves as an error, and as nothing else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants

from secureagg.adapters.nvflare import EncryptUpdates
from secureagg.adapters.nvflare.task import told_by
from secureagg.adapters.nvflare.wire import CONTRIBUTION
from tests.adapters import common
from tests.adapters.nvflare.federation import Job, terms_of
from tests.adapters.nvflare.names import named


class Site:
    """A site's filter, with the engine it would have."""

    def __init__(self, job: Job, name: str, **terms: Any) -> None:
        self.filter = EncryptUpdates(terms_of(**terms))
        self.context = FLContext()
        self.context.set_prop(ReservedKey.IDENTITY_NAME, name)
        self.context.set_prop(FLContextKey.TASK_NAME, "train")
        self.filter._site = job.sites[name]

    def given(self, model: dict[str, Any]) -> None:
        """Give it a task, as NVFlare does before training."""
        task = task_of(model)
        self.context.set_prop(FLContextKey.TASK_DATA, task, private=True, sticky=False)
        self.filter.handle_event(EventType.BEFORE_TASK_EXECUTION, self.context)

    def sends(self, result: Shareable) -> Shareable:
        sent = self.filter.process(result, self.context)
        assert isinstance(sent, Shareable)
        return sent


@pytest.fixture
def site(job: Job) -> Site:
    made = Site(job, "site-4")
    job.convener.convene(1)
    made.given(named(common.MODEL))
    return made


def task_of(model: dict[str, Any]) -> Shareable:
    task = DXO(DataKind.WEIGHTS, data=model).to_shareable()
    task.set_header(AppConstants.CURRENT_ROUND, 1)
    return task


TOLD = told_by(task_of({}))


def result(kind: str = DataKind.WEIGHT_DIFF, data: Any = None, **meta: Any) -> Shareable:
    update = named(common.update_of(3)) if data is None else data
    dxo = DXO(kind, data=update, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 25} | meta)
    made = dxo.to_shareable()
    made["beside"] = update
    return made


def refused(sent: Shareable) -> bool:
    return sent.get_return_code() == ReturnCode.TASK_RESULT_FILTER_ERROR and sent.keys() == {ReservedHeaderKey.HEADERS}


def test_only_contribution_metrics_and_headers_leave(site: Site, job: Job) -> None:
    made = result(**{MetaKey.INITIAL_METRICS: 0.5})
    made.set_header("kept", "too")
    sent = site.sends(made)
    assert sent.keys() == {"DXO", ReservedHeaderKey.HEADERS}
    assert sent.get_header("kept") == "too"
    dxo = from_shareable(sent)
    assert dxo.data_kind == DataKind.WEIGHT_DIFF
    assert dxo.data.keys() == {CONTRIBUTION}
    assert dxo.get_meta_prop(MetaKey.INITIAL_METRICS) == 0.5
    assert dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND) is None
    current = job.convener.begin(1, named(common.MODEL), TOLD)
    assert current.admit("site-4", dxo.data[CONTRIBUTION])


@pytest.mark.parametrize("kind", [DataKind.METRICS, DataKind.ANALYTIC, DataKind.FL_MODEL, DataKind.APP_DEFINED])
def test_another_kind(site: Site, kind: str) -> None:
    assert refused(site.sends(result(kind)))


def test_a_collection(site: Site) -> None:
    assert refused(site.sends(result(DataKind.COLLECTION, {"one": DXO(DataKind.WEIGHT_DIFF, data={})})))


def test_no_dxo_at_all(site: Site) -> None:
    assert refused(site.sends(Shareable({"update": named(common.update_of(3))})))


def test_a_failure_leaves_as_its_code_alone(site: Site) -> None:
    failed = result()
    failed.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    sent = site.sends(failed)
    assert sent == make_reply(ReturnCode.EXECUTION_EXCEPTION)


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"a.kernel": [0.0] * 30},
        named(common.update_of(3)) | {"b.scale": np.zeros((), np.int64)},
        named(common.update_of(3)) | {"b.scale": np.full((), np.nan)},
        named(common.update_of(3)) | {"extra": np.zeros(2)},
    ],
    ids=["empty", "lists", "integers", "nan", "extra"],
)
@pytest.mark.parametrize("kind", [DataKind.WEIGHTS, DataKind.WEIGHT_DIFF])
def test_tensors_that_are_no_update(site: Site, kind: str, data: dict[str, Any]) -> None:
    assert refused(site.sends(result(kind, data)))


def test_a_weight_that_is_missing_or_too_large(site: Site) -> None:
    assert refused(site.sends(result(**{MetaKey.NUM_STEPS_CURRENT_ROUND: None})))
    assert refused(site.sends(result(**{MetaKey.NUM_STEPS_CURRENT_ROUND: common.MAX_WEIGHT + 1})))


def test_a_second_result_of_one_task(site: Site) -> None:
    assert not refused(site.sends(result()))
    assert refused(site.sends(result()))


def test_another_task_after_one_that_failed(site: Site) -> None:
    site.sends(make_reply(ReturnCode.TASK_ABORTED))
    assert refused(site.sends(result()))


def test_another_task_after_one_without_a_result(site: Site) -> None:
    site.context.set_prop(FLContextKey.TASK_NAME, "submit_model")
    site.filter.handle_event(EventType.BEFORE_TASK_EXECUTION, site.context)
    assert refused(site.sends(result(DataKind.WEIGHTS)))


def test_two_tasks_at_once(site: Site, job: Job) -> None:
    """Each is another context of NVFlare's; what was trained by the first is of the first's round alone."""
    second = Site(job, "site-4")
    second.filter = site.filter
    second.given(named([tensor + 1 for tensor in common.MODEL]))
    assert refused(site.sends(result()))
    assert not refused(second.sends(result()))


def test_before_the_roster_is_pinned(job: Job) -> None:
    site = Site(job, "site-4")
    site.given(named(common.MODEL))
    assert refused(site.sends(result()))


def test_before_the_job_has_started(job: Job) -> None:
    site = Site(job, "site-4")
    site.filter._site = None
    site.given(named(common.MODEL))
    assert refused(site.sends(result()))


def test_new_weights_are_sent_as_a_difference(site: Site, job: Job) -> None:
    weights = named(common.update_of(3))  # the model is zero
    payload = from_shareable(site.sends(result(DataKind.WEIGHTS, weights)))
    assert payload.data_kind == DataKind.WEIGHT_DIFF
    assert job.convener.begin(1, named(common.MODEL), TOLD).admit("site-4", payload.data[CONTRIBUTION])
