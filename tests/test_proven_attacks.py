"""Who cheats in a round with proofs: each lie is signed and otherwise honest, and is refused with its client's name,
or does what the protocol says it may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import secureagg as sa
from secureagg.contribution import write_contribution
from secureagg.errors import EncodingError, FaultyClientError, ParameterError
from secureagg.grid import GridUpdate
from tests.federation import Federation, frames_of, same, toy_update
from tests.proving import FIVE, finished, forged, honest_grid, parts_of, proven_federation
from tests.zk.cheating import PRODUCT, SUM
from tests.zk.lying import Claim, coordinate_place

UNSIGNED = "the signature of this"
LIAR = 2


@pytest.fixture(scope="module")
def common() -> Iterator[Federation]:
    """Nobody answers in this one, so that it serves many tests."""
    with proven_federation(committee=FIVE, max_weight=3) as made:
        yield made


@pytest.fixture
def everyone() -> Iterator[Federation]:
    """Five members, any four of whom open the sum; one may be corrupt."""
    with proven_federation(committee=FIVE) as made:
        yield made


def refuse(everyone: Federation, payload: bytes, why: str, client_id: int = LIAR) -> None:
    """Assert that an aggregator refuses this, blames this client, and goes on as if nothing had been."""
    aggregator = everyone.aggregator([0])
    before = frames_of(aggregator)
    with pytest.raises(FaultyClientError) as caught:
        aggregator.admit(payload)
    assert caught.value.client_id == client_id and why in caught.value.reason
    assert aggregator.clients == (0,)
    assert frames_of(aggregator) == before


def lie(everyone: Federation, why: str, **changes: Any) -> None:
    payload = forged(everyone, LIAR, **changes).signed(everyone.session, everyone.clients[LIAR])
    refuse(everyone, payload, why)


# What clients may send.


def test_an_honest_forgery_is_let_in(everyone: Federation) -> None:
    """The cheats below are honest but for one thing: without it, they are in the sum."""
    aggregator = everyone.aggregator([0, 1])
    aggregator.admit(forged(everyone, LIAR).signed(everyone.session, everyone.clients[LIAR]))
    assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1, LIAR]))


def scaled(everyone: Federation) -> list[int]:
    return [20 * v for v in honest_grid(everyone, LIAR)]


def noisy(everyone: Federation) -> list[int]:
    return (np.array(honest_grid(everyone, LIAR)) + np.random.default_rng(5).integers(-900, 900, 18)).tolist()


def spread(everyone: Federation) -> list[int]:
    """Barely too long: one grid step more in one coordinate than the bound has room for."""
    bound = everyone.plan.statement.norm_bound
    root = int(bound**0.5)
    return [root, int((bound - root * root) ** 0.5) + 1, *[0] * 16]


BEYOND = {
    "scaled": scaled,
    "noisy": noisy,
    "barely": spread,
    "one coordinate": lambda everyone: [*[0] * 17, int(everyone.plan.statement.norm_bound**0.5) + 1],
    "the end of the grid": lambda everyone: [everyone.plan.value_limit] * 18,
}


@pytest.mark.parametrize("grid", BEYOND.values(), ids=BEYOND)
@pytest.mark.parametrize(("repair", "why"), [("digits", PRODUCT), ("bits", SUM)])
def test_an_update_beyond_the_bound_is_refused(
    common: Federation, grid: Callable[[Federation], list[int]], repair: Any, why: str
) -> None:
    """Committed and encrypted as it is; what its squared norm lacks in bits is hidden in a digit, or left out."""
    values = grid(common)
    assert sum(v * v for v in values) > common.plan.statement.norm_bound
    lie(common, why, grid=values, repair=repair)


def test_the_longest_update_is_let_in(everyone: Federation) -> None:
    """B² exactly, in one coordinate and a rest: the bound is inclusive, and the sum is right."""
    bound = everyone.plan.statement.norm_bound
    values = [int(bound**0.5)]
    while (rest := bound - sum(v * v for v in values)) > 0:
        values.append(int(rest**0.5))
    values += [0] * (18 - len(values))
    aggregator = everyone.aggregator([0])
    payload = forged(everyone, LIAR, grid=values).signed(everyone.session, everyone.clients[LIAR])
    aggregator.admit(payload)
    mean = finished(everyone, aggregator).mean
    first = (values[0] + honest_grid(everyone, 0)[0]) / (2 * everyone.plan.quantiser.scale)
    assert float(mean[0][0, 0]) == pytest.approx(first, rel=1e-6)


class TwoFaced:
    """A grid that encrypts one vector and has another, clipped one proven; or the same with the weight."""

    def __init__(self, honest: GridUpdate, sent: list[int], weight: int) -> None:
        self.weight, self.values, self._sent = honest.weight, honest.values, np.array([*sent, weight])

    def between(self, first: int, last: int) -> np.ndarray:
        return self._sent[first:last]


@pytest.mark.parametrize("lies_about", ["values", "one value", "weight"])
def test_a_proof_of_another_vector_than_is_encrypted_is_refused(common: Federation, lies_about: str) -> None:
    """The library's own client, its dealing, prover and signature, but for the grid it is given."""
    session, identity = common.session, sa.Identity(common.clients[LIAR].to_seed())
    grid = GridUpdate(common.plan, common.plan.layout, common.update(LIAR), 1.0, 1, np.random.default_rng(LIAR))
    sent = {"values": scaled(common), "one value": [*grid.values[:-1], grid.values[-1] + 1]}.get(
        lies_about, grid.values.tolist()
    )
    payload = bytearray(common.plan.bytes_per_client)

    def write(offset: int, data: bytes | bytearray) -> None:
        payload[offset : offset + len(data)] = data

    write_contribution(
        session,
        session.client_id(identity.public),
        identity,
        TwoFaced(grid, sent, 2 if lies_about == "weight" else 1),
        write,
    )
    refuse(common, bytes(payload), SUM)


@pytest.mark.parametrize("weight", [0, -1, 4, 2**31])
@pytest.mark.parametrize("repair", ["digits", "bits"])
def test_a_weight_outside_its_range_is_refused(common: Federation, weight: int, repair: Any) -> None:
    lie(common, SUM if repair == "bits" else PRODUCT, weight=weight, repair=repair)


def test_a_large_error_is_refused_and_the_largest_is_not(everyone: Federation) -> None:
    bound = everyone.plan.statement.error_bound
    lie(everyone, PRODUCT, errors={40: int(bound**0.5) + 1})
    zero = dict.fromkeys(range(everyone.plan.packing.coefficients), 0)
    aggregator = everyone.aggregator([0, 1])
    payload = forged(everyone, LIAR, errors=zero | {18: int(bound**0.5)})
    aggregator.admit(payload.signed(everyone.session, everyone.clients[LIAR]))
    assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1, LIAR]))


@pytest.mark.parametrize("place", [9, 30, 127])
def test_a_filled_padding_is_refused(common: Federation, place: int) -> None:
    """Nothing is committed for coordinates behind the weight, which is field 0 of coefficient 18: they are zero."""
    packing = common.plan.packing
    assert (packing.coefficients, packing.key_coefficients) == (128, 128)
    lie(common, SUM, added={place: packing.delta << packing.field_bits})


# Proofs of something else.


def stolen(everyone: Federation, payload: bytes, session: sa.Session | None = None) -> bytes:
    """Return somebody's whole contribution under the liar's name, properly signed by it."""
    parts = parts_of(session or everyone.session, payload)
    moved = replace(parts, header=replace(parts.header, client_id=LIAR))
    return moved.signed(everyone.session, everyone.clients[LIAR])


def test_a_copied_contribution_and_proof_are_refused(common: Federation) -> None:
    refuse(common, stolen(common, common.contribution(0)), "proof: ")


@pytest.mark.parametrize("taken", ["proof", "proof and commitment", "all but the boxes", "all but the frames"])
@pytest.mark.parametrize("owner", [0, LIAR])
def test_parts_of_another_contribution_are_refused(common: Federation, taken: str, owner: int) -> None:
    """Of another client, or of another contribution of one's own: whatever is taken over is not about this one."""
    mine, other = (parts_of(common.session, common.contribution(i)) for i in (LIAR, owner))
    mixed = replace(mine, proof=other.proof)
    if taken != "proof":
        mixed = replace(mixed, header=replace(mixed.header, commitment=other.header.commitment))
    if taken.startswith("all"):
        header = replace(mixed.header, check=other.header.check, ephemeral=other.header.ephemeral)
        kept = {"boxes": mine.boxes} if "boxes" in taken else {"frames": mine.frames}
        mixed = replace(replace(other, **kept), header=header)
    refuse(common, mixed.signed(common.session, common.clients[LIAR]), "proof: ")


def other_sessions(everyone: Federation) -> dict[str, sa.Session]:
    model = [tensor.copy() for tensor in everyone.model]
    model[0][0, 0] += 1
    plan = replace(everyone.plan, quorum=3)
    assert plan.statement == everyone.plan.statement
    reordered = sa.Roster([c.public for c in everyone.clients[::-1]], [m.public for m in everyone.members])
    return {
        "round": everyone.session_of(2),
        "plan": everyone.session_of(1, plan=plan),
        "model": everyone.session_of(1, model=model),
        "roster": everyone.session_of(1, roster=reordered),
    }


@pytest.mark.parametrize("part", ["round", "plan", "model", "roster"])
def test_a_contribution_to_another_session_is_refused(common: Federation, part: str) -> None:
    """As it is: it names its session. Its proof in a new header, signed for this one: it is about the other."""
    session = other_sessions(common)[part]
    payload = common.contribution(LIAR, session=session)
    with pytest.raises(EncodingError, match="made for another session"):
        common.aggregator([0]).admit(payload)
    refuse(common, stolen(common, payload, session), "proof: ")


@pytest.mark.parametrize("field", ["commitment", "proof", "check", "ephemeral"])
def test_a_swapped_field_of_the_header_is_refused(common: Federation, field: str) -> None:
    """Taken from another client's header, and signed; unsigned it is the signature that fails."""
    mine, other = (parts_of(common.session, common.contribution(i)) for i in (LIAR, 0))
    mixed = replace(mine, header=replace(mine.header, **{field: getattr(other.header, field)}))
    why = "the proof is not the one that was signed" if field == "proof" else "proof: "
    refuse(common, mixed.signed(common.session, common.clients[LIAR], digests=False), why)
    unsigned = mixed.header.to_bytes(common.session.sid) + b"".join([*mine.frames, *mine.boxes, mine.proof])
    refuse(common, unsigned, UNSIGNED)


def test_a_share_check_that_is_not_canonical_is_refused(common: Federation) -> None:
    """Without proofs members would complain; with them it is part of what is proven, and q itself is no element."""
    parts = forged(common, LIAR)
    header = replace(parts.header, check=b"\xff" * len(parts.header.check))
    payload = replace(parts, header=header).signed(common.session, common.clients[LIAR])
    refuse(common, payload, "a field element is not in canonical form")


def test_a_proof_for_fewer_values_is_refused(common: Federation) -> None:
    """Seventeen values and a weight, in a proof of the same length: the statement is absorbed first."""
    fewer = replace(common.plan.statement, values=17)
    assert fewer.shape == common.plan.statement.shape and fewer.proof_bytes == common.plan.proof_bytes

    def truncated(claim: Claim) -> Claim:
        case = replace(claim.case, statement=fewer, witness=replace(claim.case.witness, values=np.zeros(17, np.int64)))
        return replace(Claim.of(case), ciphertext=claim.ciphertext)

    lie(common, "proof: ", grid=[0] * 17 + [1], weight=0, claim=truncated)


def test_a_contribution_counts_once(everyone: Federation) -> None:
    payloads = [everyone.contribution(i) for i in (0, 1)]
    again = everyone.contribution(1)  # as fresh, and as true
    aggregator = sa.Aggregator(everyone.session)
    for payload in payloads:
        aggregator.admit(payload)
    for payload in (payloads[1], again):
        with pytest.raises(FaultyClientError, match="client 1: a contribution of this client is already admitted"):
            aggregator.admit(payload)
    assert same(finished(everyone, aggregator).mean, everyone.expected([0, 1]))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_refused_on_the_client(everyone: Federation, value: float) -> None:
    """Before anything is claimed: the same identity can send a repaired update."""
    update, identity = everyone.update(LIAR), sa.Identity(everyone.clients[LIAR].to_seed())
    update[0][1, 1] = value
    with pytest.raises(ParameterError, match="tensor 0 holds NaN or an infinity; nothing was sent"):
        sa.contribute(everyone.session, identity, update)
    aggregator = everyone.aggregator([0])
    aggregator.admit(sa.contribute(everyone.session, identity, toy_update(1)))
    with pytest.raises(ParameterError, match="already"):
        sa.contribute(everyone.session, identity, toy_update(1))


@pytest.mark.parametrize("direction", [-1, 1])
def test_errors_that_steer_the_weight_do_not_change_the_mean(direction: int) -> None:
    """Where Δ/2 < B_e, an error within its proven bound rounds the sum of the weights to another."""
    changes = {"layout": sa.Layout.of([np.zeros(5888)]), "l2_clip": 20.0, "value_bits": 8, "value_bound": 20.0}
    with proven_federation(**changes) as everyone:
        packing = everyone.plan.packing
        error = direction * (packing.delta // 2 + 40)  # behind which honest errors of two others do not bring it
        assert error * error < everyone.plan.statement.error_bound
        at, field = coordinate_place(everyone.plan.statement, 5888)
        assert field == 0  # the lowest, which errors carry into
        errors = dict.fromkeys(range(packing.coefficients), 0) | {at: error}
        aggregator = everyone.aggregator([0, 1])
        aggregator.admit(forged(everyone, LIAR, errors=errors).signed(everyone.session, everyone.clients[LIAR]))
        result = finished(everyone, aggregator)
        assert result.total_weight == 3 and same(result.mean, everyone.expected([0, 1, LIAR]))
