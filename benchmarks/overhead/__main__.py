"""What does each kind of protection cost, stage by stage, from 10^4 to 10^7 values and 10 to 1000 clients?

Seven ways on the same updates: the plain mean; TenSEAL as NVFlare uses it; Flower's own SecAgg+ functions, in Flower's
own environment; one-shot sums without and with proofs, and each with differential privacy. Every cell of the grid runs
in two new processes, one for the server and one for everybody else, and gives seconds by stage, bytes a client sends,
both processes' peak memory, and the error of the mean. Where all clients of a cell would take too long, fewer are
measured, with the parameters of all; the results say how many.

    python -m benchmarks overhead             # from a clean tree it also writes results/overhead.json and .html
    python -m benchmarks --quick              # a few cells in two minutes, as ratios to the committed run's
    python -m benchmarks overhead --flower PYTHON      # whose interpreter has Flower, if not .venv-flower's
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks.overhead.cells import CLIENTS, VALUES, WAYS, expected_seconds, full, quick, selected
from benchmarks.overhead.comparison import compared, fatal, flagged
from benchmarks.overhead.figures import STAGES
from benchmarks.overhead.page import page
from benchmarks.overhead.run import failures, flower_python, flower_version, run
from benchmarks.report import provenance, results, table, write, write_page

QUICK_SECONDS = 110.0  # of the cells; what surrounds them takes a few


def rows(found: Mapping[str, Any]) -> list[list[str]]:
    """Return the printed table's rows: milliseconds, bytes a value, megabytes, error to the mean's size."""
    lines = []
    for key, figures in found.items():
        if "skipped" in figures:
            continue
        stages, errors = figures["stages"], figures["errors"]
        lines.append(
            [
                key,
                str(figures["contributions"]),
                f"{1e3 * figures['client']:.1f}",
                *(f"{1e3 * stages[stage]:.1f}" if stage in stages else "" for stage in STAGES),
                f"{figures['upload_bytes'] / figures['values']:.2f}",
                f"{figures['client_peak_bytes'] / 1e6:.0f}",
                f"{figures['server_peak_bytes'] / 1e6:.0f}",
                f"{errors['rms_error'] / errors['rms_mean']:.1e}" if errors else "",
            ]
        )
    return lines


def compare(found: Mapping[str, Any]) -> int:
    """Print the ratios to the committed run; return the exit code."""
    committed = results("overhead")
    if committed is None:
        print("there is no committed run to compare with: benchmarks/results/overhead.json")
        return 0
    ratios = compared(found, committed["figures"])
    print(
        f"\nratios to the run of commit {committed['provenance']['commit'][:12]}, {committed['provenance']['machine']}"
    )
    grid: dict[str, dict[str, str]] = {}
    for ratio in ratios:
        grid.setdefault(ratio.key, {})[ratio.what] = f"{ratio.ratio:.2f}"
    heads = list(dict.fromkeys(ratio.what for ratio in ratios))
    print(table(["cell", *heads], [[key, *(of.get(what, "") for what in heads)] for key, of in grid.items()]))
    print("\n".join(map(str, flagged(ratios))) or "nothing flagged")
    return int(fatal(ratios))


def main() -> None:
    """Run the cells, print the table, and keep or compare the figures."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks overhead", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a few cells, compared with the committed run's")
    parser.add_argument("--flower", type=Path, metavar="PYTHON", help="an interpreter that has Flower")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS, help="only these; not written")
    parser.add_argument("--values", nargs="+", type=int, choices=VALUES, default=VALUES, help="only these; not written")
    parser.add_argument("--clients", nargs="+", type=int, choices=CLIENTS, default=CLIENTS, help="the same")
    chosen = parser.parse_args()
    cells = quick() if chosen.quick else selected(chosen.ways, chosen.values, chosen.clients)
    flower = flower_python(chosen.flower)
    peers = ["tenseal"] if find_spec("tenseal") is not None else []
    source = provenance([*peers, "numpy", "numba", "cryptography"])
    source["flwr"] = "none" if flower is None else flower_version(flower)
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    print(f"{len(cells)} cells, some {expected_seconds(cells) / 60:.1f} minutes on two quiet cores\n", flush=True)
    found = run(
        cells, flower, lambda line: print(line, file=sys.stderr), seconds=QUICK_SECONDS if chosen.quick else None
    )
    heads = ["way, values, clients", "measured", "client ms", *(f"{stage} ms" for stage in STAGES)]
    print(table([*heads, "bytes/value", "client MB", "server MB", "error"], rows(found)), "\n")
    print(*(f"skipped: {key}: {each['skipped']}" for key, each in found.items() if "skipped" in each), sep="\n")
    code = 0
    if chosen.quick:
        code = compare(found)
    elif cells != full():
        print("not written: only a part of the grid")
    else:
        kept: dict[str, Any] = {"question": (__doc__ or "").splitlines()[0], "provenance": source, "figures": found}
        print(write("overhead", kept))
        print(write_page("overhead", page(json.loads(json.dumps(kept)))))
    broken = failures(found)
    print(*(f"no figures, and there should be: {key}" for key in broken), sep="\n")
    if code or broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
