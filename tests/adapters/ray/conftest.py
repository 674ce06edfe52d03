"""One local cluster of two cores for all of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import ray

from secureagg.adapters.ray import RayExecutor


@pytest.fixture(scope="session", autouse=True)
def cluster() -> Iterator[None]:
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.fixture
def executor() -> Iterator[RayExecutor]:
    with RayExecutor() as made:
        yield made
