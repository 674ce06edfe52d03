"""Does a DP-SGD step cost at most 1.5 (MLP) and 2.0 (CNN) times the plain step?

The step is Keras's whole `train_step` at batch 256, with SGD, loss and metrics: forward, backward, update, and in
ours clipping per example and noise from the CSPRNG. The MLP is 784-128-10 (101 770 weights), the CNN that of
tensorflow-privacy's tutorial (26 010). Plain and private steps take turns, and medians of one run are divided; each
peer beside its own plain step, in a process of its own, on the older Keras it needs: tensorflow-privacy 0.9.0's
vectorised optimizer, and its fast clipping, which has no convolutions.

    python -m benchmarks.dpsgd     # from a clean tree it also writes benchmarks/results/dpsgd.json
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.report import provenance, table, write

BATCH = 256
SEED = 20_260_203  # of the examples and labels, which only have to be there
TARGETS = {"MLP": 1.5, "CNN": 2.0}
SHAPES = {"MLP": (784,), "CNN": (28, 28, 1)}
WARM_UP = 15

Figures = dict[str, float]

PEER = """
import json, sys, time, statistics
sys.skip_tf_privacy_import = True
import numpy as np, tensorflow as tf
way, name, shape, batch, repeats = json.loads(sys.argv[1])
from tensorflow_privacy.privacy.fast_gradient_clipping import layer_registry
from tensorflow_privacy.privacy.keras_models.dp_keras_model import DPSequential
from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras_vectorized import VectorizedDPKerasSGDOptimizer
k = tf.keras.layers
layers = {
    "MLP": lambda: [k.InputLayer(input_shape=shape), k.Dense(128, "relu"), k.Dense(10)],
    "CNN": lambda: [k.InputLayer(input_shape=shape), k.Conv2D(16, 8, 2, "same", activation="relu"),
        k.MaxPooling2D(2, 1), k.Conv2D(32, 4, 2, activation="relu"), k.MaxPooling2D(2, 1), k.Flatten(),
        k.Dense(32, "relu"), k.Dense(10)],
}[name]
x = tf.constant(np.random.default_rng(1).normal(size=[batch, *shape]), tf.float32)
y = tf.constant(np.random.default_rng(1).integers(0, 10, batch), tf.int32)

def step(model, optimizer, reduction):
    model.compile(optimizer, tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction))
    compiled = tf.function(model.train_step)
    return lambda: [value.numpy() for value in compiled((x, y)).values()]

plain = step(tf.keras.Sequential(layers()), tf.keras.optimizers.SGD(0.1), "auto")
if way == "vectorised":
    model, reduction = tf.keras.Sequential(layers()), "none"
    optimizer = VectorizedDPKerasSGDOptimizer(1.0, 1.0, num_microbatches=batch, learning_rate=0.1)
    # Keras hands the optimizer's own gradient function the losses only by way of minimize, as in train_step.
    private = step(model, optimizer, reduction)
else:
    model = DPSequential(l2_norm_clip=1.0, noise_multiplier=1.0, layers=layers(),
        layer_registry=layer_registry.make_default_layer_registry())
    private = step(model, tf.keras.optimizers.SGD(0.1), "auto")
times = {"plain": [], "private": []}
for repeat in range(repeats + 3):
    for key, run in (("plain", plain), ("private", private)):
        start = time.perf_counter()
        run()
        if repeat >= 3:
            times[key].append(1e3 * (time.perf_counter() - start))
print(json.dumps({key: statistics.median(value) for key, value in times.items()}))
"""


def architecture(name: str) -> Any:
    """Return a new model."""
    import keras

    k = keras.layers
    mlp = [k.Dense(128, activation="relu"), k.Dense(10)]
    cnn = [
        k.Conv2D(16, 8, strides=2, padding="same", activation="relu"),
        k.MaxPooling2D(2, 1),
        k.Conv2D(32, 4, strides=2, activation="relu"),
        k.MaxPooling2D(2, 1),
        k.Flatten(),
        k.Dense(32, activation="relu"),
        k.Dense(10),
    ]
    return keras.Sequential([keras.Input(SHAPES[name]), *(mlp if name == "MLP" else cnn)])


def steps(name: str) -> dict[str, Callable[[], Any]]:
    """Return the compiled steps to be timed: plain, private, and private without its noise."""
    import keras
    import tensorflow as tf

    from secureagg.dp.dp_events import BatchSampling
    from secureagg.dp.dpsgd import make_private

    rng = np.random.default_rng(SEED)
    x = tf.constant(rng.normal(size=(BATCH, *SHAPES[name])), tf.float32)
    y = tf.constant(rng.integers(0, 10, BATCH), tf.int32)

    def step(model: Any) -> Callable[[], Any]:
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, metrics=["accuracy"])
        compiled = tf.function(model.train_step, jit_compile=model.jit_compile)
        return lambda: [value.numpy() for value in compiled((x, y)).values()]

    return {
        "plain": step(architecture(name)),
        "private": step(make_private(architecture(name), 1.0, 1.0, BATCH, BatchSampling.FIXED_SIZE)),
        "clipped": step(make_private(architecture(name), 1.0, 0.0, BATCH, BatchSampling.FIXED_SIZE)),
    }


def measure(name: str, repeats: int) -> Figures:
    """Return milliseconds; the steps take turns, so that other load falls on all alike."""
    timed = steps(name)
    milliseconds: dict[str, list[float]] = {key: [] for key in timed}
    for repeat in range(WARM_UP + repeats):
        for key, run in timed.items():
            start = time.perf_counter()
            run()
            if repeat >= WARM_UP:
                milliseconds[key].append(1e3 * (time.perf_counter() - start))
    medians = {key: statistics.median(values) for key, values in milliseconds.items()}
    # Noise is drawn for several steps at once, which a median of steps could hide: the mean does not.
    means = {f"{key}, mean": statistics.fmean(values) for key, values in milliseconds.items()}
    return medians | means


def measure_peer(way: str, name: str, repeats: int) -> Figures:
    """Return the same of tensorflow-privacy."""
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    setting = json.dumps([way, name, list(SHAPES[name]), BATCH, repeats])
    command = [sys.executable, "-c", PEER, setting]
    printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found: Figures = json.loads(printed.splitlines()[-1])
    return found


def main() -> None:
    """Print the table and verdicts, and keep them if the tree is clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--peer-repeats", type=int, default=5)
    arguments = parser.parse_args()
    source = provenance(["tensorflow", "keras", "tensorflow-privacy", "numpy"])
    found: dict[str, Figures] = {}
    for name in TARGETS:
        found[f"{name}, secureagg"] = measure(name, arguments.repeats)
        found[f"{name}, tensorflow-privacy vectorised"] = measure_peer("vectorised", name, arguments.peer_repeats)
    found["MLP, tensorflow-privacy fast clipping"] = measure_peer("fast", "MLP", arguments.repeats)
    print("\n".join(f"{name}: {value}" for name, value in source.items()), "\n")
    rows = [
        [way, f"{of_way['plain']:.2f}", f"{of_way['private']:.2f}", f"{of_way['private'] / of_way['plain']:.2f}"]
        for way, of_way in found.items()
    ]
    print(table(["model, way", "plain ms", "private ms", "ratio"], rows), "\n")
    results = []
    for name, target in TARGETS.items():
        of_name = found[f"{name}, secureagg"]
        ratio = of_name["private"] / of_name["plain"]
        clipping = of_name["clipped"] / of_name["plain"]
        mean = of_name["private, mean"] / of_name["plain, mean"]
        verdict = "met" if ratio <= target else "MISSED"
        results.append(
            f"{name}: {ratio:.2f} (of means {mean:.2f}; clipping alone {clipping:.2f}); target ≤ {target}: {verdict}"
        )
    print("\n".join(results))
    figures: dict[str, object] = {
        "question": (__doc__ or "").splitlines()[0],
        "provenance": source,
        "request": {"batch": BATCH, "l2_clip": 1.0, "noise_multiplier": 1.0},
        "repeats": arguments.repeats,
        "figures": found,
        "verdicts": results,
    }
    print(write("dpsgd", figures))


if __name__ == "__main__":
    main()
