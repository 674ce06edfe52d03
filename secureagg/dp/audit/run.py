"""`audit`: a lower bound on the ε that a mechanism really has, from one run of it with canaries in or out at random.

The auditor tosses a coin for each canary, runs the mechanism once, and guesses from what it released which canaries
were in. Guessing better than the claim allows refutes the claim, with the stated confidence. Guessing no better shows
nothing but that this attack on these canaries did not: an audit never shows that a mechanism is private.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from secureagg.checks import require_between, require_whole
from secureagg.dp.audit.bounds import independent_bound, one_run_bound, one_run_epsilon, one_run_rejects
from secureagg.dp.audit.curves import Curves, GaussianCurves, gaussian_epsilon, normal_cdf, normal_quantile
from secureagg.dp.relation import Relation
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

__all__ = ["AuditResult", "Claim", "Mechanism", "Relation", "audit", "default_guesses"]

Mechanism = Callable[[NDArray[np.bool_]], NDArray[np.float64]]

_POWER = 0.95


@dataclass(frozen=True)
class Claim:
    """(ε, δ) for a neighbouring relation. Raises: ParameterError unless 0.01 ≤ ε ≤ 32 and 1e-15 ≤ δ ≤ 0.1."""

    epsilon: float
    delta: float
    relation: Relation

    def __post_init__(self) -> None:
        require_between("epsilon", self.epsilon, 0.01, 32)
        require_between("delta", self.delta, 1e-15, 0.1)
        if self.relation not in (Relation.ZERO_OUT, Relation.REPLACE) or not isinstance(self.relation, Relation):
            raise ParameterError(f"relation must be ZERO_OUT or REPLACE, which canaries show, not {self.relation!r}")


@dataclass(frozen=True)
class AuditResult:
    """What an audit found. Each bound alone exceeds the mechanism's ε with probability at most 1 − confidence, the one
    by curves for mechanisms of the tested family only.

    curve_epsilon: ε, at the claim's δ, of the last curve of the family that the guesses refute, and what is compared
        with the claim. By Algorithm 3 of Mahloujifar et al. 2024, or by Clopper and Pearson if `independent`. A
        mechanism outside the family may keep to (ε, δ) and be above it: at the same ε, randomised response has more
        right guesses than Gaussian noise
    general_epsilon: from the p-value of Steinke et al. 2023, appendix D, which assumes no family of curves
    detectable_epsilon: a Gaussian mechanism whose ε is this or more would have been found out with probability about
        95 % by the same number of canaries and guesses; inf if none would
    """

    claim: Claim
    confidence: float
    canaries: int
    guesses: int
    correct: int
    independent: bool
    curve_epsilon: float
    general_epsilon: float
    detectable_epsilon: float

    @property
    def violated(self) -> bool:
        """Whether the claim is refuted, for a mechanism of the family; for others see `general_epsilon`."""
        return self.curve_epsilon > self.claim.epsilon

    @property
    def verdict(self) -> str:
        """One sentence; it never says that the mechanism is private."""
        if self.violated:
            others = f"; of a mechanism with other curves, above {self.general_epsilon:.2f} only"
            return (
                f"violation: epsilon is above {self.curve_epsilon:.2f} by the claim's curves, with confidence "
                f"{self.confidence:.0%}, and {self.claim.epsilon:g} is claimed"
                + (others if self.general_epsilon <= self.claim.epsilon else "")
            )
        found = f"a Gaussian mechanism of epsilon {self.detectable_epsilon:.2f} or more"
        shown = found if math.isfinite(self.detectable_epsilon) else "no Gaussian mechanism, however little noise,"
        return f"no violation found; {shown} would have been, with probability about {_POWER:.0%}"


def audit(
    mechanism: Mechanism,
    canaries: int = 10_000,
    *,
    claimed: Claim,
    curves: Curves | None = None,
    guesses: int | None = None,
    in_share: float = 0.5,
    independent: bool = False,
    confidence: float = 0.95,
    stream: SecretStream | None = None,
) -> AuditResult:
    """Return what one run of the mechanism shows about its ε.

    mechanism: takes bool[canaries], which are in, and returns float64[canaries], for each a score that is the larger,
        and above 0, the more likely it was in. The scores must come from what the mechanism releases alone.
    claimed: of any one canary, whatever the others are.
    curves: the family the mechanism is claimed to be of, without which nothing is refuted; by default Gaussian DP.
    guesses: how many canaries to guess, the lowest scores out and the highest in, abstaining from the rest. Chosen
        before the run: trying several and keeping the best is no audit. By default `default_guesses`.
    in_share: of the guesses, how many say in; more than half where only being in shows, as with sampling.
    independent: every canary is in a run of its own, with noise of its own. All are guessed, by the score's sign, and
        the bound is sharper; given one run with all canaries in it, it would be wrong.
    stream: where the coins come from if not the operating system.
    Raises: ParameterError for numbers out of range, and for scores of another shape or not finite.
    """
    require_whole("canaries", canaries, 20, 10**7)
    require_between("in_share", in_share, 0, 1)
    require_between("confidence", confidence, 0.5, 1 - 1e-9)
    family: Curves = curves or GaussianCurves(claimed.delta)
    if independent and guesses not in (None, canaries):
        raise ParameterError(f"guesses={guesses}: independent canaries are all guessed")
    count = canaries if independent else default_guesses(canaries) if guesses is None else guesses
    require_whole("guesses", count, 2, canaries)
    present = _coins(canaries, stream or SecretStream())
    scores = np.asarray(mechanism(present.copy()), dtype=np.float64)
    if scores.shape != (canaries,) or not np.isfinite(scores).all():
        raise ParameterError(f"the mechanism's scores must be {canaries} finite numbers, not of shape {scores.shape}")
    error = 1 - confidence
    if independent:
        right = (scores > 0) == present
        ins, right_ins = int(present.sum()), int(right[present].sum())
        strength = independent_bound(family, ins, right_ins, canaries - ins, int(right.sum()) - right_ins, error)
        correct = int(right.sum())
    else:
        order = np.argsort(scores, kind="stable")
        upper = round(in_share * count)
        lower = count - upper
        correct = int((~present[order[:lower]]).sum() + present[order[canaries - upper :]].sum())
        strength = one_run_bound(family, canaries, count, correct, error)
    return AuditResult(
        claimed,
        confidence,
        canaries,
        count,
        correct,
        independent,
        family.epsilon(strength) if strength > 0 else 0.0,
        one_run_epsilon(canaries, count, correct, claimed.delta, error),
        _detectable(family, canaries, count, independent, claimed, error),
    )


def default_guesses(canaries: int) -> int:
    """Return 10·√m, at most m: near the best for Gaussian noise at ε from 1 to 8, for m from 10^4 to 10^6."""
    return min(canaries, 10 * math.isqrt(canaries))


def _coins(count: int, stream: SecretStream) -> NDArray[np.bool_]:
    octets = np.frombuffer(stream.draw_bytes(-(-count // 8)), dtype=np.uint8)
    return np.unpackbits(octets)[:count].astype(bool)


def _detectable(curves: Curves, canaries: int, guesses: int, independent: bool, claim: Claim, error: float) -> float:
    """Return the least ε of Gaussian mechanisms that are refuted as not of the claim with probability about 95 %."""
    claimed = _strength(curves, claim.epsilon)
    inverse = curves.inverse(claimed)

    def refuted(correct: int) -> bool:
        if not independent:
            return one_run_rejects(inverse, canaries, guesses, correct, error)
        half = canaries // 2
        return independent_bound(curves, half, correct // 2, half, correct // 2, error) > claimed

    if not refuted(guesses):
        return math.inf
    low, high = guesses // 2, guesses  # of right guesses: not refuted, refuted
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if refuted(middle) else (middle, high)
    mu, too_much = 0.0, 16.0
    for _ in range(30):
        middle_mu = (mu + too_much) / 2
        p = normal_cdf(middle_mu / 2) if independent else _accuracy(middle_mu, guesses / canaries)
        enough = guesses * p + normal_quantile(1 - _POWER) * math.sqrt(guesses * p * (1 - p)) >= high
        mu, too_much = (mu, middle_mu) if enough else (middle_mu, too_much)
    return gaussian_epsilon(too_much, claim.delta)


def _strength(curves: Curves, epsilon: float) -> float:
    low, high = 0.0, curves.max_strength
    for _ in range(16):
        middle = (low + high) / 2
        low, high = (low, middle) if curves.epsilon(middle) > epsilon else (middle, high)
    return high


def _accuracy(mu: float, share: float) -> float:
    """Return the probability that a guess is right if the upper and lower share/2 of N(±μ/2, 1) scores are guessed."""
    low, high = -mu / 2 - 8, mu / 2 + 8
    for _ in range(50):
        t = (low + high) / 2
        above = (normal_cdf(mu / 2 - t) + normal_cdf(-mu / 2 - t)) / 2
        low, high = (t, high) if above > share / 2 else (low, t)
    return normal_cdf(mu / 2 - low) / (normal_cdf(mu / 2 - low) + normal_cdf(-mu / 2 - low))
