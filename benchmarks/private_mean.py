"""What does noise inside the encrypted sum cost in accuracy, beside a central Gaussian of the same ε?

Whole rounds: 100 clients clip, rotate, round, add their noise and encrypt; nothing is simulated but the network. Every
client's update has the norm of the clip, half of its square along a direction that all share. The mean squared error
of the decoded mean is divided by that of a continuous Gaussian on the exact mean, calibrated to the same (ε, δ) by
dp-accounting's privacy loss distributions: its expectation, and as a check a measured one. The grid is the finest
whose sums fit fields of so many bits; a mechanism that has none is said to.

Beside it, the ratio if the *rounded* vector's norm were what noise hides, in Rényi divergence (Kairouz, Liu and
Steinke, ICML 2021), on the same grid; and ε of the noise that is left when up to 30 clients are missing.

    python -m benchmarks.private_mean     # from a clean tree it also writes benchmarks/results/private_mean.json
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from benchmarks.report import provenance, table, write
from secureagg.dp.accounting import epsilon
from secureagg.dp.calibration import calibrate_noise
from secureagg.dp.dp_events import CentralGaussian, PrivacyEvent
from secureagg.dp.noisy_sums import DiscreteGaussianSum

CLIENTS, DROPPED, DELTA, SEED = 100, 30, 1e-5, 20_261_128
SIZES, EPSILONS = (4096, 100_000), (1.0, 4.0, 10.0)
TARGETS = {14: 1.03, 12: 1.10}  # sum fields of so many bits: the largest ratio
DRAWN = 200_000  # coordinates of noise a row at least, so that the ratio is known to within a per cent
MECHANISMS = {"discrete Gaussian": sa.DistributedGaussian, "Skellam": sa.Skellam}

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Figure:
    """One row: ratios of mean squared errors to the central Gaussian's."""

    values: int
    epsilon: float
    field_bits: int
    value_bits: int
    mechanism: str
    ratio: float
    central_measured: float
    bytes_a_value: float
    rounded_norm_ratio: float | None
    claimed: float
    largest_with_dropouts: float

    @property
    def key(self) -> str:
        return key_of(self.mechanism, self.values, self.epsilon, self.field_bits)


def key_of(mechanism: str, values: int, epsilon: float, field_bits: int) -> str:
    return f"{mechanism}, d={values}, ε={epsilon:g}, {field_bits} bits"


def plan_of(
    values: int, noise: sa.DistributedGaussian | sa.Skellam, field_bits: int, quorum: int
) -> sa.RoundPlan | None:
    """Return the plan with the finest grid whose sums fit fields of this width, or None if there is none."""
    fitting = None
    for value_bits in range(2, 17):
        try:
            plan = sa.RoundPlan(
                layout=sa.Layout(((values,),), ("float64",)),
                clients=CLIENTS,
                quorum=quorum,
                l2_clip=1.0,
                value_bits=value_bits,
                committee=sa.Committee(5),
                noise=noise,
                rotate=True,
            )
        except sa.ParameterError:  # too coarse for its noise to hide the rounding, or too fine for any field
            continue
        if plan.packing.field_bits > field_bits:
            break
        fitting = plan
    return fitting


def central_std(target: float) -> float:
    """Return the continuous Gaussian's standard deviation on the sum, for sensitivity 1."""
    return calibrate_noise(target, DELTA, central_event)


def central_event(std: float) -> CentralGaussian:
    return CentralGaussian(noise_std=std, l2_clip=1.0, clients=1, rounds=1, relation=sa.Relation.ZERO_OUT)


def rounded_norm_std(plan: sa.RoundPlan, target: float) -> float | None:
    """Return the sum's noise, ÷ clip, if B of the rounded vector is what is hidden; None if no noise is enough."""
    bound = math.sqrt(plan.rounded_norm_bound)

    def event(std: float) -> DiscreteGaussianSum:
        return DiscreteGaussianSum(
            noise_std_grid=std,
            honest=CLIENTS,
            l2_bound_grid=bound,
            dimension=plan.layout.size,
            rounds=1,
            relation=sa.Relation.ZERO_OUT,
        )

    try:
        std = calibrate_noise(target, DELTA, event, minimum=0.5)
    except sa.ParameterError:
        return None
    return std * math.sqrt(CLIENTS) / plan.quantiser.scale


def updates(values: int, rng: np.random.Generator) -> Iterator[Vector]:
    """Yield every client's update, of norm 1 but for rounding that stays below it."""
    common = unit(rng.standard_normal(values))
    for _ in range(CLIENTS):
        own = rng.standard_normal(values)
        own = unit(own - common * (common @ own))
        yield (common + own) * math.sqrt(0.5) * (1 - 1e-12)


def unit(vector: Vector) -> Vector:
    return vector / np.linalg.norm(vector)


def squared_error(plan: sa.RoundPlan, round_number: int, rng: np.random.Generator) -> float:
    """Return ‖mean − true mean‖² of one whole round."""
    model = [np.zeros(plan.layout.size)]
    with tempfile.TemporaryDirectory() as journals:
        members = [
            sa.CommitteeMember(sa.Identity.generate(), journal=f"{journals}/{m}") for m in range(plan.committee.size)
        ]
        clients = [sa.Identity.generate() for _ in range(CLIENTS)]
        session = sa.Session(
            plan,
            sa.Roster([c.public for c in clients], [m.public for m in members]),
            prekeys=[member.prekey(round_number) for member in members],
            round_number=round_number,
            model=model,
        )
        exact = np.zeros(plan.layout.size)

        def participants() -> Iterator[sa.Participant]:
            for identity, update in zip(clients, updates(plan.layout.size, rng), strict=True):
                exact[:] += update
                yield sa.Participant(identity, [update])

        result = sa.run_round(session, participants(), members)
    return float(np.square(result.mean[0] - exact / CLIENTS).sum())


def measure(
    values: int, target: float, field_bits: int, name: str, rounds: int, rng: np.random.Generator
) -> Figure | None:
    """Return the row, or None where no grid's sums fit the fields."""
    noise = MECHANISMS[name](epsilon=target, delta=DELTA, rounds=1, noise_by="clients")
    plan = plan_of(values, noise, field_bits, CLIENTS)
    tolerant = plan_of(values, noise, field_bits, CLIENTS - DROPPED)
    if plan is None or tolerant is None:
        return None
    central = central_std(target)
    expected = values * (central / CLIENTS) ** 2
    found = np.mean([squared_error(plan, number, rng) for number in range(rounds)])
    drawn = np.square(rng.normal(0, central / CLIENTS, (rounds, values))).sum() / rounds
    rounded = rounded_norm_std(plan, target) if name == "discrete Gaussian" else None
    return Figure(
        values=values,
        epsilon=target,
        field_bits=field_bits,
        value_bits=plan.value_bits,
        mechanism=name,
        ratio=float(found) / expected,
        central_measured=float(drawn) / expected,
        bytes_a_value=plan.bytes_per_client / values,
        rounded_norm_ratio=None if rounded is None else (rounded / central) ** 2,
        claimed=epsilon(tolerant.privacy_event(), DELTA),
        largest_with_dropouts=max(epsilon(present(tolerant, n), DELTA) for n in range(CLIENTS - DROPPED, CLIENTS + 1)),
    )


def present(plan: sa.RoundPlan, clients: int) -> PrivacyEvent:
    """Return what a round releases in whose sum so many clients' noise is."""
    return replace(plan.privacy_event(), honest=clients)


def verdicts(figures: list[Figure]) -> list[str]:
    """Return one line a target."""
    lines = []
    for bits, target in TARGETS.items():
        rows = [f for f in figures if f.field_bits == bits and "Gauss" in f.mechanism]
        worst = max(rows, key=lambda f: f.ratio)
        met = "met" if worst.ratio <= target and len(rows) == len(SIZES) * len(EPSILONS) else "MISSED"
        lines.append(
            f"sum fields of {bits} bits: ratio at most {worst.ratio:.3f} ({worst.key}); target ≤ {target}: {met}"
        )
    over = max(f.largest_with_dropouts / f.claimed for f in figures)
    under = max(f.claimed / f.epsilon for f in figures)
    found = f"at most {over:.6f}, claimed ÷ target at most {under:.4f}"
    met = "met" if over <= 1 and under <= 1 else "MISSED"
    return [*lines, f"ε with up to {DROPPED} of {CLIENTS} missing ÷ claimed: {found}; target ≤ 1: {met}"]


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drawn", type=int, default=DRAWN, help="coordinates of noise a row at least")
    chosen = parser.parse_args()
    source = provenance(["numpy", "numba", "cryptography", "dp-accounting"])
    sa.warm_up()
    rng = np.random.default_rng(SEED)
    figures: list[Figure] = []
    without: list[str] = []
    for values in SIZES:
        for target in EPSILONS:
            for bits in TARGETS:
                for name in MECHANISMS:
                    rounds = max(2, -(-chosen.drawn // values))
                    key, row = key_of(name, values, target, bits), measure(values, target, bits, name, rounds, rng)
                    print(key, "no grid fits" if row is None else f"{row.ratio:.4f}", file=sys.stderr)
                    if row is None:
                        without.append(key)
                    else:
                        figures.append(row)
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    head = ["noise", "grid bits", "bytes a value", "ratio", "central, measured", "if the rounded norm were hidden"]
    rows = [
        [
            f.key,
            str(f.value_bits),
            f"{f.bytes_a_value:.2f}",
            f"{f.ratio:.3f}",
            f"{f.central_measured:.3f}",
            "" if f.rounded_norm_ratio is None else f"{f.rounded_norm_ratio:.3f}",
        ]
        for f in figures
    ]
    print(table(head, rows), "\n")
    print("".join(f"{key}: no grid has sums that fit\n" for key in without))
    results = verdicts(figures)
    print("\n".join(results))
    found: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"clients": CLIENTS, "delta": DELTA, "dropped": DROPPED},
        "figures": {f.key: vars(f) for f in figures},
        "without_grid": without,
        "verdicts": results,
    }
    print(write("private_mean", found))


if __name__ == "__main__":
    main()
