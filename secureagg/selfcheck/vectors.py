"""The stored vectors, which come with the package: this machine reads them, repeats them and refuses them altered.

The programs that made them, and verifiers that share no code with the library, are in the source's tests/vectors.
"""

from __future__ import annotations

import base64
import json
import tempfile
import zlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from secureagg.aggregator import Aggregator
from secureagg.committee import CommitteeMember
from secureagg.errors import EncodingError, FaultyClientError, FaultyMemberError
from secureagg.exchange import RevealAnswer
from secureagg.identity import Identity
from secureagg.journal import Journal
from secureagg.layout import Layout, Weights
from secureagg.mean import Mean
from secureagg.plan import RoundPlan
from secureagg.ring.masks import fill_public
from secureagg.ring.params import ring_parameters
from secureagg.ring.xof import PublicExpansion, SecretStream
from secureagg.roster import Roster
from secureagg.selfcheck.law import Case, Extra, Law, LawBroken, require
from secureagg.session import Session
from secureagg.tally import verify_tally
from secureagg.verification import verify_contribution, view_of
from secureagg.zk import validity
from secureagg.zk.statement import Statement

__all__ = ["LAWS", "NOISY", "STORED", "Stored", "load", "payloads_of", "redrawn", "session_of", "tensors"]

STORED = files(__package__) / "stored"

NOISY = ("gaussian-clients", "skellam-clients", "gaussian-committee", "skellam-committee", "central")

Stored = dict[str, Any]  # a vector's JSON


def load(name: str) -> Stored:
    """Return a stored vector."""
    stored: Stored = json.loads((STORED / f"{name}.json").read_text(encoding="utf-8"))
    return stored


def session_of(stored: Stored) -> Session:
    """Return the session of a stored round."""
    plan = RoundPlan.from_bytes(stored["plan"].encode(), allow_insecure=True)
    roster = Roster.from_bytes(bytes.fromhex(stored["roster"]))
    prekeys = [bytes.fromhex(each) for each in stored["prekeys"]]
    model = tensors(plan.layout, stored["model"])
    return Session(plan, roster, prekeys=prekeys, round_number=stored["round_number"], model=model)


def tensors(layout: Layout, encoded: list[str]) -> Weights:
    """Return a model's tensors from their stored bytes."""
    return [
        np.frombuffer(bytes.fromhex(each), np.dtype(dtype).newbyteorder("<")).astype(dtype).reshape(shape)
        for each, shape, dtype in zip(encoded, layout.shapes, layout.dtypes, strict=True)
    ]


def payloads_of(stored: Stored) -> dict[int, bytes]:
    """Return a stored round's contributions by their ids, members' noise after the clients'."""
    clients = len(stored["client_seeds"])
    payloads = {each["client"]: bytes.fromhex(each["bytes"]) for each in stored["contributions"]}
    noise = stored.get("noise_contributions", [])
    return payloads | {clients + each["member"]: bytes.fromhex(each["bytes"]) for each in noise}


def redrawn(session: Session, expected: Stored) -> Weights:
    """Return the mean of a stored result, of its integer sums, with the aggregator's noise from the stored seed."""
    stream = SecretStream(bytes.fromhex(expected["noise_seed"]))
    mean = Mean(session.plan, session.sid, len(expected["clients"]), expected["total_weight"], stream)
    mean.write(np.array(expected["sums"], dtype=np.int64), 0)
    return mean.finished(mean.tensors())


def _round(name: str) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        stored = load(name)
        session = session_of(stored)
        require(session.plan.digest().hex() == stored["plan_digest"], "the plan has another digest")
        require(session.sid.hex() == stored["session_id"], "the session has another id")
        with tempfile.TemporaryDirectory() as directory:
            _repeat(stored, session, Path(directory))

    return check


def _repeat(stored: Stored, session: Session, directory: Path) -> None:
    """Run the committee's and the aggregator's part of a stored round: every byte of theirs follows from the stored."""
    members = []
    for m, (seed, secret) in enumerate(zip(stored["member_seeds"], stored["prekey_secrets"], strict=True)):
        Journal(directory / str(m)).prekey(stored["round_number"], bytes.fromhex(secret))
        members.append(CommitteeMember(Identity(bytes.fromhex(seed)), journal=directory / str(m)))
    payloads = payloads_of(stored)
    aggregator = Aggregator(session, spool=directory / "spool")
    for payload in payloads.values():
        aggregator.admit(payload)
    reports = None
    if session.plan.committee.mode == "robust":
        check = aggregator.share_check()
        reports = [member.check(session, check) for member in members]
        require([each.hex() for each in reports] == stored["share_checks"], "members report otherwise")
    request = aggregator.close(reports)
    given = [bytes.fromhex(each) for each in stored["answers"]]
    answering = [RevealAnswer.from_bytes(answer, session).member_id for answer in given]
    answers = [members[member].respond(session, request) for member in answering]
    require(answers == given, "members answer otherwise")
    result, expected = aggregator.open(answers), stored["result"]
    require(list(result.clients) == expected["clients"], "other clients are in the sum")
    noise_members = expected.get("noise_members", [])
    require(list(result.noise_members) == noise_members, "other members' noise is in the sum")
    opened = redrawn(session, expected) if "noise_seed" in expected else result.mean
    mean = [tensor.astype(tensor.dtype.newbyteorder("<")).tobytes().hex() for tensor in opened]
    require((mean, result.total_weight) == (expected["mean"], expected["total_weight"]), "the mean is another")
    require(result.tally is not None and result.tally.hex() == stored["tally"], "the tally is another")
    if "noise_seed" in expected:
        _require_fresh_noise(session, result.mean, expected)
    verify_tally(session, bytes.fromhex(stored["tally"]), contributions=[payloads[c] for c in request.clients])


def _require_fresh_noise(session: Session, mean: Weights, expected: Stored) -> None:
    """The opened mean is that of the stored sums and noise drawn anew, as far from them as such noise can be."""
    plan, opened = session.plan, session.plan.layout.flatten(mean)
    assert plan.noise is not None
    steps = opened * (plan.quantiser.scale * expected["total_weight"]) - np.array(expected["sums"])
    # A tensor's dtype rounds the mean, at float16 by 2^-11 of it.
    slack = 1 + 2.0**-10 * float(np.abs(opened).max()) * plan.quantiser.scale * expected["total_weight"]
    require(float(np.abs(steps).max()) <= plan.noise.sum_bound(1, plan.layout.size) + slack, "another sum is opened")
    require(bool((np.abs(steps) > slack).any()), "the aggregator adds no noise")


def _expansion(case: Case) -> None:
    ring = ring_parameters("INSECURE_N64_Q208", allow_insecure=True)
    row = ring.degree * len(ring.primes)
    for each in load("expansion")["residues"]:
        chunk = np.empty((1, len(ring.primes), ring.degree), dtype=np.uint64)
        expansion = PublicExpansion(bytes.fromhex(each["sid"]), each["label"])
        fill_public(chunk, expansion, each["position"] // row, ring.primes)
        require(int(chunk.reshape(-1)[each["position"] % row]) == each["residue"], f"residue {each['position']}")


def _proofs(case: Case) -> None:
    stored = load(f"proofs/{('plain', 'range')[case.number % 2]}")
    instance = validity.Instance(
        bytes.fromhex(stored["context"]),
        PublicExpansion(bytes.fromhex(stored["sid"]), stored["label"]),
        *(np.array(stored[part], dtype=np.uint64) for part in ("ciphertext", "combination", "check")),
    )
    root, proof = bytes.fromhex(stored["root"]), zlib.decompress(base64.b64decode(stored["proof"]))
    validity.verify(Statement(**stored["statement"]), instance, root, proof)
    for name in ("norm_bound", "error_bound", "delta"):
        other = Statement(**{**stored["statement"], name: stored["statement"][name] - 1})
        try:
            validity.verify(other, instance, root, proof)
        except EncodingError:
            continue
        raise LawBroken(f"a stored proof is accepted with another {name}")


def _contribution(name: str) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        stored = load(f"contributions/{name}")
        session = session_of(stored)
        require(session.sid.hex() == stored["session_id"], "the session has another id")
        payload = bytearray(zlib.decompress(base64.b64decode(stored["contribution"])))
        header = verify_contribution(session, view_of(session, bytes(payload)))
        require(header.client_id == stored["client"], "the stored contribution is another party's")
        payload[int(case.random.integers(len(payload)))] ^= 1 << int(case.random.integers(8))
        try:
            verify_contribution(session, view_of(session, bytes(payload)))
        except (EncodingError, FaultyClientError, FaultyMemberError):
            return
        raise LawBroken("the stored contribution is accepted with a bit altered")

    return check


_DP = Extra("dp_accounting", "dp-accounting", "dp")  # a plan's noise is held against its ε
_SUBJECT, _SOURCE = "vectors", "docs/wire-format.md; tests/vectors in the source"
LAWS = (
    Law(_SUBJECT, "expansion", "Public randomness is what is stored.", _SOURCE, _expansion, 1, 1),
    *(
        Law(_SUBJECT, f"round-{name}", f"The stored round {name!r} repeats byte for byte.", _SOURCE, _round(name), 1, 1)
        for name in ("optimistic", "robust", "tiny")
    ),
    *(
        Law(
            _SUBJECT,
            f"noisy-{name}",
            f"The stored round with noise {name!r} repeats byte for byte.",
            _SOURCE,
            _round(f"noisy/{name}"),
            1,
            1,
            needs=_DP,
        )
        for name in NOISY
    ),
    Law(_SUBJECT, "proofs", "The stored proofs are accepted, and of no other statement.", _SOURCE, _proofs, 2, 2),
    Law(
        _SUBJECT,
        "proven-contribution",
        "The stored proven contribution is accepted, and with any bit altered it is not.",
        _SOURCE,
        _contribution("proven"),
        10,
        200,
    ),
    Law(
        _SUBJECT,
        "proven-own-noise",
        "So is the stored proven contribution of a client that adds its own noise.",
        _SOURCE,
        _contribution("proven-own-noise"),
        5,
        100,
        needs=_DP,
    ),
    Law(
        _SUBJECT,
        "proven-noise",
        "So is the stored proven noise of a committee member.",
        _SOURCE,
        _contribution("proven-noise"),
        5,
        100,
        needs=_DP,
    ),
)
