"""The tally: the encrypted sum, published with one small number a contribution that ties the two together.

r is drawn from the session, the digests of all contributions and the digest of Σc, so Σc is fixed before r is known.
The aggregator publishes t_i = ⟨r, c_i⟩ mod q for each client, twice. A client checks its own t_i against the bytes it
sent, and anyone checks Σ t_i = ⟨r, Σc⟩. If *every* client in the sum finds its own t_i right, then Σc is the sum of
what they sent, but with probability about 2^-103. A client that does not look is not covered: for its part an auditor
needs the stored contribution. No more is claimed.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from secureagg.errors import EncodingError, ParameterError, UnattributedFault
from secureagg.exchange import Request
from secureagg.he.packing import Frame
from secureagg.ids import ClientIds
from secureagg.payload import ContributionView, Header, digest_of, require_possible_length
from secureagg.ring import residues
from secureagg.ring.ntt import tables
from secureagg.ring.xof import PublicExpansion
from secureagg.session import Session
from secureagg.wire import Reader, Writer

__all__ = ["tally", "tally_clients", "verify_tally"]

MAGIC = b"SAta"
VERSION = 1
REPETITIONS = 2

_Frames = Callable[[int], "bytes | memoryview"]


@dataclass(frozen=True)
class _Entry:
    client_id: int
    digest: bytes
    products: tuple[int, ...]  # ⟨r, c_i⟩ per repetition and prime


def tally(
    session: Session, request: Request, total: _Frames, view: Callable[[int], ContributionView]
) -> Iterator[bytes]:
    """Yield the tally of the clients in `request`, piece by piece; `total` returns the packed frames of Σc."""

    def digests() -> Iterator[tuple[int, bytes]]:
        for client_id in request.clients:
            yield client_id, Header.from_bytes(view(client_id).header(), session).dealing().digest(session.sid)

    frames = range(len(session.plan.packing.frames))
    products = _InnerProducts(session, _challenge(session, digests(), (bytes(total(index)) for index in frames)))
    yield Writer().raw(MAGIC).integer(VERSION, 1).raw(session.sid).integer(len(request.clients), 4).getvalue()
    for client_id, digest in digests():  # read a second time rather than kept: nothing of a client stays in memory
        entry = Writer().integer(client_id, 4).raw(digest)
        for product in products.of(view(client_id).frame):
            entry.integer(product, 8)
        yield entry.getvalue()
    for index in frames:
        yield bytes(total(index))


def verify_tally(
    session: Session, encoded: bytes, mine: bytes | None = None, contributions: Iterable[bytes] = ()
) -> None:
    """Return None if the tally is consistent, and holds `mine` and each of `contributions` as they were sent.

    mine: the bytes this client got from `contribute`. contributions: what an auditor has of the others' bytes, whose
    signatures are verified. Raises: EncodingError if the bytes are not a tally of this session, or a contribution is
    not as its client signed it; UnattributedFault if Σ t_i ≠ ⟨r, Σc⟩, or if `mine` is missing or altered in it;
    FaultyClientError, or FaultyMemberError for a member's noise, if one of `contributions` is.
    """
    entries, total = _parse(session, encoded)
    packing = session.plan.packing
    digests = ((entry.client_id, entry.digest) for entry in entries)
    products = _InnerProducts(session, _challenge(session, digests, [bytes(total)]))
    expected = products.of(lambda index: _slice(total, packing.frames[index]))
    primes = packing.ring.primes * REPETITIONS
    for position, prime in enumerate(primes):
        if sum(entry.products[position] for entry in entries) % prime != expected[position]:
            raise UnattributedFault("the published sum is not the sum of the contributions it lists")
    by_client = {entry.client_id: entry for entry in entries}
    if mine is not None and (found := _holds(session, by_client, products, mine)) is not None:
        raise UnattributedFault(f"this client's own contribution {found}: the aggregator changed or dropped it")
    for payload in contributions:
        client_id = _authentic(session, payload)
        if (found := _holds(session, by_client, products, payload)) is not None:
            raise session.fault(client_id, f"its contribution {found}")


def tally_clients(session: Session, encoded: bytes) -> ClientIds:
    """Return whom a tally lists, unverified. Raises: EncodingError if the bytes are not a tally of this session."""
    return ClientIds(entry.client_id for entry in _parse(session, encoded)[0])


def _holds(session: Session, entries: dict[int, _Entry], products: _InnerProducts, payload: bytes) -> str | None:
    """Return what is wrong with this contribution's place in the tally, or None."""
    header = _header(session, payload)
    entry = entries.get(header.client_id)
    if entry is None:
        return "is not in the tally"
    if entry.digest != header.dealing().digest(session.sid):
        return "is not the one in the tally"
    view = ContributionView(session.plan, _reader(payload), len(payload))
    if entry.products != products.of(view.frame):
        return "does not enter the sum as it was sent"
    return None


def _authentic(session: Session, payload: bytes) -> int:
    """Return whose contribution this is, once its signature covers its ciphertext: an auditor has it from others."""
    header, view = _header(session, payload), ContributionView(session.plan, _reader(payload), len(payload))
    header.dealing().verify(session)
    for index, digest in enumerate(header.frames):
        if hashlib.sha256(view.frame(index)).digest() != digest:
            raise EncodingError(f"frame {index} of this contribution is not the one client {header.client_id} signed")
    return header.client_id


def _header(session: Session, payload: bytes) -> Header:
    try:
        require_possible_length(len(payload), session.plan)
    except EncodingError as error:
        raise ParameterError(str(error)) from error
    return Header.from_bytes(payload[: session.plan.header_bytes], session)


def _reader(payload: bytes) -> Callable[[int, int], memoryview]:
    view = memoryview(payload)
    return lambda offset, length: view[offset : offset + length]


def _slice(total: memoryview, frame: Frame) -> memoryview:
    return total[frame.start : frame.start + frame.size]


def _parse(session: Session, encoded: bytes) -> tuple[list[_Entry], memoryview]:
    reader = Reader(encoded, "tally")
    reader.magic(MAGIC, VERSION)
    if bytes(reader.raw(32)) != session.sid:
        raise reader.error("made for another session: plan, roster, prekeys, round number or model differ")
    primes = session.plan.packing.ring.primes * REPETITIONS
    entries: list[_Entry] = []
    for _ in range(reader.integer(4)):
        entry = _Entry(reader.integer(4), bytes(reader.raw(32)), tuple(reader.integer(8) for _ in primes))
        if entries and entry.client_id <= entries[-1].client_id:
            raise reader.error("clients are not in ascending order, each once")
        if any(product >= prime for product, prime in zip(entry.products, primes, strict=True)):
            raise reader.error("a residue is not below its prime")
        entries.append(entry)
    plan = session.plan
    clients = sum(entry.client_id < plan.clients for entry in entries)
    if entries:
        session.contributor(entries[-1].client_id)  # refuses an id that nobody has
    if clients < plan.quorum:
        raise reader.error(f"{clients} clients, of {plan.clients} with a quorum of {plan.quorum}")
    if plan.noise_members and len(entries) - clients < plan.committee.members_needed:
        raise reader.error(
            f"the noise of {len(entries) - clients} members, of whom {plan.committee.members_needed} must answer, each "
            "for a sum with its own"
        )
    total = reader.raw(session.plan.packing.ciphertext_bytes)
    reader.end()
    return entries, total


def _challenge(session: Session, digests: Iterable[tuple[int, bytes]], total: Iterable[bytes]) -> bytes:
    """Return what r is expanded from: everything the aggregator must have fixed before."""

    def parts() -> Iterator[bytes]:
        yield b"secureagg v1 tally"
        yield session.sid
        for client_id, digest in digests:
            yield client_id.to_bytes(4, "little") + digest
        yield digest_of(total)

    return digest_of(parts())


class _InnerProducts:
    """⟨r, c⟩ mod each prime, for each repetition, over all coefficients; r is 64-bit words mod q.

    Two arrays of a frame's size serve for all contributions.
    """

    def __init__(self, session: Session, challenge: bytes) -> None:
        self._packing = session.plan.packing
        self._expansions = [PublicExpansion(challenge, f"tally {repetition}") for repetition in range(REPETITIONS)]
        largest = max(frame.chunks * frame.coefficients for frame in self._packing.frames)
        self._terms = np.empty(largest * len(self._packing.ring.primes), dtype=np.uint64)
        self._words = np.empty_like(self._terms)

    def of(self, frame_bytes: _Frames) -> tuple[int, ...]:
        """Return the products of the ciphertext with these packed frames, repetition by repetition."""
        primes = self._packing.ring.primes * REPETITIONS
        products = [0] * len(primes)
        for index in range(len(self._packing.frames)):
            data = frame_bytes(index)
            terms = [term for expansion in self._expansions for term in self._of_frame(index, data, expansion)]
            products = [product + term for product, term in zip(products, terms, strict=True)]
        return tuple([product % q for product, q in zip(products, primes, strict=True)])

    def _of_frame(self, index: int, data: bytes | memoryview, expansion: PublicExpansion) -> list[int]:
        from secureagg.ring import ntt_kernels

        ring, frame = self._packing.ring, self._packing.frames[index]
        shape = (frame.chunks, len(ring.primes), frame.coefficients)
        terms, r = (buffer[: math.prod(shape)].reshape(shape) for buffer in (self._terms, self._words))
        residues.unpack(terms, data, ring.primes)
        expansion.fill(frame.first_chunk * ring.degree * len(ring.primes), r)
        r %= np.array(ring.primes, dtype=np.uint64)[None, :, None]
        ntt_kernels.multiply(terms, r, tables(ring.primes, ring.degree).constants)
        # Sums of 52-bit words would wrap; those of their halves of 26 bits do not.
        low = np.bitwise_and(terms, np.uint64(2**26 - 1), out=r).sum(axis=(0, 2), dtype=np.uint64)
        high = np.right_shift(terms, np.uint64(26), out=r).sum(axis=(0, 2), dtype=np.uint64)
        return [int(a) + (int(b) << 26) for a, b in zip(low, high, strict=True)]
