"""`secureagg demo`: a federation on real data, trained in the clear and on encrypted updates, side by side."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.text import Text

from secureagg.cli.demo import options
from secureagg.cli.demo.attack_figures import AttackFigures, of_attack
from secureagg.cli.demo.attack_report import print_attack, write_attack_report
from secureagg.cli.demo.attacked import LANES, choose_malicious, prepare_attack, train_attacked
from secureagg.cli.demo.checks import (
    given,
    occasion_of,
    partition_of,
    refuse_unattacked,
    report_target,
    require_homes,
    require_possible,
    require_saved,
    unit_of,
)
from secureagg.cli.demo.experiment import Experiment, prepare, train
from secureagg.cli.demo.figures import Figures, of_run
from secureagg.cli.demo.occasions import DEFAULT_DELTA, default_model
from secureagg.cli.demo.progress import watching
from secureagg.cli.demo.report import write_report
from secureagg.cli.demo.settings import (
    Attack,
    DatasetName,
    OneShotSettings,
    PrivacySettings,
    Scheme,
    Settings,
    TensealSettings,
    Unit,
)
from secureagg.cli.demo.spending import ledger_home
from secureagg.cli.demo.summary import print_summary
from secureagg.cli.failures import debugging, reported
from secureagg.cli.options import DebugOption, MembersOption, refuse_unused
from secureagg.cli.warm_up import telling

__all__ = ["demo"]

_USED_BY = {
    **dict.fromkeys(("l2_clip", "value_bits", "members", "absent_members", "proofs"), Scheme.ONE_SHOT),
    **dict.fromkeys(("magnitude", "precision"), Scheme.TENSEAL),
}


def demo(
    context: typer.Context,
    dataset: options.DatasetOption = DatasetName.DIGITS,
    data_dir: options.DataDirOption = None,
    clients: options.ClientsOption = None,
    rounds: options.RoundsOption = None,
    partition: options.PartitionOption = None,
    model: options.ModelOption = None,
    seed: options.SeedOption = 0,
    drop: options.DropOption = None,
    scheme: options.SchemeOption = Scheme.ONE_SHOT,
    l2_clip: options.L2ClipOption = None,
    value_bits: options.ValueBitsOption = None,
    members: MembersOption = 5,
    absent_members: options.AbsentMembersOption = 1,
    proofs: options.ProofsOption = False,
    epsilon: options.EpsilonOption = None,
    dp_sgd_epsilon: options.DpSgdEpsilonOption = None,
    delta: options.DeltaOption = DEFAULT_DELTA,
    budget_rounds: options.BudgetRoundsOption = None,
    ledger: options.LedgerOption = None,
    magnitude: options.MagnitudeOption = 1.0,
    precision: options.PrecisionOption = None,
    attack: options.AttackOption = Attack.NONE,
    malicious: options.MaliciousOption = 0.2,
    report: options.ReportOption = Path("demo-report/report.html"),
    no_report: options.NoReportOption = False,
    as_json: options.FiguresOption = False,
    state_dir: options.StateDirOption = None,
    resume: options.ResumeOption = False,
    debug: DebugOption = False,
) -> None:
    """Train on real data with encrypted updates, and in the clear beside it, and compare the two.

    Three clients in ten vanish in each round, the same ones in both trainings, and so does a committee member.
    Takes about a minute on two cores. With --attack some clients are malicious:
    nobody vanishes, and rounds are fewer, unless you say so.

    With --epsilon or --dp-sgd-epsilon the models are differentially private: for a client as a whole,
    or for each example of a client. A ledger is debited before each round, and training ends when the
    budget is gone. The report has accuracy over ε, round by round, beside the training in the clear and,
    with --epsilon, beside one with float noise in the clear, which claims nothing. One client in ten
    vanishes. The two are not combined here: on so little data both noises leave nothing to see.

    Examples:

    secureagg demo

    secureagg demo --clients 20 --partition shards:2 --drop 0.5

    secureagg demo --dataset mnist --data-dir mnist/ --rounds 15 --json

    secureagg demo --attack scale --malicious 0.3

    secureagg demo --epsilon 4

    secureagg demo --dp-sgd-epsilon 3 --clients 5

    secureagg demo --epsilon 4 --rounds 20 --budget-rounds 10 --ledger spent.ledger
    """
    with reported(context, debug):
        if resume:
            require_saved(state_dir)
        refuse_unused(context, scheme, _USED_BY)
        attacked = attack is not Attack.NONE
        refuse_unattacked(context, scheme, state_dir, attacked=attacked)
        unit = unit_of(context, scheme, epsilon, dp_sgd_epsilon, attacked=attacked)
        occasion = occasion_of(unit, attacked=attacked)
        defaults = occasion.value
        encryption: OneShotSettings | TensealSettings | None = None
        if scheme is Scheme.ONE_SHOT:
            clip, bits = given(l2_clip, defaults.l2_clip), given(value_bits, defaults.value_bits)
            encryption = OneShotSettings(clip, bits, members, absent_members, proofs)
        elif scheme is Scheme.TENSEAL:
            encryption = TensealSettings(magnitude, 1e-6 * magnitude if precision is None else precision)
        all_rounds = given(rounds, defaults.rounds)
        budget = None
        if unit is not None and (target_epsilon := epsilon if unit is Unit.CLIENT else dp_sgd_epsilon) is not None:
            budget = PrivacySettings(unit, target_epsilon, delta, given(budget_rounds, all_rounds))
        settings = Settings(
            clients=given(clients, defaults.clients),
            rounds=all_rounds,
            dataset=dataset,
            data_dir=data_dir,
            partition=partition_of(given(partition, defaults.partition)),
            scheme=scheme,
            encryption=encryption,
            model=model or default_model(occasion, dataset),
            seed=seed,
            drop=given(drop, defaults.drop),
            privacy=budget,
        )
        require_possible(settings)
        chosen = choose_malicious(attack, malicious, settings.clients, seed) if attacked else None
        said = Console(stderr=True)
        require_homes(state_dir, ledger, unit)
        target = None if no_report else report_target(report, said)
        said.print("Preparing data, keys and TensorFlow …", style="dim")
        observe, quietly = telling(said), not debugging(context, debug)
        if chosen is not None:
            under_attack = prepare_attack(settings, chosen, quietly=quietly, observe=observe)
            with watching(said, LANES, settings.rounds, settings.clients) as watch:
                found = of_attack(under_attack, train_attacked(under_attack, watch))
            _show(found, print_attack, write_attack_report, target, said, as_json=as_json)
        else:
            with ledger_home(settings.privacy, ledger, state_dir) as home:
                experiment = prepare(settings, quietly=quietly, observe=observe, ledgers=home)
                figures = _run(experiment, said, state_dir, resume)
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


def _run(experiment: Experiment, said: Console, state_dir: Path | None, resume: bool) -> Figures:
    settings = experiment.settings
    lanes = ["plain"] if experiment.private is None else ["plain", "private"]
    if settings.privacy is not None and settings.privacy.unit is Unit.CLIENT:
        lanes.insert(1, "floating")
    with closing(experiment), watching(said, lanes, settings.rounds, settings.clients) as watch:
        return of_run(experiment, train(experiment, watch, state_dir, resume))
