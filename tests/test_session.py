"""Sessions: everything enters the id, and prekeys are their members' own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.errors import EncodingError, FaultyMemberError, ParameterError
from secureagg.roster import Label, PublicIdentity
from secureagg.session import MAX_ROUND, Prekey, model_digest
from tests.federation import Federation, federation, seeded, toy_plan
from tests.he.test_deal import LOW_ORDER


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with federation() as made:
        yield made


def test_the_id_is_the_hash_it_says(everyone: Federation) -> None:
    session = everyone.session
    label = b"secureagg v1 session"
    parts = [len(label).to_bytes(4, "little"), label]
    parts += [hashlib.sha256(everyone.plan.to_bytes()).digest(), hashlib.sha256(everyone.roster.to_bytes()).digest()]
    for member in everyone.members:
        parts += [(4 + 1 + 8 + 64 + 32 + 64).to_bytes(4, "little"), member.prekey(1)]
    parts += [(1).to_bytes(8, "little"), session.model_digest]
    assert session.sid == hashlib.sha256(b"".join(parts)).digest()
    model = hashlib.sha256(everyone.plan.layout.to_bytes())
    for tensor in everyone.model:
        model.update(b"".join(np.asarray(x).astype(tensor.dtype.newbyteorder("<")).tobytes() for x in tensor.ravel()))
    assert session.model_digest == model.digest()
    model.update(b"lr = 0.1")
    assert everyone.session_of(1, task=b"lr = 0.1").model_digest == model.digest()


def test_every_part_enters_the_id(everyone: Federation) -> None:
    other_model = [tensor.copy() for tensor in everyone.model]
    other_model[0][0, 0] = np.nextafter(other_model[0][0, 0], np.float32(1))
    swapped = sa.Roster([c.public for c in everyone.clients[::-1]], [m.public for m in everyone.members])
    sessions = [
        everyone.session,
        everyone.session_of(2),
        everyone.session_of(1, model=other_model),
        everyone.session_of(1, task=b"lr = 0.1"),
        everyone.session_of(1, plan=toy_plan(quorum=3)),
        everyone.session_of(1, plan=toy_plan(l2_clip=10.5)),
        everyone.session_of(1, roster=swapped),
    ]
    everyone.members[0]._journal.erase_prekey(1)
    sessions.append(everyone.session_of(1))
    assert len({session.sid for session in sessions}) == len(sessions)
    assert all(len(session.sid) == 32 for session in sessions)


def test_a_model_is_the_same_in_every_memory_layout() -> None:
    model = [np.arange(12.0).reshape(3, 4), np.array(3.0, dtype=np.float32)]
    layout = sa.Layout.of(model)
    for same in ([np.asfortranarray(model[0]), model[1]], [model[0].astype(">f8"), model[1].astype(">f4")]):
        assert model_digest(layout, same) == model_digest(layout, model)
    assert model_digest(layout, [model[0].T.reshape(3, 4), model[1]]) != model_digest(layout, model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"plan": toy_plan(clients=5)}, "roster has 4 clients and 3 committee members, the plan 5 and 3"),
        ({"plan": toy_plan(committee=sa.Committee(2))}, "the plan 4 and 2"),
        ({"round_number": -1}, "round_number must be a whole number"),
        ({"round_number": MAX_ROUND + 1}, "round_number must be a whole number"),
        ({"round_number": 1.5}, "round_number must be a whole number"),
        ({"round_number": True}, "round_number must be a whole number"),
        ({"round_number": None}, "round_number must be a whole number"),
        ({"round_number": float("nan")}, "round_number must be a whole number"),
        ({"prekeys": []}, "0 prekeys given, the committee has 3 members"),
        ({"model": [np.zeros(3, dtype=np.float32)]}, "1 tensors given, 4 expected"),
    ],
)
def test_what_does_not_fit_together_is_refused(everyone: Federation, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        everyone.session_of(1, **changes)


def test_a_model_with_nan_is_refused(everyone: Federation) -> None:
    model = [tensor.copy() for tensor in everyone.model]
    model[3][2] = np.nan
    with pytest.raises(ParameterError, match="tensor 3 holds NaN"):
        everyone.session_of(1, model=model)


def test_prekeys_are_their_members_for_this_round(everyone: Federation) -> None:
    prekeys = [member.prekey(1) for member in everyone.members]
    with pytest.raises(ParameterError, match="prekey 0 is of another member or round"):
        everyone.session_of(1, prekeys=[prekeys[1], prekeys[0], prekeys[2]])
    with pytest.raises(ParameterError, match="prekey 2 is of another member or round"):
        everyone.session_of(1, prekeys=[*prekeys[:2], everyone.members[2].prekey(2)])
    # A prekey of the right member that somebody else signed.
    honest = Prekey.from_bytes(prekeys[1])
    signature = seeded("mallory").sign(Label.PREKEY, Prekey.message(1, honest.key))
    forged = Prekey(1, honest.member, honest.key, signature).to_bytes()
    with pytest.raises(EncodingError, match="committee member 1: the signature of this prekey is wrong"):
        everyone.session_of(1, prekeys=[prekeys[0], forged, prekeys[2]])


def signed_prekey(identity: sa.Identity, key: bytes, round_number: int = 1) -> bytes:
    signature = identity.sign(Label.PREKEY, Prekey.message(round_number, key))
    return Prekey(round_number, PublicIdentity(identity.public), key, signature).to_bytes()


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_a_member_with_a_low_order_key_is_named(everyone: Federation, point: bytes) -> None:
    """No client could seal a box to it; properly signed, so the member is to blame."""
    prekeys = [member.prekey(1) for member in everyone.members]
    prekeys[2] = signed_prekey(everyone.member_identities[2], point)
    with pytest.raises(FaultyMemberError, match="committee member 2: one of its X25519 keys is a low-order") as caught:
        everyone.session_of(1, prekeys=prekeys)
    assert caught.value.member_id == 2


def test_a_long_term_low_order_key_is_named(everyone: Federation) -> None:
    identity = everyone.member_identities[0]
    public = identity.public[:32] + bytes(32)
    key = Prekey.from_bytes(everyone.members[0].prekey(1)).key
    signature = identity.sign(Label.PREKEY, Prekey.message(1, key))
    roster = sa.Roster([c.public for c in everyone.clients], [public, *(m.public for m in everyone.members[1:])])
    prekeys = [Prekey(1, PublicIdentity(public), key, signature).to_bytes()]
    with pytest.raises(FaultyMemberError, match=r"committee member 0: .*low-order"):
        everyone.session_of(1, roster=roster, prekeys=prekeys + [member.prekey(1) for member in everyone.members[1:]])


def test_prekey_bytes(everyone: Federation) -> None:
    identity = everyone.member_identities[1]
    encoded = signed_prekey(identity, bytes([9]) + bytes(31), 7)
    message = (7).to_bytes(8, "little") + bytes([9]) + bytes(31)
    signature = identity.sign(Label.PREKEY, message)
    assert encoded == b"SApk\x01" + (7).to_bytes(8, "little") + identity.public + message[8:] + signature
    assert Prekey.from_bytes(encoded).to_bytes() == encoded
    for altered in (encoded[:-1], encoded + b"\0", b"SApx" + encoded[4:], encoded[:4] + b"\2" + encoded[5:], b""):
        with pytest.raises(EncodingError, match="prekey: "):
            Prekey.from_bytes(altered)
    for position in range(5, len(encoded)):
        if position in range(13 + 32, 13 + 64):
            continue  # the member's X25519 half is not signed here: the roster vouches for it
        altered = bytearray(encoded)
        altered[position] ^= 4
        with pytest.raises(EncodingError, match="signature of this prekey is wrong"):
            Prekey.from_bytes(bytes(altered))


def test_ids_are_positions(everyone: Federation) -> None:
    session = everyone.session
    assert [session.client_id(c.public) for c in everyone.clients] == [0, 1, 2, 3]
    assert [session.member_id(m.public) for m in everyone.members] == [0, 1, 2]
    with pytest.raises(ParameterError, match="not a client on the roster"):
        session.client_id(everyone.members[0].public)
    with pytest.raises(ParameterError, match="not a committee member on the roster"):
        session.member_id(everyone.clients[0].public)


def test_repr_is_short(everyone: Federation) -> None:
    assert repr(everyone.session) == f"Session(round_number=1, sid={everyone.session.sid.hex()[:16]}…)"
