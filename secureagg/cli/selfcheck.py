"""`secureagg selfcheck`: check on this machine that the laws hold and the attacks fail."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

import secureagg
from secureagg import selfcheck as laws
from secureagg.cli.exit_codes import ExitCode
from secureagg.cli.failures import reported
from secureagg.cli.options import DebugOption, flag, option
from secureagg.cli.targets import require_writable_file
from secureagg.cli.warm_up import telling
from secureagg.errors import EncodingError
from secureagg.plan_report import counted
from secureagg.ring.params import PARAMETER_NAMES
from secureagg.warm import warm_up

__all__ = ["selfcheck"]

_STYLES = {laws.HOLDS: "green", laws.BROKEN: "bold red", laws.NOT_CHECKED: "yellow"}
_Told = Callable[[laws.Law, int], None]


def selfcheck(
    context: typer.Context,
    thorough: Annotated[bool, flag("--thorough", "Draw many more cases: minutes, not seconds.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, max=2**63 - 1, help="Draw the cases of an earlier run again; else new ones."),
    ] = None,
    only: Annotated[
        list[str] | None,
        option("NAME", "A subject or one law, such as ledger or ledger/file; may be repeated."),
    ] = None,
    to_json: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the findings there too.")
    ] = None,
    debug: DebugOption = False,
) -> None:
    """Check on this machine that sums are exact, samplers true, ledgers honest, and that attacks fail.

    Everything is computed here, on data drawn here: nothing is sent, and no
    update of yours is read. Keys and noise come from the operating system as
    always; the cases come from a seed, which is shown. If a law is broken the
    exit code is 9, and the line of the failure says how to run it again.
    What needs a package that is not installed is told as not checked.

    Examples:

    secureagg selfcheck

    secureagg selfcheck --thorough --json findings.json

    secureagg selfcheck --only soundness --seed 1234
    """
    with reported(context, debug):
        chosen = _chosen(only or [])
        if to_json is not None:
            require_writable_file(to_json, "--json")
        said, drawn = Console(stderr=True), secrets.randbits(48) if seed is None else seed
        console = Console(soft_wrap=True)
        console.print(f"secureagg {secureagg.__version__}, {_mode(thorough)}, seed {drawn}", highlight=False)
        warm_up(telling(said))
        started = time.perf_counter()
        with _progress(said, chosen, thorough) as told:
            findings = laws.run(chosen, drawn, thorough, told)
        seconds = time.perf_counter() - started
        _print(console, findings, drawn, thorough, seconds)
        if to_json is not None:
            _write(to_json, findings, drawn, thorough, seconds)
        if any(finding.status == laws.BROKEN for finding in findings):
            raise typer.Exit(ExitCode.BROKEN_LAW)


def _mode(thorough: bool) -> str:
    return "thorough" if thorough else "quick"


def _chosen(names: Sequence[str]) -> tuple[laws.Law, ...]:
    known = {law.title for law in laws.LAWS} | {law.subject for law in laws.LAWS}
    for name in names:
        if name not in known:
            subjects = ", ".join(dict.fromkeys(law.subject for law in laws.LAWS))
            raise typer.BadParameter(
                f"there is no law or subject {name!r}; subjects are {subjects}", param_hint="--only"
            )
    return tuple(law for law in laws.LAWS if not names or law.subject in names or law.title in names)


@contextmanager
def _progress(said: Console, chosen: Sequence[laws.Law], thorough: bool) -> Iterator[_Told]:
    """Yield what is told of every case: a bar on a terminal, gone afterwards; a line a law elsewhere."""
    if not said.is_terminal:
        yield _Lines(said, thorough).told
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=said, transient=True) as progress:
        task = progress.add_task("", total=sum(law.cases(thorough) for law in chosen))

        def told(law: laws.Law, cases: int) -> None:
            progress.update(task, advance=1, description=f"{law.title:<40}")

        yield told


class _Lines:
    """One line for each law that held, so that a log shows how far a run has come."""

    def __init__(self, said: Console, thorough: bool) -> None:
        self._said, self._thorough = said, thorough

    def told(self, law: laws.Law, cases: int) -> None:
        if cases == law.cases(self._thorough):
            self._said.print(f"holds: {law.title} ({cases})", highlight=False, soft_wrap=True)


def _print(console: Console, findings: Sequence[laws.Finding], seed: int, thorough: bool, seconds: float) -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("law")
    table.add_column("cases", justify="right")
    table.add_column("s", justify="right")
    table.add_column("")
    for each in findings:
        cases = str(each.cases) if each.cases else ""
        status = Text(each.status, style=_STYLES[each.status])
        table.add_row(each.law.title, cases, f"{each.seconds:.1f}", status)
    console.print(table)
    broken = [each for each in findings if each.status == laws.BROKEN]
    skipped = [each for each in findings if each.status == laws.NOT_CHECKED]
    comparisons = sum(each.law.comparisons * each.cases for each in findings)
    if comparisons:
        console.print(
            f"{counted(comparisons, 'statistical comparison')}; sound samplers fail one of them with probability "
            f"≤ {comparisons * laws.FALSE_ALARM:.1g} in a run.",
            highlight=False,
        )
    for each in skipped:
        console.print(Text(f"not checked: {each.law.title}: {each.reason}", style="yellow"))
    for each in broken:
        console.print(Text(f"BROKEN: {each.law.title}: {each.reason}", style="bold red"))
        console.print(Text(f"  the law: {each.law.claim} ({each.law.source})"))
        again = f"secureagg selfcheck{' --thorough' if thorough else ''} --seed {seed} --only {each.law.title}"
        console.print(Text(f"  run it again: {again}"))
    console.print(_verdict(len(findings), len(broken), len(skipped), seconds))


def _verdict(laws_asked: int, broken: int, skipped: int, seconds: float) -> Text:
    if broken:
        return Text(
            f"{broken} of {counted(laws_asked, 'law')} BROKEN: do not use this installation. {seconds:.0f} s",
            "bold red",
        )
    held = laws_asked - skipped
    checked = {0: "No law was checked", 1: "The one law that was checked holds"}
    found = checked.get(held, f"All {held} laws that were checked hold")
    rest = f"; {skipped} not checked" if skipped else ""
    return Text(f"{found}{rest}. {seconds:.0f} s", "bold green" if held else "yellow")


def _write(path: Path, findings: Sequence[laws.Finding], seed: int, thorough: bool, seconds: float) -> None:
    found = {
        "version": secureagg.__version__,
        "mode": _mode(thorough),
        "seed": seed,
        "parameter_sets": list(PARAMETER_NAMES),
        "seconds": round(seconds, 3),
        "sound": all(each.status != laws.BROKEN for each in findings),
        "laws": [
            {
                "law": each.law.title,
                "claim": each.law.claim,
                "source": each.law.source,
                "status": each.status,
                "cases": each.cases,
                "seconds": round(each.seconds, 3),
                "reason": each.reason,
                "false_alarm": each.law.comparisons * each.cases * laws.FALSE_ALARM,
                "power": each.law.power,
            }
            for each in findings
        ],
    }
    try:
        path.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise EncodingError(f"{path} cannot be written: {error.strerror}") from error
