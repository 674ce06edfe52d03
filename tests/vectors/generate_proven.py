"""Writes the stored proven contribution: `python -m tests.vectors.generate_proven DIRECTORY`
(secureagg/selfcheck/stored/contributions to renew it).

TEST ONLY, as generate.py: all that is random follows from a label.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import secureagg as sa
from secureagg.verification import Verdict, verify_many
from tests.vectors.generate import contribute, derived, seed_of, seeded, tensor_bytes, updates


def proven(directory: Path) -> dict[str, Any]:
    """Return one contribution with its proof, and what the committee needs to open it."""
    mixed = sa.Layout(((3, 4), (), (0, 2), (150,)), ("float32", "float64", "float32", "float16"))
    plan = sa.RoundPlan(
        layout=mixed,
        clients=3,
        quorum=2,
        l2_clip=1.5,
        value_bits=10,
        value_bound=0.75,
        max_weight=5,
        committee=sa.Committee(size=4, threshold=3),
        parameters="INSECURE_N16_Q52",
        proofs=True,
        allow_insecure=True,
    )
    client_id, weight, round_number = 1, 3, 7
    identities = [sa.Identity(seed_of(f"proven client {i}")) for i in range(plan.clients)]
    seeds = [seed_of(f"proven member {m}") for m in range(plan.committee.size)]
    homes = [directory / f"proven-{m}" for m in range(plan.committee.size)]
    members = [sa.CommitteeMember(sa.Identity(seed), journal=home) for seed, home in zip(seeds, homes, strict=True)]
    roster = sa.Roster([each.public for each in identities], [each.public for each in members])
    prekeys = []
    for m, member in enumerate(members):
        with seeded(f"proven prekey {m}"):
            prekeys.append(member.prekey(round_number))
    model = plan.layout.unflatten(np.arange(plan.layout.size) / 16)
    session = sa.Session(plan, roster, prekeys=prekeys, round_number=round_number, model=model)
    update = updates(plan, client_id)
    with seeded("proven client"):
        payload, grid = contribute(session, identities[client_id], update, weight)
    assert verify_many(session, [payload]) == [Verdict(client_id, None)]
    statement = plan.statement
    assert statement is not None
    proof = {"R": plan.sharing.repetitions, "B2": statement.norm_bound, "Be2": statement.error_bound}
    proof |= {"proof": plan.proof_bytes, "steering": plan.packing.steering}
    return {
        "format": "secureagg proven vector v1",
        "about": "One contribution with a proof, without the range argument; four members, any three of whom open it.",
        "plan": plan.to_bytes().decode(),
        "derived": derived(plan) | proof,
        "roster": roster.to_bytes().hex(),
        "prekeys": [each.hex() for each in prekeys],
        "round_number": round_number,
        "model": tensor_bytes(model),
        "session_id": session.sid.hex(),
        "session_record_sha256": hashlib.sha256(session.to_bytes()).hexdigest(),
        "client_seeds": [each.to_seed().hex() for each in identities],
        "member_seeds": [seed.hex() for seed in seeds],
        "prekey_secrets": [(home / "prekeys" / f"{round_number}.key").read_bytes().hex() for home in homes],
        "client": client_id,
        "weight": weight,
        "update": tensor_bytes(update),
        "grid": grid,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "contribution": base64.b64encode(zlib.compress(payload, 9)).decode(),
    }


def write(directory: Path) -> None:
    """Write the vector into a directory."""
    with tempfile.TemporaryDirectory() as scratch:
        vector = proven(Path(scratch))
    lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in vector.items())
    (directory / "proven.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
