"""Attacks on what was sent: contributions altered on their way or by their client, stolen, or sent again."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from secureagg.aggregator import Aggregator
from secureagg.errors import EncodingError, FaultyClientError
from secureagg.selfcheck.forgery import Parts, forged
from secureagg.selfcheck.law import Case, Law, LawBroken, require
from secureagg.selfcheck.parties import Parties, gathered
from secureagg.selfcheck.soundness import LIAR, attack_plan, honest_values, require_refused

__all__ = ["LAWS"]

_SIGNATURE = (41, 105)  # its bytes: docs/wire-format.md, Contribution


def _flipped(case: Case) -> None:
    """One bit of a proven contribution, as anybody could, and as its client could, who signs again."""
    plan, random = attack_plan(case.random), case.random
    with gathered(plan) as parties:
        session, identity = parties.session, parties.clients[LIAR]
        payload = forged(session, identity, honest_values(plan, random), 1, hiding=False)
        # Anywhere; in the header, which few bytes are; and in the signature, the one part that nothing else covers.
        for first, last in ((0, len(payload)), (0, plan.header_bytes), _SIGNATURE):
            altered, place = bytearray(payload), int(random.integers(first, last))
            altered[place] ^= 1 << int(random.integers(8))
            try:
                Aggregator(session).admit(bytes(altered))
            except (FaultyClientError, EncodingError):
                continue
            raise LawBroken(f"a contribution with byte {place} altered was admitted")
        name = _PARTS[case.number % len(_PARTS)]
        resigned = _damaged(Parts.of(session, payload), name, random).signed(session, identity)
        _require_blamed(parties, resigned, f"a contribution with another {name}")


_PARTS = ("ephemeral", "check", "commitment", "frames", "boxes", "proof")


def _damaged(parts: Parts, name: str, random: np.random.Generator) -> Parts:
    """Return the contribution with the lowest bit of one byte of this part flipped."""

    def flip(piece: bytes) -> bytes:
        damaged = bytearray(piece)
        damaged[int(random.integers(len(damaged)))] ^= 1
        return bytes(damaged)

    def flip_one(pieces: tuple[bytes, ...]) -> tuple[bytes, ...]:
        chosen = int(random.integers(len(pieces)))
        return tuple(flip(piece) if index == chosen else piece for index, piece in enumerate(pieces))

    header = parts.header
    match name:
        case "ephemeral":
            return replace(parts, header=replace(header, ephemeral=flip(header.ephemeral)))
        case "check":
            return replace(parts, header=replace(header, check=flip(header.check)))
        case "commitment":
            return replace(parts, header=replace(header, commitment=flip(header.commitment)))
        case "frames":
            return replace(parts, frames=flip_one(parts.frames))
        case "boxes":
            return replace(parts, boxes=flip_one(parts.boxes))
        case _:
            return replace(parts, proof=flip(parts.proof))


def _require_blamed(parties: Parties, payload: bytes, what: str) -> None:
    try:
        Aggregator(parties.session).admit(payload)
    except FaultyClientError as error:
        require(error.client_id == LIAR, f"{what}: client {error.client_id} is blamed")
        return
    raise LawBroken(f"{what} was admitted")


def _stolen(case: Case) -> None:
    """Another's contribution under the thief's name, last round's in this one, and one's own twice."""
    plan = attack_plan(case.random)
    with gathered(plan) as parties:
        session, thief, values = parties.session, parties.clients[LIAR], honest_values(plan, case.random)
        payload = forged(session, parties.clients[0], values, 1, hiding=False)
        require_refused(parties, Parts.of(session, payload).signed(session, thief), "another client's proof")
        earlier = parties.another(2)
        old = forged(earlier, thief, values, 1, hiding=False)
        require_refused(parties, Parts.of(earlier, old).signed(session, thief), "a proof of another round")
        try:
            Aggregator(session).admit(old)
        except EncodingError:
            pass
        else:
            raise LawBroken("a contribution of another round was admitted")
        aggregator = Aggregator(session)
        own = forged(session, thief, values, 1, hiding=False)
        aggregator.admit(own)
        try:
            aggregator.admit(own)
        except FaultyClientError as error:
            require(error.client_id == LIAR, "another client is blamed for coming twice")
        else:
            raise LawBroken("a contribution was admitted twice")


_SUBJECT = "soundness"
LAWS = (
    Law(
        _SUBJECT,
        "altered-contribution",
        "A contribution with one bit altered is refused, also if its client signs again.",
        "docs/protocol.md, Contribution and admission",
        _flipped,
        12,
        180,
    ),
    Law(
        _SUBJECT,
        "stolen-contribution",
        "Another's contribution, another round's, and a second one of one client are refused.",
        "docs/protocol.md, Contribution and admission; docs/proofs/soundness.md",
        _stolen,
        2,
        40,
    ),
)
