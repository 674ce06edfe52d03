"""The thread pool: every index once, errors, several callers, forks, and interpreter exit."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from secureagg.errors import ParameterError
from secureagg.ring import workers

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@pytest.fixture(autouse=True)
def _four_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREAGG_THREADS", "4")


def python(code: str, *, threads: str = "4", timeout: float = 60) -> str:
    """Return what `code` prints in an interpreter of its own; a thread left behind makes it time out."""
    env = dict(os.environ, SECUREAGG_THREADS=threads)
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, env=env, timeout=timeout, stdout=subprocess.PIPE, text=True).stdout


def covered(count: int, grain: int) -> list[int]:
    """Return how often each index was done."""
    counts, lock = [0] * count, threading.Lock()

    def task(start: int, stop: int) -> None:
        with lock:
            for index in range(start, stop):
                counts[index] += 1

    workers.run(task, count, grain)
    return counts


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 1001])
@pytest.mark.parametrize("grain", [1, 3, 1000])
@pytest.mark.parametrize("threads", ["1", "2", "9"])
def test_every_index_is_done_once(count: int, grain: int, threads: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREAGG_THREADS", threads)
    assert covered(count, grain) == [1] * count


def test_pieces_run_at_the_same_time() -> None:
    """Four pieces that wait for each other can only end together."""
    meeting = threading.Barrier(4, timeout=30)

    def task(start: int, stop: int) -> None:
        meeting.wait()

    workers.run(task, 4)


def test_two_callers_at_once() -> None:
    """Both get all their pieces done while the other is in the middle of its own."""
    meeting = threading.Barrier(2, timeout=30)
    results: list[list[int]] = []

    def caller() -> None:
        counts = [0] * 50

        def task(start: int, stop: int) -> None:
            if start == 0:
                meeting.wait()
            counts[start] += 1

        workers.run(task, 50)
        results.append(counts)

    threads = [threading.Thread(target=caller) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [[1] * 50] * 2


def test_a_call_from_inside_a_piece_runs_there() -> None:
    names: list[set[str]] = []

    def task(start: int, stop: int) -> None:
        inner: set[str] = set()

        def inner_task(start: int, stop: int) -> None:
            time.sleep(0.001)
            inner.add(threading.current_thread().name)

        workers.run(inner_task, 20)
        names.append(inner - {threading.current_thread().name})

    workers.run(task, 8)
    assert names == [set()] * 8


def test_an_error_ends_the_call_and_reaches_the_caller() -> None:
    done: list[int] = []

    def task(start: int, stop: int) -> None:
        if start == 3:
            raise KeyError("third")
        time.sleep(0.001)
        done.append(start)

    with pytest.raises(KeyError, match="third"):
        workers.run(task, 5000)
    assert len(done) < 100
    assert covered(100, 1) == [1] * 100


def test_an_error_in_a_helper_reaches_the_caller() -> None:
    me = threading.get_ident()
    meeting = threading.Barrier(2, timeout=30)

    def task(start: int, stop: int) -> None:
        meeting.wait()
        if threading.get_ident() != me:
            raise KeyError("helper")

    with pytest.raises(KeyError, match="helper"):
        workers.run(task, 2)


def test_default_is_the_cores_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SECUREAGG_THREADS")
    assert workers.thread_count() == len(os.sched_getaffinity(0))
    monkeypatch.delattr(os, "sched_getaffinity")
    assert workers.thread_count() == os.cpu_count()


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5", " 2", "1025", "9" * 5000, "²", "1_0"])
def test_other_thread_counts_are_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECUREAGG_THREADS", text)
    with pytest.raises(ParameterError, match="between 1 and 1024"):
        workers.run(lambda start, stop: None, 10)


def test_grain_below_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="grain"):
        workers.run(lambda start, stop: None, 10, 0)


WORK = """
import os, sys, threading, warnings
import numpy as np
from secureagg.ring import workers, PublicExpansion, fill_public
from secureagg.ring.params import PRIMES
def work():
    out = np.empty((64, 1, 2048), np.uint64)
    fill_public(out, PublicExpansion(b"sid", "a"), 0, PRIMES[:1])
    return int(out.sum())
"""


@needs_fork
def test_child_of_a_fork_works_and_parent_goes_on() -> None:
    """No pool thread is alive at the fork (Python 3.12 warns of that, and warnings are errors here)."""
    code = (
        WORK
        + """
expected = work()
assert threading.active_count() > 1
pid = os.fork()
if pid == 0:
    os._exit(0 if work() == expected and work() == expected else 1)
assert threading.active_count() == 1
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
assert work() == expected and threading.active_count() > 1
print("done")
"""
    )
    assert python(code) == "done\n"


@needs_fork
def test_fork_while_other_threads_are_at_work() -> None:
    code = (
        WORK.replace("import os,", "import warnings; warnings.simplefilter('ignore')\nimport os,")
        + """
expected, stop = work(), threading.Event()
def busy():
    while not stop.is_set():
        assert work() == expected
threads = [threading.Thread(target=busy) for _ in range(2)]
for thread in threads: thread.start()
for _ in range(10):
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() == expected else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
stop.set()
for thread in threads: thread.join()
print("done")
"""
    )
    assert python(code) == "done\n"


@needs_fork
def test_fork_from_inside_a_piece() -> None:
    """The fork does not wait for pieces that may wait for it, and the child has a pool of its own again."""
    code = (
        WORK.replace("import os,", "import warnings; warnings.simplefilter('ignore')\nimport os,")
        + """
expected, codes, meeting, forked = work(), [], threading.Barrier(3), threading.Event()
def task(start, stop):
    meeting.wait(30)
    if start:
        assert forked.wait(30)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if work() == expected and threading.active_count() > 1 else 1)
    forked.set()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
workers.run(task, 3)
print(codes)
"""
    )
    assert python(code) == "[0, 0, 0]\n"


@pytest.mark.parametrize("method", ["spawn", pytest.param("fork", marks=needs_fork)])
def test_multiprocessing(method: str, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv[1])"
        + WORK
        + """
import multiprocessing
if __name__ == "__main__":
    expected = work()
    with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
        assert pool.starmap(work, [()] * 4) == [expected] * 4
    print("done")
"""
    )
    root = str(Path(workers.__file__).parents[2])
    command = [sys.executable, str(script), root, method]
    result = subprocess.run(command, check=True, timeout=120, stdout=subprocess.PIPE, text=True)
    assert result.stdout == "done\n"


def test_interpreter_exits_and_work_at_exit_is_done_alone() -> None:
    code = (
        "import atexit\n"
        + WORK
        + """
expected = work()
atexit.register(lambda: print(work() == expected))
"""
    )
    assert python(code) == "True\n"


def test_a_daemon_caller_does_not_keep_the_interpreter() -> None:
    code = (
        WORK
        + """
work()
threading.Thread(target=lambda: [work() for _ in iter(int, 1)], daemon=True).start()
print("done")
"""
    )
    assert python(code) == "done\n"
