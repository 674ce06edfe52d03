"""The tally: honest ones pass, and every alteration is found by whoever the docs say finds it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest

import secureagg as sa
from secureagg.errors import EncodingError, FaultyClientError, ParameterError, UnattributedFault
from secureagg.exchange import Request
from secureagg.payload import ContributionView, Header
from secureagg.ring import residues
from secureagg.tally import _challenge, _parse, tally
from secureagg.wire import Writer
from tests.cheating import Parts
from tests.federation import TOYS, Federation, federation
from tests.ring import reference


@dataclass(frozen=True)
class Round:
    """A closed round: everybody, what they sent, and the aggregator's honest tally of clients 0, 1 and 2."""

    everyone: Federation
    payloads: list[bytes]
    tally: bytes

    @property
    def session(self) -> sa.Session:
        return self.everyone.session

    def made_of(self, payloads: list[bytes], total: list[bytes]) -> bytes:
        """Return what an aggregator publishes that was sent these payloads and claims this sum of them."""
        plan = self.everyone.plan
        views = [ContributionView(plan, lambda o, n, p=p: p[o : o + n], len(p)) for p in total]
        ids = [Header.from_bytes(view.header(), self.session).client_id for view in views]
        by_id = dict(zip(ids, views, strict=True))
        request = Request(self.session, 1, ids, by_id.__getitem__)
        return b"".join(tally(self.session, request, summed(self.everyone, payloads), by_id.__getitem__))


def summed(everyone: Federation, payloads: list[bytes]) -> Callable[[int], bytes]:
    """Return a function giving the packed frames of the sum of these payloads' ciphertexts."""
    packing, primes = everyone.plan.packing, everyone.plan.packing.ring.primes

    def frame_of(index: int) -> bytes:
        frame = packing.frames[index]
        out = np.zeros((frame.chunks, len(primes), frame.coefficients), dtype=np.uint64)
        for payload in payloads:
            residues.add_packed(out, Parts.of(everyone.session, payload).frames[index], primes)
        packed = bytearray(frame.size)
        residues.pack(packed, out, primes)
        return bytes(packed)

    return frame_of


@pytest.fixture(scope="module", params=["INSECURE_N16_Q52", "INSECURE_N64_Q104"])
def closed(request: pytest.FixtureRequest) -> Iterator[Round]:
    with federation(parameters=request.param, quorum=2) as everyone:
        payloads = [everyone.contribution(client_id) for client_id in range(4)]
        aggregator = sa.Aggregator(everyone.session, spool=everyone.directory / "spool")
        for payload in payloads[:3]:
            aggregator.admit(payload)
        asked = aggregator.close()
        result = aggregator.open([member.respond(everyone.session, asked) for member in everyone.members])
        assert result.tally is not None
        yield Round(everyone, payloads, result.tally)


def test_an_honest_tally_passes_for_everybody(closed: Round) -> None:
    sa.verify_tally(closed.session, closed.tally)
    for payload in closed.payloads[:3]:
        sa.verify_tally(closed.session, closed.tally, mine=payload)
    sa.verify_tally(closed.session, closed.tally, contributions=iter(closed.payloads[:3]))
    assert closed.made_of(closed.payloads[:3], closed.payloads[:3]) == closed.tally


def test_the_numbers_are_inner_products(closed: Round) -> None:
    """t_i = ⟨r, c_i⟩ with r expanded from the challenge, in plain integers."""
    entries, total = _parse(closed.session, closed.tally)
    sid, packing = closed.session.sid, closed.everyone.plan.packing
    hashed = hashlib.sha256(b"secureagg v1 tally" + sid)
    for entry in entries:
        hashed.update(entry.client_id.to_bytes(4, "little") + entry.digest)
    hashed.update(hashlib.sha256(total).digest())
    primes, frame = packing.ring.primes, packing.frames[0]
    assert len(packing.frames) == 1
    for entry, payload in zip(entries, closed.payloads[:3], strict=True):
        body, products = Parts.of(closed.session, payload).frames[0], []
        number = int.from_bytes(body, "little")
        for repetition in range(2):
            key = reference.public_key(hashed.digest(), f"tally {repetition}")
            sums = [0] * len(primes)
            for place in range(frame.chunks * len(primes) * frame.coefficients):
                p = place // frame.coefficients % len(primes)
                residue = (number >> (52 * place)) % (1 << 52)
                sums[p] = (sums[p] + residue * reference.keystream_word(key, place)) % primes[p]
            products += sums
        assert entry.products == tuple(products)


def altered_entry(closed: Round, encoded: bytes, place: int, **changes: object) -> bytes:
    """Return a tally with one entry changed, and nothing else made to fit."""
    entries, total = _parse(closed.session, encoded)
    entries[place] = replace(entries[place], **changes)
    writer = Writer().raw(b"SAta\x01").raw(closed.session.sid).integer(len(entries), 4)
    for entry in entries:
        writer.integer(entry.client_id, 4).raw(entry.digest)
        for product in entry.products:
            writer.integer(product, 8)
    return writer.raw(bytes(total)).getvalue()


def test_a_sum_changed_after_r_is_drawn_is_found_by_anyone(closed: Round) -> None:
    """r is drawn from Σc, so any other Σc asks for another r, under which the numbers are wrong."""
    flipped = bytearray(closed.tally)
    flipped[-40] ^= 1
    other_sum = closed.tally[: -closed.everyone.plan.packing.ciphertext_bytes] + b"".join(
        summed(closed.everyone, closed.payloads[:2])(index) for index in range(len(closed.everyone.plan.packing.frames))
    )
    for encoded in (bytes(flipped), other_sum, altered_entry(closed, closed.tally, 1, digest=bytes(32))):
        with pytest.raises(UnattributedFault, match="the published sum is not the sum of the contributions it lists"):
            sa.verify_tally(closed.session, encoded)


def test_each_number_counts(closed: Round) -> None:
    entries, _ = _parse(closed.session, closed.tally)
    for place in range(len(entries[0].products)):
        products = list(entries[0].products)
        products[place] = (products[place] + 1) % closed.everyone.plan.packing.ring.primes[0]
        with pytest.raises(UnattributedFault, match="not the sum of the contributions"):
            sa.verify_tally(closed.session, altered_entry(closed, closed.tally, 0, products=tuple(products)))


def test_each_number_has_one_encoding(closed: Round) -> None:
    """t and t + q are the same mod q; only t is accepted, up to q − 1."""
    entries, _ = _parse(closed.session, closed.tally)
    primes = closed.everyone.plan.packing.ring.primes * 2
    for place, prime in enumerate(primes):
        for value in (entries[0].products[place] + prime, prime):
            products = (*entries[0].products[:place], value, *entries[0].products[place + 1 :])
            with pytest.raises(EncodingError, match="a residue is not below its prime"):
                sa.verify_tally(closed.session, altered_entry(closed, closed.tally, 0, products=products))


@pytest.mark.parametrize("listed", [[0, 1, 2], [0, 1]])
def test_a_client_left_out_of_the_sum_finds_out(closed: Round, listed: list[int]) -> None:
    """Σc without client 2. Listed, its number must be 0 for the sum to fit; unlisted, it is missing."""
    total = [closed.payloads[i] for i in listed]
    honest = closed.made_of(closed.payloads[:2], total)
    if 2 in listed:
        with pytest.raises(UnattributedFault, match="not the sum of the contributions it lists"):
            sa.verify_tally(closed.session, honest)
        zero = tuple(0 for _ in _parse(closed.session, honest)[0][2].products)
        honest = altered_entry(closed, honest, 2, products=zero)
    sa.verify_tally(closed.session, honest, mine=closed.payloads[0])
    found = "does not enter the sum as it was sent" if 2 in listed else "is not in the tally"
    with pytest.raises(
        UnattributedFault, match=f"this client's own contribution {found}: the aggregator changed or dropped it"
    ):
        sa.verify_tally(closed.session, honest, mine=closed.payloads[2])
    with pytest.raises(FaultyClientError, match=f"client 2: its contribution {found}") as caught:
        sa.verify_tally(closed.session, honest, contributions=closed.payloads[:3])
    assert caught.value.client_id == 2


def test_a_client_counted_twice_finds_out(closed: Round) -> None:
    """Σc holds client 1 twice: its number must be doubled for the sum to fit."""
    encoded = closed.made_of([*closed.payloads[:3], closed.payloads[1]], closed.payloads[:3])
    with pytest.raises(UnattributedFault, match="not the sum of the contributions it lists"):
        sa.verify_tally(closed.session, encoded)
    entries, _ = _parse(closed.session, encoded)
    primes = closed.everyone.plan.packing.ring.primes * 2
    doubled = tuple(2 * t % q for t, q in zip(entries[1].products, primes, strict=True))
    encoded = altered_entry(closed, encoded, 1, products=doubled)
    sa.verify_tally(closed.session, encoded, mine=closed.payloads[0])
    with pytest.raises(UnattributedFault, match="own contribution does not enter the sum as it was sent"):
        sa.verify_tally(closed.session, encoded, mine=closed.payloads[1])


def test_a_contribution_changed_by_the_aggregator_is_found_by_its_client(closed: Round) -> None:
    """The aggregator exchanges client 1's contribution for another that it made up, digest and number to match."""
    replaced = closed.everyone.contribution(1)
    payloads = [closed.payloads[0], replaced, closed.payloads[2]]
    encoded = closed.made_of(payloads, payloads)
    sa.verify_tally(closed.session, encoded, mine=closed.payloads[0], contributions=payloads)
    with pytest.raises(UnattributedFault, match="own contribution is not the one in the tally"):
        sa.verify_tally(closed.session, encoded, mine=closed.payloads[1])


def test_an_auditor_takes_only_what_clients_signed(closed: Round) -> None:
    """Contributions come to the auditor from the aggregator: one it altered is not blamed on the client."""
    parts = Parts.of(closed.session, closed.payloads[1])
    forged = parts.signed(closed.session, closed.everyone.clients[0])
    other_frame = replace(parts, frames=Parts.of(closed.session, closed.payloads[0]).frames)
    unsigned = other_frame.signed(closed.session, closed.everyone.clients[1], digests=False)
    unsigned = unsigned[:41] + closed.payloads[1][41:105] + unsigned[105:]
    for payload, message in (
        (forged, "the signature of this contribution is wrong"),
        (unsigned, "frame 0 of this contribution is not the one client 1 signed"),
    ):
        payloads = [closed.payloads[0], payload, closed.payloads[2]]
        encoded = closed.made_of(payloads, payloads)
        sa.verify_tally(closed.session, encoded, mine=closed.payloads[0])
        with pytest.raises(EncodingError, match=message):
            sa.verify_tally(closed.session, encoded, contributions=payloads)


def test_a_client_that_is_not_in_the_sum_is_told(closed: Round) -> None:
    with pytest.raises(UnattributedFault, match="own contribution is not in the tally"):
        sa.verify_tally(closed.session, closed.tally, mine=closed.payloads[3])


def test_other_bytes_are_no_tally(closed: Round) -> None:
    size = 4 + 32 + 8 * 2 * len(closed.everyone.plan.packing.ring.primes)
    first = closed.tally[41 : 41 + size]
    too_large = first[:36] + b"\xff" * 8 + first[44:]
    cases = [
        (closed.tally[:-1], "truncated"),
        (closed.tally + b"\0", "trailing"),
        (closed.tally[:4] + b"\2" + closed.tally[5:], "version 2"),
        (closed.tally[:5] + bytes(32) + closed.tally[37:], "another session"),
        (closed.tally[:37] + b"\xff\xff\xff\xff" + closed.tally[41:], "truncated|ascending|below its prime"),
        (closed.tally[:41] + too_large + closed.tally[41 + size :], "a residue is not below its prime"),
        (closed.tally[:41] + first * 2 + closed.tally[41 + 2 * size :], "not in ascending order, each once"),
        (
            closed.tally[:37] + b"\1\0\0\0" + closed.tally[41 : 41 + size] + closed.tally[41 + 3 * size :],
            "1 clients, of 4",
        ),
        (
            closed.tally[: 41 + 2 * size] + b"\4\0\0\0" + closed.tally[45 + 2 * size :],
            "client 4 is not on the roster of 4",
        ),
        (closed.tally[:-7] + b"\xff" * 7, "not below their prime"),
        (b"", "truncated"),
    ]
    for encoded, message in cases:
        with pytest.raises(EncodingError, match=message):
            sa.verify_tally(closed.session, encoded)


def test_what_is_no_contribution_is_refused(closed: Round) -> None:
    for payload, error, message in (
        (closed.payloads[0][:-1], ParameterError, "bytes, \\d+ expected"),
        (b"", ParameterError, "0 bytes, \\d+ expected"),
        (b"x" + closed.payloads[0][1:], EncodingError, "starts with"),
        (closed.everyone.contribution(0, session=closed.everyone.session_of(2)), EncodingError, "another session"),
    ):
        for arguments in ({"mine": payload}, {"contributions": [payload]}):
            with pytest.raises(error, match=message):
                sa.verify_tally(closed.session, closed.tally, **arguments)


def test_without_a_spool_there_is_no_tally() -> None:
    with federation(parameters=TOYS[0]) as everyone:
        aggregator = everyone.aggregator()
        asked = aggregator.close()
        assert aggregator.open([member.respond(everyone.session, asked) for member in everyone.members]).tally is None


def test_the_challenge_binds_everything(closed: Round) -> None:
    base = _challenge(closed.session, [(0, b"a" * 32), (1, b"b" * 32)], [b"frame"])
    others = [
        _challenge(closed.everyone.session_of(2), [(0, b"a" * 32), (1, b"b" * 32)], [b"frame"]),
        _challenge(closed.session, [(0, b"a" * 32), (2, b"b" * 32)], [b"frame"]),
        _challenge(closed.session, [(0, b"a" * 32), (1, b"c" * 32)], [b"frame"]),
        _challenge(closed.session, [(0, b"a" * 32)], [b"frame"]),
        _challenge(closed.session, [(0, b"a" * 32), (1, b"b" * 32)], [b"grame"]),
    ]
    assert len({base, *others}) == 6
