"""From a target ε to the noise or the rounds it allows. Whatever is returned was itself asked for its ε."""

from __future__ import annotations

import math
from collections.abc import Callable

from secureagg.checks import require_between, require_whole
from secureagg.dp.accounting import Events, epsilon, quick_epsilon, require_delta, require_epsilon
from secureagg.errors import ParameterError

__all__ = ["EPSILON_MARGIN", "calibrate_noise", "calibrate_rounds"]

EPSILON_MARGIN = 0.999  # of ε: the share that stored noise is made for, so that other versions find ε within the target


def calibrate_noise(
    target_epsilon: float,
    delta: float,
    make_event: Callable[[float], Events],
    *,
    minimum: float = 2.0**-10,
    maximum: float = 2.0**40,
    tolerance: float = 1e-3,
) -> float:
    """Return noise whose events cost at most target_epsilon, and at most 1 + tolerance times the least such noise.

    make_event: noise, whatever number it is, to the events released with it; more noise must not cost more. It is
    asked for noise within [minimum, maximum]. Guarantees: ε was computed *for the noise returned*, and is ≤ the target.
    Raises: ParameterError if the maximum does not suffice.
    """
    require_epsilon("target_epsilon", target_epsilon)
    require_delta(delta)
    require_between("tolerance", tolerance, 1e-9, 1)
    for name, bound in (("minimum", minimum), ("maximum", maximum)):
        require_between(name, bound, 1e-12, 1e18)

    def cost(noise: float, quick: bool = False) -> float:
        return (quick_epsilon if quick else epsilon)(make_event(noise), delta)

    # Rényi divergence is quick and nearly right: it finds where to look, and then loss distributions decide.
    guess = min(max(1.0, minimum), maximum)
    while guess < maximum and cost(guess, quick=True) > target_epsilon:
        guess = min(2 * guess, maximum)
    while guess > minimum and cost(guess, quick=True) <= target_epsilon:
        guess = max(guess / 1.1, minimum)
    low, high, above, below = minimum, guess, math.inf, cost(guess)
    while below > target_epsilon:
        if high >= maximum:
            raise ParameterError(
                f"ε = {target_epsilon:g} needs more noise than {maximum:g}, the most there is: give a larger epsilon, "
                "or fewer rounds"
            )
        low, above, high = high, below, min(1.1 * high, maximum)
        below = cost(high)
    while above == math.inf and high > minimum:
        low = max(high / 1.1, minimum)
        if (found := cost(low)) <= target_epsilon:
            high, below = low, found
        else:
            above = found
    return _narrow(cost, target_epsilon, (low, high), (above, below), tolerance) if above < math.inf else high


def _narrow(
    cost: Callable[[float], float],
    target: float,
    noise: tuple[float, float],
    costs: tuple[float, float],
    tolerance: float,
) -> float:
    """Return noise of cost ≤ target from a bracket whose lower end costs more, by bisection in logarithms.

    Every other point is where a straight line between the ends meets the target, moved outwards by half the tolerance
    on alternating sides, so that both ends close in.
    """
    (low, high), (above, below) = noise, costs
    turn = 0
    while high > low * (1 + tolerance):
        middle = math.sqrt(low * high)
        if turn % 3 < 2 and math.isfinite(above) and below > 0:
            share = math.log(above / target) / math.log(above / below)
            aimed = low * (high / low) ** share * (1 + tolerance * (0.4 if turn % 3 == 0 else -0.4))
            middle = min(max(aimed, low * (1 + tolerance / 4)), high / (1 + tolerance / 4))
        found = cost(middle)
        if found <= target:
            high, below = middle, found
        else:
            low, above = middle, found
        turn += 1
    return high


def calibrate_rounds(
    target_epsilon: float, delta: float, make_event: Callable[[int], Events], *, maximum: int = 10**7
) -> int:
    """Return the most rounds or steps, at most `maximum`, whose events cost at most target_epsilon; 0 if none do."""
    require_epsilon("target_epsilon", target_epsilon)
    require_delta(delta)
    require_whole("maximum", maximum, 1, 10**9)

    def affordable(rounds: int, quick: bool) -> bool:
        return (quick_epsilon if quick else epsilon)(make_event(rounds), delta) <= target_epsilon

    low, high = 0, maximum + 1
    while high - low > max(1, low // 8):
        middle = (low + high) // 2 if low else max(1, math.isqrt(high))
        low, high = (middle, high) if affordable(middle, quick=True) else (low, middle)
    high, step = maximum + 1, max(1, low // 8)
    while low and not affordable(low, quick=False):  # loss distributions round up, by a hair
        high, low = low, low - step if low > step else 0
    while low < maximum and low + step < high and affordable(low + step, quick=False):
        low, step = low + step, 2 * step
    high = min(high, low + step)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if affordable(middle, quick=False) else (low, middle)
    return low
