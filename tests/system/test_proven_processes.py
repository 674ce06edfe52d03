"""A round with proofs in which every role is a process of its own, and a client among them that lies."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

import secureagg as sa
from secureagg.verification import verify_many
from tests.federation import mean_of, quantised, same, toy_plan, toy_update
from tests.roles import Party, Refused, publish, read_tensors, write_tensors

WEIGHTS = (2, 3)
# Its update goes through the library's own client and prover, but what it encrypts is twenty times as much.
LYING = (
    "import numpy as np\nfrom secureagg.grid import GridUpdate\nreal = GridUpdate.between\n"
    "def between(self, first, last):\n"
    "    found = real(self, first, last).copy()\n"
    "    found[: self.values.size - first] *= 20\n"
    "    return found\n"
    "GridUpdate.between = between\n"
)


def test_a_round_between_processes(tmp_path: Path) -> None:
    """Three clients, the last of whom lies; four members, one gone after the check; two aggregators, one spool.

    An auditor reads the spool alone: the session's record, whose id it has pinned, and the contributions.
    """
    public, server, received = tmp_path / "public", tmp_path / "server", tmp_path / "received"
    received.mkdir()
    homes = [tmp_path / f"client-{i}" for i in range(3)] + [tmp_path / f"member-{i}" for i in range(4)]
    fields = {"l2_clip": 1.0, "value_bound": None, "max_weight": 3, "clients": 3}
    plan = toy_plan(proofs=True, committee=sa.Committee(4), **fields)
    with ExitStack() as parties, ThreadPoolExecutor(4) as pool:
        everybody = [parties.enter_context(Party(home, public, LYING if home is homes[2] else "")) for home in homes]
        clients, members = everybody[:3], everybody[3:]
        keys = list(pool.map(lambda party: party.call("enrol"), everybody))
        publish(public, plan, sa.Roster(keys[:3], keys[3:]), toy_update(0))
        for i, member in enumerate(members):
            (public / f"prekey-{i}").write_bytes(member.call("prekey"))
        for i, home in enumerate(homes[:3]):
            write_tensors(home / "update.npz", toy_update(i))
            (home / "weight").write_text(str((*WEIGHTS, 1)[i]))
            (home / "rounding").write_text(str(i))
        sent = list(pool.map(lambda party: party.call("contribute"), clients))
        with Party(server, public) as aggregator:
            with pytest.raises(Refused, match="FaultyClientError: client 2: proof: the linear relations"):
                aggregator.call("admit", given=sent[2])
            assert [aggregator.call("admit", given=payload) for payload in sent[:2]] == [b"0", b"1"]
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
        assert told == b"5 [0, 1] {} {}"
        tally, spooled = (received / "tally").read_bytes(), [server / "spool" / f"{i}.contribution" for i in range(2)]
        for client in clients[:2]:
            client.call("verify", given=tally)
        with pytest.raises(Refused, match="this client's own contribution is not in the tally"):
            clients[2].call("verify", given=tally)
    grids = [quantised(plan, toy_update(i), WEIGHTS[i], np.random.default_rng(i)) for i in range(2)]
    expected = mean_of(plan, [sum(column) for column in zip(*grids, strict=True)], sum(WEIGHTS))
    assert same(read_tensors(received / "mean.npz"), expected)
    audit(server / "spool", sent, [*spooled, homes[2] / "sent"], tally)


def audit(spool: Path, sent: list[bytes], paths: list[Path], tally: bytes) -> None:
    """Verify, from files alone what entered the sum and what was refused."""
    session = sa.Session.from_bytes((spool / "session").read_bytes(), allow_insecure=True)
    assert session.sid == sent[0][5:37]
    verdicts = verify_many(session, paths)
    assert [verdict.client_id for verdict in verdicts] == [0, 1, 2]
    assert [verdict.reason for verdict in verdicts[:2]] == [None, None]
    assert (verdicts[2].reason or "").startswith("proof: the linear relations")
    sa.verify_tally(session, tally, contributions=sent[:2])
    with pytest.raises(sa.FaultyClientError, match="client 2: its contribution is not in the tally"):
        sa.verify_tally(session, tally, contributions=sent)
