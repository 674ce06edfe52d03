"""The report's pictures, as SVG text: small multiples that share their axes, a line a way."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

__all__ = ["Panel", "Rows", "bars", "lines"]

Rows = Sequence[Mapping[str, Any]]
Panel = tuple[str, Callable[[Mapping[str, Any]], float | None]]
"""A title with its unit, and the figure of a cell, None where it has none."""

_COLOURS = {
    "plain": "#6b7280",
    "TenSEAL": "#7b6d8d",
    "SecAgg+": "#c98a1b",
    "one-shot": "#2a5d9f",
    "one-shot + DP": "#6fa8dc",
    "one-shot + proofs": "#2f7d4f",
    "one-shot + proofs + DP": "#86c49a",
}
_MARKS = dict(zip(_COLOURS, "osD^v<>", strict=True))
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # letters stay letters
    "svg.hashsalt": "overhead",  # equal figures give equal bytes
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e7eb",
    "legend.frameon": False,
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
_SHADES = ("#9db4c8", "#2a5d9f", "#c98a1b", "#2f7d4f")


def lines(rows: Rows, along: str, panels: Sequence[Panel], columns: int) -> str:
    """Return panels over `along` ("values" or "clients"), both axes logarithmic."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots(-(-len(panels) // columns), columns, squeeze=False).ravel()
        for each, (title, of) in zip(axes, panels, strict=False):
            _panel(each, rows, along, of)
            each.set_title(title)
        for each in axes[len(panels) :]:
            each.set_axis_off()
        shown = {name: line for each in axes for line, name in zip(*each.get_legend_handles_labels(), strict=True)}
        shown = {way: shown[way] for way in _COLOURS if way in shown}
        figure.legend(shown.values(), shown.keys(), loc="outside upper left", ncols=4)

    return _svg(draw, (11.4, 2.6 * -(-len(panels) // columns) + 0.6))


def _panel(axes: Axes, rows: Rows, along: str, of: Callable[[Mapping[str, Any]], float | None]) -> None:
    for way, colour in _COLOURS.items():
        points = sorted((row[along], value) for row in rows if row["way"] == way and (value := of(row)))
        if points:
            axes.plot(*zip(*points, strict=True), marker=_MARKS[way], markersize=4, color=colour, label=way)
    axes.set(xscale="log", yscale="log", xlabel=along)
    least, most = axes.get_ylim()
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if most > 100 * least else (1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    ticks = sorted({row[along] for row in rows})
    axes.set_xticks(ticks, [f"$10^{{{len(str(tick)) - 1}}}$" for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())


def bars(rows: Rows, stages: Sequence[str], of: Callable[[Mapping[str, Any], str], float]) -> str:
    """Return one bar a row, its stages end to end as shares of the whole, the whole beside it."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for position, row in enumerate(rows):
            whole, left = sum(of(row, stage) for stage in stages), 0.0
            for stage, shade in zip(stages, _SHADES, strict=True):
                share = 100 * of(row, stage) / whole
                axes.barh(position, share, left=left, color=shade, label=stage if position == 0 else None)
                left += share
            axes.text(101, position, f"{1e3 * whole:.3g} ms", va="center", fontsize=8)
        axes.set_yticks(range(len(rows)), [row["way"] for row in rows])
        axes.invert_yaxis()
        axes.set(xlim=(0, 112), xlabel="% of a client's time")
        axes.grid(visible=False)
        figure.legend(loc="outside upper left", ncols=len(stages))

    return _svg(draw, (7.4, 0.36 * len(rows) + 1.1))


def _svg(draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    with rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=_NO_METADATA)
    text = buffer.getvalue()
    return text[text.index("<svg") :]
