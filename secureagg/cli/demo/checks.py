"""What is refused of a demo's options before anything is loaded, and what is made of the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import typer
from rich.console import Console
from rich.text import Text

from secureagg.cli.demo.occasions import Occasion
from secureagg.cli.demo.report import missing_for_report
from secureagg.cli.demo.saved import SAVED_LANES
from secureagg.cli.demo.settings import OneShotSettings, PartitionChoice, Scheme, Settings, TensealSettings, Unit
from secureagg.cli.demo.spending import assumed_corrupt, distributed_noise, dp_sgd_terms, quorum
from secureagg.cli.options import refuse_given
from secureagg.cli.targets import require_writable_file, require_writable_folder
from secureagg.dp.accounting import require_epsilon
from secureagg.errors import ParameterError
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan

__all__ = [
    "given",
    "occasion_of",
    "partition_of",
    "refuse_unattacked",
    "report_target",
    "require_homes",
    "require_possible",
    "require_saved",
    "unit_of",
]

_Value = TypeVar("_Value")


def given(value: _Value | None, default: _Value) -> _Value:
    """Return the value, or the default if there is none."""
    return default if value is None else value


def occasion_of(unit: Unit | None, *, attacked: bool) -> Occasion:
    """Return what the run is for."""
    if attacked:
        return Occasion.ATTACK
    return {
        None: Occasion.TRAINING,
        Unit.CLIENT: Occasion.CLIENT_PRIVACY,
        Unit.EXAMPLE: Occasion.EXAMPLE_PRIVACY,
    }[unit]


def refuse_unattacked(context: typer.Context, scheme: Scheme, state_dir: Path | None, *, attacked: bool) -> None:
    """Refuse options that do not go together with an attack, or without one."""
    if not attacked:
        refuse_given(context, "malicious", "only an --attack uses it")
    elif scheme is not Scheme.ONE_SHOT:
        raise typer.BadParameter(f"it is on --scheme {Scheme.ONE_SHOT}, and this is {scheme}", param_hint="--attack")
    elif state_dir is not None:
        raise typer.BadParameter("an attacked run is not saved", param_hint="--state-dir")


def unit_of(
    context: typer.Context, scheme: Scheme, epsilon: float | None, dp_sgd_epsilon: float | None, *, attacked: bool
) -> Unit | None:
    """Return whom a budget is about, None without one; refuse options that do not go with that."""
    if epsilon is None and dp_sgd_epsilon is None:
        for name in ("delta", "budget_rounds", "ledger"):
            refuse_given(context, name, "only --epsilon and --dp-sgd-epsilon use it")
        if attacked:
            refuse_given(context, "proofs", "an attacked run is one with and one without")
        return None
    option = "--dp-sgd-epsilon" if epsilon is None else "--epsilon"
    if epsilon is not None and dp_sgd_epsilon is not None:
        raise typer.BadParameter(
            "it is not combined with --epsilon here: the two are about different units and add noise twice, which on "
            "data of this size leaves nothing to see. Run one after the other; docs/privacy.md combines them",
            param_hint="--dp-sgd-epsilon",
        )
    if attacked:
        raise typer.BadParameter(
            "an attacked run has three trainings and no budget; run one of the two", param_hint=option
        )
    if scheme is not Scheme.ONE_SHOT:
        raise typer.BadParameter(f"it is on --scheme {Scheme.ONE_SHOT}, and this is {scheme}", param_hint=option)
    return Unit.CLIENT if dp_sgd_epsilon is None else Unit.EXAMPLE


def partition_of(text: str) -> PartitionChoice:
    """Read --partition."""
    try:
        return PartitionChoice.parse(text)
    except ParameterError as error:
        raise typer.BadParameter(str(error), param_hint="--partition") from error


def require_saved(state_dir: Path | None) -> None:
    """Refuse to resume what was never saved: a typing error would start a run of its own, under a wrong name."""
    if state_dir is None:
        raise typer.BadParameter("it needs --state-dir, where the run was saved", param_hint="--resume")
    if not any((state_dir / lane).is_dir() for lane in SAVED_LANES):
        raise typer.BadParameter(
            f"no run is saved in {state_dir}; give the --state-dir of one, or leave --resume out to start there",
            param_hint="--resume",
        )


def _require_answers(members: int, absent_members: int) -> None:
    """Refuse a committee that could open no sum. Raises: ParameterError."""
    needed, left = Committee(members).members_needed, max(0, members - absent_members)
    if left < needed:
        raise ParameterError(
            f"--members {members} and --absent-members {absent_members} leave {left} that answer, and {needed} must; "
            "take more members, or have fewer of them absent"
        )


def require_possible(settings: Settings) -> None:
    """Refuse numbers that work with no data and no model, however small. Raises: ParameterError, MissingExtraError."""
    match settings.encryption:
        case OneShotSettings() as chosen:
            _require_answers(chosen.members, chosen.absent_members)
            RoundPlan(
                layout=Layout(((1,),), ("float32",)),
                clients=settings.clients,
                quorum=quorum(settings),
                l2_clip=chosen.l2_clip,
                value_bits=chosen.value_bits,
                committee=Committee(chosen.members),
                assumed_corrupt_clients=assumed_corrupt(settings),
            )
            distributed_noise(settings, proofs=chosen.proofs)
        case TensealSettings() as chosen:
            from secureagg.he.tenseal import choose_parameters  # not needed for the other schemes

            choose_parameters(settings.clients, chosen.magnitude, chosen.precision, 1)
    if settings.privacy is not None and settings.privacy.unit is Unit.EXAMPLE:
        require_epsilon("dp_sgd_epsilon", settings.privacy.epsilon)
        dp_sgd_terms(settings)


def report_target(report: Path, said: Console) -> Path | None:
    """Return the report's path, known to be writable; None if it cannot be drawn."""
    missing = missing_for_report()
    if missing is not None:
        said.print(Text(f"No report: {missing}"), soft_wrap=True)
        return None
    require_writable_file(report, "--report")
    return report


def require_homes(state_dir: Path | None, ledger: Path | None, unit: Unit | None) -> None:
    """Make sure that the run and its ledgers can be saved where they are to be."""
    if state_dir is not None:
        require_writable_folder(state_dir, "--state-dir")
    if ledger is not None:
        (require_writable_folder if unit is Unit.EXAMPLE else require_writable_file)(ledger, "--ledger")
