"""Laws of who is found out: clients who deal bad shares, members who lie, an aggregator that publishes another sum."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secureagg.aggregator import Aggregator, Result
from secureagg.client import contribute
from secureagg.errors import UnattributedFault
from secureagg.exchange import Request, RevealAnswer
from secureagg.he.sharing import pack_elements, unpack_elements
from secureagg.he.total import Total
from secureagg.payload import ContributionView
from secureagg.roster import Label
from secureagg.selfcheck.forgery import forged
from secureagg.selfcheck.law import Case, Law, LawBroken, require
from secureagg.selfcheck.parties import Parties, draw_plan, draw_update, gathered
from secureagg.selfcheck.soundness import LIAR, attack_plan, honest_values
from secureagg.tally import tally, verify_tally
from secureagg.verification import view_of

__all__ = ["LAWS"]

_LEAST_NAMED = 2  # of five members, four of whom open the sum: more than may stay away


def _bad_shares(case: Case) -> None:
    plan = attack_plan(case.random, max_weight=1)
    members = case.random.permutation(plan.committee.size)
    victims = frozenset(members[: int(case.random.integers(_LEAST_NAMED, members.size, endpoint=True))].tolist())
    with gathered(plan) as parties:
        aggregator, grids = Aggregator(parties.session), []
        for client, identity in enumerate(parties.clients):
            grids.append(honest_values(plan, case.random))
            dealt = victims if client == LIAR else frozenset()
            aggregator.admit(forged(parties.session, identity, grids[-1], 1, hiding=False, victims=dealt))
        check = aggregator.share_check()
        request = aggregator.close([member.check(parties.session, check) for member in parties.members])
        result = aggregator.open([member.respond(parties.session, request) for member in parties.members])
    require(set(result.refused) == {LIAR}, f"client {LIAR} dealt {len(victims)} members bad shares and is not left out")
    grids.pop(LIAR)
    _require_mean(result, grids, plan.quantiser.scale)


def _lying_member(case: Case) -> None:
    corrupt = case.number % 2
    plan, liar = attack_plan(case.random, max_weight=1, corrupt=corrupt), int(case.random.integers(5))
    with gathered(plan) as parties:
        session, aggregator, grids = parties.session, Aggregator(parties.session), []
        for identity in parties.clients:
            grids.append(honest_values(plan, case.random))
            aggregator.admit(forged(session, identity, grids[-1], 1, hiding=False))
        check = aggregator.share_check()
        request = aggregator.close([member.check(session, check) for member in parties.members])
        answers = [member.respond(session, request) for member in parties.members]
        answers[liar] = _another_sum(case.random, parties, answers[liar], liar)
        result = aggregator.open(answers)
    # Four others agree: t + c of them, and so enough to name a liar, if c = 0.
    told = (list(result.faults), list(result.disagreeing)) == (([], [liar]) if corrupt else ([liar], []))
    require(told, f"member {liar} answered wrongly; at fault {list(result.faults)}, aside {result.disagreeing}")
    _require_mean(result, grids, plan.quantiser.scale)


def _another_sum(random: np.random.Generator, parties: Parties, answer: bytes, member: int) -> bytes:
    """Return a member's answer with one share altered, signed by it."""
    session, sharing = parties.session, parties.session.plan.sharing
    told = RevealAnswer.from_bytes(answer, session)
    elements = unpack_elements(sharing, told.sums, sharing.secrets)
    place = int(random.integers(elements.size))
    elements[place] = (elements[place] + int(random.integers(1, sharing.modulus))) % sharing.modulus
    told = replace(told, sums=pack_elements(sharing, elements))
    signature = parties.member_identities[member].sign(Label.REVEAL, told.message(session.sid))
    return replace(told, signature=signature).to_bytes(session.sid)


def _require_mean(result: Result, grids: list[NDArray[np.int64]], scale: float) -> None:
    expected = np.sum(grids, axis=0) * (1 / (scale * len(grids)))
    require(np.array_equal(result.mean[0], expected), "the mean is not that of the honest clients' integers")


def _altered_sum(case: Case) -> None:
    """An aggregator drops a client or adds to the sum, or puts another ciphertext for a client's, and tallies that."""
    plan, random = draw_plan(case.random), case.random
    with gathered(plan) as parties, tempfile.TemporaryDirectory() as spool:
        session, aggregator, payloads = parties.session, Aggregator(parties.session, spool=spool), []
        for identity in parties.clients:
            payloads.append(contribute(session, identity, draw_update(plan, random)))
            aggregator.admit(payloads[-1])
        reports = None
        if plan.committee.mode == "robust":
            check = aggregator.share_check()
            reports = [member.check(session, check) for member in parties.members]
        request = aggregator.close(reports)
        victim = int(random.integers(plan.clients))
        views = [view_of(session, payload) for payload in payloads]
        verify_tally(session, _tallied(parties, request, views, views), payloads[victim], payloads)
        dropped = [view for client, view in enumerate(views) if client != victim]
        _require_found(parties, _tallied(parties, request, views, dropped), payloads[victim], "a sum without a client")
        doubled = [*views, views[victim]]
        _require_found(parties, _tallied(parties, request, views, doubled), payloads[victim], "a client counted twice")
        replaced = [_zeroed(parties, view) if client == victim else view for client, view in enumerate(views)]
        _require_found(parties, _tallied(parties, request, replaced, replaced), payloads[victim], "another ciphertext")


def _tallied(
    parties: Parties, request: Request, views: list[ContributionView], summed: list[ContributionView]
) -> bytes:
    """Return the honest tally of a sum of these: what is published of each client is of `views`."""
    packing = parties.session.plan.packing
    total = Total(packing)
    for view in summed:
        for index in range(len(packing.frames)):
            total.add(index, view.frame(index))
    return b"".join(tally(parties.session, request, total.frame, views.__getitem__))


def _zeroed(parties: Parties, view: ContributionView) -> ContributionView:
    """Return a contribution with the header it had, and zeros for its ciphertext."""
    header = bytes(view.header())
    read: Callable[[int, int], bytes] = lambda offset, length: (header + bytes(offset + length))[offset:][:length]  # noqa: E731
    return ContributionView(parties.session.plan, read, view.length)


def _require_found(parties: Parties, encoded: bytes, mine: bytes, what: str) -> None:
    try:
        verify_tally(parties.session, encoded, mine)
    except UnattributedFault:
        return
    raise LawBroken(f"a tally of {what} was accepted by the client it is about")


_SUBJECT = "accountability"
LAWS = (
    Law(
        _SUBJECT,
        "bad-shares",
        "A client that deals several members bad shares is left out by name, and the sum of the others is exact.",
        "docs/protocol.md, Share check; docs/protocol.md, Committee",
        _bad_shares,
        3,
        40,
    ),
    Law(
        _SUBJECT,
        "lying-member",
        "A member that answers with another sum of shares is left aside, and named if enough others agree; the sum is "
        "exact in spite of it.",
        "docs/protocol.md, Opening",
        _lying_member,
        3,
        40,
    ),
    Law(
        _SUBJECT,
        "altered-sum",
        "An aggregator that drops a client, counts it twice or puts another ciphertext for its own is found out by it.",
        "docs/protocol.md, Sum check: the tally",
        _altered_sum,
        10,
        150,
    ),
)
