"""How do memory and time of one-shot summation grow with the model, and with the number of clients?

Each row is a process of its own, whose peak resident set is read from the operating system. The model: one update from
file to file (the update memory-mapped, the contribution written to a file, admitted from it, the sum opened), 10^6 and
10^8 values. The clients: 10 to 1000 contributions of 10^5 values, each a file, into one aggregator with a spool; the
contributions are made beforehand by other processes, so that the server's memory alone is seen.

    python -m benchmarks.one_shot_scale     # from a clean tree it also writes benchmarks/results/one_shot_scale.json
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

import secureagg as sa
from benchmarks.report import provenance, table, write

SIZES = (10**6, 10**8)
CLIENTS = (10, 100, 1000)
VALUES = 10**5
MEMBERS = 3
SEED = 20_260_201
LARGEST_RSS = 1.5e9  # bytes beyond the update
LARGEST_TIME_RATIO = 120
LARGEST_CLIENT_BYTES = 100

Figures = dict[str, float]


def peak_rss() -> int:
    """Return this process's peak resident set in bytes (Linux counts it in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def federation(
    folder: Path, clients: int, values: int
) -> tuple[sa.Session, Iterator[sa.Identity], list[sa.CommitteeMember]]:
    """Return a session whose parties are the same in every process that is given this folder."""
    seeds, public = folder / "seeds", folder / "public"
    if not seeds.exists():
        everyone = [sa.Identity.generate() for _ in range(clients + MEMBERS)]
        seeds.write_bytes(b"".join(each.to_seed() for each in everyone))
        public.write_bytes(b"".join(each.public for each in everyone))
    keys, publics = seeds.read_bytes(), public.read_bytes()
    # Identities are made only when asked for: the server has none.
    parties = (sa.Identity(keys[32 * i : 32 * i + 32]) for i in range(clients))
    members = [
        sa.CommitteeMember(sa.Identity(keys[32 * (clients + i) :][:32]), journal=folder / f"member-{i}")
        for i in range(MEMBERS)
    ]
    model = update(folder, values)
    plan = sa.RoundPlan(
        layout=sa.Layout.of(model),
        clients=clients,
        quorum=2,
        l2_clip=1e5,
        value_bits=16,
        committee=sa.Committee(MEMBERS),
        parameters="N2048_Q52",
    )
    roster = sa.Roster([publics[64 * i : 64 * i + 64] for i in range(clients)], [m.public for m in members])
    prekeys = [member.prekey(1) for member in members]
    return sa.Session(plan, roster, prekeys=prekeys, round_number=1, model=model), parties, members


def update(folder: Path, values: int) -> list[np.ndarray]:
    """Return the update, memory-mapped from a file that is made piece by piece."""
    path = folder / "update"
    if not path.exists():
        rng = np.random.default_rng(SEED)
        with path.open("wb") as file:
            for start in range(0, values, 10**6):
                file.write(rng.normal(0, 0.05, min(10**6, values - start)).astype(np.float32).tobytes())
    return [np.memmap(path, dtype=np.float32, mode="r")]


def file_to_file(folder: Path, values: int) -> Figures:
    """Contribute twice to files, admit both, open; return seconds of the first client, the first admission, opening."""
    session, clients, members = federation(folder, 2, values)
    sa.warm_up()
    start = time.perf_counter()
    paths = [folder / f"contribution-{number}" for number in range(2)]
    for client, path in zip(clients, paths, strict=True):
        begun = time.perf_counter()
        with path.open("wb") as file:
            sa.contribute(session, client, update(folder, values), out=file)
        contributed = time.perf_counter() - begun
    aggregator = sa.Aggregator(session)
    for path in paths:
        begun = time.perf_counter()
        with path.open("rb") as file:
            aggregator.admit(file)
        admitted = time.perf_counter() - begun
    request = aggregator.close()
    answers = [member.respond(session, request) for member in members]
    begun = time.perf_counter()
    result = aggregator.open(answers)
    opened = time.perf_counter() - begun
    seconds = time.perf_counter() - start
    grid = 2 * 1e5 / 2**16
    assert float(np.abs(result.mean[0][:1000] - update(folder, values)[0][:1000]).max()) <= 2 * grid
    return {"seconds": seconds, "contribute": contributed, "admit": admitted, "open": opened, "rss": peak_rss()}


def contribute_files(folder: Path, clients: int) -> Figures:
    """Write each client's contribution to a file."""
    session, identities, _ = federation(folder, clients, VALUES)
    for number, client in enumerate(identities):
        with (folder / f"contribution-{number}").open("wb") as file:
            sa.contribute(session, client, update(folder, VALUES), out=file)
    return {}


def serve(folder: Path, clients: int) -> Figures:
    """Admit all contributions from their files into a spool, write the requests to files, and open."""
    session, _, members = federation(folder, clients, VALUES)
    sa.warm_up()
    aggregator = sa.Aggregator(session, spool=folder / "spool")
    start = time.perf_counter()
    for number in range(clients):
        with (folder / f"contribution-{number}").open("rb") as file:
            aggregator.admit(file)
    seconds = time.perf_counter() - start
    admitted_rss = peak_rss()
    request = aggregator.close()
    for number in range(MEMBERS):
        with (folder / f"request-{number}").open("wb") as file:
            request.write(file, number)
    answers = []
    for number, member in enumerate(members):
        with (folder / f"request-{number}").open("rb") as file:
            answers.append(member.respond(session, file))
    result = aggregator.open(answers)
    assert len(result.clients) == clients
    return {"seconds": seconds, "rss": peak_rss(), "admitted_rss": admitted_rss}


STAGES: dict[str, Callable[[Path, int], Figures]] = {
    "file-to-file": file_to_file,
    "contribute-files": contribute_files,
    "serve": serve,
}


def in_subprocess(stage: str, folder: Path, size: int) -> Figures:
    """Return the stage's figures from a new process."""
    command = [sys.executable, "-m", "benchmarks.one_shot_scale", "--stage", stage, str(folder), str(size)]
    figures: Figures = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return figures


def main() -> None:
    """Print both tables and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs=3, metavar=("STAGE", "FOLDER", "SIZE"), help="one row, in this process")
    arguments = parser.parse_args()
    if arguments.stage:
        stage, folder, size = arguments.stage
        print(json.dumps(STAGES[stage](Path(folder), int(size))))
        return
    source = provenance(["numpy", "numba", "cryptography"])
    sizes: dict[int, Figures] = {}
    for values in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            sizes[values] = in_subprocess("file-to-file", Path(folder), values)
    counts: dict[int, Figures] = {}
    for clients in CLIENTS:
        with tempfile.TemporaryDirectory() as folder:
            in_subprocess("contribute-files", Path(folder), clients)
            counts[clients] = in_subprocess("serve", Path(folder), clients)
    small, large = sizes[SIZES[0]], sizes[SIZES[-1]]
    few, many = counts[CLIENTS[0]], counts[CLIENTS[-1]]
    growth = (many["rss"] - few["rss"]) / (CLIENTS[-1] - CLIENTS[0])
    checks = [
        ("peak memory beyond the update at 10^8 values, bytes", large["rss"] - 4 * SIZES[-1], LARGEST_RSS),
        ("time of 10^8 values to 10^6", large["seconds"] / small["seconds"], LARGEST_TIME_RATIO),
        ("server memory a client, bytes", growth, LARGEST_CLIENT_BYTES),
        ("time a client, 1000 to 100 clients", many["seconds"] / counts[CLIENTS[1]]["seconds"] / 10, 1.2),
    ]
    verdicts = [f"{c}: {v:.4g}; target ≤ {t:.4g}: {'met' if v <= t else 'MISSED'}" for c, v, t in checks]
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [f"{n:,}", *(f"{f[s]:.3f}" for s in ("contribute", "admit", "open", "seconds")), f"{f['rss'] / 1e6:.0f}"]
        for n, f in sizes.items()
    ]
    print(table(["values", "contribute s", "admit s", "open s", "round s", "peak MB"], rows), "\n")
    rows = [
        [str(n), f"{f['seconds']:.3f}", f"{1e3 * f['seconds'] / n:.2f}", f"{f['rss'] / 1e6:.1f}"]
        for n, f in counts.items()
    ]
    print(table(["clients", "admit all s", "a client ms", "peak MB"], rows), "\n")
    print("\n".join(verdicts))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "sizes": sizes,
        "clients": counts,
        "verdicts": verdicts,
    }
    print(write("one_shot_scale", figures))


if __name__ == "__main__":
    main()
