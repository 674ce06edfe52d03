"""The one thread pool: `run` shares a range of independent pieces among the cores this process may use.

The caller works too, so a call makes progress when every thread is busy or none can be started, and a call from
inside a piece of work simply runs there. Idle threads are joined before a fork and at interpreter exit, and a forked
child starts with no pool. Threads gain only where the work releases the GIL: kernels and AES do.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from secureagg.errors import ParameterError

__all__ = ["MAX_THREADS", "Task", "run", "thread_count"]

Task = Callable[[int, int], None]

MAX_THREADS = 1024
_VARIABLE = "SECUREAGG_THREADS"


def thread_count() -> int:
    """Return how many threads a call may use: `SECUREAGG_THREADS`, else the cores this process may run on.

    Raises: ParameterError if the variable is not an integer in [1, 1024].
    """
    text = os.environ.get(_VARIABLE)
    if text is None:
        return _usable_cores()
    if not (text.isascii() and text.isdigit() and len(text) <= 4 and 1 <= int(text) <= MAX_THREADS):
        raise ParameterError(f"{_VARIABLE}={text!r} is not a number of threads between 1 and {MAX_THREADS}")
    return int(text)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(len(os.sched_getaffinity(0)), MAX_THREADS)
    return min(os.cpu_count() or 1, MAX_THREADS)  # macOS and Windows


class _Call:
    """Pieces [start, stop) of one `run`, each handed out once, to whoever asks next."""

    def __init__(self, task: Task, count: int, grain: int) -> None:
        self._task, self._count, self._grain = task, count, grain
        self._next = 0
        self._lock = threading.Lock()

    def work(self) -> None:
        """Do pieces until none is left. A piece that raises ends the call: no further one is begun."""
        outer = getattr(_thread, "working", False)
        _thread.working = True
        try:
            while (start := self._take()) < self._count:
                self._task(start, min(start + self._grain, self._count))
        except BaseException:
            with self._lock:
                self._next = self._count
            raise
        finally:
            _thread.working = outer

    def _take(self) -> int:
        with self._lock:
            start = self._next
            self._next = start + self._grain
        return start


class _Pool:
    """The executor, made when first needed, replaced when its size changes, given up around a fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._executor: ThreadPoolExecutor | None = None
        self._size = 0
        self._calls = 0

    def join(self, call: _Call, helpers: int, size: int) -> list[Future[None]]:
        """Ask for `helpers` threads to work on the call; fewer come if threads cannot be had, as at exit."""
        futures: list[Future[None]] = []
        with self._lock:
            self._calls += 1
            if self._executor is None or self._size != size:
                if self._executor is not None:
                    self._executor.shutdown(wait=False)
                self._executor = ThreadPoolExecutor(size, thread_name_prefix="secureagg")
                self._size = size
            with suppress(RuntimeError):  # the interpreter is going down: the caller works alone
                futures.extend(self._executor.submit(call.work) for _ in range(helpers))
        return futures

    def leave(self) -> None:
        """Say that a call has ended."""
        with self._lock:
            self._calls -= 1

    def retire(self) -> None:
        """Let go of the threads; wait for them only if they are idle, since a busy one may wait for this thread."""
        with self._lock:
            executor, self._executor = self._executor, None
            idle = self._calls == 0
        if executor is not None:
            executor.shutdown(wait=idle)


_thread = threading.local()
_pool = _Pool()


def _forget_pool() -> None:
    """In a forked child the parent's threads do not exist and its locks may be held for ever."""
    global _pool
    _pool = _Pool()
    _thread.__dict__.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lambda: _pool.retire(), after_in_child=_forget_pool)


def run(task: Task, count: int, grain: int = 1) -> None:
    """Call `task(start, stop)` for pieces of `grain` that cover range(count), each index once, in any order, on up
    to `thread_count()` threads; return when all are done.

    Pieces must be independent of each other. Safe from several threads at once, after a fork, and from inside a
    task. Raises: what a task raised (the caller's own error first); then some pieces may not have run.
    """
    if grain < 1:
        raise ParameterError(f"grain = {grain} must be at least 1")
    call = _Call(task, count, grain)
    if getattr(_thread, "working", False):
        call.work()
        return
    size = thread_count()
    helpers = min(size, -(-count // grain)) - 1
    if helpers <= 0:
        call.work()
        return
    pool = _pool
    futures = pool.join(call, helpers, size - 1)
    try:
        call.work()
    finally:
        errors = _settle(futures)
        pool.leave()
    if errors:
        raise errors[0]


def _settle(futures: list[Future[None]]) -> list[BaseException]:
    """Wait for the helpers that have begun, one may be in the middle of a piece; return what they raised."""
    running = [future for future in futures if not future.cancel()]
    return [error for future in running if (error := future.exception()) is not None]
