"""Run every benchmark: `python -m benchmarks [NAME …]`."""

from __future__ import annotations

import runpy
import sys

BENCHMARKS = ("ckks_reference", "one_shot", "one_shot_scale", "proofs", "noise", "dpsgd", "private_mean")


def main() -> None:
    """Run the named benchmarks, or all."""
    names = sys.argv[1:] or BENCHMARKS
    unknown = set(names) - set(BENCHMARKS)
    if unknown:
        raise SystemExit(f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    for name in names:
        print(f"\n== {name}\n")
        sys.argv = [name]
        runpy.run_module(f"benchmarks.{name}", run_name="__main__")


if __name__ == "__main__":
    main()
