"""Saved runs: resuming to the same bits, through crashes at any point; whose state is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fl_core as fl
from fl_core.state import Checkpoint, load_checkpoint, save_checkpoint

KILLED_RUN = Path(__file__).with_name("killed_run.py")


def bits(weights: fl.Weights) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(layer.dtype.str, layer.shape, layer.tobytes()) for layer in weights]


def play(federation: fl.Federation, state_dir: Path | None, **options) -> list[fl.RoundResult]:
    return list(fl.run_rounds(federation, fl.PlainMean(), state_dir=state_dir, **options))


def test_killed_run_resumes_to_the_bits_of_an_unbroken_one(tmp_path: Path) -> None:
    """SIGKILL arrives in the middle of round 4; the resumed rounds run in another process than the first three."""
    environment = os.environ | {"PYTHONPATH": str(Path(fl.__file__).parents[1])}
    command = [sys.executable, str(KILLED_RUN), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, text=True, bufsize=1, **pipes) as process:
        for line in process.stdout:
            if line.startswith("4 contribute"):
                process.kill()
                break
            process.stdin.write("go on\n")
        assert process.wait() == -signal.SIGKILL
    spec = importlib.util.spec_from_file_location("killed_run", KILLED_RUN)
    killed_run = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(killed_run)
    assert load_checkpoint(tmp_path).round_number == 3
    resumed = killed_run.rounds(tmp_path)
    unbroken = killed_run.rounds(None)
    assert [result.round_number for result in resumed] == [4, 5, 6]
    assert bits(resumed[-1].weights) == bits(unbroken[-1].weights)
    history = fl.read_history(tmp_path)
    timeless = [dataclasses.replace(r, seconds={}, aggregation_seconds={}) for r in history]
    assert timeless == [dataclasses.replace(r, seconds={}, aggregation_seconds={}) for r in unbroken]


@pytest.mark.parametrize("server", [fl.FedAvg(), fl.FedAvgM(), fl.FedAdam()])
def test_resume_in_steps_equals_one_go(linear_federation, tmp_path: Path, server: fl.ServerOptimizer) -> None:
    unbroken = play(linear_federation(server=server), None)
    for rounds in (0, 1, 3, 4):
        play(linear_federation(server=server, rounds=rounds), tmp_path, resume=True)
    history = fl.read_history(tmp_path)
    assert bits(history[-1].weights) == bits(unbroken[-1].weights)
    assert [result.metrics for result in history] == [result.metrics for result in unbroken]
    assert [result.weights for result in history[:-1]] == [[], [], []]
    assert play(linear_federation(server=server), tmp_path, resume=True) == []


class Crash(BaseException):
    """Stops a program where it stands, as a power cut would."""


def crashing(call: Callable[..., Any], calls: Iterator[int], crash_at: int) -> Callable[..., Any]:
    def called(*arguments: Any, **options: Any) -> Any:
        if next(calls) == crash_at:
            raise Crash
        return call(*arguments, **options)

    return called


def test_crash_at_any_write_leaves_a_whole_round(linear_federation, tmp_path: Path, monkeypatch) -> None:
    federation = linear_federation(rounds=3, server=fl.FedAvgM())
    whole = {result.round_number: bits(result.weights) for result in play(federation, None)}
    seen = set()
    for crash_at in itertools.count(1):
        directory = tmp_path / str(crash_at)
        calls = itertools.count(1)
        with monkeypatch.context() as patch:
            for owner, name in ((os, "replace"), (os, "fsync"), (Path, "unlink"), (Path, "open")):
                patch.setattr(owner, name, crashing(getattr(owner, name), calls, crash_at))
            try:
                play(federation, directory)
            except Crash:
                pass
            else:
                break
        saved = load_checkpoint(directory)
        seen.add(saved and saved.round_number)
        assert saved is None or bits(saved.weights) == whole[saved.round_number]
        play(federation, directory, resume=True)
        assert bits(load_checkpoint(directory).weights) == whole[3]
        if saved is None or saved.round_number < 3:  # the next save clears up
            assert sorted(path.name for path in directory.iterdir()) == ["arrays-000003.safetensors", "state.json"]
    assert seen == {None, 1, 2, 3}
    assert crash_at > 3 * 8 + 2  # eight steps a save, and a deletion after all but the first


def test_checkpoint_round_trip(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=shape).astype(d) for shape, d in (((), "f4"), ((0, 2), "f8"), ((3, 4), "f2"))]
    weights.append(rng.normal(size=(4, 3)).T)  # not contiguous
    server = {"first": [rng.normal(size=2) for _ in range(11)], "second": [np.array(1.0)]}
    save_checkpoint(tmp_path / "new" / "place", Checkpoint(7, {"seed": "1"}, weights, server, ({"a": 1},)))
    loaded = load_checkpoint(tmp_path / "new" / "place")
    assert (loaded.round_number, loaded.configuration, loaded.history) == (7, {"seed": "1"}, ({"a": 1},))
    assert bits(loaded.weights) == bits(weights)
    assert {slot: bits(layers) for slot, layers in loaded.server.items()} == {k: bits(v) for k, v in server.items()}
    assert load_checkpoint(tmp_path) is None
    assert fl.read_history(tmp_path) == []


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(fl.StateError, match=r"below: the run cannot be saved: .*Not a directory"):
        save_checkpoint(tmp_path / "file" / "below", Checkpoint(1, {}, [np.zeros(2)], {}, ()))


def test_existing_run_is_not_overwritten(linear_federation, tmp_path: Path) -> None:
    play(linear_federation(rounds=2), tmp_path)
    with pytest.raises(fl.StateError, match="holds a run at round 2; resume it"):
        play(linear_federation(), tmp_path)


@pytest.mark.parametrize(
    ("changes", "options", "difference"),
    [
        ({"seed": 4}, {}, "seed: 3 in the state, 4 now"),
        ({"quorum": 2}, {}, "quorum: 1 in the state, 2 now"),
        ({"cohort_size": 4}, {}, "cohort_size: 5 in the state, 4 now"),
        ({"weighting": "uniform"}, {}, "weighting: examples in the state, uniform now"),
        ({"server": fl.FedAvgM()}, {}, "server: FedAvg(learning_rate=1.0) in the state, FedAvgM(learning_rate=1.0,"),
        ({"test": (np.zeros((1, 3)), np.zeros(1))}, {}, "data: "),
        ({}, {"faults": fl.seeded_faults(0, after_send=0.5)}, "faults: None in the state, _SeededFaults(seed=0,"),
    ],
)
def test_other_configuration_is_refused_naming_the_difference(
    linear_federation, tmp_path: Path, changes, options, difference
) -> None:
    play(linear_federation(rounds=1), tmp_path)
    with pytest.raises(fl.StateError) as raised:
        play(linear_federation(**changes), tmp_path, resume=True, **options)
    message = str(raised.value)
    assert f"another configuration; {difference}" in message
    assert message.count("in the state") == 1


def test_cohorts_drawn_otherwise_are_another_configuration(linear_federation, tmp_path: Path) -> None:
    federation = linear_federation(rounds=1, weighting="uniform")
    play(federation, tmp_path)
    with pytest.raises(fl.StateError, match="sampling: fixed-size in the state, poisson now"):
        play(dataclasses.replace(federation, sampling=fl.ClientSampling.POISSON), tmp_path, resume=True)


def test_other_trainer_and_aggregation_are_refused_together(linear_federation, tmp_path: Path) -> None:
    federation = linear_federation(rounds=1)
    play(federation, tmp_path)
    other = dataclasses.replace(federation, trainer=dataclasses.replace(federation.trainer, steps=21))
    beside = fl.Beside(fl.PlainMean(), fl.PlainMean())
    with pytest.raises(fl.StateError) as raised:
        list(fl.run_rounds(other, beside, state_dir=tmp_path, resume=True))
    assert "aggregation: fl_core.aggregation.PlainMean in the state, fl_core.aggregation.Beside now" in str(
        raised.value
    )
    assert "trainer.steps: 20 in the state, 21 now" in str(raised.value)


def test_more_rounds_are_no_other_configuration(linear_federation, tmp_path: Path) -> None:
    play(linear_federation(rounds=1), tmp_path)
    assert [result.round_number for result in play(linear_federation(rounds=3), tmp_path, resume=True)] == [2, 3]


def change_arrays(directory: Path) -> None:
    (path,) = directory.glob("arrays-*")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def change_state(directory: Path, **changes) -> None:
    path = directory / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (change_arrays, r"arrays-000004.safetensors: damaged"),
        (lambda d: next(d.glob("arrays-*")).unlink(), r"arrays-000004.safetensors: missing"),
        (lambda d: (d / "state.json").write_text("{"), r"state.json: cannot be read as a saved run"),
        (lambda d: (d / "state.json").write_text("[]"), r"state.json: cannot be read as a saved run"),
        (lambda d: (d / "state.json").write_text("{}"), r"state.json: cannot be read as a saved run"),
        (lambda d: change_state(d, format=2), r"state.json: format 2, this is format 1"),
        (lambda d: change_state(d, configuration={"seed": "4"}), r"state.json: damaged"),
    ],
)
def test_damage_is_refused_naming_the_file(linear_federation, tmp_path: Path, damage, reason) -> None:
    play(linear_federation(), tmp_path)
    damage(tmp_path)
    with pytest.raises(fl.StateError, match=reason):
        play(linear_federation(), tmp_path, resume=True)
