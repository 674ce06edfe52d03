"""How near to the claim does one audit of a plan's rounds come, how long does it take, and does it find every fault?

Ten thousand canaries at ε = 8: those of one run, all in the same sums, and then each in sums of its own, seconds of
both with plans and tables made anew. Then every seeded fault at ε = 2 and 4, in the run that is to show it. Coins,
rounding and noise follow from one seed, so that figures but for seconds are the same wherever this runs.

    python -m benchmarks.plan_audit     # from a clean tree it also writes benchmarks/results/plan_audit.json
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import secureagg as sa
from benchmarks.report import provenance, table, write
from secureagg.dp.audit import AuditResult, audit
from secureagg.dp.mechanisms import Mechanism, NoiseBy
from secureagg.errors import ParameterError
from secureagg.plan_audit import CrowdedSums, LonelySums, claim_of, crowded_plan, lonely_plan
from secureagg.plan_faults import PlanFault, require_possible
from secureagg.ring.xof import KEY_BYTES, SecretStream

CANARIES, ROUNDS, DELTA, CONFIDENCE = 10_000, 2, 1e-5, 0.975
SOUND, FAULTY = 8.0, (2.0, 4.0)
LEAST_SHARE, MOST_SECONDS = 0.4, 60.0
SEED = 20_260_301

Way = Callable[[float], Mechanism]


def _shares(kind: type[sa.DistributedGaussian | sa.Skellam], by: NoiseBy) -> Way:
    return lambda epsilon: kind(epsilon=epsilon, delta=DELTA, rounds=ROUNDS, noise_by=by)


WAYS: dict[str, tuple[Way, bool]] = {
    "Gaussian by clients": (_shares(sa.DistributedGaussian, "clients"), False),
    "Gaussian by committee, rotated": (_shares(sa.DistributedGaussian, "committee"), True),
    "Skellam by clients": (_shares(sa.Skellam, "clients"), False),
    "Gaussian by aggregator": (lambda epsilon: sa.CentralGaussian(epsilon=epsilon, delta=DELTA, rounds=ROUNDS), False),
}


@dataclass(frozen=True)
class Measured:
    """Bounds and seconds of a sound plan, whether it was accused, and which faults were found and missed."""

    together: float
    alone: float
    seconds: float
    accused: bool
    found: list[str]
    missed: list[str]


def run(noise: Mechanism, rotate: bool, alone: bool, fault: PlanFault | None = None) -> tuple[AuditResult, float]:
    """Return what one run found, and its seconds."""
    stream, start = SecretStream(SEED.to_bytes(KEY_BYTES, "little")), time.perf_counter()
    plan = lonely_plan(noise, rotate=rotate) if alone else crowded_plan(noise, CANARIES, rotate=rotate)
    sums = (LonelySums if alone else CrowdedSums)(plan, fault, stream.substream("parties"))
    coins = stream.substream("coins")
    found = audit(sums, CANARIES, claimed=claim_of(plan), independent=alone, confidence=CONFIDENCE, stream=coins)
    return found, time.perf_counter() - start


def measure(way: Way, rotate: bool) -> Measured:
    """Return what audits of one way to add noise find."""
    (together, first), (alone, second) = (run(way(SOUND), rotate, each) for each in (False, True))
    found: list[str] = []
    missed: list[str] = []
    for fault in PlanFault:
        for epsilon in FAULTY:
            try:
                require_possible(way(epsilon), fault)
            except ParameterError:
                continue
            caught = run(way(epsilon), rotate, fault.alone, fault)[0].violated
            (found if caught else missed).append(f"{fault} at {epsilon:g}")
    accused = together.violated or alone.violated
    return Measured(together.curve_epsilon, alone.curve_epsilon, first + second, accused, found, missed)


def verdicts(figures: dict[str, Measured]) -> list[str]:
    """Return one line a target."""
    lines = []
    for name, f in figures.items():
        share = f.together / SOUND
        rows = [
            (f"bound of one run at ε = 8, share {share:.3f}; target ≥ {LEAST_SHARE}", share >= LEAST_SHARE),
            (f"seconds of the audit {f.seconds:.1f}; target ≤ {MOST_SECONDS:g}", f.seconds <= MOST_SECONDS),
            (f"faults found {len(f.found)} of {len(f.found) + len(f.missed)}; target all", not f.missed),
            ("a sound plan is not accused", not f.accused),
        ]
        lines += [f"{name}: {claim}: {'met' if met else 'MISSED'}" for claim, met in rows]
    return lines


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    source = provenance(["numpy", "numba", "cryptography"])
    sa.warm_up()
    figures = {}
    for name, (way, rotate) in WAYS.items():
        print(name, file=sys.stderr)
        figures[name] = measure(way, rotate)
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [name, f"{f.together:.2f}", f"{f.alone:.2f}", f"{f.seconds:.1f}", ", ".join(f.missed) or "none"]
        for name, f in figures.items()
    ]
    print(table([f"ε = {SOUND:g}", "together", "alone", "seconds", "missed"], rows), "\n")
    results = verdicts(figures)
    print("\n".join(results))
    kept: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"canaries": CANARIES, "rounds": ROUNDS, "epsilon": SOUND, "delta": DELTA, "seed": SEED},
        "figures": {name: asdict(f) for name, f in figures.items()},
        "verdicts": results,
    }
    print(write("plan_audit", kept))


if __name__ == "__main__":
    main()
