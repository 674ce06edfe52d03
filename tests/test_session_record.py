"""The session's record: what an auditor reads of a round, whole and canonical or not at all."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

import secureagg as sa
from secureagg.errors import EncodingError, FaultyMemberError
from secureagg.roster import Label, PublicIdentity
from secureagg.session import Prekey
from secureagg.verification import Verdict, verify_many
from tests.federation import Federation, seeded, toy_plan
from tests.he.test_deal import LOW_ORDER
from tests.proving import proven_federation


@pytest.fixture(scope="module")
def everyone() -> Iterator[Federation]:
    with proven_federation() as made:
        yield made


def blob(part: bytes) -> bytes:
    return len(part).to_bytes(4, "little") + part


def record(everyone: Federation, **changes: object) -> bytes:
    """Return the record by docs/wire-format.md, with these parts changed."""
    parts: dict[str, object] = {
        "magic": b"SAse",
        "version": 1,
        "plan": everyone.plan.to_bytes(),
        "roster": everyone.roster.to_bytes(),
        "prekeys": [member.prekey(1) for member in everyone.members],
        "round": 1,
        "model": everyone.session.model_digest,
    }
    parts |= changes
    encoded = parts["magic"] + bytes([parts["version"]]) + blob(parts["plan"]) + blob(parts["roster"])
    encoded += b"".join(blob(prekey) for prekey in parts["prekeys"])
    return encoded + parts["round"].to_bytes(8, "little") + parts["model"]


def read(encoded: bytes) -> sa.Session:
    return sa.Session.from_bytes(encoded, allow_insecure=True)


def test_a_record_is_the_session_again(everyone: Federation) -> None:
    session = everyone.session
    assert session.to_bytes() == record(everyone)
    again = read(session.to_bytes())
    assert (again.sid, again.round_number, again.model_digest) == (session.sid, 1, session.model_digest)
    assert (again.plan, again.roster.digest(), again.prekeys) == (
        session.plan, session.roster.digest(), session.prekeys,
    )  # fmt: skip
    assert again.to_bytes() == session.to_bytes() and repr(again) == repr(session)
    crossed = pickle.loads(pickle.dumps(session))
    assert (crossed.sid, crossed.to_bytes()) == (session.sid, session.to_bytes())


def test_an_auditor_verifies_with_the_record_alone(everyone: Federation) -> None:
    again = read(everyone.session.to_bytes())
    payloads = [everyone.contribution(0), everyone.contribution(3)]
    assert verify_many(again, payloads) == [Verdict(0, None), Verdict(3, None)]


def test_toy_plans_need_the_readers_leave(everyone: Federation) -> None:
    with pytest.raises(EncodingError, match="allows toy parameters; only tests accept that"):
        sa.Session.from_bytes(everyone.session.to_bytes())


def test_a_record_with_another_model_or_round_is_another_session(everyone: Federation) -> None:
    """What nothing else contradicts is told by a comparison of the id with a pinned one, and by nothing else."""
    other_round = [member.prekey(2) for member in everyone.members]
    reordered = sa.Roster([c.public for c in everyone.clients[::-1]], [m.public for m in everyone.members])
    others = [
        record(everyone, model=bytes(32)),
        record(everyone, round=2, prekeys=other_round),
        record(everyone, plan=toy_plan(proofs=True, l2_clip=1.0, value_bound=None, quorum=3).to_bytes()),
        record(everyone, roster=reordered.to_bytes()),
    ]
    assert len({read(each).sid for each in others} | {everyone.session.sid}) == 5
    payload = everyone.contribution(1)
    for each in others:
        (verdict,) = verify_many(read(each), [payload])
        assert verdict.client_id is None and "made for another session" in (verdict.reason or "")


def test_what_contradicts_the_rest_is_refused(everyone: Federation) -> None:
    plan, prekeys = everyone.plan, [member.prekey(1) for member in everyone.members]
    changed = bytearray(prekeys[1])
    changed[90] ^= 1
    more = sa.Roster([seeded(f"other {i}").public for i in range(5)], [m.public for m in everyone.members])
    optimistic = plan.to_bytes().replace(b'"robust"', b'"optimistic"')
    for encoded, message in (
        (record(everyone, magic=b"SAsf"), "session record: starts with"),
        (record(everyone, version=2), "format version 2 is unknown"),
        (record(everyone, round=2), "prekey 0 is of another member or round"),
        (record(everyone, round=2**63, prekeys=prekeys), "round_number"),
        (record(everyone, prekeys=prekeys[:2]), "truncated|prekey"),
        (record(everyone, prekeys=[*prekeys, prekeys[0]]), "trailing bytes"),
        (record(everyone, prekeys=prekeys[::-1]), "prekey 0 is of another member or round"),
        (record(everyone, prekeys=[prekeys[0], bytes(changed), prekeys[2]]), "committee member 1: .*signature"),
        (record(everyone, prekeys=[prekeys[0], b"", prekeys[2]]), "committee member 1: prekey: truncated"),
        (record(everyone, plan=b""), "plan: "),
        (record(everyone, plan=plan.to_bytes() + b" "), "plan: not in canonical form"),
        (record(everyone, plan=optimistic), "plan: not in canonical form"),
        (record(everyone, plan=plan.to_bytes().replace(b'"proofs":true', b'"proofs":1')), "plan: "),
        (record(everyone, plan=toy_plan(clients=3).to_bytes()), "the roster has 4 clients and 3 committee members"),
        (record(everyone, plan=toy_plan(committee=sa.Committee(2)).to_bytes()), "trailing bytes|the roster has"),
        (record(everyone, roster=more.to_bytes()), "the roster has 5 clients"),
        (record(everyone, roster=everyone.roster.to_bytes()[:-1]), "roster"),
        (record(everyone) + b"\0", "session record: 1 trailing bytes"),
        (record(everyone)[:-1], "session record: truncated"),
        (b"", "session record: truncated"),
    ):
        with pytest.raises(EncodingError, match=message):
            read(encoded)


def test_every_truncation_and_every_byte_is_refused_or_another_session(everyone: Federation) -> None:
    """A changed byte may make another valid session, never the same one."""
    encoded, sid = everyone.session.to_bytes(), everyone.session.sid
    for length in range(0, len(encoded), 97):
        with pytest.raises(EncodingError):
            read(encoded[:length])
    accepted = 0
    for place in range(0, len(encoded), 23):
        altered = bytearray(encoded)
        altered[place] ^= 0x11
        try:
            assert read(bytes(altered)).sid != sid
        except (EncodingError, FaultyMemberError):
            continue
        accepted += 1
    assert 0 < accepted < len(encoded) / 23  # the model's digest, and clients' keys


def test_a_member_that_nobody_can_agree_with_is_named(everyone: Federation) -> None:
    """Its prekey is a low-order point, properly signed."""
    identity = everyone.member_identities[2]
    signature = identity.sign(Label.PREKEY, Prekey.message(1, LOW_ORDER[0]))
    low = Prekey(1, PublicIdentity(identity.public), LOW_ORDER[0], signature).to_bytes()
    prekeys = [everyone.members[0].prekey(1), everyone.members[1].prekey(1), low]
    with pytest.raises(FaultyMemberError) as caught:
        read(record(everyone, prekeys=prekeys))
    assert caught.value.member_id == 2
    key = X25519PrivateKey.generate().public_key().public_bytes_raw()
    signature = identity.sign(Label.PREKEY, Prekey.message(1, key))
    fresh = Prekey(1, PublicIdentity(identity.public), key, signature).to_bytes()
    assert read(record(everyone, prekeys=[*prekeys[:2], fresh])).sid != everyone.session.sid
