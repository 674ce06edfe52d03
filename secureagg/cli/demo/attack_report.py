"""An attacked run as one HTML page, and on the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secureagg.cli.demo import charts
from secureagg.cli.demo.attack_figures import AttackFigures
from secureagg.cli.demo.attack_wording import CAVEAT, STORIES, attack_headline, attack_rows, attackers, events
from secureagg.cli.demo.page import page, pictures, table
from secureagg.cli.demo.report import run_rows
from secureagg.cli.demo.wording import LANE_TITLES, task

__all__ = ["print_attack", "write_attack_report"]


def print_attack(console: Console, figures: AttackFigures) -> None:
    """Print the headline, the attack, the table, and who was refused."""
    console.print()
    console.print(Text(attack_headline(figures), style="bold"))
    console.print(Text(STORIES[figures.attack.kind]))
    described = task(figures.settings, figures.model_values)
    shown = Table(title=described, title_justify="left", title_style="dim", box=box.SIMPLE_HEAD)
    shown.add_column("")
    for lane in figures.lanes:
        shown.add_column(LANE_TITLES[lane], justify="right", style="bold" if lane == "proven" else "")
    for group in attack_rows(figures):
        for row in group:
            shown.add_row(*row, end_section=row is group[-1])
    console.print(shown)
    for rounds, lane, who, reason in _events(figures):
        console.print(Text(f"{lane}, {who}, rounds {rounds}: {reason}"))
    console.print(Text(CAVEAT, style="yellow"))


def write_attack_report(path: Path, figures: AttackFigures) -> None:
    """Write the page. Equal figures give equal bytes."""
    described = task(figures.settings, figures.model_values)
    drawn = [
        charts.curves(figures.trainings, "Accuracy on the test examples", lambda r: r.accuracy, percent=True),
        charts.curves(figures.trainings, "Loss on the test examples", lambda r: r.loss, logarithmic=True),
        charts.bytes_chart(figures.trainings),
        charts.seconds_chart(figures.trainings),
        charts.holdings_chart(figures.holdings),
    ]
    content = [
        f"<h2>The attack</h2><p>{escape(STORIES[figures.attack.kind])} Malicious: {escape(attackers(figures))}.</p>",
        f"<p>{escape(CAVEAT)}</p>",
        *pictures(drawn),
        "<h2>All figures</h2>",
        table(
            "numbers",
            ["", *(LANE_TITLES[lane] for lane in figures.lanes)],
            [row for group in attack_rows(figures) for row in group],
        ),
        "<h2>Who was refused, which rounds were lost, and why</h2>",
        table("words", ["rounds", "training", "who", "reason"], _events(figures)),
        "<h2>What was run</h2>",
        table(
            "words",
            [],
            [
                *run_rows(figures.settings, figures.model_values, figures.local_training),
                ("malicious", attackers(figures)),
                *figures.versions.items(),
            ],
        ),
        f"<h2>Why these encryption parameters</h2><pre>{escape(figures.parameters)}</pre>",
    ]
    path.write_text(page(described, attack_headline(figures), f"{described}.", content), encoding="utf-8")


def _events(figures: AttackFigures) -> Iterable[tuple[str, str, str, str]]:
    for name, lane in figures.lanes.items():
        for rounds, who, reason in events(lane):
            yield rounds, LANE_TITLES[name], who, reason
