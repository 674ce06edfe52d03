"""What the verifier of the test vectors reads and recomputes of messages: contributions, boxes, requests and answers.

Written from docs/wire-format.md, as by_hand.py; shares no code with the library.
"""

from __future__ import annotations

import hmac
import math
import struct
from dataclasses import dataclass
from typing import Any

from by_hand import Fields, Plan, Refused, Rows, labelled, le, require, residues, sha256, unpack, words
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

EVERY_MEMBER = 255


def derive(secret: bytes, info: bytes) -> bytes:
    """HKDF-Expand with SHA-256 (RFC 5869), 32 bytes."""
    return hmac.digest(secret, info + b"\x01", "sha256")


def verify(public: bytes, label: bytes, message: bytes, signature: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public[:32]).verify(signature, labelled(label) + message)
    except InvalidSignature:
        raise Refused(f"{what}: signature") from None


def session_id(plan: Plan, roster: bytes, prekeys: list[bytes], round_number: int, model: list[bytes]) -> bytes:
    parts = [labelled(b"secureagg v1 session"), sha256(plan.encoded), sha256(roster)]
    parts += [le(len(prekey), 4) + prekey for prekey in prekeys]
    return sha256(*parts, le(round_number, 8), sha256(plan.layout, *model))


@dataclass(frozen=True)
class Contribution:
    client: int
    signature: bytes
    ephemeral: bytes
    ciphertext: bytes  # digest of the frame digests
    box_digests: list[bytes]
    check: bytes
    rows: Rows
    boxes: list[bytes]
    challenge: bytes
    digest: bytes

    def dealing(self) -> bytes:
        head = le(self.client, 4) + self.signature + self.ephemeral + self.ciphertext
        return head + b"".join(self.box_digests) + self.check


def contribution(plan: Plan, sid: bytes, contributors: list[bytes], encoded: bytes) -> Contribution:
    fields = Fields(encoded, "contribution")
    require(len(encoded) == plan.contribution, "contribution: length")
    fields.start(b"SAco")
    require(fields.raw(32) == sid, "contribution: session id")
    client = fields.integer(4)
    what = f"contribution {client}"
    require(client < len(contributors), f"{what}: not on the roster")
    signature, ephemeral = fields.raw(64), fields.raw(32)
    frames = [fields.raw(32) for _ in plan.frames]
    digests = [fields.raw(32) for _ in range(plan.k)]
    check = fields.raw(plan.check_size)
    ciphertext = fields.raw(plan.ciphertext)
    boxes = [fields.raw(plan.box) for _ in range(plan.k)]
    fields.end()
    challenge = sha256(sid, le(client, 4), sha256(*frames), ephemeral, *digests)
    verify(contributors[client], b"secureagg v1 contribution", challenge + check, signature, what)
    for frame, digest in zip(plan.frames, frames, strict=True):
        require(sha256(ciphertext[frame.start :][: frame.size]) == digest, f"{what}: frame digest")
    require([sha256(box) for box in boxes] == digests, f"{what}: box digest")
    rows = residues(plan, ciphertext, f"{what}: ciphertext")
    digest = sha256(challenge, check, signature)
    return Contribution(client, signature, ephemeral, sha256(*frames), digests, check, rows, boxes, challenge, digest)


def shares(
    plan: Plan, sid: bytes, given: Contribution, member: int, public: bytes, prekey: bytes, secrets: tuple[bytes, bytes]
) -> list[int] | None:
    """One member's shares in a contribution, or None where it must complain. secrets: prekey, long-term key."""
    ephemeral = X25519PublicKey.from_public_bytes(given.ephemeral)
    info = labelled(b"secureagg v1 box") + sid + le(given.client, 4) + le(member, 1) + public + prekey + given.ephemeral
    agreed = b"".join(X25519PrivateKey.from_private_bytes(secret).exchange(ephemeral) for secret in secrets)
    key = derive(hmac.digest(bytes(32), agreed, "sha256"), info)
    try:
        plain = ChaCha20Poly1305(key).decrypt(bytes(12), given.boxes[member], info)
    except InvalidTag:
        return None
    try:
        elements = unpack(plain, plan.width, plan.secrets + plan.R, plan.p, "shares")
        published = unpack(given.check, plan.width, plan.R * plan.t, plan.p, "check")
    except Refused:
        return None
    rho = words(given.challenge, "share check", 0, plan.R * plan.secrets)
    for r in range(plan.R):
        combined = sum(w % plan.p * s for w, s in zip(rho[r * plan.secrets :], elements[: plan.secrets], strict=False))
        claimed = sum(published[k * plan.R + r] * (member + 1) ** k for k in range(plan.t))
        if (combined + elements[plan.secrets + r] - claimed) % plan.p:
            return None
    return elements[: plan.secrets]


def request(plan: Plan, sid: bytes, kind: int, member: int, chosen: list[Contribution]) -> bytes:
    carried = range(plan.k) if member == EVERY_MEMBER else (member,)
    head = b"SArq\x01" + sid + le(kind, 1) + le(member, 1) + le(len(chosen), 4)
    return head + b"".join(each.dealing() + b"".join(each.boxes[m] for m in carried) for each in chosen)


def request_digest(sid: bytes, chosen: list[Contribution]) -> bytes:
    return sha256(b"secureagg v1 request", sid, *(each.digest for each in chosen))


def answer(
    encoded: bytes, magic: bytes, label: bytes, sid: bytes, members: list[bytes], what: str, has_sums: bool
) -> tuple[int, bytes, list[int], bytes]:
    """A share check or a reveal answer: (member, request digest, complaints, packed sums)."""
    fields = Fields(encoded, what)
    fields.start(magic)
    require(fields.raw(32) == sid, f"{what}: session id")
    member, about = fields.integer(1), fields.raw(32)
    complaints = [fields.integer(4) for _ in range(fields.integer(4))]
    require(complaints == sorted(set(complaints)), f"{what}: complaints are not ascending")
    sums = fields.raw(fields.integer(4)) if has_sums else b""
    signature = fields.raw(64)
    fields.end()
    require(member < len(members), f"{what}: not on the roster")
    verify(members[member], label, encoded[5:-64], signature, f"{what} of member {member}")
    return member, about, complaints, sums


def require_rounded(plan: Plan, each: dict[str, Any], what: str) -> None:
    """That the grid values are roundings of the update, with the client's noise where it adds any."""
    values = [
        x
        for tensor, (code, size) in zip(each["update"], plan.tensors, strict=True)
        for x in struct.unpack(f"<{size}{code}", bytes.fromhex(tensor))
    ]
    norm = math.sqrt(math.fsum(x * x for x in values))
    factor = min(1.0, plan.clip / norm if norm else 1.0)
    require(("noise" in each) == (plan.noise_by == "clients"), f"{what}: noise")
    for x, v, noise in zip(values, each["grid"], each.get("noise", [0] * plan.d), strict=True):
        clamped = min(max(x * factor, -plan.x_max), plan.x_max)
        exact = clamped * plan.C / plan.x_max * each["weight"] / plan.max_weight
        require(abs(v - noise - exact) < 1 + 1e-6, f"{what}: grid values")
        require(abs(noise) <= plan.T, f"{what}: noise beyond its bound")
