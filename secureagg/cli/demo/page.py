"""The frame of every report: one HTML page that needs nothing else, no network and no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import secureagg
from secureagg.plan_report import counted

__all__ = ["page", "pictures", "table", "unfolding"]

_OPEN_ROWS = 20


def page(title: str, headline: str, lead: str, content: Iterable[str]) -> str:
    """Return the page; `content` is HTML, the rest is text."""
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>secureagg demo: {escape(title)}</title>",
            f"<style>{_CSS}</style></head><body><main>",
            f'<p class="kicker">secureagg {escape(secureagg.__version__)} · demo</p>',
            f"<h1>{escape(headline)}</h1>",
            f'<p class="lead">{escape(lead)}</p>',
            *content,
            "</main></body></html>",
            "",
        ]
    )


def pictures(drawn: Iterable[str]) -> Iterable[str]:
    """Yield SVG pictures side by side."""
    yield '<section class="pictures">'
    yield from (f"<figure>{picture}</figure>" for picture in drawn)
    yield "</section>"


def table(kind: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of "numbers" or of "words"; cells are text."""
    head = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in heads) + "</tr>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll {kind}"><table>{head}{body}</table></div>'


def unfolding(noun: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of words that is folded if it is long; `noun` is what one row is about."""
    inside, is_open = table("words", heads, rows), " open" if len(rows) <= _OPEN_ROWS else ""
    return f"<details{is_open}><summary>{escape(counted(len(rows), noun))}</summary>{inside}</details>"


_CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f9; color: #1f2937; font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1060px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .6rem; max-width: 34em; }
h2 { font-size: 1.1rem; margin: 2.4rem 0 .6rem; }
.kicker { color: #6b7280; font-size: .85rem; margin: 0 0 .5rem; }
.lead { color: #4b5563; max-width: 60em; }
.protection { display: grid; grid-template-columns: repeat(auto-fit, minmax(320px, 1fr)); gap: 16px; margin: 1.6rem 0; }
.protection div { background: #fff; border-radius: 8px; padding: 14px 20px; border-left: 4px solid #3f7d58; }
.protection h2 { margin: 0 0 .3rem; font-size: 1rem; }
.protection ul { margin: 0; padding-left: 1.1rem; font-size: .92rem; }
.protection .exposed { border-color: #b3402a; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 16px; }
figure { margin: 0; background: #fff; border-radius: 8px; padding: 12px; }
figure svg { width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; background: #fff; border-radius: 8px; padding: 6px 18px; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 6px 0 6px 24px; border-bottom: 1px solid #eceff3; vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; }
.numbers :is(th, td):not(:first-child) { text-align: right; }
.words td:first-child { color: #6b7280; white-space: nowrap; width: 1%; }
tr:last-child td { border-bottom: 0; }
th { color: #6b7280; font-weight: 600; }
pre { background: #fff; border-radius: 8px; padding: 16px 18px; overflow-x: auto; font-size: .82rem; line-height: 1.5; }
summary { cursor: pointer; margin-bottom: .5rem; }
"""
