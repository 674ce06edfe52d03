"""Writes the stored contributions with proofs: `python -m tests.vectors.generate_proven DIRECTORY`
(secureagg/selfcheck/stored/contributions to renew it).

TEST ONLY, as generate.py: all that is random follows from a label.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

import secureagg as sa
from secureagg.dp.mechanisms import Mechanism
from secureagg.verification import Verdict, verify_many
from tests.vectors.generate import derived, seed_of, tensor_bytes, updates, write_all
from tests.vectors.staged import add_noise, contribute, drawn_in, seeded

MIXED = sa.Layout(((3, 4), (), (0, 2), (150,)), ("float32", "float64", "float32", "float16"))


def proven(
    name: str,
    about: str,
    contributor: int,
    weight: int,
    directory: Path,
    noise: Mechanism | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Return one contribution with its proof, a client's or a member's noise, and what the committee needs to open
    it: the contribution called `name`, of the plan with these changes.
    """
    fields: dict[str, Any] = {
        "layout": MIXED,
        "clients": 3,
        "quorum": 2,
        "l2_clip": 1.5,
        "committee": sa.Committee(size=4, threshold=3),
        "parameters": "INSECURE_N16_Q52",
        "proofs": True,
        "allow_insecure": True,
    }
    plan, round_number = sa.RoundPlan(noise=noise, **fields | changes), 7
    assert not plan.range_argument
    identities = [sa.Identity(seed_of(f"{name} client {i}")) for i in range(plan.clients)]
    seeds = [seed_of(f"{name} member {m}") for m in range(plan.committee.size)]
    homes = [directory / f"{name}-{m}" for m in range(plan.committee.size)]
    members = [sa.CommitteeMember(sa.Identity(seed), journal=home) for seed, home in zip(seeds, homes, strict=True)]
    roster = sa.Roster([each.public for each in identities], [each.public for each in members])
    prekeys = []
    for m, member in enumerate(members):
        with seeded(f"{name} prekey {m}"):
            prekeys.append(member.prekey(round_number))
    model = plan.layout.unflatten(np.arange(plan.layout.size) / 16)
    session = sa.Session(plan, roster, prekeys=prekeys, round_number=round_number, model=model)
    update: dict[str, Any] = {}
    with seeded(f"{name} client"), drawn_in(plan) as drawn:
        if contributor < plan.clients:
            tensors = updates(plan, contributor)
            payload, grid = contribute(session, identities[contributor], tensors, weight)
            update = {"update": tensor_bytes(tensors)} | ({"noise": drawn} if drawn else {})
        else:
            payload, grid = add_noise(session, members[contributor - plan.clients])
    assert verify_many(session, [payload]) == [Verdict(contributor, None)]
    statement = plan.statement_of(contributor)
    assert statement is not None and plan.statement is not None
    proof = {"R": plan.sharing.repetitions, "B2": plan.statement.norm_bound, "Be2": statement.error_bound}
    proof |= {"proof": statement.proof_bytes, "steering": plan.packing.steering}
    if noise is not None:
        noise_bounds = plan.noise.norm_bound(plan.layout.size), plan.noise.coordinate_bound(plan.layout.size)
        proof |= {"a": plan.contributors, "Bn2": noise_bounds[0], "T1": noise_bounds[1]}
    return {
        "format": "secureagg proven vector v1",
        "about": about,
        "plan": plan.to_bytes().decode(),
        "derived": derived(plan) | {"contribution": len(payload)} | proof,
        "roster": roster.to_bytes().hex(),
        "prekeys": [each.hex() for each in prekeys],
        "round_number": round_number,
        "model": tensor_bytes(model),
        "session_id": session.sid.hex(),
        "session_record_sha256": hashlib.sha256(session.to_bytes()).hexdigest(),
        "client_seeds": [each.to_seed().hex() for each in identities],
        "member_seeds": [seed.hex() for seed in seeds],
        "prekey_secrets": [(home / "prekeys" / f"{round_number}.key").read_bytes().hex() for home in homes],
        "client": contributor,
        "weight": weight,
        **update,
        "grid": grid,
        "sha256": hashlib.sha256(payload).hexdigest(),
        "contribution": base64.b64encode(zlib.compress(payload, 9)).decode(),
    }


def contributions(directory: Path) -> dict[str, dict[str, Any]]:
    """Return every vector by its name."""
    without_range = "without the range argument; four members, any three of whom open it."
    budget: dict[str, Any] = {"epsilon": 30.0, "delta": 1e-5, "rounds": 2}
    return {
        "proven": proven(
            "proven",
            f"One contribution with a proof, {without_range}",
            1,
            3,
            directory,
            value_bits=10,
            value_bound=0.75,
            max_weight=5,
        ),
        "proven-own-noise": proven(
            "proven-own-noise",
            f"A client's contribution with its own discrete Gaussians in it and a proof, {without_range}",
            1,
            1,
            directory,
            sa.DistributedGaussian(**budget, noise_by="clients", noise_std_grid=60.0),
            value_bits=7,
        ),
        "proven-noise": proven(
            "proven-noise",
            "Member 2's contribution of noise with a proof, which has the range argument; four members, any three of "
            "whom open it.",
            3 + 2,
            0,
            directory,
            sa.Skellam(**budget, noise_by="committee", noise_std_grid=60.0),
            value_bits=7,
        ),
    }


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        write_all(contributions(Path(scratch)), Path(sys.argv[1]))
