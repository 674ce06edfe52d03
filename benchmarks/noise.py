"""Are exact discrete Gaussian and Skellam draws as fast as noise needs to be, from σ = 0.5 to 10^4?

One array of 10^7 draws a repetition on all cores, fresh memory included, tables built before (their time is its own
column). Beside them, for the Gaussian: OpenDP's exact sampler, through its vector measurement on 10^5 zeros, in the
interpreter that `--opendp` names; and Canonne, Kamath and Steinke's algorithms 1 to 3 (NeurIPS 2020) in plain numpy,
with float uniforms, which favours it. For the Skellam: numpy's difference of two Poisson draws, also in floats.
Of the repetitions the fastest counts on every side, as other load only adds.

    python -m benchmarks.noise [--opendp PYTHON]     # from a clean tree it also writes benchmarks/results/noise.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from benchmarks.report import provenance, table, write
from secureagg.dp.noise import discrete_gaussian, discrete_laplace, noise_table, skellam
from secureagg.dp.noise_laws import GAUSSIAN, LAPLACE, SKELLAM

SIGMAS = (0.5, 2.0, 6.6, 100.0, 1000.0, 10_000.0)
DRAWS, PEER_DRAWS = 10**7, 10**5
SEED = 20_260_201  # of the peers' generators; ours draw from the operating system

OPENDP = """
import json, sys, time
from importlib.metadata import version
import opendp.prelude as dp
dp.enable_features("contrib")
sigma, draws, repeats = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
noisy = dp.m.make_gaussian(dp.vector_domain(dp.atom_domain(T="i64")), dp.l2_distance(T="f64"), sigma)
zeros, seconds = [0] * draws, []
for _ in range(repeats):
    start = time.perf_counter()
    noisy(zeros)
    seconds.append(time.perf_counter() - start)
print(json.dumps({"rate": draws / min(seconds), "version": version("opendp")}))
"""

Mask = NDArray[np.bool_]
Values = NDArray[np.int64]
Rates = dict[str, float]


def bernoulli_exp(gamma: NDArray[np.float64], rng: np.random.Generator) -> Mask:
    """Algorithm 1: Bernoulli(exp(−γ)) for each γ ≥ 0."""
    result = np.ones(gamma.size, dtype=bool)
    for whole in range(int(gamma.max(initial=0))):
        active = np.flatnonzero(result & (gamma >= whole + 1))
        result[active] = small_bernoulli_exp(np.ones(active.size), rng)
    active = np.flatnonzero(result)
    result[active] = small_bernoulli_exp(gamma[active] % 1.0, rng)
    return result


def small_bernoulli_exp(gamma: NDArray[np.float64], rng: np.random.Generator) -> Mask:
    """The same for γ ≤ 1: count successes of Bernoulli(γ/k), k = 1, 2, …; the count is even."""
    even, active, k = np.ones(gamma.size, dtype=bool), np.arange(gamma.size), 1
    while active.size:
        active = active[rng.random(active.size) < gamma[active] / k]
        even[active] = ~even[active]
        k += 1
    return even


def plain_laplace(t: int, size: int, rng: np.random.Generator) -> Values:
    """Algorithm 2 with s = 1; fewer than `size` draws, as refused ones are left out."""
    u = rng.integers(0, t, size)
    u = u[small_bernoulli_exp(u / t, rng)]
    v, active = np.zeros(u.size, dtype=np.int64), np.arange(u.size)
    while active.size:
        active = active[small_bernoulli_exp(np.ones(active.size), rng)]
        v[active] += 1
    x, negative = u + t * v, rng.integers(0, 2, u.size, dtype=bool)
    signed: Values = np.where(negative, -x, x)
    kept: Values = signed[~(negative & (x == 0))]
    return kept


def plain_gaussian(size: int, sigma: float, rng: np.random.Generator) -> Values:
    """Algorithm 3."""
    t, parts, found = int(sigma) + 1, [np.empty(0, dtype=np.int64)], 0
    while found < size:
        y = plain_laplace(t, 2 * (size - found) + 100, rng)
        y = y[bernoulli_exp((np.abs(y) - sigma**2 / t) ** 2 / (2 * sigma**2), rng)]
        parts.append(y)
        found += y.size
    return np.concatenate(parts)[:size]


def rate(draw: Callable[[], object], draws: int, repeats: int) -> float:
    """Return draws a second, of the fastest repetition."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        draw()
        seconds.append(time.perf_counter() - start)
    return draws / min(seconds)


def opendp_rate(python: str, sigma: float, repeats: int) -> tuple[float, str]:
    """Return draws a second in another interpreter, and OpenDP's version."""
    command = [python, "-c", OPENDP, str(sigma), str(PEER_DRAWS), str(min(repeats, 3))]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
    return found["rate"], found["version"]


def measure(sigma: float, repeats: int) -> Rates:
    """Return draws a second of every sampler here, and the seconds our tables took."""
    variance, rng = Fraction(str(sigma)) ** 2, np.random.default_rng(SEED)
    built = {}
    for law, parameter in ((GAUSSIAN, sigma), (LAPLACE, sigma), (SKELLAM, variance)):
        start = time.perf_counter()
        noise_table(law, parameter)
        built[law.name] = time.perf_counter() - start
    few, half = DRAWS // 10, sigma**2 / 2
    return {
        "gaussian": rate(lambda: discrete_gaussian(DRAWS, sigma), DRAWS, repeats),
        "laplace": rate(lambda: discrete_laplace(DRAWS, sigma), DRAWS, repeats),
        "skellam": rate(lambda: skellam(DRAWS, variance), DRAWS, repeats),
        "numpy CKS": rate(lambda: plain_gaussian(few, sigma, rng), few, min(repeats, 3)),
        "numpy Poisson": rate(lambda: rng.poisson(half, few) - rng.poisson(half, few), few, min(repeats, 3)),
        "gaussian table s": built["sigma"],
        "skellam table s": built["variance"],
    }


def require_sound(sigma: float = 3.0) -> None:
    """Stop unless the plain sampler has our table's law: a peer that is wrong would be no peer."""
    draws = plain_gaussian(10**6, sigma, np.random.default_rng(SEED))
    deviation = abs(float(np.square(draws).mean()) / sigma**2 - 1)
    if deviation > 5 * 2**0.5 / 1000:
        raise SystemExit(f"the numpy sampler's variance is off by {deviation:.4f}")


def verdicts(found: dict[float, Rates]) -> list[str]:
    """Return one line a target."""
    lines = []
    for ours in ("gaussian", "skellam"):
        rows = [(f"{ours}: slowest, million draws/s", min(rates[ours] for rates in found.values()) / 1e6, 30)]
        for peer, target in (("OpenDP", 100), ("numpy CKS", 10)):
            ratios = [rates[ours] / rates[peer] for rates in found.values() if peer in rates]
            if ratios:
                rows.append((f"{ours}: times {peer}, least", min(ratios), target))
        lines += [f"{claim} {value:.0f}; target ≥ {n}: {'met' if value >= n else 'MISSED'}" for claim, value, n in rows]
    return lines


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--opendp", metavar="PYTHON", help="an interpreter that has opendp; left out otherwise")
    chosen = parser.parse_args()
    source = provenance(["numpy", "numba", "cryptography"])
    sa.warm_up()
    require_sound()
    found: dict[float, Rates] = {}
    for sigma in SIGMAS:
        print(f"σ = {sigma}", file=sys.stderr)
        found[sigma] = measure(sigma, chosen.repeats)
        if chosen.opendp:
            found[sigma]["OpenDP"], source["opendp"] = opendp_rate(chosen.opendp, sigma, chosen.repeats)
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    columns = ["gaussian", "skellam", "laplace", "numpy CKS", "numpy Poisson", *(["OpenDP"] if chosen.opendp else [])]
    tables = ["gaussian table s", "skellam table s"]
    rows = []
    for sigma, rates in found.items():
        speeds = [f"{rates[column] / 1e6:.2f}" for column in columns]
        rows.append([f"{sigma:g}", *speeds, *(f"{rates[column]:.3f}" for column in tables)])
    print(table(["σ; million draws/s", *columns, *tables], rows), "\n")
    results = verdicts(found)
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "draws": DRAWS,
        "repeats": chosen.repeats,
        "figures": {f"{sigma:g}": rates for sigma, rates in found.items()},
        "verdicts": results,
    }
    print(write("noise", figures))


if __name__ == "__main__":
    main()
