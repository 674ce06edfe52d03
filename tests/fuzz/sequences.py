"""Valid messages at the wrong place: replayed, duplicated, reordered, taken over by another sender."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import permutations

import numpy as np

import secureagg as sa
from secureagg.exchange import Request
from secureagg.roster import Label
from tests.cheating import Parts
from tests.federation import same, toy_plan
from tests.fuzz.client_side import Row
from tests.fuzz.member_side import signed_by_liar
from tests.fuzz.outcome import judge
from tests.fuzz.world import MALLORY, World

__all__ = ["misplaced"]


def misplaced(world: World) -> Iterator[Row]:
    """Yield what becomes of each message in other sessions, from other senders, twice, and in other orders."""
    yield from _contributions_elsewhere(world)
    yield from _members_elsewhere(world)
    yield from _twice(world)
    yield from _reordered(world)


def _other_sessions(world: World) -> dict[str, sa.Session]:
    """Return sessions that differ from the world's in one part."""
    everyone = world.everyone
    world.members()
    plan = toy_plan(
        layout=everyone.plan.layout,
        committee=everyone.plan.committee,
        parameters="INSECURE_N16_Q52",
        value_bits=10,
        max_weight=3,
        quorum=3,
    )
    model = [tensor.copy() for tensor in everyone.model]
    model[1] = np.asarray(model[1] + 1)
    reordered = sa.Roster([c.public for c in everyone.clients[::-1]], [m.public for m in everyone.members])
    return {
        "round": everyone.session_of(2),
        "plan": everyone.session_of(1, plan=plan),
        "roster": everyone.session_of(1, roster=reordered),
        "model": everyone.session_of(1, model=model),
    }


def _contributions_elsewhere(world: World) -> Iterator[Row]:
    """Contributions to other sessions; other clients' under Mallory's name."""
    everyone, session = world.everyone, world.session

    def admit(encoded: bytes) -> str:
        aggregator = world.aggregator((0, 1))
        try:
            aggregator.admit(encoded)
        finally:
            assert aggregator.clients == (0, 1, MALLORY) or world.unchanged(aggregator)
        members = world.members()
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in members])
        assert request.clients == (0, 1), "what was made elsewhere entered the sum"
        result = aggregator.open([member.respond(session, request) for member in members])
        assert same(result.mean, world.right_sum(None) or []) and set(result.refused) == {MALLORY}
        return "share check: right sum without it"

    for other in _other_sessions(world).values():
        client_id = other.client_id(everyone.clients[MALLORY].public)
        payload = _contribute(world, other, MALLORY)
        dressed = payload[:5] + session.sid + MALLORY.to_bytes(4, "little") + payload[41:]
        signed = Parts.of(session, dressed).signed(session, everyone.clients[MALLORY])
        yield "replayed elsewhere", False, judge(lambda p=payload: admit(p))
        yield "replayed elsewhere", False, judge(lambda p=dressed: admit(p))
        yield "replayed elsewhere", True, judge(lambda p=signed: admit(p))
        aggregator = sa.Aggregator(other)
        assert aggregator.admit(payload) == client_id
        yield "replayed elsewhere", False, judge(lambda a=aggregator: str(a.admit(world.payloads[0])))
    for victim in (0, 1):
        parts = Parts.of(session, world.payloads[victim])
        stolen = replace(parts, header=replace(parts.header, client_id=MALLORY))
        unsigned = world.payloads[victim][:37] + MALLORY.to_bytes(4, "little") + world.payloads[victim][41:]
        signed = stolen.signed(session, everyone.clients[MALLORY])
        yield "another's as one's own", False, judge(lambda p=unsigned: admit(p))
        yield "another's as one's own", True, judge(lambda p=signed: admit(p))


def _contribute(world: World, session: sa.Session, client: int) -> bytes:
    identity = sa.Identity(world.everyone.clients[client].to_seed())
    return sa.contribute(session, identity, world.everyone.update(client))


def _members_elsewhere(world: World) -> Iterator[Row]:
    """Requests, share checks, answers and prekeys of another round; and one kind in place of another."""
    everyone, session, other = world.everyone, world.session, world.everyone.session_of(2)
    payloads = [_contribute(world, other, client) for client in range(3)]
    there = sa.Aggregator(other)
    for payload in payloads:
        there.admit(payload)
    asked = there.share_check()
    reports = [member.check(other, asked) for member in everyone.members]
    request = there.close(reports)
    answers = [member.respond(other, request) for member in everyone.members]
    dressed = [bytes(each)[:5] + session.sid + bytes(each)[37:] for each in (asked, request)]
    for encoded in (bytes(asked), bytes(request), *dressed):
        yield "replayed elsewhere", False, judge(lambda e=encoded: _answered(world, e))
    for label, message in ((Label.SHARE_CHECK, reports[1]), (Label.REVEAL, answers[1])):
        moved = message[:5] + session.sid + message[37:]
        for encoded, signed in ((message, False), (moved, False), (signed_by_liar(world, moved, label), True)):
            for deliver in (_closed_with, _opened_with):
                yield "replayed elsewhere", signed, judge(lambda e=encoded, d=deliver: d(world, e))
    world.members()
    honest = [member.prekey(1) for member in everyone.members]
    for encoded in (everyone.members[1].prekey(3), honest[0], honest[2]):
        prekeys = [honest[0], encoded, *honest[2:]]
        yield "replayed elsewhere", False, judge(lambda p=prekeys: str(everyone.session_of(1, prekeys=p)))


def _answered(world: World, encoded: bytes) -> str:
    member = world.members()[0]
    return str((member.check if encoded[37] == 0 else member.respond)(world.session, encoded))


def _honest(world: World) -> tuple[sa.Aggregator, list[bytes]]:
    members, aggregator = world.members(), world.aggregator()
    check = aggregator.share_check()
    return aggregator, [member.check(world.session, check) for member in members]


def _closed_with(world: World, encoded: bytes) -> str:
    aggregator, reports = _honest(world)
    return str(aggregator.close([reports[0], encoded, reports[2]]))


def _opened_with(world: World, encoded: bytes) -> str:
    aggregator, reports = _honest(world)
    request = aggregator.close(reports)
    answers = [world.everyone.members[m].respond(world.session, request) for m in (0, 2)]
    return str(aggregator.open([*answers, encoded]))


def _twice(world: World) -> Iterator[Row]:
    """Every message delivered a second time."""
    for payload in world.payloads.values():
        yield "duplicated", False, judge(lambda p=payload: str(world.aggregator().admit(p)))

    def repeat(play: Callable[[], bytes]) -> str:
        assert play() == play(), "a repeated request got other bytes"
        return "harmless: same answer"

    aggregator, reports = _honest(world)
    check = aggregator.share_check()
    request = aggregator.close([report for report in reports for _ in range(2)])
    members = world.everyone.members
    for member in members:
        yield "duplicated", False, judge(lambda m=member: repeat(lambda: m.check(world.session, check)))
        yield "duplicated", False, judge(lambda m=member: repeat(lambda: m.respond(world.session, request)))
    answers = [member.respond(world.session, request) for member in members]
    yield "duplicated", False, judge(lambda: _right(world, aggregator.open([a for a in answers for _ in range(2)])))
    yield "duplicated", False, judge(lambda: _right(world, aggregator.open(answers[:1] * 3)))


def _right(world: World, result: sa.Result) -> str:
    assert same(result.mean, world.right_sum(world.payloads[MALLORY]) or []) and not result.faults
    return "harmless: right sum"


def _reordered(world: World) -> Iterator[Row]:
    """Contributions, reports and answers in every order; entries of a request in another than the ascending one."""
    aggregator, reports = _honest(world)
    request = aggregator.close(reports)
    answers = [member.respond(world.session, request) for member in world.everyone.members]
    for order in permutations(range(3)):
        again, given = world.aggregator(order), [answers[i] for i in order]
        again.close([reports[3], *(reports[i] for i in order)])
        yield "reordered", False, judge(lambda a=again, g=given: _right(world, a.open(g)))
        if order != (0, 1, 2):
            encoded = _entries_in_order(world, order)
            yield "reordered", False, judge(lambda e=encoded: _answered(world, e))


def _entries_in_order(world: World, order: tuple[int, ...]) -> bytes:
    encoded = bytes(Request(world.session, 1, [0, 1, 2], world.aggregator()._spool.view))
    size = (len(encoded) - 43) // 3
    return encoded[:43] + b"".join(encoded[43 + i * size : 43 + (i + 1) * size] for i in order)
