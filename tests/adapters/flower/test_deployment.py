"""With a SuperLink and three SuperNodes in processes of their own, one of which is killed while it trains."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

from flwr.serverapp.strategy import FedAvg

from tests.adapters.flower.replay import replayed
from tests.adapters.flower.runtime import APP, kill, started
from tests.federation import same

DOOMED = 2  # the committee are nodes 0 and 1


def test_a_node_is_killed_while_it_trains_and_the_others_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with started(tmp_path / "flower") as runtime:
        nodes = [runtime.supernode(partition) for partition in range(3)]
        config = {"nodes": 3, "committee": 2, "doomed": DOOMED, "timeout": 20.0}
        run = runtime.submit(APP, out=str(out), trainings="private FedAvg", **config)
        runtime.wait_for((out / "training").exists, "round 2 on the doomed node")
        kill(nodes[DOOMED])
        runtime.wait_for(lambda: (out / "done").exists() or run.poll() is not None, "the end of the run")
        assert (out / "done").exists(), runtime.logs()

    figures = json.loads((out / "private FedAvg.json").read_text())
    assert figures["phases"] == ["setup", *["contribute", "reveal"] * 3]
    assert figures["failures"]["1"] == {}
    assert list(figures["failures"]["2"]) == [str(DOOMED)]
    cohorts = [[0, 1, 2], [0, 1], [0, 1]]
    models = pickle.loads((out / "private FedAvg.models").read_bytes())
    expected = replayed(FedAvg(), 2, False, cohorts)
    assert len(models) == 4
    for found, right in zip(models, expected, strict=True):
        assert same([found[key] for key in right], list(right.values()))
