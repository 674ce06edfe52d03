"""A run on disk: what is needed to go on after a crash, to the same final weights bit for bit.

Layout of the directory:

    state.json                  round, configuration with its seed and digest, history, name and SHA-256 of the arrays
    arrays-000012.safetensors   weights.<layer> and server.<slot>.<layer> after round 12

The renaming of state.json is the one commit point. It names its arrays file and that file's SHA-256, and is
written after it; the files of other rounds are deleted after that. So a crash at any point leaves the state of
the last committed round, whole.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fl_core.aggregation import Weights
from fl_core.errors import StateError
from fl_core.extras import extra
from fl_core.server import ServerState

__all__ = ["Checkpoint", "check_configuration", "load_checkpoint", "save_checkpoint"]

_FORMAT = 1
_STATE = "state.json"


@dataclass(frozen=True)
class Checkpoint:
    """A run after `round_number`: its settings by name, and one JSON object in `history` for each round so far."""

    round_number: int
    configuration: dict[str, str]
    weights: Weights
    server: ServerState
    history: tuple[dict[str, Any], ...] = ()


def save_checkpoint(directory: Path, checkpoint: Checkpoint) -> None:
    """Replaces the checkpoint in `directory`, which is made if needed, atomically and durably.

    Raises: StateError if it cannot be written; there is the earlier checkpoint then, or this one, whole.
    """
    try:
        _save(directory, checkpoint)
    except OSError as error:
        raise StateError(f"{directory}: the run cannot be saved: {error}") from error


def _save(directory: Path, checkpoint: Checkpoint) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    arrays = f"arrays-{checkpoint.round_number:06d}.safetensors"
    content = _arrays(checkpoint)
    _replace(directory / arrays, content)
    state = {
        "format": _FORMAT,
        "round": checkpoint.round_number,
        "configuration": checkpoint.configuration,
        "configuration_sha256": _digest(checkpoint.configuration),
        "arrays": arrays,
        "arrays_sha256": hashlib.sha256(content).hexdigest(),
        "history": checkpoint.history,
    }
    _replace(directory / _STATE, json.dumps(state, indent=1).encode())
    for path in directory.glob("arrays-*.safetensors*"):
        if path.name != arrays:
            path.unlink()


def load_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint in `directory`, None if there is none yet. Raises: StateError if it is damaged."""
    path = directory / _STATE
    try:
        state = json.loads(path.read_bytes())
        if state["format"] != _FORMAT:
            raise StateError(f"{path}: format {state['format']}, this is format {_FORMAT}")
        if _digest(state["configuration"]) != state["configuration_sha256"]:
            raise StateError(f"{path}: damaged, its configuration does not have the digest it names")
        path = directory / state["arrays"]
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != state["arrays_sha256"]:
            raise StateError(f"{path}: damaged, its SHA-256 is not the one {_STATE} names")
        weights, server = _layers(content)
        return Checkpoint(state["round"], state["configuration"], weights, server, tuple(state["history"]))
    except FileNotFoundError as error:
        if path.name == _STATE:
            return None
        raise StateError(f"{path}: missing, though {_STATE} names it") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StateError(f"{path}: cannot be read as a saved run: {error}") from error


def check_configuration(directory: Path, saved: dict[str, str], now: dict[str, str]) -> None:
    """The run in `directory` has the settings of now. Raises: StateError naming every one that differs."""
    differences = [
        f"{name}: {saved.get(name, 'absent')} in the state, {now.get(name, 'absent')} now"
        for name in sorted(saved.keys() | now.keys())
        if saved.get(name) != now.get(name)
    ]
    if differences:
        raise StateError(
            f"{directory} holds a run of another configuration; {'; '.join(differences)}. "
            "Use the same settings, or another directory."
        )


def _digest(configuration: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(configuration, sort_keys=True).encode()).hexdigest()


def _arrays(checkpoint: Checkpoint) -> bytes:
    groups = {"weights": checkpoint.weights} | {f"server.{slot}": layers for slot, layers in checkpoint.server.items()}
    named = {
        # C order, which safetensors takes for granted; ascontiguousarray would turn scalars into vectors.
        f"{group}.{index:05d}": np.asarray(layer, order="C")
        for group, layers in groups.items()
        for index, layer in enumerate(layers)
    }
    content: bytes = extra("safetensors.numpy").save(named)
    return content


def _layers(content: bytes) -> tuple[Weights, ServerState]:
    weights: Weights = []
    server: ServerState = {}
    for name, layer in sorted(extra("safetensors.numpy").load(content).items()):
        group, _, _ = name.rpartition(".")
        target = weights if group == "weights" else server.setdefault(group.removeprefix("server."), [])
        target.append(layer)
    return weights, server


def _replace(path: Path, content: bytes) -> None:
    """After this the file has the content, before this its old content, and nothing else after a crash between."""
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
