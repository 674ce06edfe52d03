"""What does a validity proof cost, beside encrypting the same update with TenSEAL?

In one run: T, the time TenSEAL takes to encrypt and serialise 10^6 values as NVFlare uses it (a process of its own),
and ours, each repetition in a fresh process that reports its peak memory: `contribute` with proofs and without from
float arrays to signed bytes, and `admit`, which verifies before it adds; d = 10^4, 10^5 and 10^6, without the range
argument (16 bits) and with it (13 bits, value_bound an eighth of the clip), then committees of 3 to 24 members at 10^5.
"Prove" is all of `contribute`, encryption, dealing and signing included, and "verify" all of `admit`; of the
repetitions the fastest counts on every side, as other load only adds.

The published figures of other systems stand in the JSON with their sources. They are other statements on other
machines: each says how many seconds its authors report, nothing was measured again.

    python -m benchmarks.proofs     # from a clean tree it also writes benchmarks/results/proofs.json and proofs.svg
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import secureagg as sa
from benchmarks.one_shot import measure_tenseal
from benchmarks.report import provenance, table, write, write_picture

SIZES, CLIENTS, SEED = (10**4, 10**5, 10**6), 4, 20_260_303
COMMITTEES = (3, 5, 12, 24)
# Targets: seconds (None: a multiple of T alone), multiples of T, kilobytes.
PROVE = {10**4: (0.2, None), 10**5: (0.4, None), 10**6: (1.5, 1.5)}
VERIFY = {10**4: (0.15, None), 10**5: (0.25, None), 10**6: (None, 0.8)}
KILOBYTES = {10**4: 250, 10**5: 350, 10**6: 1200}
MEMORY_MB, SOUNDNESS, RANGE_TIME, RANGE_BYTES = 1000, 100, 3.0, 2.5

# What their authors report for one client's proof, rounded up; of verification, where it is told, in `source`.
PUBLISHED = [
    {
        "system": "ACORN",
        "source": "Bell et al., USENIX Security 2023, eprint 2022/1461, abstract: all of a client's computation",
        "statement": "L0, L2 or L∞ bound of a masked vector of 16-bit values",
        "values": 250_000,
        "seconds_at_most": 80,
        "hardware": "not stated in the abstract; the paper could not be consulted",
    },
    {
        "system": "RoFL",
        "source": "Lycklama et al., IEEE S&P 2023, arXiv 2107.03311; figure of github.com/pps-lab/rofl-project-code, "
        "plots/plots.ipynb: range and optimised well-formedness proofs, `clientlarge`; server 11.8 s",
        "statement": "8-bit range proof of every coordinate of a committed vector (L∞)",
        "values": 262_144,
        "seconds_at_most": 87.5,
        "hardware": 'AWS: c5d.4xlarge in the repository\'s Ansible files, c5d.9xlarge commented out; "36core" in the '
        "plots' code. 341.8 s on `clientsmall`, t2.medium there",
    },
    {
        "system": "RiseFL",
        "source": "Zhu et al., VLDB 2024, arXiv 2311.15310v1, Table 2: a client's total; server 1338 s. Secondary: "
        "taken from a reader's notes (github.com/Make111GreatAgain/Nahida), as the paper could not be consulted",
        "statement": "probabilistic L2 bound, one curve point a coordinate",
        "values": 1_000_000,
        "seconds_at_most": 79.3,
        "hardware": "Intel i7-8550U, 16 GB, by the same notes",
    },
    {
        "system": "Greco",
        "source": "github.com/privacy-scaling-explorations/greco, README, N = 8192, K = 17: the fastest of seven; "
        "verification 4.2 ms (Bottazzi, eprint 2024/594)",
        "statement": "one secret-key BFV ciphertext of 8192 coefficients is well-formed; nothing about a norm",
        "values": 8192,
        "seconds_at_most": 9.0,
        "hardware": "M2 MacBook Pro, 12 cores, 32 GB",
    },
]

Figures = dict[str, float]


def plan_of(values: int, members: int, proofs: bool, ranged: bool) -> sa.RoundPlan:
    """Return the plan that is measured."""
    return sa.RoundPlan(
        layout=sa.Layout.of([np.zeros(values, dtype=np.float32)]),
        clients=100 if ranged else 10,
        quorum=2,
        l2_clip=1.0,
        value_bits=13 if ranged else 16,
        value_bound=0.125 if ranged else None,
        committee=sa.Committee(members),
        proofs=proofs,
        parameters="N2048_Q52",
    )


def measure_once(values: int, members: int, proofs: bool, ranged: bool) -> Figures:
    """Return one repetition, in this process: the fastest of a few clients."""
    plan = plan_of(values, members, proofs, ranged)
    rng = np.random.default_rng(SEED)
    update = [rng.normal(0, 0.9 / np.sqrt(values), values).astype(np.float32)]
    clients = [sa.Identity.generate() for _ in range(plan.clients)]
    with tempfile.TemporaryDirectory() as folder:
        committee = [sa.CommitteeMember(sa.Identity.generate(), journal=Path(folder) / str(n)) for n in range(members)]
        roster = sa.Roster([client.public for client in clients], [member.public for member in committee])
        prekeys = [member.prekey(1) for member in committee]
        session = sa.Session(plan, roster, prekeys=prekeys, round_number=1, model=update)
        before = peak_mb()
        contribute, admit, aggregator = [], [], sa.Aggregator(session)
        for client in clients[:CLIENTS]:
            start = time.perf_counter()
            payload = sa.contribute(session, client, update)
            contribute.append(time.perf_counter() - start)
            start = time.perf_counter()
            aggregator.admit(payload)
            admit.append(time.perf_counter() - start)
    return {
        "contribute": min(contribute),
        "contribute_median": statistics.median(contribute),
        "admit": min(admit),
        "upload_bytes": plan.bytes_per_client,
        "proof_bytes": plan.proof_bytes,
        "fields": plan.packing.fields,
        "bytes_a_value": (plan.bytes_per_client - plan.proof_bytes - members * plan.box_bytes) / values,
        "soundness_bits": 0.0 if plan.statement is None else plan.statement.soundness_bits,
        "range_argument": float(plan.range_argument),
        "peak_mb": peak_mb(),
        "peak_mb_before": before,
    }


def peak_mb() -> float:
    """Return this process's peak resident set."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(values: int, members: int, proofs: bool, ranged: bool) -> Figures:
    """Return one repetition in a fresh process, its kernels warm from the cache."""
    arguments = [str(values), str(members), str(int(proofs)), str(int(ranged))]
    command = [sys.executable, "-m", "benchmarks.proofs", "--once", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: Figures = json.loads(printed.splitlines()[-1])
    return found


def best(runs: list[Figures]) -> Figures:
    """Return the smallest of each time, the largest peak."""
    return {key: (max if key.startswith("peak") else min)(run[key] for run in runs) for key in runs[0]}


def verdicts(found: dict[str, Figures], tenseal: float) -> list[str]:
    """Return one line a target."""
    rows: list[tuple[str, float, str, float]] = []
    for values in SIZES:
        ours, ranged = found[f"{values}, proofs"], found[f"{values}, range argument"]
        for stage, name, targets in (("contribute", "prove", PROVE), ("admit", "verify", VERIFY)):
            seconds, multiple = targets[values]
            if seconds is not None:
                rows.append((f"d = {values}: {name}, seconds", ours[stage], "≤", seconds))
            if multiple is not None:
                rows.append((f"d = {values}: {name}, multiples of T", ours[stage] / tenseal, "≤", multiple))
            rows.append((f"d = {values}: {name} with the range argument", ranged[stage] / ours[stage], "≤", RANGE_TIME))
        rows += [
            (f"d = {values}: proof, KB", ours["proof_bytes"] / 1e3, "≤", KILOBYTES[values]),
            (
                f"d = {values}: proof with the range argument",
                ranged["proof_bytes"] / ours["proof_bytes"],
                "≤",
                RANGE_BYTES,
            ),
            (f"d = {values}: soundness, bits", min(ours["soundness_bits"], ranged["soundness_bits"]), "≥", SOUNDNESS),
        ]
    largest = [found[f"{SIZES[-1]}, {way}"] for way in ("proofs", "range argument")]
    rows += [
        ("d = 10^6: bytes a value without proof and boxes, 16 bits, 10 clients", largest[0]["bytes_a_value"], "≤", 3.4),
        ("d = 10^6: the same, 13 bits at an eighth of the clip, 100 clients", largest[1]["bytes_a_value"], "≤", 3.4),
        ("d = 10^6: peak MB of a process that proves and verifies", largest[0]["peak_mb"], "≤", MEMORY_MB),
    ]
    lines = []
    for claim, value, sign, target in rows:
        met = value <= target if sign == "≤" else value >= target
        lines.append(f"{claim} {value:.3f}; target {sign} {target}: {'met' if met else 'MISSED'}")
    return lines


def draw(found: dict[str, Figures], tenseal: float, path: Path) -> None:
    """Write the picture: seconds over values, ours as measured, others as published."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    for stage, name, colour in (
        ("contribute", "prove (contribute)", "#2a5d9f"),
        ("admit", "verify (admit)", "#3f7d58"),
    ):
        for way, style in (("proofs", "-"), ("range argument", "--")):
            seconds = [found[f"{values}, {way}"][stage] for values in SIZES]
            label = name if way == "proofs" else f"{name}, with the range argument"
            axes.plot(SIZES, seconds, style, marker="o", color=colour, label=label)
    axes.plot([10**6], [tenseal], "s", color="#7b6d8d", label="TenSEAL: encrypt + serialise")
    for system in PUBLISHED:
        if system["seconds_at_most"] is not None:
            axes.plot([system["values"]], [system["seconds_at_most"]], "x", color="#b3402a")
            axes.annotate(f"{system['system']}, as published", (system["values"], system["seconds_at_most"]),
                          textcoords="offset points", xytext=(6, 4), fontsize=9)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="values", ylabel="seconds", title="One client's proof, two cores")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None})


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--once", nargs=4, type=int, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.once:
        values, members, proofs, ranged = chosen.once
        print(json.dumps(measure_once(values, members, bool(proofs), bool(ranged))))
        return
    source = provenance(["tenseal", "numpy", "numba", "cryptography"])
    sa.warm_up()
    settings = {f"{values}, no proofs": (values, 3, False, False) for values in SIZES}
    settings |= {f"{values}, proofs": (values, 3, True, False) for values in SIZES}
    settings |= {f"{values}, range argument": (values, 3, True, True) for values in SIZES}
    settings |= {f"100000, proofs, {k} members": (10**5, k, True, False) for k in COMMITTEES}
    runs: dict[str, list[Figures]] = {}
    tenseal = []
    for repeat in range(chosen.repeats):
        print(f"repetition {repeat + 1} of {chosen.repeats}", file=sys.stderr)
        tenseal.append(measure_tenseal()["contribute"])
        for name, setting in settings.items():
            runs.setdefault(name, []).append(measure(*setting))
    found, fastest = {name: best(of_name) for name, of_name in runs.items()}, min(tenseal)
    print("\n".join(f"{name}: {value}" for name, value in source.items()))
    print(f"T: {fastest:.3f} s\n")
    rows = [
        [name, f"{1e3 * f['contribute']:.1f}", f"{1e3 * f['admit']:.1f}", f"{f['proof_bytes'] / 1e3:.0f}",
         f"{f['soundness_bits']:.1f}", f"{f['peak_mb']:.0f}"]
        for name, f in found.items()
    ]  # fmt: skip
    print(table(["values, way", "contribute ms", "admit ms", "proof KB", "bits", "peak MB"], rows), "\n")
    results = verdicts(found, fastest)
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "repeats": chosen.repeats,
        "tenseal_seconds": fastest,
        "figures": found,
        "published": PUBLISHED,
        "verdicts": results,
    }
    print(write("proofs", figures))
    print(write_picture("proofs", lambda path: draw(found, fastest, path)))


if __name__ == "__main__":
    main()
