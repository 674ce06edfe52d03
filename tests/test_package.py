"""The package as a whole: what importing it costs, and what it must not load."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import secureagg

HEAVY = ("tensorflow", "keras", "tenseal", "numba", "llvmlite", "flwr", "nvflare", "ray", "rich", "typer", "matplotlib")


def run_python(code: str) -> str:
    """Return what `code` prints in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("package", ["secureagg", "fl_core"])
def test_import_loads_nothing_heavy(package: str) -> None:
    loaded = json.loads(run_python(f"import {package}, sys, json; print(json.dumps(list(sys.modules)))"))
    assert not {name.split(".")[0] for name in loaded} & set(HEAVY)


def test_import_is_quick() -> None:
    """At most 0.3 s of a processor beyond numpy and cryptography; the least of five, as other load only adds."""
    code = (
        "import numpy, cryptography.hazmat.primitives.ciphers.aead, time; start = time.process_time();"
        "import secureagg; print(time.process_time() - start)"
    )
    assert min(float(run_python(code)) for _ in range(5)) <= 0.3


def test_public_names_exist() -> None:
    assert all(hasattr(secureagg, name) for name in secureagg.__all__)
    assert sorted(secureagg.__all__, key=str.lower) == sorted(set(secureagg.__all__), key=str.lower)
