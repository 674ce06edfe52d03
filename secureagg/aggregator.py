"""The aggregator: admits contributions into a running sum, asks the committee, and opens the sum. It holds no secret.

Who sees plaintext: nobody before `open`, and then only the sum over the clients of the request, with the plan's noise.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from secureagg.answers import agreeing, contributions_left_out, enough_to_blame, share_sums
from secureagg.dp.dp_events import PrivacyEvent
from secureagg.dp.ledger import Debit, Ledger
from secureagg.errors import BudgetExhausted, EncodingError, FaultyClientError, FaultyMemberError, ParameterError
from secureagg.events import Event, Observer
from secureagg.exchange import CHECK, REVEAL, Request
from secureagg.he.reconstruct import Decoder
from secureagg.he.sharing import key_sum
from secureagg.ids import ClientIds
from secureagg.mean import decode
from secureagg.payload import ContributionView
from secureagg.running_sum import RunningSum
from secureagg.session import Session
from secureagg.spool import Staged, open_spool
from secureagg.subtotal import Subtotal, is_the_verified, repeated, subtotal
from secureagg.tally import tally
from secureagg.verification import (
    Verdict,
    judged,
    read_contribution,
    verify_contribution,
    verify_header,
    verify_parts,
)

__all__ = ["Aggregator", "Result"]

_MOST_STAGED = 32  # contributions of a part of `admit_many`, whose files are open at once
_LEAST_PARTS = 16  # so that a few workers end at about the same time
_DEBITED, _RELEASED = "debited", "released"  # what the spool notes of a round


@dataclass(frozen=True)
class Result:
    """What a round reveals.

    mean: max_weight · Σv / (scale · Σw), in the layout's shapes and dtypes; total_weight: Σw; clients: those in the
    sum; refused: clients left out for the committee's complaints; faults: members that answered or dealt wrongly, each
    with the reason. The result is right in spite of them. disagreeing: members whose answers were left aside where
    nobody can be named: they lied, or others did. noise_members: those whose noise is in the sum. read_tally: from the
    spool.
    """

    mean: list[NDArray[np.floating[Any]]] = field(repr=False)
    total_weight: int
    clients: ClientIds
    refused: Mapping[int, str]
    faults: Mapping[int, str]
    disagreeing: tuple[int, ...] = ()
    noise_members: tuple[int, ...] = ()
    read_tally: Callable[[], bytes] | None = field(default=None, repr=False)

    @property
    def tally(self) -> bytes | None:
        """What anyone can check the sum with, read from the spool's file; None without a spool."""
        return None if self.read_tally is None else self.read_tally()


class Aggregator:
    """One round's aggregator. `spool` is a directory for the contributions, or None for a temporary file.

    ledger: the aggregator's, for the models it releases; `close` debits the round before the sum can be opened, once a
    spool and ledger. Where the aggregator adds the noise, `open` debits each draw before it returns it.

    With a spool the round survives a crash (an aggregator made anew on the same session and directory goes on where
    the last admission ended, or closes the round as it was closed), and `open` publishes a tally, which it leaves there
    too.

    Guarantees: a call that raises leaves the sum, the set of clients and the spool as they were. Several threads may
    admit at once.
    """

    def __init__(
        self, session: Session, *, spool: str | os.PathLike[str] | None = None, ledger: Ledger | None = None
    ) -> None:
        self._session = session
        self._event, self._ledger = None, ledger
        if ledger is not None:
            self._event = session.plan.privacy_event()  # refuses a plan without noise
            ledger.require_kind(self._event)
        noise = session.plan.noise
        self._adds_noise = noise is not None and noise.noise_by == "aggregator"
        self._spool = open_spool(session, spool)
        self._sum = RunningSum(session.plan)
        self._request: Request | None = None
        self._released: Result | None = None
        self._refused: dict[int, str] = {}
        self._faults: dict[int, str] = {}
        self._lock = threading.Lock()
        for client_id in self._spool.clients():
            self._restore(client_id, self._spool.view(client_id))

    @property
    def clients(self) -> ClientIds:
        """Ids of the clients in the sum, ascending."""
        return self._sum.clients

    @property
    def noise_members(self) -> tuple[int, ...]:
        """Ids of the committee members whose noise is in the sum, ascending."""
        return self._sum.noise_members

    @property
    def asked(self) -> tuple[int, ...]:
        """Ids of the members who can answer: all, or where the committee adds noise those whose own is in the sum."""
        plan = self._session.plan
        return self.noise_members if plan.noise_members else tuple(range(plan.committee.size))

    def admit(self, payload: bytes | BinaryIO) -> int:
        """Verify a contribution and add it to the sum; return its client's id.

        payload: bytes, or a binary file read once from where it stands. A committee member's noise has the id
        `plan.clients` plus the member's. Raises: FaultyClientError naming the client the contribution claims to be
        from, FaultyMemberError for a member's noise; EncodingError if it is too malformed to name anybody, or of
        another session; ParameterError once share_check() or close() has fixed the set of clients.
        """
        if isinstance(payload, str | os.PathLike):
            raise ParameterError("a payload is bytes or an open binary file; admit_many takes paths")
        self._require_admitting()
        with self._spool.stage(bytes(payload) if isinstance(payload, bytearray | memoryview) else payload) as staged:
            header = verify_header(self._session, staged.view)
            self._require_new(header.client_id)  # before the work of verifying the rest
            verify_parts(self._session, staged.view, header)
            with self._lock:
                self._require_admitting()
                self._require_new(header.client_id)
                self._sum.count(header.client_id, staged.view)
                try:
                    staged.keep(header.client_id)
                except BaseException:
                    self._sum.discount(header.client_id, staged.view)
                    raise
        return header.client_id

    def admit_many(
        self,
        paths: Sequence[str | os.PathLike[str]],
        *,
        executor: Executor | None = None,
        observe: Observer | None = None,
    ) -> list[Verdict]:
        """Admit contributions that are stored as files; return a verdict on each, in order.

        executor: any `concurrent.futures.Executor` (a process pool, `adapters.ray.RayExecutor`) whose workers read
        these paths and verify and sum a part each; without one they are admitted here, one after the other, each on
        all cores. observe: told as verdicts come in.

        Guarantees: sum, clients, verdicts and spool are what `admit` in this order makes of them, bit for bit.
        Raises: ParameterError if a file cannot be read; what came before it may stay admitted.
        """
        if isinstance(paths, str | bytes | os.PathLike):
            raise ParameterError("paths is one path; give a list of them")
        self._require_admitting()
        size = min(_MOST_STAGED, max(1, -(-len(paths) // _LEAST_PARTS)))
        parts = [paths[start : start + size] for start in range(0, len(paths), size)]
        found = repeat(None) if executor is None else executor.map(partial(subtotal, self._session), parts)
        verdicts: list[Verdict] = []
        for part, summed in zip(parts, found, strict=False):
            merged = summed is not None and self._merge(part, summed)
            verdicts += summed.verdicts if summed is not None and merged else [self._admit_file(path) for path in part]
            if observe is not None:
                observe(Event("admit", len(verdicts), len(paths)))
        return verdicts

    def _admit_file(self, path: str | os.PathLike[str]) -> Verdict:
        return judged(self._session, lambda: self.admit(read_contribution(self._session, path)))

    def _merge(self, paths: Sequence[str | os.PathLike[str]], found: Subtotal) -> bool:
        """Admit what a subtotal holds, all of it, and return True; or return False, and nothing has changed.

        False says that admission one by one might find otherwise: one of the clients is admitted already, or a file is
        no longer what was verified.
        """
        with ExitStack() as stack:
            staged: dict[int, Staged] = {}
            try:
                for path, verdict in zip(paths, found.verdicts, strict=True):
                    if verdict.client_id is not None and verdict.reason is None:
                        file = stack.enter_context(open(path, "rb"))
                        staged[verdict.client_id] = stack.enter_context(self._spool.stage(file))
            except (EncodingError, FileNotFoundError):
                return False
            if not all(is_the_verified(self._session, client, each.view, found) for client, each in staged.items()):
                return False
            with self._lock:
                self._require_admitting()
                named = [each.client_id for each in found.verdicts if each.client_id is not None]
                if self._sum.holds_any(named):
                    return False
                self._sum.merge(list(staged), found.frames.__getitem__)
                self._keep_all(staged)
        return True

    def _keep_all(self, staged: Mapping[int, Staged]) -> None:
        """Keep what is counted; if that fails, take out of the sum what is not kept."""
        left = dict(staged)
        try:
            for client_id, each in staged.items():
                each.keep(client_id)
                del left[client_id]
        except BaseException:
            for client_id, each in left.items():
                self._sum.discount(client_id, each.view)
            raise

    def _require_new(self, client_id: int) -> None:
        if self._sum.holds_any([client_id]):
            raise repeated(self._session, client_id)

    def _require_admitting(self) -> None:
        if self._spool.fixed:
            raise ParameterError("share_check() or close() has fixed the set of clients; nothing more is admitted")

    def _restore(self, client_id: int, view: ContributionView) -> None:
        """Count a contribution that the spool held before this aggregator was made."""
        try:
            found = verify_contribution(self._session, view).client_id
        except (EncodingError, FaultyClientError, FaultyMemberError) as error:
            raise ParameterError(f"the spool's file of client {client_id} is damaged ({error}); remove it") from error
        if found != client_id:
            raise ParameterError(f"the spool's file of client {client_id} is of client {found}; remove it")
        self._sum.count(client_id, view)

    def require_clients(self) -> None:
        """Raise QuorumError if fewer clients than the quorum are admitted; for before members are asked for noise."""
        self._sum.require_clients()

    def share_check(self) -> Request:
        """Return what members check before anything is revealed (robust mode): the dealings of all admitted clients.

        Fixes the set of clients, also for an aggregator made anew on the same spool: a report about fewer of them
        than `close` asks for would look like a false one. Raises: QuorumError if they are too few.
        """
        with self._lock:
            self._sum.require_quorum()
            self._spool.fix()
        return self._asking(CHECK)

    def _asking(self, kind: int) -> Request:
        return Request(self._session, kind, self._sum.contributors, self._spool.view)

    def close(self, reports: Iterable[bytes] | None = None) -> Request:
        """Fix the set of clients and return the request that committee members answer.

        reports: in robust mode, the members' share checks; clients that the members asked complain about are left
        out, as few as possible. They stay in the spool: a round that was closed before a crash is closed with the same
        ones again, whatever is given, since members may have answered. Raises: QuorumError if too few clients remain
        or too few members reported; FaultyMemberError if a report is wrong.
        """
        received = None if reports is None else list(reports)  # making them may need share_check() and so the lock
        with self._lock:
            return self._close(received)

    def _close(self, reports: Sequence[bytes] | None) -> Request:
        if self._request is not None:
            raise ParameterError("the round is closed already")
        earlier = self._spool.reports()
        reports = reports if earlier is None else earlier
        refused, faults = self._left_out(reports)
        self._sum.require_quorum(refused)
        if self._ledger is not None and self._event is not None:
            self._debit_sum(self._ledger, self._event)
        if reports is not None and earlier is None:
            self._spool.keep_reports(reports)
        self._spool.fix()
        self._sum.leave_out(sorted(refused), self._spool.view)
        clients = self._session.plan.clients
        self._refused = {contributor: reason for contributor, reason in refused.items() if contributor < clients}
        noise = {contributor - clients: f"its noise: {why}" for contributor, why in refused.items()}
        self._faults = faults | {member: why for member, why in noise.items() if member >= 0}
        self._request = self._asking(REVEAL)
        return self._request

    def _debit_sum(self, ledger: Ledger, event: PrivacyEvent) -> None:
        """Debit a sum that has its noise in it, once; of one that has not, see that a draw can be afforded."""
        if self._adds_noise:
            if not self._spool.noted(_RELEASED) and not ledger.affords(event):
                raise BudgetExhausted(f"{self._note} is more than what is left of {ledger.budget}")
            return
        noted = self._spool.noted(_DEBITED)
        if noted and Debit(event, self._note) in ledger:  # the spool's word alone could be about another ledger
            return
        ledger.debit(event, self._note)
        if not noted:
            self._spool.note(_DEBITED)  # a crash in between costs a debit, and never saves one

    @property
    def _note(self) -> str:
        return f"round {self._session.round_number}, session {self._session.sid.hex()}"

    def _left_out(self, reports: Sequence[bytes] | None) -> tuple[dict[int, str], dict[int, str]]:
        """Return the clients to leave out, and the members whose reports are wrong, each with the reason."""
        if self._session.plan.committee.mode == "optimistic":
            if reports is not None:
                raise ParameterError("the plan's committee is optimistic: close() takes no reports")
            return {}, {}
        if reports is None:
            raise ParameterError("the plan's committee is robust: give close() the members' share checks")
        return contributions_left_out(self._session, self._asking(CHECK), reports)

    def open(self, answers: Iterable[bytes]) -> Result:
        """Recover the sum of the one-time keys from the members' answers, and decode the sum of the updates.

        Answers that cannot be used, or disagree with the others, are left aside and their members named in the
        result, as long as t others agree. Where the aggregator adds the noise, a round that is open stays as it is:
        another draw would be another release, which an aggregator made anew on the same spool refuses.

        Raises: ParameterError before close(), and for another draw; QuorumError if fewer than t members answered;
        FaultyMemberError if they did but wrong answers leave fewer than t; UnattributedFault if no t answers, or not
        only one set of them, open the sum within the plan's bounds; BudgetExhausted if another draw cannot be afforded.
        """
        if self._request is None:
            raise ParameterError("close() fixes the set of clients first")
        if not self._adds_noise:
            return self._open(self._request, answers)
        with self._lock:
            if self._released is None:
                if self._spool.noted(_RELEASED):
                    raise ParameterError(
                        "this round was opened before, with noise drawn then: another draw would be another release. "
                        "A retried round takes a new round number"
                    )
                released = self._open(self._request, answers)
                if self._ledger is not None and self._event is not None:
                    # For every draw, whatever the spool says: it may have been put back to before the one it notes.
                    self._ledger.debit(self._event, self._note)
                self._spool.note(_RELEASED)
                self._released = released
        return self._released

    def _open(self, request: Request, answers: Iterable[bytes]) -> Result:
        sums, faults = share_sums(self._session, request, answers, self._faults)
        members = agreeing(self._session, sums, lambda keys: self._decoder(keys).fits(self._sum.total))
        others = tuple(sorted(sums.keys() - members))
        named = len(members) >= enough_to_blame(self._session.plan.committee)
        if named:
            faults |= dict.fromkeys(others, "its share sum is not on the polynomial that opens the sum")
        threshold = self._session.plan.sharing.threshold
        decoder = self._decoder(key_sum(self._session.plan.sharing, members[:threshold], sums))
        mean, total_weight = decode(self._session, decoder, self._sum.total, len(self.clients))
        published = tally(self._session, request, self._sum.total.frame, self._spool.view)
        return Result(
            mean=mean,
            total_weight=total_weight,
            clients=self.clients,
            refused=dict(self._refused),
            faults=faults,
            disagreeing=() if named else others,
            noise_members=self.noise_members,
            read_tally=self._spool.publish(published),
        )

    def _decoder(self, keys: NDArray[np.int64]) -> Decoder:
        plan = self._session.plan
        return Decoder(plan.packing, self._session.sid, plan.error_bound, keys)
