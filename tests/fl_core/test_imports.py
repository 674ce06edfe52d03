"""What importing the package needs, and what a missing extra says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fl_core as fl
from fl_core.extras import extra

ROOT = Path(fl.__file__).parents[1]


def test_import_needs_numpy_alone() -> None:
    heavy = ("tensorflow", "keras", "sklearn", "safetensors", "numba", "secureagg")
    program = f"import sys, fl_core; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_all_names_exist_and_are_sorted_once() -> None:
    assert all(hasattr(fl, name) for name in fl.__all__)
    assert len(set(fl.__all__)) == len(fl.__all__)


WITHOUT = """
import pathlib, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name={package!r})

sys.meta_path.insert(0, Absent())
import numpy as np
import fl_core as fl
from fl_core.state import Checkpoint, save_checkpoint
try:
    {use}
except fl.MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "use"),
    [
        ("sklearn", "fl.digits()"),
        ("keras", "fl.mlp((3,), 2)"),
        ("tensorflow", "fl.KerasTrainer(lambda: None)"),
        ("safetensors", "save_checkpoint(pathlib.Path({path!r}), Checkpoint(1, {{}}, [np.zeros(2)], {{}}))"),
    ],
)
def test_missing_extra_is_one_line_with_the_command(package: str, use: str, tmp_path: Path) -> None:
    program = WITHOUT.format(package=package, use=use.format(path=str(tmp_path)))
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{package} is not installed: pip install 'secureagg[tensorflow]'"


def test_extra_does_not_explain_an_import_that_fails_inside_a_package(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_package.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there") as raised:
        extra("broken_package")
    assert not isinstance(raised.value, fl.MissingExtraError)
