"""From how many contributions on does it pay to admit them over Ray, rather than one after the other in this process?

Contributions of 10^5 values are files on the disk, read once before the clock starts, without proofs and with. In this
process `admit` takes one after the other, each on all cores. Over Ray, on a local cluster of as many cores, tasks of
`admit_many` verify and sum a part each, on one core, and what comes back is merged. The cluster is started, and its
workers have their kernels loaded, before; what that takes stands beside. "Merge" is what is left to this process when
others verify and sum: the same call with their answers ready. It bounds what a cluster of any size can gain. Ways take
turns, the fastest of the repetitions counts for each, as other load only adds, and all sums must be equal bit for bit.

    make bench-ray     # in the environment of the `ray` extra; a clean tree gets benchmarks/results/ray_admission.json
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Any

import numpy as np
import ray

import secureagg as sa
from benchmarks.report import provenance, table, write
from secureagg.adapters.ray import RayExecutor
from secureagg.ring.workers import thread_count
from secureagg.subtotal import Subtotal

VALUES, MEMBERS, SEED = 10**5, 3, 20_261_128
CLIENTS = {False: (8, 32, 128, 512), True: (8, 32, 128)}  # by whether there are proofs
PAYS = 0.95  # of the time in this process


def stored(folder: Path, clients: int, proofs: bool) -> tuple[sa.Session, list[Path]]:
    """Return a session and its contributions' files."""
    update = [np.random.default_rng(SEED).normal(0, 0.05, VALUES).astype(np.float32)]
    identities = [sa.Identity.generate() for _ in range(clients)]
    members = [sa.CommitteeMember(sa.Identity.generate(), journal=folder / f"member-{m}") for m in range(MEMBERS)]
    plan = sa.RoundPlan(
        layout=sa.Layout.of(update),
        clients=clients,
        quorum=2,
        l2_clip=20.0,
        value_bits=16,
        committee=sa.Committee(MEMBERS),
        proofs=proofs,
    )
    roster = sa.Roster([each.public for each in identities], [member.public for member in members])
    prekeys = [member.prekey(1) for member in members]
    session = sa.Session(plan, roster, prekeys=prekeys, round_number=1, model=update)
    paths = [folder / f"contribution-{number}" for number in range(clients)]
    for identity, path in zip(identities, paths, strict=True):
        with path.open("wb") as file:
            sa.contribute(session, identity, update, out=file)
    return session, paths


class Ready(Executor):
    """Answers a second time what it has worked out once."""

    def __init__(self) -> None:
        self._answers: dict[tuple[Path, ...], Subtotal] = {}

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        (part,) = args
        future: Future[Any] = Future()
        found = self._answers.get(tuple(part))
        if found is None:
            found = self._answers[tuple(part)] = fn(part)
        future.set_result(found)
        return future


def timed(session: sa.Session, take: Callable[[sa.Aggregator], object]) -> tuple[float, list[bytes]]:
    """Return seconds, and the sum."""
    aggregator = sa.Aggregator(session)
    start = time.perf_counter()
    take(aggregator)
    seconds = time.perf_counter() - start
    assert len(aggregator.clients) == session.plan.clients
    return seconds, [aggregator._sum.total.frame(index) for index in range(len(session.plan.packing.frames))]


def measure(clients: int, proofs: bool, executor: RayExecutor, repeats: int) -> dict[str, float]:
    """Return the fastest seconds of either way."""
    with tempfile.TemporaryDirectory() as name:
        session, paths = stored(Path(name), clients, proofs)
        for path in paths:
            path.read_bytes()

        def streaming(aggregator: sa.Aggregator) -> None:
            for path in paths:
                aggregator.admit(path.read_bytes())

        ways: dict[str, Callable[[sa.Aggregator], object]] = {
            "streaming": streaming,
            "ray": lambda aggregator: aggregator.admit_many(paths, executor=executor),
            "merge": lambda aggregator: aggregator.admit_many(paths, executor=ready),
        }
        ready = Ready()
        sa.Aggregator(session).admit_many(paths, executor=ready)
        runs: dict[str, list[float]] = {way: [] for way in ways}
        sums = []
        for _ in range(repeats):
            for way, take in ways.items():
                seconds, total = timed(session, take)
                runs[way].append(seconds)
                sums.append(total)
        assert all(total == sums[0] for total in sums)
        return {way: min(seconds) for way, seconds in runs.items()}


def warm(executor: RayExecutor, cores: int) -> None:
    """Load the kernels in every worker."""
    list(executor.map(_load, range(cores)))


def _load(number: int) -> None:
    sa.warm_up()
    time.sleep(0.5)  # so that no worker takes two of these


def verdict(figures: dict[str, dict[str, float]], proofs: bool) -> list[str]:
    """Return from which number of clients on Ray is faster here, and what it could gain at most elsewhere, in words."""
    name = "with proofs" if proofs else "without proofs"
    rows = {clients: figures[key(clients, proofs)] for clients in CLIENTS[proofs] if key(clients, proofs) in figures}
    pays = [clients for clients, f in rows.items() if f["ray"] <= PAYS * f["streaming"]]
    most, last = max(rows), rows[max(rows)]
    here = f"pays from {min(pays)} clients on" if pays else f"does not pay for up to {most} clients"
    left = last["merge"] / last["streaming"]
    gain = f"at most {1 / left:.1f} times as fast" if left < PAYS else "no faster, however large"
    return [
        f"{name}, on one machine: Ray {here}; at {most} it takes {last['ray'] / last['streaming']:.2f} of the time",
        f"{name}, on a cluster: {left:.2f} of the time is left to the aggregator at {most} clients, so {gain}",
    ]


def key(clients: int, proofs: bool) -> str:
    """Return the row's name."""
    return f"{clients}, {'with proofs' if proofs else 'without proofs'}"


def main() -> None:
    """Print table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=int, default=512, help="leave out what has more clients")
    arguments = parser.parse_args()
    cores = thread_count()
    sa.warm_up()
    start = time.perf_counter()
    ray.init(num_cpus=cores, include_dashboard=False, log_to_driver=False)
    started = time.perf_counter() - start
    figures: dict[str, dict[str, float]] = {}
    with RayExecutor() as executor:
        start = time.perf_counter()
        warm(executor, cores)
        warmed = time.perf_counter() - start
        for proofs, counts in CLIENTS.items():
            for clients in counts:
                if clients <= arguments.most:
                    figures[key(clients, proofs)] = measure(clients, proofs, executor, arguments.repeats)
    ray.shutdown()
    source = provenance(["numpy", "numba", "cryptography", "ray"])
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    print(f"cluster of {cores} cores: started in {started:.1f} s, workers warm after {warmed:.1f} s\n")
    rows = [
        [name, f"{f['streaming']:.3f}", f"{f['ray']:.3f}", f"{f['merge']:.3f}", f"{f['ray'] / f['streaming']:.2f}"]
        for name, f in figures.items()
    ]
    print(table(["clients", "one by one s", "Ray s", "merge s", "Ray to one by one"], rows), "\n")
    verdicts = [line for proofs in CLIENTS for line in verdict(figures, proofs)]
    print("\n".join(verdicts))
    found: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"values": VALUES, "members": MEMBERS, "cores": cores, "repeats": arguments.repeats},
        "start_seconds": started,
        "warm_seconds": warmed,
        "figures": figures,
        "verdicts": verdicts,
    }
    print(write("ray_admission", found))


if __name__ == "__main__":
    main()
