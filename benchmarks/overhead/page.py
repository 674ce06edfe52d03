"""The report: one HTML page made of the results alone, with its pictures inside, no network and no scripts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from benchmarks.overhead.charts import Panel, Rows, bars, lines
from benchmarks.overhead.figures import CLIENT_STAGES, STAGES

__all__ = ["page", "round_seconds"]

_STAGE_TITLES = {
    "prepare": "prepare: clip, rotate, round, noise; s",
    "protect": "protect: encrypt or mask; s",
    "share": "share: keys and shares; s",
    "prove": "prove, dealing included; s",
    "admit": "admit: the server, a client; s",
    "open": "open: the server, once; s",
    "respond": "respond: a member, once; s",
}


def round_seconds(row: Mapping[str, Any]) -> float | None:
    """Return the server's seconds for a round of all the cell's clients; None where it was not opened."""
    stages = row["stages"]
    return float(row["clients"] * stages["admit"] + stages["open"]) if "open" in stages else None


def page(results: Mapping[str, Any]) -> str:
    """Return the page."""
    return "\n".join(
        [
            '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>secureagg: the overhead of protection</title><style>{_CSS}</style></head><body><main>",
            f"<h1>{escape(results['question'])}</h1>",
            *_provenance(results["provenance"]),
            *_notes(),
            *_pictures([row for row in results["figures"].values() if "skipped" not in row]),
            *_table(results["figures"]),
            *_skipped(results["figures"]),
            "</main></body></html>",
            "",
        ]
    )


def _provenance(source: Mapping[str, object]) -> Iterator[str]:
    yield (
        "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(of))}</dd>" for name, of in source.items()) + "</dl>"
    )


def _notes() -> Iterator[str]:
    yield "<ul>"
    for note in (
        "Every cell ran in two new processes, the server in one and all others in another, which waited for each "
        "other. Seconds are medians over the clients that were measured; where these are fewer than the cell's "
        "clients, the parameters are still those of all.",
        "plain: float32 values, summed in float64. TenSEAL: as NVFlare uses it ([60, 40, 40], N = 8192, 2^40, one key "
        "that all clients hold), without its contexts. SecAgg+: Flower's own functions without its messages, "
        "2·⌈log2 n⌉ + 1 neighbours (all of ten clients), no dropouts; its open includes its work for every client.",
        "one-shot: 16 bits over the clip, a committee of five. + DP: ε = 8, δ = 1e-5, one round, of every client's "
        "vector; noise by the clients, or by the committee where there are proofs; updates rotated, on grids of 8, 7, "
        "5 and 2 bits for 10^4 to 10^7 values.",
        "Memory is a process's peak resident set: of ours some 180 MB is Python, its libraries and compiled kernels.",
        "The error is that of the mean against the plain float64 mean, and both are root mean squares. Updates are "
        "one normal vector of norm 0.9 for all, times 1, -1/2, 1/2 or 1/4, under a clip of 1.",
    ):
        yield f"<li>{escape(note)}</li>"
    yield "</ul>"


def _pictures(rows: Rows) -> Iterator[str]:
    for clients in sorted({row["clients"] for row in rows}):
        some = [row for row in rows if row["clients"] == clients]
        yield f"<h2>{clients} clients: seconds by stage</h2>"
        yield _figure(lines(some, "values", [_stage(stage) for stage in STAGES], 4))
        yield f"<h2>{clients} clients: time, bytes, memory, error</h2>"
        yield _figure(lines(some, "values", _TOTALS, 3))
        largest = max(size for size in {row["values"] for row in some} if size <= 10**6)
        yield f"<h2>{clients} clients, {largest:,} values: where a client's time goes</h2>"
        named = [row for row in some if row["values"] == largest]
        yield _figure(bars(named, CLIENT_STAGES, lambda row, stage: row["stages"].get(stage, 0.0)))
    for values in sorted({row["values"] for row in rows}):
        yield f"<h2>{values:,} values: over the clients</h2>"
        yield _figure(lines([row for row in rows if row["values"] == values], "clients", _OVER_CLIENTS, 3))


def _stage(stage: str) -> Panel:
    return _STAGE_TITLES[stage], lambda row: row["stages"].get(stage)


def _error(row: Mapping[str, Any]) -> float | None:
    errors = row["errors"]
    return float(errors["rms_error"] / errors["rms_mean"]) if errors else None


_BYTES: Panel = ("bytes a client sends, a value", lambda row: row["upload_bytes"] / row["values"])
_CLIENT: Panel = ("a client, all stages; s", lambda row: row["client"])
_ROUND: Panel = ("the server, a whole round; s", round_seconds)
_SERVER_MEMORY: Panel = ("the server's peak memory; MB", lambda row: row["server_peak_bytes"] / 1e6)
_TOTALS: list[Panel] = [
    _CLIENT,
    _ROUND,
    _BYTES,
    ("a client's peak memory; MB", lambda row: row["client_peak_bytes"] / 1e6),
    _SERVER_MEMORY,
    ("error of the mean, to the mean", _error),
]
_OVER_CLIENTS = [_CLIENT, _ROUND, _BYTES]


def _figure(picture: str) -> str:
    return f"<figure>{picture}</figure>"


def _table(figures: Mapping[str, Any]) -> Iterator[str]:
    heads = ["way", "values", "clients", "measured", "client ms", *(f"{stage} ms" for stage in STAGES)]
    heads += ["server s a round", "bytes", "bytes a value", "client MB", "server MB", "largest error", "error, RMS"]
    yield "<h2>All cells</h2>"
    yield _html_table(heads, [_row(row) for row in figures.values() if "skipped" not in row], numbers=True)


def _row(row: Mapping[str, Any]) -> list[str]:
    stages, errors, whole = row["stages"], row["errors"], round_seconds(row)
    return [
        row["way"],
        f"{row['values']:,}",
        f"{row['clients']:,}",
        f"{row['contributions']:,}",
        f"{1e3 * row['client']:.2f}",
        *(f"{1e3 * stages[stage]:.2f}" if stage in stages else "" for stage in STAGES),
        "" if whole is None else f"{whole:.3f}",
        f"{row['upload_bytes']:,}",
        f"{row['upload_bytes'] / row['values']:.3f}",
        f"{row['client_peak_bytes'] / 1e6:.0f}",
        f"{row['server_peak_bytes'] / 1e6:.0f}",
        f"{errors['max_error']:.2e}" if errors else "",
        f"{errors['rms_error']:.2e}" if errors else "",
    ]


def _skipped(figures: Mapping[str, Any]) -> Iterator[str]:
    told = [[key, row["skipped"]] for key, row in figures.items() if "skipped" in row]
    told += [[key, note] for key, row in figures.items() for note in row.get("notes", ())]
    if told:
        yield "<h2>What was left out or scaled, and why</h2>"
        yield _html_table(["cell", "reason"], told, numbers=False)


def _html_table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: bool) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    kind = "numbers" if numbers else "words"
    return f'<div class="scroll {kind}"><table><tr>{head}</tr>{body}</table></div>'


_CSS = """
:root { color-scheme: light; }
body { margin: 0; background: #f6f7f9; color: #1f2937; font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1160px; margin: 0 auto; padding: 32px 20px 56px; }
h1 { font-size: 1.5rem; line-height: 1.25; max-width: 40em; }
h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; font-size: .85rem; color: #4b5563; }
dd { margin: 0; overflow-wrap: anywhere; }
ul { max-width: 62em; padding-left: 1.1rem; color: #374151; }
figure { margin: 0; background: #fff; border-radius: 8px; padding: 12px; }
figure svg { max-width: 100%; height: auto; display: block; }
.scroll { overflow-x: auto; background: #fff; border-radius: 8px; padding: 6px 16px; }
table { border-collapse: collapse; font-size: .8rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 0 4px 18px; border-bottom: 1px solid #eceff3; vertical-align: top; }
th:first-child, td:first-child { padding-left: 0; white-space: nowrap; }
.numbers :is(th, td):not(:first-child) { text-align: right; }
tr:last-child td { border-bottom: 0; }
th { color: #6b7280; font-weight: 600; }
"""
