"""The site's reading of docstrings, docs/docstrings.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

PATH = Path(__file__).resolve().parent.parent / "docs" / "docstrings.py"
SPEC = importlib.util.spec_from_file_location("docstrings", PATH)
assert SPEC is not None and SPEC.loader is not None
docstrings = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(docstrings)


@pytest.mark.parametrize(
    ("docstring", "names", "expected"),
    [
        ("A `name` and `a + b`, **loud**, *low*.", [], "A :py:obj:`name` and ``a + b``, **loud**, *low*."),
        ("|Σv| ≤ x_*, 2 * 3", [], "\\|Σv\\| ≤ x\\_\\*, 2 \\* 3"),
        ("Code `over\ntwo lines`.", [], "Code ``over two lines``."),
        ("count: one.\nMore.\nsize: two.", ["count", "size"], "``count``: one.\nMore.\n\n``size``: two."),
        ("count: stays a sentence.", [], "count: stays a sentence."),
        ("Text. count: n. Raises: E, if\nnone.", ["count"], "Text.\n\n``count``: n.\n\n**Raises:** E, if\nnone."),
        ("Before:\n\n    x = 1\n\nafter", [], "Before:\n\n\n::\n\n    x = 1\n\nafter"),
        (
            "| a | b |\n|---|---|\n| `x|y` | |z| |",
            [],
            ".. list-table::\n   :header-rows: 1\n\n   * - a\n     - b\n   * - ``x|y``\n     - \\|z\\|",
        ),
    ],
)
def test_blocks(docstring: str, names: list[str], expected: str) -> None:
    assert "\n".join(docstrings.to_restructured_text(docstring.splitlines(), names)).strip() == expected
