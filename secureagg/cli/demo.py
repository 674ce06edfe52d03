"""`secureagg demo`: a federation on real data, trained in the clear and on encrypted updates, side by side."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from secureagg.cli.experiment import Experiment, prepare, train
from secureagg.cli.failures import DebugOption, debugging, reported
from secureagg.cli.figures import Figures, of_run
from secureagg.cli.options import refuse_unused
from secureagg.cli.progress import watching
from secureagg.cli.report import missing_for_report, write_report
from secureagg.cli.settings import (
    DatasetName,
    ModelName,
    OneShotSettings,
    PartitionChoice,
    Scheme,
    Settings,
    TensealSettings,
)
from secureagg.cli.summary import print_summary
from secureagg.cli.warm import telling
from secureagg.errors import ParameterError

__all__ = ["demo"]

_RUN, _SUM, _OUTPUT = "What is trained", "How it is summed", "What comes out"
_ONE_SHOT, _TENSEAL = "With --scheme one-shot", "With --scheme tenseal"
_USED_BY = {
    **dict.fromkeys(("l2_clip", "value_bits", "members", "absent_members"), Scheme.ONE_SHOT),
    **dict.fromkeys(("magnitude", "precision"), Scheme.TENSEAL),
}


def demo(
    context: typer.Context,
    dataset: Annotated[
        DatasetName, typer.Option(help="Real data; digits and breast-cancer are bundled.", rich_help_panel=_RUN)
    ] = DatasetName.DIGITS,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="MNIST's four IDX files, gzipped or not; else Keras's cache.", rich_help_panel=_RUN
        ),
    ] = None,
    clients: Annotated[
        int, typer.Option(metavar="N", min=1, help="Clients, all of them in every round.", rich_help_panel=_RUN)
    ] = 10,
    rounds: Annotated[int, typer.Option(metavar="N", min=1, help="Rounds.", rich_help_panel=_RUN)] = 40,
    partition: Annotated[
        str,
        typer.Option(
            metavar="iid|dirichlet:ALPHA|shards:LABELS",
            help="Who holds what: at random, skewed (the more, the smaller ALPHA), or LABELS labels a client.",
            rich_help_panel=_RUN,
        ),
    ] = "dirichlet:0.5",
    model: Annotated[
        ModelName | None,
        typer.Option(help="Keras model; by default cnn for images, else mlp.", rich_help_panel=_RUN),
    ] = None,
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Of everything but keys; one seed, one result.", rich_help_panel=_RUN),
    ] = 0,
    drop: Annotated[
        float,
        typer.Option(
            metavar="P", min=0.0, max=1.0, help="Chance that a client vanishes in a round.", rich_help_panel=_RUN
        ),
    ] = 0.3,
    scheme: Annotated[
        Scheme, typer.Option(help="Encryption; plain trains in the clear only.", rich_help_panel=_SUM)
    ] = Scheme.ONE_SHOT,
    l2_clip: Annotated[
        float,
        typer.Option(
            metavar="X", help="Largest L2 norm of an update; larger ones are scaled down.", rich_help_panel=_ONE_SHOT
        ),
    ] = 10.0,
    value_bits: Annotated[
        int, typer.Option(metavar="B", help="Bits of a value on the grid.", rich_help_panel=_ONE_SHOT)
    ] = 16,
    members: Annotated[int, typer.Option(metavar="K", help="Committee members.", rich_help_panel=_ONE_SHOT)] = 5,
    absent_members: Annotated[
        int, typer.Option(metavar="N", min=0, help="Members that never answer.", rich_help_panel=_ONE_SHOT)
    ] = 1,
    magnitude: Annotated[
        float,
        typer.Option(
            metavar="X", help="Largest |value| of an update; larger ones are refused.", rich_help_panel=_TENSEAL
        ),
    ] = 1.0,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest error of a value of a round's mean; by default 1e-6 of the magnitude.",
            rich_help_panel=_TENSEAL,
        ),
    ] = None,
    report: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Where to write the report with its curves.", rich_help_panel=_OUTPUT),
    ] = Path("demo-report/report.html"),
    no_report: Annotated[bool, typer.Option("--no-report", help="Write none.", rich_help_panel=_OUTPUT)] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all figures as one JSON object.", rich_help_panel=_OUTPUT)
    ] = False,
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Save the run here after every round.", rich_help_panel=_OUTPUT),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run saved in --state-dir.", rich_help_panel=_OUTPUT)
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Train on real data with encrypted updates, and in the clear beside it, and compare the two.

    Three clients in ten vanish in each round, the same ones in both trainings, and so does a committee member.
    Takes about a minute on two cores. Examples:

    secureagg demo

    secureagg demo --clients 20 --partition shards:2 --drop 0.5

    secureagg demo --dataset mnist --data-dir mnist/ --rounds 15 --json
    """
    debug = debugging(context, debug)
    with reported(debug):
        if resume and state_dir is None:
            raise typer.BadParameter("it needs --state-dir, where the run was saved", param_hint="--resume")
        refuse_unused(context, scheme, _USED_BY)
        encryption: OneShotSettings | TensealSettings | None = None
        if scheme is Scheme.ONE_SHOT:
            encryption = OneShotSettings(l2_clip, value_bits, members, absent_members)
        elif scheme is Scheme.TENSEAL:
            encryption = TensealSettings(magnitude, 1e-6 * magnitude if precision is None else precision)
        settings = Settings(
            clients=clients,
            rounds=rounds,
            dataset=dataset,
            data_dir=data_dir,
            partition=_partition(partition),
            scheme=scheme,
            encryption=encryption,
            model=model or (ModelName.MLP if dataset is DatasetName.BREAST_CANCER else ModelName.CNN),
            seed=seed,
            drop=drop,
        )
        said = Console(stderr=True)
        target = None if no_report else _writable(report, said)
        said.print("Preparing data, keys and TensorFlow …", style="dim")
        figures = _run(prepare(settings, quietly=not debug, observe=telling(said)), said, state_dir, resume)
        if as_json:
            typer.echo(figures.to_json())
        else:
            print_summary(Console(), figures)
        if target is not None:
            write_report(target, figures)
            said.print(Text(f"Report: {target}"), soft_wrap=True)


def _run(experiment: Experiment, said: Console, state_dir: Path | None, resume: bool) -> Figures:
    settings = experiment.settings
    lanes = ["plain"] if experiment.private is None else ["plain", "private"]
    with watching(said, lanes, settings.rounds, settings.clients) as watch:
        return of_run(experiment, train(experiment, watch, state_dir, resume))


def _partition(text: str) -> PartitionChoice:
    try:
        return PartitionChoice.parse(text)
    except ParameterError as error:
        raise typer.BadParameter(str(error), param_hint="--partition") from error


def _writable(report: Path, said: Console) -> Path | None:
    """Return the report's path, known to be writable before an hour of training; None if it cannot be drawn."""
    missing = missing_for_report()
    if missing is not None:
        said.print(Text(f"No report: {missing}"), soft_wrap=True)
        return None
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(f"{report.parent}: {error.strerror}", param_hint="--report") from error
    if report.is_dir() or not os.access(report if report.exists() else report.parent, os.W_OK):
        raise typer.BadParameter(f"{report} cannot be written", param_hint="--report")
    return report
