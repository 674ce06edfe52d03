"""What `concurrent.futures.Executor` promises, kept by Ray's tasks."""

from __future__ import annotations

import os
import time
from concurrent.futures import wait
from pathlib import Path

import pytest
import ray

from secureagg.adapters.ray import RayExecutor
from secureagg.errors import FaultyClientError, ParameterError
from secureagg.ring.workers import thread_count


def power(base: int, exponent: int = 2) -> int:
    return int(base**exponent)


def refuse(client_id: int) -> None:
    raise FaultyClientError(client_id, "refused there")


def slow(seconds: float) -> int:
    time.sleep(seconds)
    return os.getpid()


def leave_mark(path: str) -> None:
    time.sleep(0.5)
    Path(path).touch()


def test_a_call_runs_in_another_process(executor: RayExecutor) -> None:
    assert executor.submit(power, 3, exponent=4).result() == 81
    assert executor.submit(os.getpid).result() != os.getpid()


def test_results_come_in_order(executor: RayExecutor) -> None:
    assert list(executor.map(power, range(20), [3] * 20)) == [n**3 for n in range(20)]
    assert list(executor.map(power, [])) == []


def test_two_tasks_run_at_once(executor: RayExecutor) -> None:
    pids = set(executor.map(slow, [0.5, 0.5, 0.5, 0.5]))
    assert len(pids) == 2


def test_an_error_keeps_its_type_and_what_it_names(executor: RayExecutor) -> None:
    with pytest.raises(FaultyClientError) as caught:
        executor.submit(refuse, 7).result()
    assert caught.value.client_id == 7 and caught.value.reason == "refused there"
    with pytest.raises(FaultyClientError) as caught:
        list(executor.map(refuse, [3]))
    assert caught.value.client_id == 3


@pytest.mark.parametrize("cpus", [1, 2])
def test_a_task_works_on_the_cores_it_reserved(cpus: int) -> None:
    with RayExecutor(cpus_per_task=cpus) as executor:
        assert executor.submit(thread_count).result() == cpus


@pytest.mark.parametrize("cpus", [0, 1.5, True, "2"])
def test_cores_are_a_whole_number(cpus: int) -> None:
    with pytest.raises(ParameterError, match="cpus_per_task"):
        RayExecutor(cpus_per_task=cpus)


def test_a_result_that_is_late_is_a_timeout(executor: RayExecutor) -> None:
    with pytest.raises(TimeoutError):
        list(executor.map(slow, [30.0], timeout=0.2))


def test_shut_down_it_takes_no_calls_and_the_cluster_goes_on() -> None:
    executor = RayExecutor()
    future = executor.submit(slow, 0.3)
    executor.shutdown()
    assert future.done()
    for call in (lambda: executor.submit(power, 1), lambda: executor.map(power, [1])):
        with pytest.raises(RuntimeError, match="shut down"):
            call()
    assert ray.is_initialized()


def test_calls_not_begun_can_be_cancelled(tmp_path: Path) -> None:
    executor = RayExecutor(cpus_per_task=2)
    futures = [executor.submit(slow, 1.0), *(executor.submit(leave_mark, str(tmp_path / f"{n}")) for n in range(3))]
    executor.shutdown(wait=False, cancel_futures=True)
    wait(futures, timeout=20)
    assert all(future.exception() is not None for future in futures[1:])
    assert list(tmp_path.iterdir()) == []


def test_results_that_nobody_takes_are_not_worked_for(tmp_path: Path) -> None:
    with RayExecutor(cpus_per_task=2) as executor:
        marks = executor.map(leave_mark, [str(tmp_path / f"{n}") for n in range(4)])
        next(marks)
        del marks
        assert executor.submit(power, 2).result() == 4
    assert len(list(tmp_path.iterdir())) <= 2  # the first, and one that had begun
