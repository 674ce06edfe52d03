"""Mutated prekeys, share checks and answers: what a committee member sends, signed by one who cheats or not."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence

import secureagg as sa
from secureagg.errors import EncodingError, FaultyMemberError, SecureAggError
from secureagg.exchange import RevealAnswer, ShareCheck
from secureagg.roster import Label
from tests.federation import same
from tests.fuzz.client_side import Row, in_order
from tests.fuzz.mutations import Field, mutations
from tests.fuzz.outcome import judge
from tests.fuzz.world import LIAR, World

__all__ = ["answers", "prekeys", "share_checks", "signed_by_liar"]

HEAD = (("magic", 4), ("version", 1), ("session id", 32), ("member id", 1), ("request", 32), ("count", 4))


def signed_by_liar(world: World, encoded: bytes, label: Label) -> bytes:
    """Return a message with the liar's signature, in its last 64 bytes, over all it says after magic and version."""
    body = encoded[:-64]
    said = body[5:13] + body[77:] if label is Label.PREKEY else body[5:]
    return body + world.everyone.member_identities[LIAR].sign(label, said)


def fuzzed(
    world: World,
    message: bytes,
    fields: list[Field],
    others: Sequence[bytes],
    label: Label,
    deliver: Callable[[bytes], str],
    rounds: int,
    draw: random.Random,
) -> Iterator[Row]:
    """Deliver each mutation as it is, and twice as many with the liar's signature."""
    for mutation in mutations(message, fields, others, rounds, draw):
        yield mutation.kind, False, judge(lambda m=mutation: deliver(m.encoded))
    for mutation in mutations(message, fields, others, 2 * rounds, draw):
        encoded = signed_by_liar(world, mutation.encoded, label)
        if encoded not in (message, mutation.encoded):
            yield mutation.kind, True, judge(lambda e=encoded: deliver(e))


def only_the_liar(error: SecureAggError) -> None:
    blamed = getattr(error, "member_id", LIAR)
    assert blamed == LIAR, f"member {blamed} is blamed for what member {LIAR} sent"
    assert not hasattr(error, "client_id"), "a client is blamed for what a member sent"


def share_checks(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a share check (one complaint in it), beside two honest ones (t in all), and beside three."""
    session, everyone = world.session, world.everyone
    check = world.aggregator().share_check()
    honest = [member.check(session, check) for member in world.members()]
    message = everyone_signed(world, honest[LIAR], complaints=(0,))
    fields = in_order([*HEAD, ("complaint", 4), ("signature", 64)])
    others = [each[:78] + bytes(4) + each[78:] for each in (honest[0], honest[2])]
    others.append(message[:5] + everyone.session_of(2).sid + message[37:])

    def deliver(encoded: bytes) -> str:
        aggregator = world.aggregator()
        assert aggregator.close([encoded, honest[0], *honest[2:]]).clients == (0, 1, 2), "a lone report decided"
        assert set(aggregator._faults) <= {LIAR}, "an honest member is blamed"
        aggregator = world.aggregator()
        try:
            remaining = aggregator.close([honest[0], encoded, honest[2]]).clients
        except SecureAggError as error:
            only_the_liar(error)
            raise
        complaints = ShareCheck.from_bytes(encoded, session).complaints
        assert set(remaining) == {0, 1, 2} - set(complaints), "another set than the one complained about"
        return "harmless: its own complaint"

    yield from fuzzed(world, message, fields, others, Label.SHARE_CHECK, deliver, rounds, draw)


def everyone_signed(world: World, report: bytes, complaints: tuple[int, ...]) -> bytes:
    """Return a share check with these complaints, signed by the liar."""
    sid, found = world.session.sid, ShareCheck.from_bytes(report, world.session)
    encoded = ShareCheck(LIAR, found.request, complaints, bytes(64)).to_bytes(sid)
    return signed_by_liar(world, encoded, Label.SHARE_CHECK)


def answers(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a reveal answer, beside two honest ones (t in all), and beside three."""
    session, everyone = world.session, world.everyone
    members = world.members()
    aggregator = world.aggregator()
    check = aggregator.share_check()
    request = aggregator.close([member.check(session, check) for member in members])
    honest = [member.respond(session, request) for member in members]
    message, size = honest[LIAR], everyone.plan.sharing.answer_bytes
    quarter = size // 4
    sums = [*((f"sums {i}", quarter) for i in range(3)), ("sums 3", size - 3 * quarter)]
    fields = in_order([*HEAD, ("length", 4), *sums, ("signature", 64)])
    others = [honest[0], honest[2], message[:5] + everyone.session_of(2).sid + message[37:]]
    expected = world.right_sum(world.payloads[2])
    assert expected is not None

    def deliver(encoded: bytes) -> str:
        result = aggregator.open([encoded, honest[0], *honest[2:]])
        assert same(result.mean, expected), "a wrong sum was opened"
        assert {*result.faults, *result.disagreeing} <= {LIAR}, "an honest member is blamed"
        try:
            result = aggregator.open([honest[0], encoded, honest[2]])
        except SecureAggError as error:
            only_the_liar(error)
            raise
        assert same(result.mean, expected), "a wrong sum was opened by t answers"
        return "harmless: right sum"

    yield from fuzzed(world, message, fields, others, Label.REVEAL, deliver, rounds, draw)
    complaint = RevealAnswer(LIAR, request.digest(), b"", (0, 2), bytes(64)).to_bytes(session.sid)
    fields = in_order([*HEAD, ("complaint 0", 4), ("complaint 1", 4), ("length", 4), ("signature", 64)])
    yield from fuzzed(
        world, signed_by_liar(world, complaint, Label.REVEAL), fields, others, Label.REVEAL, deliver, rounds // 2, draw
    )


def prekeys(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of a prekey, given to a client that makes the session."""
    everyone = world.everyone
    world.members()
    honest = [member.prekey(1) for member in everyone.members]
    keys = [("signing key", 32), ("agreement key", 32), ("prekey", 32)]
    fields = in_order([("magic", 4), ("version", 1), ("round", 8), *keys, ("signature", 64)])
    others = [honest[0], honest[2], everyone.members[LIAR].prekey(2)]

    def deliver(encoded: bytes) -> str:
        try:
            session = everyone.session_of(1, prekeys=[honest[0], encoded, *honest[2:]])
        except FaultyMemberError as error:
            only_the_liar(error)
            raise
        return another_session(world, session)

    yield from fuzzed(world, honest[LIAR], fields, others, Label.PREKEY, deliver, rounds, draw)


def another_session(world: World, session: sa.Session) -> str:
    """Return why a session with altered parts does no harm: nothing made for the original passes in it."""
    assert session.sid != world.session.sid, "an alteration that the session id does not show"
    try:
        sa.Aggregator(session).admit(world.payloads[0])
    except EncodingError:
        return "harmless: another session"
    raise AssertionError("a contribution passed in another session")
