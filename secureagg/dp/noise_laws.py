"""Weights of the noise laws in decimal arithmetic: discrete Gaussian, discrete Laplace, symmetric Skellam.

A law over Z is symmetric and given by f(x) = P(x)/P(0), decreasing for x ≥ 0. Every value up to the law's reach is
within 10^-80 of the truth, for units (σ, scale, √variance) from 1/16 to 2^32. Of the 115 digits carried, the variance
in an exponent costs 20, and a recurrence for cosines, which multiplies an error by at most the square of its length,
5 over m ≤ 2^8 terms and 9 more over c ≤ 2^14; what a sum leaves out is below 10^-84.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, localcontext
from fractions import Fraction

__all__ = ["DIGITS", "GAUSSIAN", "LAPLACE", "SKELLAM", "Law"]

DIGITS = 115

_NEGLIGIBLE = Decimal("1e-86")
_ALIAS = 200.0  # the sums below repeat with a period of twice the k where P(x ≥ k) ≤ e^-200
_REACH = 143.0  # −ln of 10^-62: sums to here are whole sums to within 10^-55, for units up to 2^32 too


@dataclass(frozen=True)
class Law:
    """A family of laws, f(x) = P(x)/P(0) by one parameter.

    values(parameter, step, count): f(0), f(step), …, f((count − 1)·step).
    unit(parameter): the width that sets the scale. reach(parameter): P(|x| > reach) ≤ 10^-55.
    even: whether the smooth function f of x ≥ 0 continues as f(−x) = f(x); otherwise as f(−x) = 1/f(x).
    curvature: c with |f''''| ≤ c/unit⁴ for real x ≥ −unit/64, for units of at least `resolution`.
    resolution: values in a unit from which on neighbours may share a cell.
    """

    name: str
    values: Callable[[Fraction, int, int], list[Decimal]]
    unit: Callable[[Fraction], float]
    reach: Callable[[Fraction], float]
    even: bool
    curvature: float
    resolution: int

    def value(self, parameter: Fraction, x: int) -> Decimal:
        """Return f(x) for x ≥ 0."""
        return self.values(parameter, x, 2)[1] if x else Decimal(1)


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _gaussian(sigma: Fraction, step: int, count: int) -> list[Decimal]:
    """f(x) = exp(−x²/2σ²): neighbours' ratios are a geometric sequence."""
    with localcontext(Context(prec=DIGITS)):
        ratio = (-_decimal(step * step / (2 * sigma * sigma))).exp()
        fall, found = ratio * ratio, [Decimal(1)]
        for _ in range(count - 1):
            found.append(found[-1] * ratio)
            ratio *= fall
        return found


def _laplace(scale: Fraction, step: int, count: int) -> list[Decimal]:
    """f(x) = exp(−|x|/scale)."""
    with localcontext(Context(prec=DIGITS)):
        ratio, found = (-_decimal(step / scale)).exp(), [Decimal(1)]
        for _ in range(count - 1):
            found.append(found[-1] * ratio)
        return found


def _skellam(variance: Fraction, step: int, count: int) -> list[Decimal]:
    """f(x) = I_x(v)/I_0(v): the difference of two Poisson(v/2) has P(x) = e^−v·I_x(v) (Skellam 1946).

    e^−v·I_x(v) = (1/2π)∫ e^{−v(1 − cos θ)} cos xθ dθ, whose mean over N equidistant θ is exactly Σ_j P(x + jN)
    (Trefethen and Weideman, SIAM Review 2014, on such sums). For x within the law's reach, P(x ± N) < e^-250.
    """
    reach = max(_bernstein(variance, _ALIAS), step * (count - 1))
    points = 2 * reach + 1
    with localcontext(Context(prec=DIGITS)):
        v, turn = _decimal(variance), 2 * _pi() / points
        cos_turn, cos_step = _cos(turn), _cos(turn * (step % points))
        found = [Decimal(0)] * count
        last, angle = cos_turn, Decimal(1)  # cos((m − 1)·turn), cos(m·turn), by Chebyshev's recurrence
        last_step, angle_step = cos_step, Decimal(1)
        for m in range(reach + 1):
            weight = (v * (angle - 1)).exp() * (2 if m else 1)
            if weight < _NEGLIGIBLE:
                break
            before, now, twice = weight * angle_step, weight, 2 * angle_step
            for c in range(count):
                found[c] += now
                before, now = now, twice * now - before
            last, angle = angle, 2 * cos_turn * angle - last
            last_step, angle_step = angle_step, 2 * cos_step * angle_step - last_step
        return [value / found[0] for value in found]


def _bernstein(variance: Fraction, exponent: float) -> int:
    """Return k with P(x ≥ k) ≤ e^−exponent, from P(x ≥ k) ≤ exp(−k²/(2(v + k/3)))."""
    return math.ceil(exponent / 3 + math.sqrt(exponent * exponent / 9 + 2 * exponent * float(variance)))


def _pi() -> Decimal:
    """π by Machin's formula, 16·arctan(1/5) − 4·arctan(1/239)."""

    def arctan_inverse(n: int) -> Decimal:
        power, total, k = Decimal(1) / n, Decimal(0), 1
        while power > _NEGLIGIBLE**2:
            total += power / k if k % 4 == 1 else -power / k
            power, k = power / (n * n), k + 2
        return total

    return 16 * arctan_inverse(5) - 4 * arctan_inverse(239)


def _cos(angle: Decimal) -> Decimal:
    """cos by its series, for 0 ≤ angle ≤ 2π: the terms' sum is at most 10^3, so three digits are lost."""
    term = total = Decimal(1)
    k = 0
    while abs(term) > _NEGLIGIBLE**2:
        k += 2
        term *= -angle * angle / (k * (k - 1))
        total += term
    return total


# |f''''| of a Gaussian is at most 3/σ⁴, at 0. Of the Skellam law it is at most ∫θ⁴g(θ)dθ / ∫g(θ)dθ over [−π, π], with
# g(θ) = e^{−v(1−cos θ)}; as θ²/2 ≥ 1 − cos θ ≥ (11/24)·θ² for |θ| ≤ 1, that is 3·(12/11)^{5/2}/v² = 3.73/v² and, from
# |θ| > 1, less than 10^-1000. Of e^{−x/s} at x ≥ −s/64 it is at most e^{1/64}/s⁴.
GAUSSIAN = Law("sigma", _gaussian, float, lambda sigma: math.sqrt(2 * _REACH) * float(sigma) + 2, True, 3.0, 128)
SKELLAM = Law("variance", _skellam, lambda v: math.sqrt(v), lambda v: _bernstein(v, _REACH), True, 3.8, 128)
LAPLACE = Law("scale", _laplace, float, lambda scale: _REACH * float(scale) + 2, False, 1.02, 64)
