"""Writes the stored rounds, and the expansion: `python -m tests.vectors.generate DIRECTORY`
(secureagg/selfcheck/stored to renew them).

Rounds with noise are made by generate_noisy.py, out of `build` here.

TEST ONLY. A client's keys, errors and shares come from the operating system, by design with no way to seed them. Here
`os.urandom` and the generation of X25519 keys are replaced for the length of a call by a stream that follows from a
label, so that the same bytes come out every time. The secrets are stored beside the bytes, for the verifier to open
what only committee members could.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import secureagg as sa
from secureagg.exchange import EVERY_MEMBER, Request, RevealAnswer
from secureagg.he.reconstruct import Decoder
from secureagg.he.sharing import key_sum, unpack_elements
from secureagg.ring.masks import fill_public
from secureagg.ring.params import ring_parameters
from secureagg.ring.xof import PublicExpansion
from tests.vectors.staged import add_noise, bad_shares_for, contribute, drawn_in, randomness, seeded

# Found by search: residues 377481944 and 578540730 of this expansion are refused, mod the fourth and the third prime.
EXPANSION_SID = hashlib.sha256(b"secureagg test vector: expansion").digest()
EXPANSION_POSITIONS = (0, 1, 377481943, 377481944, 578540730)


def seed_of(label: str) -> bytes:
    return hashlib.sha256(b"secureagg test vector seed: " + label.encode()).digest()


def updates(plan: sa.RoundPlan, client_id: int) -> list[np.ndarray[Any, Any]]:
    """Return an update that is different for each client, partly beyond the plan's bounds."""
    vector = np.array([((37 * i + 11 * client_id * i + client_id) % 203 - 101) / 400 for i in range(plan.layout.size)])
    return plan.layout.unflatten(vector)


def tensor_bytes(tensors: Sequence[np.ndarray[Any, Any]]) -> list[str]:
    return [np.asarray(tensor).astype(tensor.dtype.newbyteorder("<")).tobytes().hex() for tensor in tensors]


def build(
    name: str,
    about: str,
    plan: sa.RoundPlan,
    weights: dict[int, int],
    answering: Sequence[int],
    bad: dict[int, Sequence[int]],
    directory: Path,
    noisy: Sequence[int] = (),
) -> dict[str, Any]:
    """Return a whole round as a vector: `weights` of the clients that take part, `bad` the members that a contributor
    cheats, `noisy` the members who add noise.
    """
    identities = [sa.Identity(seed_of(f"{name} client {i}")) for i in range(plan.clients)]
    seeds = [seed_of(f"{name} member {m}") for m in range(plan.committee.size)]
    members = [sa.CommitteeMember(sa.Identity(seed), journal=directory / f"{name}-{m}") for m, seed in enumerate(seeds)]
    roster = sa.Roster([each.public for each in identities], [each.public for each in members])
    round_number = 7
    prekeys = []
    for m, member in enumerate(members):
        with seeded(f"{name} prekey {m}"):
            prekeys.append(member.prekey(round_number))
    keys = [directory / f"{name}-{m}" / "prekeys" / f"{round_number}.key" for m in range(len(members))]
    prekey_secrets = [key.read_bytes() for key in keys]  # read now: a member erases its key with its answer
    model = plan.layout.unflatten(np.arange(plan.layout.size) / 16)
    session = sa.Session(plan, roster, prekeys=prekeys, round_number=round_number, model=model)

    aggregator = sa.Aggregator(session, spool=directory / f"{name}-spool")
    stored, grids = [], {}
    for client_id, weight in weights.items():
        update = updates(plan, client_id)
        with seeded(f"{name} client {client_id}"), bad_shares_for(bad.get(client_id, ())), drawn_in(plan) as drawn:
            payload, grids[client_id] = contribute(session, identities[client_id], update, weight)
        aggregator.admit(payload)
        stored.append(
            {
                "client": client_id,
                "weight": weight,
                "update": tensor_bytes(update),
                **({"noise": drawn} if drawn else {}),
                "grid": grids[client_id],
                "unacceptable_to": list(bad.get(client_id, ())),
                "bytes": payload.hex(),
            }
        )
    noise = []
    for member_id in noisy:
        contributor = plan.clients + member_id
        with seeded(f"{name} noise {member_id}"), bad_shares_for(bad.get(contributor, ())):
            payload, grids[contributor] = add_noise(session, members[member_id])
        aggregator.admit(payload)
        noise.append(
            {
                "member": member_id,
                "grid": grids[contributor],
                "unacceptable_to": list(bad.get(contributor, ())),
                "bytes": payload.hex(),
            }
        )
    check, reports = None, None
    if plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in members]
    request = aggregator.close(reports)
    answers = [members[m].respond(session, request) for m in answering]
    with seeded(f"{name} aggregator"), drawn_in(plan) as drawn:
        result = aggregator.open(answers)
    sums = [sum(column) for column in zip(*(grids[each] for each in request.clients), strict=True)]
    assert sums == summed(session, aggregator, answers)
    added: dict[str, Any] = {}
    if noisy:
        added = {"noise_members": list(result.noise_members)}
    elif drawn:
        added = {"noise": drawn, "noise_seed": randomness(f"{name} aggregator")(32).hex()}
    return {
        "format": "secureagg test vector v1",
        "about": about,
        "plan": plan.to_bytes().decode(),
        "plan_digest": plan.digest().hex(),
        "derived": derived(plan),
        "roster": roster.to_bytes().hex(),
        "prekeys": [each.hex() for each in prekeys],
        "round_number": round_number,
        "model": tensor_bytes(model),
        "session_id": session.sid.hex(),
        "client_seeds": [each.to_seed().hex() for each in identities],
        "member_seeds": [seed.hex() for seed in seeds],
        "prekey_secrets": [secret.hex() for secret in prekey_secrets],
        "contributions": stored,
        **({"noise_contributions": noise} if noisy else {}),
        "share_checks": [each.hex() for each in reports or ()],
        "requests": {"check": digests(plan, check), "reveal": digests(plan, request)},
        "answers": [each.hex() for each in answers],
        "result": {
            "clients": list(result.clients),
            "sums": sums,
            **added,
            "total_weight": result.total_weight,
            "mean": tensor_bytes(result.mean),
        },
        "tally": None if result.tally is None else result.tally.hex(),
    }


def summed(session: sa.Session, aggregator: sa.Aggregator, answers: Sequence[bytes]) -> list[int]:
    """Return the integer sums as the library decodes them, which `Result` shows as a mean only."""
    plan, sharing = session.plan, session.plan.sharing
    read = [RevealAnswer.from_bytes(each, session) for each in answers]
    sums = {each.member_id: unpack_elements(sharing, each.sums, sharing.secrets) for each in read if each.sums}
    keys = key_sum(sharing, sorted(sums)[: sharing.threshold], sums)
    decoder = Decoder(plan.packing, session.sid, plan.error_bound, keys)
    frames = range(len(plan.packing.frames))
    return [int(v) for index in frames for v in decoder.values(aggregator._sum.total, index)][: plan.layout.size]


def digests(plan: sa.RoundPlan, request: Request | None) -> dict[str, str]:
    if request is None:
        return {}
    return {
        str(member): hashlib.sha256(request.for_member(member)).hexdigest()
        for member in (*range(plan.committee.size), EVERY_MEMBER)
    }


def derived(plan: sa.RoundPlan) -> dict[str, int]:
    """Return what follows from the plan, by its symbols in docs/protocol.md."""
    packing, sharing = plan.packing, plan.sharing
    noise = {}
    if plan.noise is not None and not plan.proofs:
        noise = {"a": plan.contributors, "T": plan.coordinate_limit(1) - plan.value_limit}
    return noise | {
        "d": plan.layout.size,
        "N": packing.ring.degree,
        "C": plan.value_limit,
        "L": packing.field_limit,
        "W": packing.field_bits,
        "f": packing.fields,
        "delta": packing.delta,
        "E": plan.error_bound,
        "coefficients": packing.coefficients,
        "J": packing.chunks,
        "keys": packing.keys,
        "p": sharing.modulus,
        "R": sharing.repetitions,
        "header": plan.header_bytes,
        "ciphertext": packing.ciphertext_bytes,
        "box": plan.box_bytes,
        "contribution": plan.bytes_per_client,
    }


def rounds(directory: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (name, vector) of every round."""
    mixed = sa.Layout(((3, 4), (), (0, 2), (150,)), ("float32", "float64", "float32", "float16"))
    plan = sa.RoundPlan(
        layout=mixed,
        clients=5,
        quorum=3,
        l2_clip=1.5,
        value_bits=10,
        value_bound=0.15,
        max_weight=7,
        committee=sa.Committee(size=4, threshold=3),
        parameters="INSECURE_N64_Q52",
        allow_insecure=True,
    )
    yield (
        "optimistic",
        build(
            "optimistic",
            "One prime, two frames, weights, mixed dtypes; one client and one committee member are away.",
            plan,
            {0: 1, 1: 7, 3: 2, 4: 5},
            (0, 1, 3),
            {},
            directory,
        ),
    )
    plan = sa.RoundPlan(
        layout=sa.Layout(((30, 30),), ("float32",)),
        clients=5,
        quorum=4,
        l2_clip=4.0,
        value_bits=12,
        assumed_corrupt_clients=2,
        committee=sa.Committee(size=4, threshold=3, mode="robust"),
        parameters="INSECURE_N64_Q208",
        allow_insecure=True,
    )
    yield (
        "robust",
        build(
            "robust",
            "Four primes. Client 1 deals member 0 a bad share and stays in; client 3 cheats two members and is out.",
            plan,
            dict.fromkeys(range(5), 1),
            (0, 1, 2, 3),
            {1: [0], 3: [0, 1]},
            directory,
        ),
    )
    plan = sa.RoundPlan(
        layout=sa.Layout(((3,),), ("float64",)),
        clients=2,
        quorum=2,
        l2_clip=1.0,
        value_bits=16,
        committee=sa.Committee(size=2),
        parameters="N2048_Q52",
    )
    yield "tiny", build("tiny", "The parameters of the field, three values.", plan, {0: 1, 1: 1}, (0, 1), {}, directory)


def expansion() -> dict[str, Any]:
    """Return words of a public expansion, two of them refused, as residues of a_j in the ring of four primes."""
    ring = ring_parameters("INSECURE_N64_Q208", allow_insecure=True)
    label, row = "public polynomials", ring.degree * len(ring.primes)
    words = PublicExpansion(EXPANSION_SID, label)
    residues = []
    for position in EXPANSION_POSITIONS:
        pair = np.empty(2, dtype=np.uint64)
        words.fill(position - position % 2, pair)
        chunk = np.empty((1, len(ring.primes), ring.degree), dtype=np.uint64)
        fill_public(chunk, words, position // row, ring.primes)
        prime = ring.primes[position % row // ring.degree]
        word = int(pair[position % 2])
        residues.append(
            {
                "sid": EXPANSION_SID.hex(),
                "label": label,
                "position": position,
                "prime": prime,
                "word": word,
                "refused": word % 2**52 >= prime,
                "residue": int(chunk.reshape(-1)[position % row]),
            }
        )
    assert sum(each["refused"] for each in residues) == 2
    return {"format": "secureagg expansion vector v1", "residues": residues}


def write_all(vectors: Mapping[str, dict[str, Any]], directory: Path) -> None:
    """Write vectors into a directory, each in a file of its name."""
    for name, vector in vectors.items():
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in vector.items())
        (directory / f"{name}.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_all({**dict(rounds(Path(scratch))), "expansion": expansion()}, Path(sys.argv[1]))
