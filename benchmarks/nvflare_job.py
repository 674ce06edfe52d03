"""The job that `nvflare_he` measures: components for NVFlare's simulator, whose processes import them from here."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.learnable_persistor import LearnablePersistor
from nvflare.app_common.abstract.model import ModelLearnable, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType
from nvflare.fuel.f3.drivers.socket_conn import SocketConnection

__all__ = ["FixedUpdate", "Meter", "ZeroModel", "model_of", "update_of"]

SEED = 20_260_201
SIGMA = 0.05

Model = dict[str, NDArray[np.float32]]


def model_of(values: int, layers: int) -> Model:
    """Return the model of zeros that a job starts from."""
    return {f"layer{i:03}": part for i, part in enumerate(np.array_split(np.zeros(values, np.float32), layers))}


def update_of(site: str, values: int, layers: int) -> Model:
    """Return what a site adds in every round: normal, σ = 0.05."""
    rng = np.random.default_rng([SEED, int(site.rpartition("-")[2])])
    flat = rng.normal(0, SIGMA, values).astype(np.float32)
    return {f"layer{i:03}": part for i, part in enumerate(np.array_split(flat, layers))}


class ZeroModel(LearnablePersistor):  # type: ignore[misc]
    """Starts from zero and saves nothing: under HE the server could not read it."""

    def __init__(self, values: int, layers: int) -> None:
        super().__init__()
        self.values = values
        self.layers = layers

    def load(self, fl_ctx: FLContext) -> ModelLearnable:
        """Return the model to start from."""
        return make_model_learnable(model_of(self.values, self.layers), {})

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        """Return the same."""
        return self.load(fl_ctx)

    def save(self, learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        """Do nothing."""


class FixedUpdate(Executor):  # type: ignore[misc]
    """Trains nothing: reads the model, which HE hands over as lists, and returns its site's update."""

    def __init__(self, values: int, layers: int, last_round: int) -> None:
        super().__init__()
        self.values = values
        self.layers = layers
        self.last_round = last_round
        self._update: Model | None = None

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Return the update, and leave what the model is before the last round in received.npy."""
        received = from_shareable(shareable).data
        model = [np.asarray(received[name], dtype=np.float32).ravel() for name in sorted(received)]
        if shareable.get_header(AppConstants.CURRENT_ROUND) == self.last_round:
            np.save(_folder(fl_ctx) / "received.npy", np.concatenate(model))
        if self._update is None:
            self._update = update_of(fl_ctx.get_identity_name(), self.values, self.layers)
        update = {name: tensor.copy() for name, tensor in self._update.items()}
        return DXO(DataKind.WEIGHT_DIFF, data=update, meta={MetaKey.NUM_STEPS_CURRENT_ROUND: 1}).to_shareable()


class Meter(FLComponent):  # type: ignore[misc]
    """On the server: bytes on its sockets and seconds, a round, in meter.json.

    `busy` leaves out what the simulator waits between polls: the longest time from a site's fetching the task to its
    result's being accepted, and from the last of these to the end of the round.
    """

    def __init__(self) -> None:
        super().__init__()
        self._bytes = Counter[str]()
        self._rounds: list[dict[str, float]] = []
        self._start: dict[str, float] = {}
        self._fetched: dict[str, float] = {}
        self._spans: list[float] = []
        self._accepted = 0.0

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Note bytes and times."""
        now = time.perf_counter()
        if event_type == EventType.START_RUN:
            _count_frames(self._bytes)
        elif event_type == AppEventType.ROUND_STARTED:
            self._start = {"time": now, "sent": self._bytes["sent"], "received": self._bytes["received"]}
            self._fetched, self._spans = {}, []
        elif event_type == EventType.BEFORE_TASK_DATA_FILTER:
            self._fetched[_peer(fl_ctx)] = now
        elif event_type == AppEventType.AFTER_CONTRIBUTION_ACCEPT:
            self._accepted = now
            self._spans.append(now - self._fetched[_peer(fl_ctx)])
        elif event_type == AppEventType.ROUND_DONE:
            figures = {way: self._bytes[way] - self._start[way] for way in ("sent", "received")}
            wall, busy = now - self._start["time"], max(self._spans) + now - self._accepted
            self._rounds.append({**figures, "wall": wall, "busy": busy})
        elif event_type == EventType.END_RUN:
            (_folder(fl_ctx) / "meter.json").write_text(json.dumps(self._rounds), encoding="utf-8")


def _count_frames(counted: Counter[str]) -> None:
    """Count what this process sends and receives on NVFlare's own connections."""
    send, process = SocketConnection.send_frame, SocketConnection.process_frame

    def sending(connection: SocketConnection, frame: bytes) -> None:
        counted["sent"] += len(frame)
        send(connection, frame)

    def receiving(connection: SocketConnection, frame: bytes) -> None:
        counted["received"] += len(frame)
        process(connection, frame)

    SocketConnection.send_frame, SocketConnection.process_frame = sending, receiving


def _peer(fl_ctx: FLContext) -> str:
    return str(fl_ctx.get_peer_context().get_identity_name())


def _folder(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_root_dir())
