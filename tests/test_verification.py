"""verify_many: a verdict on each contribution, whoever computes it and in whatever form it comes."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.errors import EncodingError, FaultyClientError, ParameterError
from secureagg.payload import Header
from secureagg.verification import Verdict, instance, verify_contribution, verify_many, view_of
from tests.federation import Federation, federation
from tests.proving import forged, parts_of, proven_federation


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with proven_federation() as made:
        yield made


def flipped(payload: bytes, place: int) -> bytes:
    changed = bytearray(payload)
    changed[place] ^= 1
    return bytes(changed)


@pytest.fixture(scope="module")
def mixed(everyone: Federation) -> tuple[list[bytes], list[Verdict]]:
    """Good and bad contributions in no order, and what must be found of each."""
    plan, session = everyone.plan, everyone.session
    good = [everyone.contribution(i) for i in range(4)]
    ciphertext, boxes = plan.header_bytes, plan.header_bytes + plan.packing.ciphertext_bytes
    stranger = good[0][:37] + (9).to_bytes(4, "little") + good[0][41:]
    other = everyone.contribution(1, session=everyone.session_of(2))
    signature = "the signature of this"
    elsewhere = "made for another session"
    cases: list[tuple[bytes, int | None, str | None]] = [
        (good[2], 2, None),
        (b"", None, f"contribution: 0 bytes, {plan.bytes_per_client} expected"),
        (flipped(good[1], boxes), 1, "box 0 is not the one that was signed"),
        (good[0], 0, None),
        (flipped(good[3], len(good[3]) - 1), 3, "the proof is not the one that was signed"),
        (flipped(good[3], ciphertext), 3, "frame 0 is not the one that was signed"),
        (forged(everyone, 3, weight=2).signed(session, everyone.clients[3]), 3, "proof: the linear relations"),
        (flipped(good[2], 50), 2, signature),
        (good[2], 2, None),  # the same again: a verdict is about the bytes alone
        (good[1][:-1], None, "bytes, "),
        (good[1] + b"\0", None, "bytes, "),
        (flipped(good[0], 0), None, "starts with"),
        (flipped(good[0], 4), None, "format version"),
        (other, None, elsewhere),
        (stranger, None, "client 9 is not on the roster"),
        (good[0][:37] + (1).to_bytes(4, "little") + good[0][41:], 1, signature),
        (bytes(plan.bytes_per_client), None, "starts with"),
        (good[3], 3, None),
    ]
    return [case[0] for case in cases], [Verdict(case[1], case[2]) for case in cases]


def agrees(found: Sequence[Verdict], expected: Sequence[Verdict]) -> bool:
    """Return whether clients are the same, and each reason holds the expected text."""
    return len(found) == len(expected) and all(
        a.client_id == b.client_id and (a.reason is None if b.reason is None else b.reason in (a.reason or ""))
        for a, b in zip(found, expected, strict=True)
    )


def test_every_contribution_gets_its_verdict_in_order(
    everyone: Federation, mixed: tuple[list[bytes], list[Verdict]]
) -> None:
    payloads, expected = mixed
    events: list[sa.Event] = []
    assert agrees(verify_many(everyone.session, payloads, observe=events.append), expected)
    assert [(e.stage, e.done, e.total) for e in events] == [
        ("verify", i + 1, len(payloads)) for i in range(len(payloads))
    ]
    backwards = verify_many(everyone.session, payloads[::-1])
    assert agrees(backwards, expected[::-1])
    assert verify_many(everyone.session, []) == []


@pytest.mark.parametrize("kind", [ThreadPoolExecutor, ProcessPoolExecutor])
def test_an_executor_finds_the_same(
    everyone: Federation, mixed: tuple[list[bytes], list[Verdict]], kind: Any, tmp_path: Path
) -> None:
    """Bytes and paths, mixed; the session crosses to other processes, with its toy plan."""
    payloads, expected = mixed
    given: list[Any] = []
    for number, payload in enumerate(payloads):
        path = tmp_path / str(number)
        path.write_bytes(payload)
        given.append((payload, path, str(path))[number % 3])
    events: list[sa.Event] = []
    alone = verify_many(everyone.session, given)
    with kind(2) as executor:
        found = verify_many(everyone.session, given, executor=executor, observe=events.append)
    assert found == alone and agrees(found, expected)
    assert [e.done for e in events] == list(range(1, len(payloads) + 1))


@pytest.mark.parametrize("executor", [False, True])
def test_what_cannot_be_read_is_the_callers_error(everyone: Federation, tmp_path: Path, executor: bool) -> None:
    """Not a verdict on a client: an auditor with a wrong path has audited nothing."""
    for path, message in ((tmp_path / "missing", "No such file"), (str(tmp_path), "Is a directory")):
        with ThreadPoolExecutor(1) as pool, pytest.raises(ParameterError, match=f"cannot be read: {message}"):
            verify_many(everyone.session, [path], executor=pool if executor else None)


def test_a_file_that_is_too_long_or_never_ends_is_not_read(everyone: Federation, tmp_path: Path) -> None:
    long, pipe = tmp_path / "long", tmp_path / "pipe"
    with long.open("wb") as file:
        file.truncate(1 << 40)  # sparse: no disk has it, and no memory would
    verdict = verify_many(everyone.session, [long])[0]
    assert verdict.client_id is None and "1099511627776 bytes, at most" in (verdict.reason or "")
    os.mkfifo(pipe)
    with pytest.raises(ParameterError, match="Not a regular file"):
        verify_many(everyone.session, [pipe])


def test_verdicts_and_errors_cross_processes() -> None:
    for each in (Verdict(3, "because"), Verdict(None, None)):
        assert pickle.loads(pickle.dumps(each)) == each


def test_without_proofs_everything_else_is_verified() -> None:
    with federation() as everyone:
        payload = everyone.contribution(0)
        assert verify_many(everyone.session, [payload]) == [Verdict(0, None)]
        assert everyone.plan.proof_bytes == 0 and bytes(view_of(everyone.session, payload).proof()) == b""
        assert verify_many(everyone.session, [flipped(payload, len(payload) - 1)])[0].client_id == 0


def test_a_contribution_with_proof_is_none_without(everyone: Federation) -> None:
    """Another plan is another session; and the lengths differ besides."""
    with federation(l2_clip=1.0, value_bound=None, committee=sa.Committee(3, mode="robust")) as plain:
        payload, proven = plain.contribution(0), everyone.contribution(0)
        for session, encoded in ((plain.session, proven), (everyone.session, payload)):
            assert verify_many(session, [encoded])[0].client_id is None
        padded = payload.ljust(everyone.plan.bytes_per_client, b"\0")
        assert "made for another session" in (verify_many(everyone.session, [padded])[0].reason or "")


def test_a_verified_header_is_the_one_that_was_sent(everyone: Federation) -> None:
    payload = everyone.contribution(1)
    parts = parts_of(everyone.session, payload)
    assert verify_contribution(everyone.session, view_of(everyone.session, memoryview(payload))) == parts.header
    assert parts.signed(everyone.session, everyone.clients[1]) == payload  # Ed25519 is deterministic
    assert parts.header.proof == hashlib.sha256(parts.proof).digest()
    assert len(parts.header.commitment) == 32 and parts.header.commitment not in parts.proof
    with pytest.raises(FaultyClientError) as caught:
        verify_contribution(everyone.session, view_of(everyone.session, flipped(payload, 200)))
    assert caught.value.client_id == 1
    with pytest.raises(EncodingError, match=r"bytes, \d+ expected"):
        view_of(everyone.session, payload[1:])


def test_the_instance_is_what_the_client_signed_but_the_proof(everyone: Federation) -> None:
    """Its context covers the commitment and all digests; not T, which it has of its own, nor signature and proof."""
    session, header = everyone.session, parts_of(everyone.session, everyone.contribution(1)).header
    ciphertext = np.zeros(everyone.plan.packing.coefficients, dtype=np.uint64)

    def context(**changes: Any) -> bytes:
        return instance(session, replace(header, **changes).dealing(), ciphertext).context

    assert (
        context() == context(proof=bytes(32)) == context(signature=bytes(64)) == context(check=bytes(len(header.check)))
    )
    changed = [
        context(client_id=2),
        context(commitment=bytes(32)),
        context(ephemeral=bytes(32)),
        context(frames=(bytes(32),)),
        context(boxes=(header.boxes[1], header.boxes[0], header.boxes[2])),
        instance(everyone.session_of(3), header.dealing(), ciphertext).context,
    ]
    assert len({context(), *changed}) == 7
    found = instance(session, header.dealing(), ciphertext)
    repetitions = everyone.plan.sharing.repetitions
    assert found.check.shape == (3, repetitions) and found.combination.shape == (repetitions, 64)
    noncanonical = replace(header, check=b"\xff" * len(header.check))
    with pytest.raises(EncodingError, match="a field element is not in canonical form"):
        instance(session, noncanonical.dealing(), ciphertext)


def test_a_request_carries_what_members_need_of_a_proven_contribution(everyone: Federation) -> None:
    """The commitment and the proof's digest, which the client signed; not the proof."""
    aggregator = everyone.aggregator([0, 1])
    request = aggregator.share_check().for_member(0)
    header = parts_of(everyone.session, everyone.contribution(0)).header
    assert len(request) == 43 + 2 * (4 + 64 + 32 + 32 * (1 + 3 + 2) + len(header.check) + everyone.plan.box_bytes)
    stored = Header.from_bytes(aggregator._spool.view(0).header(), everyone.session)
    assert stored.commitment + stored.proof in request
    assert everyone.members[0].check(everyone.session, io.BytesIO(request))
