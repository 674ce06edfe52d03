"""`secureagg verify`: what it finds in a transcript after one thing in it was changed, and what it says it cannot."""

from __future__ import annotations

import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import secureagg as sa
from secureagg.cli.bar import bar
from secureagg.cli.demo.attacks import dishonest_clients
from secureagg.cli.demo.settings import Attack, AttackSettings
from secureagg.cli.exit_codes import ExitCode
from tests.cli.runs import Ended, Invoke
from tests.federation import Federation, answers_of, federation, toy_plan

ROSTER = 4  # clients


def stored_round(everyone: Federation, spool: Path, clients: range) -> None:
    """Play a round of these clients, which leaves its transcript in `spool`."""
    aggregator, session = everyone.aggregator(clients, spool=spool), everyone.session
    reports = None
    if everyone.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in everyone.members]
    result = aggregator.open(answers_of(everyone.members, session, aggregator.close(reports)))
    assert (spool / "tally").read_bytes() == result.tally


@pytest.fixture(scope="module")
def proven(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Federation, Path]]:
    with federation(toy_plan(proofs=True, l2_clip=1.0, value_bound=None)) as everyone:
        spool = tmp_path_factory.mktemp("proven") / "spool"
        stored_round(everyone, spool, range(ROSTER))
        yield everyone, spool


@pytest.fixture
def spool(proven: tuple[Federation, Path], tmp_path: Path) -> Path:
    """A transcript of one's own to change."""
    return Path(shutil.copytree(proven[1], tmp_path / "spool"))


@pytest.fixture
def session(proven: tuple[Federation, Path]) -> sa.Session:
    return proven[0].session


@pytest.fixture(scope="module")
def verify(invoke: Invoke) -> Callable[..., Ended]:
    return lambda *arguments: invoke("verify", "--allow-insecure", *map(str, arguments))


def flip(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


def found(ended: Ended) -> Any:
    return json.loads(ended.out)


class TestSound:
    def test_all_is_checked_against_a_pinned_id(
        self, verify: Callable[..., Ended], spool: Path, session: sa.Session
    ) -> None:
        ended = verify(spool, "--sid", session.sid.hex())
        assert (ended.code, ended.err) == (0, "")
        words = " ".join(ended.out.split())
        for text in (
            *(f"Session {session.sid.hex()}", "is the pinned one", "prekeys 3 members signed"),
            *("contributions 4 of 4 clients signed, undamaged, proven", "sum 4 clients is what the tally lists"),
            *("contributions in the sum 4 of 4 in it as they were sent", "sealed boxes"),
        ):
            assert text in words
        assert "only a comparison" not in words

    def test_without_one_says_what_that_leaves_open(
        self, verify: Callable[..., Ended], spool: Path, session: sa.Session
    ) -> None:
        ended = verify(spool)
        assert ended.code == 0
        assert f"Session {session.sid.hex()}\n" in ended.out
        assert "only a comparison of its id with a pinned one shows it" in ended.out

    @pytest.mark.parametrize("jobs", ["1", "2"])
    def test_json(self, verify: Callable[..., Ended], spool: Path, session: sa.Session, jobs: str) -> None:
        ended = verify(spool, "--json", "--jobs", jobs)
        assert ended.code == 0
        *_, sealed = found(ended).pop("not_checked")
        assert "sealed boxes" in sealed
        expected = {"sound": True, "sid": session.sid.hex(), "pinned": False, "round_number": 1, "clients": ROSTER}
        expected |= {"members": 3, "proofs": True, "contributions": 4, "failing": [], "summed": 4, "covered": 4}
        expected |= {"noise_members": 0, "summed_noise": 0}
        assert {name: value for name, value in found(ended).items() if name != "not_checked"} == expected | {
            "tally_fault": None
        }

    def test_files_in_any_order_are_told_apart_and_counted_once(
        self, verify: Callable[..., Ended], spool: Path
    ) -> None:
        renamed = spool / "what I sent"
        (spool / "2.contribution").rename(renamed)
        files = [spool / "tally", renamed, spool / "0.contribution", renamed, spool / "session"]
        report = found(verify(*files, "--json"))
        assert (report["sound"], report["contributions"], report["covered"]) == (True, 2, 2)
        assert "The part in the sum of 2 clients without a valid contribution here." in report["not_checked"]


class TestNotChecked:
    """What is not wrong and yet not known."""

    def test_no_tally(self, verify: Callable[..., Ended], spool: Path) -> None:
        (spool / "tally").unlink()
        ended = verify(spool)
        assert ended.code == 0
        assert "The sum: no tally was given." in ended.out and "what the tally lists" not in ended.out

    def test_no_contributions(self, verify: Callable[..., Ended], spool: Path) -> None:
        ended = verify(spool / "tally", spool / "session")
        assert ended.code == 0
        assert "Any contribution: none was given." in ended.out and "without a valid contribution" in ended.out

    def test_no_proofs_and_a_client_that_is_not_in_the_sum(self, verify: Callable[..., Ended], tmp_path: Path) -> None:
        with federation() as everyone:
            stored_round(everyone, tmp_path, range(3))
            (tmp_path / "late").write_bytes(everyone.contribution(3))
        report = found(verify(tmp_path, tmp_path / "late", "--json"))
        assert (report["sound"], report["proofs"], report["summed"], report["covered"]) == (True, False, 3, 3)
        assert "Whether updates are within their bounds: this plan asks for no proofs." in report["not_checked"]
        assert "Why clients with a valid contribution are not in the sum: 3." in report["not_checked"]


class TestChanged:
    """One thing is flipped, and it alone is named."""

    @pytest.mark.parametrize(
        ("part", "reason"),
        [
            ("version", "version 0"),
            ("session", "another session"),
            ("signature", "the signature of this contribution is wrong"),
            ("frame", "frame 0 is not the one that was signed"),
            ("box", "box 0 is not the one that was signed"),
            ("proof", "the proof is not the one that was signed"),
            ("name", "the file is named for client 9"),
            ("copy", "a second contribution of this client; 1.contribution is another"),
        ],
    )
    def test_contribution(
        self, verify: Callable[..., Ended], spool: Path, session: sa.Session, part: str, reason: str
    ) -> None:
        file, plan = spool / "1.contribution", session.plan
        boxes = plan.header_bytes + plan.packing.ciphertext_bytes
        places = {"version": 4, "session": 5, "signature": 50, "frame": plan.header_bytes, "box": boxes, "proof": -1}
        if part in places:
            flip(file, places[part])
        else:
            target = spool / ("9.contribution" if part == "name" else "again")
            shutil.copy(file, target)
            if part == "name":
                file.unlink()
            file = target
        ended = verify(spool, *([file] if part == "copy" else []), "--json")
        assert ended.code == ExitCode.FAULTY_PARTY
        (failing,) = found(ended)["failing"]
        assert failing["file"] == str(file) and reason in failing["reason"]
        assert failing["client"] == (None if part in ("version", "session") else 1)
        assert found(ended)["covered"] == (4 if part == "copy" else 3)
        assert ("the tally counts a contribution of this client" in failing["reason"]) == (failing["client"] == 1)

    def test_several_in_processes(self, verify: Callable[..., Ended], spool: Path) -> None:
        flip(spool / "0.contribution", -1)
        flip(spool / "2.contribution", 4)
        ended = verify(spool, "--json", "--jobs", "2")
        assert ended.code == ExitCode.FAULTY_PARTY
        assert [each["client"] for each in found(ended)["failing"]] == [0, None]

    @pytest.mark.parametrize("attack", [Attack.SCALE, Attack.NOISE, Attack.NAN])
    def test_a_proof_of_another_vector(
        self, proven: tuple[Federation, Path], verify: Callable[..., Ended], spool: Path, attack: Attack
    ) -> None:
        """An aggregator that stored it nevertheless cannot hide it."""
        everyone, _ = proven
        dishonest = dishonest_clients(AttackSettings(attack, (1,)))[1]
        payload = dishonest(everyone.session, everyone.clients[1], everyone.update(1), 1, np.random.default_rng(1))
        (spool / "1.contribution").write_bytes(payload)
        ended = verify(spool)
        assert ended.code == ExitCode.FAULTY_PARTY
        assert "client 1: proof: the linear relations and norms do not add up" in ended.out

    def test_the_first_byte_of_a_spooled_contribution(self, verify: Callable[..., Ended], spool: Path) -> None:
        flip(spool / "1.contribution", 0)
        ended = verify(spool)
        assert ended.code == ExitCode.FAULTY_PARTY
        assert re.search(r"a client that cannot be told: .*1\.contribution", ended.out)
        assert "1 failing" in ended.out

    def test_a_signed_contribution_that_is_not_the_summed_one(
        self, proven: tuple[Federation, Path], verify: Callable[..., Ended], spool: Path
    ) -> None:
        """Two clients sign something else after the round, and both are named."""
        everyone, _ = proven
        for client in (0, 2):
            update = everyone.update(3)
            (spool / f"{client}.contribution").write_bytes(everyone.contribution(client, update=update))
        ended = verify(spool, "--json")
        assert ended.code == ExitCode.FAULTY_PARTY
        assert [(each["client"], each["reason"]) for each in found(ended)["failing"]] == [
            (0, "its contribution is not the one in the tally"),
            (2, "its contribution is not the one in the tally"),
        ]
        assert found(ended)["covered"] == 2

    @pytest.mark.parametrize(
        ("place", "reason"),
        [
            (5, "made for another session"),
            (45, "not the sum of the contributions it lists"),
            (-1, "not the sum of the contributions it lists"),
        ],
        ids=["session", "a digest", "the sum"],
    )
    def test_tally(self, verify: Callable[..., Ended], spool: Path, place: int, reason: str) -> None:
        flip(spool / "tally", place)
        ended = verify(spool, "--json")
        assert ended.code == ExitCode.FAULTY_PARTY
        assert (found(ended)["failing"], found(ended)["covered"]) == ([], 0)
        assert reason in found(ended)["tally_fault"]
        assert "Whether the sum holds what clients sent: the tally is not right." in found(ended)["not_checked"]
        assert re.search(r"sum\s+1 tally\s+is wrong", verify(spool).out)

    def test_a_prekey_in_the_record(self, verify: Callable[..., Ended], spool: Path) -> None:
        flip(spool / "session", -50)  # before round number and model digest
        ended = verify(spool)
        assert ended.code == ExitCode.ENCODING
        assert "the signature of this prekey is wrong" in ended.err

    def test_the_model_in_the_record_makes_it_another_session(
        self, verify: Callable[..., Ended], spool: Path, session: sa.Session
    ) -> None:
        flip(spool / "session", -1)
        ended = verify(spool, "--json")
        assert ended.code == ExitCode.FAULTY_PARTY
        assert found(ended)["sid"] != session.sid.hex()
        assert [each["client"] for each in found(ended)["failing"]] == [None] * 4
        pinned = verify(spool, "--sid", session.sid.hex())
        assert pinned.code == ExitCode.ENCODING
        assert "not the pinned one" in pinned.err and pinned.out == ""


class TestProgress:
    @pytest.mark.parametrize("terminal", [True, False])
    def test_is_a_bar_on_a_terminal_and_nothing_elsewhere(self, terminal: bool) -> None:
        console = Console(file=io.StringIO(), force_terminal=terminal, width=100)
        with bar(console, "verifying") as observe:
            observe(sa.Event("verify", 3, 4))
        assert isinstance(console.file, io.StringIO)
        assert ("3/4" in console.file.getvalue()) == terminal
        assert terminal or not console.file.getvalue()


class TestMisuse:
    def test_a_toy_plan_is_refused(self, invoke: Invoke, spool: Path) -> None:
        ended = invoke("verify", str(spool))
        assert ended.code == ExitCode.ENCODING
        assert "toy parameters" in ended.err

    def test_what_is_no_part_of_a_transcript(self, verify: Callable[..., Ended], spool: Path) -> None:
        (spool / "notes").write_text("SAxx")
        for path, reason in ((spool / "notes", "is no session record"), (spool / "gone", "No such file")):
            ended = verify(spool, path)
            assert ended.code == ExitCode.ENCODING
            assert reason in ended.err
        ended = verify(spool / "tally")
        assert ended.code == ExitCode.ENCODING and "no session record" in ended.err
        assert verify(spool).code == 0  # a spool may hold more than a transcript

    def test_not_one_round(self, verify: Callable[..., Ended], spool: Path, tmp_path: Path) -> None:
        other = Path(shutil.copytree(spool, tmp_path / "other"))
        for paths, reason in (
            ([spool, other], "2 session records"),
            ([spool, other / "tally"], "2 tallies"),
        ):
            ended = verify(*paths)
            assert ended.code == ExitCode.PARAMETERS
            assert reason in ended.err

    def test_usage(self, verify: Callable[..., Ended], spool: Path) -> None:
        for arguments in ([], [spool, "--sid", "xy"], [spool, "--sid", "ab"], [spool, "--jobs", "0"]):
            assert verify(*arguments).code == ExitCode.USAGE
