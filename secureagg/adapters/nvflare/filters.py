"""The client's filter under NVFlare's own controllers: training results leave the site encrypted, or not at all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from nvflare.apis.dxo import DXO, DataKind, MetaKey, from_shareable
from nvflare.apis.dxo_filter import DXOFilter
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_common.app_constant import AppConstants

from secureagg.adapters.nvflare.home import Home
from secureagg.adapters.nvflare.site import Site, SiteRound
from secureagg.adapters.nvflare.task import told_by
from secureagg.adapters.nvflare.terms import Model, Terms, require_model
from secureagg.adapters.nvflare.wire import CONTRIBUTION, serve
from secureagg.errors import ParameterError, SecureAggError

__all__ = ["EncryptUpdates"]

Arrays = dict[str, NDArray[np.floating[Any]]]

_KINDS = (DataKind.WEIGHTS, DataKind.WEIGHT_DIFF)
_BEGUN = "secureagg.begun"


@dataclass(frozen=True)
class _Begun:
    """A round that began with a task, and what its training started from."""

    at_site: SiteRound
    round_number: int
    model: Arrays = field(repr=False)


class EncryptUpdates(DXOFilter):  # type: ignore[misc]
    """A task-result filter: replaces WEIGHTS or WEIGHT_DIFF by this site's contribution to the round's private sum.

    Of WEIGHTS the difference to the model received is encrypted, so the server always gets a WEIGHT_DIFF. With
    `terms.max_weight` above 1 the weight is the result's NUM_STEPS_CURRENT_ROUND, which does not leave the site then.
    The component also answers the server for this site: enrolment and, on the committee, share checks and answers.

    Guarantees: of a result with this filter nothing leaves the site but its headers, the rest of its meta (such as
    metrics) and the contribution. What is no single DXO of weights (a COLLECTION, a model for another site) leaves as
    an error, and the reason stands in the site's log. A result that reports a failure leaves as its return code alone.
    """

    def __init__(self, terms: Terms, train_task: str = AppConstants.TASK_TRAIN) -> None:
        super().__init__(supported_data_kinds=list(_KINDS), data_kinds_to_filter=list(_KINDS))
        self.terms = terms
        self.train_task = train_task
        self._site: Site | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Take part in the job, keep each round's model before training changes it, and clean up."""
        if event_type == EventType.START_RUN:
            workspace = fl_ctx.get_engine().get_workspace().get_root_dir()
            try:
                self._site = Site(Home(workspace, fl_ctx.get_identity_name()), self.terms, fl_ctx.get_job_id())
            except SecureAggError as error:
                self.system_panic(f"secureagg: {error}", fl_ctx)
                return
            serve(fl_ctx, lambda: self._site)
        elif event_type == EventType.BEFORE_TASK_EXECUTION:
            _keep(fl_ctx, None)
            if fl_ctx.get_prop(FLContextKey.TASK_NAME) == self.train_task:
                self._begin(fl_ctx)
        elif event_type == EventType.END_RUN and self._site is not None:
            self._site.end()

    def _begin(self, fl_ctx: FLContext) -> None:
        """Begin the round of a training task. If that fails, so will its result's filter.

        What began is kept with the task's own context: NVFlare may run two tasks of a site at once.
        """
        task = fl_ctx.get_prop(FLContextKey.TASK_DATA)
        try:
            model = require_model(from_shareable(task).data)
            round_number = task.get_header(AppConstants.CURRENT_ROUND)
            kept = {name: tensor.copy() for name, tensor in model.items()}
            begun = self._present().begin(round_number, model, told_by(task))
            _keep(fl_ctx, _Begun(begun, round_number, kept))
        except (SecureAggError, ValueError) as error:
            self.log_error(fl_ctx, f"secureagg: this round cannot begin: {error}")

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Return the result with its update encrypted, or an error without any of it; the task's round is over here."""
        try:
            return self._processed(shareable, fl_ctx)
        finally:
            _keep(fl_ctx, None)

    def _processed(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        code = shareable.get_return_code()
        if code != ReturnCode.OK:
            return make_reply(code)
        try:
            dxo = from_shareable(shareable)
            if dxo.data_kind not in _KINDS:
                raise ParameterError(f"a result of kind {dxo.data_kind} would leave this site as it is")
            encrypted = self.process_dxo(dxo, shareable, fl_ctx)
        except (SecureAggError, ValueError) as error:
            self.log_error(fl_ctx, f"secureagg: nothing of this result is sent: {error}")
            return make_reply(ReturnCode.TASK_RESULT_FILTER_ERROR)
        # A new one: whatever else the executor put into its own stays here.
        result = encrypted.to_shareable()
        result[ReservedHeaderKey.HEADERS] |= shareable.get(ReservedHeaderKey.HEADERS, {})
        return result

    def process_dxo(self, dxo: DXO, shareable: Shareable, fl_ctx: FLContext) -> DXO:
        """Return the DXO that is sent in the place of this one."""
        begun = fl_ctx.get_prop(_BEGUN)
        if not isinstance(begun, _Begun):
            raise ParameterError("this round has not begun at this site; see the log above")
        update = require_model(dxo.data)
        if dxo.data_kind == DataKind.WEIGHTS:
            update = _difference(update, begun.model)
        weight = 1
        if self.terms.max_weight > 1:
            weight = dxo.get_meta_prop(MetaKey.NUM_STEPS_CURRENT_ROUND)
            if not isinstance(weight, int | float | np.integer):
                raise ParameterError("the result has no NUM_STEPS_CURRENT_ROUND, by which max_weight > 1 weighs it")
        rounding = self.rounding(fl_ctx.get_identity_name(), begun.round_number)
        contribution = self._present().contribute(begun.at_site, update, weight, rounding)
        meta = {key: value for key, value in dxo.meta.items() if key != MetaKey.NUM_STEPS_CURRENT_ROUND}
        sent = DXO(DataKind.WEIGHT_DIFF, data={CONTRIBUTION: contribution}, meta=meta)
        sent.add_filter_history(type(self).__name__)
        return sent

    def rounding(self, site: str, round_number: int) -> np.random.Generator | None:
        """Return what seeds the rounding alone; None, and the operating system does. For tests to override."""
        return None

    def _present(self) -> Site:
        if self._site is None:
            raise ParameterError("the job has not started at this site")
        return self._site


def _keep(fl_ctx: FLContext, begun: _Begun | None) -> None:
    fl_ctx.set_prop(_BEGUN, begun, private=True, sticky=False)


def _difference(weights: Model, model: Model) -> Arrays:
    odd = sorted(weights.keys() ^ model.keys())
    if odd:
        raise ParameterError(f"model and result differ in the tensors {odd}")
    for name, tensor in weights.items():
        if tensor.shape != model[name].shape:
            raise ParameterError(f"tensor {name!r} has the shape {tensor.shape}, in the model {model[name].shape}")
    return {name: np.asarray(tensor - model[name]) for name, tensor in weights.items()}
