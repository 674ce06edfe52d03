"""Both verifiers' verdict on one proof."""

from __future__ import annotations

from dataclasses import astuple

from secureagg.errors import EncodingError
from secureagg.zk import validity
from secureagg.zk.statement import Statement
from tests.zk import slow_verifier
from tests.zk.instances import SID, Proven
from tests.zk.slow_format import Numbers, Public, Sizes

__all__ = ["LABEL", "lengths", "numbers", "public", "reason", "sizes"]

LABEL = "public polynomials"


def numbers(statement: Statement) -> Numbers:
    return Numbers(*astuple(statement))


def lengths(statement: Statement) -> tuple[int, int, int]:
    """Return ℓ, n, t."""
    return statement.shape.message_length, statement.shape.length, statement.shape.queries


def sizes(statement: Statement) -> Sizes:
    return Sizes(numbers(statement), *lengths(statement))


def public(instance: validity.Instance, label: str = LABEL) -> Public:
    arrays = (each.tolist() for each in (instance.ciphertext, instance.combination, instance.check))
    return Public(instance.context, SID, label, *arrays)


def reason(statement: Statement, proven: Proven, *, label: str = LABEL) -> str:
    """Return for what the slow verifier refuses a proof, "" if it accepts; the fast one must agree."""
    slow = fast = ""
    about = public(proven.instance, label)
    try:
        slow_verifier.verify(numbers(statement), lengths(statement), about, proven.root, proven.proof)
    except ValueError as error:
        slow = str(error)
    try:
        validity.verify(statement, proven.instance, proven.root, proven.proof)
    except EncodingError as error:
        fast = str(error)
    assert bool(slow) == bool(fast), f"slow: {slow or 'accepted'}; fast: {fast or 'accepted'}"
    return slow
