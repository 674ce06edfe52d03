"""Without Ray its adapter says in one line what to install; nothing else asks for it."""

from __future__ import annotations

import importlib
import sys

import pytest

from secureagg.errors import MissingExtraError


def test_one_line_with_the_pip_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "secureagg.adapters.ray", raising=False)
    with pytest.raises(MissingExtraError) as caught:
        importlib.import_module("secureagg.adapters.ray")
    assert str(caught.value) == "ray is not installed; run: pip install 'secureagg[ray]'"
    assert "ray" not in sys.modules or sys.modules["ray"] is None
