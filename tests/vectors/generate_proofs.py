"""Writes the stored proofs: `python -m tests.vectors.generate_proofs DIRECTORY`
(secureagg/selfcheck/stored/proofs to renew them).

TEST ONLY. The prover's blinding comes from the operating system; here it follows from a label, so that the same bytes
come out every time.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import os
import sys
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from secureagg.zk.transcript import field_elements
from tests.zk import slow_verifier
from tests.zk.instances import SID, Case, honest, prove
from tests.zk.verdicts import LABEL, lengths, numbers, public

STORED = {  # name: what it is about, and its statement
    "plain": (
        "No range argument; four members' threshold, a weight of three.",
        {"values": 150, "degree": 64, "threshold": 4, "max_weight": 5, "weight": 3},
    ),
    "range": (
        "Every value is proven to lie in −60 … 60; two keys, the second of one chunk.",
        {"values": 90, "keys": 2, "threshold": 3, "value_limit": 60},
    ),
}


def case(name: str) -> Case:
    """Return an honest case whose witness follows from its name alone, on every version of numpy."""
    made = honest(**STORED[name][1])
    s = made.statement

    def signed(label: str, count: int, limit: int) -> Any:
        drawn = field_elements(seed, label, count, s.prime) % np.uint64(2 * limit + 1)
        return drawn.astype(np.int64) - limit

    seed = hashlib.sha256(b"secureagg test vector: proof " + name.encode()).digest()
    polynomials = field_elements(seed, "polynomials", s.threshold * s.secrets, s.prime).reshape(s.threshold, -1).copy()
    polynomials[0] = signed("keys", s.secrets, 20) % s.prime
    masks = field_elements(seed, "masks", 3 * s.threshold, s.prime).reshape(-1, 3)
    values, errors = signed("values", s.values, 60), signed("errors", s.coefficients, 9)
    return made.lying(values=values, errors=errors, polynomials=polynomials, masks=masks)


def build(name: str) -> dict[str, Any]:
    """Return one proof with all that it is about, and the challenges that the slow verifier finds in it."""
    made = case(name)
    drawn_keys = itertools.count()

    def draw(count: int) -> bytes:
        return hashlib.shake_256(f"secureagg test vector: proof {name} {next(drawn_keys)}".encode()).digest(count)

    with patch.object(os, "urandom", draw):
        proven = prove(made)
    given, about = numbers(made.statement), public(proven.instance)
    drawn = slow_verifier.verify(given, lengths(made.statement), about, proven.root, proven.proof)
    return {
        "format": "secureagg proof vector v1",
        "about": STORED[name][0],
        "statement": asdict(given),
        "shape": lengths(made.statement),
        "context": made.context.hex(),
        "sid": SID.hex(),
        "label": LABEL,
        "ciphertext": about.ciphertext,
        "combination": about.combination,
        "check": about.check,
        "root": proven.root.hex(),
        "challenges": {key: x.hex() if isinstance(x, bytes) else x for key, x in asdict(drawn).items()},
        "proof_sha256": hashlib.sha256(proven.proof).hexdigest(),
        "proof": base64.b64encode(zlib.compress(proven.proof, 9)).decode(),
    }


def write(directory: Path) -> None:
    """Write every proof into a directory."""
    for name in STORED:
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in build(name).items())
        (directory / f"{name}.json").write_text("{\n" + lines + "\n}\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
