"""Identities: derived from one seed, never shown, and one contribution per roster and round number."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import pickle
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from secureagg.errors import EncodingError, ParameterError
from secureagg.identity import Identity, KeyChallenge
from secureagg.roster import Label, PublicIdentity
from tests.federation import seeded

SEED = bytes(range(32))


def expanded(label: bytes) -> bytes:
    """HKDF-Expand with SHA-256 for one block (RFC 5869, section 2.3)."""
    return hmac.digest(SEED, label + b"\x01", hashlib.sha256)


def test_the_keys_are_derived_as_documented() -> None:
    signing = Ed25519PrivateKey.from_private_bytes(expanded(b"secureagg v1 signing"))
    agreement = X25519PrivateKey.from_private_bytes(expanded(b"secureagg v1 agreement"))
    public = signing.public_key().public_bytes_raw() + agreement.public_key().public_bytes_raw()
    identity = Identity(SEED)
    assert identity.public == public
    assert identity.to_seed() == SEED
    label = Label.REVEAL.value
    assert identity.sign(Label.REVEAL, b"m") == signing.sign(len(label).to_bytes(4, "little") + label + b"m")
    peer = X25519PrivateKey.from_private_bytes(SEED)
    assert identity.agree(peer.public_key()) == peer.exchange(agreement.public_key())


def test_generated_identities_differ() -> None:
    assert len({Identity.generate().public for _ in range(10)}) == 10
    assert Identity(Identity.generate().to_seed()).public != Identity.generate().public


@pytest.mark.parametrize("seed", [b"", bytes(31), bytes(33), "0" * 32, bytearray(32), None], ids=repr)
def test_a_seed_is_32_bytes(seed: bytes) -> None:
    with pytest.raises(ParameterError, match=r"seed is 32 bytes; use Identity.generate\(\)"):
        Identity(seed)


def test_a_signature_is_for_one_purpose() -> None:
    identity = Identity(SEED)
    public = PublicIdentity(identity.public)
    for made in Label:
        signature = identity.sign(made, b"message")
        public.verify(made, b"message", signature)
        for asked in set(Label) - {made}:
            with pytest.raises(ValueError, match=r"signature .* is wrong"):
                public.verify(asked, b"message", signature)


def test_one_claim_per_roster_and_round() -> None:
    identity = Identity(SEED)
    identity.claim(b"roster", 1)
    identity.claim(b"roster", 2)
    identity.claim(b"another roster", 1)
    with pytest.raises(ParameterError, match="already contributed to round 1 under this roster"):
        identity.claim(b"roster", 1)
    seeded("another").claim(b"roster", 1)


def test_threads_that_claim_at_once_get_one_claim() -> None:
    identity, won, barrier = Identity(SEED), [], threading.Barrier(8)

    def claim() -> None:
        barrier.wait()
        try:
            identity.claim(b"roster", 1)
            won.append(True)
        except ParameterError:
            pass

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [True]


def test_no_secret_is_shown_copied_or_pickled() -> None:
    identity = Identity(SEED)
    assert repr(identity) == str(identity) == f"Identity(public={identity.public.hex()[:16]}…)"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            attempt(identity)
    with pytest.raises(TypeError):
        json.dumps(identity)
    assert not hasattr(identity, "__dict__")


def test_a_low_order_peer_is_refused() -> None:
    with pytest.raises(ValueError, match="shared key"):
        Identity(SEED).agree(X25519PublicKey.from_public_bytes(bytes(32)))


def test_a_confirmation_is_what_is_documented() -> None:
    challenge, identity = KeyChallenge(), Identity(SEED)
    agreement = X25519PrivateKey.from_private_bytes(expanded(b"secureagg v1 agreement"))
    secret = agreement.exchange(X25519PublicKey.from_public_bytes(challenge.public))
    label = b"secureagg v1 key confirmation"
    info = len(label).to_bytes(4, "little") + label + challenge.public + identity.public + b"message"
    extracted = hmac.digest(bytes(32), secret, hashlib.sha256)
    confirmation = hmac.digest(extracted, info + b"\x01", hashlib.sha256)
    assert identity.confirm(challenge.public, b"message") == confirmation
    challenge.verify(PublicIdentity(identity.public), b"message", confirmation)


def test_a_confirmation_is_for_one_challenge_message_and_identity() -> None:
    challenge, identity, other = KeyChallenge(), Identity(SEED), Identity.generate()
    confirmation = identity.confirm(challenge.public, b"message")
    public = PublicIdentity(identity.public)
    halves = PublicIdentity(other.public[:32] + identity.public[32:])  # whose X25519 key is another's
    for asks, party, message, given in (
        (KeyChallenge(), public, b"message", confirmation),
        (challenge, PublicIdentity(other.public), b"message", confirmation),
        (challenge, halves, b"message", confirmation),
        (challenge, halves, b"message", other.confirm(challenge.public, b"message")),
        (challenge, public, b"messages", confirmation),
        (challenge, public, b"message", confirmation[:-1]),
        (challenge, public, b"message", b""),
        (challenge, public, b"message", bytes([confirmation[0] ^ 1]) + confirmation[1:]),
    ):
        with pytest.raises(EncodingError, match="X25519 key is not confirmed"):
            asks.verify(party, message, given)


def test_no_secret_is_agreed_with_a_low_order_point() -> None:
    identity, low = Identity(SEED), bytes(32)
    with pytest.raises(EncodingError, match="low-order"):
        KeyChallenge().verify(PublicIdentity(identity.public[:32] + low), b"message", bytes(32))
    for challenge in (low, bytes(31), b""):
        with pytest.raises(EncodingError, match="no X25519 key that a secret can be agreed with"):
            identity.confirm(challenge, b"message")


def test_a_challenge_shows_no_secret() -> None:
    challenge = KeyChallenge()
    assert len({KeyChallenge().public for _ in range(4)}) == 4
    assert repr(challenge) == f"KeyChallenge(public={challenge.public.hex()[:16]}…)"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(challenge)
