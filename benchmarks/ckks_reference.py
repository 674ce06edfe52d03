"""Does the CKKS reference path send less, and take no longer, than TenSEAL as NVFlare uses it?

10^6 float32 values from each of ten clients, in one tensor and in 62; |value| ≤ 1 and precision 1e-7 for us, so that
our error is no larger than the baseline's at scale 2^40 (some 5e-8; both are printed). Times are of public calls from
plain arrays to final bytes and back. Each repetition runs the baseline in a process of its own (it imports nothing of
ours) and then ours, so that both see the same machine, and takes medians over the ten clients and five decryptions; of
the repetitions the fastest counts, stage by stage, as other load only ever adds. SEAL contexts are made once on either
side. The baseline's contexts, which NVFlare sends with every tensor, are left out of all ratios, in its favour.

    python -m benchmarks.ckks_reference     # from a clean tree it also writes benchmarks/results/ckks_reference.json
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import provenance, table, write
from secureagg.he import tenseal as he

VALUES, CLIENTS, DECRYPTIONS = 10**6, 10, 5
MAGNITUDE, PRECISION = 1.0, 1e-7
SEED = 20_260_201  # of the updates, as in tenseal_baseline.py
LAYERS = (1, 62)
BYTE_TARGETS = {"public key": 0.55, "secret key": 0.30}  # of the baseline's upload
BASELINE = Path(__file__).with_name("tenseal_baseline.py")

Model = list[NDArray[np.float32]]
Figures = dict[str, float]


def updates(layers: int) -> list[Model]:
    """Return each client's update, the same as the baseline's."""
    rng = np.random.default_rng(SEED)
    flat = np.clip(rng.normal(0, 0.05, (CLIENTS, VALUES)), -1, 1).astype(np.float32)
    return [np.array_split(row, layers) for row in flat]


def measure_baseline(layers: int) -> Figures:
    """Return one repetition of tenseal_baseline.py."""
    command = [sys.executable, str(BASELINE), "--json", "--layers", str(layers)]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    figures: Figures = json.loads(printed.splitlines()[-1])  # TenSEAL prints warnings before
    return {**figures, "client": figures["encrypt"] + figures["serialise"]}


def measure_plain(models: list[Model]) -> Figures:
    """Return one repetition in the clear: float32 bytes, summed in float64."""
    clients, payloads = [], []
    for model in models:
        start = time.perf_counter()
        payloads.append(b"".join(tensor.tobytes() for tensor in model))
        clients.append(time.perf_counter() - start)
    start = time.perf_counter()
    total = np.zeros(VALUES)
    for payload in payloads:
        total += np.frombuffer(payload, dtype=np.float32)
    server = time.perf_counter() - start
    return {"client": statistics.median(clients), "server": server, "upload_bytes": len(payloads[0])}


def measure(key: he.PublicKey | he.SecretKey, secret: he.SecretKey, models: list[Model]) -> Figures:
    """Return one repetition of ours with this key."""
    he.encrypt(key, models[0])  # SEAL's memory pool grows once, as in the baseline
    clients, payloads = [], []
    for model in models:
        start = time.perf_counter()
        payloads.append(he.encrypt(key, model))
        clients.append(time.perf_counter() - start)
    start = time.perf_counter()
    total = he.add(payloads)
    added = time.perf_counter()
    decryptions = []
    for _ in range(DECRYPTIONS):
        begun = time.perf_counter()
        mean = he.decrypt(secret, total)
        decryptions.append(time.perf_counter() - begun)
    exact = np.mean([np.concatenate(model) for model in models], axis=0, dtype=np.float64)
    return {
        "client": statistics.median(clients),
        "server": added - start,
        "decrypt": statistics.median(decryptions),
        "upload_bytes": len(payloads[0]),
        "error": float(np.abs(np.concatenate(mean) - exact).max()),
    }


def fastest(runs: list[Figures]) -> Figures:
    """Return the smallest of each figure. Bytes and errors hardly differ between repetitions."""
    return {key: min(run[key] for run in runs) for key in runs[0]}


def run(repeats: int) -> dict[str, Figures]:
    """Return figures by "<way>, <layers>", the ways interleaved."""
    public, secret = he.generate_keys(CLIENTS, MAGNITUDE, PRECISION)
    runs: dict[str, list[Figures]] = {}
    for repeat in range(repeats):
        for layers in LAYERS:
            print(f"repetition {repeat + 1} of {repeats}, {layers} tensors", file=sys.stderr)
            models = updates(layers)
            found = {
                "TenSEAL": measure_baseline(layers),
                "public key": measure(public, secret, models),
                "secret key": measure(secret, secret, models),
                "plain": measure_plain(models),
            }
            for way, figures in found.items():
                runs.setdefault(f"{way}, {layers}", []).append(figures)
    return {way: fastest(of_way) for way, of_way in runs.items()}


def compare(found: dict[str, Figures]) -> dict[str, Figures]:
    """Return each of our ways as ratios to the baseline with as many tensors."""
    ratios = {}
    for way in BYTE_TARGETS:
        for layers in LAYERS:
            ours, theirs = found[f"{way}, {layers}"], found[f"TenSEAL, {layers}"]
            columns = ("upload_bytes", "client", "server", "decrypt", "error")
            ratios[f"{way}, {layers}"] = {column: ours[column] / theirs[column] for column in columns}
    return ratios


def verdicts(found: dict[str, Figures], ratios: dict[str, Figures]) -> list[str]:
    """Return one line a target."""
    lines = []
    for way, limit in BYTE_TARGETS.items():
        one, many = (found[f"{way}, {layers}"]["upload_bytes"] for layers in LAYERS)
        apart = abs(one - many) / min(one, many)
        both = [ratios[f"{way}, {layers}"] for layers in LAYERS]
        bytes_ratio = max(ratio["upload_bytes"] for ratio in both)
        time_ratio = max(ratio[stage] for ratio in both for stage in ("client", "server", "decrypt"))
        error_ratio = max(ratio["error"] for ratio in both)
        for claim, value, bound in (
            ("upload bytes in 1 and 62 tensors differ by", apart, 0.01),
            ("upload bytes to TenSEAL's, at most", bytes_ratio, limit),
            ("slowest stage to TenSEAL's, at most", time_ratio, 1.0),
            ("error of the mean to TenSEAL's, at most", error_ratio, 1.0),
        ):
            lines.append(f"{way}: {claim} {value:.4f}; target ≤ {bound}: {'met' if value <= bound else 'MISSED'}")
    return lines


def main() -> None:
    """Print tables, ratios and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    source = provenance(["tenseal", "numpy"])
    found = run(repeats)
    ratios = compare(found)
    parameters = he.choose_parameters(CLIENTS, MAGNITUDE, PRECISION)

    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    print(parameters.report(), "\n")
    rows = [
        [
            way,
            f"{figures['upload_bytes'] / VALUES:.2f}",
            *(f"{figures[stage]:.3f}" if stage in figures else "" for stage in ("client", "server", "decrypt")),
            f"{figures['error']:.1e}" if "error" in figures else "",
        ]
        for way, figures in found.items()
    ]
    header = ["way, tensors", "bytes/value", "client s", f"server s ({CLIENTS} clients)", "decrypt s", "error"]
    print(table(header, rows))
    for layers in LAYERS:
        theirs = found[f"TenSEAL, {layers}"]
        print(
            f"TenSEAL with NVFlare's contexts, {layers}: {theirs['contexts_bytes'] / 1e6:.1f} MB more to "
            f"{theirs['upload_bytes'] / 1e6:.1f} MB, {theirs['contexts_load']:.2f} s more a client at the server"
        )
    print()
    rows = [[way, *(f"{ratio:.3f}" for ratio in of_way.values())] for way, of_way in ratios.items()]
    print(table(["ratio to TenSEAL", "bytes", "client", "server", "decrypt", "error"], rows), "\n")
    results = verdicts(found, ratios)
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"clients": CLIENTS, "values": VALUES, "magnitude": MAGNITUDE, "precision": PRECISION},
        "parameters": parameters.summary(),
        "repeats": repeats,
        "figures": found,
        "ratios": ratios,
        "verdicts": results,
    }
    print(write("ckks_reference", figures))


if __name__ == "__main__":
    main()
