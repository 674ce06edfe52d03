"""Mutated contributions with proofs: every field of the header and every section of the proof."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from secureagg.contribution import write_contribution
from secureagg.errors import FaultyClientError, FaultyMemberError
from secureagg.he.deal import Dealer
from secureagg.he.masking import polynomials
from secureagg.he.total import unpack_frame
from secureagg.payload import Header
from secureagg.ring import residues
from secureagg.roster import Label
from secureagg.verification import instance
from secureagg.zk import merkle
from secureagg.zk.proof import HASH_BYTES
from secureagg.zk.relations import Instance
from secureagg.zk.soundness import LINEAR_REPETITIONS, PRODUCT_REPETITIONS, PROXIMITY_REPETITIONS
from tests.federation import Federation, mean_of, same
from tests.fuzz.client_side import Row, in_order, require_blamed
from tests.fuzz.mutations import Field, mutations
from tests.fuzz.outcome import judge
from tests.fuzz.world import MALLORY, SHAPES, World, own_grid
from tests.proving import ProvenParts, forged, proven_federation
from tests.zk.lying import Claim, Liar

__all__ = ["contributions", "mutated", "proof_fields"]


@dataclass
class ProvenWorld:
    """Clients 0, 1 and, if it is who mutates, 2 of four, and the noise of all members where the committee adds it.

    sender: the id of who mutates; sent: its honest contribution; payloads: the others'; grids: what they all encrypt.
    """

    everyone: Federation
    sender: int
    payloads: dict[int, bytes]
    grids: dict[int, list[int]]
    sent: ProvenParts
    dealer: Dealer
    claim: Claim

    @property
    def identity(self) -> sa.Identity:
        """The sender's."""
        return [*self.everyone.clients, *self.everyone.member_identities][self.sender]

    @property
    def session(self) -> sa.Session:
        return self.everyone.session

    def aggregator(self) -> sa.Aggregator:
        aggregator = sa.Aggregator(self.session)
        for payload in self.payloads.values():
            aggregator.admit(payload)
        return aggregator

    def members(self) -> list[sa.CommitteeMember]:
        """Return the members as they were before the round."""
        for member_id, secret in enumerate(self._prekeys):
            journal = self.everyone.directory / f"journal-{member_id}"
            for answer in (journal / "answers").iterdir():
                answer.unlink()
            (journal / "prekeys" / "1.key").write_bytes(secret)
        return self.everyone.members

    def __post_init__(self) -> None:
        self._prekeys = [member._journal.stored_prekey(1) or b"" for member in self.everyone.members]

    def finish(self, aggregator: sa.Aggregator) -> str:
        """Run the rest of a round in which the sender was admitted; return why its outcome is right."""
        members, session, plan = self.members(), self.session, self.everyone.plan
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in members])
        result = aggregator.open([members[m].respond(session, request) for m in aggregator.asked])
        included = self.sender in request.clients
        *sums, weight = (sum(column) for column in zip(*(self.grids[each] for each in request.clients), strict=True))
        assert same(result.mean, mean_of(plan, sums, weight)), "a wrong sum"
        left_out = {*result.refused, *(plan.clients + member for member in result.faults)}
        assert left_out == (set() if included else {self.sender}), "somebody else is blamed"
        return "harmless: right sum with it" if included else "share check: right sum without it"


@contextmanager
def make_proven_world(sender: int = MALLORY, **changes: object) -> Iterator[ProvenWorld]:
    """Make a world on the smallest ring, in frames as the other one, with the sender's dealing and commitment."""
    layout = sa.Layout.of([np.zeros(shape, dtype) for shape, dtype in SHAPES])
    with proven_federation(parameters="INSECURE_N16_Q52", layout=layout, **changes) as everyone:
        packing = everyone.plan.packing
        assert all(first < last for first, last in map(packing.frame_coordinates, packing.frames))
        dealers: list[Dealer] = []
        claims: list[Claim] = []

        def deal(*arguments: object) -> Dealer:
            dealers.append(Dealer(*arguments))
            return dealers[0]

        def committed(claim: Claim) -> Claim:
            claims.append(claim)
            return claim

        plan = everyone.plan
        contributors = sorted({0, 1, sender, *range(plan.clients, plan.contributors)})
        grids = {contributor: own_grid(everyone, contributor) for contributor in contributors}
        *values, weight = grids[sender]
        sent = forged(everyone, sender, grid=values, weight=weight, deal=deal, claim=committed)
        payloads = {each: honest(everyone, each, grids[each]) for each in contributors if each != sender}
        yield ProvenWorld(everyone, sender, payloads, grids, sent, dealers[0], claims[0])


def honest(everyone: Federation, contributor: int, grid: list[int], session: sa.Session | None = None) -> bytes:
    """Return this contributor's message as the library makes it of these values, the weight last."""
    encoded = bytearray(everyone.plan.contribution_bytes(contributor))

    def write(offset: int, part: bytes | bytearray) -> None:
        encoded[offset : offset + len(part)] = part

    identity = [*everyone.clients, *everyone.member_identities][contributor]
    write_contribution(session or everyone.session, contributor, identity, Known(np.array(grid)), write)
    return bytes(encoded)


@dataclass(frozen=True)
class Known:
    """Values that are encrypted as they are, the weight last."""

    coordinates: NDArray[np.int64]

    @property
    def weight(self) -> int:
        return int(self.coordinates[-1])

    @property
    def values(self) -> NDArray[np.int64]:
        return self.coordinates[:-1]

    def between(self, first: int, last: int) -> NDArray[np.int64]:
        return self.coordinates[first:last]


def proof_fields(plan: sa.RoundPlan, contributor: int) -> list[tuple[str, int]]:
    """Return the sections of a proof with their lengths in bytes; elements of 52 bits are cut at whole bytes."""
    statement = plan.statement_of(contributor)
    assert statement is not None
    shape = statement.shape
    counts = {
        "sums": LINEAR_REPETITIONS,
        "linear responses": LINEAR_REPETITIONS * shape.linear_degree,
        "product responses": PRODUCT_REPETITIONS * shape.degree,
        "proximity responses": PROXIMITY_REPETITIONS * shape.degree,
        "first columns": shape.rows.first * shape.queries,
        "second columns": shape.second_rows * shape.queries,
    }
    ends = np.cumsum([0, *counts.values()]) * 52 // 8
    packed = residues.packed_bytes((1, 1, shape.elements + -shape.elements % residues.PACKING_GROUP))
    sizes = [("second root", HASH_BYTES)]
    sizes += [(name, int(b - a)) for name, a, b in zip(counts, ends, ends[1:], strict=False)]
    sizes += [("padding of the elements", packed - int(ends[-1]))] if packed > ends[-1] else []
    for oracle in ("first", "second"):
        sizes += [(f"{oracle} salts", merkle.SALT_BYTES * shape.queries)]
        sizes += [(f"{oracle} path", HASH_BYTES * shape.path_nodes)]
    assert sum(size for _, size in sizes) == statement.proof_bytes
    return sizes


def contribution_fields(plan: sa.RoundPlan, contributor: int) -> list[Field]:
    """Return the fields of a contribution with a proof; docs/wire-format.md names them."""
    members = range(plan.committee.size)
    sizes = [("magic", 4), ("version", 1), ("session id", 32), ("client id", 4), ("signature", 64), ("ephemeral", 32)]
    sizes += [(f"digest of frame {i}", 32) for i in range(len(plan.packing.frames))]
    sizes += [(f"digest of box {m}", 32) for m in members] + [("share check", plan.sharing.check_bytes)]
    sizes += [("commitment", 32), ("digest of the proof", 32)]
    sizes += [(f"frame {i}", frame.size) for i, frame in enumerate(plan.packing.frames)]
    sizes += [(f"box {m}", plan.box_bytes) for m in members]
    return in_order([*sizes, *proof_fields(plan, contributor)])


def parts_at(world: ProvenWorld, encoded: bytes) -> ProvenParts:
    """Read a contribution by its places, whatever it says."""
    plan = world.everyone.plan
    at = {field.name: encoded[field.start : field.stop] for field in contribution_fields(plan, world.sender)}

    def each(prefix: str) -> tuple[bytes, ...]:
        return tuple(part for name, part in at.items() if name.startswith(prefix))

    header = Header(
        int.from_bytes(at["client id"], "little"),
        at["signature"],
        at["ephemeral"],
        each("digest of frame"),
        each("digest of box"),
        at["share check"],
        at["commitment"],
        at["digest of the proof"],
    )
    return ProvenParts(header, each("frame "), each("box "), encoded[plan.proof_start :])


def signed_by_sender(world: ProvenWorld, encoded: bytes) -> Iterator[bytes]:
    """Yield the contribution with its sender's signature over what it now says: as it stands; with digests made anew;
    and where neither header nor proof were meant, with share check and proof made anew too.
    """
    plan, session, me = world.everyone.plan, world.session, world.identity
    if len(encoded) != plan.contribution_bytes(world.sender):
        return
    parts = parts_at(world, encoded)
    start = encoded[:41]
    signature = me.sign(Label.CONTRIBUTION, parts.header.dealing().message(session.sid))
    yield start + signature + encoded[105:]
    yield start + parts.signed(session, me)[41:]
    frames_or_boxes = (parts.frames, parts.boxes, parts.header.ephemeral)
    if frames_or_boxes != (world.sent.frames, world.sent.boxes, world.sent.header.ephemeral):
        proven = proven_again(world, parts)
        if proven is not None:
            yield start + proven.signed(session, me)[41:]


def proven_again(world: ProvenWorld, parts: ProvenParts) -> ProvenParts | None:
    """Return the parts with commitment, share check and proof of what their sender knows; None if that is nothing."""
    plan, session = world.everyone.plan, world.session
    try:
        unpacked = [unpack_frame(plan.packing, i, frame).reshape(-1) for i, frame in enumerate(parts.frames)]
    except sa.EncodingError:
        return None
    ciphertext = np.concatenate(unpacked)
    digests = (tuple(hashlib.sha256(p).digest() for p in pieces) for pieces in (parts.frames, parts.boxes))
    header = replace(parts.header, **dict(zip(("frames", "boxes"), digests, strict=True)))

    class Client(Liar):
        def make_instance(self, root: bytes) -> Instance:
            nonlocal header
            header = replace(header, commitment=root)
            header = replace(header, check=world.dealer.check(header.dealing().challenge(session.sid)))
            return instance(session, header.dealing(), ciphertext)

    claim = replace(world.claim, ciphertext=ciphertext)
    assert claim.case.polynomials.identity == polynomials(session.sid).identity
    return replace(parts, proof=Client(claim).prove().proof, header=header)


def contributions(world: World, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of Mallory's proven contribution in every class, as is and signed anew, sent to an aggregator."""
    with make_proven_world() as proven:
        yield from mutated(proven, rounds, draw)


def mutated(world: ProvenWorld, rounds: int, draw: random.Random) -> Iterator[Row]:
    """Every field of the sender's contribution in every class, as is and signed anew, sent to an aggregator."""
    everyone, session, sender = world.everyone, world.session, world.sender
    payload = world.sent.signed(session, world.identity)
    others = [each for each in world.payloads.values() if len(each) == len(payload)]
    others.append(honest(everyone, sender, own_grid(everyone, sender)))
    others.append(honest(everyone, sender, own_grid(everyone, sender), everyone.session_of(2)))
    others_ids = tuple(world.payloads)
    aggregator, frames = world.aggregator(), range(len(everyone.plan.packing.frames))
    unaltered = [aggregator._sum.total.frame(index) for index in frames]

    def deliver(encoded: bytes) -> str:
        nonlocal aggregator
        before = aggregator
        try:
            before.admit(encoded)
        except (FaultyClientError, FaultyMemberError) as error:
            require_blamed(error, int.from_bytes(encoded[37:41], "little"), everyone.plan.clients)
            raise
        finally:
            if before._sum.contributors == others_ids:
                assert [before._sum.total.frame(index) for index in frames] == unaltered, "a refusal changed the sum"
            else:
                aggregator = world.aggregator()
        assert before._sum.contributors == tuple(sorted((*others_ids, sender))), "somebody else was admitted"
        return world.finish(before)

    fields = contribution_fields(everyone.plan, sender)
    for number, mutation in enumerate(mutations(payload, fields, others, rounds, draw)):
        if number % 2:
            yield mutation.kind, False, judge(lambda m=mutation: deliver(m.encoded))
        for encoded in dict.fromkeys(signed_by_sender(world, mutation.encoded)):
            if encoded not in (payload, mutation.encoded):
                yield mutation.kind, True, judge(lambda e=encoded: deliver(e))
