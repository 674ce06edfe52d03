"""Components of test jobs: a trainer that returns fixed updates, a model, and a record of what the server got.

They run in the simulator's processes; what they see is written to files in the server's workspace.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.executor import Executor
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.learnable_persistor import LearnablePersistor
from nvflare.app_common.abstract.model import ModelLearnable, ModelLearnableKey, make_model_learnable
from nvflare.app_common.app_constant import AppConstants
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.endpoint import Endpoint
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import CellChannel, new_cell_message

from secureagg.adapters.nvflare import EncryptUpdates, Outcome, PrivateAggregator
from secureagg.adapters.nvflare.wire import TOPIC
from tests.adapters import common
from tests.adapters.nvflare.names import client_of, named

__all__ = [
    "Capture",
    "FixedModel",
    "FixedTrainer",
    "Forger",
    "RecordingAggregator",
    "SeededFilter",
    "record",
]


def record(folder: Path, round_number: int, outcome: Outcome) -> None:
    """Write an outcome where the test finds it."""
    np.savez(folder / f"mean-{round_number}.npz", **outcome.mean)
    said = {
        "weight": outcome.total_weight,
        "sites": outcome.sites,
        "refused": dict(outcome.refused),
        "faults": dict(outcome.faults),
    }
    (folder / f"outcome-{round_number}.json").write_text(json.dumps(said), encoding="utf-8")


class FixedModel(LearnablePersistor):
    """The model of `common`; what is saved last stands in model.npz."""

    def load_model(self, fl_ctx: FLContext) -> ModelLearnable:
        return make_model_learnable(named(common.MODEL), {})

    def load(self, fl_ctx: FLContext) -> ModelLearnable:
        return self.load_model(fl_ctx)

    def save(self, learnable: ModelLearnable, fl_ctx: FLContext) -> None:
        np.savez(_workspace(fl_ctx) / "model.npz", **learnable[ModelLearnableKey.WEIGHTS])


class FixedTrainer(Executor):
    """Returns the update of `common` for its site and round, weighted as there.

    full: as new weights, made in the place of the model received; otherwise as a difference. odd: a site that returns
    its update as what is no update.
    """

    def __init__(self, full: bool = False, odd: str = "") -> None:
        super().__init__()
        self.full = full
        self.odd = odd

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        site = fl_ctx.get_identity_name()
        client, round_number = client_of(site), shareable.get_header(AppConstants.CURRENT_ROUND)
        update = named(common.update_of(client, round_number))
        model = from_shareable(shareable).data
        if self.full:
            for name in model:
                model[name] = np.asarray(model[name] + update[name], model[name].dtype)
            update = model
        kind = DataKind.METRICS if site == self.odd else DataKind.WEIGHTS if self.full else DataKind.WEIGHT_DIFF
        meta = {MetaKey.NUM_STEPS_CURRENT_ROUND: common.WEIGHTS[client]}
        result = DXO(kind, data=update, meta=meta).to_shareable()
        result["copy"] = update  # an executor may put anything beside
        return result


class Forger(FixedTrainer):
    """Trains as the others; in round 1 it first asks another site, as itself and with the server's name on the message.

    What it was answered, by the name it gave, is written to forged.json in its workspace.
    """

    def __init__(self, victim: str) -> None:
        super().__init__()
        self.victim = victim

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        if shareable.get_header(AppConstants.CURRENT_ROUND) == 1:
            job = fl_ctx.get_job_id()
            server = FQCN.ROOT_SERVER
            origins = [FQCN.join([fl_ctx.get_identity_name(), job]), server, FQCN.join([server, job])]
            answers = {origin: self._ask_as(origin, fl_ctx) for origin in origins}
            (_workspace(fl_ctx) / "forged.json").write_text(json.dumps(answers), encoding="utf-8")
        return super().execute(task_name, shareable, fl_ctx, abort_signal)

    def _ask_as(self, origin: str, fl_ctx: FLContext) -> list[str]:
        """Return how a request under this name ends: a code and a reason."""
        core = fl_ctx.get_engine().get_cell().core_cell
        send = core.communicator.send

        def forge(endpoint: Endpoint, app_id: int, message: Message) -> None:
            """Send it with that name, the last that is done to it."""
            if message.get_header(MessageHeaderKey.TOPIC) == TOPIC:
                message.set_header(MessageHeaderKey.ORIGIN, origin)
            send(endpoint, app_id, message)

        request = new_cell_message({}, Shareable({"verb": "enrol", "message": b""}))
        target = FQCN.join([self.victim, fl_ctx.get_job_id()])
        core.communicator.send = forge
        try:
            reply = core.send_request(CellChannel.AUX_COMMUNICATION, TOPIC, target, request, timeout=2.0)
        finally:
            core.communicator.send = send
        return [reply.get_header(MessageHeaderKey.RETURN_CODE), reply.get_header(MessageHeaderKey.ERROR, "")]


class SeededFilter(EncryptUpdates):
    """Rounds as every adapter does in the test of equal sums."""

    def rounding(self, site: str, round_number: int) -> np.random.Generator | None:
        return common.rounding_of(client_of(site), round_number)


class Capture(Filter):
    """A task-result filter of the server, the first to see what came: keeps its bytes, as pickled, and passes it on."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        site = shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, "?")
        (_workspace(fl_ctx) / f"received-{site}").write_bytes(pickle.dumps(shareable))
        return shareable


class RecordingAggregator(PrivateAggregator):
    """Writes each outcome to a file."""

    def aggregate_model(self) -> Any:
        model = super().aggregate_model()
        assert self.outcome is not None and model.current_round is not None
        record(_workspace(self.fl_ctx), model.current_round, self.outcome)
        return model


def _workspace(fl_ctx: FLContext) -> Path:
    return Path(fl_ctx.get_engine().get_workspace().get_root_dir())
