"""Verifies the test vectors from their bytes alone, written from docs/wire-format.md.

Shares no code with the library: Python integers, the standard library, and the primitives of `cryptography`.
`python verify.py FILE…` prints what each file holds, or the reason for which it is refused.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from by_hand import (
    Fields,
    Plan,
    Refused,
    Rows,
    add,
    centred,
    decode,
    interpolate,
    le,
    public_residue,
    require,
    residues,
    sha256,
    unpack,
    words,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from messages import (
    EVERY_MEMBER,
    Contribution,
    answer,
    contribution,
    derive,
    request,
    request_digest,
    require_rounded,
    session_id,
    shares,
    verify,
)

__all__ = ["Refused", "verify_stored"]


class Vector:
    """A stored round, checked step by step; every step may use what the earlier ones have established."""

    def __init__(self, stored: dict[str, Any]) -> None:
        require(stored["format"] == "secureagg test vector v1", "vector: format")
        self.stored = stored
        self.plan = Plan(stored["plan"].encode())
        self._session()
        self._contributions()
        self._complaints()
        self._answers()
        self._sum()
        if stored["tally"] is not None:
            self._tally(bytes.fromhex(stored["tally"]))

    def _bytes(self, name: str) -> list[bytes]:
        return [bytes.fromhex(each) for each in self.stored[name]]

    def _session(self) -> None:
        stored, plan = self.stored, self.plan
        derived = {name: getattr(plan, name) for name in stored["derived"]}
        require(derived == stored["derived"], "plan: derived numbers")
        roster = bytes.fromhex(stored["roster"])
        fields = Fields(roster, "roster")
        fields.start(b"SArs")
        clients, members = fields.integer(4), fields.integer(4)
        require((clients, members) == (plan.n_max, plan.k), "roster: not the plan's counts")
        self.clients = [fields.raw(64) for _ in range(clients)]
        self.members = [fields.raw(64) for _ in range(members)]
        fields.end()
        self.prekeys = []
        for member, encoded in enumerate(self._bytes("prekeys")):
            fields = Fields(encoded, f"prekey {member}")
            fields.start(b"SApk")
            number, public, key, signature = fields.raw(8), fields.raw(64), fields.raw(32), fields.raw(64)
            fields.end()
            require(number == le(stored["round_number"], 8), f"prekey {member}: round number")
            require(public == self.members[member], f"prekey {member}: not this member's")
            verify(public, b"secureagg v1 prekey", number + key, signature, f"prekey {member}")
            self.prekeys.append(key)
        self.sid = session_id(plan, roster, self._bytes("prekeys"), stored["round_number"], self._bytes("model"))
        require(self.sid.hex() == stored["session_id"], "session id")
        require(sha256(plan.encoded).hex() == stored["plan_digest"], "plan digest")
        self.secrets = []
        stored_secrets = zip(self._bytes("member_seeds"), self._bytes("prekey_secrets"), strict=True)
        for member, (seed, prekey) in enumerate(stored_secrets):
            long_term = derive(seed, b"secureagg v1 agreement")
            for secret, public in ((prekey, self.prekeys[member]), (long_term, self.members[member][32:])):
                found = X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()
                require(found == public, f"secret keys of member {member}")
            self.secrets.append((prekey, long_term))

    def _contributions(self) -> None:
        """Every contribution alone: signature, digests, boxes, shares, and what t members could open together."""
        plan = self.plan
        self.given: dict[int, Contribution] = {}
        self.shares: dict[int, dict[int, list[int]]] = {}  # client: {member: shares}, where they can be accepted
        contributors = self.clients + (self.members if plan.noise_by == "committee" else [])
        noise = self.stored.get("noise_contributions", [])
        for each in [*self.stored["contributions"], *noise]:
            given = contribution(plan, self.sid, contributors, bytes.fromhex(each["bytes"]))
            expected = each["client"] if "client" in each else plan.n_max + each["member"]
            require(given.client == expected, "contributions: order")
            found = {
                m: shares(plan, self.sid, given, m, self.members[m], self.prekeys[m], self.secrets[m])
                for m in range(plan.k)
            }
            self.given[given.client] = given
            self.shares[given.client] = {m: values for m, values in found.items() if values is not None}
            complaints = [m for m in range(plan.k) if found[m] is None]
            require(complaints == each["unacceptable_to"], f"contribution {given.client}: share check")
            if given.client < plan.n_max:
                require_rounded(plan, each, f"contribution {given.client}")
            self._opened(each, given)
        require(list(self.given) == sorted(self.given), "contributions: order")

    def _opened(self, each: dict[str, Any], given: Contribution) -> None:
        """That the contribution encrypts the grid values and the weight, which is 0 under noise alone."""
        plan, what = self.plan, f"contribution {given.client}"
        usable = dict(itertools.islice(self.shares[given.client].items(), plan.t))
        if len(usable) == plan.t:
            opened = interpolate(plan, {m + 1: values for m, values in usable.items()}, 0)
            key = [centred(x, plan.p) for x in opened]
            limit = plan.T if "member" in each else max(plan.C + plan.T, plan.max_weight)
            grid = decode(plan, self.sid, given.rows, key, limit, plan.E, what)
            require(grid == [*each["grid"], each.get("weight", 0)], f"{what}: decryption")

    def _complaints(self) -> None:
        """The share checks, and the set S they lead to."""
        plan, admitted = self.plan, list(self.given.values())
        self._requests("check", 0, admitted if plan.mode == "robust" else [])
        reports: dict[int, set[int]] = {}
        for encoded in self._bytes("share_checks"):
            member, about, complaints, _ = answer(
                encoded, b"SAch", b"secureagg v1 share check", self.sid, self.members, "share check", False
            )
            require(about == request_digest(self.sid, admitted), f"share check of member {member}: another request")
            expected = [client for client in self.given if member not in self.shares[client]]
            require(complaints == expected, f"share check of member {member}: complaints")
            reports[member] = set(complaints)
        refused: set[int] = set()
        if plan.mode == "robust":
            noisy = plan.noise_by == "committee"
            asked = [m for m in sorted(reports) if not noisy or plan.n_max + m in self.given]
            unions = [
                (sum(noisy and plan.n_max + m in union for m in T), len(union), union)
                for T in itertools.combinations(asked, plan.t)
                for union in [set[int]().union(*(reports[m] for m in T))]
            ]
            own, _, refused = min(unions, key=lambda found: found[:2])
            require(own == 0, "result: members who refuse each other's noise")
        self.chosen = [given for client, given in self.given.items() if client not in refused]
        clients = [each.client for each in self.chosen if each.client < plan.n_max]
        members = [each.client - plan.n_max for each in self.chosen if each.client >= plan.n_max]
        require(clients == self.stored["result"]["clients"], "result: clients")
        require(members == self.stored["result"].get("noise_members", []), "result: members whose noise is in the sum")
        require(len(clients) >= plan.quorum, "result: quorum")
        require(plan.noise_by != "committee" or len(members) >= plan.t, "result: fewer than t members' noise")
        self._requests("reveal", 1, self.chosen)

    def _requests(self, name: str, kind: int, chosen: list[Contribution]) -> None:
        found = {
            str(member): sha256(request(self.plan, self.sid, kind, member, chosen)).hex()
            for member in (*range(self.plan.k), EVERY_MEMBER)
            if chosen
        }
        require(found == self.stored["requests"][name], f"{name} request")

    def _answers(self) -> None:
        plan = self.plan
        self.sums: dict[int, list[int]] = {}
        for encoded in self._bytes("answers"):
            member, about, complaints, packed = answer(
                encoded, b"SAan", b"secureagg v1 reveal", self.sid, self.members, "answer", True
            )
            what = f"answer of member {member}"
            if plan.noise_by == "committee":
                require(plan.n_max + member in [each.client for each in self.chosen], f"{what}: without its noise")
            require(about == request_digest(self.sid, self.chosen), f"{what}: another request")
            expected = [each.client for each in self.chosen if member not in self.shares[each.client]]
            require(complaints == expected, f"{what}: complaints")
            require(len(packed) == (0 if complaints else plan.answer_size), f"{what}: length of the sums")
            if complaints:
                continue
            self.sums[member] = unpack(packed, plan.width, plan.secrets, plan.p, what)
            dealt = zip(*(self.shares[each.client][member] for each in self.chosen), strict=True)
            require(self.sums[member] == [sum(column) % plan.p for column in dealt], f"{what}: sums")
        require(len(self.sums) >= plan.t, "answers: fewer than t")

    def _sum(self) -> None:
        """Σs from every t answers, Σc, the integer sums, and the mean to the last bit."""
        plan, result = self.plan, self.stored["result"]
        openings = [
            interpolate(plan, {m + 1: self.sums[m] for m in T}, 0) for T in itertools.combinations(self.sums, plan.t)
        ]
        require(all(opening == openings[0] for opening in openings), "answers: not on one polynomial")
        key = [centred(x, plan.p) for x in openings[0]]
        self.total = add(plan, [each.rows for each in self.chosen])
        *sums, weight = decode(plan, self.sid, self.total, key, plan.L, plan.E, "sum")
        everyone = [*self.stored["contributions"], *self.stored.get("noise_contributions", [])]
        taken = [each.client for each in self.chosen]
        chosen = [each for client, each in zip(self.given, everyone, strict=True) if client in taken]
        require(sums == [sum(column) for column in zip(*(each["grid"] for each in chosen), strict=True)], "sum: values")
        require(weight == sum(each.get("weight", 0) for each in chosen), "sum: weight")
        require(sums == result["sums"], "result: sums")
        require(weight == result["total_weight"], "result: total weight")
        factor = plan.max_weight / (plan.C / plan.x_max * weight)
        central = result.get("noise", [0] * plan.d)
        require(("noise" in result) == (plan.noise_by == "aggregator"), "result: noise")
        sums, mean = [value + noise for value, noise in zip(sums, central, strict=True)], []
        for code, size in plan.tensors:
            mean.append(struct.pack(f"<{size}{code}", *(value * factor for value in sums[:size])).hex())
            sums = sums[size:]
        require(mean == result["mean"], "result: mean")

    def _tally(self, encoded: bytes) -> None:
        plan = self.plan
        fields = Fields(encoded, "tally")
        fields.start(b"SAta")
        require(fields.raw(32) == self.sid, "tally: session id")
        entries = [
            (fields.integer(4), fields.raw(32), [[fields.integer(8) for _ in plan.primes] for _ in range(2)])
            for _ in range(fields.integer(4))
        ]
        total = fields.raw(plan.ciphertext)
        fields.end()
        require([(e[0], e[1]) for e in entries] == [(c.client, c.digest) for c in self.chosen], "tally: entries")
        listed = [le(client, 4) + digest for client, digest, _ in entries]
        challenge = sha256(b"secureagg v1 tally", self.sid, *listed, sha256(total))
        product = self._product(challenge)
        for (client, _, products), each in zip(entries, self.chosen, strict=True):
            require(products == product(each.rows), f"tally: product of client {client}")
        rows = residues(plan, total, "tally: sum")
        require(rows == self.total, "tally: sum")
        sums = [[sum(entry[2][r][p] for entry in entries) % q for p, q in enumerate(plan.primes)] for r in range(2)]
        require(sums == product(rows), "tally: Σ t_i = ⟨r, Σc⟩")

    def _product(self, challenge: bytes) -> Callable[[Rows], list[list[int]]]:
        """⟨r, c⟩ mod each prime, for both repetitions."""
        plan = self.plan

        def positions() -> Iterator[tuple[int, int, int, int]]:
            for frame in plan.frames:
                for row in range(frame.chunks * len(plan.primes)):
                    first = frame.first_chunk * plan.N * len(plan.primes) + row * frame.n
                    chunk, p = divmod(row, len(plan.primes))
                    yield frame.first_chunk + chunk, p, first, frame.n

        drawn = [{(j, p): words(challenge, f"tally {r}", first, n) for j, p, first, n in positions()} for r in range(2)]

        def product(rows: Rows) -> list[list[int]]:
            out = [[0] * len(plan.primes) for _ in range(2)]
            for r, (at, row) in itertools.product(range(2), rows.items()):
                terms = sum(word * c for word, c in zip(drawn[r][at], row, strict=True))
                out[r][at[1]] = (out[r][at[1]] + terms) % plan.primes[at[1]]
            return out

        return product


def verify_expansion(stored: dict[str, Any]) -> None:
    """A public expansion at a place where the rejection rule is met."""
    require(stored["format"] == "secureagg expansion vector v1", "vector: format")
    for each in stored["residues"]:
        sid, label, at, q = bytes.fromhex(each["sid"]), each["label"], each["position"], each["prime"]
        require(words(sid, label, at, 1)[0] == each["word"], "expansion: word")
        require((each["word"] % 2**52 >= q) == each["refused"], "expansion: refusal")
        require(public_residue(sid, label, at, q) == each["residue"], "expansion: residue")


def verify_stored(stored: dict[str, Any]) -> str:
    """Return what a vector holds. Raises: Refused with the reason."""
    if "residues" in stored:
        verify_expansion(stored)
        return f"{len(stored['residues'])} residues"
    vector = Vector(stored)
    noise = "" if vector.plan.noise_by is None else f", noise by {vector.plan.noise_by}"
    return f"{len(vector.given)} contributions, {len(vector.chosen)} in the sum, {len(vector.sums)} share sums{noise}"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        print(f"{name}: {verify_stored(json.loads(Path(name).read_text()))}")
