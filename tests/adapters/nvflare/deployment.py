"""A federation as NVFlare deploys it: kits provisioned with certificates, a server, sites and an administrator."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

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
