"""A demo run's figures on the terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secureagg.cli.demo.figures import Figures
from secureagg.cli.demo.privacy_wording import spent_line, stop_line
from secureagg.cli.demo.protection import protection
from secureagg.cli.demo.wording import LANE_TITLES, comparison_rows, deviation_line, headline, task

__all__ = ["print_summary"]


def print_summary(console: Console, figures: Figures) -> None:
    """Print the headline, the table, and what the reader must know beside it."""
    console.print()
    console.print(Text(headline(figures), style="bold"))
    console.print(_table(figures))
    for line in (deviation_line(figures), spent_line(figures)):
        if line:
            console.print(Text(line))
    if stopped := stop_line(figures):
        console.print(Text(stopped, style="bold yellow"))
    lost = sum(len(figures_of_round.dropped) for figures_of_round in (figures.private or figures.plain).rounds)
    if lost:
        console.print(Text(f"Contributions lost or refused: {lost}; report and --json say whose and why."))
    console.print(Text(f"Not protected on this path: {protection(figures).exposed[0]}", style="yellow"))


def _table(figures: Figures) -> Table:
    table = Table(
        title=task(figures.settings, figures.model_values), title_justify="left", title_style="dim", box=box.SIMPLE_HEAD
    )
    table.add_column("")
    table.add_column(LANE_TITLES["plain"], justify="right")
    if figures.private is not None:
        table.add_column(LANE_TITLES["private"], justify="right", style="bold")
        table.add_column("private ÷ plain", justify="right", style="cyan")
    for group in comparison_rows(figures):
        for row in group:
            cells = (row.name, row.plain, row.private, row.overhead)
            table.add_row(*cells[: len(table.columns)], end_section=row is group[-1])
    return table
