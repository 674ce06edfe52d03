"""A demo run as one HTML page that needs nothing else: no network, no scripts, SVG inside."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from pathlib import Path

from secureagg.cli.demo import charts
from secureagg.cli.demo.figures import Figures
from secureagg.cli.demo.page import page, pictures, table, unfolding
from secureagg.cli.demo.privacy_report import privacy_section
from secureagg.cli.demo.protection import protection
from secureagg.cli.demo.settings import LocalTraining, OneShotSettings, Settings, TensealSettings
from secureagg.cli.demo.spending import quorum
from secureagg.cli.demo.wording import LANE_TITLES, comparison_rows, deviation_line, headline, task
from secureagg.errors import MissingExtraError
from secureagg.plan_report import counted

__all__ = ["missing_for_report", "run_rows", "write_report"]


def missing_for_report() -> str | None:
    """Return what is not installed and how to install it, None if the report can be written."""
    return None if charts.drawable() else str(MissingExtraError("matplotlib", "report"))


def write_report(path: Path, figures: Figures) -> None:
    """Write the page. Equal figures give equal bytes."""
    path.write_text(_page(figures), encoding="utf-8")


def _page(figures: Figures) -> str:
    drawn = [
        charts.curves(figures.trainings, "Accuracy on the test examples", lambda r: r.accuracy, percent=True),
        charts.curves(figures.trainings, "Loss on the test examples", lambda r: r.loss),
        charts.bytes_chart(figures.trainings),
        charts.seconds_chart(figures.trainings),
        *([charts.deviation_chart(figures)] if _deviates(figures) else []),
        charts.holdings_chart(figures.holdings),
    ]
    described = task(figures.settings, figures.model_values)
    content = [
        *_protection(figures),
        *privacy_section(figures),
        *pictures(drawn),
        "<h2>All figures</h2>",
        *_comparison(figures),
        "<h2>Who was not in a round, and why</h2>",
        *_drops(figures),
        "<h2>What was run</h2>",
        *_settings(figures),
    ]
    return page(described, headline(figures), f"{described}. {deviation_line(figures)}", content)


def _deviates(figures: Figures) -> bool:
    return figures.comparison is not None and figures.comparison.deviation_limit is not None


def _protection(figures: Figures) -> Iterable[str]:
    found = protection(figures)
    yield '<section class="protection">'
    for title, kind, lines in (
        ("Not protected on this path", "exposed", found.exposed),
        ("Protected", "kept", found.kept),
    ):
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            yield f'<div class="{kind}"><h2>{title}</h2><ul>{items}</ul></div>'
    yield "</section>"


def _comparison(figures: Figures) -> Iterable[str]:
    heads = ["", LANE_TITLES["plain"], LANE_TITLES["private"], "private ÷ plain"]
    columns = 4 if figures.private else 2
    yield table(
        "numbers",
        heads[:columns],
        [
            (row.name, row.plain, row.private, row.overhead)[:columns]
            for group in comparison_rows(figures)
            for row in group
        ],
    )


def _drops(figures: Figures) -> Iterable[str]:
    rows = [
        (str(r.round_number), LANE_TITLES[lane], str(client), reason)
        for lane, training in figures.trainings.items()
        for r in training.rounds
        for client, reason in sorted(r.dropped.items())
    ]
    if not rows:
        yield "<p>Nobody: every client was in every round.</p>"
        return
    rows.sort(key=lambda row: int(row[0]))
    yield unfolding("absence", ["round", "training", "client", "reason"], rows)


def _settings(figures: Figures) -> Iterable[str]:
    rows = [
        *run_rows(figures.settings, figures.model_values, figures.local_training),
        *_encryption(figures),
        *figures.versions.items(),
    ]
    yield table("words", [], rows)
    if figures.parameters is not None:
        yield f"<h2>Why these encryption parameters</h2><pre>{escape(figures.parameters)}</pre>"


def run_rows(settings: Settings, model_values: int, local: LocalTraining) -> list[tuple[str, str]]:
    """Return what was trained, and how."""
    return [
        ("data", f"{settings.dataset}, spread {settings.partition}"),
        ("clients, rounds", f"{settings.clients}, {settings.rounds}"),
        ("model", f"{settings.model}, {model_values:,} weights"),
        (
            "at each client",
            f"SGD at {local.learning_rate:g}, {counted(local.epochs, 'epoch')}, batches of {local.batch_size}",
        ),
        ("a client vanishes", f"with probability {settings.drop:g} in a round; {quorum(settings)} must be left"),
        ("seed", str(settings.seed)),
    ]


def _encryption(figures: Figures) -> list[tuple[str, str]]:
    scheme = figures.settings.scheme
    match figures.settings.encryption:
        case OneShotSettings() as chosen:
            proofs = ", proven" if chosen.proofs else ""
            return [
                ("encryption", f"{scheme}, L2 norm ≤ {chosen.l2_clip:g}, {chosen.value_bits} bits a value{proofs}"),
                ("committee", f"{counted(chosen.members, 'member')}, {chosen.absent_members} of them always away"),
                ("roster, prekeys", "64 bytes a client and 237 a member to each client; not in the table above"),
            ]
        case TensealSettings() as chosen:
            return [
                ("encryption", f"{scheme}, |value| ≤ {chosen.magnitude:g}, precision {chosen.precision:g}"),
                ("public key", f"{figures.key_bytes:,} bytes to each client, once; not in the table above"),
            ]
        case None:
            return []
