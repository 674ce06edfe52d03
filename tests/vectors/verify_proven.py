"""Verifies the stored contributions with proofs from their bytes alone, written from docs/wire-format.md.

Shares no code with the library. What it covers: session and its record, the numbers of a plan with proofs, header,
digests, signature, boxes, shares over F_q, and that the dealt key opens the ciphertext to values and weight, of a
client's contribution, with its own noise where the plan says so, or of a member's noise. The proof itself is covered by
the vectors in `proofs` and their verifier, here by its length and digest.
`python verify_proven.py FILE…` prints what each file holds, or the reason for which it is refused.
"""

from __future__ import annotations

import base64
import hmac
import json
import math
import sys
import zlib
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

from by_hand import (
    PRIMES,
    SIGMA,
    Fields,
    Frame,
    Plan,
    Refused,
    centred,
    decode,
    error_bound,
    interpolate,
    labelled,
    le,
    public_residue,
    require,
    residues,
    sha256,
    skellam_bound,
    skellam_square_bound,
    square_bound,
    unpack,
    wide_enough,
)
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from messages import derive, require_rounded, session_id, verify


def root_up(square: int) -> int:
    """⌈√square⌉."""
    return math.isqrt(square - 1) + 1


class ProvenPlan(Plan):
    """What follows from a plan with proofs, without the range argument of its clients; a proof's length is taken as
    given.
    """

    def __init__(self, encoded: bytes, proof: int) -> None:
        super().__init__(encoded)
        require(json.loads(encoded)["proofs"] is True and self.mode == "robust", "plan: no proofs")
        self.proof = proof
        self.header += 64
        self.contribution += 64 + proof

    def _noise(self, noise: dict[str, Any] | None) -> None:
        """T as ever; B_n² and T₁, what one party's noise is held to in norm and coordinate."""
        super()._noise(noise)
        self.Bn2 = self.T1 = 0
        if noise is not None:
            sigma, exact = float.fromhex(noise["noise_std_grid"]), Decimal(repr(float.fromhex(noise["noise_std_grid"])))
            skellam = noise["mechanism"] == "skellam"
            self.T1 = skellam_bound(sigma**2, self.d, 60) if skellam else error_bound(1, self.d, exact, 60)
            self.Bn2 = skellam_square_bound(sigma**2, self.d, 60) if skellam else square_bound(exact, self.d, 60)
        corrupt = self.corrupt_clients + (self.corrupt_members if self.noise_by == "committee" else 0)
        require(corrupt == 0, "plan: corrupt contributors, for whom this verifier has no bound")

    def _pack(self) -> None:
        """B², V, then f, Δ, W, L with B_e² and the steering s, then the chunks."""
        with localcontext() as context:
            context.prec = 60
            d, clip = Decimal(self.d), Decimal(self.C / self.x_max * self.clip)
            bits = 10 if self.noise_by is None else 60
            usual = clip * clip + d / 4 + (2 * bits * Decimal(2).ln()).sqrt() * (clip + d.sqrt() / 2)
            self.B2 = int(min(usual, (clip + d.sqrt()) ** 2))
        if self.noise_by == "clients":
            self.B2 = (math.isqrt(self.B2) + 1 + math.isqrt(self.Bn2) + 1) ** 2
        V = math.isqrt(self.B2)
        largest = self._summed(V) + self.a + 1
        fields = range(self.q.bit_length() // (largest.bit_length() + 1), 0, -1)
        require(any(self._fits(f, V) for f in fields), "plan: no packing fits")
        self.frames, self.ciphertext = [], 0
        run = max(1, 2**16 // self.N)
        full, rest = divmod(self.coefficients, self.N)
        shapes = [(first, min(run, full - first), self.N) for first in range(0, full, run)]
        for first, chunks, n in shapes + ([(full, 1, rest)] if rest else []):
            size = chunks * n * 52 // 8
            self.frames.append(Frame(first, chunks, n, self.ciphertext, size))
            self.ciphertext += size

    def _summed(self, V: int) -> int:
        """What a coordinate of the sum stays within, but for what errors steer it by."""
        members = self.T if self.noise_by == "committee" else 0
        return max(self.n_max * V + members, self.n_max * self.max_weight)

    def _fits(self, f: int, V: int) -> bool:
        """Whether f fields a coefficient satisfy the inequalities; sets all numbers. One key, no corrupt client."""
        needed = -(-(self.d + 1) // f)
        self.f, self.coefficients = f, max(2 * self.N, -(-needed // 16) * 16)
        self.J = self.step = -(-self.coefficients // self.N)
        self.keys = 1
        require(wide_enough(self.N * (1 + self.J)), "plan: more than one key")
        self.E = error_bound(self.a, self.coefficients)
        self.Be2 = square_bound(SIGMA, self.coefficients, 40)
        s = 1
        while True:
            self.L = self._summed(V) + self.a * s + 1
            self.W, self.steering = self.L.bit_length() + 1, self.a * s + 1
            message = sum(self.L << self.W * k for k in range(f))
            room = 2 * self.q - 1 - 4 * self.a * root_up(self.Be2)
            self.delta = min(room // (4 * message + 1), 2**31)
            if self.delta <= 4 * self.E:
                return False
            if s >= -(-root_up(self.Be2) // self.delta):
                chunk, place = divmod(self.d, f * self.N)  # of the weight, and its place there, field after field
                in_field_0 = place < min(self.N, self.coefficients - chunk * self.N)
                still = 2 * (self.n_max * root_up(self.Be2) + self.E) < self.delta
                return still or self.max_weight == 1 or not in_field_0
            s = -(-root_up(self.Be2) // self.delta)

    def _share(self) -> None:
        """Shares over F_q: three repetitions, q^3 > 2^112."""
        self.secrets, self.p, self.R, self.width = self.keys * self.N, PRIMES[0], 3, 52
        self.share_size, self.check_size, self.answer_size = (
            -(-count * self.width // 8) for count in (self.secrets + self.R, self.R * self.t, self.secrets)
        )


class ProvenVector:
    """The stored contribution, checked step by step."""

    def __init__(self, stored: dict[str, Any]) -> None:
        require(stored["format"] == "secureagg proven vector v1", "vector: format")
        self.stored = stored
        self.plan = ProvenPlan(stored["plan"].encode(), stored["derived"]["proof"])
        derived = {name: getattr(self.plan, name) for name in stored["derived"]}
        require(derived == stored["derived"], "plan: derived numbers")
        self._session()
        self._header(zlib.decompress(base64.b64decode(stored["contribution"])))
        shares = {m + 1: self._shares(m) for m in range(self.plan.k)}
        self._opened(shares)

    def _session(self) -> None:
        """The session id, and the record an auditor would be given."""
        stored, plan = self.stored, self.plan
        roster, model = bytes.fromhex(stored["roster"]), [bytes.fromhex(each) for each in stored["model"]]
        encoded = [bytes.fromhex(each) for each in stored["prekeys"]]
        self.sid = session_id(plan, roster, encoded, stored["round_number"], model)
        require(self.sid.hex() == stored["session_id"], "session: id")
        blobs = b"".join(le(len(part), 4) + part for part in (plan.encoded, roster, *encoded))
        record = b"SAse\x01" + blobs + le(stored["round_number"], 8) + sha256(plan.layout, *model)
        require(sha256(record).hex() == stored["session_record_sha256"], "session: record")
        at = 13 + 64 * plan.n_max
        contributors = plan.n_max if plan.noise_by != "committee" else plan.a
        require(stored["client"] < contributors, "contribution: not on the roster")
        self.client = roster[13:][64 * stored["client"] :][:64]  # members stand behind the clients
        self.members = [roster[at + 64 * m :][:64] for m in range(plan.k)]
        self.prekeys = [prekey[77:109] for prekey in encoded]

    def _header(self, encoded: bytes) -> None:
        """Lengths, digests, the challenge with the commitment in it, the signature with the proof's digest in it."""
        plan, what = self.plan, "contribution"
        require(sha256(encoded).hex() == self.stored["sha256"], f"{what}: stored bytes")
        require(len(encoded) == plan.contribution, f"{what}: length")
        fields = Fields(encoded, what)
        fields.start(b"SAco")
        require(fields.raw(32) == self.sid, f"{what}: session id")
        self.id = fields.integer(4)
        require(self.id == self.stored["client"], f"{what}: client")
        signature, self.ephemeral = fields.raw(64), fields.raw(32)
        frames = [fields.raw(32) for _ in plan.frames]
        boxes = [fields.raw(32) for _ in range(plan.k)]
        self.check, commitment, digest = fields.raw(plan.check_size), fields.raw(32), fields.raw(32)
        require(fields.at == plan.header, f"{what}: header")
        ciphertext = fields.raw(plan.ciphertext)
        self.boxes = [fields.raw(plan.box) for _ in range(plan.k)]
        proof = fields.raw(plan.proof)
        fields.end()
        for frame, frame_digest in zip(plan.frames, frames, strict=True):
            require(sha256(ciphertext[frame.start :][: frame.size]) == frame_digest, f"{what}: frame digest")
        require([sha256(box) for box in self.boxes] == boxes, f"{what}: box digest")
        require(sha256(proof) == digest, f"{what}: proof digest")
        self.challenge = sha256(self.sid, le(self.id, 4), sha256(*frames), self.ephemeral, *boxes, commitment)
        message = self.challenge + self.check + digest
        verify(self.client, b"secureagg v1 contribution", message, signature, what)
        self.rows = residues(plan, ciphertext, f"{what}: ciphertext")

    def _shares(self, m: int) -> list[int]:
        """Member m's shares over F_q, which lie on the published check polynomials."""
        plan, what = self.plan, f"box of member {m}"
        long_term = derive(bytes.fromhex(self.stored["member_seeds"][m]), b"secureagg v1 agreement")
        keys = [bytes.fromhex(self.stored["prekey_secrets"][m]), long_term]
        ephemeral = X25519PublicKey.from_public_bytes(self.ephemeral)
        agreed = b"".join(X25519PrivateKey.from_private_bytes(key).exchange(ephemeral) for key in keys)
        info = labelled(b"secureagg v1 box") + self.sid + le(self.id, 4) + le(m, 1)
        info += self.members[m] + self.prekeys[m] + self.ephemeral
        try:
            plain = ChaCha20Poly1305(derive(hmac.digest(bytes(32), agreed, "sha256"), info)).decrypt(
                bytes(12), self.boxes[m], info
            )
        except InvalidTag:
            raise Refused(f"{what}: it does not open") from None
        elements = unpack(plain, 52, plan.secrets + plan.R, plan.p, what)
        published = unpack(self.check, 52, plan.R * plan.t, plan.p, "check polynomials")
        for r in range(plan.R):
            rho = [
                public_residue(self.challenge, "share check", r * plan.secrets + i, plan.p) for i in range(plan.secrets)
            ]
            combined = sum(a * b for a, b in zip(rho, elements, strict=False)) + elements[plan.secrets + r]
            claimed = sum(published[k * plan.R + r] * (m + 1) ** k for k in range(plan.t))
            require((combined - claimed) % plan.p == 0, f"{what}: share check")
        return elements[: plan.secrets]

    def _opened(self, shares: dict[int, list[int]]) -> None:
        """All shares lie on one polynomial, whose value at 0 is the short key under which the grid values come out."""
        plan, stored = self.plan, self.stored
        chosen = {x: shares[x] for x in list(shares)[: plan.t]}
        for x in shares:
            require(interpolate(plan, chosen, x) == shares[x], f"box of member {x - 1}: not on the polynomial")
        key = [centred(x, plan.p) for x in interpolate(plan, chosen, 0)]
        require(max(map(abs, key)) < 60, "key: not short")
        grid = decode(plan, self.sid, self.rows, key, plan.L, plan.E, "contribution")
        require(grid == [*stored["grid"], stored["weight"]], "contribution: grid values")
        member = stored["client"] >= plan.n_max
        require(sum(v * v for v in stored["grid"]) <= (plan.Bn2 if member else plan.B2), "contribution: norm")
        require(not member or max(map(abs, stored["grid"])) <= plan.T1, "contribution: coordinate")
        require((0 if member else 1) <= stored["weight"] <= (0 if member else plan.max_weight), "contribution: weight")
        if not member:
            require_rounded(plan, stored, "contribution")


def verify_stored(stored: dict[str, Any]) -> str:
    """Return what a vector holds. Raises: Refused with the reason."""
    vector = ProvenVector(stored)
    noise = "" if vector.plan.noise_by is None else f", noise by {vector.plan.noise_by}"
    return f"{vector.plan.d} values for {vector.plan.k} members, a proof of {vector.plan.proof} bytes{noise}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {verify_stored(json.loads(Path(name).read_text()))}")
