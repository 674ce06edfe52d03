"""Every code block of README and docs runs here, block after block in one namespace per document.

Python blocks are executed, in a process of their own as a reader would: native libraries that two pages import do not
always bear one another. Console blocks are commands a reader would type: `secureagg …` runs for real, a `make`
target must exist, an extra named to pip must be one of ours, what `flwr run` is given an app, and a module of ours
runs. Output blocks are what the block before them printed, but for figures, which are those of one machine; "…" stands
for the rest of a line. Text blocks are neither code nor its output. Documents about an engine run among its
adapter's tests, in its environment.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from contextlib import redirect_stdout
from io import StringIO
from itertools import chain
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
OF_ENGINES = {"flower": ("flower.md", "migrate-flower.md"), "nvflare": ("migrate-nvflare.md",), "ray": ("ray.md",)}
HERE = [path for path in DOCUMENTS if path.name not in chain.from_iterable(OF_ENGINES.values())]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def run_console(example: Example) -> None:
    """Check each command of a console block."""
    for line in str(example.parsed).splitlines():
        command = shlex.split(line, comments=True)
        if not command:
            continue
        if command[0] == "make":
            subprocess.run(["make", "--dry-run", *command[1:]], cwd=ROOT, check=True, capture_output=True)
        elif command[0] == "pip":
            extras = re.findall(r"\[([\w,-]+)\]", line)
            assert all(extra in EXTRAS for named in extras for extra in named.split(",")), line
        elif command[:2] == ["python", "-m"]:
            subprocess.run([sys.executable, *command[1:]], cwd=example.namespace["directory"], check=True)
        elif command[:2] == ["flwr", "run"]:
            assert (ROOT / command[2] / "pyproject.toml").exists(), line
        elif command[0] == "secureagg":
            subprocess.run(
                [sys.executable, "-m", "secureagg", *command[1:]],
                cwd=example.namespace["directory"],
                env={**os.environ, "COLUMNS": "120"},
                check=True,
                capture_output=True,
            )
        else:
            raise AssertionError(f"no rule to check this command: {line}")


def shape(line: str) -> str:
    """The line without its figures and the widths they make."""
    return " ".join(re.sub(r"\d[\d.,]*", "#", line).split())


def check_output(example: Example) -> None:
    """Compare an output block with what the block before it printed."""
    shown, printed = str(example.parsed).splitlines(), example.namespace["printed"].splitlines()
    assert len(shown) == len(printed), f"{len(shown)} lines are shown, {len(printed)} were printed: {printed}"
    for expected, found in zip(map(shape, shown), map(shape, printed), strict=True):
        start, rest, _ = expected.partition("…")
        assert found.startswith(start) and (rest or found == expected), f"{expected!r} is shown for {found!r}"


PARSER = Sybil(
    parsers=[
        PythonCodeBlockParser(),
        CodeBlockParser(language="console", evaluator=run_console),
        CodeBlockParser(language="output", evaluator=check_output),
    ]
)


def run_blocks(path: Path, directory: Path) -> None:
    """Run the blocks of one document, from this directory."""
    document = PARSER.parse(path)
    document.namespace["directory"] = directory
    for example in document.examples():
        with redirect_stdout(StringIO()) as printed:
            example.evaluate()
        document.namespace["printed"] = printed.getvalue()


@pytest.mark.parametrize("path", HERE, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_blocks_run(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-m", "tests.test_documents", str(path)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_blocks_have_a_checked_language(path: Path) -> None:
    fences = re.findall(r"^```(\w*)$", path.read_text(), flags=re.MULTILINE)
    opening = fences[::2]
    assert set(opening) <= {"python", "console", "output", "text"}, f"unchecked languages: {set(opening)}"
    assert all(not closing for closing in fences[1::2])


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_text_block_is_code_that_nothing_runs(path: Path) -> None:
    for block in re.findall(r"^```text\n(.*?)^```$", path.read_text(), flags=re.MULTILINE | re.DOTALL):
        for code in (block, textwrap.dedent(block), *block.splitlines()):
            with pytest.raises(SyntaxError):
                ast.parse(code)
        assert not re.search(r"^\s*(\$|pip|python|make|secureagg|flwr|nvflare) ", block, flags=re.MULTILINE), block


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), f"{path.name} links to {target}"


if __name__ == "__main__":
    run_blocks(Path(sys.argv[1]), Path.cwd())
