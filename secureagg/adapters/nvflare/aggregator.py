"""The server's aggregator under NVFlare's own controllers, ScatterAndGather and FedAvg alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping

from nvflare.apis.dxo import DataKind, from_shareable
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.aggregators.model_aggregator import ModelAggregator
from nvflare.app_common.app_constant import AppConstants
from nvflare.app_common.app_event_type import AppEventType

from secureagg.adapters.nvflare.convener import Convener
from secureagg.adapters.nvflare.round import Outcome, Replies, Round
from secureagg.adapters.nvflare.task import told_by
from secureagg.adapters.nvflare.terms import Terms
from secureagg.adapters.nvflare.wire import CONTRIBUTION, ask
from secureagg.checks import printable
from secureagg.errors import ParameterError, SecureAggError

__all__ = ["PrivateAggregator"]

_LOOK_SECONDS = 0.5  # between looks at whether the job was aborted


class PrivateAggregator(ModelAggregator):  # type: ignore[misc]
    """Admits contributions as they come and opens their mean at the end of each round, a WEIGHT_DIFF.

    All sites of a round are told the same: what the first task that goes out says, with its headers and meta.

    Before the first round, and whenever a batch of prekeys is used up, sites enrol and pin the roster; a round takes
    one exchange with the committee, two with proofs, and one more if the committee adds noise. timeout: seconds that
    an exchange may take; patience: seconds that sites are waited for at the start; who has not asked for a task by
    then is left out. `outcome` is the last round's.

    Whoever is refused is named in the log with the reason, and left out. A round that cannot be opened, and a job that
    cannot be convened, end the job with the reason.
    """

    def __init__(
        self,
        terms: Terms,
        train_task: str = AppConstants.TASK_TRAIN,
        batch: int = 16,
        timeout: float = 60.0,
        patience: float = 60.0,
    ) -> None:
        super().__init__()
        self.terms = terms
        self.train_task = train_task
        self.batch = batch
        self.timeout = timeout
        self.patience = patience
        self.outcome: Outcome | None = None
        self._convener: Convener | None = None
        self._round: Round | None = None
        self._round_number: int | None = None
        self._told = b""
        self._lock = threading.Lock()
        self._here: set[str] = set()
        self._arrival = threading.Condition()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Convene the sites before a round's tasks go out, and begin the round with the first that does."""
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.BEFORE_PROCESS_TASK_REQUEST:
            with self._arrival:  # a site that asks for tasks answers messages, too
                self._here.add(fl_ctx.get_peer_context().get_identity_name())
                self._arrival.notify()
            return
        try:
            if event_type == AppEventType.ROUND_STARTED:
                self._convene(fl_ctx.get_prop(AppConstants.CURRENT_ROUND), fl_ctx)
            elif event_type == EventType.AFTER_TASK_DATA_FILTER and self._is_training(fl_ctx):
                self._begin(fl_ctx.get_prop(FLContextKey.TASK_DATA), fl_ctx)
        except (SecureAggError, ValueError) as error:
            self.system_panic(f"secureagg: {error}", fl_ctx)

    def _is_training(self, fl_ctx: FLContext) -> bool:
        return bool(fl_ctx.get_prop(FLContextKey.TASK_NAME) == self.train_task)

    def _convene(self, round_number: int, fl_ctx: FLContext) -> None:
        with self._lock:
            self._round = self._round_number = None
            if self._convener is None:
                sites = {client.name for client in fl_ctx.get_engine().get_clients()}
                self._wait_for(sites, fl_ctx)
                self._convener = Convener(self.terms, sorted(sites), self._ask, batch=self.batch)
            self._convener.convene(round_number)
            for site, reason in sorted(self._convener.absent.items()):
                self.log_warning(fl_ctx, f"secureagg: {printable(site)} takes no part: {reason}")

    def _wait_for(self, sites: set[str], fl_ctx: FLContext) -> None:
        deadline, abort = time.monotonic() + self.patience, fl_ctx.get_run_abort_signal()
        with self._arrival:
            while not sites <= self._here and time.monotonic() < deadline and not (abort and abort.triggered):
                self._arrival.wait(_LOOK_SECONDS)

    def _begin(self, task: Shareable, fl_ctx: FLContext) -> None:
        round_number, told = task.get_header(AppConstants.CURRENT_ROUND), told_by(task)
        with self._lock:
            if round_number == self._round_number:
                if told != self._told:
                    site = fl_ctx.get_peer_context().get_identity_name()
                    self.log_warning(
                        fl_ctx,
                        f"secureagg: the task of {printable(site)} differs in headers or meta from those of the "
                        "round's other sites, so that its contribution will be refused",
                    )
                return
            if self._convener is None:
                raise ParameterError("a training task goes out before ROUND_STARTED; this controller is not supported")
            self._round = self._convener.begin(round_number, from_shareable(task).data, told)
            self._round_number, self._told = round_number, told

    def accept(self, shareable: Shareable, fl_ctx: FLContext) -> bool:
        """Admit one result, for ScatterAndGather; return whether it is in the sum."""
        site = str(shareable.get_peer_prop(ReservedKey.IDENTITY_NAME, "?"))
        try:
            dxo = from_shareable(shareable)
        except ValueError:  # no DXO, or one whose data is no dict: raised here it would end the job
            return self._admit(site, None, fl_ctx)
        return self._admit(site, dxo.data if dxo.data_kind == DataKind.WEIGHT_DIFF else None, fl_ctx)

    def accept_model(self, model: FLModel) -> None:
        """Admit one result, for FedAvg."""
        self._admit(str(model.meta.get("client_name", "?")), model.params, self.fl_ctx)

    def _admit(self, site: str, params: object, fl_ctx: FLContext) -> bool:
        if self._round is None:
            self.log_warning(fl_ctx, f"secureagg: a result of {printable(site)} came outside a round")
            return False
        admitted = self._round.admit(site, params.get(CONTRIBUTION) if isinstance(params, Mapping) else None)
        if not admitted:
            self.log_warning(fl_ctx, f"secureagg: {printable(site)} is refused: {self._round.refused[site]}")
        return admitted

    def aggregate_model(self) -> FLModel:
        """Open the round; the mean is a difference to the model that went out."""
        if self._round is None:
            raise ParameterError("no round has begun")
        outcome = self._round.finish()
        self.outcome = outcome
        self.info(f"secureagg: round {self._round_number}: the sum of {len(outcome.sites)} sites: {outcome.sites}")
        for what, named in (("refused", outcome.refused), ("at fault", outcome.faults)):
            for site, reason in sorted(named.items()):
                self.warning(f"secureagg: round {self._round_number}: {printable(site)} is {what}: {reason}")
        return FLModel(params_type=ParamsType.DIFF, params=outcome.mean, current_round=self._round_number)

    def reset_stats(self) -> None:
        """Keep everything: a round begins with its first task, not with this."""

    def _ask(self, verb: str, messages: Mapping[str, bytes]) -> Replies:
        here = {site: message for site, message in messages.items() if site in self._here}
        replies = ask(self.fl_ctx.get_engine(), verb, here, self.timeout)
        missing = dict.fromkeys(messages.keys() - here.keys(), "did not start the job in time")
        return Replies(replies.given, {**replies.refusals, **missing})
