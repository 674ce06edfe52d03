"""Debits a ledger for ever, and says so after each debit. Run as a program, it is killed by its own parent.

    python killed_ledger.py DIRECTORY KILLS SEED

prints, for each kill, the debits acknowledged and those found when the ledger was opened again.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

from secureagg.dp.dp_events import CentralGaussian
from secureagg.dp.ledger import Ledger
from secureagg.dp.relation import Relation

EVENT = CentralGaussian(noise_std=1.0, l2_clip=1.0, clients=1000, rounds=1, relation=Relation.ZERO_OUT)


def opened(path: Path) -> Ledger:
    return Ledger(path, (8.0, 1e-5), Relation.ZERO_OUT)


def debit_until_killed(path: Path, pipe: int) -> None:
    ledger = opened(path)
    while True:
        ledger.debit(EVENT, "x" * 100)
        os.write(pipe, b".")


def main(directory: Path, kills: int, seed: int) -> None:
    chance = random.Random(seed)
    path, total = directory / "killed.ledger", 0
    with opened(directory / "first.ledger") as ledger:
        ledger.debit(EVENT)  # so that everything is imported before a child is forked
    for _ in range(kills):
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            debit_until_killed(path, writing)
        os.close(writing)
        time.sleep(chance.uniform(0, 0.04))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with open(reading, "rb") as file:
            total += len(file.read())
        with opened(path) as ledger:
            print(total, len(ledger))
            total = len(ledger)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
