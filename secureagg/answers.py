"""What committee members send: which reports and answers can be used, what they say together, and who is at fault.

Members may lie, repeat themselves or answer something else. What is left is right as long as t honest members sent
theirs; whom that does not prove wrong is not blamed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from random import SystemRandom

import numpy as np
from numpy.typing import NDArray

from secureagg.electorate import Committee
from secureagg.errors import EncodingError, FaultyMemberError, QuorumError, UnattributedFault
from secureagg.exchange import Request, RevealAnswer, ShareCheck
from secureagg.he.sharing import Sharing, evaluate_from, key_sum, unpack_elements
from secureagg.session import Session

__all__ = ["agreeing", "contributions_left_out", "enough_to_blame", "share_sums"]

MAX_SUBSETS = 10_000  # combinations of members tried exhaustively, for complaints and for disagreeing answers

Faults = dict[int, str]  # member → what is wrong with what it sent
Sums = dict[int, NDArray[np.int64]]  # member → its share sums


def enough_to_blame(committee: Committee) -> int:
    """Return t + c: among so many answers on one polynomial t are honest members', so it is the honest one.

    With fewer, c corrupt members and a corrupt client who encrypts under another key than it deals can make a
    polynomial of their own open the sum, and honest members look as if they lied.
    """
    return committee.members_needed + committee.colluding


def contributions_left_out(
    session: Session, request: Request, reports: Iterable[bytes]
) -> tuple[dict[int, str], Faults]:
    """Return the contributions that the best t reporting members complain about, with the reason, and the members at
    fault.

    request: the share check that the reports are about. As few contributions as possible are left out, and where
    members add noise, none of those t members': they would not answer.
    Raises: QuorumError if fewer than t reports can be used; FaultyMemberError if that is for wrong ones.
    """
    committee, clients = session.plan.committee, session.plan.clients
    complaints, faults = _usable_reports(session, request, reports)
    if session.plan.noise_members:
        complaints = {member: listed for member, listed in complaints.items() if clients + member in request.clients}
        _require_enough(committee, len(complaints), "share checks of members whose noise is in the sum", faults, [])
    chosen = _fewest(complaints, committee.members_needed, clients)
    reasons = {}
    for client_id in sorted(frozenset().union(*(complaints[member] for member in chosen))):
        members = [member for member in sorted(complaints) if client_id in complaints[member]]
        # More complaints than members assumed corrupt: an honest one is among them.
        blame = "dealt bad shares" if len(members) > committee.colluding else "left out, in dispute"
        reasons[client_id] = f"{blame}: members {members} complain"
    return reasons, faults


def _usable_reports(
    session: Session, request: Request, reports: Iterable[bytes]
) -> tuple[dict[int, frozenset[int]], Faults]:
    """Return each member's complaints; reports that cannot be used are left aside, as long as t can."""
    digest = request.digest()
    complaints: dict[int, frozenset[int]] = {}
    faults: Faults = {}
    notes: list[str] = []
    for encoded in reports:
        try:
            report = ShareCheck.from_bytes(encoded, session)
        except EncodingError as error:
            notes.append(str(error))
            continue
        member, listed = report.member_id, frozenset(report.complaints)
        if report.request != digest:  # perhaps a replay: nobody's fault
            notes.append(f"a share check of member {member} is about another set of clients")
        elif not all(client_id in request.clients for client_id in listed):
            faults[member] = "it complains about a client that was not to be checked"
        elif complaints.setdefault(member, listed) != listed:
            faults[member] = "it signed two different share checks"
    for member in faults:
        complaints.pop(member, None)
    _require_enough(session.plan.committee, len(complaints), "share checks", faults, notes)
    return complaints, faults


def share_sums(
    session: Session, request: Request, answers: Iterable[bytes], known: Mapping[int, str]
) -> tuple[Sums, Faults]:
    """Return each member's share sums, and what is wrong with the answers that cannot be used.

    known: members that were at fault before, who are not heard any more.
    Raises: QuorumError if fewer than t answers can be used; FaultyMemberError if that is for wrong ones.
    """
    sharing, digest = session.plan.sharing, request.digest()
    sums: Sums = {}
    faults = dict(known)
    notes: list[str] = []
    for encoded in answers:
        try:
            answer = RevealAnswer.from_bytes(encoded, session)
        except EncodingError as error:
            notes.append(str(error))
            continue
        member = answer.member_id
        if answer.request != digest:
            notes.append(f"an answer of member {member} is about another set of clients")  # perhaps a replay
        elif answer.complaints:
            notes.append(f"member {member} complains about clients {list(answer.complaints)}")
        else:
            try:
                shares = unpack_elements(sharing, answer.sums, sharing.secrets)
            except EncodingError as error:
                faults[member] = str(error)
                continue
            if member in sums and not np.array_equal(sums[member], shares):
                faults[member] = "it signed two different share sums"
            sums[member] = shares
    for member in faults:
        sums.pop(member, None)
    _require_enough(session.plan.committee, len(sums), "answers", faults, notes)
    return sums, faults


def _require_enough(
    committee: Committee, usable: int, what: str, faults: Mapping[int, str], notes: Sequence[str]
) -> None:
    """Raise FaultyMemberError if wrong answers are why fewer than t can be used, QuorumError if others are."""
    needed = committee.members_needed
    if usable >= needed:
        return
    reason = "; ".join([f"{usable} of {needed} needed {what} can be used", *notes])
    if faults and usable + len(faults) >= needed:
        raise FaultyMemberError(min(faults), f"{faults[min(faults)]}; {reason}")
    raise QuorumError(f"{reason}; if no more come, start a round with a new number")


def agreeing(session: Session, sums: Sums, opens: Callable[[NDArray[np.int64]], bool]) -> tuple[int, ...]:
    """Return the members whose share sums lie on the polynomial that opens the sum, `threshold` or more.

    opens: whether a sum of keys opens the sum of the ciphertexts. All on one polynomial: nothing to search. Otherwise
    t-subsets are tried, and the residual tells which is right. Unless so many agree that theirs is the honest
    polynomial, that no other key sum opens the sum too is checked.

    Raises: UnattributedFault if none or several do.
    """
    sharing = session.plan.sharing
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
        if not same and not opens(keys):
            continue
        if opened is not None and not same:
            raise UnattributedFault("two different key sums open the sum; nothing was decoded")
        opened, found = keys, max(found, _on_polynomial(sharing, subset, sums), key=len)
        if len(found) >= enough_to_blame(session.plan.committee):
            break
    if found:
        return found
    raise UnattributedFault(
        f"the answers of members {members} do not lie on one polynomial, and no {sharing.threshold} of them open "
        "the sum within the plan's noise bound; nothing was decoded"
    )


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


def _fewest(complaints: Mapping[int, frozenset[int]], threshold: int, clients: int) -> tuple[int, ...]:
    """Return `threshold` members with the fewest contributions complained about between them, none of them their own.

    Exhaustive up to MAX_SUBSETS combinations, greedy beyond: then the next member is the one that adds the fewest,
    among members none of whom complains about another's noise.
    Raises: QuorumError if there are no such members.
    """
    members = sorted(complaints)

    def left_out(chosen: Iterable[int]) -> tuple[int, int]:
        """Return how many of the chosen members' own contributions are complained about, and how many of all."""
        refused = frozenset[int]().union(*(complaints[member] for member in chosen))
        return sum(clients + member in refused for member in chosen), len(refused)

    if math.comb(len(members), threshold) <= MAX_SUBSETS:
        chosen = min(itertools.combinations(members, threshold), key=left_out)
    else:
        disputes = _disputes(complaints, clients)
        aside = _settled(disputes, len(members) - threshold, iter(range(MAX_SUBSETS)))
        members = [member for member in members if member not in (aside or ())]
        chosen = ()
        while len(chosen) < threshold:
            chosen = min(((*chosen, member) for member in members if member not in chosen), key=left_out)
    if left_out(chosen)[0]:
        raise QuorumError(
            f"no {threshold} members accept each other's noise, which each of them needs in the sum to answer; "
            "start a round with a new number"
        )
    return chosen


def _disputes(complaints: Mapping[int, frozenset[int]], clients: int) -> dict[int, frozenset[int]]:
    """Return with whom each member cannot be asked: one of the two complains about the other's noise."""
    found: dict[int, set[int]] = {member: set() for member in complaints}
    for member, listed in complaints.items():
        for other in {contributor - clients for contributor in listed} & found.keys():
            found[member].add(other)
            found[other].add(member)
    return {member: frozenset(others) for member, others in found.items()}


def _settled(disputes: Mapping[int, frozenset[int]], spare: int, steps: Iterator[int]) -> frozenset[int] | None:
    """Return at most `spare` members without whom nobody is in dispute with another; None if none were found.

    Of two in dispute one must go: whoever disputes with the most goes, or else all it disputes with. Corrupt members
    are all it takes, as honest ones do not dispute with each other. steps: how many choices are looked at.
    """
    worst = max(disputes, key=lambda member: (member in disputes[member], len(disputes[member])), default=None)
    if worst is None or not disputes[worst]:
        return frozenset()
    without_others = [frozenset({worst})] if worst in disputes[worst] else [frozenset({worst}), disputes[worst]]
    for aside in without_others:
        if len(aside) <= spare and next(steps, None) is not None:
            rest = {member: others - aside for member, others in disputes.items() if member not in aside}
            if (found := _settled(rest, spare - len(aside), steps)) is not None:
                return found | aside
    return None
