"""How do memory and time of one-shot summation grow with the model, and with the number of clients?

Each row is a process of its own, whose peak resident set is read from the operating system. The model: one update from
file to file (the update memory-mapped, the contribution written to a file, admitted from it, the sum opened), 10^6 and
10^8 values. The clients: 10 to 1000 contributions of 10^5 values into one aggregator with a spool, up to the opened sum
and its tally. The process holds the server alone: contributions are files that another made before, the committee
answers in a third, and nobody's secret key is in it. Counts take turns, and the median of the repetitions counts.

The rows of the clients share one plan, with 1000 on the roster: a plan for fewer packs more values a coefficient, and
its running sum is another size. What a client takes of the server's memory is then the slope of the peak from 10 to
1000 contributions, and 64 bytes of roster, which all rows hold alike. So that the slope can be seen at all, the server
works on one thread (on two, temporary arrays overlap now and then, and more often in a thousand admissions than in ten)
and glibc's allocator is told to return blocks of 64 KiB and more at once (its growing threshold otherwise moves the
peak by half a megabyte from run to run). What is kept of a client is known besides: 64 bytes of the roster, a mark
whether it was admitted, and its id in the request and the result.

    python -m benchmarks.one_shot_scale     # from a clean tree it also writes benchmarks/results/one_shot_scale.json
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
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
ROSTER_BYTES = 64  # a client
LARGEST_CLIENT_TIME_RATIO = 1.2

Figures = dict[str, float]


def peak_rss() -> int:
    """Return this process's peak resident set in bytes (Linux counts it in KiB, macOS in bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def found(folder: Path, clients: int, values: int) -> None:
    """Write what the parties of a round need: each role's secrets, and the public things all have pinned."""
    identities = [sa.Identity.generate() for _ in range(clients)]
    seeds = [sa.Identity.generate().to_seed() for _ in range(MEMBERS)]
    (folder / "client-seeds").write_bytes(b"".join(each.to_seed() for each in identities))
    (folder / "member-seeds").write_bytes(b"".join(seeds))
    plan = sa.RoundPlan(
        layout=sa.Layout.of(update(folder, values)),
        clients=clients,
        quorum=2,
        l2_clip=1e5,
        value_bits=16,
        committee=sa.Committee(MEMBERS),
        parameters="N2048_Q52",
    )
    roster = sa.Roster((each.public for each in identities), (sa.Identity(seed).public for seed in seeds))
    (folder / "plan").write_bytes(plan.to_bytes())
    (folder / "roster").write_bytes(roster.to_bytes())
    for number, member in enumerate(members_of(folder)):
        (folder / f"prekey-{number}").write_bytes(member.prekey(1))


def session_of(folder: Path, values: int) -> sa.Session:
    """Return the session, made from public files alone."""
    return sa.Session(
        sa.RoundPlan.from_bytes((folder / "plan").read_bytes()),
        sa.Roster.from_bytes((folder / "roster").read_bytes()),
        prekeys=[(folder / f"prekey-{number}").read_bytes() for number in range(MEMBERS)],
        round_number=1,
        model=update(folder, values),
    )


def clients_of(folder: Path) -> Iterator[sa.Identity]:
    """Yield the clients."""
    seeds = (folder / "client-seeds").read_bytes()
    return (sa.Identity(seeds[start : start + 32]) for start in range(0, len(seeds), 32))


def members_of(folder: Path) -> list[sa.CommitteeMember]:
    """Return the committee members."""
    seeds = (folder / "member-seeds").read_bytes()
    return [
        sa.CommitteeMember(sa.Identity(seeds[32 * number :][:32]), journal=folder / f"member-{number}")
        for number in range(MEMBERS)
    ]


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
    found(folder, 2, values)
    session, clients, members = session_of(folder, values), clients_of(folder), members_of(folder)
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
    """Write each client's contribution to a file, on the disk: the server's time shall not hold others' writing."""
    found(folder, CLIENTS[-1], VALUES)
    session = session_of(folder, VALUES)
    for number, client in enumerate(islice(clients_of(folder), clients)):
        with (folder / f"contribution-{number}").open("wb") as file:
            sa.contribute(session, client, update(folder, VALUES), out=file)
            os.fsync(file.fileno())
    return {}


def answer(folder: Path, clients: int) -> Figures:
    """Answer each member's request from its file into another."""
    session = session_of(folder, VALUES)
    for number, member in enumerate(members_of(folder)):
        with (folder / f"request-{number}").open("rb") as file:
            (folder / f"answer-{number}").write_bytes(member.respond(session, file))
    return {}


def serve(folder: Path, clients: int) -> Figures:
    """Admit all contributions from their files into a spool, write the requests to files, and open the answers."""
    session = session_of(folder, VALUES)
    sa.warm_up()
    aggregator = sa.Aggregator(session, spool=folder / "spool")
    begun_rss, seconds = peak_rss(), 0.0
    for number in range(clients):
        with open(f"{folder}/contribution-{number}", "rb") as file:  # a Path would keep a place for each name
            while file.read(1 << 16):  # from the disk before the clock starts: a server has it from the network
                pass
            file.seek(0)
            start = time.perf_counter()
            aggregator.admit(file)
            seconds += time.perf_counter() - start
    admitted_rss = peak_rss()
    request = aggregator.close()
    for number in range(MEMBERS):
        with (folder / f"request-{number}").open("wb") as file:
            request.write(file, number)
    asked_rss = peak_rss()
    in_subprocess("answer", folder, clients)
    result = aggregator.open([(folder / f"answer-{number}").read_bytes() for number in range(MEMBERS)])
    assert len(result.clients) == clients
    return {
        "seconds": seconds,
        "rss": peak_rss(),
        "begun_rss": begun_rss,
        "admitted_rss": admitted_rss,
        "asked_rss": asked_rss,
    }


STAGES: dict[str, Callable[[Path, int], Figures]] = {
    "file-to-file": file_to_file,
    "contribute-files": contribute_files,
    "answer": answer,
    "serve": serve,
}


def in_subprocess(stage: str, folder: Path, size: int) -> Figures:
    """Return the stage's figures from a new process."""
    command = [sys.executable, "-m", "benchmarks.one_shot_scale", "--stage", stage, str(folder), str(size)]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
    if stage == "serve":
        environment["SECUREAGG_THREADS"] = "1"
    ran = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures: Figures = json.loads(ran.stdout)
    return figures


def of_clients(repeats: int) -> dict[int, list[Figures]]:
    """Return the server's figures for each number of clients, in turns."""
    runs: dict[int, list[Figures]] = {clients: [] for clients in CLIENTS}
    with tempfile.TemporaryDirectory() as root:
        folders = {clients: Path(root) / str(clients) for clients in CLIENTS}
        for clients, folder in folders.items():
            folder.mkdir()
            in_subprocess("contribute-files", folder, clients)
        for _ in range(repeats):
            for clients, folder in folders.items():
                runs[clients].append(in_subprocess("serve", folder, clients))
                shutil.rmtree(folder / "spool")
    return runs


def medians(runs: list[Figures]) -> Figures:
    """Return the median of each figure."""
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def main() -> None:
    """Print both tables and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stage", nargs=3, metavar=("STAGE", "FOLDER", "SIZE"), help="one row, in this process")
    parser.add_argument("--repeats", type=int, default=5, help="of the clients' rows")
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
    runs = of_clients(arguments.repeats)
    counts = {clients: medians(of_count) for clients, of_count in runs.items()}
    small, large = sizes[SIZES[0]], sizes[SIZES[-1]]
    few, middle, many = (counts[clients] for clients in CLIENTS)
    slope = (many["rss"] - middle["rss"]) / (CLIENTS[2] - CLIENTS[1]) + ROSTER_BYTES
    whole = (many["rss"] - few["rss"]) / (CLIENTS[2] - CLIENTS[0]) + ROSTER_BYTES
    pairs = zip(runs[CLIENTS[2]], runs[CLIENTS[1]], strict=True)
    slower = statistics.median(one["seconds"] / other["seconds"] for one, other in pairs) * CLIENTS[1] / CLIENTS[2]
    checks = [
        ("peak memory beyond the update at 10^8 values, bytes", large["rss"] - 4 * SIZES[-1], LARGEST_RSS),
        ("time of 10^8 values to 10^6", large["seconds"] / small["seconds"], LARGEST_TIME_RATIO),
        ("server memory a client, 100 to 1000 clients, roster included, bytes", slope, LARGEST_CLIENT_BYTES),
        ("server memory a client, 10 to 1000 clients, roster included, bytes", whole, LARGEST_CLIENT_BYTES),
        ("time a client, 1000 to 100 clients", slower, LARGEST_CLIENT_TIME_RATIO),
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
        "repeats": arguments.repeats,
        "clients": counts,
        "verdicts": verdicts,
    }
    print(write("one_shot_scale", figures))


if __name__ == "__main__":
    main()
