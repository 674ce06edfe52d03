"""Mutated tallies, rosters, plans and layouts: messages that nobody signs, or that the host system vouches for."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Sequence

import secureagg as sa
from tests.fuzz.client_side import Row, in_order
from tests.fuzz.member_side import another_session
from tests.fuzz.mutations import Field, mutations
from tests.fuzz.outcome import judge
from tests.fuzz.world import World

__all__ = ["layouts", "plans", "rosters", "tallies"]


def unsigned(
    message: bytes,
    fields: list[Field],
    others: Sequence[bytes],
    deliver: Callable[[bytes], str],
    rounds: int,
    draw: random.Random,
) -> Iterator[Row]:
    for mutation in mutations(message, fields, others, rounds, draw):
        yield mutation.kind, False, judge(lambda m=mutation: deliver(m.encoded))


def tallies(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a tally, checked by its clients and by an auditor who has all contributions."""
    session, packing = world.session, world.everyone.plan.packing
    aggregators = []
    for name, clients in (("tally", (0, 1, 2)), ("other tally", (0, 1))):
        aggregator = sa.Aggregator(session, spool=world.everyone.directory / name)
        for client_id in clients:
            aggregator.admit(world.payloads[client_id])
        aggregators.append(aggregator)
    messages = []
    for aggregator in aggregators:
        members = world.members()
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in members])
        messages.append(aggregator.open([member.respond(session, request) for member in members]).tally or b"")
    sizes = [("magic", 4), ("version", 1), ("session id", 32), ("count", 4)]
    for client_id in range(3):
        parts = (("client id", 4), ("digest", 32), ("product 0", 8), ("product 1", 8))
        sizes += [(f"{name} of client {client_id}", size) for name, size in parts]
    sizes += [(f"frame {i}", frame.size) for i, frame in enumerate(packing.frames)]

    def deliver(encoded: bytes) -> str:
        sa.verify_tally(session, encoded, mine=world.payloads[0], contributions=world.payloads.values())
        raise AssertionError("an altered tally passed")

    others = [messages[1].ljust(len(messages[0]), b"\0")]
    yield from unsigned(messages[0], in_order(sizes), others, deliver, rounds, draw)


def rosters(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a roster; one that still reads makes another session, or none."""
    everyone = world.everyone
    world.members()
    message = everyone.roster.to_bytes()
    sizes = [("magic", 4), ("version", 1), ("clients", 4), ("members", 4)]
    sizes += [(f"{half} of {i}", 32) for i in range(8) for half in ("signing key", "agreement key")]
    others = [sa.Roster([c.public for c in everyone.clients[::-1]], [m.public for m in everyone.members]).to_bytes()]

    def deliver(encoded: bytes) -> str:
        roster = sa.Roster.from_bytes(encoded)
        assert roster.to_bytes() == encoded and roster != everyone.roster, "two encodings of one roster"
        return another_session(world, everyone.session_of(1, roster=roster))

    yield from unsigned(message, in_order(sizes), others, deliver, rounds, draw)


def plans(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every key and value of a plan's JSON; one that still reads makes another session, or none."""
    everyone = world.everyone
    world.members()
    message = everyone.plan.to_bytes()
    fields = [
        Field(match.group(), match.start(), len(match.group()))
        for match in re.finditer(r'"[^"]*"|[0-9a-z]+|[{}:,]+', message.decode("ascii"))
    ]
    others = [message[::-1], b" " * len(message), message.swapcase(), re.sub(rb"\d", b"9", message)]
    others += [re.sub(rb"\d", lambda d, k=k: b"%d" % ((int(d.group()) + k) % 10), message) for k in range(1, 9)]

    def deliver(encoded: bytes) -> str:
        plan = sa.RoundPlan.from_bytes(encoded, allow_insecure=True)
        assert plan.to_bytes() == encoded and plan != everyone.plan, "two encodings of one plan"
        return another_session(world, everyone.session_of(1, plan=plan))

    yield from unsigned(message, fields, others, deliver, rounds, draw)


def layouts(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a layout; one that still reads is another layout."""
    layout = world.everyone.plan.layout
    message = layout.to_bytes()
    sizes = [("count", 4)]
    for i, shape in enumerate(layout.shapes):
        sizes += [(f"dtype {i}", 1), (f"dimensions {i}", 1), *((f"extent {i}.{k}", 8) for k in range(len(shape)))]

    def deliver(encoded: bytes) -> str:
        found = sa.Layout.from_bytes(encoded)
        assert found.to_bytes() == encoded and found != layout, "two encodings of one layout"
        return "harmless: another layout"

    yield from unsigned(message, in_order(sizes), [message[::-1]], deliver, rounds, draw)
