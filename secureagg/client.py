"""The client's one message: clip, weigh, quantise, pack, encrypt, deal, sign. It may vanish afterwards.

Who sees plaintext: only this function, on the client's own machine.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import BinaryIO, overload

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from secureagg.checks import as_whole
from secureagg.dp.clipping import clip_factor
from secureagg.errors import ParameterError
from secureagg.events import Event, Observer
from secureagg.he.deal import BoxContext, Dealer, seal
from secureagg.he.encrypt import Encryptor, OneTimeKey
from secureagg.identity import Identity
from secureagg.layout import Layout, Weights, join_small
from secureagg.messages import Header
from secureagg.ring import workers
from secureagg.ring.xof import SecretStream
from secureagg.roster import Label
from secureagg.session import Session

__all__ = ["contribute"]


@overload
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = ...,
    *,
    rounding_rng: np.random.Generator | None = ...,
    out: None = ...,
    observe: Observer | None = ...,
) -> bytes: ...
@overload
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = ...,
    *,
    rounding_rng: np.random.Generator | None = ...,
    out: BinaryIO,
    observe: Observer | None = ...,
) -> None: ...
def contribute(
    session: Session,
    identity: Identity,
    update: Weights,
    weight: int = 1,
    *,
    rounding_rng: np.random.Generator | None = None,
    out: BinaryIO | None = None,
    observe: Observer | None = None,
) -> bytes | None:
    """Return this client's contribution to a session, or write it to `out`, a seekable binary file.

    update: arrays of the plan's layout (memory-mapped ones are read piece by piece); weight: whole, in
    [1, max_weight]; rounding_rng seeds the stochastic rounding alone: keys and errors always come from the operating
    system. `observe` is told the clip factor and how many coordinates were clamped.

    Raises: ParameterError for an update that does not fit the layout or is not finite, a weight out of range, an
    identity that is not on the roster, or a second contribution of this identity for one roster and round number.
    """
    plan = session.plan
    client_id = session.client_id(identity.public)
    weight = as_whole("weight (at most the plan's max_weight)", weight, 1, plan.max_weight)
    plan.layout.check_shapes(update)
    vector = join_small(update)
    try:
        clip = clip_factor(Layout.of(vector), vector, plan.l2_clip)
    except ParameterError:
        plan.layout.check_finite(update)  # names the tensor as the caller knows it
        raise
    buffer = bytearray(plan.bytes_per_client if out is None else 0)
    start = 0 if out is None else out.tell()
    identity.claim(session.roster.digest(), session.round_number)

    def write(offset: int, data: bytes | bytearray) -> None:
        if out is None:
            buffer[offset : offset + len(data)] = data
        else:
            out.seek(start + offset)
            out.write(data)

    key = OneTimeKey.generate(plan.packing)
    frames = _encrypt(session, key, vector, clip, weight, rounding_rng, write, observe)
    ephemeral = X25519PrivateKey.generate()
    dealer = Dealer(plan.sharing, key.coefficients)
    boxes = [_box(session, dealer, ephemeral, client_id, member_id) for member_id in range(plan.committee.size)]
    header = _signed_header(session, identity, client_id, ephemeral, dealer, frames, boxes)
    write(plan.header_bytes + plan.packing.ciphertext_bytes, b"".join(boxes))
    write(0, header)
    if out is None:
        return bytes(buffer)
    out.seek(start + plan.bytes_per_client)
    return None


def _box(session: Session, dealer: Dealer, ephemeral: X25519PrivateKey, client_id: int, member_id: int) -> bytes:
    public = session.roster.committee[member_id].encoded
    context = BoxContext(session.sid, client_id, member_id, public, session.prekeys[member_id].key)
    return seal(context, ephemeral, dealer.shares(member_id))


def _signed_header(
    session: Session,
    identity: Identity,
    client_id: int,
    ephemeral: X25519PrivateKey,
    dealer: Dealer,
    frames: tuple[bytes, ...],
    boxes: list[bytes],
) -> bytes:
    """Return the header: digests of all parts, the share check drawn from them, and the signature over everything."""
    digests = tuple(hashlib.sha256(box).digest() for box in boxes)
    unsigned = Header(client_id, b"", ephemeral.public_key().public_bytes_raw(), frames, digests, b"")
    check = dealer.check(unsigned.dealing().challenge(session.sid))
    message = replace(unsigned, check=check).dealing().message(session.sid)
    signature = identity.sign(Label.CONTRIBUTION, message)
    return replace(unsigned, check=check, signature=signature).to_bytes(session.sid)


def _encrypt(
    session: Session,
    key: OneTimeKey,
    vector: Weights,
    clip: float,
    weight: int,
    rounding_rng: np.random.Generator | None,
    write: Callable[[int, bytearray], None],
    observe: Observer | None,
) -> tuple[bytes, ...]:
    """Clip, weigh, quantise, pack and encrypt, frame by frame on all cores; return the frames' digests."""
    plan, packing, layout = session.plan, session.plan.packing, Layout.of(vector)
    encryptor = Encryptor(packing, session.sid, key)
    rounding = SecretStream(None if rounding_rng is None else rounding_rng.bytes(32)).reserve(packing.coordinates)
    digests = [b""] * len(packing.frames)
    lock = threading.Lock()
    clamped = done = 0

    def encrypt_frame(index: int) -> None:
        nonlocal clamped, done
        frame = packing.frames[index]
        first, last = packing.frame_coordinates(frame)
        end = min(last, layout.size)
        words = np.empty(2 * -(-(end - first) // 4), dtype=np.uint64)  # whole blocks of the stream, two values a word
        rounding.fill(first // 2, words)
        values, beyond = plan.quantiser.quantise(
            layout.gather(vector, first, end), clip, weight / plan.max_weight, words.view(np.uint32)
        )
        if last > end:
            values = np.append(values, weight)  # the coordinate after the last value
        data = encryptor.encrypt(frame, values)
        digests[index] = hashlib.sha256(data).digest()
        with lock:
            write(plan.header_bytes + frame.start, data)
            clamped += beyond
            done += 1
            if observe is not None:
                observe(Event("encrypt", done, len(packing.frames)))

    def encrypt_frames(start: int, stop: int) -> None:
        for index in range(start, stop):
            encrypt_frame(index)

    workers.run(encrypt_frames, len(packing.frames))
    if observe is not None:
        observe(Event("clip", 1, 1, clip_factor=clip, clamped=clamped))
    return tuple(digests)
