"""Whom the server knows: what a node publishes is its own, or the node is left out and nobody else is."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from flwr.app import Message

from secureagg import Identity
from secureagg.adapters.flower import Committee
from secureagg.adapters.flower.enrolment import Enrolment
from secureagg.adapters.flower.node import Node
from secureagg.roster import Label, PublicIdentity
from secureagg.session import Prekey
from tests.adapters import common
from tests.adapters.flower.local import (
    LocalGrid,
    context_of,
    secured,
    tensors_of,
    train_message,
)
from tests.adapters.flower.test_failures import World, away, impatient
from tests.federation import same, seeded

__all__ = ["impatient"]


def test_prekeys_last_one_and_a_half_batches_without_their_member(tmp_path: Path) -> None:
    world = World(tmp_path)
    assert not any(world.round(number)[1] for number in (1, 2))  # the second renews the batch of four

    def dead(phase: str, message: Message) -> Message:
        node = message.metadata.dst_node_id if phase.startswith("to ") else message.metadata.src_node_id
        return away(message) if node == 101 else message

    world.grid.between = dead
    for number in range(3, 9):
        assert set(world.round(number)[1]) == {101}
    _, errors = world.round(9)
    assert "committee node 101 has no prekey for this round" in errors[102]


def test_a_cohort_of_whom_nobody_can_be_enrolled_has_no_round(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(3))
    world.secure = secured(world.grid, world.strategy, world.terms, committee_nodes=[101, 102, 103])
    world.between("setup", {104}, away)
    assert set(world.round()[1]) == {104}
    replies = world.secure.send_and_receive([train_message(104, server_round=2)], timeout=0)
    assert [reply.error.reason for reply in replies] == ["secureagg: it did not answer"]


def published(world: World, **fields: Any) -> Callable[[Message], Message]:
    """Return what has a node publish something else."""

    def act(message: Message) -> Message:
        message.content["secureagg"].update(fields)
        return message

    return act


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"identity": bytes(63)}, "64 bytes"),
        ({"identity": 64}, "has no identity"),
        ({"identity": [bytes(64), bytes(64)]}, "has no identity"),
        ({"identity": []}, "has no identity"),
        ({"settings": [b"", b""]}, "has no settings"),
        ({"signature": bytes(64)}, "signature of this enrolment is wrong"),
        ({"signature": b""}, "signature of this enrolment is wrong"),
        ({"confirmation": bytes(32)}, "X25519 key is not confirmed"),
        ({"confirmation": b""}, "X25519 key is not confirmed"),
        ({"confirmation": []}, "has no confirmation"),
        ({"settings": []}, "has no settings"),
        ({"prekeys": b""}, "has no prekeys"),
        ({"prekeys": [1]}, "has no prekeys"),
        ({"prekeys": [b"", b""]}, "prekey"),
    ],
)
def test_a_node_that_publishes_what_cannot_be_is_left_out(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    world = World(tmp_path, committee=Committee(3))
    world.between("setup", {102}, published(world, **fields))
    arrays, errors = world.round()
    assert list(errors) == [102] and reason in errors[102]
    assert same(tensors_of(arrays), common.expected_mean([0, 2, 3]))
    assert set(world.round(2)[1]) <= {102}


def test_a_node_cannot_publish_anothers_identity_or_prekeys(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(3))
    first: list[Message] = []

    def act(message: Message) -> Message:
        first.append(message)
        message.content["secureagg"] = first[0].content["secureagg"]
        return message

    world.between("setup", {101, 102}, act)
    _, errors = world.round()
    assert list(errors) == [102] and "signature of this enrolment is wrong" in errors[102]

    other = World(tmp_path / "other", committee=Committee(3))
    other.between("setup", {102}, published(other, prekeys=first[0].content["secureagg"]["prekeys"]))
    _, errors = other.round()
    assert list(errors) == [102] and "another member's prekey" in errors[102]


@pytest.mark.parametrize("half", [0, 1])
def test_a_node_cannot_publish_half_of_anothers_identity(tmp_path: Path, half: int) -> None:
    """A roster takes no key twice: one node must not be able to stop everybody's round."""
    world = World(tmp_path, committee=Committee(2))
    first: list[bytes] = []

    def act(message: Message) -> Message:
        node = message.metadata.src_node_id
        mine = Node(world.grid.contexts[node]).identity()
        first.append(mine.public)
        halves = [mine.public[:32], mine.public[32:]]
        halves[half] = first[0][32 * half : 32 * half + 32]
        identity = b"".join(halves)
        return published(world, identity=identity, signature=enrolled(mine, identity, node))(message)

    world.between("setup", {101, 104}, act)
    arrays, errors = world.round()
    reason = "X25519 key is not confirmed" if half else "signature of this enrolment is wrong"
    assert list(errors) == [104] and reason in errors[104] and arrays is not None


def enrolled(identity: Identity, public: bytes, node: int, run: int = 1) -> bytes:
    return identity.sign(Label.ENROLMENT, struct.pack("<QQ", run, node) + public)


@pytest.mark.parametrize(("run", "node"), [(1, 101), (2, 100)])
def test_who_publishes_a_members_identity_first_blocks_nobody(tmp_path: Path, run: int, node: int) -> None:
    """Node 100 answers before all others, with an identity it knows and a signature of another node or run."""
    world = World(tmp_path)
    world.grid.apps = {100: world.grid.apps[101], **world.grid.apps}
    world.grid.contexts[100] = context_of(9, tmp_path)
    world.secure = secured(world.grid, world.strategy, world.terms, committee_nodes=[101, 102, 103, 104])
    member = Node(world.grid.contexts[101]).enrol()
    stolen = {"identity": member.public, "signature": enrolled(member, member.public, node, run)}
    world.between("setup", {100}, published(world, **stolen))
    arrays, errors = world.round()
    assert list(errors) == [100] and "signature of this enrolment is wrong" in errors[100]
    assert same(tensors_of(arrays), common.expected_mean())


def test_a_node_with_a_key_that_nobody_can_use_is_left_out(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(2))
    identity = seeded("low")
    identity.public = identity.public[:32] + bytes(32)  # a low-order point
    prekeys = [member_prekey(identity, world.secure._enrolment.round_number + 1 + i) for i in range(4)]
    signature = enrolled(identity, identity.public, 102)
    world.between("setup", {102}, published(world, identity=identity.public, signature=signature, prekeys=prekeys))
    arrays, errors = world.round()
    assert list(errors) == [102] and "X25519 key of this identity is a low-order point" in errors[102]
    assert same(tensors_of(arrays), common.expected_mean([0, 2, 3]))


def member_prekey(identity: Identity, number: int) -> bytes:
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    signature = identity.sign(Label.PREKEY, Prekey.message(number, key))
    return Prekey(number, PublicIdentity(identity.public), key, signature).to_bytes()


def test_prekeys_for_rounds_far_ahead_are_not_kept(tmp_path: Path) -> None:
    enrolment = Enrolment(LocalGrid([], tmp_path), 3, None, 4)
    identity = seeded("eager")
    enrolment.identities[101] = identity.public
    now = enrolment.round_number
    enrolment.keep(101, [member_prekey(identity, number) for number in (now - 1, now, now + 8, now + 9, 2**62)])
    assert set(enrolment._prekeys[101]) == {now, now + 8}


def test_a_node_cannot_change_its_identity(tmp_path: Path) -> None:
    world = World(tmp_path, committee=Committee(3))
    assert not world.round()[1]
    world.secure._enrolment._prekeys[101].clear()  # so that it is asked again
    (tmp_path / "0" / "seeds" / "1-101").unlink()  # as if another node had taken its place
    arrays, errors = world.round(2)
    assert arrays is None and "another identity than before" in errors[102]
