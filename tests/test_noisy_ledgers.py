"""Noise and ledgers: a round is debited before anything is released, once, and a second draw is never released."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import secureagg as sa
from secureagg.dp.client_sampling import Adversary
from secureagg.dp.dp_events import event_from_fields, event_to_fields
from secureagg.errors import BudgetExhausted, EncodingError, ParameterError
from secureagg.tally import verify_tally
from tests.federation import answers_of, federation, same, toy_plan
from tests.noise import KINDS, Kind, admitted, closed, contribution, given, noisy_federation, opened, recorded
from tests.roles import ROOT


def ledger_for(path: Path, event: Any, *, rounds: int = 1) -> sa.Ledger:
    """Return a ledger with room for this many such rounds, against whom they hold."""
    against = getattr(event, "adversary", Adversary.PARTICIPANTS)
    return sa.Ledger(path, (60.0, 1e-5), sa.Relation.ZERO_OUT, adversary=against, planned=[event] * rounds)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_client_debits_before_it_sends_and_then_sends_no_more(tmp_path: Path, kind: Kind) -> None:
    with noisy_federation(given(kind)) as everyone:
        event = everyone.plan.privacy_event()
        with ledger_for(tmp_path / "ledger", event) as mine:
            contribution(everyone, 0, ledger=mine)
            assert mine.events == (event,) and [debit.note for debit in mine] == ["round 1"]
            for out in (None, io.BytesIO()):
                everyone.session = everyone.session_of(everyone.session.round_number + 1)
                with pytest.raises(BudgetExhausted):
                    contribution(everyone, 0, ledger=mine, **({} if out is None else {"out": out}))
                assert out is None or out.getvalue() == b""
            assert len(mine) == 1
        assert sa.Aggregator(everyone.session).clients == ()


def test_a_ledger_that_cannot_afford_the_round_takes_nothing(tmp_path: Path) -> None:
    """Neither the identity's turn nor the budget."""
    with noisy_federation() as everyone:
        identity = sa.Identity(everyone.clients[0].to_seed())
        with sa.Ledger(tmp_path / "small", (1.0, 1e-5), sa.Relation.ZERO_OUT) as small:
            with pytest.raises(sa.BudgetExhausted, match="round 1 is more than what is left"):
                sa.contribute(everyone.session, identity, everyone.update(0), ledger=small)
            assert not small.events
        with ledger_for(tmp_path / "enough", everyone.plan.privacy_event()) as enough:
            sa.contribute(everyone.session, identity, everyone.update(0), ledger=enough)
            assert len(enough.events) == 1


def test_a_close_that_cannot_be_afforded_leaves_the_spool_as_it_was(tmp_path: Path) -> None:
    """Other share checks can close the round later: nobody has been asked to answer for these."""
    committee = sa.Committee(size=5, threshold=4, assumed_corrupt=1, mode="robust")
    with noisy_federation(committee=committee) as everyone:
        with sa.Ledger(tmp_path / "small", (1.0, 1e-5), sa.Relation.ZERO_OUT) as small:
            aggregator = sa.Aggregator(everyone.session, spool=tmp_path / "spool", ledger=small)
            for member in everyone.members:
                aggregator.admit(member.add_noise(everyone.session))
            for client in range(3):
                aggregator.admit(contribution(everyone, client))
            check = aggregator.share_check()
            reports = [member.check(everyone.session, check) for member in everyone.members]
            with pytest.raises(sa.BudgetExhausted):
                aggregator.close(reports)
        assert not (tmp_path / "spool" / "reports").exists()
        later = sa.Aggregator(everyone.session, spool=tmp_path / "spool")
        assert later.close(reports[:4]).clients
        assert (tmp_path / "spool" / "reports").exists()


def test_a_client_with_a_ledger_takes_no_part_in_exact_sums(tmp_path: Path) -> None:
    """And may still take part without it: the refusal has not used up the round."""
    with noisy_federation() as noisy:
        event = noisy.plan.privacy_event()
    with federation(toy_plan()) as everyone, ledger_for(tmp_path / "ledger", event) as mine:
        identity = sa.Identity(everyone.clients[0].to_seed())
        with pytest.raises(ParameterError, match="exact sums"):
            sa.contribute(everyone.session, identity, everyone.update(0), ledger=mine)
        assert len(mine) == 0
        sa.contribute(everyone.session, identity, everyone.update(0))


def test_the_aggregators_noise_is_counted_in_no_ledger_against_the_aggregator(tmp_path: Path) -> None:
    """A client that holds such a ledger is told before anything of the round is used up."""
    with noisy_federation(given(sa.CentralGaussian)) as everyone:
        event = everyone.plan.privacy_event()
        assert event.adversary is everyone.plan.noise.adversary is Adversary.RECIPIENTS
        with pytest.raises(ParameterError, match="protects nobody from the aggregator"):
            sa.Ledger(tmp_path / "planned", (60.0, 1e-5), sa.Relation.ZERO_OUT, planned=[event])
        with sa.Ledger(tmp_path / "ledger", (60.0, 1e-5), sa.Relation.ZERO_OUT) as mine:
            with pytest.raises(ParameterError, match="protects nobody from the aggregator"):
                contribution(everyone, 0, ledger=mine)
            with pytest.raises(ParameterError, match="protects nobody from the aggregator"):
                sa.Aggregator(everyone.session, ledger=mine)
            assert len(mine) == 0
        with ledger_for(tmp_path / "others", event) as mine:
            contribution(everyone, 0, ledger=mine)
            assert str(mine.spent()).endswith(
                "(zero-out, against who sees the noisy means, not against the aggregator)"
            )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_whom_a_plans_event_holds_against_outlives_its_bytes(kind: Kind) -> None:
    with noisy_federation(given(kind)) as everyone:
        event = everyone.plan.privacy_event()
    assert event_from_fields(json.loads(json.dumps(event_to_fields(event)))) == event


def test_the_aggregator_debits_before_the_committee_is_asked(tmp_path: Path) -> None:
    with noisy_federation() as everyone, ledger_for(tmp_path / "ledger", everyone.plan.privacy_event()) as own:
        opened(everyone, admitted(everyone, ledger=own))
        assert len(own) == 1
        everyone.session = everyone.session_of(2)
        aggregator = admitted(everyone, ledger=own)
        for _ in range(2):
            with pytest.raises(BudgetExhausted):
                aggregator.close()
        assert len(own) == 1


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_aggregator_made_anew_debits_a_round_no_second_time(tmp_path: Path, kind: Kind) -> None:
    """Its spool says that the round is paid for, so a ledger with room for one round is enough for a crash in it."""
    with noisy_federation(given(kind)) as everyone, ledger_for(tmp_path / "led", everyone.plan.privacy_event()) as own:
        closed(everyone, admitted(everyone, spool=tmp_path / "spool", ledger=own))
        anew = sa.Aggregator(everyone.session, spool=tmp_path / "spool", ledger=own)
        assert len(opened(everyone, anew).clients) == 4
        assert len(own) == 1


@pytest.mark.parametrize("other", ["another ledger", "a ledger put back"])
def test_a_spools_word_that_a_round_is_paid_for_is_held_against_the_ledger(tmp_path: Path, other: str) -> None:
    with noisy_federation() as everyone:
        event, ledger, spool = everyone.plan.privacy_event(), tmp_path / "ledger", tmp_path / "spool"
        ledger_for(ledger, event).close()
        before = ledger.read_bytes()
        with ledger_for(ledger, event) as own:
            closed(everyone, admitted(everyone, spool=spool, ledger=own))
            assert len(own) == 1
        if other == "a ledger put back":
            ledger.write_bytes(before)
        for _ in range(2):
            with ledger_for(tmp_path / "other" if other == "another ledger" else ledger, event) as own:
                sa.Aggregator(everyone.session, spool=spool, ledger=own).close()
                assert len(own) == 1


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_spool_put_back_to_before_the_mean_was_released_costs_another_debit(tmp_path: Path, rounds: int) -> None:
    """The spool has forgotten the first draw; the ledger has not, and if it has no room nothing is drawn."""
    with noisy_federation(given(sa.CentralGaussian)) as everyone, recorded() as kept:
        event = everyone.plan.privacy_event()
        with ledger_for(tmp_path / "ledger", event, rounds=rounds) as own:
            aggregator = admitted(everyone, spool=tmp_path / "spool", ledger=own)
            request = closed(everyone, aggregator)
            shutil.copytree(tmp_path / "spool", tmp_path / "snapshot")
            answers = answers_of(everyone.members, everyone.session, request)
            aggregator.open(answers)
            assert len(own) == len(kept.drawn) == 1
            anew = sa.Aggregator(everyone.session, spool=tmp_path / "snapshot", ledger=own)
            if rounds == 1:
                with pytest.raises(BudgetExhausted, match="round 1, session"):
                    anew.close()
            else:
                anew.close()
                anew.open(answers)
            assert len(own) == len(kept.drawn) == rounds


@pytest.mark.parametrize("spooled", [False, True])
def test_the_aggregators_noise_is_drawn_once(tmp_path: Path, spooled: bool) -> None:
    spool = {"spool": tmp_path / "spool"} if spooled else {}
    with noisy_federation(given(sa.CentralGaussian)) as everyone, recorded() as kept:
        aggregator = admitted(everyone, **spool)
        request = closed(everyone, aggregator)
        answers = answers_of(everyone.members, everyone.session, request)
        first = aggregator.open(answers)
        for other in (answers, answers[:4]):
            assert same(aggregator.open(other).mean, first.mean)
        assert len(kept.drawn) == 1
        if spooled:
            anew = sa.Aggregator(everyone.session, **spool)
            anew.close()
            with pytest.raises(ParameterError, match="opened before, with noise drawn then"):
                anew.open(answers)
            assert len(kept.drawn) == 1


def test_two_aggregators_on_one_spool_release_one_draw(tmp_path: Path) -> None:
    """Both were made before either opened."""
    with noisy_federation(given(sa.CentralGaussian)) as everyone:
        admitted(everyone, spool=tmp_path)
        both = [sa.Aggregator(everyone.session, spool=tmp_path) for _ in range(2)]
        requests = [each.close() for each in both]
        answers = answers_of(everyone.members, everyone.session, requests[0])
        both[0].open(answers)
        with pytest.raises(ParameterError, match="opened before"):
            both[1].open(answers)


def test_a_failed_opening_leaves_the_round_to_be_opened(tmp_path: Path) -> None:
    with noisy_federation(given(sa.CentralGaussian)) as everyone:
        aggregator = admitted(everyone, spool=tmp_path)
        answers = answers_of(everyone.members, everyone.session, closed(everyone, aggregator))
        with pytest.raises(sa.QuorumError):
            aggregator.open(answers[:2])
        assert len(aggregator.open(answers).clients) == 4


def test_noise_inside_the_sum_can_be_opened_again(tmp_path: Path) -> None:
    """Nothing is drawn then, so it is the same release."""
    with noisy_federation() as everyone:
        aggregator = admitted(everyone, spool=tmp_path)
        answers = answers_of(everyone.members, everyone.session, closed(everyone, aggregator))
        first = aggregator.open(answers)
        anew = sa.Aggregator(everyone.session, spool=tmp_path)
        assert anew.noise_members == (0, 1, 2, 3, 4) and bytes(anew.close()) == bytes(closed_again(everyone, tmp_path))
        assert same(anew.open(answers).mean, first.mean)


def closed_again(everyone: Any, spool: Path) -> Any:
    return sa.Aggregator(everyone.session, spool=spool).close()


def test_a_spool_goes_on_where_the_last_noise_was_admitted(tmp_path: Path) -> None:
    with noisy_federation(proofs=True) as everyone, recorded() as kept:
        admitted(everyone, clients=[0, 1], members=[0, 1, 3], spool=tmp_path)
        anew = sa.Aggregator(everyone.session, spool=tmp_path)
        assert (tuple(anew.clients), anew.noise_members) == ((0, 1), (0, 1, 3))
        for contributor in (contribution(everyone, 2), everyone.members[4].add_noise(everyone.session)):
            anew.admit(contributor)
        result = opened(everyone, anew, [0, 1, 3, 4])
        first = float(everyone.plan.layout.flatten(result.mean)[0]) * everyone.plan.quantiser.scale * 3
        assert first == pytest.approx(int(kept.total[0]), abs=1e-3)


# What anyone can check.


def test_a_tally_lists_the_noise_and_needs_as_much_as_must_be_in_it(tmp_path: Path) -> None:
    with noisy_federation(proofs=True) as everyone:
        mine = contribution(everyone, 0)
        aggregator = admitted(everyone, clients=[1, 2], members=[0, 1, 2, 3], spool=tmp_path)
        aggregator.admit(mine)
        result = opened(everyone, aggregator, range(4))
        noise = [(tmp_path / f"{4 + m}.contribution").read_bytes() for m in range(4)]
        assert result.tally is not None
        verify_tally(everyone.session, result.tally, mine, noise)
        other = everyone.members[4].add_noise(everyone.session)
        with pytest.raises(sa.FaultyMemberError, match="is not in the tally") as caught:
            verify_tally(everyone.session, result.tally, contributions=[other])
        assert caught.value.member_id == 4
        # Three members' noise: no four members have answered for that.
        entry = 4 + 32 + 8 * 2
        start = 4 + 1 + 32
        fewer = result.tally[:start] + (6).to_bytes(4, "little")
        fewer += result.tally[start + 4 : start + 4 + 6 * entry] + result.tally[start + 4 + 7 * entry :]
        with pytest.raises(EncodingError, match="the noise of 3 members, of whom 4 must answer"):
            verify_tally(everyone.session, fewer)


# Crashes.


@pytest.mark.parametrize("who", ["aggregator", "client"])
def test_nothing_is_released_that_was_not_debited_wherever_it_is_killed(tmp_path: Path, who: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "tests.killed_noise", who, str(tmp_path)],
        capture_output=True, text=True, timeout=120, cwd=ROOT, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "SECUREAGG_THREADS": "1"},
    )  # fmt: skip
    lines = [line.split() for line in ended.stdout.splitlines()]
    assert lines[-1][0] == "done" and [line[0] for line in lines[:-1]] == [str(i) for i in range(len(lines) - 1)]
    assert len(lines) > 2
    for _, debits, released, again in lines:
        assert int(debits) >= int(released) + int(again)
        assert int(released) + int(again) <= 1  # a mean and another draw of the same sum never both
        assert int(debits) <= 2
    assert lines[-1][1:] == ["1", "1", "0"]
