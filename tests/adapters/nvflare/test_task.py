"""What a task says enters the session: a site that was told otherwise is in no sum with the rest."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nvflare.apis.dxo import DXO, DataKind, MetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable
from nvflare.app_common.app_constant import AppConstants
from nvflare.fuel.utils import fobs
from nvflare.private.fed.utils.fed_utils import nvflare_fobs_initialize

import secureagg as sa
from secureagg.adapters.nvflare.task import canonical, told_by
from tests.adapters import common
from tests.adapters.nvflare.federation import SITES, Job
from tests.adapters.nvflare.names import named


def task(model: dict[str, np.ndarray] | None = None) -> Shareable:
    """Return a task as it leaves the server."""
    dxo = DXO(DataKind.WEIGHTS, data=model or named(common.MODEL), meta={"configs": {"lr": 0.1}})
    made = dxo.to_shareable()
    made.set_header(AppConstants.CURRENT_ROUND, 1)
    made.set_header(AppConstants.NUM_ROUNDS, 5)
    made.set_header(ReservedHeaderKey.TASK_NAME, "train")
    made.add_cookie("workflow", "controller")
    return made


def meta(made: Shareable, key: str, value: object) -> None:
    made["DXO"]["meta"][key] = value


STEERING: dict[str, Callable[[Shareable], object]] = {
    "meta": lambda made: meta(made, "configs", {"lr": 0.0}),
    "more meta": lambda made: meta(made, "epochs", 1),
    "kind": lambda made: made["DXO"].update(kind=DataKind.WEIGHT_DIFF),
    "header": lambda made: made.set_header(AppConstants.NUM_ROUNDS, 1),
    "own header": lambda made: made.set_header("lr", 0.0),
    "name": lambda made: made.set_header(ReservedHeaderKey.TASK_NAME, "train-less"),
    "cookie": lambda made: made.add_cookie("workflow", "another"),
    "beside": lambda made: made.update(lr=0.0),
}


@pytest.mark.parametrize("change", STEERING.values(), ids=STEERING)
def test_a_site_that_is_told_otherwise_is_refused(job: Job, change: Callable[[Shareable], object]) -> None:
    job.convener.convene(1)
    current = job.convener.begin(1, named(common.MODEL), told_by(task()))
    for site in SITES:
        told = task()
        if site == "site-4":
            change(told)
        begun = job.sites[site].begin(1, named(common.MODEL), told_by(told))
        payload = job.sites[site].contribute(begun, named(common.update_of(0)), 3)
        assert current.admit(site, payload) == (site != "site-4")
    assert "session" in current.refused["site-4"]
    assert current.finish().sites == SITES[:3]


def test_tensors_that_exchanged_their_names_are_another_model(job: Job) -> None:
    ones = [np.ones((4,), np.float32), np.zeros((4,), np.float32)]
    model = dict(zip(("gamma", "offset"), ones, strict=True))
    renamed = dict(zip(("a", "b"), ones, strict=True))
    job.convener.convene(1)
    current = job.convener.begin(1, model)
    site = job.sites["site-1"]
    assert not current.admit("site-1", site.contribute(site.begin(1, renamed), renamed, 3))
    assert "session" in current.refused["site-1"]


def test_what_is_set_for_each_site_on_the_way_is_not_bound() -> None:
    arrived = task()
    for header in (
        ReservedHeaderKey.TASK_ID,
        ReservedHeaderKey.AUDIT_EVENT_ID,
        ReservedHeaderKey.MSG_ROOT_ID,
        "__wait_time__",
        "task_name",
    ):
        arrived.set_header(header, "site-1's")
    arrived.set_peer_props({"__identity_name__": "server"})
    arrived.set_peer_context(FLContext())
    arrived.add_cookie(ReservedHeaderKey.TASK_ID, "site-1's")
    meta(arrived, MetaKey.FILTER_HISTORY, ["Decompress"])
    assert told_by(arrived) == told_by(task())


def test_a_task_says_the_same_when_it_arrives() -> None:
    nvflare_fobs_initialize()
    sent = task()
    meta(
        sent,
        "many",
        [(1, 2.5, None), np.float32(0.1), np.arange(4), DataKind.METRICS, b"x", {"b": True, "a": -(2**40)}],
    )
    assert told_by(fobs.loads(fobs.dumps(sent))) == told_by(sent)


def test_a_value_that_cannot_be_bound() -> None:
    made = task()
    meta(made, "configs", {"schedule": object()})
    with pytest.raises(sa.ParameterError, match=r"the task\['meta'\]\['configs'\]\['schedule'\] is of object"):
        told_by(made)
    with pytest.raises(sa.ParameterError, match="ndarray"):
        canonical(np.array([object()]), "it")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def exact(value: Any) -> Any:
    """Return what tells two plain values apart as `==` does not: 1, 1.0 and True, 0.0 and -0.0."""
    if isinstance(value, dict):
        return frozenset((key, exact(each)) for key, each in value.items())
    if isinstance(value, list):
        return tuple(map(exact, value))
    return type(value), struct.pack("<d", value) if isinstance(value, float) else value


@given(PLAIN, PLAIN)
def test_only_equal_values_have_equal_bytes(one: object, other: object) -> None:
    assert (canonical(one, "") == canonical(other, "")) == (exact(one) == exact(other))


@given(st.dictionaries(st.text(), st.integers(), max_size=5))
def test_the_order_of_a_mapping_says_nothing(mapping: dict[str, int]) -> None:
    assert canonical(dict(reversed(mapping.items())), "") == canonical(mapping, "")
