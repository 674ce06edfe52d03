"""RoundPlan with proofs: the inequalities of docs/protocol.md in exact integers, what is refused, what it costs."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from secureagg import bounds as bounds_module
from secureagg.bounds import fit_proven
from secureagg.dp.quantise import norm_squared_bound
from secureagg.errors import EncodingError, ParameterError
from secureagg.packings import proven_choices
from secureagg.plan import Committee, RoundPlan
from secureagg.ring.bounds import tail_bound
from secureagg.ring.params import PRIMES
from tests.federation import toy_plan
from tests.test_plan import flat

Q = PRIMES[0]


def proven_plan(**changes: Any) -> RoundPlan:
    """Return a plan with proofs: a toy one unless a set is named."""
    fields = {"proofs": True, "parameters": "INSECURE_N64_Q52", "l2_clip": 1.0, "value_bound": None}
    return toy_plan(**fields | changes)


def million(**changes: Any) -> RoundPlan:
    """Return a plan for a million values on the real ring, with the committee of the README."""
    committee = Committee(size=5, threshold=4, assumed_corrupt=1)
    fields = {"layout": flat(10**6), "quorum": 5, "committee": committee, "parameters": "auto", "allow_insecure": False}
    return proven_plan(**fields | changes)


@st.composite
def proven_plans(draw: st.DrawFn) -> RoundPlan:
    """Any feasible plan with proofs."""
    clients = draw(st.integers(2, 300))
    fields = {
        "layout": flat(draw(st.sampled_from([1, 15, 64, 127, 2047, 4096, 10**5, 10**6]))),
        "clients": clients,
        "quorum": clients,
        "assumed_corrupt_clients": draw(st.integers(0, min(clients - 2, 20))),
        "l2_clip": draw(st.sampled_from([1.0, 0.3, 1e-150, 1e150])),
        "value_bits": draw(st.integers(2, 18)),
        "committee": Committee(draw(st.integers(1, 7)), mode=draw(st.sampled_from(["optimistic", "robust"]))),
        "max_weight": draw(st.sampled_from([1, 2, 100, 2**16])),
        "parameters": draw(st.sampled_from(["auto", "N2048_Q52", "INSECURE_N64_Q52", "INSECURE_N16_Q52"])),
    }
    share = draw(st.sampled_from([None, 1, 2, 8, 100]))
    fields["value_bound"] = None if share is None else fields["l2_clip"] / share
    try:
        return proven_plan(**fields)
    except ParameterError:
        reject()


@given(proven_plans())
@settings(max_examples=150, deadline=None)
def test_every_bound_holds_in_exact_integers(plan: RoundPlan) -> None:
    packing, statement, n, c = plan.packing, plan.statement, plan.clients, plan.assumed_corrupt_clients
    assert statement is not None
    limit, d, sent = 2 ** (plan.value_bits - 1) - 1, plan.layout.size, packing.coefficients
    squared, errors = statement.norm_bound, statement.error_bound
    assert squared == norm_squared_bound(plan.quantiser.scale * plan.l2_clip, d)
    x = 40 * math.log(2)
    assert errors == pytest.approx(6.6**2 * (sent + 2 * math.sqrt(sent * x) + 2 * x), rel=1e-12, abs=1)
    delta, largest_value = packing.delta, limit if plan.range_argument else math.isqrt(squared)
    steps = 1
    while (steps * delta) ** 2 < errors:  # ⌈B_e/Δ⌉
        steps += 1
    room = 2 ** (packing.field_bits - 1) - 1
    assert n * (largest_value + steps) + 1 <= packing.field_limit <= room
    assert n * (plan.max_weight + steps) + 1 <= packing.field_limit
    assert packing.field_bits * packing.fields <= 52
    message = sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields))
    error_root = math.isqrt(errors - 1) + 1
    assert 4 * (delta * message + n * error_root) + delta < 2 * Q
    assert plan.error_bound == tail_bound(6.6, n, sent, 40) and delta > 4 * plan.error_bound
    assert 8 * 4 * c * math.sqrt(errors) <= (delta - 4 * plan.error_bound) * math.sqrt(packing.key_coefficients)
    assert packing.steering >= n * steps + 1
    assert sent >= 2 * packing.ring.degree
    assert plan.coordinate_limit(n) == n * (largest_value + steps) + 1 <= packing.field_limit
    low, high = plan.weight_limits(n)
    assert 1 <= low <= n and n * plan.max_weight <= high <= packing.field_limit
    assert plan.sharing.modulus == Q and plan.sharing.repetitions == 3 and plan.committee.mode == "robust"
    assert statement.soundness_bits >= 100
    again = RoundPlan.from_bytes(plan.to_bytes(), allow_insecure=True)
    assert again == plan and (again.statement, again.digest()) == (statement, plan.digest())


@given(proven_plans())
@settings(max_examples=60, deadline=None)
def test_the_range_argument_is_used_where_it_saves_bytes(plan: RoundPlan) -> None:
    found, refusals = proven_choices(plan.parameters, plan.demand, plan.committee, allow_insecure=True)
    costs = {choice.statement.value_limit > 0: choice.total_bytes(plan.committee) for choice in found}
    assert len(found) + len(refusals) == 2
    assert plan.range_argument == (False not in costs or costs.get(True, math.inf) < costs[False])
    header = plan.bytes_per_client - costs[plan.range_argument]
    assert header == plan.header_bytes + 16 * plan.committee.size


@pytest.mark.parametrize(
    ("changes", "range_argument"),
    [
        ({"value_bits": 13, "clients": 100}, False),
        ({"value_bits": 16, "clients": 10}, False),
        ({"value_bits": 13, "clients": 100, "value_bound": 1 / 8}, True),
    ],
)
def test_a_million_values_take_two_fields_a_coefficient(changes: dict[str, Any], range_argument: bool) -> None:
    plan = million(**changes)
    assert (plan.packing.fields, plan.range_argument) == (2, range_argument)
    assert plan.packing.ring.name == "N2048_Q52" and plan.committee.mode == "robust"
    assert plan.bytes_per_client < 4.6 * 10**6
    without = fit_proven(plan.packing.ring, plan.demand, 4, range_argument=False)
    assert without.packing.fields == (1 if range_argument else 2)


def test_the_statement_holds_the_plans_numbers() -> None:
    plan = proven_plan(max_weight=7, value_bits=10, layout=flat(200))
    packing, statement = plan.packing, plan.statement
    assert statement is not None and plan.value_limit == 511
    assert (statement.degree, statement.prime, statement.keys) == (64, Q, packing.keys)
    assert (statement.chunks_per_key, statement.coefficients) == (packing.chunks_per_key, packing.coefficients)
    assert (statement.fields, statement.field_bits, statement.delta) == (
        packing.fields, packing.field_bits, packing.delta,
    )  # fmt: skip
    assert (statement.values, statement.max_weight, statement.value_limit) == (200, 7, 0)
    assert statement.threshold == plan.committee.members_needed
    assert packing.min_chunks_per_key == 2
    assert statement.norm_bound == int(511**2 + 50 + math.sqrt(20 * math.log(2)) * (511 + math.sqrt(200) / 2))
    plain = toy_plan()
    assert plain.statement is None and not plain.range_argument and plain.proof_bytes == 0
    assert plain.packing.min_chunks_per_key == 1 and plain.packing.steering == 0
    assert (plain.coordinate_limit(3), plain.weight_limits(3)) == (3 * plain.value_limit, (3, 3))


def test_bytes_per_client_by_hand() -> None:
    """N = 64: two whole chunks; shares of 64 + 3 elements of 52 bits; root and proof digest in the header."""
    plan = proven_plan()
    assert plan.packing.coefficients == 128 and plan.packing.keys == 1
    ciphertext, box, check = 128 * 52 // 8, -(-67 * 52 // 8) + 16, -(-3 * 3 * 52 // 8)
    header = 4 + 1 + 32 + 4 + 64 + 32 + 32 * (1 + 3) + check + 32 + 32
    assert (plan.header_bytes, plan.box_bytes) == (header, box)
    assert plan.statement is not None and plan.proof_bytes == plan.statement.proof_bytes > 0
    assert plan.bytes_per_client == header + ciphertext + 3 * box + plan.proof_bytes


def test_the_committee_is_robust_whatever_was_given() -> None:
    given_plan, robust = proven_plan(committee=Committee(3)), proven_plan(committee=Committee(3, mode="robust"))
    assert given_plan == robust and given_plan.to_bytes() == robust.to_bytes()
    assert json.loads(given_plan.to_bytes())["committee"]["mode"] == "robust"
    optimistic = given_plan.to_bytes().replace(b'"robust"', b'"optimistic"')
    with pytest.raises(EncodingError, match="not in canonical form"):
        RoundPlan.from_bytes(optimistic, allow_insecure=True)
    assert proven_plan() != toy_plan(l2_clip=1.0, value_bound=None)
    assert toy_plan().committee.mode == "optimistic"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parameters": "N4096_Q104"}, r"N4096_Q104: proofs need a modulus of one prime.*use N2048_Q52"),
        ({"parameters": "INSECURE_N64_Q208"}, "INSECURE_N64_Q208: proofs need a modulus of one prime"),
        ({"allow_insecure": False}, "INSECURE_N64_Q52 is a toy set"),
        (
            {"value_bits": 22, "clients": 10**6},
            r"INSECURE_N64_Q52: Δ > 4E and 4c·B_e/\(Δ − 4E\) ≤ √\(n/64\) fail even for one field a coefficient: "
            r"1000000 clients, c = 0 .*V = 2097\d\d\d.*; use fewer value_bits",
        ),
        ({"clients": 10**6, "max_weight": 2**31 - 1}, r"fail even for one field .* max_weight 2147483647"),
        ({"value_bits": 24, "value_bound": 1e-9, "clients": 2}, r"B² < q fails: B² = 2\^\d+ grid steps"),
        ({"l2_clip": 1e150, "value_bound": 1e-150, "value_bits": 24, "clients": 2}, "B² < q fails"),
        ({"value_bits": 24, "clients": 2}, r"no proof: 81·4\^m \+ 2\^\d+ < q fails"),
    ],
)
def test_what_cannot_be_proven_is_refused_with_the_numbers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        proven_plan(**changes)


def test_more_corrupt_clients_than_the_decoder_withstands_are_refused() -> None:
    """Four thousand coefficients, one field: the bound's own figure is the last that fits."""
    fields = {"layout": flat(100), "clients": 200, "quorum": 200, "value_bits": 16, "parameters": "N2048_Q52"}
    numbers = next(b.numbers for b in proven_plan(**fields).bounds if "corrupt clients cannot" in b.meaning)
    few = proven_plan(**fields, assumed_corrupt_clients=1).packing.fields
    assert numbers.startswith("0.0 ≤ 8.0, which ")
    fewest = [proven_plan(**fields, assumed_corrupt_clients=c).packing.fields for c in (1, 50, 198)]
    assert fewest == sorted(fewest, reverse=True) and fewest[0] == few


def test_two_chunks_a_key_must_be_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "SMOOTHING_BITS", 300)
    with pytest.raises(ParameterError, match=r"σ = 6.6 < 2√2·η for 2 chunks"):
        proven_plan()


@pytest.mark.parametrize("smoothing_bits", [144, 145, 146])
def test_several_keys_have_two_chunks_each(monkeypatch: pytest.MonkeyPatch, smoothing_bits: int) -> None:
    monkeypatch.setattr(bounds_module, "SMOOTHING_BITS", smoothing_bits)
    plan = proven_plan(layout=flat(5000), value_bits=8)
    packing, statement = plan.packing, plan.statement
    assert packing.keys > 1 and packing.key_coefficients >= 2 * 64
    assert statement is not None and statement.coefficients == packing.chunks * 64
    assert (statement.keys, statement.chunks_per_key) == (packing.keys, packing.chunks_per_key)
    assert plan.sharing.secrets == packing.keys * 64


def test_the_report_says_what_is_proven_and_what_not() -> None:
    plan = million(value_bits=13, clients=100, value_bound=1 / 8, assumed_corrupt_clients=3, max_weight=9)
    statement, report = plan.statement, plan.report()
    assert statement is not None
    bound = math.sqrt(statement.norm_bound)
    steered = math.sqrt(statement.error_bound) / (statement.delta / 2 - plan.error_bound)
    for text in (
        "N2048_Q52 (the set that proofs work on)",
        f"proofs: {plan.proof_bytes:,} bytes a client, to {statement.soundness_bits:.1f} bits of soundness",
        *(f"{name} {bits:.1f}" for name, bits in statement.soundness_terms.items()),
        f"B + B_e/(Δ/2 − E) = {bound:.2f} + {steered:.2f}",
        f"{(bound + steered) / (4095 * 8):.4f} of l2_clip",
        "|v| ≤ V = 4095, with the range argument, for the fewest bytes",
        "any vector within that bound, whatever its data, with any weight in [1, 9]",
        "any 4 of 5 open the sum (robust)",
        "3 corrupt clients cannot spoil the sum: 4c·B_e/(Δ − 4E) ≤ √(n/64)",
        f"Δ > 4E: {plan.packing.delta} > {4 * plan.error_bound}",
        f"p = q: {Q} = {Q}",
        f"p > k: {Q} > 5",
        "nothing is differentially private",
    ):
        assert text in report
    assert "proofs: none" not in report
    alone = million(value_bits=16, clients=10).report()
    assert "without the range argument" in alone
    needed = million(value_bits=8, clients=10**5, value_bound=1 / 4000)
    assert needed.range_argument and "fail even for one field a coefficient" in needed.report()


@pytest.mark.parametrize("values", [1, 100, 127, 128, 129, 255, 256, 1000])
def test_errors_cannot_steer_the_sum_of_the_weights(values: int) -> None:
    """With weights the last coordinate stands in a field above the lowest, or Δ leaves all errors together no step."""
    plan = proven_plan(layout=flat(values), max_weight=50, value_bits=4, clients=8)
    packing, statement = plan.packing, plan.statement
    assert statement is not None
    assert packing.weight_field > 0 or 2 * 8 * math.sqrt(statement.error_bound) < packing.delta
    frame = packing.frames[packing.weight_frame]
    first, last = packing.frame_coordinates(frame)
    assert first <= values < last == values + 1
    chunk, within = divmod(values, packing.fields * 64)
    assert packing.weight_field == within // min(64, packing.coefficients - 64 * chunk)
    assert plan.weight_limits(5) == (5, 250) and packing.frame_count == len(packing.frames)


def test_bytes_from_outside_cannot_move_a_terminal() -> None:
    encoded = proven_plan().to_bytes().replace(b'"mode"', b'"\\u001b[2Jmode"')
    with pytest.raises(EncodingError) as caught:
        RoundPlan.from_bytes(encoded, allow_insecure=True)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("max_weight", [1, 100])
def test_a_packing_in_which_errors_reach_the_weight_is_not_taken(max_weight: int) -> None:
    """737283 values leave four coordinates for the last chunk: with most fields, the weight is in the lowest."""
    plan = million(
        layout=flat(737283), value_bits=8, value_bound=0.1, clients=5, quorum=3,
        max_weight=max_weight, assumed_corrupt_clients=1,
    )  # fmt: skip
    statement = plan.statement
    assert statement is not None
    reached = plan.packing.weight_field == 0 and 2 * 5 * math.sqrt(statement.error_bound) >= plan.packing.delta
    assert reached == (max_weight == 1)
