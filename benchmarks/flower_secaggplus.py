"""Does a private round in Flower cost client and server less, in time and bytes, than Flower's own SecAgg+?

Ten clients, 10^6 float32 values each in one array, all clients contribute; SecAgg+ with a share a client, its default
grid of 2^22 steps over ±1 and its default modulus 2^32; ours with a committee of three of the clients. flower_peer.py
says what is timed. It runs in Flower's own environment, `.venv-flower`, since Flower pins what we do not; each
repetition is a process of its own with all ways in it, and of the repetitions the fastest counts, figure by figure, as
other load only ever adds.

    make bench-flower     # from a clean tree it also writes benchmarks/results/flower_secaggplus.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from benchmarks.report import provenance, table, write

CLIENTS, VALUES = 10, 10**6
ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".venv-flower" / "bin" / "python"
THEIRS, WITHOUT_PROOFS = "SecAgg+", ("16 bits", "22 bits")
EXCHANGES = {"SecAgg+": 3, "16 bits": 1, "22 bits": 1, "14 bits, proofs": 2}  # beyond the one of plain training

Figures = dict[str, float]


def measure(clients: int, values: int) -> tuple[dict[str, Figures], dict[str, str]]:
    """Return one repetition by way, and the versions of the peer's packages."""
    command = [str(PEER), "-m", "benchmarks.flower_peer", "--clients", str(clients), "--values", str(values)]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    return found.pop("figures"), found


def fastest(runs: list[Figures]) -> Figures:
    """Return the smallest of each figure. Bytes and errors hardly differ between repetitions."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def verdicts(found: dict[str, Figures]) -> list[str]:
    """Return one line a target."""
    lines = []
    for way in WITHOUT_PROOFS:
        for what in ("client", "slowest_client", "server", "upload_bytes", "largest_upload_bytes"):
            ratio = found[way][what] / found[THEIRS][what]
            lines.append(f"{way}: {what} to SecAgg+'s {ratio:.3f}; target < 1: {'met' if ratio < 1 else 'MISSED'}")
    for way, figures in found.items():
        extra, expected = int(figures["extra_exchanges"]), EXCHANGES[way]
        met = "met" if extra == expected else "MISSED"
        lines.append(f"{way}: exchanges beyond plain training {extra}; expected {expected}: {met}")
    return lines


def main() -> None:
    """Print tables, ratios and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--values", type=int, default=VALUES)
    arguments = parser.parse_args()
    if not PEER.exists():
        raise SystemExit("Flower has an environment of its own; run: make bench-flower")
    runs: dict[str, list[Figures]] = {}
    peer: dict[str, str] = {}
    for repeat in range(arguments.repeats):
        print(f"repetition {repeat + 1} of {arguments.repeats}", file=sys.stderr)
        measured, peer = measure(arguments.clients, arguments.values)
        for way, figures in measured.items():
            runs.setdefault(way, []).append(figures)
    found = {way: fastest(of_way) for way, of_way in runs.items()}
    source = {**provenance([]), **{f"{name} (peer)": number for name, number in peer.items()}}
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [
            way,
            f"{figures['upload_bytes'] / arguments.values:.3f}",
            f"{figures['client']:.3f}",
            f"{figures['slowest_client']:.3f}",
            f"{figures['server']:.3f}",
            f"{figures['extra_exchanges']:.0f}",
            f"{figures['error']:.1e}",
        ]
        for way, figures in found.items()
    ]
    print(table(["way", "bytes/value", "client s", "slowest client s", "server s", "extra exchanges", "error"], rows))
    results = verdicts(found)
    print("", *results, sep="\n")
    if (arguments.clients, arguments.values) != (CLIENTS, VALUES):
        print("not written: another size than the benchmark's")
        return
    figures_kept: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"clients": CLIENTS, "values": VALUES},
        "repeats": arguments.repeats,
        "figures": found,
        "verdicts": results,
    }
    print(write("flower_secaggplus", figures_kept))


if __name__ == "__main__":
    main()
