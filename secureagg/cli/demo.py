"""`secureagg demo`: a federation on real data, trained in the clear and on encrypted updates, side by side."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from secureagg.cli.attack_figures import AttackFigures, of_attack
from secureagg.cli.attack_report import print_attack, write_attack_report
from secureagg.cli.attacked import LANES, choose_malicious, prepare_attack, train_attacked
from secureagg.cli.experiment import Experiment, prepare, train
from secureagg.cli.failures import DebugOption, debugging, reported
from secureagg.cli.figures import Figures, of_run
from secureagg.cli.options import refuse_given, refuse_unused
from secureagg.cli.progress import watching
from secureagg.cli.report import missing_for_report, write_report
from secureagg.cli.settings import (
    Attack,
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
_ONE_SHOT, _TENSEAL, _ATTACK = "With --scheme one-shot", "With --scheme tenseal", "Under attack"
_ROUNDS, _DROP = {False: 40, True: 15}, {False: 0.3, True: 0.0}  # by default, and with an attack
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
    rounds: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Rounds.", show_default="40, or 15 with an attack", rich_help_panel=_RUN),
    ] = None,
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
        float | None,
        typer.Option(
            metavar="P",
            min=0.0,
            max=1.0,
            help="Chance that a client vanishes in a round.",
            show_default="0.3, or 0 with an attack",
            rich_help_panel=_RUN,
        ),
    ] = None,
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
    attack: Annotated[
        Attack,
        typer.Option(
            help="What malicious clients do; the run then compares no attack, no proofs, and proofs.",
            rich_help_panel=_ATTACK,
        ),
    ] = Attack.NONE,
    malicious: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the clients, drawn by the seed.", rich_help_panel=_ATTACK),
    ] = 0.2,
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
    Takes about a minute on two cores. With --attack some clients are malicious:
    nobody vanishes, and rounds are fewer, unless you say so. Examples:

    secureagg demo

    secureagg demo --clients 20 --partition shards:2 --drop 0.5

    secureagg demo --dataset mnist --data-dir mnist/ --rounds 15 --json

    secureagg demo --attack scale --malicious 0.3
    """
    debug = debugging(context, debug)
    with reported(debug):
        if resume and state_dir is None:
            raise typer.BadParameter("it needs --state-dir, where the run was saved", param_hint="--resume")
        refuse_unused(context, scheme, _USED_BY)
        attacked = attack is not Attack.NONE
        _refuse_unattacked(context, scheme, state_dir, attacked=attacked)
        encryption: OneShotSettings | TensealSettings | None = None
        if scheme is Scheme.ONE_SHOT:
            encryption = OneShotSettings(l2_clip, value_bits, members, absent_members)
        elif scheme is Scheme.TENSEAL:
            encryption = TensealSettings(magnitude, 1e-6 * magnitude if precision is None else precision)
        settings = Settings(
            clients=clients,
            rounds=_ROUNDS[attacked] if rounds is None else rounds,
            dataset=dataset,
            data_dir=data_dir,
            partition=_partition(partition),
            scheme=scheme,
            encryption=encryption,
            model=model or (ModelName.MLP if dataset is DatasetName.BREAST_CANCER else ModelName.CNN),
            seed=seed,
            drop=_DROP[attacked] if drop is None else drop,
        )
        said = Console(stderr=True)
        target = None if no_report else _writable(report, said)
        said.print("Preparing data, keys and TensorFlow …", style="dim")
        observe = telling(said)
        if attacked:
            chosen = choose_malicious(attack, malicious, clients, seed)
            experiment = prepare_attack(settings, chosen, quietly=not debug, observe=observe)
            with watching(said, LANES, settings.rounds, clients) as watch:
                found = of_attack(experiment, train_attacked(experiment, watch))
            _show(found, print_attack, write_attack_report, target, said, as_json=as_json)
        else:
            figures = _run(prepare(settings, quietly=not debug, observe=observe), said, state_dir, resume)
            _show(figures, print_summary, write_report, target, said, as_json=as_json)


_Figures = TypeVar("_Figures", Figures, AttackFigures)


def _show(
    figures: _Figures,
    print_them: Callable[[Console, _Figures], None],
    write_them: Callable[[Path, _Figures], None],
    target: Path | None,
    said: Console,
    *,
    as_json: bool,
) -> None:
    if as_json:
        typer.echo(figures.to_json())
    else:
        print_them(Console(), figures)
    if target is not None:
        write_them(target, figures)
        said.print(Text(f"Report: {target}"), soft_wrap=True)


def _refuse_unattacked(context: typer.Context, scheme: Scheme, state_dir: Path | None, *, attacked: bool) -> None:
    """Refuse options that do not go together with an attack, or without one."""
    if not attacked:
        refuse_given(context, "malicious", "only an --attack uses it")
    elif scheme is not Scheme.ONE_SHOT:
        raise typer.BadParameter(f"it is on --scheme {Scheme.ONE_SHOT}, and this is {scheme}", param_hint="--attack")
    elif state_dir is not None:
        raise typer.BadParameter("an attacked run is not saved", param_hint="--state-dir")


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
