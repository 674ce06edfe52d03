"""Mutated contributions and requests: what clients send, and what the aggregator makes of it for the members."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import replace

import secureagg as sa
from secureagg.errors import FaultyClientError, FaultyMemberError
from secureagg.exchange import CHECK, EVERY_MEMBER, REVEAL, Request, RevealAnswer, ShareCheck, request_digest
from secureagg.payload import Dealing, Header
from secureagg.roster import Label
from tests.fuzz.mutations import Field, mutations
from tests.fuzz.outcome import Verdict, judge
from tests.fuzz.world import MALLORY, MEMBERS, World

__all__ = ["Row", "contributions", "delivered", "in_order", "requests", "require_blamed"]

SIGNING = ("digests and share check made anew", "digests made anew", "as it stands")
Row = tuple[str, bool, Verdict]  # mutation class, signed by the mutating party, what became of it


def contribution_fields(world: World) -> list[Field]:
    """Return the fields of a contribution; docs/wire-format.md names them."""
    plan = world.everyone.plan
    sizes = [("magic", 4), ("version", 1), ("session id", 32), ("client id", 4), ("signature", 64), ("ephemeral", 32)]
    sizes += [(f"digest of frame {i}", 32) for i in range(len(plan.packing.frames))]
    sizes += [(f"digest of box {m}", 32) for m in range(MEMBERS)] + [("share check", plan.sharing.check_bytes)]
    sizes += [(f"frame {i}", frame.size) for i, frame in enumerate(plan.packing.frames)]
    sizes += [(f"box {m}", plan.box_bytes) for m in range(MEMBERS)]
    return in_order(sizes)


def in_order(sizes: list[tuple[str, int]]) -> list[Field]:
    """Return fields that follow each other without gaps."""
    fields, start = [], 0
    for name, size in sizes:
        fields.append(Field(name, start, size))
        start += size
    return fields


def signed_by_sender(world: World, encoded: bytes, how: str) -> bytes:
    """Return the contribution with its sender's signature over what it now says; SIGNING says what else is made anew.

    Bytes of another length are signed as far as they go: they still have to be refused for their length.
    """
    plan, sid = world.everyone.plan, world.session.sid
    whole = encoded[: plan.bytes_per_client].ljust(plan.bytes_per_client, b"\0")
    at = {field.name: whole[field.start : field.stop] for field in contribution_fields(world)}
    frames, boxes = (
        tuple(at[n] for n in at if n.startswith(prefix)) for prefix in ("digest of frame", "digest of box")
    )
    if how != SIGNING[2]:
        frames = tuple(hashlib.sha256(at[f"frame {i}"]).digest() for i in range(len(frames)))
        boxes = tuple(hashlib.sha256(at[f"box {m}"]).digest() for m in range(len(boxes)))
    client_id = int.from_bytes(at["client id"], "little")
    dealing = Header(client_id, b"", at["ephemeral"], frames, boxes, at["share check"]).dealing()
    check = world.dealer.check(dealing.challenge(sid)) if how == SIGNING[0] else dealing.check
    signature = world.identity.sign(Label.CONTRIBUTION, replace(dealing, check=check).message(sid))
    body = b"".join([*frames, *boxes, check]) + whole[plan.header_bytes :]
    signed = whole[:41] + signature + at["ephemeral"] + body
    return signed[: len(encoded)] + encoded[plan.bytes_per_client :]


def contributions(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of the sender's contribution in every class, as is and signed anew, delivered to an aggregator."""
    payload, fields = world.payloads[world.sender], contribution_fields(world)
    others = [*(world.payloads[each] for each in world.others), world.another(world.sender), world.another(3)]
    others.append(world.another(world.sender, world.everyone.session_of(2)))
    aggregator = world.aggregator(world.others)

    def deliver(encoded: bytes) -> str:
        nonlocal aggregator
        before = aggregator
        try:
            return delivered(world, before, encoded)
        finally:
            if before._spool.fixed or before._sum.contributors != world.others:
                aggregator = world.aggregator(world.others)

    for number, mutation in enumerate(mutations(payload, fields, others, rounds, draw)):
        if number % 2:
            yield mutation.kind, False, judge(lambda m=mutation: deliver(m.encoded))
        whole = len(mutation.encoded) == len(payload)
        encodings = [signed_by_sender(world, mutation.encoded, how) for how in (SIGNING if whole else SIGNING[:1])]
        for encoded in dict.fromkeys(encodings):
            if encoded not in (payload, mutation.encoded):
                yield mutation.kind, True, judge(lambda e=encoded: deliver(e))


def delivered(world: World, aggregator: sa.Aggregator, encoded: bytes) -> str:
    """Deliver what the sender made to an aggregator that holds the others' contributions; return why that is right."""
    try:
        aggregator.admit(encoded)
    except (FaultyClientError, FaultyMemberError) as error:
        require_blamed(error, int.from_bytes(encoded[37:41], "little"), world.everyone.plan.clients)
        raise
    finally:
        if aggregator._sum.contributors == world.others:
            assert world.unchanged(aggregator), "a refused contribution changed the sum"
    assert aggregator._sum.contributors == tuple(sorted(world.payloads)), "somebody else was admitted"
    return world.finish(aggregator, encoded)


def require_blamed(error: FaultyClientError | FaultyMemberError, claimed: int, clients: int) -> None:
    """Assert that a contribution's fault is laid to whom it claims to be from: of `clients`, or of the members."""
    blamed = error.client_id if isinstance(error, FaultyClientError) else clients + error.member_id
    assert blamed == claimed, f"contributor {blamed} blamed for what claims to be of {claimed}"


def request_fields(world: World, carried: int) -> list[Field]:
    """Return the fields of a request with `carried` boxes a client."""
    plan = world.everyone.plan
    sizes = [("magic", 4), ("version", 1), ("session id", 32), ("kind", 1), ("member id", 1), ("count", 4)]
    for client_id in range(3):
        parts = [("client id", 4), ("signature", 64), ("ephemeral", 32), ("ciphertext", 32)]
        parts += [(f"digest of box {m}", 32) for m in range(MEMBERS)] + [("share check", plan.sharing.check_bytes)]
        parts += [(f"box {i}", plan.box_bytes) for i in range(carried)]
        sizes += [(f"{name} of client {client_id}", size) for name, size in parts]
    return in_order(sizes)


def requests(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of the requests to check and to reveal, for one member and for all, delivered to member 0."""
    session = world.session
    aggregator = world.aggregator()
    other_round = world.everyone.session_of(2)
    for kind, carried in ((CHECK, 1), (REVEAL, 1), (REVEAL, MEMBERS)):
        request = Request(session, kind, [0, 1, MALLORY], aggregator._spool.view)
        message = request.for_member(0) if carried == 1 else bytes(request)
        fields = request_fields(world, carried)
        others = [
            request.for_member(1).ljust(len(message), b"\0"),
            bytes(request)[: len(message)].ljust(len(message), b"\0"),
        ]
        others.append(message[:5] + other_round.sid + message[37:])
        member = world.members()[0]
        honest = member.check(session, message) if kind == CHECK else member.respond(session, message)
        entry = fields[-1].stop - next(f for f in fields if f.name == f"client id of client {MALLORY}").start

        def deliver(encoded: bytes, kind: int = kind, honest: bytes = honest) -> str:
            member = world.members()[0]
            if kind == CHECK:
                report = ShareCheck.from_bytes(member.check(session, encoded), session)
                first = ShareCheck.from_bytes(honest, session)
            else:
                try:
                    report = RevealAnswer.from_bytes(member.respond(session, encoded), session)
                except Exception:
                    assert member._journal.answer(session.roster.digest(), 1) is None, "refused, but journalled"
                    assert member._journal.stored_prekey(1), "refused, but the prekey is gone"
                    raise
                first = RevealAnswer.from_bytes(honest, session)
                assert report.complaints or report.sums == first.sums, "another sum of the same shares"
            return judged(world, encoded, report, first)

        for number, mutation in enumerate(mutations(message, fields, others, rounds, draw)):
            if number % 2:
                yield mutation.kind, False, judge(lambda m=mutation: deliver(m.encoded))
            start = len(message) - entry
            encodings = [dealt_by_mallory(world, mutation.encoded, start, carried, how) for how in SIGNING[:2]]
            for encoded in dict.fromkeys(encodings):
                if encoded not in (None, message, mutation.encoded):
                    yield mutation.kind, True, judge(lambda e=encoded: deliver(e))


def judged(world: World, encoded: bytes, report: ShareCheck | RevealAnswer, honest: ShareCheck | RevealAnswer) -> str:
    """Return why a member's reply to a mutated request is right."""
    if report.complaints:
        assert report.complaints == (MALLORY,), "an honest client is complained about"
        return "share check: complaint"
    if report.request == honest.request:
        return "harmless: same answer"
    # Mallory has signed two contributions. Members shown different ones name different sets, so they do not add up.
    carried = MEMBERS if encoded[38] == EVERY_MEMBER else 1
    size, length = Dealing.encoded_bytes(world.everyone.plan), world.everyone.plan.box_bytes * carried
    dealings = [read_dealing(world, encoded[43 + i * (size + length) :][:size]) for i in range(3)]
    assert report.request == request_digest(world.session.sid, dealings), "an answer about something else"
    return "harmless: names another set"


def dealt_by_mallory(world: World, encoded: bytes, start: int, carried: int, how: str) -> bytes | None:
    """Return a request whose last entry, Mallory's, is signed by her as it now stands; None if it is not whole."""
    plan, sid = world.everyone.plan, world.session.sid
    length = Dealing.encoded_bytes(plan)
    if len(encoded) != start + length + carried * plan.box_bytes:
        return None
    dealing = read_dealing(world, encoded[start : start + length])
    boxes = [encoded[start + length + i * plan.box_bytes :][: plan.box_bytes] for i in range(carried)]
    digests = tuple(hashlib.sha256(box).digest() for box in boxes) + dealing.boxes[carried:]
    dealing = replace(dealing, boxes=digests)
    if how == SIGNING[0]:
        dealing = replace(dealing, check=world.dealer.check(dealing.challenge(sid)))
    signature = world.everyone.clients[MALLORY].sign(Label.CONTRIBUTION, dealing.message(sid))
    entry = dealing.client_id.to_bytes(4, "little") + signature + dealing.ephemeral + dealing.ciphertext
    return encoded[:start] + b"".join([entry, *digests, dealing.check, *boxes])


def read_dealing(world: World, encoded: bytes) -> Dealing:
    """Read a dealing by its places, whatever it says."""
    at, boxes = encoded, 4 + 64 + 32 + 32
    digests = tuple(at[boxes + 32 * m : boxes + 32 * m + 32] for m in range(MEMBERS))
    check = at[boxes + 32 * MEMBERS :]
    return Dealing(int.from_bytes(at[:4], "little"), at[4:68], at[68:100], at[100:132], digests, check)
