"""Numbers a plan needs of discrete Gaussians, be they encryption errors or noise for privacy: how far sums reach, and
the smoothing parameter. Rounded upwards.
"""

from __future__ import annotations

import math
from decimal import ROUND_CEILING, Context, Decimal, localcontext

from secureagg.errors import ParameterError

__all__ = ["noise_squared_norm_bound", "smoothing_parameter", "tail_bound"]

_DIGITS = 50
_UPWARDS = 1 + Decimal("1e-40")  # more than all rounding errors of the few operations below
_PI = Decimal("3.14159265358979323846264338327950288419716939937511")


def tail_bound(sigma: float, contributions: int, coefficients: int, failure_bits: int = 40) -> int:
    """Return E such that sums of n = `contributions` independent discrete Gaussians stay within ±E in all
    m = `coefficients` places, except with probability 2^−failure_bits.

    E is the smallest integer with 2m·exp(−(E+1)²/2nσ²) ≤ 2^−failure_bits: a discrete Gaussian centred at 0 is
    sub-Gaussian, E[exp(tX)] = exp(t²σ²/2)·Σ exp(−(x−tσ²)²/2σ²) / Σ exp(−x²/2σ²) ≤ exp(t²σ²/2), since over the
    integers no shifted Gaussian sums to more than the centred one (Canonne, Kamath, Steinke, NeurIPS 2020). For
    draws from a `GaussianTable` the failure probability grows by n·m·2^−distance_bits, below 2^-50 for n·m ≤ 2^70.
    """
    if not (math.isfinite(sigma) and sigma > 0 and contributions >= 1 and coefficients >= 1 and failure_bits >= 1):
        raise ParameterError(
            f"tail bound of {contributions} contributions, {coefficients} coefficients, sigma = {sigma}, "
            f"2^-{failure_bits}: all must be positive"
        )
    with localcontext(Context(prec=_DIGITS)):
        log = Decimal(2 * coefficients).ln() + failure_bits * Decimal(2).ln()
        square = 2 * contributions * Decimal(repr(float(sigma))) ** 2 * log * _UPWARDS
        return math.isqrt(int(square.to_integral_value(ROUND_CEILING)) - 1)


def noise_squared_norm_bound(sigma: float, coefficients: int, failure_bits: int = 40) -> int:
    """Return ⌊σ²(n + 2√(n·x) + 2x)⌋, x = ln 2^failure_bits: the squared norm of n = `coefficients` discrete Gaussians
    is larger with probability ≤ 2^−failure_bits only.

    Laurent and Massart (Ann. Stat. 2000, Lemma 1) for χ² with n degrees of freedom, by its moment generating function
    (1 − 2λ)^(−n/2), which bounds the discrete Gaussian's: E[exp(λX²/σ²)] = Θ(1 − 2λ)/Θ(1), where Θ(a) =
    Σ exp(−a·x²/2σ²) over the integers, and √a·Θ(a) does not decrease in a (Poisson summation: √(2π)·σ times a sum of
    exp(−2π²σ²k²/a)), so that Θ(1 − 2λ) ≤ Θ(1)/√(1 − 2λ). Rounded down: squared norms are whole numbers.
    docs/proofs/completeness.md has the argument in full.
    """
    if not (math.isfinite(sigma) and sigma > 0 and coefficients >= 1 and failure_bits >= 1):
        raise ParameterError(
            f"norm bound of {coefficients} coefficients, sigma = {sigma}, 2^-{failure_bits}: all must be positive"
        )
    with localcontext(Context(prec=_DIGITS)):
        x = failure_bits * Decimal(2).ln()
        square = Decimal(repr(float(sigma))) ** 2 * (coefficients + 2 * (coefficients * x).sqrt() + 2 * x)
        return int(square / _UPWARDS)


def smoothing_parameter(coefficients: int, distance_bits: int = 128) -> float:
    """Return an upper bound of η_ε(Z^n) / √(2π), in standard-deviation units, for n = `coefficients` and
    ε = 2^−distance_bits.

    Micciancio and Regev (SIAM J. Comput. 2007, Lemma 3.3): η_ε(Z^n) ≤ √(ln(2n(1 + 1/ε))/π); dividing by √(2π) turns
    their Gaussian parameter into a standard deviation. Hint-MLWE (Kim et al., CRYPTO 2023) asks σ ≥ 2√2 times this.
    """
    if coefficients < 1 or distance_bits < 1:
        raise ParameterError(f"smoothing parameter of {coefficients} coefficients at 2^-{distance_bits}")
    with localcontext(Context(prec=_DIGITS)):
        square = Decimal(2 * coefficients * (1 + (1 << distance_bits))).ln() / (2 * _PI**2)
        return math.nextafter(float(square.sqrt() * _UPWARDS), math.inf)
