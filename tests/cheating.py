"""Parties that break the protocol, built of the real pieces and signing properly what they send."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

import secureagg as sa
from secureagg.exchange import RevealAnswer, ShareCheck
from secureagg.he.deal import BoxContext, Dealer, seal
from secureagg.he.encrypt import Encryptor, OneTimeKey
from secureagg.he.sharing import pack_elements, unpack_elements
from secureagg.payload import Header
from secureagg.roster import Label
from tests.federation import Federation, quantised

__all__ = ["Parts", "dealing", "dealt", "off_by_one", "signed_answer", "signed_check"]

Grid = NDArray[np.int64]


@dataclass(frozen=True)
class Parts:
    """A contribution in pieces; `signed` puts it together again, with digests and signature made anew."""

    header: Header
    frames: tuple[bytes, ...]
    boxes: tuple[bytes, ...]

    @classmethod
    def of(cls, session: sa.Session, payload: bytes) -> Parts:
        plan, start = session.plan, session.plan.header_bytes
        frames = tuple(payload[start + f.start : start + f.start + f.size] for f in plan.packing.frames)
        start += plan.packing.ciphertext_bytes
        boxes = tuple(payload[start + m * plan.box_bytes :][: plan.box_bytes] for m in range(plan.committee.size))
        return cls(Header.from_bytes(payload[: plan.header_bytes], session), frames, boxes)

    def signed(self, session: sa.Session, identity: sa.Identity, *, digests: bool = True) -> bytes:
        """Return the bytes, signed by `identity`; without `digests`, those in the header stay as they are."""
        header = self.header
        if digests:
            frames, boxes = (tuple(hashlib.sha256(p).digest() for p in parts) for parts in (self.frames, self.boxes))
            header = replace(header, frames=frames, boxes=boxes)
        signature = identity.sign(Label.CONTRIBUTION, header.dealing().message(session.sid))
        encoded = replace(header, signature=signature).to_bytes(session.sid)
        return b"".join([encoded, *self.frames, *self.boxes])


def off_by_one(elements: Grid, modulus: int) -> Grid:
    """Return shares that lie on no polynomial of the dealing."""
    wrong = elements.copy()
    wrong[0] = (wrong[0] + 1) % modulus
    return wrong


def dealt(everyone: Federation, client_id: int, *, session: sa.Session | None = None, **arguments: Any) -> bytes:
    """Return the contribution that `dealing` makes of these arguments, signed."""
    parts, _ = dealing(everyone, client_id, session=session, **arguments)
    return parts.signed(session or everyone.session, everyone.clients[client_id])


def dealing(
    everyone: Federation,
    client_id: int,
    *,
    wrong: Callable[[Grid, int], Grid] = off_by_one,
    members: Iterable[int] = (),
    spoil: Callable[[bytes], bytes] = lambda box: box,
    grid: Iterable[int] | None = None,
    key_step: int = 0,
    session: sa.Session | None = None,
) -> tuple[Parts, Dealer]:
    """Return the parts of a contribution, not yet signed, and the dealer, who can draw its check polynomials again.

    Shares are altered by `wrong`, and then boxes by `spoil`, for these members; digests and share check are made of
    what is sent. grid: the values to encrypt, the weight last; by default what an honest client sends. key_step: what
    is added to the key's first coefficient before it is dealt.
    """
    session = session or everyone.session
    plan = session.plan
    if grid is None:
        grid = [*quantised(plan, everyone.update(client_id), 1, np.random.default_rng(client_id)), 1]
    values, key = np.array(list(grid), dtype=np.int64), OneTimeKey.generate(plan.packing)
    encryptor, ephemeral = Encryptor(plan.packing, session.sid, key), X25519PrivateKey.generate()
    dealer = Dealer(plan.sharing, key.coefficients + key_step * (np.arange(plan.sharing.secrets) == 0))
    frames = tuple(
        bytes(encryptor.encrypt(frame, values[slice(*plan.packing.frame_coordinates(frame))]))
        for frame in plan.packing.frames
    )
    boxes = []
    for member_id in range(plan.committee.size):
        plain = dealer.shares(member_id)
        if member_id in set(members):
            elements = unpack_elements(plan.sharing, plain, plan.sharing.secrets + plan.sharing.repetitions)
            plain = pack_elements(plan.sharing, wrong(elements, plan.sharing.modulus))
        public, prekey = session.roster.committee[member_id].encoded, session.prekeys[member_id].key
        box = seal(BoxContext(session.sid, client_id, member_id, public, prekey), ephemeral, plain)
        boxes.append(spoil(box) if member_id in set(members) else box)
    frame_digests, box_digests = (tuple(hashlib.sha256(p).digest() for p in parts) for parts in (frames, boxes))
    header = Header(client_id, b"", ephemeral.public_key().public_bytes_raw(), frame_digests, box_digests, b"")
    header = replace(header, check=dealer.check(header.dealing().challenge(session.sid)))
    return Parts(header, frames, tuple(boxes)), dealer


def signed_answer(everyone: Federation, answer: bytes, member_id: int | None = None, **changes: Any) -> bytes:
    """Return a member's answer with these fields changed, signed by the member it then claims to be from."""
    altered = replace(RevealAnswer.from_bytes(answer, everyone.session), **changes)
    if member_id is not None:
        altered = replace(altered, member_id=member_id)
    sid = everyone.session.sid
    identity = everyone.member_identities[altered.member_id]
    return replace(altered, signature=identity.sign(Label.REVEAL, altered.message(sid))).to_bytes(sid)


def signed_check(everyone: Federation, report: bytes, **changes: Any) -> bytes:
    """Return a member's share check with these fields changed, signed by that member."""
    altered, sid = replace(ShareCheck.from_bytes(report, everyone.session), **changes), everyone.session.sid
    identity = everyone.member_identities[altered.member_id]
    return replace(altered, signature=identity.sign(Label.SHARE_CHECK, altered.message(sid))).to_bytes(sid)
