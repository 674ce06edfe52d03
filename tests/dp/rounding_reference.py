"""The law of a rounded value with discrete Gaussian noise, its divergences, and their composition, by summing.

All over −reach … reach, in float64 with logarithms; shares no code with the package.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Logs = NDArray[np.float64]  # ln P(y) for y in −reach … reach


def gaussian(s: float, centre: float, reach: int) -> Logs:
    exponents = -((np.arange(-reach, reach + 1) - centre) ** 2) / (2 * s * s)
    return exponents - float(np.logaddexp.reduce(exponents))


def rounded(s: float, x: float, reach: int, up: float | None = None) -> Logs:
    """ln P(v + N_Z(s) = y); `up`: the probability of ⌊x⌋ + 1, if it is not the unbiased one."""
    low = math.floor(x)
    share = x - low if up is None else up
    with np.errstate(divide="ignore"):
        stays, rises = np.log([1 - share, share])
    return np.logaddexp(stays + gaussian(s, low, reach), rises + gaussian(s, low + 1, reach))


def divergence(p: Logs, q: Logs, order: float) -> float:
    return float(np.logaddexp.reduce(order * p + (1 - order) * q)) / (order - 1)


def hockey_stick(p: Logs, q: Logs, eps: float) -> float:
    return float(np.sum(np.exp(p) * np.maximum(0, -np.expm1(eps - (p - q)))))


def composed(p: Logs, q: Logs, times: int, width: float, up: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return privacy losses and probabilities of `times` independent uses, every loss rounded up, or down, to a grid.

    width: no loss that matters is beyond it. The discrete Fourier transform errs by some 1e-16 in a probability.
    """
    size = 1 << 18
    step = 2 * width / size
    losses = (p - q) / step
    cells = (np.ceil(losses) if up else np.floor(losses)).astype(np.int64) % size
    mass = np.bincount(cells, np.exp(p), minlength=size)
    total = np.fft.irfft(np.fft.rfft(mass) ** times, size)
    return np.fft.fftfreq(size, 1 / size) * step, np.maximum(total, 0)


def exact_epsilon(p: Logs, q: Logs, times: int, width: float, target: float, up: bool) -> float:
    losses, mass = composed(p, q, times, width, up)
    low, high = 0.0, width
    for _ in range(30):
        middle = (low + high) / 2
        above = float(np.sum(mass * np.maximum(0, -np.expm1(middle - losses)))) > target
        low, high = (middle, high) if above else (low, middle)
    return high if up else low
