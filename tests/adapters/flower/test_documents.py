"""The documents about this adapter, every code block of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_documents import OF_ENGINES, ROOT, run_blocks


@pytest.mark.parametrize("name", OF_ENGINES["flower"])
def test_code_blocks_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(ROOT / "docs" / name, tmp_path)
