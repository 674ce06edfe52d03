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
from secureagg.cli.progress import watching
from secureagg.cli.report import missing_for_report, write_report
from secureagg.cli.settings import DatasetName, ModelName, PartitionChoice, Scheme, Settings
from secureagg.cli.summary import print_summary
from secureagg.errors import ParameterError

__all__ = ["demo"]

_RUN, _SUM, _OUTPUT = "What is trained", "How it is summed", "What comes out"


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
            metavar="P", min=0.0, max=1.0, help="Probability that a client vanishes in a round.", rich_help_panel=_RUN
        ),
    ] = 0.0,
    scheme: Annotated[
        Scheme, typer.Option(help="Encryption; plain trains in the clear only.", rich_help_panel=_SUM)
    ] = Scheme.TENSEAL,
    magnitude: Annotated[
        float,
        typer.Option(metavar="X", help="Largest |value| of an update; larger ones are refused.", rich_help_panel=_SUM),
    ] = 1.0,
    precision: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Largest error of a value of a round's mean; by default 1e-6 of the magnitude.",
            rich_help_panel=_SUM,
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

    Takes about a minute on two cores. Examples:

    secureagg demo

    secureagg demo --clients 20 --partition shards:2 --drop 0.1

    secureagg demo --dataset mnist --data-dir mnist/ --rounds 15 --json
    """
    debug = debugging(context, debug)
    with reported(debug):
        if resume and state_dir is None:
            raise typer.BadParameter("it needs --state-dir, where the run was saved", param_hint="--resume")
        settings = Settings(
            clients=clients,
            rounds=rounds,
            dataset=dataset,
            data_dir=data_dir,
            partition=_partition(partition),
            scheme=scheme,
            model=model or (ModelName.MLP if dataset is DatasetName.BREAST_CANCER else ModelName.CNN),
            seed=seed,
            magnitude=magnitude,
            precision=1e-6 * magnitude if precision is None else precision,
            drop=drop,
        )
        said = Console(stderr=True)
        target = None if no_report else _writable(report, said)
        said.print("Preparing data, keys and TensorFlow …", style="dim")
        figures = _run(prepare(settings, quietly=not debug), said, state_dir, resume)
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
