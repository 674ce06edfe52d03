"""Run every benchmark: `python -m benchmarks [NAME …]`, or with `--quick` some two minutes of the overhead suite."""

from __future__ import annotations

import argparse
import runpy
import sys

BENCHMARKS = (
    "ckks_reference",
    "one_shot",
    "one_shot_scale",
    "proofs",
    "noise",
    "dpsgd",
    "private_mean",
    "private_training",
    "plan_audit",
    "overhead",
)


def main() -> None:
    """Run the named benchmarks, or all; what else is given goes to the overhead suite."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; by default all")
    parser.add_argument("--quick", action="store_true", help="a few cells of the overhead suite, compared")
    parser.add_argument("--flower", metavar="PYTHON", help="an interpreter that has Flower, for the overhead suite")
    chosen = parser.parse_args()
    names = chosen.names or (["overhead"] if chosen.quick else BENCHMARKS)
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        raise SystemExit(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    if chosen.quick and list(names) != ["overhead"]:
        raise SystemExit("only the overhead suite has a quick mode")
    overhead = ["--quick"] * chosen.quick + (["--flower", chosen.flower] if chosen.flower else [])
    for name in names:
        print(f"\n== {name}\n", flush=True)
        sys.argv = [name, *(overhead if name == "overhead" else [])]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
