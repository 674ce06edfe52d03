"""Without its engine, an adapter is one line that says what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.cli.test_missing_extras import BLIND


@pytest.mark.parametrize(("engine", "extra"), [("flwr", "flower")])
def test_one_line_with_the_pip_command(engine: str, extra: str) -> None:
    code = "import sys\n" + BLIND.format(package=engine) + f"import secureagg.adapters.{extra}\n"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    line = ended.stderr.splitlines()[-1]
    assert "MissingExtraError" in line and f"pip install 'secureagg[{extra}]'" in line
