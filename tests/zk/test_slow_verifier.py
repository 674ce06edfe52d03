"""The verifier beside one that shares no code with it: both accept what is true, both refuse what has been altered."""

from __future__ import annotations

import ast
import random
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from secureagg.errors import ParameterError
from secureagg.ring.xof import PublicExpansion
from secureagg.zk import iop
from tests.zk import slow_verifier
from tests.zk.instances import PRIME, SID, Case, Proven, honest, prove
from tests.zk.slow_format import MASKS, Numbers, Sizes
from tests.zk.verdicts import lengths, numbers, reason, sizes


def test_the_slow_verifier_shares_no_code() -> None:
    modules, found = [Path(str(slow_verifier.__file__))], set[str]()
    while modules:
        for node in ast.walk(ast.parse(modules.pop().read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in set(names) - found:
                found.add(name)
                modules += [Path(__file__).parent / f"{name.split('.')[-1]}.py"] if name.startswith("tests") else []
    allowed = {"tests.zk.slow_arithmetic", "tests.zk.slow_format"}
    assert allowed <= found
    others = {name.split(".")[0] for name in found - allowed}
    assert others - set(sys.stdlib_module_names) == {"cryptography"}


TRUE: dict[str, dict[str, Any]] = {
    "the smallest": {"values": 1, "threshold": 1},
    "one key, two chunks": {"values": 40},
    "a short last chunk": {"values": 150, "degree": 64, "threshold": 4, "max_weight": 6, "weight": 3},
    "every place taken": {"values": 127, "degree": 64, "max_weight": 2, "weight": 2},
    "two rows of values": {"values": 600, "degree": 64, "threshold": 3, "max_weight": 2**20, "weight": 2**20},
    "two keys, the second of one chunk": {"values": 90, "keys": 2, "threshold": 3},
    "a range": {"values": 40, "value_limit": 700},
    "a range of −1 … 1": {"values": 70, "value_limit": 1, "threshold": 1},
    "noise alone": {"values": 40, "max_weight": 0, "weight": 0},
    "noise alone, two keys, a range": {"values": 90, "keys": 2, "value_limit": 700, "max_weight": 0, "weight": 0},
    "a range, two rows of values, two keys": {
        "values": 700, "degree": 64, "keys": 2, "threshold": 4, "value_limit": 300, "max_weight": 9, "weight": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TRUE)
def test_both_accept_and_agree_on_the_sizes(name: str) -> None:
    case = honest(**TRUE[name], seed=len(name))
    s, z = case.statement, sizes(case.statement)
    assert (z.m, z.bits, z.dealt, z.table) == (s.projection_bits, s.bits, s.dealt, s.table)
    assert (z.first, z.second, z.bytes) == (s.shape.rows.first, s.shape.rows.second, s.proof_bytes)
    assert -100.2 < np.log2(float(z.error())) <= -100
    assert s.soundness_bits == pytest.approx(-np.log2(float(z.error())))
    assert not reason(s, prove(case))


def test_fewer_queries_are_refused() -> None:
    ell, n, t = lengths(honest().statement)
    with pytest.raises(ValueError, match=r"^shape: soundness$"):
        Sizes(numbers(honest().statement), ell, n, t - 1)


@cache
def sample() -> tuple[Case, Proven]:
    """Return a proof whose masks are zero: as convincing as any, and with elements so small that x + q fits 52 bits."""
    case = honest(values=70, value_limit=400, threshold=3, max_weight=4, weight=2)
    drawn = iop._uniform

    def zero_masks(stream: Any, shape: tuple[int, int], prime: int) -> Any:
        return np.zeros(shape, dtype=np.uint64) if shape[0] == MASKS else drawn(stream, shape, prime)

    with patch.object(iop, "_uniform", zero_masks):
        proven = prove(case)
    assert not reason(case.statement, proven)
    return case, proven


Edit = Callable[[bytes], bytes]


def put(at: int, new: bytes) -> Edit:
    return lambda proof: proof[:at] + new + proof[at + len(new) :]


def flip(bit: int) -> Edit:
    def edit(proof: bytes) -> bytes:
        return put(bit // 8, bytes([proof[bit // 8] ^ 1 << bit % 8]))(proof)

    return edit


def element(index: int, new: Callable[[int], int]) -> Edit:
    """Replace field element number `index`."""

    def edit(proof: bytes) -> bytes:
        number, shift = int.from_bytes(proof[32:], "little"), 52 * index
        x = number >> shift & (2**52 - 1)
        assert new(x) != x and 0 <= new(x) < 2**52
        return proof[:32] + (number + (new(x) - x << shift)).to_bytes(len(proof) - 32, "little")

    return edit


def edits(seed: int) -> dict[str, tuple[Edit, str]]:
    """Return an alteration of every part of the sample proof, at places that follow from the seed."""
    z, chosen = sizes(sample()[0].statement), random.Random(seed)
    t, rows = z.t, z.second + MASKS
    parts = {"sums": 2, "linear": 2 * z.quadratic, "quotients": 2 * z.k, "proximity": 3 * z.k}
    parts |= {"first columns": z.first * t, "second columns": z.second * t, "mask columns": (rows - z.second) * t}
    found: dict[str, tuple[Edit, str]] = {"second root": (flip(chosen.randrange(256)), "first oracle: root")}
    start = 0
    for part, count in parts.items():
        expected = "second oracle: root" if part in ("second columns", "mask columns") else "first oracle: root"
        at = start + chosen.randrange(count)
        found[f"{part}, plus one"] = element(at, lambda x: (x + 1) % PRIME), expected
        found[f"{part}, a bit"] = flip(256 + 52 * at + chosen.randrange(20)), expected
        found[f"{part}, q"] = element(at, lambda _: PRIME), "proof: an element is not reduced"
        start += count
    assert start == z.elements and z.elements % 16
    zero = element(chosen.randrange(2), lambda x: x + PRIME)  # a sum of masks: zero in the sample
    found["the same element plus q"] = zero, "proof: an element is not reduced"
    found["padding of the elements"] = element(z.elements, lambda x: x + 1), "proof: padding of the elements"
    at = 32 + z.packed
    for which in ("first", "second"):
        found[f"{which} salts"] = flip(8 * at + chosen.randrange(128 * t)), f"{which} oracle: root"
        found[f"{which} path"] = flip(8 * (at + 16 * t) + chosen.randrange(256 * t)), f"{which} oracle: root"
        at += 16 * t + z.path
        found[f"{which} path's padding"] = (
            flip(8 * at - 1 - chosen.randrange(8)),
            f"{which} oracle: padding of the path",
        )
    found["truncated"] = (lambda proof: proof[: -chosen.randint(1, 40)]), "proof: length"
    found["extended"] = (lambda proof: proof + bytes(chosen.randint(1, 40))), "proof: length"
    found["empty"] = (lambda _: b""), "proof: length"
    return found


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", edits(0))
def test_both_refuse_an_altered_proof(name: str, seed: int) -> None:
    case, proven = sample()
    edit, expected = edits(seed)[name]
    found = reason(case.statement, replace(proven, proof=edit(proven.proof)))
    if name.endswith("a bit"):  # may make the element q or more, with probability 2^-32
        assert found in (expected, "proof: an element is not reduced")
    else:
        assert found == expected


def test_both_refuse_any_other_bit() -> None:
    case, proven = sample()
    chosen = random.Random(3)
    for _ in range(24):
        bit = chosen.randrange(8 * len(proven.proof))
        assert reason(case.statement, replace(proven, proof=flip(bit)(proven.proof))), bit


def later(array: Any, at: int) -> Any:
    """Return a copy of an array with one element one more, mod q."""
    copy = array.copy()
    copy.reshape(-1)[at] = (int(copy.reshape(-1)[at]) + 1) % PRIME
    return copy


@pytest.mark.parametrize("at", [0, 1, -1])
@pytest.mark.parametrize("part", ["ciphertext", "combination", "check"])
def test_both_refuse_another_instance(part: str, at: int) -> None:
    case, proven = sample()
    instance = replace(proven.instance, **{part: later(getattr(proven.instance, part), at)})
    assert reason(case.statement, replace(proven, instance=instance))


def test_both_refuse_another_root_context_or_session() -> None:
    case, proven = sample()
    roots = (bytes([proven.root[0] ^ 1]) + proven.root[1:], proven.root[:31], proven.root + b"\0", b"", bytes(32))
    for root in roots:
        assert reason(case.statement, replace(proven, root=root))
    for context in (b"", case.context[:-1], case.context + b"\0"):
        assert reason(case.statement, replace(proven, instance=replace(proven.instance, context=context)))
    other = replace(proven.instance, polynomials=PublicExpansion(SID, "others"))
    assert reason(case.statement, replace(proven, instance=other), label="others")


@pytest.mark.parametrize("number", [name for name in Numbers.__annotations__ if name != "prime"])
def test_both_refuse_another_statement(number: str) -> None:
    """Where lengths stay the same; otherwise the fast verifier may name the caller's mistake."""
    case, proven = sample()
    try:
        other = replace(case.statement, **{number: getattr(case.statement, number) + 1})
        assert reason(other, proven)
    except ParameterError:
        assert number in ("degree", "keys", "coefficients", "threshold")
