"""Processes that are killed, or race: a member answers once, an aggregator loses nothing it has admitted."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import secureagg as sa
from tests.federation import Federation, federation, same, toy_plan
from tests.roles import Died, Party, Refused, publish_federation

KILL = "import os, signal\ndef die(*a, **k): os.kill(os.getpid(), signal.SIGKILL)\n"
RACES = 12


@pytest.fixture
def everyone() -> Iterator[Federation]:
    with federation() as made:
        yield made


def home_of(everyone: Federation, member_id: int) -> Path:
    """Return a member's home directory, with the identity and the journal that the federation gave it."""
    home = everyone.directory / f"home-{member_id}"
    home.mkdir(exist_ok=True)
    (home / "seed").write_bytes(everyone.member_identities[member_id].to_seed())
    if not (home / "journal").exists():
        (home / "journal").symlink_to(everyone.directory / f"journal-{member_id}")
    return home


@pytest.mark.parametrize(
    ("before", "answered"),
    [
        (KILL + "import secureagg.journal\nsecureagg.journal.Journal.record = die", False),
        (KILL + "import os\nos.link = die", False),
        (KILL + "import os\nreal = os.link\nos.link = lambda *a: (real(*a), die())", True),
        (KILL + "import secureagg.journal\nsecureagg.journal.Journal.erase_prekey = die", True),
        (KILL + "import pathlib\npathlib.Path.unlink = die", True),
    ],
    ids=["before the journal", "before the link", "after the link", "before the erasure", "within the erasure"],
)
def test_a_member_killed_while_it_answers(everyone: Federation, before: str, answered: bool) -> None:
    """Killed before its answer is journalled it may still answer anything; after that, only the same."""
    public = everyone.directory / "public"
    publish_federation(public, everyone)
    aggregators = [everyone.aggregator([0, 1, 2]), everyone.aggregator([0, 1, 3])]
    first, other = (bytes(aggregator.close()) for aggregator in aggregators)
    with Party(home_of(everyone, 0), public, before) as doomed, pytest.raises(Died) as caught:
        doomed.call("respond", given=first)
    assert caught.value.args == (-signal.SIGKILL,)
    member = everyone.restarted(0)
    if answered:
        with pytest.raises(sa.ParameterError, match="already answered under this roster, for another set"):
            member.respond(everyone.session, other)
    answers = [member.respond(everyone.session, first) for member in (member, *everyone.members[1:])]
    assert member.respond(everyone.session, first) == answers[0]
    assert same(aggregators[0].open(answers).mean, everyone.expected([0, 1, 2]))
    assert member._journal.stored_prekey(1) is None


def test_processes_that_race_give_one_answer_a_round(everyone: Federation) -> None:
    """Two processes with one journal, asked at once for different sets and for the same one."""
    homes, requests, answers = home_of(everyone, 0), [], []
    for number in range(1, RACES + 1):
        publish_federation(everyone.directory / f"public-{number}", everyone, number)
        everyone.session = everyone.session_of(number)
        payloads = [everyone.contribution(i) for i in range(3)]
        sets = []
        for left_out in (2, 0):
            aggregator = sa.Aggregator(everyone.session)
            for i in {0, 1, 2} - {left_out}:
                aggregator.admit(payloads[i])
            sets.append(bytes(aggregator.close()))
        requests.append(sets if number % 2 else [sets[0]] * 2)

    def ask(party: Party, given: bytes) -> bytes | str:
        try:
            return party.call("respond", given=given)
        except Refused as error:
            return str(error)

    with ThreadPoolExecutor(2) as pool, Party(homes, Path()) as one, Party(homes, Path()) as two:
        for number, pair in enumerate(requests, 1):
            one.public = two.public = everyone.directory / f"public-{number}"
            list(pool.map(lambda party: party.call("prekey"), (one, two)))  # both are up
            answers.append(list(pool.map(ask, (one, two), pair)))
    for number, pair in enumerate(answers, 1):
        given = [answer for answer in pair if isinstance(answer, bytes)]
        refused = [answer for answer in pair if isinstance(answer, str)]
        if number % 2:
            assert len(given) == 1 and "already answered under this roster, for another set" in refused[0]
        else:
            assert len(given) == 2 and given[0] == given[1]


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (KILL + "import secureagg.spool\nsecureagg.spool._copy = die", False),
        (KILL + "import os\nos.rename = die", False),
        (KILL + "import os\nreal = os.rename\nos.rename = lambda *a: (real(*a), die())", True),
        (
            KILL + "from secureagg.he.total import Total\nreal = Total.add\n"
            "staged = lambda: any(name.endswith('.partial') for name in os.listdir(os.path.dirname({third!r})))\n"
            "Total.add = lambda *a: die() if staged() else real(*a)",
            False,
        ),
    ],
    ids=["while copying", "before it is kept", "after it is kept", "while adding"],
)
def test_an_aggregator_killed_while_it_admits(everyone: Federation, before: str, kept: bool) -> None:
    """Made anew on its spool, it has the client it was admitting or has not, and all the others."""
    public, home = everyone.directory / "public", everyone.directory / "server"
    publish_federation(public, everyone)
    payloads = [everyone.contribution(i) for i in range(3)]
    survivor = sa.Aggregator(everyone.session, spool=home / "spool")
    for payload in payloads[:2]:
        survivor.admit(payload)
    third = str(home / "spool" / "2.contribution")
    with Party(home, public, before.replace("{third!r}", repr(third))) as doomed, pytest.raises(Died) as caught:
        doomed.call("admit", given=payloads[2])
    assert caught.value.args == (-signal.SIGKILL,)
    restored = sa.Aggregator(everyone.session, spool=home / "spool")
    assert restored.clients == ((0, 1, 2) if kept else (0, 1))
    assert not list((home / "spool").glob("*.partial"))
    if kept:
        with pytest.raises(sa.FaultyClientError, match="client 2: a contribution of this client is already admitted"):
            restored.admit(payloads[2])
    else:
        restored.admit(payloads[2])
    request = restored.close()
    result = restored.open([member.respond(everyone.session, request) for member in everyone.members])
    assert same(result.mean, everyone.expected([0, 1, 2]))
    sa.verify_tally(everyone.session, result.tally or b"", mine=payloads[2], contributions=payloads[:2])


@pytest.mark.parametrize(
    ("before", "kept"),
    [
        (KILL + "import secureagg.spool\nsecureagg.spool.DirectorySpool.keep_reports = die", False),
        (KILL + "import pathlib\npathlib.Path.rename = die", False),
        (KILL + "import pathlib\nreal = pathlib.Path.rename\npathlib.Path.rename = lambda *a: (real(*a), die())", True),
        (KILL + "import secureagg.running_sum\nsecureagg.running_sum.RunningSum.leave_out = die", True),
    ],
    ids=["before it keeps the reports", "before they are there", "once they are there", "while leaving out"],
)
def test_an_aggregator_killed_while_it_closes(before: str, kept: bool) -> None:
    """With the reports it kept it closes the round again as it was closed, though members may have answered since."""
    with federation(toy_plan(committee=sa.Committee(4, mode="robust"))) as everyone:
        public, home = everyone.directory / "public", everyone.directory / "server"
        publish_federation(public, everyone)
        aggregator = sa.Aggregator(everyone.session, spool=home / "spool")
        for client in range(3):
            aggregator.admit(everyone.contribution(client))
        check = aggregator.share_check()
        reports = [member.check(everyone.session, check) for member in everyone.members]
        paths = [home / f"report-{number}" for number in range(len(reports))]
        for path, report in zip(paths, reports, strict=True):
            path.write_bytes(report)
        with Party(home, public, before) as doomed, pytest.raises(Died) as caught:
            doomed.call("close", *map(str, paths))
        assert caught.value.args == (-signal.SIGKILL,)
        again = sa.Aggregator(everyone.session, spool=home / "spool")
        if not kept:
            with pytest.raises(sa.ParameterError, match="committee is robust"):
                again.close()
        request = again.close() if kept else again.close(reports)
        answers = [member.respond(everyone.session, request) for member in everyone.members]

        # Once members have answered they check nothing any more; the round still opens, to the same answers.
        last = sa.Aggregator(everyone.session, spool=home / "spool")
        with pytest.raises(sa.ParameterError, match="the round is answered"):
            everyone.members[0].check(everyone.session, last.share_check())
        request = last.close()
        assert [member.respond(everyone.session, request) for member in everyone.members] == answers
        assert same(last.open(answers).mean, everyone.expected([0, 1, 2]))
