"""What `secureagg verify` does: gather a round's transcript, check it, and know what could not be checked."""

from __future__ import annotations

import multiprocessing
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from secureagg.errors import EncodingError, FaultyClientError, FaultyMemberError, ParameterError, UnattributedFault
from secureagg.events import Observer
from secureagg.ring.workers import thread_count
from secureagg.session import Session
from secureagg.tally import tally_clients, verify_tally
from secureagg.verification import read_part, verify_many

__all__ = ["Audit", "Failing", "Transcript", "audit", "gather", "processes", "read_record"]

_RECORD, _CONTRIBUTION, _TALLY = b"SAse", b"SAco", b"SAta"
_NAMED = re.compile(r"(\d+)\.contribution")  # as a spool names them
_LONGEST_RECORD = 1 << 30
_MOST_IDS = 12


@dataclass(frozen=True)
class Transcript:
    """The files of one round: the session record, contributions, and the tally if there is one."""

    record: Path
    contributions: tuple[Path, ...]
    tally: Path | None


@dataclass(frozen=True)
class Failing:
    """A contribution that is not what it should be.

    client: whom it claims to be from, if it says; member: instead, the committee member whose noise it claims to be.
    """

    client: int | None
    file: str
    reason: str
    member: int | None = None


@dataclass(frozen=True)
class Audit:
    """What was found, as `--json` prints it.

    contributions: how many were given; proofs: whether they carry any; failing: those with a fault. noise_members: the
    members who add noise by contributions of their own. summed: clients in the tally, None if none was given;
    summed_noise: members whose noise is in it; covered: how many of their contributions were found in it as they were
    sent; tally_fault: why the tally is not right, None if it is. not_checked: what these files cannot show, or were
    not asked to.
    """

    sid: str
    pinned: bool
    round_number: int
    clients: int
    members: int
    noise_members: int
    proofs: bool
    contributions: int
    failing: tuple[Failing, ...]
    summed: int | None
    summed_noise: int
    covered: int
    tally_fault: str | None
    not_checked: tuple[str, ...]

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong with what was checked."""
        return not self.failing and self.tally_fault is None


def gather(paths: Iterable[Path]) -> Transcript:
    """Return the transcript in these spool directories and files, told apart by their first bytes.

    Raises: EncodingError for a path that cannot be read or is no part of a transcript, and if there is no session
    record; ParameterError if there is more than one, or more than one tally.
    """
    found: dict[bytes, dict[Path, None]] = {_RECORD: {}, _CONTRIBUTION: {}, _TALLY: {}}  # in order, each once
    for path in paths:
        for file in _spooled(path) if path.is_dir() else [path]:
            found[_kind(file)][file.resolve()] = None
    records, tallies = list(found[_RECORD]), list(found[_TALLY])
    if not records:
        raise EncodingError("no session record among these paths; give the round's (`session` in a spool) too")
    if len(records) > 1:
        raise ParameterError(f"{len(records)} session records among these paths; give the files of one round")
    if len(tallies) > 1:
        raise ParameterError(f"{len(tallies)} tallies among these paths; a round has one")
    return Transcript(records[0], tuple(found[_CONTRIBUTION]), tallies[0] if tallies else None)


def _spooled(directory: Path) -> list[Path]:
    """Return what a spool holds of a transcript, contributions in the order of their clients."""
    numbered = sorted(
        (int(match[1]), file) for file in directory.iterdir() if (match := _NAMED.fullmatch(file.name)) is not None
    )
    single = [directory / name for name in ("session", "tally") if (directory / name).exists()]
    return [*single, *(file for _, file in numbered)]


def _kind(file: Path) -> bytes:
    try:
        if file.exists() and not file.is_file():  # a pipe might never end
            raise EncodingError(f"{file} is no regular file")
        with file.open("rb") as opened:
            magic = opened.read(4)
    except OSError as error:
        raise EncodingError(f"{file} cannot be read: {error.strerror}") from error
    if magic in (_RECORD, _CONTRIBUTION, _TALLY):
        return magic
    if _NAMED.fullmatch(file.name):  # damaged at its very start: one of the round's contributions nevertheless
        return _CONTRIBUTION
    raise EncodingError(f"{file} is no session record, contribution or tally")


def audit(
    session: Session,
    transcript: Transcript,
    *,
    pinned: bool,
    executor: Executor | None = None,
    observe: Observer | None = None,
) -> Audit:
    """Check every contribution and the tally of a session; `session` is that of the transcript's record.

    pinned: whether the caller has compared its id with one it knows. Raises: EncodingError if a file changes or goes
    while it is checked.
    """
    valid, failing = _contributions(session, transcript.contributions, executor, observe)
    summed, noise, covered, tally_fault, missing, outside = None, 0, 0, None, 0, list(valid)
    if transcript.tally is not None:
        encoded = _read(transcript.tally, _longest_tally(session))
        try:
            listed = tally_clients(session, encoded)
            noise = sum(contributor >= session.plan.clients for contributor in listed)
            summed, outside = len(listed) - noise, [client for client in valid if client not in listed]
            missing = len(listed) - sum(1 for client in listed if client in valid)
            failing = [_in_spite(session, each, listed) for each in failing]
            inside = {client: path for client, path in valid.items() if client in listed}
            altered = _sum(session, encoded, inside)
            failing, covered = failing + altered, len(inside) - len(altered)
        except (EncodingError, UnattributedFault) as error:
            tally_fault = str(error)
    return Audit(
        sid=session.sid.hex(),
        pinned=pinned,
        round_number=session.round_number,
        clients=session.plan.clients,
        members=session.plan.committee.size,
        noise_members=session.plan.noise_members,
        proofs=session.plan.proofs,
        contributions=len(transcript.contributions),
        failing=tuple(failing),
        summed=summed,
        summed_noise=noise,
        covered=covered,
        tally_fault=tally_fault,
        not_checked=tuple(_not_checked(session, transcript, pinned, tally_fault, missing, outside)),
    )


def _contributions(
    session: Session, paths: Sequence[Path], executor: Executor | None, observe: Observer | None
) -> tuple[dict[int, Path], list[Failing]]:
    """Return the valid contributions by contributor, and the others with what is wrong with them."""
    valid: dict[int, Path] = {}
    failing = []
    verdicts = verify_many(session, paths, executor=executor, observe=observe)
    for path, verdict in zip(paths, verdicts, strict=True):
        client, reason, named = verdict.client_id, verdict.reason, _NAMED.fullmatch(path.name)
        if reason is None and client is not None:
            if named is not None and int(named[1]) != client:
                reason = f"the file is named for {_party(session, int(named[1]))}"
            elif client in valid:
                reason = f"a second contribution of this {_role(session, client)}; {valid[client].name} is another"
            else:
                valid[client] = path
        if reason is not None:
            failing.append(_failing(session, client, path, reason))
    return valid, failing


def _failing(session: Session, contributor: int | None, path: Path, reason: str) -> Failing:
    if contributor is None or contributor < session.plan.clients:
        return Failing(contributor, str(path), reason)
    return Failing(None, str(path), reason, contributor - session.plan.clients)


def _party(session: Session, contributor: int) -> str:
    clients, is_member = session.plan.clients, session.plan.clients <= contributor < session.plan.contributors
    return f"committee member {contributor - clients}" if is_member else f"client {contributor}"


def _role(session: Session, contributor: int) -> str:
    return "client" if contributor < session.plan.clients else "committee member"


def _in_spite(session: Session, each: Failing, listed: Sequence[int]) -> Failing:
    contributor = each.client if each.member is None else session.plan.clients + each.member
    if contributor is None or contributor not in listed:
        return each
    return replace(each, reason=f"{each.reason}; the tally counts a contribution of this {_role(session, contributor)}")


def _sum(session: Session, encoded: bytes, inside: Mapping[int, Path]) -> list[Failing]:
    """Check the tally against the valid contributions it should hold; return those it does not hold as they were sent.

    One is in memory at a time. Raises: EncodingError or UnattributedFault if the tally itself is not right.
    """
    altered: list[Failing] = []
    rest, longest = iter(inside.values()), session.plan.longest_contribution
    while True:
        try:
            verify_tally(session, encoded, contributions=(_read(path, longest) for path in rest))
        except FaultyClientError as error:  # `rest` goes on behind the one it is about
            altered.append(_failing(session, error.client_id, inside[error.client_id], error.reason))
        except FaultyMemberError as error:
            contributor = session.plan.clients + error.member_id
            altered.append(_failing(session, contributor, inside[contributor], error.reason))
        else:
            return altered


def _not_checked(
    session: Session,
    transcript: Transcript,
    pinned: bool,
    tally_fault: str | None,
    missing: int,
    outside: Sequence[int],
) -> Iterator[str]:
    if not pinned:
        yield "Whether this is the round that was agreed on: only a comparison of its id with a pinned one shows it."
    if not transcript.contributions:
        yield "Any contribution: none was given."
    elif not session.plan.proofs:
        yield "Whether updates are within their bounds: this plan asks for no proofs."
    if transcript.tally is None:
        yield "The sum: no tally was given."
    elif tally_fault is not None:
        yield "Whether the sum holds what clients sent: the tally is not right."
    else:
        if missing:
            parties = "clients and members" if session.plan.noise_members else "clients"
            yield f"The part in the sum of {missing} {parties} without a valid contribution here."
        if clients := [contributor for contributor in outside if contributor < session.plan.clients]:
            yield f"Why clients with a valid contribution are not in the sum: {_ids(clients)}."
        if members := [c - session.plan.clients for c in outside if c >= session.plan.clients]:
            yield f"Why the valid noise of members is not in the sum: {_ids(members)}."
    yield "What the committee's sealed boxes hold, and whether it opened this very sum: only its members can tell."


def _ids(clients: Sequence[int]) -> str:
    shown = ", ".join(map(str, clients[:_MOST_IDS]))
    return shown if len(clients) <= _MOST_IDS else f"{shown}, … ({len(clients)} in all)"


def read_record(path: Path) -> bytes:
    """Return a session record's bytes. Raises: EncodingError if it cannot be read or is absurdly long."""
    return _read(path, _LONGEST_RECORD)


def _longest_tally(session: Session) -> int:
    plan = session.plan
    return 64 + plan.contributors * (64 + 16 * len(plan.packing.ring.primes)) + plan.packing.ciphertext_bytes


def _read(path: Path, longest: int) -> bytes:
    try:
        return read_part(path, longest)
    except OSError as error:
        raise EncodingError(f"{path} cannot be read: {error.strerror}") from error


@contextmanager
def processes(count: int) -> Iterator[Executor | None]:
    """Yield a pool of this many processes that share the cores, or None for one."""
    if count == 1:
        yield None
        return
    # Fresh processes: a fork would copy this one's threads' locks as they are.
    fresh = multiprocessing.get_context("spawn")
    share = max(1, thread_count() // count)
    with ProcessPoolExecutor(count, mp_context=fresh, initializer=_share_cores, initargs=(share,)) as pool:
        yield pool


def _share_cores(threads: int) -> None:
    os.environ["SECUREAGG_THREADS"] = str(threads)
