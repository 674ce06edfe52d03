"""The aggregator: what it admits, that a refusal changes nothing, and whom it names when answers disagree."""

from __future__ import annotations

import io
import itertools
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import secureagg as sa
from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    ParameterError,
    QuorumError,
)
from tests.cheating import Parts
from tests.federation import Federation, answers_of, federation, frames_of, same


@pytest.fixture
def everyone() -> Iterator[Federation]:
    with federation() as made:
        yield made


@pytest.fixture
def robust() -> Iterator[Federation]:
    with federation(committee=sa.Committee(3, mode="robust")) as made:
        yield made


def state_of(aggregator: sa.Aggregator) -> tuple[Any, ...]:
    """Return all an admission may change: the sum, who is in it, and what the spool holds."""
    spool = getattr(aggregator._spool, "_path", None)
    files = (
        sorted((path.name, path.read_bytes()) for path in spool.iterdir())
        if spool
        else list(aggregator._spool.clients())
    )
    return tuple(frames_of(aggregator)), aggregator.clients, tuple(files)


def opened(everyone: Federation, aggregator: sa.Aggregator, members: list[int] | None = None) -> sa.Result:
    """Run the committee's part with these members, all unless given."""
    present = [everyone.members[m] for m in (range(len(everyone.members)) if members is None else members)]
    reports = None
    if everyone.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(everyone.session, check) for member in present]
    request = aggregator.close(reports)
    return aggregator.open(answers_of(present, everyone.session, request))


def flipped(payload: bytes, position: int) -> bytes:
    return payload[:position] + bytes([payload[position] ^ 1]) + payload[position + 1 :]


def refusals(everyone: Federation) -> dict[str, tuple[bytes, type[Exception], str]]:
    """Return what is refused: bytes that claim to be of client 2, the error and its text."""
    session, plan = everyone.session, everyone.plan
    payload = everyone.contribution(2)
    parts, start = Parts.of(session, payload), plan.header_bytes
    prime = (2**52 - 1).to_bytes(7, "little")
    mallory = everyone.clients[3]

    def signed(altered: Parts, **arguments: Any) -> bytes:
        return altered.signed(session, everyone.clients[2], **arguments)

    other_frames = replace(parts, frames=tuple(bytes(len(f)) for f in parts.frames))
    return {
        "empty": (b"", EncodingError, "0 bytes, "),
        "cut off": (payload[:-1], EncodingError, "bytes, .* expected"),
        "too long": (payload + b"\0", EncodingError, "bytes, .* expected"),
        "another kind": (b"SArq" + payload[4:], EncodingError, "starts with b'SArq'"),
        "another version": (payload[:4] + b"\2" + payload[5:], EncodingError, "version 2"),
        "another session": (everyone.contribution(2, session=everyone.session_of(2)), EncodingError, "another session"),
        "nobody's": (payload[:37] + b"\4\0\0\0" + payload[41:], EncodingError, "client 4 is not on the roster of 4"),
        "another client's": (payload[:37] + b"\1\0\0\0" + payload[41:], FaultyClientError, "client 1: the signature"),
        "signature": (flipped(payload, 41), FaultyClientError, "client 2: the signature of this contribution is wrong"),
        "ephemeral": (flipped(payload, 105), FaultyClientError, "client 2: the signature"),
        "frame digest": (flipped(payload, 137), FaultyClientError, "client 2: the signature"),
        "box digest": (flipped(payload, 137 + 32), FaultyClientError, "client 2: the signature"),
        "check": (flipped(payload, start - 1), FaultyClientError, "client 2: the signature"),
        "frame": (flipped(payload, start), FaultyClientError, "client 2: frame 0 is not the one that was signed"),
        "first box": (
            flipped(payload, start + plan.packing.ciphertext_bytes),
            FaultyClientError,
            "client 2: box 0 is not",
        ),
        "last box": (flipped(payload, len(payload) - 1), FaultyClientError, "client 2: box 2 is not the one that was"),
        "signed by another": (parts.signed(session, mallory), FaultyClientError, "client 2: the signature"),
        "signed digest": (signed(other_frames, digests=False), FaultyClientError, "client 2: frame 0 is not"),
        "signed residue": (
            signed(replace(parts, frames=(prime + parts.frames[0][7:],))),
            FaultyClientError,
            "client 2: .* residues or more are not below their prime",
        ),
    }


NAMES = (
    *("empty", "cut off", "too long", "another kind", "another version", "another session", "nobody's"),
    *("another client's", "signature", "ephemeral", "frame digest", "box digest", "check", "frame", "first box"),
    *("last box", "signed by another", "signed digest", "signed residue"),
)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("spooled", [True, False])
def test_a_refused_contribution_changes_nothing(everyone: Federation, name: str, spooled: bool, tmp_path: Path) -> None:
    aggregator = everyone.aggregator([0, 1], spool=tmp_path / "spool" if spooled else None)
    cases = refusals(everyone)
    assert set(cases) == set(NAMES)
    payload, error, message = cases[name]
    before = state_of(aggregator)
    for form in (payload, io.BytesIO(payload), memoryview(payload)):
        with pytest.raises(error, match=message) as caught:
            aggregator.admit(form)
        assert getattr(caught.value, "client_id", None) == {"another client's": 1}.get(
            name, 2 if error is FaultyClientError else None
        )
        assert state_of(aggregator) == before
    aggregator.admit(everyone.contribution(2))
    assert same(opened(everyone, aggregator).mean, everyone.expected([0, 1, 2]))


def test_a_client_is_admitted_once(everyone: Federation) -> None:
    aggregator = everyone.aggregator([0, 1])
    before = state_of(aggregator)
    for payload in (everyone.contribution(1), everyone.contribution(1, weight=1)):
        with pytest.raises(FaultyClientError, match="client 1: a contribution of this client is already admitted"):
            aggregator.admit(payload)
    assert state_of(aggregator) == before


def test_any_order_of_arrival_gives_the_same_bytes(everyone: Federation) -> None:
    payloads = [everyone.contribution(i) for i in range(4)]
    sums = set()
    for order in itertools.permutations(range(4)):
        aggregator = sa.Aggregator(everyone.session)
        assert [aggregator.admit(payloads[i]) for i in order] == list(order)
        sums.add(state_of(aggregator))
    assert len(sums) == 1


def test_a_file_that_changes_while_it_is_admitted(everyone: Federation, tmp_path: Path) -> None:
    """What is verified is what is added: a sender that rewrites its file meanwhile gains nothing."""

    class Changing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            block = super().read(size)
            with self.getbuffer() as content:
                content[:] = bytes(len(content))
            return block

    for spool in (None, tmp_path / "spool"):
        aggregator = everyone.aggregator([0], spool=spool)
        aggregator.admit(Changing(everyone.contribution(1)))
        expected = everyone.aggregator([0, 1])
        assert aggregator.clients == expected.clients == (0, 1)
        with federation() as another:
            aggregators = another.aggregator([0])
            payload = another.contribution(1)
            aggregators.admit(Changing(payload))
            assert same(opened(another, aggregators).mean, another.expected([0, 1]))


def test_threads_may_admit_at_once(everyone: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clients and four copies of one of them, from eight threads: each is counted once."""
    aggregator, barrier, refused = sa.Aggregator(everyone.session), threading.Barrier(8), []
    payloads = [everyone.contribution(i) for i in range(4)]

    def admit(payload: bytes) -> None:
        barrier.wait()
        try:
            aggregator.admit(payload)
        except FaultyClientError as error:
            refused.append(error.client_id)

    threads = [threading.Thread(target=admit, args=(payload,)) for payload in [*payloads, *[payloads[2]] * 4]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused == [2] * 4
    assert same(opened(everyone, aggregator).mean, everyone.expected([0, 1, 2, 3]))


def test_a_restored_spool_goes_on(everyone: Federation, tmp_path: Path) -> None:
    for client_id in range(3):
        sa.Aggregator(everyone.session, spool=tmp_path).admit(everyone.contribution(client_id))
    assert same(opened(everyone, sa.Aggregator(everyone.session, spool=tmp_path)).mean, everyone.expected([0, 1, 2]))


def test_a_damaged_spool_blames_no_client(everyone: Federation, tmp_path: Path) -> None:
    everyone.aggregator([0, 1], spool=tmp_path)
    file = tmp_path / "1.contribution"
    content = file.read_bytes()
    for altered, message in (
        (flipped(content, 500), "file of client 1 is damaged .*; remove it"),
        (content[:100], "file of client 1 is damaged"),
        ((tmp_path / "0.contribution").read_bytes(), "file of client 1 is of client 0; remove it"),
    ):
        file.write_bytes(altered)
        with pytest.raises(ParameterError, match=message):
            sa.Aggregator(everyone.session, spool=tmp_path)
    file.unlink()
    assert sa.Aggregator(everyone.session, spool=tmp_path).clients == (0,)


def test_steps_have_their_order(everyone: Federation, robust: Federation) -> None:
    aggregator = everyone.aggregator([0, 1])
    with pytest.raises(ParameterError, match=r"close\(\) fixes the set of clients first"):
        aggregator.open([])
    with pytest.raises(ParameterError, match=r"committee is optimistic: close\(\) takes no reports"):
        aggregator.close([])
    aggregator.close()
    with pytest.raises(ParameterError, match="the round is closed already"):
        aggregator.close()
    with pytest.raises(ParameterError, match="nothing more is admitted"):
        aggregator.admit(everyone.contribution(2))
    checked = robust.aggregator([0, 1])
    with pytest.raises(ParameterError, match=r"committee is robust: give close\(\) the members' share checks"):
        checked.close()
    checked.share_check()
    with pytest.raises(ParameterError, match="nothing more is admitted"):
        checked.admit(robust.contribution(2))


@pytest.mark.parametrize("step", ["share_check", "close"])
def test_a_fixed_set_stays_fixed_across_a_crash(robust: Federation, step: str, tmp_path: Path) -> None:
    """Else an aggregator made anew could admit another client, and honest members would seem to answer for fewer."""
    aggregator = robust.aggregator([0, 1], spool=tmp_path)
    reports = [member.check(robust.session, aggregator.share_check()) for member in robust.members]
    if step == "close":
        aggregator.close(reports)
    restored = sa.Aggregator(robust.session, spool=tmp_path)
    with pytest.raises(ParameterError, match="nothing more is admitted"):
        restored.admit(robust.contribution(2))
    assert restored.close(reports).clients == (0, 1)


def test_reports_may_be_made_while_they_are_asked_for(robust: Federation) -> None:
    aggregator = robust.aggregator([0, 1])
    request = aggregator.close(m.check(robust.session, aggregator.share_check()) for m in robust.members)
    assert request.clients == (0, 1)


def test_a_share_check_below_the_quorum_fixes_nothing(robust: Federation) -> None:
    aggregator = robust.aggregator([1])
    with pytest.raises(QuorumError, match=r"1 clients remain \(admitted 1, refused \[\]\), the quorum is 2"):
        aggregator.share_check()
    assert aggregator.admit(robust.contribution(2)) == 2


def test_below_the_quorum_nothing_is_asked(everyone: Federation) -> None:
    aggregator = everyone.aggregator([3])
    with pytest.raises(QuorumError, match=r"1 clients remain \(admitted 1, refused \[\]\), the quorum is 2"):
        aggregator.close()
    aggregator.admit(everyone.contribution(0))
    assert same(opened(everyone, aggregator).mean, everyone.expected([0, 3]))


def test_a_path_is_told_from_a_payload(everyone: Federation, tmp_path: Path) -> None:
    aggregator = sa.Aggregator(everyone.session)
    with pytest.raises(ParameterError, match="admit_many takes paths"):
        aggregator.admit(tmp_path / "0.contribution")  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="paths is one path; give a list"):
        aggregator.admit_many(str(tmp_path / "0.contribution"))
