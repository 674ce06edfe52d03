"""Without an extra: one line that says what to install, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import SMALL, Spawn

# Finders that do not find one package, which is what it looks like when it is not installed.
BLIND = """
class Blind:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] == {package!r} else self.finder.find_spec(name, path, target)
sys.meta_path = [Blind(finder) for finder in sys.meta_path]
"""


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("typer", "cli", ["--help"]),
        ("rich", "cli", ["plan"]),
        ("tenseal", "tenseal", ["plan", "--scheme", "tenseal"]),
        ("tenseal", "tenseal", [*SMALL, "--no-report", "--scheme", "tenseal"]),
        ("tensorflow", "tensorflow", [*SMALL, "--no-report"]),
        ("sklearn", "tensorflow", [*SMALL, "--no-report"]),
        ("safetensors", "tensorflow", [*SMALL, "--no-report", "--state-dir", "state"]),
    ],
)
def test_one_line_with_the_pip_command(
    spawn: Spawn, tmp_path: Path, package: str, extra: str, arguments: list[str]
) -> None:
    ended = spawn(*arguments, before=BLIND.format(package=package), cwd=tmp_path)
    assert ended.code == ExitCode.MISSING_EXTRA
    assert ended.out == ""
    *earlier, line = ended.err.splitlines()
    assert line.startswith("error: ") and f"pip install 'secureagg[{extra}]'" in line
    assert earlier in ([], ["Preparing data, keys and TensorFlow …"])


def test_without_matplotlib_and_tenseal_the_demo_goes_on(spawn: Spawn, tmp_path: Path) -> None:
    before = BLIND.format(package="matplotlib") + BLIND.format(package="tenseal")
    ended = spawn(*SMALL, "--rounds", "2", before=before, cwd=tmp_path)
    assert ended.code == ExitCode.OK
    first, *others = (line for line in ended.err.splitlines() if not line.startswith("Compiling kernels"))
    assert "pip install 'secureagg[report]'" in first
    assert [line.split()[0] for line in others] == ["Preparing", "round", "round"]  # and not a word of TensorFlow's
    assert "accuracy, last round" in ended.out
    assert list(tmp_path.iterdir()) == []
