"""What a node refuses, whatever the server says: less than its terms, another committee, its weights in the clear."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.serverapp.strategy import FedAvg

from secureagg import Identity, ParameterError, Roster, Session
from secureagg.adapters.flower import Committee, SecureGrid, secure_mod
from secureagg.adapters.flower.node import Node
from secureagg.identity import KeyChallenge
from tests.adapters import common
from tests.adapters.flower.local import LocalGrid, context_of, secured, terms_of, train_message, training_app
from tests.federation import seeded


def world(directory: Path, offered: Any, asked: Any) -> tuple[LocalGrid, SecureGrid]:
    grid = LocalGrid([training_app([secure_mod(asked)])] * common.CLIENTS, directory)
    return grid, secured(grid, FedAvg(), offered)


def errors_of(grid: LocalGrid, secure: SecureGrid, server_round: int = 1) -> set[str]:
    replies = secure.send_and_receive([train_message(node, server_round=server_round) for node in grid.apps], timeout=0)
    return {reply.error.reason for reply in replies if reply.has_error()}


@pytest.mark.parametrize(
    ("more", "refusal"),
    [
        ({"quorum": 3}, "quorum 2, this node asks for at least 3"),
        ({"quorum": 3, "assumed_corrupt_clients": 1}, "this node asks for at least"),
        ({"committee": Committee(4)}, "committee.size 3, this node asks for at least 4"),
        ({"committee": Committee(3, mode="robust")}, "asks for a robust one"),
        ({"proofs": True}, "proofs False, this node asks for at least True"),
        ({"max_weight": 1}, "max_weight 40, this node asks for 1"),
        ({"max_weight": 41}, "max_weight 40, this node asks for 41"),
        ({"l2_clip": common.L2_CLIP / 2}, "l2_clip 4.0, this node asks for at most 2.0"),
        ({"metrics": {"loss": 1.0}}, "tensors given"),
    ],
)
def test_a_plan_that_offers_less_is_refused(tmp_path: Path, more: dict[str, Any], refusal: str) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of(**more))
    (reason,) = {each for each in errors_of(grid, secure) if "asks for" in each or "tensors given" in each}
    assert refusal in reason
    assert not list(tmp_path.glob("*/*/claims/*")), "nothing was contributed"


def test_a_plan_that_offers_more_is_accepted(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(quorum=3, committee=Committee(4), l2_clip=3.5), terms_of())
    assert not errors_of(grid, secure)


@pytest.mark.parametrize(
    ("asked", "offered", "refusal"),
    [
        (Committee(4, threshold=4), Committee(4), "committee.threshold 3, this node asks for at least 4"),
        (Committee(5), Committee(5, assumed_corrupt=0), "committee.assumed_corrupt 0, this node asks for at least 1"),
    ],
)
def test_a_committee_is_compared_by_all_its_numbers(asked: Committee, offered: Committee, refusal: str) -> None:
    with pytest.raises(ParameterError, match=refusal):
        terms_of(committee=asked).accept(replace(common.plan_of(), committee=offered))
    terms_of(committee=asked).accept(replace(common.plan_of(), committee=asked))


def test_weights_in_the_clear_are_refused(tmp_path: Path) -> None:
    grid, _ = world(tmp_path, terms_of(), terms_of())
    for message_type in ("train", "train.more", "get_parameters"):
        message = train_message(101)
        message.metadata.message_type = message_type
        reply = secure_mod(terms_of())(message, grid.contexts[101], lambda *_: pytest.fail("the app was called"))
        assert reply.has_error() and "weights in the clear" in reply.error.reason


def test_weights_are_not_had_by_a_mark_on_the_older_request_for_them(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    message = first_contribute(grid, secure)
    message.metadata.message_type = "get_parameters"
    reply = secure_mod(terms_of())(message, grid.contexts[101], lambda *_: pytest.fail("the app was called"))
    assert reply.has_error() and "weights in the clear" in reply.error.reason


def first_contribute(grid: LocalGrid, secure: SecureGrid) -> Message:
    """Return the first train message of a round, as it reaches its node, with nobody contributing."""
    seen: list[Message] = []
    answer = grid.answer

    def keep(message: Message) -> Message:
        if grid.phase(message) == "contribute":
            seen.append(message)
            return secure_mod(terms_of(quorum=4))(message, grid.contexts[101], lambda *_: message)  # refused
        return answer(message)

    grid.answer = keep  # type: ignore[method-assign]
    errors_of(grid, secure)
    return seen[0]


def replayed(grid: LocalGrid, message: Message, change: Callable[[Session], bytes]) -> Message:
    """Return the node's reply to this message with another session in it."""
    session = Session.from_bytes(message.content["secureagg"]["session"])
    message.content["secureagg"]["session"] = change(session)
    return grid.apps[101](message, grid.contexts[101])


def session_with(session: Session, **changes: Any) -> bytes:
    arguments: dict[str, Any] = {
        "plan": session.plan,
        "roster": session.roster,
        "prekeys": [prekey.to_bytes() for prekey in session.prekeys],
        "round_number": session.round_number,
        "model": common.MODEL,
    } | changes
    return Session(arguments.pop("plan"), arguments.pop("roster"), **arguments).to_bytes()


def test_a_session_over_another_model_is_refused(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    message = first_contribute(grid, secure)
    other = [tensor + 1 for tensor in common.MODEL]
    reply = replayed(grid, message, lambda session: session_with(session, model=[np.asarray(t) for t in other]))
    assert "bound to another model" in reply.error.reason


def test_another_committee_later_in_the_run_is_refused(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    assert not errors_of(grid, secure)
    usurper = secured(grid, FedAvg(), terms_of(), committee_nodes=[104, 103, 102])
    assert errors_of(grid, usurper) == {"secureagg: the server names another committee than earlier in this run"}


def pinned(grid: LocalGrid, directory: Path, roster: Roster, identities: list[Identity]) -> None:
    """Give every node an identity file and the roster file."""
    (directory / "roster").write_bytes(roster.to_bytes())
    for client, (node, context) in enumerate(grid.contexts.items()):
        path = directory / f"identity-{node}"
        path.write_bytes(identities[client].to_seed())
        context.node_config |= {"secureagg-identity": str(path), "secureagg-roster": str(directory / "roster")}


@pytest.fixture
def identities() -> list[Identity]:
    return [seeded(f"node {i}") for i in range(common.CLIENTS)]


def publics(identities: list[Identity]) -> list[bytes]:
    return [identity.public for identity in identities]


def test_a_pinned_roster_is_followed(tmp_path: Path, identities: list[Identity]) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    everyone = publics(identities)
    pinned(grid, tmp_path, Roster(everyone, everyone[:3]), identities)
    assert not errors_of(grid, secure)
    replies = secure.send_and_receive([train_message(node) for node in (102, 104)], timeout=0)  # a part of them
    assert not any(reply.has_error() for reply in replies)


@pytest.mark.parametrize(
    ("clients", "committee", "reason"),
    [
        ([0, 1, 2, 3], [0, 1, 3], "committee is not that of this node's pinned roster"),
        ([0, 1, 2, 3], [1, 0, 2], "committee is not that of this node's pinned roster"),
        ([0, 1, 2], [0, 1, 2], "client 3 of the server's roster is not on this node's pinned one"),
    ],
)
def test_anyone_else_than_the_pinned_is_refused(
    tmp_path: Path, identities: list[Identity], clients: list[int], committee: list[int], reason: str
) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    everyone = publics(identities)
    pinned(grid, tmp_path, Roster([everyone[i] for i in clients], [everyone[i] for i in committee]), identities)
    assert any(reason in error for error in errors_of(grid, secure))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    grid.contexts[102].node_config["secureagg-roster"] = "/nowhere/roster"
    (reason,) = {each for each in errors_of(grid, secure) if "nowhere" in each}
    assert "secureagg-roster=/nowhere/roster cannot be read" in reason


@pytest.mark.parametrize("name", ["nowhere", "secret", "directory", "device", "large"])
def test_whoever_starts_a_run_learns_nothing_of_a_nodes_files(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run config can name any file on a node."""
    monkeypatch.setattr("secureagg.adapters.flower.node._LARGEST_FILE", 1000)
    (tmp_path / "secret").write_bytes(b"root:x:0:0")
    (tmp_path / "directory").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "large").write_bytes(bytes(1001))
    grid, secure = world(tmp_path, terms_of(), terms_of())
    for context in grid.contexts.values():
        context.run_config = {"secureagg-roster": str(tmp_path / name)}
    assert errors_of(grid, secure) == {"secureagg: the run config's secureagg-roster is no roster file of this node"}


@pytest.mark.parametrize("key", ["secureagg-roster", "secureagg-identity", "secureagg-directory"])
@pytest.mark.parametrize("value", [7, True, ""])
def test_a_setting_that_is_no_text_is_not_overlooked(tmp_path: Path, key: str, value: Any) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    grid.contexts[104].node_config[key] = value
    reasons = {reason for reason in errors_of(grid, secure) if key in reason}
    assert reasons == {f"secureagg: {key} has to be the path of a file, as text in quotes"}


def test_a_node_contributes_once_to_a_round_in_whatever_process(tmp_path: Path) -> None:
    context = context_of(0, tmp_path)
    Node(context).enrol()
    grid, secure = world(tmp_path, terms_of(), terms_of())
    session = Session.from_bytes(first_contribute(grid, secure).content["secureagg"]["session"])
    Node(context).claim(session)
    with pytest.raises(ParameterError, match="already contributed"):
        Node(context).claim(session)


def test_the_same_train_message_twice_is_answered_once(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    message = first_contribute(grid, secure)
    again = train_message(101)
    again.content["secureagg"] = message.content["secureagg"]
    first, second = (grid.apps[101](each, grid.contexts[101]) for each in (message, again))
    assert first.has_content() and "already contributed" in second.error.reason


def test_what_nodes_keep_is_for_their_owner_alone(tmp_path: Path) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    errors_of(grid, secure)
    for path in tmp_path.glob("*/*/*"):
        assert os.stat(path).st_mode & 0o077 == 0


def test_members_answer_only_plans_as_good_as_their_terms(tmp_path: Path) -> None:
    """Also a node that does not train in the round looks at the plan before it opens anything."""
    grid, _ = world(tmp_path, terms_of(), terms_of())
    grid.apps[103] = training_app([secure_mod(terms_of(quorum=3))])
    grid.apps[104] = training_app([secure_mod(terms_of())])
    dedicated = secured(grid, FedAvg(), terms_of(), committee_nodes=[103, 102, 101])
    replies = dedicated.send_and_receive([train_message(node) for node in (101, 102, 104)], timeout=0)
    assert all(reply.has_error() for reply in replies)
    assert "2 committee members answered, 3 are needed" in replies[0].error.reason


def test_members_answer_only_for_rosters_they_trust(tmp_path: Path, identities: list[Identity]) -> None:
    """Also a node that does not train in the round: node 104 is not on the roster that 103 has pinned."""
    grid, _ = world(tmp_path, terms_of(), terms_of())
    everyone = publics(identities)
    committee = [everyone[2], everyone[1], everyone[0]]
    pinned(grid, tmp_path, Roster(everyone[:3], committee), identities)
    for node in (101, 102, 104):
        del grid.contexts[node].node_config["secureagg-roster"]
    dedicated = secured(grid, FedAvg(), terms_of(), committee_nodes=[103, 102, 101])
    replies = dedicated.send_and_receive([train_message(node) for node in (101, 102, 104)], timeout=0)
    assert all("2 committee members answered, 3 are needed" in reply.error.reason for reply in replies)


@pytest.mark.parametrize("session", [[], [b"", b""], 7])
def test_a_session_that_is_no_bytes_is_refused(tmp_path: Path, session: Any) -> None:
    message = train_message(101)
    message.content["secureagg"] = ConfigRecord({"phase": "contribute", "session": session})
    reply = training_app([secure_mod(terms_of())])(message, context_of(0, tmp_path))
    assert reply.has_error() and "has no session" in reply.error.reason


@pytest.mark.parametrize("phase", ["reveal", "check", "noise", "contribute", "setup", "unheard-of"])
def test_marked_messages_without_their_fields_are_refused(tmp_path: Path, phase: str) -> None:
    message = train_message(101)
    message.content["secureagg"] = ConfigRecord({"phase": phase})
    reply = training_app([secure_mod(terms_of())])(message, context_of(0, tmp_path))
    assert reply.has_error() and reply.error.reason.startswith("secureagg: ")


def test_a_server_cannot_make_a_member_write_without_end(tmp_path: Path) -> None:
    message = train_message(101)
    message.content["secureagg"] = ConfigRecord(
        {"phase": "setup", "first": 1, "count": 10**9, "challenge": KeyChallenge().public}
    )
    reply = training_app([secure_mod(terms_of())])(message, context_of(0, tmp_path))
    assert "number of prekeys" in reply.error.reason


def test_a_run_has_one_identity_whatever_becomes_of_the_context(tmp_path: Path) -> None:
    """A SuperNode hands out copies of a Context, keeps the one that comes back last, and forgets all of them."""
    context = context_of(0, tmp_path)
    with pytest.raises(ParameterError, match="no identity"):
        Node(context).identity()
    made = Node(context).enrol()
    assert (
        Node(context_of(0, tmp_path)).enrol().public == made.public == Node(context_of(0, tmp_path)).identity().public
    )
    assert not context.state, "the app's own state, and nothing that may come back older than it was"


def test_nodes_of_one_directory_and_runs_of_one_node_have_identities_of_their_own(tmp_path: Path) -> None:
    """As in a simulation, whose virtual nodes have one home."""
    made = set()
    for node, run in ((1, 1), (2, 1), (1, 2), (11, 1), (1, 11)):
        context = Context(run_id=run, node_id=node, node_config={}, state=RecordDict(), run_config={})
        made.add(Node(context).enrol().public)
    assert len(made) == 5


@pytest.mark.parametrize("own_identity", [False, True])
def test_the_committee_trusted_first_outlives_a_restart(
    tmp_path: Path, identities: list[Identity], own_identity: bool
) -> None:
    (tmp_path / "identity").write_bytes(identities[0].to_seed())
    config = {"secureagg-identity": str(tmp_path / "identity")} if own_identity else {}
    first, second = (Roster(publics(identities), publics(identities)[i : i + 3]) for i in (0, 1))
    started = context_of(0, tmp_path, **config)
    Node(started).enrol()
    Node(started).trust(first)
    again = context_of(0, tmp_path, **config)
    Node(again).trust(first)
    with pytest.raises(ParameterError, match="another committee than earlier in this run"):
        Node(again).trust(second)
    again.run_id = 2
    Node(again).enrol()
    Node(again).trust(second)


def test_a_claim_is_on_the_disk_before_anything_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid, secure = world(tmp_path, terms_of(), terms_of())
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    grid.between = lambda phase, message: (
        pytest.fail(phase) if phase == "contribute" and not claimed(synced) else message
    )
    assert not errors_of(grid, secure)


def claimed(synced: list[str]) -> bool:
    """Return whether a file among claims was synced, and then the directory."""
    files = [index for index, path in enumerate(synced) if Path(path).parent.name == "claims"]
    return bool(files) and any(Path(path).name == "claims" for path in synced[files[0] :])
