"""A federation as NVFlare deploys it: kits provisioned with certificates, a server, sites and an administrator."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from nvflare.fuel.flare_api.flare_api import Session, new_secure_session

PROJECT = "deployed"
ADMINISTRATOR = "admin@example.org"
SERVER = "localhost"


def provision(folder: Path, sites: Sequence[str], ports: tuple[int, int] = (8002, 8003)) -> dict[str, Path]:
    """Return each participant's startup kit, made by NVFlare's own command."""
    folder.mkdir(parents=True)
    participants: list[dict[str, object]] = [
        {"name": SERVER, "type": "server", "org": "example", "fed_learn_port": ports[0], "admin_port": ports[1]},
        {"name": ADMINISTRATOR, "type": "admin", "org": "example", "role": "project_admin"},
        *({"name": site, "type": "client", "org": "example"} for site in sites),
    ]
    builders = [
        "workspace.WorkspaceBuilder",
        "static_file.StaticFileBuilder",
        "cert.CertBuilder",
        "signature.SignatureBuilder",
    ]
    project = {
        "api_version": 3,
        "name": PROJECT,
        "description": "a test",
        "participants": participants,
        "builders": [{"path": f"nvflare.lighter.impl.{builder}", "args": {}} for builder in builders],
    }
    described = folder / "project.yml"
    described.write_text(json.dumps(project), encoding="utf-8")  # YAML holds JSON
    command = [str(Path(sys.executable).parent / "nvflare"), "provision", "-p", str(described), "-w", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    return {str(each["name"]): folder / PROJECT / "prod_00" / str(each["name"]) for each in participants}


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, all different."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(closing(socket.create_server(("localhost", 0)))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def running(kits: dict[str, Path], environment: dict[str, str]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start the server and the sites as their kits do, each a process group of its own, and kill them in the end."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, kit in kits.items():
            if name == ADMINISTRATOR:
                continue
            with (kit / "printed.txt").open("wb") as printed:
                processes[name] = subprocess.Popen(
                    ["bash", str(kit / "startup" / "sub_start.sh"), "--once"],
                    env={**os.environ, **environment, "PATH": path},
                    stdout=printed,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        yield processes
    finally:
        for process in processes.values():
            kill(process)


def kill(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL the process and all it has started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def administered(kits: dict[str, Path], sites: int, timeout: float = 60.0) -> Iterator[Session]:
    """A session of the administrator's, once this many sites have joined."""
    session = new_secure_session(ADMINISTRATOR, str(kits[ADMINISTRATOR]), timeout=timeout)
    try:
        until = time.monotonic() + timeout
        while len(session.get_system_info().client_info) < sites:
            if time.monotonic() > until:
                raise TimeoutError(f"{sites} sites did not join within {timeout} s")
            time.sleep(0.2)
        yield session
    finally:
        session.close()
