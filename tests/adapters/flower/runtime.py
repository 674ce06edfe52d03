"""Flower's own processes on loopback: a SuperLink, SuperNodes if it is not a simulation, and `flwr run`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.adapters.flower.conftest import QUIET

__all__ = ["Runtime", "started"]

ROOT = Path(__file__).resolve().parents[3]
APP, EXAMPLE = Path(__file__).parent / "app", ROOT / "examples" / "flower"
BIN = Path(sys.executable).parent
_PATIENCE_SECONDS = 240.0


class Runtime:
    """A SuperLink and its nodes. Every process is in a group of its own, so that it can be killed with its children."""

    def __init__(self, home: Path, supernodes: int | None) -> None:
        self.home = home
        home.mkdir()
        self.port = free_port()
        self._run = [] if supernodes is None else ["--federation-config", f"num-supernodes={supernodes}"]
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "loopback"\n\n[superlink.loopback]\naddress = "127.0.0.1:{self.port}"\n'
            "insecure = true\n"
        )
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of Flower's programs; its output goes to a file of its own."""
        home = self.home / f"home-{len(self.processes)}"  # as if each were on a machine of its own
        path = os.pathsep.join([str(ROOT), str(EXAMPLE)])
        environment = (
            os.environ
            | QUIET
            | {
                "FLWR_HOME": str(self.home if name == "flwr" else home),
                "PYTHONPATH": path,
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
            }
        )
        with (self.home / f"{len(self.processes)}-{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [str(BIN / name), *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.home,
                start_new_session=True,
            )
        self.processes.append(process)
        return process

    def supernode(self, partition: int) -> subprocess.Popen[bytes]:
        """Start a SuperNode with this part of the data."""
        return self.start(
            "flower-supernode",
            "--insecure",
            "--superlink",
            f"127.0.0.1:{self.port}",
            "--port",
            str(free_port()),
            "--node-config",
            f"partition-id={partition}",
        )

    def run(self, app: Path, **config: object) -> str:
        """Run an app to its end; return its log. Raises: AssertionError with all logs if it fails."""
        process = self.submit(app, **config)
        self.wait_for(lambda: process.poll() is not None, f"the end of {app.name}")
        return (self.home / f"{self.processes.index(process)}-flwr.log").read_text()

    def submit(self, app: Path, **config: object) -> subprocess.Popen[bytes]:
        """Start a run, whose log is streamed until it ends."""
        text = " ".join(f"{key}={toml(value)}" for key, value in config.items())
        return self.start("flwr", "run", str(app), "--stream", *self._run, *(["--run-config", text] if text else []))

    def wait_for(self, there: Callable[[], bool], what: str) -> None:
        """Wait until something is there. Raises: AssertionError with all logs if it does not come."""
        end = time.monotonic() + _PATIENCE_SECONDS
        while not there():
            assert time.monotonic() < end, f"{what} did not come\n{self.logs()}"
            time.sleep(0.2)

    def logs(self) -> str:
        """Return the end of every process's output."""
        return "\n".join(f"== {path.name}\n{path.read_text()[-4000:]}" for path in sorted(self.home.glob("*.log")))


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and all it started, without warning."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@contextmanager
def started(home: Path, *, supernodes: int | None = None) -> Iterator[Runtime]:
    """Start a SuperLink; with `supernodes`, the simulation runtime with so many virtual ones."""
    runtime = Runtime(home, supernodes)
    arguments = ["--insecure", "--port", str(runtime.port), "--disable-runtime-dependency-installation"]
    runtime.start("flower-superlink", *arguments, *(["--simulation"] if supernodes else []))
    try:
        runtime.wait_for(lambda: listens(runtime.port), "the SuperLink")
        yield runtime
    finally:
        for process in reversed(runtime.processes):
            kill(process)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f'"{value}"' if isinstance(value, str) else str(value)
