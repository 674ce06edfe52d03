"""What do encryption, transport and summing cost with TenSEAL alone, used as NVFlare uses it?

It imports TenSEAL, numpy and the standard library only. Followed, with the line it comes from in NVFlare (main, August
2026): context of nvflare/lighter/impl/he.py (CKKS, N = 8192, [60, 40, 40], scale 2^40, symmetric encryption, relin
keys; the server gets it without the secret key), one `ckks_vector` a tensor (app_opt/he/model_encryptor.py), each sent
as `serialize()` of the vector beside `serialize()` of its context (app_opt/he/decomposers.py), summed with `+` and
scaled by 1/n at the end (app_common/aggregators/weighted_aggregation_helper.py), decrypted by a client.

    python benchmarks/tenseal_baseline.py [--layers 62] [--repeats 5]     # a table beside the design's figures
    python benchmarks/tenseal_baseline.py --json                          # one line, for ckks_reference.py

Times are wall-clock seconds, of the clients' stages per client. Contexts are timed apart, for one client: on the wire
they are NVFlare's, but not CKKS's, so comparisons may leave them out.

Against the figures the design was made with: bytes and encryption agree; serialising and the server are faster here
once SEAL's and the allocator's memory is warm, which a first call is not (0.28 to 0.46 s to serialise, seen on the same
machine).
"""

import argparse
import json
import statistics
import time

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

VALUES, CLIENTS, DECRYPTIONS = 10**6, 10, 5
SEED = 20_260_201  # of the updates; ckks_reference.py draws the same ones
DESIGN_FIGURES = {"encrypt": 0.43, "serialise": 0.21, "server": 2.3, "value_bytes": 58.0}  # one tensor, ten clients


def updates(layers: int) -> list[list[NDArray[np.float32]]]:
    """Return each client's update: float32 tensors, normal with σ = 0.05, within ±1."""
    rng = np.random.default_rng(SEED)
    flat = np.clip(rng.normal(0, 0.05, (CLIENTS, VALUES)), -1, 1).astype(np.float32)
    return [np.array_split(row, layers) for row in flat]


def contexts() -> tuple[ts.Context, ts.Context]:
    """Return the clients' context and the server's."""
    made = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    made.generate_relin_keys()
    made.global_scale = 2**40
    copies = [
        ts.context_from(
            made.serialize(save_public_key=client, save_secret_key=client, save_galois_keys=False, save_relin_keys=True)
        )
        for client in (True, False)
    ]
    return copies[0], copies[1]


def measure(layers: int) -> dict[str, float]:
    """Return one repetition: seconds by stage, bytes a client sends, and the error of the mean."""
    client, server = contexts()
    models = updates(layers)
    serialised(client, models[0])  # SEAL's memory pool grows once
    seconds: dict[str, list[float]] = {"encrypt": [], "serialise": []}
    payloads = []
    for model in models:
        start = time.perf_counter()
        vectors = [ts.ckks_vector(client, tensor) for tensor in model]
        encrypted = time.perf_counter()
        payloads.append([vector.serialize() for vector in vectors])
        seconds["encrypt"].append(encrypted - start)
        seconds["serialise"].append(time.perf_counter() - encrypted)

    start = time.perf_counter()
    total = [ts.ckks_vector_from(server, encoded) for encoded in payloads[0]]
    for payload in payloads[1:]:
        total = [sum_ + ts.ckks_vector_from(server, encoded) for sum_, encoded in zip(total, payload, strict=True)]
    added = time.perf_counter()
    answer = [(sum_ * (1 / CLIENTS)).serialize() for sum_ in total]
    answered = time.perf_counter()
    seconds["decrypt"] = []
    for _ in range(DECRYPTIONS):
        begun = time.perf_counter()
        means = [np.array(ts.ckks_vector_from(client, encoded).decrypt(), dtype=np.float32) for encoded in answer]
        seconds["decrypt"].append(time.perf_counter() - begun)
    decrypted = time.perf_counter()
    context_bytes = [vector.context().serialize() for vector in vectors]
    contexts_written = time.perf_counter()
    for encoded in context_bytes:
        ts.context_from(encoded)
    contexts_read = time.perf_counter()

    exact = np.mean([np.concatenate(model) for model in models], axis=0, dtype=np.float64)
    return {
        **{stage: statistics.median(taken) for stage, taken in seconds.items()},
        "load_add": added - start,
        "server": answered - start,
        "contexts_serialise": contexts_written - decrypted,
        "contexts_load": contexts_read - contexts_written,
        "upload_bytes": sum(map(len, payloads[0])),
        "contexts_bytes": sum(map(len, context_bytes)),
        "error": float(np.abs(np.concatenate(means) - exact).max()),
    }


def serialised(context: ts.Context, model: list[NDArray[np.float32]]) -> list[bytes]:
    """Return what a client sends, contexts left out."""
    return [ts.ckks_vector(context, tensor).serialize() for tensor in model]


def main() -> None:
    """Print one JSON line, or the medians beside the design's figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=1, help="tensors the 10^6 values are split into")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one repetition, as one JSON line")
    arguments = parser.parse_args()
    if arguments.json:
        print(json.dumps(measure(arguments.layers)))
        return
    runs = [measure(arguments.layers) for _ in range(arguments.repeats)]
    found = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    found["value_bytes"] = found["upload_bytes"] / VALUES
    print(f"TenSEAL {ts.__version__}, {VALUES} values in {arguments.layers} tensors, {CLIENTS} clients")
    for key, value in found.items():
        reference = DESIGN_FIGURES.get(key) if arguments.layers == 1 else None
        beside = f"   design: {reference:g}, ratio {value / reference:.2f}" if reference else ""
        print(f"  {key:20} {value:12.4g}{beside}")


if __name__ == "__main__":
    main()
