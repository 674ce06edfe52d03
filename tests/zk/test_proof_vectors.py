"""The stored proofs: both verifiers accept them, and the prover makes them again."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from secureagg.ring.xof import PublicExpansion
from secureagg.selfcheck.vectors import STORED
from secureagg.zk import validity
from secureagg.zk.statement import Statement
from tests.vectors import generate_proofs
from tests.zk import slow_verifier

VECTORS = Path(str(STORED)) / "proofs"
NAMES = ("plain", "range")


def load(name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text())
    return stored


@pytest.mark.parametrize("name", NAMES)
def test_the_library_accepts_a_stored_proof(name: str) -> None:
    stored = load(name)
    statement = Statement(**stored["statement"])
    assert [statement.shape.message_length, statement.shape.length, statement.shape.queries] == stored["shape"]
    instance = validity.Instance(
        bytes.fromhex(stored["context"]),
        PublicExpansion(bytes.fromhex(stored["sid"]), stored["label"]),
        *(np.array(stored[part], dtype=np.uint64) for part in ("ciphertext", "combination", "check")),
    )
    proof = zlib.decompress(base64.b64decode(stored["proof"]))
    validity.verify(statement, instance, bytes.fromhex(stored["root"]), proof)


def test_the_slow_verifier_accepts_the_stored_proofs_from_the_command_line() -> None:
    files = [str(VECTORS / f"{name}.json") for name in NAMES]
    command = [sys.executable, "-m", "tests.zk.slow_verifier", *files]
    root = Path(__file__).parent.parent.parent
    lines = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root).stdout.splitlines()
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["150 values", "90 values"]


@pytest.mark.parametrize("number", ["norm_bound", "threshold", "delta"])
def test_the_slow_verifier_refuses_a_stored_proof_of_another_statement(number: str) -> None:
    stored = load("plain")
    stored["statement"][number] += 1
    with pytest.raises(ValueError, match=r"^(first oracle: root|instance: lengths)$"):
        slow_verifier.verify_stored(stored)


def test_the_slow_verifier_names_what_was_altered_in_a_stored_proof() -> None:
    for part, changed, reason in (
        ("proof_sha256", "00" * 32, "vector: digest of the proof"),
        ("format", "secureagg proof vector v2", "vector: format"),
        ("challenges", {}, "vector: challenges"),
        ("context", "00", "first oracle: root"),
    ):
        with pytest.raises(ValueError, match=f"^{reason}$"):
            slow_verifier.verify_stored({**load("plain"), part: changed})


def test_the_generator_makes_the_stored_proofs_byte_for_byte(tmp_path: Path) -> None:
    generate_proofs.write(tmp_path)
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert made == {path.name: path.read_bytes() for path in VECTORS.iterdir()}
