"""Every role in a process of its own: only bytes cross, and each process knows no more than its own directory."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import secureagg as sa
from tests.federation import mean_of, quantised, same, toy_plan, toy_update
from tests.roles import Party, Refused, publish, read_tensors, write_tensors

WEIGHTS = (2, 1, 3)


def test_a_round_between_processes(tmp_path: Path) -> None:
    """Three clients, four members, an aggregator that is another process for each phase, and an auditor.

    Client 3 of the roster never sends; member 3 is gone after the check.
    """
    public, server, received = tmp_path / "public", tmp_path / "server", tmp_path / "received"
    received.mkdir()
    homes = [tmp_path / f"{role}-{i}" for role in ("client", "member") for i in range(4)]
    with ExitStack() as parties, ThreadPoolExecutor(4) as pool:
        everybody = [parties.enter_context(Party(home, public)) for home in homes]
        clients, members = everybody[:4], everybody[4:]
        keys = list(pool.map(lambda party: party.call("enrol"), everybody))
        plan = toy_plan(max_weight=3, committee=sa.Committee(4, mode="robust"))
        publish(public, plan, sa.Roster(keys[:4], keys[4:]), toy_update(0))
        for i, member in enumerate(members):
            (public / f"prekey-{i}").write_bytes(member.call("prekey"))
        for i, home in enumerate(homes[:3]):
            write_tensors(home / "update.npz", toy_update(i))
            (home / "weight").write_text(str(WEIGHTS[i]))
            (home / "rounding").write_text(str(i))
        sent = list(pool.map(lambda party: party.call("contribute"), clients[:3]))
        with Party(server, public) as aggregator:
            assert [aggregator.call("admit", given=payload) for payload in reversed(sent)] == [b"2", b"1", b"0"]
            with pytest.raises(Refused, match="FaultyClientError: client 0: a contribution of this client is already"):
                aggregator.call("admit", given=sent[0])
            asked = aggregator.call("ask")
        for i, report in enumerate(pool.map(lambda party: party.call("check", given=asked), members)):
            (received / f"report-{i}").write_bytes(report)
        reports = [received / f"report-{i}" for i in range(4)]
        with Party(server, public) as aggregator:
            request = aggregator.call("close", *reports)
            for i, answer in enumerate(pool.map(lambda party: party.call("respond", given=request), members[:3])):
                (received / f"answer-{i}").write_bytes(answer)
            answers = [received / f"answer-{i}" for i in range(3)]
            told = aggregator.call("open_sum", received / "mean.npz", received / "tally", *reports, *answers)
        assert told == b"6 [0, 1, 2] {} {}"
        tally, spooled = (received / "tally").read_bytes(), [server / "spool" / f"{i}.contribution" for i in range(3)]
        assert [each.read_bytes() for each in spooled] == sent
        for client in clients[:3]:
            client.call("verify", given=tally)
        clients[3].call("verify", *spooled, given=tally)  # sent nothing: it is the auditor
    grids = [quantised(plan, toy_update(i), WEIGHTS[i], np.random.default_rng(i)) for i in range(3)]
    expected = mean_of(plan, [sum(column) for column in zip(*grids, strict=True)], sum(WEIGHTS))
    assert same(read_tensors(received / "mean.npz"), expected)
    # Members 0, 1 and 2 have answered and erased their keys; member 3 was away.
    assert [len(list((home / "journal" / "prekeys").iterdir())) for home in homes[4:]] == [0, 0, 0, 1]
