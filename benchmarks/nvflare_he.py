"""In NVFlare, what does a private sum cost on top of the plain one, beside its own homomorphic encryption?

One job under ScatterAndGather in the simulator, three ways: plain, NVFlare's HE (its nvflare.app_opt.he filters and
aggregator with TenSEAL, [60, 40, 40], N = 8192, scale 2^40), and ours (EncryptUpdates and PrivateAggregator, three
committee sites, a grid of 13 bits over ±8 σ; with proofs 16 bits over the clip). Five sites each add the same update
of 10^6 float32 values in ten tensors every round; nothing is trained. The first two rounds are left out: HE sends its
first model in the clear, and kernels load. Bytes are what crosses the server's sockets, both ways, the model and the
exchanges with the committee included. Seconds are medians over rounds, the fastest of the repetitions; the overhead is
what a way takes beyond the plain one, and at least the time between two polls. That all sites receive the same model
in the last round, within the grid's error, is checked.

    make bench-nvflare     # from a clean tree it also writes benchmarks/results/nvflare_he.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import tenseal as ts
from nvflare.apis.fl_component import FLComponent
from nvflare.app_common.aggregators.intime_accumulate_model_aggregator import InTimeAccumulateWeightedAggregator
from nvflare.app_common.shareablegenerators.full_model_shareable_generator import FullModelShareableGenerator
from nvflare.app_common.workflows.scatter_and_gather import ScatterAndGather
from nvflare.app_opt.he.intime_accumulate_model_aggregator import HEInTimeAccumulateWeightedAggregator
from nvflare.app_opt.he.model_decryptor import HEModelDecryptor
from nvflare.app_opt.he.model_encryptor import HEModelEncryptor
from nvflare.app_opt.he.model_shareable_generator import HEModelShareableGenerator
from nvflare.job_config.api import FedJob
from nvflare.job_config.defs import FilterType

import secureagg as sa
from benchmarks.nvflare_job import SIGMA, FixedUpdate, Meter, ZeroModel, update_of
from benchmarks.report import provenance, table, write
from secureagg.adapters.nvflare import EncryptUpdates, PrivateAggregator, Terms, allow_list

VALUES, LAYERS, SITES, ROUNDS, LEFT_OUT = 10**6, 10, 5, 5, 2
WAYS = ("plain", "HE", "ours", "ours, proven")
VALUE_BITS, VALUE_BOUND, PROVEN_BITS, MEMBERS = 13, 8 * SIGMA, 16, 3
BYTES_TARGET, OVERHEAD_TARGET = 15, 10
ATTEMPTS = 3
CHECK_SECONDS = 0.01  # how often the controller looks whether all results are there

Figures = dict[str, float]


def terms(values: int, *, proofs: bool) -> Terms:
    """Return the terms of our jobs: nothing is clipped, so that the grid's resolution alone decides the error.

    With proofs the grid is that of the whole clip, at 16 bits: a proof's norm check has no room for a tighter bound.
    """
    return Terms(
        committee=[f"site-{n}" for n in range(1, MEMBERS + 1)],
        quorum=SITES,
        l2_clip=2 * SIGMA * values**0.5,
        value_bound=None if proofs else VALUE_BOUND,
        value_bits=PROVEN_BITS if proofs else VALUE_BITS,
        proofs=proofs,
        roster="collected",
    )


def job(way: str, values: int, rounds: int) -> FedJob:
    """Return the job of one way."""
    made = FedJob(name="bench", min_clients=SITES)
    made.set_app_packages(["secureagg", "benchmarks"])
    sag = ScatterAndGather(
        min_clients=SITES,
        num_rounds=rounds,
        persistor_id="persistor",
        wait_time_after_min_received=0,
        task_check_period=CHECK_SECONDS,
    )
    made.to_server(sag)
    made.to_server(ZeroModel(values, LAYERS), id="persistor")
    made.to_server(Meter(), id="meter")
    he, private = way == "HE", terms(values, proofs=way == "ours, proven")
    made.to_server(HEModelShareableGenerator() if he else FullModelShareableGenerator(), id="shareable_generator")
    aggregator: FLComponent = PrivateAggregator(private, timeout=600.0)
    if he:
        aggregator = HEInTimeAccumulateWeightedAggregator(weigh_by_local_iter=False)
    elif way == "plain":
        aggregator = InTimeAccumulateWeightedAggregator(expected_data_kind="WEIGHT_DIFF", weigh_by_local_iter=False)
    made.to_server(aggregator, id="aggregator")
    for number in range(1, SITES + 1):
        site = f"site-{number}"
        made.to(FixedUpdate(values, LAYERS, rounds - 1), site, tasks=["train"])
        if he:
            made.to(HEModelDecryptor(), site, tasks=["train"], filter_type=FilterType.TASK_DATA)
            encryptor = HEModelEncryptor(weigh_by_local_iter=False)
            made.to(encryptor, site, tasks=["train"], filter_type=FilterType.TASK_RESULT)
        elif way != "plain":
            made.to(EncryptUpdates(private), site, tasks=["train"], filter_type=FilterType.TASK_RESULT)
    return made


def prepare(workspace: Path) -> None:
    """Write what is provisioned: HE's contexts, as NVFlare's own provisioning makes them, and the allow-list."""
    made = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    made.generate_relin_keys()
    made.global_scale = 2**40
    (workspace / "startup").mkdir(parents=True)
    (workspace / "local").mkdir()
    for name, client in (("client", True), ("server", False)):
        encoded = made.serialize(
            save_public_key=client, save_secret_key=client, save_galois_keys=False, save_relin_keys=True
        )
        (workspace / "startup" / f"{name}_context.tenseal").write_bytes(encoded)
    resources = {"format_version": 2, "class_allow_list": [*allow_list(), "benchmarks.nvflare_job."]}
    (workspace / "local" / "resources.json").write_text(json.dumps(resources), encoding="utf-8")


def run(way: str, values: int, rounds: int) -> Figures:
    """Return the figures of one way's job, of its first run in which all sites started.

    On a busy machine the simulator of NVFlare 2.9.0 now and then loses a site's process as it starts.
    """
    for _ in range(ATTEMPTS):
        found = attempt(way, values, rounds)
        if found is not None:
            return found
    raise SystemExit(f"in {ATTEMPTS} runs of the job {way!r} some site did not start")


def attempt(way: str, values: int, rounds: int) -> Figures | None:
    """Run one way's job in a process of its own; return its figures, or None if a site did not start."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Path(folder) / "workspace"
        prepare(workspace)
        command = [sys.executable, "-m", "benchmarks.nvflare_he", "--simulate", way, str(workspace)]
        command += ["--values", str(values), "--rounds", str(rounds)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if "Communication error with client" in ran.stdout:
            return None
        meter = workspace / "server" / "meter.json"
        if ran.returncode or not meter.exists():
            raise SystemExit(f"the job {way!r} failed:\n{ran.stdout[-4000:]}{ran.stderr[-4000:]}")
        measured = json.loads(meter.read_text(encoding="utf-8"))[LEFT_OUT:]
        error = largest_error(workspace, values, rounds - 1)
    return {key: statistics.median(each[key] for each in measured) for key in measured[0]} | {"error": error}


def largest_error(workspace: Path, values: int, rounds: int) -> float:
    """Return how far the model that sites received is from `rounds` times the mean update, at most."""
    updates = [np.concatenate(list(update_of(f"site-{n}", values, LAYERS).values())) for n in range(1, SITES + 1)]
    expected = rounds * np.mean(updates, axis=0, dtype=np.float64)
    received = [np.load(workspace / f"site-{n}" / "received.npy") for n in range(1, SITES + 1)]
    return max(float(np.abs(model - expected).max()) for model in received)


def verdicts(found: dict[str, Figures], values: int, rounds: int) -> list[str]:
    """Return one line a claim."""
    plain, he, ours = found["plain"], found["HE"], found["ours"]
    total = {way: of_way["sent"] + of_way["received"] for way, of_way in found.items()}
    # What is below the controller's own rhythm is not resolved, and counts as that.
    overhead = {way: max(of_way["busy"] - plain["busy"], CHECK_SECONDS) for way, of_way in found.items()}
    step = VALUE_BOUND / (2 ** (VALUE_BITS - 1) - 1)
    rows = [
        ("bytes of a round, HE's to ours", total["HE"] / total["ours"], ">=", BYTES_TARGET),
        ("bytes sites upload, HE's to ours", he["received"] / ours["received"], ">=", BYTES_TARGET),
        ("overhead of a round, HE's to ours", overhead["HE"] / overhead["ours"], ">=", OVERHEAD_TARGET),
        ("error of our model, in grid steps a round", ours["error"] / step / (rounds - 1), "<=", 1),
    ]
    lines = []
    for claim, value, sign, target in rows:
        met = value <= target if sign == "<=" else value >= target
        shown = "≤" if sign == "<=" else "≥"
        lines.append(f"{claim} {value:.3f}; target {shown} {target}: {'met' if met else 'MISSED'}")
    return lines


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean and the job the one described above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--values", type=int, default=VALUES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--simulate", nargs=2, metavar=("WAY", "WORKSPACE"), help="run one job; used by the benchmark")
    arguments = parser.parse_args()
    values, rounds = arguments.values, arguments.rounds
    if arguments.simulate:
        way, workspace = arguments.simulate
        raise SystemExit(job(way, values, rounds).simulator_run(workspace, log_config="concise"))
    source = provenance(["nvflare", "tenseal", "numpy", "numba", "cryptography"])
    sa.warm_up()
    runs: dict[str, list[Figures]] = {}
    for repeat in range(arguments.repeats):
        for way in WAYS:
            print(f"repetition {repeat + 1} of {arguments.repeats}: {way}", file=sys.stderr)
            runs.setdefault(way, []).append(run(way, values, rounds))
    found = {way: {key: min(each[key] for each in of_way) for key in of_way[0]} for way, of_way in runs.items()}
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [way]
        + [f"{of_way[each] / SITES / values:.3f}" for each in ("received", "sent")]
        + [f"{of_way[each]:.3f}" for each in ("busy", "wall")]
        for way, of_way in found.items()
    ]
    header = ["way", "up, bytes/value", "down, bytes/value", "round, s", "with polling, s"]
    print(table(header, rows), "\n")
    results = verdicts(found, values, rounds)
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"sites": SITES, "values": values, "layers": LAYERS, "rounds": rounds, "members": MEMBERS},
        "repeats": arguments.repeats,
        "figures": found,
        "verdicts": results,
    }
    if (values, rounds) == (VALUES, ROUNDS):
        print(write("nvflare_he", figures))


if __name__ == "__main__":
    main()
