"""What became of a mutated message: which check refused it, or that it was harmless. Anything else is a failure."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from secureagg.errors import SecureAggError

__all__ = ["CHECKS", "Verdict", "judge"]

# The checks in the order in which a message meets them; the patterns are those of the errors' texts.
CHECKS: dict[str, str] = {
    "length": r"bytes, \d+ expected|truncated|trailing bytes|bytes of identities|no contribution of",
    "magic, version": r"starts with b|format version|unknown format",
    "session id": r"made for another session",
    "kind, recipient": r"kind \d+ (is unknown|given)|made for committee member",
    "on the roster": r"is not on the roster|is not a (client|committee member)",
    "signature": r"the signature of this",
    "digest of a part": r"is not the one (that was|it|client \d+) signed",
    "proof": r"proof: the (linear|product|committed|padding)|proof: an opened column",
    "canonical residue": r"below their prime|below its prime",
    "order, each once": r"ascending|already admitted|stand once|stands once|same key",
    "quorum": r"the quorum is|with a quorum of",
    "another set": r"another set of clients|already answered",
    "contents": r"bytes of share sums|canonical form|signed two|dtype code|impossible shape|d = 0|^plan: ",
    "too few usable": r"of \d+ needed",
    "whose prekey": r"is of another member or round|low-order|another prekey",
    "residual": r"the residual exceeds|padding of the sum|sum of the weights|beyond clients|nothing was decoded",
    "tally": r"published sum is not|own contribution|its contribution",
    "session's parts": r"the roster has|tensors given|tensor \d+ is",
}


@dataclass(frozen=True)
class Verdict:
    """check: the check that refused the message, or what shows that it did no harm; failure: what went wrong, or ""."""

    check: str
    failure: str = ""


def judge(deliver: Callable[[], str]) -> Verdict:
    """Run a delivery; it returns why the outcome is right, raises a named error, or raises AssertionError."""
    try:
        return Verdict(deliver())
    except SecureAggError as error:
        text = str(error)
        name = next((name for name, pattern in CHECKS.items() if re.search(pattern, text)), None)
        return Verdict(name or "?", "" if name else f"no check is known for {type(error).__name__}: {text}")
    except Exception as error:  # the subject of these tests: no other type may escape
        return Verdict("?", f"{type(error).__name__}: {error}")
