"""Figures as a reader wants them, the same in table and report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from secureagg.cli.demo.figures import Figures, TrainingFigures, ratio
from secureagg.cli.demo.settings import OneShotSettings, Settings
from secureagg.plan_report import counted

__all__ = [
    "LANE_TITLES",
    "STAGE_TITLES",
    "Row",
    "as_bytes",
    "as_seconds",
    "comparison_rows",
    "deviation_line",
    "headline",
    "late_title",
    "limit_title",
    "task",
]

LANE_TITLES = {
    "plain": "in the clear",
    "private": "encrypted",
    "floating": "float noise",
    "honest": "no attack",
    "unproven": "without proofs",
    "proven": "with proofs",
}

STAGE_TITLES = {
    "train": "train",
    "contribute": "encode, encrypt",
    "admit": "check, add",
    "finish": "open, divide",
    "update": "update model",
    "evaluate": "evaluate",
}


_NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}


@dataclass(frozen=True)
class Row:
    """One line of the comparison; `private` and `overhead` are empty if only one training ran."""

    name: str
    plain: str
    private: str = ""
    overhead: str = ""


def headline(figures: Figures) -> str:
    """Return what the run came to, in a sentence."""
    private, comparison = figures.private, figures.comparison
    if private is None or comparison is None:
        return f"Trained in the clear to {figures.plain.late_accuracy:.1%} accuracy ({late_title([figures.plain])})."
    points = comparison.late_accuracy_points
    side = "above" if points > 0 else "below"
    against = (
        f"{abs(points):.1f} points {side} that in the clear" if abs(points) >= 0.05 else "the same as in the clear"
    )
    budget = figures.privacy
    spent = "" if budget is None else f" at ε = {budget.spent:.3g} for one {budget.unit}"
    return (
        f"Trained on encrypted updates to {private.late_accuracy:.1%} accuracy{spent} "
        f"({late_title([figures.plain, private])}), {against}, "
        f"for {_times(comparison.ratio_bytes_up)} the upload and {_times(comparison.ratio_seconds_total)} the time."
    )


def late_title(trainings: Iterable[TrainingFigures]) -> str:
    """Return over what their `late_accuracy` is the mean; trainings may have ended in different rounds."""
    counts = [each.late_rounds for each in trainings]
    most = max(counts)
    if most == 1:
        return "last round"
    if min(counts) < most:
        return f"mean of the last rounds, {_NUMBERS[most]} at most"
    return f"mean of the last {_NUMBERS[most]} rounds"


def task(settings: Settings, model_values: int) -> str:
    """Return what was trained, by whom."""
    return (
        f"{settings.dataset}, {counted(settings.clients, 'client')} ({settings.partition}), "
        f"{counted(settings.rounds, 'round')}, "
        f"{settings.model} of {model_values:,} weights, seed {settings.seed}"
    )


def deviation_line(figures: Figures) -> str:
    """Return how far the private means were from the plain ones, or nothing if there were none."""
    comparison = figures.comparison
    if comparison is None or comparison.max_deviation is None:
        return ""
    were = "was" if comparison.clipped == 1 else "were"
    updates = counted(comparison.clipped, "update")
    clipped = f" {updates} {were} clipped, which adds to it." if comparison.clipped else ""
    return (
        f"No round's mean was further than {comparison.max_deviation:.2g} from the plain mean of the same updates; "
        f"{limit_title(figures)}.{clipped}"
    )


def limit_title(figures: Figures) -> str:
    """Return what limits the distance to the plain mean, and the limit."""
    assert figures.comparison is not None and figures.comparison.deviation_limit is not None
    limit, encryption = figures.comparison.deviation_limit, figures.settings.encryption
    if isinstance(encryption, OneShotSettings):
        return f"rounding to {encryption.value_bits} bits allows {limit:.2g}"
    return f"asked for: {limit:g}"


def comparison_rows(figures: Figures) -> list[list[Row]]:
    """Return the table in three groups: accuracy, bytes, seconds."""
    return [
        [
            _accuracy(figures, "accuracy, last round", lambda training: training.final_accuracy),
            _accuracy(
                figures, f"accuracy, {late_title(figures.trainings.values())}", lambda training: training.late_accuracy
            ),
        ],
        [
            _row(figures, "bytes up, a client and round", lambda training: training.bytes_up_per_client, as_bytes),
            _row(figures, "bytes down, a client and round", lambda training: training.bytes_down_per_client, as_bytes),
        ],
        [
            *(_stage(figures, stage, title) for stage, title in STAGE_TITLES.items()),
            _row(figures, "seconds, total", lambda training: training.seconds_total, as_seconds),
        ],
    ]


def _accuracy(figures: Figures, name: str, of: Callable[[TrainingFigures], float]) -> Row:
    plain = of(figures.plain)
    if figures.private is None:
        return Row(name, f"{plain:.2%}")
    private = of(figures.private)
    return Row(name, f"{plain:.2%}", f"{private:.2%}", f"{100 * (private - plain):+.2f} points")


def _stage(figures: Figures, stage: str, title: str) -> Row:
    return _row(figures, f"seconds, {title}", lambda training: training.seconds[stage], as_seconds)


def _row(figures: Figures, name: str, of: Callable[[TrainingFigures], float], show: Callable[[float], str]) -> Row:
    plain = of(figures.plain)
    if figures.private is None:
        return Row(name, show(plain))
    private = of(figures.private)
    return Row(name, show(plain), show(private), _times(ratio(private, plain)))


def as_bytes(count: float) -> str:
    """Return a count with its thousands apart."""
    return f"{count:,.0f}"


def as_seconds(seconds: float) -> str:
    """Return seconds to some three digits."""
    return f"{seconds:.4f}" if seconds < 0.1 else f"{seconds:.2f}"


def _times(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}×" if value < 10 else f"{value:,.0f}×"
