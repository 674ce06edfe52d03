"""Tails of the binomial law, for samples that turn out too large or too small."""

from __future__ import annotations

import math

__all__ = ["binomial_tail"]


def binomial_tail(n: int, rate: float, above: int) -> float:
    """Return P(Binomial(n, rate) > above), summed until the terms no longer matter.

    Requires: above ≥ n·rate − 1, from where on terms fall; for a lower tail, ask of n − X at 1 − rate.
    """
    if above >= n or rate <= 0:
        return 0.0
    if rate >= 1:
        return 1.0
    k = above + 1
    choose = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    term = math.exp(choose + k * math.log(rate) + (n - k) * math.log1p(-rate))
    total, odds = 0.0, rate / (1 - rate)
    while k <= n and term > total * 1e-17:
        total += term
        term *= (n - k) / (k + 1) * odds
        k += 1
    return min(total, 1.0)
