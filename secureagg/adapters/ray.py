"""Ray as an executor: contributions are verified and summed on a cluster, and admitted here.

    ray.init()                                             # or the address of a cluster
    with RayExecutor() as executor:
        verdicts = aggregator.admit_many(paths, executor=executor)

Workers see what the aggregator sees, ciphertexts and proofs, and the paths must lead to the same files there. What they
answer is believed, so the cluster has to be the aggregator's own. When that pays: docs/benchmarks.md.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from concurrent.futures import wait as wait_for
from typing import Any, ParamSpec, TypeVar

from secureagg.checks import as_whole
from secureagg.errors import MissingExtraError
from secureagg.ring.workers import MAX_THREADS

try:
    import ray
except ModuleNotFoundError as error:
    raise MissingExtraError("ray", "ray") from error

__all__ = ["RayExecutor"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class RayExecutor(Executor):
    """Runs each call as a Ray task on the cluster that `ray.init` has joined; without one Ray starts a local one.

    cpus_per_task: that a task reserves, and threads that secureagg uses in it. Functions, arguments and results are
    pickled. An error that a task raises arrives as one of its own type.

    Guarantees: `map` sends its function to the cluster once, and takes results from it one by one as they are asked
    for. Shutting down waits for tasks, or cancels those not begun; it leaves the cluster running.
    """

    def __init__(self, *, cpus_per_task: int = 1) -> None:
        self._cpus = as_whole("cpus_per_task", cpus_per_task, 1, MAX_THREADS)
        self._task = ray.remote(_call).options(num_cpus=self._cpus)
        self._running: dict[Future[Any], ray.ObjectRef] = {}  # of every result type
        self._closed = False
        self._lock = threading.Lock()

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Run the call as a task; return its future, of which `cancel` gives up the answer, not the work."""
        with self._lock:
            self._require_open()
            reference = self._task.remote(self._cpus, fn, args, kwargs)
            future: Future[_T] = reference.future()
            self._running[future] = reference
        future.add_done_callback(self._forget)
        return future

    def map(  # the caller's iterables decide what fn takes, which no type says
        self, fn: Callable[..., _T], *iterables: Iterable[object], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[_T]:
        """Return fn's results in order; every call is a task at once. Raises: TimeoutError `timeout` seconds from now.

        chunksize is taken for the interface's sake: a task is one call.
        """
        with self._lock:
            self._require_open()
            shared, until = ray.put(fn), None if timeout is None else time.monotonic() + timeout
            waiting = deque(self._task.remote(self._cpus, shared, args, {}) for args in zip(*iterables, strict=False))
        return _results(waiting, until)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those of `submit`, unless told otherwise."""
        with self._lock:
            self._closed = True
            running = dict(self._running)
        if cancel_futures:
            for reference in running.values():
                ray.cancel(reference)
        if wait:
            wait_for(running)

    def _require_open(self) -> None:
        if self._closed:
            raise RuntimeError("this executor is shut down")  # as the interface has it

    def _forget(self, future: Future[Any]) -> None:
        with self._lock:
            self._running.pop(future, None)


def _call(threads: int, fn: Callable[..., _T], args: tuple[object, ...], kwargs: dict[str, object]) -> _T:
    """Run in a worker, on as many threads as the task has reserved cores."""
    os.environ["SECUREAGG_THREADS"] = str(threads)
    return fn(*args, **kwargs)


def _results(waiting: deque[ray.ObjectRef], until: float | None) -> Iterator[Any]:
    """Yield results in order, letting go of each before the next; tasks that nobody waits for are cancelled."""
    try:
        while waiting:
            left = None if until is None else max(0.0, until - time.monotonic())
            yield ray.get(waiting[0], timeout=left)
            waiting.popleft()
    finally:
        for reference in waiting:
            ray.cancel(reference)
