"""Whole rounds with proofs: the right sum bit for bit, whoever is missing, and after a crash."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import secureagg as sa
from secureagg import bounds as bounds_module
from secureagg import verification
from secureagg.errors import ParameterError, QuorumError
from secureagg.he import packing as packing_module
from secureagg.zk import validity
from tests.federation import Federation, answers_of, federation, mean_of, quantised, same
from tests.proving import FIVE, asked, finished, forged, proven_federation

FLAT = sa.Layout.of([np.zeros(300, np.float32), np.zeros((), np.float64)])


@pytest.fixture
def everyone() -> Iterator[Federation]:
    with proven_federation(committee=FIVE) as made:
        yield made


def integer_mean(everyone: Federation, weights: dict[int, int]) -> list[Any]:
    grids = [quantised(everyone.plan, everyone.update(i), w, np.random.default_rng(i)) for i, w in weights.items()]
    sums = [sum(column) for column in zip(*grids, strict=True)]
    return mean_of(everyone.plan, sums, sum(weights.values()))


@given(
    st.sampled_from(["INSECURE_N16_Q52", "INSECURE_N64_Q52"]),
    st.integers(2, 18),
    st.sampled_from([1, 2, 7, 1000]),
    st.lists(st.integers(0, 3), min_size=2, max_size=4, unique=True),
    st.sampled_from([None, 0.15]),  # the smaller clamps some coordinates of ±0.2
    st.data(),
)
@settings(max_examples=15)
def test_the_result_is_the_integer_mean_of_the_quantised_updates(
    name: str, value_bits: int, max_weight: int, clients: list[int], bound: float | None, data: st.DataObject
) -> None:
    weights = {i: data.draw(st.integers(1, max_weight)) for i in clients}
    # Seeds are fixed, and so is that no first rounding is longer than the bound (one in 2^10 is, and drawn again).
    changes = {"value_bits": value_bits, "max_weight": max_weight, "parameters": name, "value_bound": bound}
    with proven_federation(**changes) as everyone:
        aggregator = sa.Aggregator(everyone.session)
        for client_id, weight in weights.items():
            aggregator.admit(everyone.contribution(client_id, weight=weight))
        result = finished(everyone, aggregator)
        assert same(result.mean, integer_mean(everyone, weights))
    assert result.total_weight == sum(weights.values()) and result.clients == tuple(sorted(clients))
    assert (result.refused, result.faults, result.disagreeing) == ({}, {}, ())


def test_proofs_change_nothing_about_the_mean() -> None:
    """Same updates, weights and rounding seeds, with proofs and without: the same mean, bit for bit."""
    means = []
    for proofs in (True, False):
        changes = {"layout": FLAT, "l2_clip": 5.0, "value_bound": None, "max_weight": 4}
        with federation(proofs=proofs, committee=sa.Committee(3, mode="robust"), **changes) as everyone:
            aggregator = sa.Aggregator(everyone.session)
            for client_id, weight in ((0, 4), (1, 1), (3, 2)):
                aggregator.admit(everyone.contribution(client_id, weight=weight))
            means.append(finished(everyone, aggregator).mean)
    assert same(*means) and np.abs(means[0][0]).max() > 0


@pytest.mark.parametrize("sending", [(0, 2), (1, 2, 3), (0, 1, 2, 3)])
@pytest.mark.parametrize("away", [None, 0, 4])
def test_clients_and_a_member_may_be_missing(everyone: Federation, sending: tuple[int, ...], away: int | None) -> None:
    """A client that never sends is out; a member that never comes is not needed."""
    result = finished(everyone, everyone.aggregator(sending), [m for m in range(5) if m != away])
    assert (result.clients, result.total_weight, result.faults) == (sending, len(sending), {})
    assert same(result.mean, everyone.expected(sending))


def test_clients_that_vanish_after_sending_are_in_the_sum(everyone: Federation) -> None:
    aggregator = everyone.aggregator([2, 0])
    everyone.clients.clear()
    assert same(finished(everyone, aggregator).mean, everyone.expected([0, 2]))


@pytest.mark.parametrize(("checking", "answering"), [((0, 1, 2, 3), (1, 2, 3, 4)), (range(5), (0, 1, 2, 4))])
def test_a_member_may_vanish_between_check_and_answer(
    everyone: Federation, checking: tuple[int, ...], answering: tuple[int, ...]
) -> None:
    aggregator = everyone.aggregator([0, 1, 3])
    request = asked(everyone, aggregator, checking)
    answers = answers_of([everyone.members[m] for m in answering], everyone.session, request)
    assert same(aggregator.open(answers).mean, everyone.expected([0, 1, 3]))


def test_too_few_parties_open_nothing(everyone: Federation) -> None:
    with pytest.raises(QuorumError, match="1 clients remain"):
        everyone.aggregator([0]).share_check()
    aggregator = everyone.aggregator([0, 1])
    with pytest.raises(QuorumError, match="3 of 4 needed share checks"):
        asked(everyone, aggregator, range(3))
    request = asked(everyone, aggregator)
    answers = answers_of(everyone.members[:3], everyone.session, request)
    with pytest.raises(QuorumError, match="3 of 4 needed answers"):
        aggregator.open(answers)


def test_an_optimistic_committee_becomes_robust() -> None:
    with proven_federation(committee=sa.Committee(3, mode="optimistic")) as everyone:
        assert everyone.plan.committee.mode == "robust"
        aggregator = everyone.aggregator([0, 1])
        with pytest.raises(ParameterError, match="the plan's committee is robust: give close"):
            aggregator.close()
        assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1]))


def test_with_the_range_argument() -> None:
    """A value bound far below the clip: the plan has |v_j| ≤ C proven too, and the sum is the same sum."""
    changes = {"layout": sa.Layout.of([np.zeros(20_000)]), "l2_clip": 20.0, "value_bound": 0.1, "committee": FIVE}
    with proven_federation(**changes) as everyone:
        assert everyone.plan.range_argument and everyone.plan.proven.value_range == everyone.plan.value_limit
        events: list[sa.Event] = []
        aggregator = sa.Aggregator(everyone.session)
        for client_id in (0, 3):
            aggregator.admit(everyone.contribution(client_id, observe=events.append))
        result = finished(everyone, aggregator)
        assert same(result.mean, everyone.expected([0, 3]))
    clamped = [event.clamped for event in events if event.stage == "clip"]
    assert len(clamped) == 2 and all(9_000 < each < 11_000 for each in clamped)  # half of ±0.2 is beyond 0.1


@pytest.mark.parametrize("frame_residues", [64, 1 << 16])
def test_several_keys(monkeypatch: pytest.MonkeyPatch, frame_residues: int) -> None:
    """Two one-time keys, as for some 10^8 values: relations, shares and the residual rule are about both."""
    monkeypatch.setattr(bounds_module, "SMOOTHING_BITS", 146)
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", frame_residues)
    with proven_federation(layout=sa.Layout.of([np.zeros(1000)]), l2_clip=5.0, committee=FIVE) as everyone:
        assert everyone.plan.packing.keys > 1 and everyone.plan.sharing.secrets == 64 * everyone.plan.packing.keys
        assert same(finished(everyone, everyone.aggregator([0, 1, 2])).mean, everyone.expected([0, 1, 2]))
        other = everyone.session = everyone.session_of(2)
        second_key = everyone.plan.packing.chunks_per_key * 64 + 3
        payload = forged(everyone, 1, errors={second_key: 10**4}).signed(other, everyone.clients[1])
        with pytest.raises(sa.FaultyClientError, match="client 1: proof: the product test"):
            sa.Aggregator(other).admit(payload)


def test_from_files_and_back(everyone: Federation, tmp_path: Path) -> None:
    """A contribution written to a file and read from it, amid other bytes; an aggregator that keeps files."""
    aggregator = sa.Aggregator(everyone.session, spool=tmp_path / "spool")
    for client_id in (1, 2):
        file = io.BytesIO(b"before")
        file.seek(6)
        assert everyone.contribution(client_id, out=file) is None
        assert file.tell() == 6 + everyone.plan.bytes_per_client
        file.seek(6)
        assert aggregator.admit(file) == client_id
    result = finished(everyone, aggregator)
    assert same(result.mean, everyone.expected([1, 2])) and result.tally is not None
    stored = [(tmp_path / "spool" / f"{i}.contribution").read_bytes() for i in (1, 2)]
    sa.verify_tally(everyone.session, result.tally, mine=stored[0], contributions=stored)
    record = (tmp_path / "spool" / "session").read_bytes()
    audited = sa.Session.from_bytes(record, allow_insecure=True)
    assert audited.sid == everyone.session.sid
    assert verification.verify_many(audited, stored) == [verification.Verdict(i, None) for i in (1, 2)]


def test_a_restored_aggregator_verifies_proofs_again(
    everyone: Federation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What stands in the directory after a crash was verified by somebody, or written by somebody."""
    first = sa.Aggregator(everyone.session, spool=tmp_path)
    for client_id in (0, 1):
        first.admit(everyone.contribution(client_id))
    seen: list[bytes] = []
    verify = validity.verify

    def watched(statement: Any, instance: Any, root: bytes, proof: Any) -> None:
        seen.append(root)
        verify(statement, instance, root, proof)

    monkeypatch.setattr(validity, "verify", watched)
    restored = sa.Aggregator(everyone.session, spool=tmp_path)
    assert restored.clients == (0, 1) and len(set(seen)) == 2
    restored.admit(everyone.contribution(3))
    assert same(finished(everyone, restored).mean, everyone.expected([0, 1, 3]))


@pytest.mark.parametrize("lie", ["weight", "byte"])
def test_a_false_proof_in_the_spool_is_found(everyone: Federation, tmp_path: Path, lie: str) -> None:
    """Client 1's file is replaced by one that it signed itself, but whose proof is false, or is damaged."""
    first = sa.Aggregator(everyone.session, spool=tmp_path)
    for client_id in (0, 1):
        first.admit(everyone.contribution(client_id))
    stored = tmp_path / "1.contribution"
    if lie == "weight":
        stored.write_bytes(forged(everyone, 1, weight=2).signed(everyone.session, everyone.clients[1]))
    else:
        stored.write_bytes(stored.read_bytes()[:-1] + b"\1")
    reason = "proof: the linear relations" if lie == "weight" else "the proof is not the one that was signed"
    with pytest.raises(ParameterError, match=rf"file of client 1 is damaged \(client 1: {reason}"):
        sa.Aggregator(everyone.session, spool=tmp_path)
    stored.unlink()
    restored = sa.Aggregator(everyone.session, spool=tmp_path)
    restored.admit(everyone.contribution(1))
    assert same(finished(everyone, restored).mean, everyone.expected([0, 1]))


def test_a_mean_beyond_its_dtype_is_no_fault_of_the_callers(tmp_path: Path) -> None:
    """Within the proven bound a client of weight 1 can have its coordinate count `max_weight` times."""
    layout = sa.Layout.of([np.zeros(4, np.float16)])
    with proven_federation(layout=layout, l2_clip=100.0, value_bound=None, max_weight=10_000) as everyone:
        aggregator = sa.Aggregator(everyone.session)
        zeros = [np.zeros(4, np.float16)]
        for client in (0, 1):
            aggregator.admit(everyone.contribution(client, update=zeros, weight=5))
        steering = forged(everyone, 2, grid=[everyone.plan.value_limit, 0, 0, 0], weight=1)
        aggregator.admit(steering.signed(everyone.session, everyone.clients[2]))
        with pytest.raises(sa.UnattributedFault, match=r"beyond what honest clients' can be: tensor 0: .* float16"):
            finished(everyone, aggregator)
