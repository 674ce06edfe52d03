"""Does one-shot summation cost less than TenSEAL as NVFlare uses it, and little more than the plain mean?

Ten clients, 10^6 float32 values each, 16-bit grid, no proofs, three committee members. In one run: the plain mean
(float32 bytes into a float64 accumulator), TenSEAL in a process of its own ([60, 40, 40], N = 8192, scale 2^40, secret
key, serialised and loaded per client), and our public calls: `contribute` from float arrays to signed bytes, nothing
cached per session; `admit` per contribution; `open` with the key sum, decoding and division. Medians over the clients;
of the repetitions the fastest counts on every side, as other load only adds. One tensor and a thousand are compared
in pairs that take turns in one process, by the median of their ratios: the difference is smaller than that of two runs.
The result is held against the integer mean of the quantised updates, bit for bit, in two orders of arrival.

    python -m benchmarks.one_shot     # from a clean tree it also writes benchmarks/results/one_shot.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import secureagg as sa
from benchmarks.report import provenance, table, write

VALUES, CLIENTS, VALUE_BITS, MEMBERS, OPENINGS = 10**6, 10, 16, 3, 5
SETS = ("N2048_Q52", "N8192_Q208")
LAYERS = (1, 1000)
LAYER_PAIRS = 100
SEED = 20_260_201
L2_CLIP = 100.0  # above the norm of every update (about 50), so that the grid's resolution alone decides the error
BASELINE = Path(__file__).with_name("tenseal_baseline.py")
BYTES_A_VALUE = {"N2048_Q52": 3.4, "N8192_Q208": 2.9}
BYTES_A_MEMBER = {"N2048_Q52": 15_000, "N8192_Q208": 25_000}

Model = list[NDArray[np.float32]]
Figures = dict[str, float]


@dataclass
class Setting:
    """A session of ten clients and three members, made from plain inputs."""

    session: sa.Session
    clients: list[sa.Identity]
    members: list[sa.CommitteeMember]


def updates(layers: int) -> list[Model]:
    """Return each client's update: normal, σ = 0.05, in `layers` tensors."""
    rng = np.random.default_rng(SEED)
    flat = rng.normal(0, 0.05, (CLIENTS, VALUES)).astype(np.float32)
    return [np.array_split(row, layers) for row in flat]


def setting(parameters: str, model: Model, journals: Path) -> Setting:
    """Return a new session with new keys."""
    plan = sa.RoundPlan(
        layout=sa.Layout.of(model),
        clients=CLIENTS,
        quorum=CLIENTS,
        l2_clip=L2_CLIP,
        value_bits=VALUE_BITS,
        committee=sa.Committee(MEMBERS),
        parameters=parameters,
    )
    clients = [sa.Identity.generate() for _ in range(CLIENTS)]
    members = [sa.CommitteeMember(sa.Identity.generate(), journal=journals / str(n)) for n in range(MEMBERS)]
    roster = sa.Roster([client.public for client in clients], [member.public for member in members])
    prekeys = [member.prekey(1) for member in members]
    return Setting(sa.Session(plan, roster, prekeys=prekeys, round_number=1, model=model), clients, members)


def measure(parameters: str, layers: int) -> Figures:
    """Return one repetition of ours."""
    models = updates(layers)
    with tempfile.TemporaryDirectory() as folder:
        made = setting(parameters, models[0], Path(folder))
        plan, contribute_seconds, payloads = made.session.plan, [], []
        for client, model in zip(made.clients, models, strict=True):
            start = time.perf_counter()
            payloads.append(sa.contribute(made.session, client, model, rounding_rng=np.random.default_rng(SEED)))
            contribute_seconds.append(time.perf_counter() - start)
        aggregator = sa.Aggregator(made.session)
        admit_seconds = []
        for payload in payloads:
            start = time.perf_counter()
            aggregator.admit(payload)
            admit_seconds.append(time.perf_counter() - start)
        request = aggregator.close()
        start = time.perf_counter()
        answers = [member.respond(made.session, request) for member in made.members]
        responded = time.perf_counter() - start
        open_seconds = []
        for _ in range(OPENINGS):
            start = time.perf_counter()
            result = aggregator.open(answers)
            open_seconds.append(time.perf_counter() - start)
        backwards = sa.Aggregator(made.session)
        for payload in reversed(payloads):
            backwards.admit(payload)
        backwards.close()
        require_exact(plan, models, result, backwards.open(answers))
    return {
        "contribute": statistics.median(contribute_seconds),
        "admit": statistics.median(admit_seconds),
        "respond": responded / MEMBERS,
        "open": statistics.median(open_seconds),
        "upload_bytes": plan.bytes_per_client,
        "member_bytes": plan.box_bytes,
        "bytes_a_value": (plan.bytes_per_client - MEMBERS * plan.box_bytes) / VALUES,
    }


def layer_ratios(parameters: str) -> Figures:
    """Return 1000 tensors' time to one's, of `contribute` and of `open`: medians over pairs that take turns."""
    ratios: dict[str, list[float]] = {"contribute": [], "open": []}
    models = {layers: updates(layers) for layers in LAYERS}
    with tempfile.TemporaryDirectory() as folder:
        opening: dict[int, tuple[sa.Aggregator, list[bytes]]] = {}
        made: dict[int, Setting] = {}
        for layers, of_clients in models.items():
            (Path(folder) / str(layers)).mkdir()
            made[layers] = setting(parameters, of_clients[0], Path(folder) / str(layers))
            aggregator = sa.Aggregator(made[layers].session)
            for client, model in zip(made[layers].clients, of_clients, strict=True):
                aggregator.admit(sa.contribute(made[layers].session, client, model))
            request = aggregator.close()
            opening[layers] = aggregator, [m.respond(made[layers].session, request) for m in made[layers].members]
        for pair in range(LAYER_PAIRS):
            seconds: dict[tuple[str, int], float] = {}
            for layers in LAYERS if pair % 2 else LAYERS[::-1]:
                number, (aggregator, answers) = pair % CLIENTS, opening[layers]
                # An identity contributes once a round; made anew from its seed it has not yet.
                client = sa.Identity(made[layers].clients[number].to_seed())
                start = time.perf_counter()
                sa.contribute(made[layers].session, client, models[layers][number])
                seconds["contribute", layers] = time.perf_counter() - start
                start = time.perf_counter()
                aggregator.open(answers)
                seconds["open", layers] = time.perf_counter() - start
            for stage, of_stage in ratios.items():
                of_stage.append(seconds[stage, LAYERS[1]] / seconds[stage, LAYERS[0]])
    return {stage: statistics.median(of_stage) for stage, of_stage in ratios.items()}


def require_exact(plan: sa.RoundPlan, models: list[Model], *results: sa.Result) -> None:
    """Stop unless each result is the integer mean of the quantised updates, bit for bit.

    The rounding's random words are those of `rounding_rng`, drawn again by the documented rule (docs/wire-format.md).
    """
    from secureagg.dp.quantise import Quantiser
    from secureagg.ring.xof import SecretStream

    words = np.empty(VALUES // 2, dtype=np.uint64)
    SecretStream(np.random.default_rng(SEED).bytes(32)).reserve(VALUES // 2).fill(0, words)
    quantiser = Quantiser(VALUE_BITS, L2_CLIP)
    total = np.zeros(VALUES, dtype=np.int64)
    for model in models:
        flat = np.concatenate(model).astype(np.float64)
        total += quantiser.quantise(flat, 1.0, 1.0, words.view(np.uint32))[0]
    expected = (total * (1 / (quantiser.scale * CLIENTS))).astype(np.float32)
    for result in results:
        if not np.array_equal(np.concatenate(result.mean), expected):
            raise SystemExit("the mean is not the integer mean of the quantised updates")


def measure_plain() -> Figures:
    """Return one repetition in the clear."""
    models = updates(1)
    payloads = [b"".join(tensor.tobytes() for tensor in model) for model in models]
    total, seconds = np.zeros(VALUES), []
    for payload in payloads:
        start = time.perf_counter()
        total += np.frombuffer(payload, dtype=np.float32)
        seconds.append(time.perf_counter() - start)
    return {"admit": statistics.median(seconds), "upload_bytes": len(payloads[0])}


def measure_tenseal() -> Figures:
    """Return one repetition of the baseline, in its own process."""
    command = [sys.executable, str(BASELINE), "--json"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(printed.splitlines()[-1])
    return {
        "contribute": found["encrypt"] + found["serialise"],
        "admit": found["load_add"] / CLIENTS,
        "open": found["decrypt"],
        "upload_bytes": found["upload_bytes"],
    }


def fastest(runs: list[Figures]) -> Figures:
    """Return the smallest of each figure."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def verdicts(found: dict[str, Figures], ratios: dict[str, Figures]) -> list[str]:
    """Return one line a target."""
    plain, theirs = found["plain"], found["TenSEAL"]
    rows: list[tuple[str, float, str, float]] = []
    for name in SETS:
        ours, split = found[f"{name}, 1"], found[f"{name}, 1000"]
        rows += [
            (f"{name}: bytes a value without boxes", ours["bytes_a_value"], "≤", BYTES_A_VALUE[name]),
            (f"{name}: bytes per committee member", ours["member_bytes"], "≤", BYTES_A_MEMBER[name]),
            (f"{name}: contribute, times faster than TenSEAL", theirs["contribute"] / ours["contribute"], "≥", 20),
            (f"{name}: admit, times faster than TenSEAL", theirs["admit"] / ours["admit"], "≥", 40),
            (f"{name}: admit, times the plain mean", ours["admit"] / plain["admit"], "≤", 6),
            (f"{name}: open to contribute", ours["open"] / ours["contribute"], "≤", 1),
            (f"{name}: bytes, 1000 tensors to 1", split["upload_bytes"] / ours["upload_bytes"], "≤", 1.001),
            (f"{name}: contribute, 1000 tensors to 1", ratios[name]["contribute"], "≤", 1.1),
            (f"{name}: open, 1000 tensors to 1", ratios[name]["open"], "≤", 1.1),
        ]
    lines = []
    for claim, value, sign, target in rows:
        met = value <= target if sign == "≤" else value >= target
        lines.append(f"{claim} {value:.3f}; target {sign} {target}: {'met' if met else 'MISSED'}")
    return [*lines, "the mean is the integer mean of the quantised updates, bit for bit, in two orders: met"]


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    source = provenance(["tenseal", "numpy", "numba", "cryptography"])
    sa.warm_up()
    runs: dict[str, list[Figures]] = {}
    for repeat in range(repeats):
        print(f"repetition {repeat + 1} of {repeats}", file=sys.stderr)
        runs.setdefault("TenSEAL", []).append(measure_tenseal())
        runs.setdefault("plain", []).append(measure_plain())
        for name in SETS:
            for layers in LAYERS:
                runs.setdefault(f"{name}, {layers}", []).append(measure(name, layers))
    found = {way: fastest(of_way) for way, of_way in runs.items()}
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    stages = ("contribute", "admit", "respond", "open")
    rows = [
        [way, f"{of_way['upload_bytes'] / VALUES:.3f}"]
        + [f"{1e3 * of_way[stage]:.2f}" if stage in of_way else "" for stage in stages]
        for way, of_way in found.items()
    ]
    print(table(["way, tensors", "bytes/value", *(f"{stage} ms" for stage in stages)], rows), "\n")
    ratios = {name: layer_ratios(name) for name in SETS}
    results = verdicts(found, ratios)
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"clients": CLIENTS, "values": VALUES, "value_bits": VALUE_BITS, "members": MEMBERS},
        "repeats": repeats,
        "figures": found,
        "layer_ratios": ratios,
        "verdicts": results,
    }
    print(write("one_shot", figures))


if __name__ == "__main__":
    main()
