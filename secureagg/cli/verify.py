"""`secureagg verify`: check the stored transcript of a round again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from secureagg.cli.bar import bar
from secureagg.cli.exit_codes import ExitCode
from secureagg.cli.failures import reported
from secureagg.cli.options import DebugOption, JsonOption, option
from secureagg.cli.transcript import Audit, audit, gather, processes, read_record
from secureagg.cli.warm_up import telling
from secureagg.errors import EncodingError
from secureagg.plan_report import counted
from secureagg.session import Session
from secureagg.warm import warm_up

__all__ = ["verify"]

_SID_BYTES = 32


def verify(
    context: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="A spool directory, or files: session record, contributions, tally."),
    ],
    sid: Annotated[
        str | None,
        option("HEX", "The id of the agreed session, as you have it yourself; refuse any other."),
    ] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Processes that verify contributions.")] = 1,
    as_json: JsonOption = False,
    allow_insecure: Annotated[
        bool, typer.Option("--allow-insecure", metavar="", hidden=True, help="Take toy plans.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Check a round's stored transcript: prekeys, contributions with their proofs, the sum.

    PATH is what an aggregator's spool leaves, or single files in any order.
    Nothing secret is needed, and nothing is decrypted. Whatever is wrong is told
    with its client, and the exit code is 5; what files cannot show is told too.
    Anybody can make up a round that verifies: compare the session id with one
    you have from somebody you trust, or let --sid do it.

    Examples:

    secureagg verify round-7/

    secureagg verify round-7/ --sid 3f0c… --jobs 8

    secureagg verify session tally mine.contribution --json
    """
    with reported(context, debug):
        pinned = _pinned(sid)
        said = Console(stderr=True)
        transcript = gather(paths)
        session = Session.from_bytes(read_record(transcript.record), allow_insecure=allow_insecure)
        if pinned is not None and pinned != session.sid:
            raise EncodingError(
                f"{transcript.record} is of session {session.sid.hex()}, not the pinned one: plan, roster, prekeys, "
                "round number or model differ. Nothing was checked"
            )
        warm_up(telling(said))
        with processes(jobs) as executor, bar(said, "verifying") as observe:
            found = audit(session, transcript, pinned=pinned is not None, executor=executor, observe=observe)
        if as_json:
            typer.echo(json.dumps({"sound": found.sound} | asdict(found), indent=2))
        else:
            _print(Console(), found)
        if not found.sound:
            raise typer.Exit(ExitCode.FAULTY_PARTY)


def _pinned(sid: str | None) -> bytes | None:
    if sid is None:
        return None
    try:
        pinned = bytes.fromhex(sid)
    except ValueError as error:
        raise typer.BadParameter(f"{sid!r} is not hexadecimal", param_hint="--sid") from error
    if len(pinned) != _SID_BYTES:
        raise typer.BadParameter(f"a session id has {2 * _SID_BYTES} hexadecimal digits", param_hint="--sid")
    return pinned


def _print(console: Console, found: Audit) -> None:
    """Print what was checked, what failed, and what was not checked."""
    console.print(Text(f"Session {found.sid}", style="bold"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("checked")
    table.add_column("how many", justify="right")
    table.add_column("result")
    for name, count, result, style in _rows(found):
        table.add_row(name, count, Text(result, style=style))
    console.print(table)
    for each in found.failing:
        said = "a client that cannot be told" if each.client is None else f"client {each.client}"
        party = said if each.member is None else f"committee member {each.member}, its noise"
        console.print(Text(f"{party}: {each.reason} ({each.file})"), soft_wrap=True)
    if found.tally_fault is not None:
        console.print(Text(f"tally: {found.tally_fault}"), soft_wrap=True)
    console.print(Text("Not checked:", style="yellow"))
    for line in found.not_checked:
        console.print(Text(f"  {line}", style="yellow"), soft_wrap=True)


def _rows(found: Audit) -> Iterator[tuple[str, str, str, str]]:
    """Yield what was checked, how many of it, the result and its style."""
    good, bad, open_question = "green", "bold red", "yellow"
    pinned = ("is the pinned one", good) if found.pinned else ("not compared", open_question)
    yield f"session id, round {found.round_number}", "1", *pinned
    yield "prekeys", counted(found.members, "member"), "signed", good
    if found.contributions:
        signed = "signed, undamaged, proven" if found.proofs else "signed, undamaged"
        failing = len({each.file for each in found.failing})
        result = (f"{failing} failing", bad) if failing else (signed, good)
        members = f" and {counted(found.noise_members, 'member')}" if found.noise_members else ""
        everybody = counted(found.clients, "client") + members
        yield "contributions", f"{found.contributions} of {everybody}", *result
    if found.tally_fault is not None:
        yield "sum", "1 tally", "is wrong", bad
    elif found.summed is not None:
        noise = f", noise of {counted(found.summed_noise, 'member')}" if found.noise_members else ""
        yield "sum", counted(found.summed, "client") + noise, "is what the tally lists", good
        covered = "in it as they were sent" if found.covered else "none was given"
        yield "contributions in the sum", f"{found.covered} of {found.summed + found.summed_noise}", covered, good
