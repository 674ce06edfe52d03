"""The aggregator: admits contributions into a running sum, asks the committee, and opens the sum. It holds no secret.

Who sees plaintext: nobody before `open`, and then only the sum over the clients of the request.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import (
    EncodingError,
    FaultyClientError,
    FaultyMemberError,
    ParameterError,
    QuorumError,
    UnattributedFault,
)
from secureagg.he.reconstruct import Decoder
from secureagg.he.sharing import Sharing, evaluate_from, key_sum, unpack_elements
from secureagg.he.total import Total, unpack_frame
from secureagg.layout import Assembly
from secureagg.messages import CHECK, REVEAL, ContributionView, Header, Request, RevealAnswer, ShareCheck
from secureagg.ring import workers
from secureagg.session import Session
from secureagg.spool import open_spool
from secureagg.tally import tally

__all__ = ["Aggregator", "Result"]

MAX_SUBSETS = 10_000  # combinations of members tried exhaustively, for complaints and for disagreeing answers


@dataclass(frozen=True)
class Result:
    """What a round reveals.

    mean: max_weight · Σv / (scale · Σw), in the layout's shapes and dtypes; total_weight: Σw; clients: those in the
    sum; tally: bytes anyone can check it with (None without a spool); refused: clients left out for the committee's
    complaints; faults: members that answered wrongly, each with the reason. The result is right in spite of them.
    disagreeing: members whose answers were left aside where nobody can be named: they lied, or others did.
    """

    mean: list[NDArray[np.floating[Any]]] = field(repr=False)
    total_weight: int
    clients: tuple[int, ...]
    tally: bytes | None = field(repr=False)
    refused: Mapping[int, str]
    faults: Mapping[int, str]
    disagreeing: tuple[int, ...] = ()


class Aggregator:
    """One round's aggregator. `spool` is a directory for the contributions, or None to keep what is needed in memory.

    With a spool the round survives a crash (an aggregator made anew on the same session and directory goes on where
    the last admission ended), and `open` publishes a tally.

    Guarantees: a call that raises leaves the sum, the set of clients and the spool as they were. Several threads may
    admit at once.
    """

    def __init__(self, session: Session, *, spool: str | os.PathLike[str] | None = None) -> None:
        self._session = session
        self._spool = open_spool(session, spool)
        self._publishes = spool is not None
        self._total = Total(session.plan.packing)
        self._admitted = np.zeros(session.plan.clients, dtype=np.bool_)
        self._request: Request | None = None
        self._refused: dict[int, str] = {}
        self._faults: dict[int, str] = {}
        self._lock = threading.Lock()
        for client_id in self._spool.clients():
            self._restore(client_id, self._spool.view(client_id))

    @property
    def clients(self) -> tuple[int, ...]:
        """Ids of the clients in the sum, ascending."""
        return tuple(int(client_id) for client_id in np.flatnonzero(self._admitted))

    def admit(self, payload: bytes | BinaryIO) -> int:
        """Verify a contribution and add it to the sum; return its client's id.

        payload: bytes, or a binary file read once from where it stands. Raises: FaultyClientError naming the client
        the contribution claims to be from; EncodingError if it is too malformed to name one, or of another session;
        ParameterError once share_check() or close() has fixed the set of clients.
        """
        self._require_admitting()
        with self._spool.stage(bytes(payload) if isinstance(payload, bytearray | memoryview) else payload) as staged:
            client_id = self._verify(staged.view)
            with self._lock:
                self._require_admitting()
                if self._admitted[client_id]:
                    raise FaultyClientError(client_id, "a contribution of this client is already admitted")
                staged.keep(client_id)
                self._count(client_id, staged.view)
        return client_id

    def _require_admitting(self) -> None:
        if self._spool.fixed:
            raise ParameterError("share_check() or close() has fixed the set of clients; nothing more is admitted")

    def _restore(self, client_id: int, view: ContributionView) -> None:
        """Count a contribution that the spool held before this aggregator was made."""
        try:
            found = self._verify(view)
        except (EncodingError, FaultyClientError) as error:
            raise ParameterError(f"the spool's file of client {client_id} is damaged ({error}); remove it") from error
        if found != client_id:
            raise ParameterError(f"the spool's file of client {client_id} is of client {found}; remove it")
        self._count(client_id, view)

    def _verify(self, view: ContributionView) -> int:
        """Check all a contribution says against its signature; nothing has been counted yet."""
        header = Header.from_bytes(view.header(), self._session)
        plan = self._session.plan
        if header.client_id >= plan.clients:
            raise EncodingError(f"contribution: client {header.client_id} is not on the roster of {plan.clients}")
        try:
            header.dealing().verify(self._session)
            for member_id in range(plan.committee.size):
                _require_digest(view.box(member_id), header.boxes[member_id], f"box {member_id}")

            def verify_frame(index: int) -> None:
                frame = view.frame(index)
                _require_digest(frame, header.frames[index], f"frame {index}")
                unpack_frame(plan.packing, index, frame)

            self._each_frame(verify_frame)
        except EncodingError as error:
            raise FaultyClientError(header.client_id, str(error)) from error
        return header.client_id

    def _count(self, client_id: int, view: ContributionView) -> None:
        self._each_frame(lambda index: self._total.add(index, view.frame(index)))
        self._admitted[client_id] = True

    def _discount(self, client_id: int, view: ContributionView) -> None:
        self._each_frame(lambda index: self._total.subtract(index, view.frame(index)))
        self._admitted[client_id] = False

    def _each_frame(self, action: Callable[[int], None]) -> None:
        def act(start: int, stop: int) -> None:
            for index in range(start, stop):
                action(index)

        workers.run(act, len(self._session.plan.packing.frames))

    def share_check(self) -> Request:
        """Return what members check before anything is revealed (robust mode): the dealings of all admitted clients.

        Fixes the set of clients, also for an aggregator made anew on the same spool: a report about fewer of them
        than `close` asks for would look like a false one. Raises: QuorumError if they are too few.
        """
        with self._lock:
            self._require_quorum(self.clients)
            self._spool.fix()
        return Request(self._session, CHECK, self.clients, self._spool.view)

    def close(self, reports: Iterable[bytes] | None = None) -> Request:
        """Fix the set of clients and return the request that committee members answer.

        reports: in robust mode, the members' share checks; clients that the members asked complain about are left
        out, as few as possible. Raises: QuorumError if too few clients remain or too few members reported;
        FaultyMemberError if a report is wrong.
        """
        received = None if reports is None else list(reports)  # making them may need share_check() and so the lock
        with self._lock:
            return self._close(received)

    def _close(self, reports: Sequence[bytes] | None) -> Request:
        if self._request is not None:
            raise ParameterError("the round is closed already")
        refused = self._complaints(reports)
        remaining = [client_id for client_id in self.clients if client_id not in refused]
        self._require_quorum(remaining, refused)
        self._spool.fix()
        self._leave_out(sorted(refused))
        self._refused = refused
        self._request = Request(self._session, REVEAL, remaining, self._spool.view)
        return self._request

    def _leave_out(self, clients: Sequence[int]) -> None:
        """Take all of these clients out of the sum, or none."""
        for position, client_id in enumerate(clients):
            try:
                self._discount(client_id, self._spool.view(client_id))
            except BaseException:
                for earlier in clients[:position]:
                    self._count(earlier, self._spool.view(earlier))
                raise

    def _require_quorum(self, remaining: Sequence[int], refused: Iterable[int] = ()) -> None:
        if len(remaining) < self._session.plan.quorum:
            raise QuorumError(
                f"{len(remaining)} clients remain (admitted {len(self.clients)}, refused {sorted(refused)}), "
                f"the quorum is {self._session.plan.quorum}"
            )

    def open(self, answers: Iterable[bytes]) -> Result:
        """Recover the sum of the one-time keys from the members' answers, and decode the sum of the updates.

        Answers that cannot be used, or disagree with the others, are left aside and their members named in the
        result, as long as t others agree.

        Raises: QuorumError if fewer than t members answered; FaultyMemberError if they did but wrong answers leave
        fewer than t; UnattributedFault if no t answers, or not only one set of them, open the sum within the plan's
        bounds.
        """
        if self._request is None:
            raise ParameterError("close() fixes the set of clients first")
        sums, faults = self._share_sums(answers, self._request.digest())
        members = self._agreeing(sums)
        others = tuple(sorted(sums.keys() - members))
        named = len(members) >= self._enough_to_blame
        if named:
            faults |= dict.fromkeys(others, "its share sum is not on the polynomial that opens the sum")
        threshold = self._session.plan.sharing.threshold
        decoder = self._decoder(key_sum(self._session.plan.sharing, members[:threshold], sums))
        mean, total_weight = self._decode(decoder)
        return Result(
            mean=mean,
            total_weight=total_weight,
            clients=self._request.clients,
            tally=tally(self._session, self._request, self._total.frame, self._spool.view) if self._publishes else None,
            refused=dict(self._refused),
            faults=faults,
            disagreeing=() if named else others,
        )

    @property
    def _enough_to_blame(self) -> int:
        """t + c: among so many answers on one polynomial t are honest members', so it is the honest one.

        With fewer, c corrupt members and a corrupt client who encrypts under another key than it deals can make a
        polynomial of their own open the sum, and honest members look as if they lied.
        """
        committee = self._session.plan.committee
        return committee.members_needed + committee.colluding

    def _complaints(self, reports: Sequence[bytes] | None) -> dict[int, str]:
        """Return the clients to leave out, with the reason: those the best t reporting members complain about."""
        committee = self._session.plan.committee
        if committee.mode == "optimistic":
            if reports is not None:
                raise ParameterError("the plan's committee is optimistic: close() takes no reports")
            return {}
        if reports is None:
            raise ParameterError("the plan's committee is robust: give close() the members' share checks")
        complaints = self._usable_reports(reports)
        chosen = _fewest(complaints, committee.members_needed)
        reasons = {}
        for client_id in sorted(frozenset().union(*(complaints[member] for member in chosen))):
            members = [member for member in sorted(complaints) if client_id in complaints[member]]
            # More complaints than members assumed corrupt: an honest one is among them.
            blame = "dealt bad shares" if len(members) > committee.colluding else "left out, in dispute"
            reasons[client_id] = f"{blame}: members {members} complain"
        return reasons

    def _usable_reports(self, reports: Sequence[bytes]) -> dict[int, frozenset[int]]:
        """Return each member's complaints; reports that cannot be used are left aside, as long as t can."""
        request = Request(self._session, CHECK, self.clients, self._spool.view).digest()
        complaints: dict[int, frozenset[int]] = {}
        notes: list[str] = []
        for encoded in reports:
            try:
                report = ShareCheck.from_bytes(encoded, self._session)
            except EncodingError as error:
                notes.append(str(error))
                continue
            member, listed = report.member_id, frozenset(report.complaints)
            if report.request != request:  # perhaps a replay: nobody's fault
                notes.append(f"a share check of member {member} is about another set of clients")
            elif not listed <= set(self.clients):
                self._faults[member] = "it complains about a client that was not to be checked"
            elif complaints.setdefault(member, listed) != listed:
                self._faults[member] = "it signed two different share checks"
        for member in self._faults:
            complaints.pop(member, None)
        self._require_enough(len(complaints), "share checks", self._faults, notes)
        return complaints

    def _require_enough(self, usable: int, what: str, faults: Mapping[int, str], notes: Sequence[str]) -> None:
        """Raise FaultyMemberError if wrong answers are why fewer than t can be used, QuorumError if others are."""
        needed = self._session.plan.committee.members_needed
        if usable >= needed:
            return
        reason = "; ".join([f"{usable} of {needed} needed {what} can be used", *notes])
        if faults and usable + len(faults) >= needed:
            raise FaultyMemberError(min(faults), f"{faults[min(faults)]}; {reason}")
        raise QuorumError(f"{reason}; if no more come, start a round with a new number")

    def _share_sums(
        self, answers: Iterable[bytes], request: bytes
    ) -> tuple[dict[int, NDArray[np.int64]], dict[int, str]]:
        """Return each member's share sum, and what is wrong with the answers that cannot be used."""
        session = self._session
        sums: dict[int, NDArray[np.int64]] = {}
        faults = dict(self._faults)
        notes: list[str] = []
        for encoded in answers:
            try:
                answer = RevealAnswer.from_bytes(encoded, session)
            except EncodingError as error:
                notes.append(str(error))
                continue
            member = answer.member_id
            if answer.request != request:
                notes.append(f"an answer of member {member} is about another set of clients")  # perhaps a replay
            elif answer.complaints:
                notes.append(f"member {member} complains about clients {list(answer.complaints)}")
            else:
                try:
                    shares = unpack_elements(session.plan.sharing, answer.sums, session.plan.sharing.secrets)
                except EncodingError as error:
                    faults[member] = str(error)
                    continue
                if member in sums and not np.array_equal(sums[member], shares):
                    faults[member] = "it signed two different share sums"
                sums[member] = shares
        for member in faults:
            sums.pop(member, None)
        self._require_enough(len(sums), "answers", faults, notes)
        return sums, faults

    def _agreeing(self, sums: Mapping[int, NDArray[np.int64]]) -> tuple[int, ...]:
        """Return the members whose share sums lie on the polynomial that opens the sum, `threshold` or more.

        All on one polynomial: nothing to search. Otherwise t-subsets are tried, and the residual tells which is right.
        Unless so many agree that theirs is the honest polynomial, that no other key sum opens the sum too is checked.
        """
        sharing = self._session.plan.sharing
        members = sorted(sums)
        if len(everyone := _on_polynomial(sharing, members[: sharing.threshold], sums)) == len(members):
            return everyone
        found: tuple[int, ...] = ()
        opened: NDArray[np.int64] | None = None
        for subset in _subsets(members, sharing.threshold):
            if set(subset) <= set(found):
                continue
            keys = key_sum(sharing, subset, sums)
            same = opened is not None and np.array_equal(keys, opened)
            if not same and not self._decoder(keys).fits(self._total):
                continue
            if opened is not None and not same:
                raise UnattributedFault("two different key sums open the sum; nothing was decoded")
            opened, found = keys, max(found, _on_polynomial(sharing, subset, sums), key=len)
            if len(found) >= self._enough_to_blame:
                break
        if found:
            return found
        raise UnattributedFault(
            f"the answers of members {members} do not lie on one polynomial, and no {sharing.threshold} of them open "
            "the sum within the plan's noise bound; nothing was decoded"
        )

    def _decoder(self, keys: NDArray[np.int64]) -> Decoder:
        plan = self._session.plan
        return Decoder(plan.packing, self._session.sid, plan.error_bound, keys)

    def _decode(self, decoder: Decoder) -> tuple[list[NDArray[np.floating[Any]]], int]:
        """Return the mean and Σw. Raises: UnattributedFault if any part of the sum is outside what the plan allows."""
        plan = self._session.plan
        assert self._request is not None
        count = len(self._request.clients)
        total_weight = int(decoder.values(self._total, len(plan.packing.frames) - 1)[-1])
        if not count <= total_weight <= count * plan.max_weight:
            raise UnattributedFault(
                f"the sum of the weights is outside [{count}, {count * plan.max_weight}]; a client lied about its "
                "weight, and without proofs it cannot be named. Nothing was decoded"
            )
        factor = plan.max_weight / (plan.quantiser.scale * total_weight)
        assembly = Assembly(plan.layout)
        limit = count * plan.value_limit

        def decode_frame(index: int) -> None:
            values = decoder.values(self._total, index)
            first, _ = plan.packing.frame_coordinates(plan.packing.frames[index])
            values = values[: plan.layout.size - first]
            if values.size and max(int(values.max()), -int(values.min())) > limit:
                raise UnattributedFault("a coordinate of the sum is beyond clients · C; nothing was decoded")
            assembly.write(values * factor, first)

        self._each_frame(decode_frame)
        return assembly.tensors, total_weight


def _on_polynomial(sharing: Sharing, base: Sequence[int], sums: Mapping[int, NDArray[np.int64]]) -> tuple[int, ...]:
    """Return the members whose sums lie on the polynomial through those of `base`, which come first."""
    rest = [
        member
        for member in sorted(sums)
        if member not in base and np.array_equal(evaluate_from(sharing, base, sums, member + 1), sums[member])
    ]
    return (*base, *rest)


def _subsets(members: Sequence[int], threshold: int) -> Iterator[tuple[int, ...]]:
    """Yield sets of `threshold` members: all there are, or if they are too many MAX_SUBSETS drawn at random.

    In order, the first ten thousand of many would all hold the same few members, one of whom may lie; of e liars among
    k, a draw meets none with probability about (1 − t/k)^e.
    """
    if math.comb(len(members), threshold) <= MAX_SUBSETS:
        yield from itertools.combinations(members, threshold)
        return
    random = SystemRandom()
    for _ in range(MAX_SUBSETS):
        yield tuple(sorted(random.sample(members, threshold)))


def _fewest(complaints: Mapping[int, frozenset[int]], threshold: int) -> tuple[int, ...]:
    """Return `threshold` members with the fewest clients complained about between them.

    Exhaustive up to MAX_SUBSETS combinations, greedy beyond: then the next member is the one that adds the fewest.
    """
    members = sorted(complaints)
    if math.comb(len(members), threshold) <= MAX_SUBSETS:
        subsets = itertools.combinations(members, threshold)
        return min(subsets, key=lambda subset: len(frozenset().union(*(complaints[m] for m in subset))))
    chosen: list[int] = []
    refused: frozenset[int] = frozenset()
    while len(chosen) < threshold:
        left = (member for member in members if member not in chosen)
        member = min(left, key=lambda candidate: len(refused | complaints[candidate]))
        chosen.append(member)
        refused |= complaints[member]
    return tuple(chosen)


def _require_digest(part: bytes | memoryview, expected: bytes, what: str) -> None:
    if hashlib.sha256(part).digest() != expected:
        raise EncodingError(f"{what} is not the one that was signed")
