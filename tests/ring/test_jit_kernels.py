"""When numba is loaded, and where compiled code is kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import secureagg.ring
from secureagg.warm import KERNEL_MODULES

RING = Path(secureagg.ring.__file__).parent


def test_import_does_not_load_numba() -> None:
    code = "import sys, secureagg.ring; print([m for m in sys.modules if m.split('.')[0] in ('numba', 'llvmlite')])"
    result = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert result.stdout == "[]\n"


def test_only_kernel_modules_import_numba_and_all_are_warmed() -> None:
    sources = {path.stem: path.read_text() for path in RING.glob("*.py")}
    importing = {name for name, text in sources.items() if "import numba" in text or "from numba" in text}
    assert importing == {name for name in sources if name.endswith("_kernels")}
    warmed = {name.removeprefix("ring.") for name in KERNEL_MODULES if name.startswith("ring.")}
    assert warmed == importing - {"jit_kernels"}


@pytest.fixture
def read_only_install(tmp_path: Path) -> Path:
    """The package in a directory whose `__pycache__` cannot be written, not even by root: it is a file."""
    target = tmp_path / "site" / "secureagg"
    shutil.copytree(RING, target / "ring", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(RING.parent / "errors.py", target)
    (target / "__init__.py").touch()
    (target / "ring" / "__pycache__").touch()
    return target.parent


def compile_one_kernel(install: Path, home: Path) -> None:
    """Use the smallest kernel module of the copy, with this home directory."""
    code = "import secureagg.ring.gaussian_kernels as k; print(k.__file__); assert k.invert.signatures"
    env = {key: value for key, value in os.environ.items() if key not in ("XDG_CACHE_HOME", "NUMBA_CACHE_DIR")}
    env |= {"HOME": str(home), "PYTHONPATH": str(install), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=True, env=env, stdout=subprocess.PIPE, text=True, cwd=install)
    assert result.stdout.startswith(str(install))


def test_read_only_install_caches_in_the_users_directory(read_only_install: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    compile_one_kernel(read_only_install, home)
    assert len(list(home.rglob("gaussian_kernels.invert-*.nbc"))) == 1
    compile_one_kernel(read_only_install, home)
    assert len(list(home.rglob("gaussian_kernels.invert-*.nbc"))) == 1


def test_nowhere_to_write_still_works(read_only_install: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.touch()
    compile_one_kernel(read_only_install, home)
