"""The stored contributions with proofs: the library accepts and repeats them, an independent verifier too."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.selfcheck.vectors import STORED, Stored, load, session_of
from secureagg.verification import Verdict, verify_many

VECTORS = Path(__file__).with_name("vectors")
FILES = Path(str(STORED)) / "contributions"
NAMES = ("proven", "proven-own-noise", "proven-noise")


@pytest.fixture
def stored() -> Stored:
    return load("contributions/proven")


@pytest.mark.parametrize("name", NAMES)
def test_the_library_accepts_the_stored_contribution(name: str) -> None:
    stored = load(f"contributions/{name}")
    session = session_of(stored)
    assert session.sid.hex() == stored["session_id"]
    record = session.to_bytes()
    assert hashlib.sha256(record).hexdigest() == stored["session_record_sha256"]
    assert sa.Session.from_bytes(record, allow_insecure=True).sid == session.sid
    payload = zlib.decompress(base64.b64decode(stored["contribution"]))
    assert verify_many(session, [payload]) == [Verdict(stored["client"], None)]
    for place in (-1, session.plan.header_bytes - 1, session.plan.header_bytes - 33):  # proof, its digest, commitment
        altered = bytearray(payload)
        altered[place] ^= 1
        (verdict,) = verify_many(session, [bytes(altered)])
        assert verdict.client_id == stored["client"] and verdict.reason


def test_a_members_proven_noise_is_its_own() -> None:
    """No weight, another statement and another length than a client's; no coordinate beyond what is shown of it."""
    stored = load("contributions/proven-noise")
    plan = session_of(stored).plan
    statement = plan.statement_of(stored["client"])
    assert stored["client"] == plan.clients + 2 and stored["weight"] == 0 and "update" not in stored
    assert statement is not None and statement.max_weight == 0 and statement.value_limit == stored["derived"]["T1"]
    assert stored["derived"]["contribution"] == plan.contribution_bytes(stored["client"]) != plan.bytes_per_client


def test_the_generator_makes_the_stored_files_byte_for_byte(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.vectors.generate_proven", str(tmp_path)]
    subprocess.run(command, check=True, cwd=VECTORS.parent.parent, capture_output=True)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {f"{name}.json": (FILES / f"{name}.json").read_bytes() for name in NAMES}


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(VECTORS)
    return importlib.import_module("verify_proven")


def test_the_verifier_shares_no_code_with_the_library() -> None:
    imported = {
        node.module.split(".")[0]
        for node in ast.walk(ast.parse((VECTORS / "verify_proven.py").read_text()))
        if isinstance(node, ast.ImportFrom) and node.module
    }
    assert imported - set(sys.stdlib_module_names) == {"by_hand", "messages", "cryptography"}
    command = [
        sys.executable,
        "-P",
        str(VECTORS / "verify_proven.py"),
        *(str(FILES / f"{name}.json") for name in NAMES),
    ]
    run = subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(VECTORS)}, capture_output=True)
    assert [line.split(": ")[1] for line in run.stdout.decode().splitlines()] == [
        "163 values for 4 members, a proof of 111104 bytes",
        "163 values for 4 members, a proof of 111104 bytes, noise by clients",
        "163 values for 4 members, a proof of 117136 bytes, noise by committee",
    ]


@pytest.mark.parametrize("max_weight", [1, 100])
@pytest.mark.parametrize("value_bits", [4, 8, 12])
@pytest.mark.parametrize("clients", [3, 30, 300])
@pytest.mark.parametrize("size", [100, 1000, 3000])
def test_the_documented_rules_give_the_librarys_packing(
    verifier: Any, size: int, clients: int, value_bits: int, max_weight: int
) -> None:
    """Where every rule binds: among these are plans whose weight errors could steer with one field more."""
    update = [np.zeros(size, dtype=np.float32)]
    plan = sa.RoundPlan(
        layout=sa.Layout.of(update),
        clients=clients,
        quorum=2,
        l2_clip=1.0,
        value_bits=value_bits,
        committee=sa.Committee(4, mode="robust"),
        max_weight=max_weight,
        parameters="N2048_Q52",
        proofs=True,
        assumed_corrupt_clients=0,
    )
    assert plan.proven is not None and plan.proven.statement.value_limit == 0 and plan.packing.keys == 1
    by_hand = verifier.ProvenPlan(plan.to_bytes(), plan.proof_bytes)
    packing = plan.packing
    found = (by_hand.f, by_hand.W, by_hand.delta, by_hand.L, by_hand.coefficients, by_hand.J, by_hand.E)
    assert found == (
        packing.fields,
        packing.field_bits,
        packing.delta,
        packing.field_limit,
        packing.coefficients,
        packing.chunks,
        plan.error_bound,
    )
    assert by_hand.contribution == plan.bytes_per_client


def resealed(stored: Stored, change: Callable[[bytearray], None]) -> None:
    """Alter the stored bytes, and the digest of them that stands beside."""
    encoded = bytearray(zlib.decompress(base64.b64decode(stored["contribution"])))
    change(encoded)
    stored["sha256"] = hashlib.sha256(encoded).hexdigest()
    stored["contribution"] = base64.b64encode(zlib.compress(bytes(encoded))).decode()


def flip(place: Callable[[Stored], int]) -> Callable[[Stored], None]:
    def change(stored: Stored) -> None:
        resealed(stored, lambda encoded: encoded.__setitem__(place(stored), encoded[place(stored)] ^ 1))

    return change


def sized(name: str) -> Callable[[Stored], int]:
    return lambda stored: stored["derived"][name]


ALTERATIONS: list[tuple[str, Callable[[Stored], None]]] = [
    ("vector: format", lambda s: s.update(format="secureagg test vector v1")),
    ("plan: derived numbers", lambda s: s["derived"].update(B2=s["derived"]["B2"] + 1)),
    ("plan: derived numbers", lambda s: s["derived"].update(Be2=s["derived"]["Be2"] - 1)),
    ("plan: derived numbers", lambda s: s["derived"].update(delta=s["derived"]["delta"] + 1)),
    ("plan: derived numbers", lambda s: s["derived"].update(R=2)),
    ("plan: derived numbers", lambda s: s["derived"].update(proof=s["derived"]["proof"] + 1)),
    ("plan: no proofs", lambda s: s.update(plan=s["plan"].replace('"proofs":true', '"proofs":false'))),
    ("session: id", lambda s: s.update(round_number=8)),
    ("session: record", lambda s: s.update(session_record_sha256="00")),
    ("contribution: stored bytes", lambda s: s.update(sha256="00")),
    ("contribution: length", lambda s: resealed(s, lambda encoded: encoded.append(0))),
    ("contribution: magic", flip(lambda s: 0)),
    ("contribution: session id", flip(lambda s: 5)),
    ("contribution: client", flip(lambda s: 37)),
    ("contribution: signature", flip(lambda s: 41)),
    ("contribution: signature", flip(lambda s: s["derived"]["header"] - 64)),
    ("contribution: proof digest", flip(lambda s: s["derived"]["header"] - 1)),
    ("contribution: frame digest", flip(sized("header"))),
    ("contribution: box digest", flip(lambda s: s["derived"]["header"] + s["derived"]["ciphertext"])),
    ("contribution: proof digest", flip(lambda s: -1)),
    ("box of member 0: it does not open", lambda s: s["member_seeds"].reverse()),
    ("contribution: grid values", lambda s: s["grid"].__setitem__(0, s["grid"][0] + 1)),
    ("contribution: grid values", lambda s: s.update(weight=2)),
    ("contribution: noise", lambda s: s.update(noise=[0] * 163)),
]


@pytest.mark.parametrize(("reason", "alter"), ALTERATIONS)
def test_the_verifier_names_what_was_altered(
    verifier: Any, stored: Stored, reason: str, alter: Callable[[Stored], None]
) -> None:
    alter(stored)
    with pytest.raises(verifier.Refused, match=reason):
        verifier.verify_stored(stored)


OF_NOISE: list[tuple[str, str, Callable[[Stored], None]]] = [
    ("proven-noise", "plan: derived numbers", lambda s: s["derived"].update(T1=s["derived"]["T1"] + 1)),
    ("proven-noise", "plan: derived numbers", lambda s: s["derived"].update(Bn2=s["derived"]["Bn2"] - 1)),
    ("proven-own-noise", "plan: derived numbers", lambda s: s["derived"].update(Bn2=s["derived"]["Bn2"] - 1)),
    ("proven-own-noise", "plan: derived numbers", lambda s: s["derived"].update(B2=s["derived"]["B2"] - 1)),
    ("proven-noise", "session: id", lambda s: s.update(plan=s["plan"].replace('"rounds":2', '"rounds":1'))),
    ("proven-noise", "contribution: not on the roster", lambda s: s.update(client=7)),
    ("proven-noise", "contribution: client", lambda s: s.update(client=6)),
    ("proven-own-noise", "contribution: client", lambda s: s.update(client=0)),
    ("proven-noise", "contribution: signature", flip(lambda s: 41)),
    ("proven-noise", "contribution: grid values", lambda s: s.update(weight=1)),
    ("proven-noise", "contribution: grid values", lambda s: s["grid"].__setitem__(0, s["grid"][0] + 1)),
    ("proven-own-noise", "contribution: grid values", lambda s: s["noise"].__setitem__(0, s["noise"][0] + 2)),
    ("proven-own-noise", "contribution: noise", lambda s: s.pop("noise") and None),
]


@pytest.mark.parametrize(("name", "reason", "alter"), OF_NOISE)
def test_the_verifier_names_what_was_altered_of_noise(
    verifier: Any, name: str, reason: str, alter: Callable[[Stored], None]
) -> None:
    stored = load(f"contributions/{name}")
    alter(stored)
    with pytest.raises(verifier.Refused, match=reason):
        verifier.verify_stored(stored)
