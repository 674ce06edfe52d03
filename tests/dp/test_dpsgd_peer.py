"""Against tensorflow-privacy 0.9.0's DPKerasSGDOptimizer, in a process of its own: it needs the older Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from secureagg.dp.dpsgd import clipped_sums

CLIPS = [0.5, 100.0]
PEER = """
import sys, json
sys.skip_tf_privacy_import = True
import numpy as np, tensorflow as tf
from tensorflow_privacy.privacy.optimizers.dp_optimizer_keras import DPKerasSGDOptimizer
folder = sys.argv[1]
stored = np.load(folder + "/in.npz")
layers = tf.keras.layers
model = tf.keras.Sequential([
    layers.Conv2D(4, 3, strides=2, padding="same", activation="relu", input_shape=(8, 8, 2)),
    layers.LayerNormalization(), layers.Flatten(), layers.Dense(6, activation="tanh"), layers.Dense(3)])
before = [stored[f"w{i}"] for i in range(len(model.get_weights()))]
count = len(stored["y"])
loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")
for clip in json.loads(sys.argv[2]):
    model.set_weights(before)
    optimizer = DPKerasSGDOptimizer(l2_norm_clip=clip, noise_multiplier=0.0, num_microbatches=count, learning_rate=1.0)
    with tf.GradientTape() as tape:
        losses = loss(stored["y"], model(stored["x"], training=True))
    optimizer.minimize(losses, model.trainable_variables, tape=tape)
    np.savez(f"{folder}/{clip}.npz", *[(a - b) * count for a, b in zip(before, model.get_weights())])
"""


@pytest.mark.skipif(find_spec("tensorflow_privacy") is None, reason="tensorflow-privacy needs Python 3.11")
def test_sums_equal_those_of_tensorflow_privacy(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.LayerNormalization(),
            layers.Flatten(),
            layers.Dense(6, activation="tanh"),
            layers.Dense(3),
        ]
    )
    x, y = rng.normal(size=(12, 8, 8, 2)).astype(np.float32), rng.integers(0, 3, 12)
    weights: dict[str, Any] = {f"w{index}": value for index, value in enumerate(model.get_weights())}
    np.savez(tmp_path / "in.npz", x=x, y=y, **weights)
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    command = [sys.executable, "-c", PEER, str(tmp_path), json.dumps(CLIPS)]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for l2_clip in CLIPS:
        theirs = np.load(tmp_path / f"{l2_clip}.npz")
        ours = clipped_sums(model, loss, tf.constant(x), tf.constant(y), l2_clip=l2_clip).sums
        scale = max(float(np.abs(one).max()) for one in ours)
        for index, one in enumerate(ours):
            # Theirs is read off a step of the float32 weights, which rounds it to about 1e-7 of a weight, times 12.
            np.testing.assert_allclose(theirs[f"arr_{index}"], one, atol=1e-5 * scale)
