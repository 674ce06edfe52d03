"""The report's section about a privacy budget."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from secureagg.cli.demo import charts
from secureagg.cli.demo.figures import Figures
from secureagg.cli.demo.page import pictures, table, unfolding
from secureagg.cli.demo.privacy_wording import (
    BASELINE,
    budget_rows,
    client_rows,
    curve_heads,
    curve_rows,
    spent_line,
    stop_line,
)

__all__ = ["privacy_section"]


def privacy_section(figures: Figures) -> Iterable[str]:
    """Yield HTML: what is spent, the curve, each round, and each client; nothing without a budget."""
    if figures.privacy is None:
        return
    yield "<h2>The privacy budget</h2>"
    yield from (f"<p>{escape(line)}</p>" for line in (spent_line(figures), stop_line(figures)) if line)
    yield from pictures([charts.accuracy_epsilon_chart(figures)])
    if figures.floating is not None:
        yield f"<p>{escape(BASELINE)}</p>"
    yield table("words", [], budget_rows(figures))
    yield "<h2>ε and accuracy by round</h2>"
    yield unfolding("round", curve_heads(figures), curve_rows(figures))
    if clients := client_rows(figures):
        yield "<h2>What each client has spent</h2>"
        yield unfolding("client", ["client", "examples", "noise ÷ clip", "rounds", "ε"], clients)
