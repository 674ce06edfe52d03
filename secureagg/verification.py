"""Whether a contribution is what it should be: signed, undamaged, canonical and, with proofs, proven. Public.

The aggregator asks this before it adds anything; anyone who has the bytes can ask it again later.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from secureagg.errors import EncodingError, FaultyClientError, FaultyMemberError, ParameterError
from secureagg.events import Event, Observer
from secureagg.he.masking import polynomials
from secureagg.he.sharing import check_combination, unpack_elements
from secureagg.he.total import unpack_frame
from secureagg.payload import ContributionView, Dealing, Header, require_length, require_possible_length
from secureagg.ring import workers
from secureagg.session import Session
from secureagg.zk import validity

__all__ = [
    "Verdict",
    "instance",
    "judged",
    "read_contribution",
    "read_part",
    "verify_contribution",
    "verify_digests",
    "verify_header",
    "verify_many",
    "verify_parts",
    "view_of",
]

_TASKS = 64  # of a `verify_many` with an executor


def verify_contribution(session: Session, view: ContributionView) -> Header:
    """Return the header of a contribution all of whose parts are as its client signed them, and proven if they must.

    Raises: FaultyClientError naming the client it claims to be from, FaultyMemberError for a member's noise;
    EncodingError if it is too malformed to name anybody, or of another session.
    """
    header = verify_header(session, view)
    verify_parts(session, view, header)
    return header


def verify_header(session: Session, view: ContributionView) -> Header:
    """Return the header of a contribution once its length fits its contributor, who signed it.

    Raises: as `verify_contribution`.
    """
    header = Header.from_bytes(view.header(), session)
    session.contributor(header.client_id)  # refuses an id that nobody has
    require_length(view.length, session.plan.contribution_bytes(header.client_id))
    try:
        header.dealing().verify(session)
    except EncodingError as error:
        raise session.fault(header.client_id, str(error)) from error
    return header


def verify_parts(session: Session, view: ContributionView, header: Header) -> None:
    """Return None if ciphertext, boxes and proof are what the header says, canonical and, with proofs, proven.

    Raises: FaultyClientError, or FaultyMemberError for a member's noise.
    """
    plan, statement = session.plan, session.plan.statement_of(header.client_id)
    ciphertext = np.empty(plan.packing.coefficients if plan.proofs else 0, dtype=np.uint64)

    def verify_frames(start: int, stop: int) -> None:
        for index in range(start, stop):
            frame = view.frame(index)
            _require_digest(frame, header.frames[index], f"frame {index}")
            unpacked = unpack_frame(plan.packing, index, frame)
            if plan.proofs:
                first, last = plan.packing.frame_coefficients(plan.packing.frames[index])
                ciphertext[first:last] = unpacked.reshape(-1)

    try:
        for member_id in range(plan.committee.size):
            _require_digest(view.box(member_id), header.boxes[member_id], f"box {member_id}")
        workers.run(verify_frames, len(plan.packing.frames))
        if statement is not None:
            proof = view.proof()
            _require_digest(proof, header.proof, "the proof")
            claim = instance(session, header.dealing(), ciphertext)
            validity.verify(statement, claim, header.commitment, proof)
    except EncodingError as error:
        raise session.fault(header.client_id, str(error)) from error


def verify_digests(session: Session, view: ContributionView, header: Header) -> None:
    """Return None if ciphertext, boxes and proof are the bytes that the header names, whatever they hold.

    Raises: FaultyClientError, or FaultyMemberError for a member's noise.
    """
    try:
        for member_id, digest in enumerate(header.boxes):
            _require_digest(view.box(member_id), digest, f"box {member_id}")
        for index, digest in enumerate(header.frames):
            _require_digest(view.frame(index), digest, f"frame {index}")
        if session.plan.statement_of(header.client_id) is not None:
            _require_digest(view.proof(), header.proof, "the proof")
    except EncodingError as error:
        raise session.fault(header.client_id, str(error)) from error


def instance(session: Session, dealing: Dealing, ciphertext: NDArray[np.uint64]) -> validity.Instance:
    """Return what a contribution's proof is about: the dealing but for signature and proof, and the ciphertext.

    Raises: EncodingError if its share check is not in canonical form.
    """
    sharing, challenge = session.plan.sharing, dealing.challenge(session.sid)
    check = unpack_elements(sharing, dealing.check, sharing.threshold * sharing.repetitions)
    return validity.Instance(
        context=challenge,
        polynomials=polynomials(session.sid),
        ciphertext=ciphertext,
        combination=check_combination(sharing, challenge).view(np.uint64),
        check=check.reshape(sharing.threshold, sharing.repetitions).view(np.uint64),
    )


@dataclass(frozen=True)
class Verdict:
    """What `verify_many` found of one contribution.

    client_id: the contributor it is from or claims to be from, None if it does not say; reason: why it is refused,
    None if it is not.
    """

    client_id: int | None
    reason: str | None


def verify_many(
    session: Session,
    contributions: Sequence[bytes | str | os.PathLike[str]],
    *,
    executor: Executor | None = None,
    observe: Observer | None = None,
) -> list[Verdict]:
    """Verify contributions, given as bytes or as paths of files, and return a verdict on each, in order.

    executor: any `concurrent.futures.Executor` (a process pool, Ray's or Dask's); without one they are verified here,
    one after the other, each on all cores. Paths travel lighter than bytes. observe: told as verdicts come in.
    """
    count = len(contributions)
    # A task carries the session, which holds 64 bytes a client of the roster, so there are no more than a few dozen.
    size = 1 if executor is None else -(-count // _TASKS)
    batches = [contributions[start : start + size] for start in range(0, count, max(1, size))]
    verify = partial(_verdicts, session)
    verdicts: list[Verdict] = []
    for found in map(verify, batches) if executor is None else executor.map(verify, batches):
        verdicts += found
        if observe is not None:
            observe(Event("verify", len(verdicts), count))
    return verdicts


def _verdicts(session: Session, contributions: Sequence[bytes | str | os.PathLike[str]]) -> list[Verdict]:
    return [_verdict(session, each) for each in contributions]


def _verdict(session: Session, contribution: bytes | str | os.PathLike[str]) -> Verdict:
    def verify() -> int:
        encoded = contribution if isinstance(contribution, bytes) else read_contribution(session, contribution)
        return verify_contribution(session, view_of(session, encoded)).client_id

    return judged(session, verify)


def judged(session: Session, take: Callable[[], int]) -> Verdict:
    """Return the verdict on a contribution: `take` returns its contributor's id, or raises what is wrong."""
    try:
        return Verdict(take(), None)
    except FaultyClientError as error:
        return Verdict(error.client_id, error.reason)
    except FaultyMemberError as error:
        return Verdict(session.plan.clients + error.member_id, error.reason)
    except EncodingError as error:
        return Verdict(None, str(error))


def read_contribution(session: Session, path: str | os.PathLike[str]) -> bytes:
    """Return the bytes of a file no longer than a contribution of the session.

    Raises: EncodingError if it is longer; ParameterError if it cannot be read.
    """
    try:
        return read_part(path, session.plan.longest_contribution)
    except OSError as error:
        raise ParameterError(f"{path!r} cannot be read: {error.strerror}") from error


def read_part(path: str | os.PathLike[str], longest: int) -> bytes:
    """Return the bytes of a file of at most this length.

    Raises: EncodingError if it is longer; OSError, also if it is no regular file, since a pipe might never end.
    """
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        code = errno.EISDIR if stat.S_ISDIR(found.st_mode) else errno.EINVAL
        raise OSError(code, os.strerror(code) if code == errno.EISDIR else "Not a regular file", os.fspath(path))
    if found.st_size > longest:
        raise EncodingError(f"{os.fspath(path)} has {found.st_size} bytes, at most {longest} are expected")
    with open(path, "rb") as file:
        return file.read(found.st_size)


def view_of(session: Session, encoded: bytes | memoryview) -> ContributionView:
    """Return the parts of a whole contribution. Raises: EncodingError if its length is none of the plan's."""
    require_possible_length(len(encoded), session.plan)
    whole = memoryview(encoded)
    read: Callable[[int, int], memoryview] = lambda offset, length: whole[offset : offset + length]  # noqa: E731
    return ContributionView(session.plan, read, len(encoded))


def _require_digest(part: bytes | memoryview, expected: bytes, what: str) -> None:
    if hashlib.sha256(part).digest() != expected:
        raise EncodingError(f"{what} is not the one that was signed")
