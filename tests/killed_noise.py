"""An aggregator, and a client, that are killed at every point at which something becomes durable.

    python -m tests.killed_noise aggregator|client DIRECTORY

prints, for each point, the debits found when the ledger is opened again and whether anything had been released, and
for the aggregator whether one made anew on the same spool released it then; "done" once nothing killed it.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import secureagg as sa
from secureagg.dp.client_sampling import Adversary
from tests.federation import Federation, answers_of
from tests.noise import admitted, contribution, given, noisy_federation

BUDGET, RELATION = (60.0, 1e-5), sa.Relation.ZERO_OUT


def killed_at(point: int) -> None:
    """Have this process killed by itself where it would sync for this time, counted from 0."""
    sync, count = os.fsync, itertools.count()

    def syncing(descriptor: int) -> None:
        if next(count) == point:
            os.kill(os.getpid(), signal.SIGKILL)
        sync(descriptor)

    os.fsync = syncing  # type: ignore[assignment]


def survives(work: Callable[[], None], point: int) -> bool:
    """Run this in a child that is killed at this point; return whether it came to its end before."""
    child = os.fork()
    if child == 0:
        killed_at(point)
        work()
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def ledger_of(path: Path) -> sa.Ledger:
    """Return one against all but the aggregator, which counts both kinds of noise."""
    return sa.Ledger(path, BUDGET, RELATION, adversary=Adversary.RECIPIENTS)


def release(everyone: Federation, spool: Path, ledger: Path, out: Path) -> None:
    """Close and open a round, and write the mean where everybody sees it."""
    with ledger_of(ledger) as own:
        aggregator = sa.Aggregator(everyone.session, spool=spool, ledger=own)
        request = aggregator.close()
        result = aggregator.open(answers_of(everyone.members, everyone.session, request))
        out.write_bytes(b"".join(each.tobytes() for each in result.mean))


def aggregator(directory: Path) -> None:
    for point in itertools.count():
        with noisy_federation(given(sa.CentralGaussian)) as everyone:
            home = directory / str(point)
            admitted(everyone, spool=home / "spool")
            out, again, ledger = home / "mean", home / "again", home / "ledger"
            whole = survives(partial(release, everyone, home / "spool", ledger, out), point)
            with suppress(sa.ParameterError):
                release(everyone, home / "spool", ledger, again)
            with ledger_of(ledger) as own:
                print("done" if whole else point, len(own), int(out.exists()), int(again.exists()))
            if whole:
                return


def client(directory: Path) -> None:
    for point in itertools.count():
        with noisy_federation(given(noise_by="clients")) as everyone:
            home = directory / str(point)
            home.mkdir(parents=True)
            out, ledger = home / "sent", home / "ledger"

            def send(everyone: Federation = everyone, out: Path = out, ledger: Path = ledger) -> None:
                with ledger_of(ledger) as own, out.open("w+b", buffering=0) as file:
                    contribution(everyone, 0, ledger=own, out=file)

            whole = survives(send, point)
            with ledger_of(ledger) as own:
                print("done" if whole else point, len(own), int(out.exists() and out.stat().st_size > 0), 0)
            if whole:
                return


if __name__ == "__main__":
    {"aggregator": aggregator, "client": client}[sys.argv[1]](Path(sys.argv[2]))
