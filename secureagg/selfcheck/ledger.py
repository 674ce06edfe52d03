"""Laws of the privacy ledger: nothing is forgotten, nothing is altered unseen, and the budget is never overspent."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from secureagg.dp.accounting import epsilon
from secureagg.dp.dp_events import CentralGaussian, PrivacyEvent, QuantileCount
from secureagg.dp.ledger import Ledger
from secureagg.dp.ledger_file import LedgerFile
from secureagg.dp.noisy_sums import DiscreteGaussianSum, SkellamSum
from secureagg.dp.relation import Relation
from secureagg.errors import BudgetExhausted, EncodingError
from secureagg.selfcheck.law import Case, Extra, Law, LawBroken, require

__all__ = ["LAWS", "gaussian_delta"]

_ACCOUNTING = Extra("dp_accounting", "dp-accounting", "dp")
_DELTA = 1e-5
_ROUNDING = 1e-9  # of an ε, relatively: orders of summation differ in the last places
_LOOSENESS = 1.02  # of an accountant's ε, to the exact one


@contextmanager
def _file() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory) / "ledger"


def _chain(case: Case) -> None:
    """Write lines; then cut the file anywhere, and alter a byte anywhere."""
    bodies: list[dict[str, object]] = [
        {"note": f"round {n}", "number": int(case.random.integers(1 << 40))} for n in range(case.random.integers(2, 8))
    ]
    with _file() as path:
        file, ends = LedgerFile(path), []
        for body in bodies:
            file.append(body)
            ends.append(path.stat().st_size)
        head = file.head
        file.close()
        content = path.read_bytes()
        require(_bodies(path) == bodies, "a ledger's lines are not read as they were written")
        cut = int(case.random.integers(ends[0], len(content)))
        path.write_bytes(content[:cut])
        kept = sum(end <= cut + 1 for end in ends)  # a line that lacks its line feed alone is whole
        require(_bodies(path) == bodies[:kept], f"cut after {cut} of {len(content)} bytes, other lines are read")
        altered = bytearray(content)
        place = int(case.random.integers(len(content) - 1))  # not the last line feed: without it the line is whole
        altered[place] ^= 1 << int(case.random.integers(8))
        path.write_bytes(bytes(altered))
        try:
            reopened = LedgerFile(path)
        except EncodingError:
            return
        reopened.close()
        raise LawBroken(f"byte {place} was altered, and the ledger of head {head[:8]}… is read all the same")


def _bodies(path: Path) -> list[dict[str, object]]:
    file = LedgerFile(path)
    file.close()
    return file.bodies


def _draw_event(random: np.random.Generator, rounds: int = 1) -> PrivacyEvent:
    """Return an event for clients whose presence is public."""
    relation, kind = Relation.ZERO_OUT, int(random.integers(4))
    if kind == 0:
        noise, clip = float(random.uniform(0.005, 0.1)), float(random.uniform(0.5, 2))
        return CentralGaussian(noise_std=noise, l2_clip=clip, clients=100.0, rounds=rounds, relation=relation)
    if kind == 1:
        return QuantileCount(noise_std=float(random.uniform(1, 10)), rounds=rounds, relation=relation)
    honest, bound, dimension = (
        int(random.integers(2, 200)),
        float(random.uniform(10, 100)),
        int(random.integers(1, 999)),
    )
    if kind == 2:
        std = float(random.uniform(2, 20))
        return DiscreteGaussianSum(
            noise_std_grid=std,
            honest=honest,
            l2_bound_grid=bound,
            dimension=dimension,
            rounds=rounds,
            relation=relation,
        )
    return SkellamSum(
        noise_variance_grid=float(random.uniform(4, 400)),
        honest=honest,
        l2_bound_grid=bound,
        dimension=dimension,
        rounds=rounds,
        relation=relation,
    )


def _remembers(case: Case) -> None:
    events = [_draw_event(case.random) for _ in range(int(case.random.integers(1, 6)))]
    with _file() as path:
        with Ledger(path, (400.0, _DELTA), Relation.ZERO_OUT) as ledger:
            for number, event in enumerate(events):
                ledger.debit(event, f"round {number}")
            head, spent = ledger.head, ledger.spent()
        with Ledger(path, (400.0, _DELTA), Relation.ZERO_OUT) as ledger:
            require(list(ledger.events) == events, "a ledger opened again holds other debits than were made")
            require([debit.note for debit in ledger] == [f"round {n}" for n in range(len(events))], "notes are lost")
            require((ledger.head, ledger.spent()) == (head, spent), "a ledger opened again has spent something else")


def _composes(case: Case) -> None:
    """ε does not depend on the order or grouping, grows with every event, and is at most the sum of single ones."""
    rounds = int(case.random.integers(2, 6))
    one = _draw_event(case.random)
    together = _with_rounds(one, rounds)
    _close(epsilon([one] * rounds, _DELTA), epsilon(together, _DELTA), f"{rounds} single rounds and one of {rounds}")
    events = [one, *(_draw_event(case.random) for _ in range(2))]
    forth, back = epsilon(events, _DELTA), epsilon(events[::-1], _DELTA)
    _close(forth, back, "events forwards and backwards")
    fewer = epsilon(events[:-1], _DELTA)
    require(forth >= fewer * (1 - _ROUNDING), "an event more costs less")
    singles = sum(epsilon(event, _DELTA / len(events)) for event in events)
    require(forth <= singles * (1 + _ROUNDING), "events together cost more than each by itself")


def _with_rounds(event: PrivacyEvent, rounds: int) -> PrivacyEvent:
    return type(event)(**{**vars(event), "rounds": rounds})


def _close(first: float, second: float, what: str) -> None:
    require(math.isclose(first, second, rel_tol=_ROUNDING), f"{what} do not cost the same ε")


def gaussian_delta(multiplier: float, limit: float) -> float:
    """Return δ(ε) of the Gaussian mechanism (Balle and Wang, ICML 2018, Theorem 8): Φ(a − b) − e^ε·Φ(−a − b) with
    a = 1/2z and b = εz.
    """
    a, b = 1 / (2 * multiplier), limit * multiplier
    upper, lower = (math.erfc(x / math.sqrt(2)) / 2 for x in (b - a, b + a))
    return upper - math.exp(limit) * lower


def _exact(case: Case) -> None:
    """An accountant's ε is never below the exact one of the Gaussian mechanism, and hardly above it."""
    rounds, multiplier = int(case.random.integers(1, 50)), float(case.random.uniform(0.8, 8))
    event = CentralGaussian(
        noise_std=multiplier / 100, l2_clip=1.0, clients=100.0, rounds=rounds, relation=Relation.ZERO_OUT
    )
    found, composed = epsilon(event, _DELTA), multiplier / math.sqrt(rounds)
    require(gaussian_delta(composed, found) <= _DELTA * (1 + 1e-6), "ε is below the exact one")
    # Loss distributions are rounded up by a grid of 10^-4, which counts where ε itself is small.
    require(gaussian_delta(composed, found / _LOOSENESS - 1e-3) > _DELTA, "ε is more than 2 % above the exact one")


def _budget(case: Case) -> None:
    """Debit events chosen as one goes until one is refused: what was admitted is within the budget."""
    budget = float(case.random.uniform(1, 10))
    with _file() as path, Ledger(path, (budget, _DELTA), Relation.ZERO_OUT) as ledger:
        for _ in range(1000):
            event, before = _draw_event(case.random), path.read_bytes()
            affordable = ledger.affords(event)
            try:
                ledger.debit(event)
            except BudgetExhausted:
                require(not affordable, "an event that was affordable is refused")
                require(path.read_bytes() == before, "a refused event leaves a trace")
                break
            require(affordable, "an event that was not affordable is admitted")
        else:
            raise LawBroken("a thousand events did not exhaust the budget")
        require(ledger.spent().epsilon <= budget, "what was admitted costs more than the budget")


def _planned(case: Case) -> None:
    event, other = _draw_event(case.random, rounds=3), _draw_event(case.random)
    single = _with_rounds(event, 1)
    if other == single:
        return
    with _file() as path, Ledger(path, (450.0, _DELTA), Relation.ZERO_OUT, planned=[event]) as ledger:
        for _ in range(3):
            ledger.debit(single)
        for refused in (single, other):
            try:
                ledger.debit(refused)
            except BudgetExhausted:
                continue
            raise LawBroken("a ledger debits what was not planned")
        require(len(ledger) == 3, "a ledger holds other than the planned debits")


_SUBJECT = "ledger"
LAWS = (
    Law(
        _SUBJECT,
        "file",
        "A ledger's lines come back as written; cut off, it keeps every whole line; altered anywhere, it is refused.",
        "secureagg/dp/ledger_file.py",
        _chain,
        40,
        500,
    ),
    Law(
        _SUBJECT,
        "remembers",
        "A ledger opened again holds every debit and has spent what it had.",
        "secureagg/dp/ledger.py",
        _remembers,
        5,
        100,
        needs=_ACCOUNTING,
    ),
    Law(
        _SUBJECT,
        "composition",
        "ε depends on neither order nor grouping, grows with every event, and is at most the sum of single ones.",
        "secureagg/dp/accounting.py",
        _composes,
        5,
        100,
        needs=_ACCOUNTING,
    ),
    Law(
        _SUBJECT,
        "gaussian",
        "ε of the Gaussian mechanism is not below the exact one, and at most 2 % above.",
        "Balle and Wang, ICML 2018, Theorem 8",
        _exact,
        10,
        100,
        needs=_ACCOUNTING,
    ),
    Law(
        _SUBJECT,
        "budget",
        "Events chosen as one goes never cost more than the budget, and a refused one leaves no trace.",
        "secureagg/dp/ledger.py; Feldman and Zrnic, NeurIPS 2021",
        _budget,
        3,
        40,
        needs=_ACCOUNTING,
    ),
    Law(
        _SUBJECT,
        "planned",
        "A ledger with planned events debits these, and none other.",
        "secureagg/dp/ledger.py",
        _planned,
        5,
        50,
        needs=_ACCOUNTING,
    ),
)
