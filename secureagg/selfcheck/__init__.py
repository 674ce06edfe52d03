"""The verification that a user runs on a machine of their own: laws, and attacks that must fail.

`secureagg selfcheck` is its face. Cases are drawn from one seed, so that a failure can be run again; keys, errors and
blindings come from the operating system, as always. docs/selfcheck.md.
"""

from secureagg.selfcheck import (
    accountability,
    exactness,
    homomorphism,
    ledger,
    noisy_sums,
    samplers,
    seal,
    soundness,
    tampering,
    vectors,
)
from secureagg.selfcheck.law import FALSE_ALARM, MOST_COMPARISONS, Case, Extra, Law, LawBroken
from secureagg.selfcheck.run import BROKEN, HOLDS, NOT_CHECKED, Finding, check, run

__all__ = [
    "BROKEN",
    "FALSE_ALARM",
    "HOLDS",
    "LAWS",
    "MOST_COMPARISONS",
    "NOT_CHECKED",
    "Case",
    "Extra",
    "Finding",
    "Law",
    "LawBroken",
    "check",
    "run",
]

LAWS = (
    *homomorphism.LAWS,
    *exactness.LAWS,
    *samplers.LAWS,
    *noisy_sums.LAWS,
    *soundness.LAWS,
    *tampering.LAWS,
    *accountability.LAWS,
    *ledger.LAWS,
    *vectors.LAWS,
    *seal.LAWS,
)
