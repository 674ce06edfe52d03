"""A demo run as one HTML page that needs nothing else: no network, no scripts, SVG inside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from secureagg.cli import charts
from secureagg.cli.figures import Figures
from secureagg.cli.settings import OneShotSettings, TensealSettings
from secureagg.cli.wording import LANE_TITLES, PROTECTION, comparison_rows, deviation_line, headline, task
from secureagg.errors import MissingExtraError

__all__ = ["missing_for_report", "write_report"]


def missing_for_report() -> str | None:
    """Return what is not installed and how to install it, None if the report can be written."""
    return None if charts.drawable() else str(MissingExtraError("matplotlib", "report"))


def write_report(path: Path, figures: Figures) -> None:
    """Write the page. Equal figures give equal bytes."""
    path.write_text(_page(figures), encoding="utf-8")


def _page(figures: Figures) -> str:
    private = figures.private is not None
    pictures = [
        charts.curves(figures, "Accuracy on the test examples", lambda r: r.accuracy, percent=True),
        charts.curves(figures, "Loss on the test examples", lambda r: r.loss),
        charts.bytes_chart(figures),
        charts.seconds_chart(figures),
        *([charts.deviation_chart(figures)] if private else []),
        charts.holdings_chart(figures),
    ]
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>secureagg demo: {escape(task(figures))}</title>",
            f"<style>{_CSS}</style></head><body><main>",
            f'<p class="kicker">secureagg {escape(figures.version)} · demo</p>',
            f"<h1>{escape(headline(figures))}</h1>",
            f'<p class="lead">{escape(task(figures))}. {escape(deviation_line(figures))}</p>',
            *_protection(figures),
            '<section class="pictures">',
            *(f"<figure>{picture}</figure>" for picture in pictures),
            "</section>",
            "<h2>All figures</h2>",
            *_comparison(figures),
            "<h2>Who was not in a round, and why</h2>",
            *_drops(figures),
            "<h2>What was run</h2>",
            *_settings(figures),
            "</main></body></html>",
            "",
        ]
    )


def _protection(figures: Figures) -> Iterable[str]:
    protection = PROTECTION[figures.settings.scheme]
    yield '<section class="protection">'
    for title, kind, lines in (
        ("Not protected on this path", "exposed", protection.exposed),
        ("Protected", "kept", protection.kept),
    ):
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            yield f'<div class="{kind}"><h2>{title}</h2><ul>{items}</ul></div>'
    yield "</section>"


def _comparison(figures: Figures) -> Iterable[str]:
    heads = ["", LANE_TITLES["plain"], LANE_TITLES["private"], "private ÷ plain"]
    columns = 4 if figures.private else 2
    yield _table(
        "numbers",
        heads[:columns],
        [
            (row.name, row.plain, row.private, row.overhead)[:columns]
            for group in comparison_rows(figures)
            for row in group
        ],
    )


def _drops(figures: Figures) -> Iterable[str]:
    lanes = (("plain", figures.plain), ("private", figures.private))
    rows = [
        (str(r.round_number), LANE_TITLES[lane], str(client), reason)
        for lane, training in lanes
        if training is not None
        for r in training.rounds
        for client, reason in sorted(r.dropped.items())
    ]
    if not rows:
        yield "<p>Nobody: every client was in every round.</p>"
        return
    rows.sort(key=lambda row: int(row[0]))
    table = _table("words", ["round", "training", "client", "reason"], rows)
    yield f"<details{' open' if len(rows) <= _OPEN_ROWS else ''}><summary>{len(rows)} times</summary>{table}</details>"


def _settings(figures: Figures) -> Iterable[str]:
    settings, local = figures.settings, figures.local_training
    rows = [
        ("data", f"{settings.dataset}, spread {settings.partition}"),
        ("clients, rounds", f"{settings.clients}, {settings.rounds}"),
        ("model", f"{settings.model}, {figures.model_values:,} weights"),
        ("at each client", f"SGD at {local.learning_rate:g}, {local.epochs} epochs, batches of {local.batch_size}"),
        ("a client vanishes", f"with probability {settings.drop:g} in a round; two must be left"),
        ("seed", str(settings.seed)),
    ]
    rows += _encryption(figures)
    rows += list(figures.versions.items())
    yield _table("words", [], rows)
    if figures.parameters is not None:
        yield f"<h2>Why these encryption parameters</h2><pre>{escape(figures.parameters)}</pre>"


def _encryption(figures: Figures) -> list[tuple[str, str]]:
    scheme = figures.settings.scheme
    match figures.settings.encryption:
        case OneShotSettings() as chosen:
            return [
                ("encryption", f"{scheme}, L2 norm ≤ {chosen.l2_clip:g}, {chosen.value_bits} bits a value"),
                ("committee", f"{chosen.members} members, {chosen.absent_members} of them always away"),
                ("roster, prekeys", "64 bytes a client and 237 a member to each client; not in the table above"),
            ]
        case TensealSettings() as chosen:
            return [
                ("encryption", f"{scheme}, |value| ≤ {chosen.magnitude:g}, precision {chosen.precision:g}"),
                ("public key", f"{figures.key_bytes:,} bytes to each client, once; not in the table above"),
            ]
        case None:
            return []


def _table(kind: str, heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in heads) + "</tr>" if heads else ""
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll {kind}"><table>{head}{body}</table></div>'


_OPEN_ROWS = 20

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
