"""The report's pictures: SVG text to put into a page, drawn with matplotlib. It is imported on first use."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

from secureagg.cli.demo.figures import Figures, RoundFigures, TrainingFigures
from secureagg.cli.demo.wording import LANE_TITLES, STAGE_TITLES, limit_title

__all__ = [
    "Trainings",
    "accuracy_epsilon_chart",
    "bytes_chart",
    "curves",
    "deviation_chart",
    "drawable",
    "holdings_chart",
    "seconds_chart",
]

_LIMIT = "#6b7280"
_LINES = {  # colour and width of a lane's curve; the first one drawn shows beside what lies upon it
    "plain": ("#9db4c8", 4.5),
    "private": ("#b3402a", 1.4),
    "floating": ("#8a6fb0", 2.6),
    "honest": ("#9db4c8", 4.5),
    "unproven": ("#b3402a", 1.4),
    "proven": ("#2f7d4f", 1.4),
}
_STYLE: dict[Any, Any] = {  # of any key, as the type matplotlib asks for differs between its versions
    "svg.fonttype": "none",  # letters stay letters: smaller, and searchable
    "svg.hashsalt": "secureagg",  # equal figures give equal bytes
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#eceff3",
    "xtick.color": "#4b5563",
    "ytick.color": "#4b5563",
    "legend.frameon": False,
}
_NO_METADATA = {"Creator": None, "Date": None, "Format": None, "Type": None}
Trainings = Mapping[str, TrainingFigures]
"""By the names of their lanes, in the order they are drawn."""

_SIZE = (5.2, 3.3)  # inches
_COLOURS = 10  # of the palette that tells labels apart


def drawable() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def curves(
    trainings: Trainings,
    title: str,
    of: Callable[[RoundFigures], float],
    *,
    percent: bool = False,
    logarithmic: bool = False,
) -> str:
    """Return one value of each round, all trainings in one picture."""

    def draw(axes: Any) -> None:
        for lane, training in trainings.items():
            colour, width = _LINES[lane]
            axes.plot(
                [r.round_number for r in training.rounds],
                [of(r) * (100 if percent else 1) for r in training.rounds],
                color=colour, linewidth=width, label=LANE_TITLES[lane],
            )  # fmt: skip
        if logarithmic:
            axes.set_yscale("log")
        axes.set_title(title + (", %" if percent else ""))
        _number_rounds(axes)
        axes.legend()

    return _svg(draw)


def accuracy_epsilon_chart(figures: Figures) -> str:
    """Return accuracy over the ε spent when it was reached; of trainings that spend none, over that of the round."""
    assert figures.private is not None and figures.privacy is not None
    spent = {r.round_number: r.epsilon for r in figures.private.rounds if r.epsilon is not None}
    privacy = figures.privacy

    def draw(axes: Any) -> None:
        for lane, training in figures.trainings.items():
            colour, width = _LINES[lane]
            points = [(spent[r.round_number], 100 * r.accuracy) for r in training.rounds if r.round_number in spent]
            axes.plot(
                [epsilon for epsilon, _ in points],
                [accuracy for _, accuracy in points],
                marker="o", markersize=width, color=colour, linewidth=width, label=LANE_TITLES[lane],
            )  # fmt: skip
        limit = privacy.epsilon
        axes.axvline(limit, color=_LIMIT, linestyle="--", linewidth=1.2, label=f"budget, ε = {limit:g}")
        axes.set_xlim(left=0)
        axes.set_title("Accuracy on the test examples, %, over ε spent")
        axes.set_xlabel(f"ε at δ = {privacy.delta:g}, one {privacy.unit}")
        axes.legend()

    return _svg(draw)


def deviation_chart(figures: Figures) -> str:
    """Return each round's largest difference to the plain mean, and the limit it has, on a logarithmic axis."""
    assert figures.private is not None and figures.comparison is not None
    limit = figures.comparison.deviation_limit
    assert limit is not None
    points = [(r.round_number, r.deviation) for r in figures.private.rounds if r.deviation]

    def draw(axes: Any) -> None:
        axes.axhline(limit, color=_LIMIT, linestyle="--", linewidth=1.2, label=limit_title(figures))
        axes.plot(
            [round_number for round_number, _ in points],
            [deviation for _, deviation in points],
            "o", color=_LINES["private"][0], markersize=3.5, label="largest in the round",
        )  # fmt: skip
        axes.set_yscale("log")
        axes.set_title("Distance to the plain mean of the same updates")
        _number_rounds(axes)
        if points:
            axes.set_ylim(bottom=min(deviation for _, deviation in points) / 4)  # room for the legend
        axes.legend(loc="lower right")

    return _svg(draw)


def bytes_chart(trainings: Trainings) -> str:
    """Return what a client sends and receives in a round."""

    def kilobytes(training: TrainingFigures) -> list[float]:
        return [training.bytes_up_per_client / 1000, training.bytes_down_per_client / 1000]

    return _bars(trainings, "A client's traffic in a round, kB", ["up", "down"], kilobytes)


def seconds_chart(trainings: Trainings) -> str:
    """Return where the time of the whole run went."""

    def seconds(training: TrainingFigures) -> list[float]:
        return [training.seconds[stage] for stage in STAGE_TITLES]

    return _bars(trainings, "Time of the whole run by stage, s", list(STAGE_TITLES.values()), seconds)


def holdings_chart(holdings: Sequence[Sequence[int]]) -> str:
    """Return how many examples of which label each client holds."""
    import matplotlib

    palette = matplotlib.colormaps["tab10"]

    def draw(axes: Any) -> None:
        clients = range(len(holdings))
        left = [0] * len(holdings)
        for label in range(len(holdings[0])):
            widths = [held[label] for held in holdings]
            axes.barh(clients, widths, left=left, color=palette(label % _COLOURS), label=str(label))
            left = [start + width for start, width in zip(left, widths, strict=True)]
        axes.set_title("Examples each client holds, by label")
        axes.set_ylabel("client")
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.legend(ncols=1, loc="center left", bbox_to_anchor=(1.0, 0.5), handlelength=0.9, fontsize=8)

    return _svg(draw)


def _number_rounds(axes: Any) -> None:
    """Number the horizontal axis by rounds, of which there are no halves."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("round")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _bars(
    trainings: Trainings,
    title: str,
    names: list[str],
    of: Callable[[TrainingFigures], list[float]],
) -> str:
    def draw(axes: Any) -> None:
        thickness = 0.8 / len(trainings)
        for index, (lane, training) in enumerate(trainings.items()):
            places = [position + (index - (len(trainings) - 1) / 2) * thickness for position in range(len(names))]
            drawn = axes.barh(places, of(training), thickness * 0.92, color=_LINES[lane][0], label=LANE_TITLES[lane])
            axes.bar_label(
                drawn,
                fmt=_bar_label,
                padding=3,
                fontsize=8,
                color="#4b5563",
            )
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.margins(x=0.15)
        axes.grid(axis="y", visible=False)
        axes.set_title(title)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(trainings))

    return _svg(draw)


def _bar_label(value: float) -> str:
    return "< 0.01" if value < 0.01 else f"{value:.2f}" if value < 10 else f"{value:,.0f}"


def _svg(draw: Callable[[Any], None]) -> str:
    """Return the picture as an `<svg>` element that names no address and no time."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata=_NO_METADATA, transparent=True)
    text = out.getvalue()
    return text[text.index("<svg") :]
