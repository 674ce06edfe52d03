"""write_contribution: what is written where, in which order, and what happens when chance is against the prover."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg import contribution as contribution_module
from secureagg.contribution import write_contribution
from secureagg.errors import ParameterError
from secureagg.grid import GridUpdate
from secureagg.he import packing as packing_module
from secureagg.he.deal import Dealer
from secureagg.he.encrypt import Encryptor
from secureagg.he.sharing import Sharing
from secureagg.verification import Verdict, verify_many
from secureagg.zk.validity import Prover
from tests.federation import Federation, federation, same
from tests.proving import finished, parts_of, proven_federation


@pytest.fixture(params=[True, False], ids=["proofs", "no proofs"])
def everyone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Federation]:
    """Several frames, so that several threads encrypt."""
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", 16)
    layout, made = sa.Layout.of([np.zeros(300)]), proven_federation if request.param else federation
    with made(layout=layout, l2_clip=5.0, value_bound=None, parameters="INSECURE_N16_Q52", max_weight=3) as everybody:
        assert len(everybody.plan.packing.frames) > 3
        yield everybody


@pytest.fixture
def proven() -> Iterator[Federation]:
    with proven_federation() as made:
        yield made


def written(
    everyone: Federation, client_id: int = 1, weight: int = 2, **arguments: Any
) -> tuple[bytes, list[tuple[int, int]]]:
    """Return a contribution, and where what was written."""
    plan, rng = everyone.plan, np.random.default_rng(client_id)
    grid = GridUpdate(plan, plan.layout, everyone.update(client_id), 1.0, weight, rng)
    payload, places, lock = bytearray(everyone.plan.bytes_per_client), [], threading.Lock()

    def write(offset: int, data: bytes | bytearray) -> None:
        assert lock.acquire(blocking=False), "two threads write at once"
        payload[offset : offset + len(data)] = data
        places.append((offset, len(data)))
        lock.release()

    identity = sa.Identity(everyone.clients[client_id].to_seed())
    write_contribution(everyone.session, client_id, identity, grid, write, **arguments)
    return bytes(payload), places


def test_every_byte_is_written_once_and_the_header_last(everyone: Federation) -> None:
    """A file that was only half written has no header, and so no signature."""
    events: list[sa.Event] = []
    payload, places = written(everyone, observe=events.append)
    plan, frames = everyone.plan, len(everyone.plan.packing.frames)
    assert places[-1] == (0, plan.header_bytes)
    ordered = sorted(places)
    assert all(first + length == second for (first, length), (second, _) in pairwise(ordered))
    assert ordered[-1][0] + ordered[-1][1] == plan.bytes_per_client and len(places) == frames + 2
    assert verify_many(everyone.session, [payload]) == [Verdict(1, None)]
    stages = [event.stage for event in events]
    assert stages == ["encrypt"] * frames + ["prove"] * plan.proofs
    assert [event.done for event in events[:frames]] == list(range(1, frames + 1))


def test_parts_stand_where_the_plan_says(everyone: Federation) -> None:
    payload, plan = written(everyone)[0], everyone.plan
    parts = parts_of(everyone.session, payload)
    assert plan.bytes_per_client == len(payload)
    assert len(parts.proof) == plan.proof_bytes and payload.endswith(parts.proof)
    assert [hashlib.sha256(frame).digest() for frame in parts.frames] == list(parts.header.frames)
    assert [hashlib.sha256(box).digest() for box in parts.boxes] == list(parts.header.boxes)
    if plan.proofs:
        assert payload[plan.header_bytes - 64 : plan.header_bytes] == parts.header.commitment + parts.header.proof
        assert hashlib.sha256(parts.proof).digest() == parts.header.proof and len(set(parts.proof)) > 200
    else:
        assert (parts.header.commitment, parts.header.proof, parts.proof) == (b"", b"", b"")


@pytest.mark.parametrize("frame_residues", [64, 1 << 16])
def test_frames_behind_the_last_coordinate_carry_nothing(monkeypatch: pytest.MonkeyPatch, frame_residues: int) -> None:
    """Two chunks for 18 values, in one frame or in two: the second then has no coordinate, and not the weight again.

    On the real ring so does the last frame where several keys ask for more chunks than the values fill.
    """
    monkeypatch.setattr(packing_module, "FRAME_RESIDUES", frame_residues)
    with proven_federation() as everyone:
        aggregator = everyone.aggregator([0, 1])
        assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1]))


def test_two_contributions_of_one_update_share_nothing(everyone: Federation) -> None:
    """Fresh key, errors, shares, boxes, commitment and blinding each time: only the rounding is seeded here."""
    first, second = (parts_of(everyone.session, written(everyone)[0]) for _ in range(2))
    for field in ("ephemeral", "frames", "boxes", "check", *(("commitment", "proof") if everyone.plan.proofs else ())):
        assert getattr(first.header, field) != getattr(second.header, field)
    if everyone.plan.proofs:
        same_bytes = sum(a == b for a, b in zip(first.proof, second.proof, strict=True))
        zeros = sum(a == b == 0 for a, b in zip(first.proof, second.proof, strict=True))  # padding of the paths
        assert same_bytes - zeros < len(first.proof) / 100


def test_a_projection_that_does_not_fit_is_committed_to_again(
    proven: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in 2^41: then a fresh commitment, a new challenge, T for it, and a proof that is accepted."""
    prove, tried = Prover.prove, []

    def unlucky(self: Prover, instance: Any) -> bytes | None:
        tried.append((self._root, instance.check.tobytes(), instance.context))
        return prove(self, instance) if len(tried) == 3 else None

    monkeypatch.setattr(Prover, "prove", unlucky)
    payload, places = written(proven, weight=1)
    assert len(tried) == 3 and all(len(set(column)) == 3 for column in zip(*tried, strict=True))
    header = parts_of(proven.session, payload).header
    assert header.commitment == tried[-1][0] and places[-1][0] == 0 and len(places) == 3
    monkeypatch.undo()
    assert verify_many(proven.session, [payload]) == [Verdict(1, None)]


def test_errors_beyond_their_bound_are_drawn_again_with_a_new_key(
    proven: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once in 2^40: nothing of the first attempt is left in what is sent."""
    encrypt, seen = Encryptor.encrypt, []

    def unlucky(self: Encryptor, frame: Any, values: Any, errors: Any = None, residues: Any = None) -> bytearray:
        data = encrypt(self, frame, values, errors, residues)
        seen.append((self._masking, bytes(data)))
        if len(seen) == 1:
            errors[5] = int(proven.plan.statement.error_bound**0.5) + 1
        return data

    monkeypatch.setattr(Encryptor, "encrypt", unlucky)
    payload = written(proven, weight=1)[0]
    monkeypatch.undo()
    assert len(seen) == 2 and seen[0][0] is not seen[1][0]
    assert parts_of(proven.session, payload).frames == (seen[1][1],)
    assert verify_many(proven.session, [payload]) == [Verdict(1, None)]


def test_the_dealing_may_be_somebody_elses(proven: Federation) -> None:
    """`deal` is given the sharing and the key that was encrypted with, once."""
    dealt: list[Dealer] = []

    def deal(sharing: Sharing, key: np.ndarray) -> Dealer:
        assert sharing == proven.plan.sharing and key.shape == (64,) and 0 < abs(key).max() < 60
        dealt.append(Dealer(sharing, key))
        return dealt[-1]

    payload = written(proven, weight=1, deal=deal)[0]
    assert len(dealt) == 1
    header = parts_of(proven.session, payload).header
    assert header.check == dealt[0].check(header.dealing().challenge(proven.session.sid))


def test_an_honest_prover_refuses_what_could_not_be_proven(proven: Federation) -> None:
    """The library's own client, given a grid that is no GridUpdate: nothing is written but the ciphertext."""

    class Long:
        weight = 1
        values = np.full(18, proven.plan.value_limit, dtype=np.int64)

        def between(self, first: int, last: int) -> np.ndarray:
            return np.append(self.values, 1)[first:last]

    places: list[int] = []
    identity = sa.Identity(proven.clients[0].to_seed())
    with pytest.raises(ParameterError, match="the values or errors are beyond the statement's L2 bounds"):
        write_contribution(proven.session, 0, identity, Long(), lambda offset, data: places.append(offset))
    assert places == [proven.plan.header_bytes]


def test_secrets_are_not_shown(proven: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    prove = contribution_module._prove

    def watched(session: Any, header: Any, dealer: Any, secrets: Any, grid: Any, make_prover: Any) -> Any:
        shown.extend(map(repr, (dealer, secrets, grid)))
        return prove(session, header, dealer, secrets, grid, make_prover)

    monkeypatch.setattr(contribution_module, "_prove", watched)
    payload = written(proven, weight=1)[0]
    assert shown == ["Dealer(secret)", "_Secrets(key=OneTimeKey(secret))", "GridUpdate(secret)"]
    assert len(payload) == proven.plan.bytes_per_client
