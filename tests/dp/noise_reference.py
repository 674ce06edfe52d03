"""The noise laws in plain integers and by other formulas than the package's; shares no code with it."""

from __future__ import annotations

from fractions import Fraction

from tests.ring.reference import exp_negative, gaussian_law


def laplace_law(scale: Fraction, reach: int, bits: int) -> list[int]:
    """Return 2^bits·P(x) for x = 0, …, reach: (1 − q)/(1 + q)·q^x, q = exp(−1/scale), each within 2^-30."""
    guard = bits + 60
    q, weight, found = exp_negative(1 / scale, guard), 1 << guard, []
    for _ in range(reach + 1):
        found.append(weight * ((1 << guard) - q) // ((1 << guard) + q) >> 60)
        weight = weight * q >> guard
    return found


def skellam_law(variance: Fraction, reach: int, bits: int) -> list[int]:
    """Return 2^bits·P(x) for x = 0, …, reach: P ∝ I_x(v) by Miller's backward recurrence
    I_{x−1} = I_{x+1} + (2x/v)·I_x from far out, where P < 2^-600, down to 0."""
    p, q = variance.numerator, variance.denominator
    far = reach + 200 + int((1200 * float(variance)) ** 0.5)
    above, here, rising = 0, 1 << (bits + 200), []
    for x in range(far, 0, -1):
        above, here = here, above + 2 * x * q * here // p
        rising.append(here)
    weights = rising[::-1]
    total = weights[0] + 2 * sum(weights[1:])
    return [(weight << bits) // total for weight in weights[: reach + 1]]


LAWS = {"gaussian": gaussian_law, "laplace": laplace_law, "skellam": skellam_law}


def law(name: str, parameter: float | str, reach: int, bits: int) -> list[int]:
    """Return 2^bits·P(0), …, 2^bits·P(reach) for a parameter as the decimal it prints as."""
    return LAWS[name](Fraction(str(parameter)), reach, bits)
