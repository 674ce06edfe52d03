"""Laws of what is drawn: keys, errors, noise, rounding, uniform elements. Each is compared with its exact law.

The laws' weights are computed here from their formulas in float64, whose error (10^-12) is nothing beside the
distances that are told apart; the library's own tables are made in decimal arithmetic by other code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from secureagg.dp.noise import discrete_gaussian, discrete_laplace, skellam
from secureagg.dp.quantise import Quantiser
from secureagg.he.deal import Dealer
from secureagg.he.sharing import Sharing
from secureagg.ring.gaussian import fill_gaussian
from secureagg.ring.masks import fill_public
from secureagg.ring.params import PRIMES, SIGMA
from secureagg.ring.xof import PublicExpansion, SecretStream
from secureagg.selfcheck.law import FALSE_ALARM, Case, Law, require, require_law, within

__all__ = ["LAWS", "Weights", "convolved", "draws_of", "gaussian_law", "power_text", "require_draws", "skellam_law"]

Weights = NDArray[np.float64]
_QUICK, _THOROUGH = 1 << 20, 1 << 24
_SLOPE = 0.242  # of max |F| in ln σ: x·φ(x) at x = 1


def draws_of(case: Case) -> int:
    """Return how many draws a case compares."""
    return _THOROUGH if case.thorough else _QUICK


def gaussian_law(sigma: float) -> Weights:
    """The discrete Gaussian's weights, symmetric about the middle."""
    x = np.arange(-math.ceil(12 * sigma) - 1, math.ceil(12 * sigma) + 2)
    weights: Weights = np.exp(-(x * x) / (2 * sigma * sigma))
    return weights


def laplace_law(scale: float) -> Weights:
    reach = math.ceil(40 * scale) + 1
    weights: Weights = np.exp(-np.abs(np.arange(-reach, reach + 1)) / scale)
    return weights


def skellam_law(variance: float) -> Weights:
    """The law of the difference of two Poisson(variance/2)."""
    rate = variance / 2
    reach = 14 * math.sqrt(rate) + 40
    counts = np.arange(max(0, int(rate - reach)), int(rate + reach))
    logarithms = np.array([math.lgamma(count + 1) for count in counts.tolist()])
    poisson = np.exp(counts * math.log(rate) - rate - logarithms)
    return convolved(poisson, poisson[::-1])


def convolved(first: Weights, second: Weights) -> Weights:
    """Return the law of a sum, to within 10^-12 of the largest weight."""
    size = first.size + second.size - 1
    length = 1 << size.bit_length()
    product = np.fft.irfft(np.fft.rfft(first, length) * np.fft.rfft(second, length), length)
    weights: Weights = np.maximum(product[:size], 0)
    return weights


def require_draws(found: NDArray[np.int64], weights: Weights, what: str) -> None:
    """Compare draws of a symmetric law, the sums of neighbours, which tell whether they are independent, and the tail.

    The tail is beyond the place that some hundred draws should reach, where the first comparison sees nothing.
    """
    reach = len(weights) // 2
    require_law(found, -reach, weights, what)
    pairs = found[: found.size // 2 * 2].reshape(-1, 2).sum(axis=1)
    require_law(pairs, -2 * reach, convolved(weights, weights), f"{what}, sums of neighbours")
    beyond = 2 * (weights[::-1].cumsum() / weights.sum())[: reach + 1][::-1]  # P(|x| ≥ k)
    k = max(1, int(np.argmax(beyond * found.size < 200)))
    count, expected = int((np.abs(found) >= k).sum()), float(beyond[k]) * found.size
    require(_usual(count, expected), f"{what}: {count} draws at |x| ≥ {k}, {expected:.0f} expected")


def _usual(count: int, expected: float) -> bool:
    """Return whether a binomial count is within Chernoff's bound of its expectation, P ≤ FALSE_ALARM in all.

    P(X ≥ x) for x > μ and P(X ≤ x) for x < μ are at most exp(−(μ − x + x·ln(x/μ))) (Mitzenmacher and Upfal, 4.4, 4.5).
    """
    exponent = expected - count + (count * math.log(count / expected) if count else 0.0)
    return exponent <= math.log(2 / FALSE_ALARM)


def _keys(case: Case) -> None:
    found = np.empty(draws_of(case), dtype=np.int64)
    fill_gaussian(found, SecretStream(), SIGMA)
    require_draws(found, gaussian_law(SIGMA), f"keys and errors of σ = {SIGMA}")


def _noise(
    draw: Callable[[int, Fraction], NDArray[np.int64]], law: Callable[[float], Weights], power: int
) -> Callable[[Case], None]:
    def check(case: Case) -> None:
        unit = 2.0 ** case.random.uniform(-1, 10)
        parameter = Fraction(f"{unit**power:.6g}")
        found = draw(draws_of(case) // 2, parameter)
        require_draws(found, law(float(parameter)), f"parameter {float(parameter):g}")

    return check


def _rounding(case: Case) -> None:
    """Round many copies of a few values; on average they must stay what they are."""
    count, places = draws_of(case) // 4, 4
    quantiser = Quantiser(int(case.random.integers(4, 16)), 1.0)
    values = case.random.uniform(-1, 1, places)
    words = np.empty(places * count // 2, dtype=np.uint64)
    SecretStream().fill(words)
    repeated = np.repeat(values, count)
    rounded, _ = quantiser.quantise(repeated, 1.0, 1.0, words.view(np.uint32))
    scaled = values * quantiser.scale
    for value, draws in zip(scaled.tolist(), rounded.reshape(places, count), strict=True):
        low = math.floor(value)
        require(set(np.unique(draws).tolist()) <= {low, low + 1}, "a value is rounded by a step or more")
        bias, allowed = abs(float(draws.mean()) - value), within(count)
        require(bias <= allowed, f"rounding moves a value by {bias:.2g} steps on average, {allowed:.2g} allowed")


def _uniform(case: Case) -> None:
    prime = PRIMES[int(case.random.integers(4))]
    secret = np.empty(draws_of(case), dtype=np.uint64)
    SecretStream().fill(secret)
    _require_uniform(secret, 1 << 64, "secret words")
    public = np.empty((1, 1, draws_of(case)), dtype=np.uint64)
    fill_public(public, PublicExpansion(case.random.bytes(32), "selfcheck"), 0, (prime,))
    _require_uniform(public.reshape(-1), prime, "public residues")
    for modulus in (prime, 4093):
        sharing = Sharing(secrets=draws_of(case) // 8, modulus=modulus, members=5, threshold=4)
        # Row 0 holds the secrets, here zeros; what hides them are the others.
        drawn = Dealer(sharing, np.zeros(sharing.secrets, dtype=np.int64)).polynomials[1:].reshape(-1)
        _require_uniform(drawn.view(np.uint64), modulus, f"coefficients of shares mod {modulus}")


def _require_uniform(words: NDArray[np.uint64], modulus: int, what: str) -> None:
    """Compare words in [0, modulus) with the uniform law, in some thousand cells."""
    require(int(words.max()) < modulus, f"{what}: not below {modulus}")
    shift = max(0, modulus.bit_length() - 13)
    edges = [min(cell << shift, modulus) for cell in range((modulus >> shift) + 2)]
    weights = np.diff(np.array(edges, dtype=np.float64))
    require_law((words >> np.uint64(shift)).astype(np.int64), 0, weights, what)


def power_text(share: float, scaled: bool = False) -> str:
    """Return what a comparison of this share of the draws tells from the law, but with probability FALSE_ALARM."""
    off = [2 * within(int(share * draws)) for draws in (_QUICK, _THOROUGH)]
    text = "a distribution off by {:.2%} somewhere (thorough: {:.2%})".format(*off)
    return text + ", such as σ wrong by {:.1%} ({:.1%})".format(*(x / _SLOPE for x in off)) if scaled else text


_SUBJECT = "samplers"
LAWS = (
    Law(
        _SUBJECT,
        "keys-and-errors",
        "Keys and errors are discrete Gaussians of σ = 6.6, independent of each other.",
        "docs/protocol.md, Encryption; secureagg/ring/gaussian.py",
        _keys,
        1,
        1,
        comparisons=3,
        power=power_text(1, scaled=True),
    ),
    Law(
        _SUBJECT,
        "discrete-gaussian-noise",
        "The noise for sums is the discrete Gaussian of the σ asked for.",
        "secureagg/dp/noise.py; Canonne, Kamath, Steinke, NeurIPS 2020",
        _noise(discrete_gaussian, gaussian_law, 1),
        1,
        1,
        comparisons=3,
        power=power_text(1 / 2, scaled=True),
    ),
    Law(
        _SUBJECT,
        "discrete-laplace-noise",
        "The discrete Laplace law has the scale asked for.",
        "secureagg/dp/noise.py",
        _noise(discrete_laplace, laplace_law, 1),
        1,
        1,
        comparisons=3,
        power=power_text(1 / 2, scaled=True),
    ),
    Law(
        _SUBJECT,
        "skellam-noise",
        "Skellam noise is the difference of two Poisson variables of half the variance asked for.",
        "secureagg/dp/noise.py; Agarwal, Kairouz, Liu, NeurIPS 2021",
        _noise(skellam, skellam_law, 2),
        1,
        1,
        comparisons=3,
        power=power_text(1 / 2, scaled=True),
    ),
    Law(
        _SUBJECT,
        "rounding",
        "Stochastic rounding goes to a neighbour on the grid and is right on average.",
        "docs/protocol.md, Grid and weights; secureagg/dp/quantise.py",
        _rounding,
        2,
        2,
        comparisons=4,
        power=power_text(1 / 4).replace("distribution", "mean, in grid steps,").replace(" somewhere", ""),
    ),
    Law(
        _SUBJECT,
        "uniform-elements",
        "Secret words, public polynomials and the coefficients of shares are uniform.",
        "secureagg/ring/xof.py; secureagg/ring/masks.py; secureagg/he/deal.py",
        _uniform,
        1,
        1,
        comparisons=4,
        power=power_text(3 / 8),
    ),
)
