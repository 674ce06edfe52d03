"""RoundPlan: every bound holds in exact integers, what breaks one is refused with the numbers, bytes have one form."""

from __future__ import annotations

import json
import math
import time
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secureagg import DistributedGaussian
from secureagg import bounds as bounds_module
from secureagg.errors import EncodingError, ParameterError
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.ring.params import PARAMETER_NAMES, is_prime
from tests.federation import TOYS, toy_plan

NAMES = (*PARAMETER_NAMES, *TOYS)


NOISE = DistributedGaussian(epsilon=0.5, delta=1e-5, rounds=10)


def flat(size: int, dtype: str = "float32") -> Layout:
    return Layout(((size,),), (dtype,))


@st.composite
def plans(draw: st.DrawFn) -> RoundPlan:
    """Any feasible plan."""
    clients = draw(st.integers(2, 2000))
    size = draw(st.integers(1, 9))
    size_of_layout = draw(st.sampled_from([1, 2, 15, 16, 17, 63, 64, 2047, 2048, 10**5, 10**9]))
    fields = {
        "layout": Layout(((size_of_layout,),), ("float64",)),  # which holds a clip of 10^150
        "clients": clients,
        "quorum": draw(st.integers(2, clients)),
        "l2_clip": draw(st.sampled_from([1.0, 0.3, 17, 1e-150, 1e150])),
        "value_bits": draw(st.integers(2, 24)),
        "committee": Committee(size, mode=draw(st.sampled_from(["optimistic", "robust"]))),
        "max_weight": draw(st.sampled_from([1, 2, 100, 2**20])),
        "parameters": draw(st.sampled_from(["auto", *NAMES])),
    }
    try:
        return RoundPlan(**fields, allow_insecure=True)
    except ParameterError:
        return RoundPlan(**fields | {"parameters": "N8192_Q208", "value_bits": 8, "max_weight": 1})


@given(plans())
@settings(max_examples=200)
def test_every_bound_holds_in_exact_integers(plan: RoundPlan) -> None:
    packing, q = plan.packing, plan.packing.ring.modulus
    largest = plan.clients * max(2 ** (plan.value_bits - 1) - 1, plan.max_weight)
    message = sum(largest << (packing.field_bits * k) for k in range(packing.fields))
    assert packing.field_limit == largest <= 2 ** (packing.field_bits - 1) - 1
    assert packing.delta > 2 * plan.error_bound
    assert 2 * packing.delta * message + packing.delta // 2 + plan.error_bound < q
    assert packing.fields * packing.field_bits <= q.bit_length()
    assert packing.delta < 2**32
    assert packing.coordinates == plan.layout.size + 1
    # Hoeffding's bound, as sub-Gaussian sums have it, over every coefficient and every key.
    variance = Fraction(plan.clients) * Fraction(6.6) ** 2
    for bound, places in (
        (plan.error_bound, packing.coefficients),
        ((plan.sharing.modulus - 1) // 2, plan.sharing.secrets),
    ):
        assert 2 * places * math.exp(-((bound + 1) ** 2) / 2 / float(variance)) <= 2**-40 * (1 + 1e-9)
    assert is_prime(plan.sharing.modulus) and plan.sharing.modulus > plan.committee.size
    revealed = packing.ring.degree * (1 + packing.chunks_per_key)
    width = 2 * math.sqrt(2) * math.sqrt(math.log(2 * revealed * (1 + 2.0**128)) / (2 * math.pi**2))
    assert width <= 6.6 * (1 + 1e-9)
    assert packing.chunks_per_key * packing.keys >= packing.chunks > packing.chunks_per_key * (packing.keys - 1)


@given(plans())
@settings(max_examples=100)
def test_one_field_more_would_not_fit(plan: RoundPlan) -> None:
    packing, q = plan.packing, plan.packing.ring.modulus
    message = sum(packing.field_limit << (packing.field_bits * k) for k in range(packing.fields + 1))
    error = plan.error_bound - plan.error_bound // 20  # fewer coefficients have a slightly smaller bound
    assert 2 * (2 * error + 1) * message >= q


@given(plans())
@settings(max_examples=100)
def test_canonical_bytes_come_back(plan: RoundPlan) -> None:
    encoded = plan.to_bytes()
    back = RoundPlan.from_bytes(encoded, allow_insecure=True)
    assert (back, hash(back), back.to_bytes(), back.digest()) == (plan, hash(plan), encoded, plan.digest())
    assert back.packing == plan.packing


def test_bytes_do_not_ask_for_a_toy_ring_by_themselves() -> None:
    with pytest.raises(EncodingError, match="allows toy parameters; only tests accept that, with allow_insecure=True"):
        RoundPlan.from_bytes(toy_plan().to_bytes())
    secure = toy_plan(parameters="N2048_Q52", allow_insecure=False)
    assert RoundPlan.from_bytes(secure.to_bytes()) == secure


def test_a_plan_chosen_and_the_same_plan_named_are_equal() -> None:
    chosen = toy_plan(parameters="auto", allow_insecure=False)
    named = toy_plan(parameters=chosen.packing.ring.name, allow_insecure=False)
    assert chosen == named and hash(chosen) == hash(named) and chosen.to_bytes() == named.to_bytes()
    assert chosen != toy_plan(parameters="N8192_Q208", allow_insecure=False)
    assert toy_plan(l2_clip=10) == toy_plan(l2_clip=10.0)
    assert toy_plan() != toy_plan(allow_insecure=True, quorum=3)


def test_the_bytes_are_these() -> None:
    assert toy_plan(layout=flat(2), value_bound=None).to_bytes() == (
        b'{"allow_insecure":true,"assumed_corrupt_clients":0,"clients":4,"committee":{"assumed_corrupt":0,"mode":'
        b'"optimistic","size":3,"threshold":3},"format":"secureagg plan v1","l2_clip":"0x1.4000000000000p+3","layout":'
        b'"0100000001010200000000000000","max_weight":1,"noise":null,"parameters":"INSECURE_N64_Q52","proofs":false,'
        b'"quorum":2,"rotate":false,"value_bits":12,"value_bound":null}'
    )


@pytest.mark.parametrize(
    ("clients", "value_bits", "size", "committee"),
    [
        (10, 16, 10**6, 3),
        (10, 16, 100, 3),
        (1000, 24, 10**6, 5),
        (100, 8, 3000, 100),
        (2, 2, 1, 1),
        (10**6, 24, 10**7, 254),
    ],
)
def test_auto_is_the_set_with_the_fewest_bytes(clients: int, value_bits: int, size: int, committee: int) -> None:
    fields = {"layout": flat(size), "clients": clients, "value_bits": value_bits, "committee": Committee(committee)}

    def total(name: str) -> int:
        try:
            plan = toy_plan(**fields, parameters=name, allow_insecure=False)
        except ParameterError:
            return 2**62
        return plan.packing.ciphertext_bytes + committee * plan.sharing.share_bytes

    chosen = toy_plan(**fields, parameters="auto", allow_insecure=False)
    assert chosen.packing.ring.name == min(PARAMETER_NAMES, key=total)
    assert chosen.packing.ring.is_secure
    assert "fewest bytes among the sets that fit" in chosen.report()


@pytest.mark.parametrize("dropped", ["quorum", "l2_clip", "committee", "layout"])
def test_fields_without_a_default_are_asked_for(dropped: str) -> None:
    fields = json.loads(toy_plan().to_bytes())
    del fields[dropped]
    with pytest.raises(EncodingError):
        RoundPlan.from_bytes(json.dumps(fields, sort_keys=True, separators=(",", ":")).encode(), allow_insecure=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clients": 1}, r"clients must be a whole number in \[2, 1000000\], not 1"),
        ({"clients": 10**6 + 1}, "not 1000001"),
        ({"clients": 4.0}, "clients must be a whole number"),
        ({"quorum": 1}, r"quorum must be a whole number in \[2, 4\], not 1"),
        ({"quorum": 5}, r"quorum must be a whole number in \[2, 4\], not 5"),
        ({"quorum": 3, "assumed_corrupt_clients": 2}, r"quorum ≥ 2 honest \+ corrupt clients fails: 3 < 2 \+ 2"),
        ({"assumed_corrupt_clients": -1}, r"assumed_corrupt_clients must be a whole number in \[0, 4\], not -1"),
        ({"assumed_corrupt_clients": 5}, r"in \[0, 4\], not 5"),
        ({"value_bits": 1}, r"value_bits must be a whole number in \[2, 24\], not 1"),
        ({"value_bits": 25}, r"value_bits must be a whole number in \[2, 24\], not 25"),
        ({"max_weight": 0}, r"max_weight must be a whole number in \[1, 2147483647\], not 0"),
        ({"max_weight": 2**31}, "not 2147483648"),
        ({"l2_clip": 0.0, "value_bound": None}, r"l2_clip must be a number in \[1e-150, 1e\+150\], not 0.0"),
        ({"l2_clip": 1e151, "value_bound": None}, r"l2_clip must be a number"),
        ({"l2_clip": math.nan}, "l2_clip must be a number in .* not nan"),
        ({"l2_clip": math.inf}, "l2_clip must be a number in .* not inf"),
        ({"l2_clip": 10**400}, "l2_clip must be a number"),
        ({"value_bound": 5e-324}, "value_bound must be a number"),
        ({"value_bound": -1.0}, "value_bound must be a number"),
        ({"value_bound": 11.0}, r"value_bound 11.0 > l2_clip 10.0"),
        ({"noise": 1.0}, "noise is a DistributedGaussian"),
        ({"proofs": 0}, "proofs is True or False, not 0"),
        ({"allow_insecure": 1}, "allow_insecure is True or False, not 1"),
        ({"allow_insecure": False}, "INSECURE_N64_Q52 is a toy set"),
        ({"parameters": "N1024_Q26"}, "no parameter set is called 'N1024_Q26'"),
        ({"layout": [np.zeros(3)]}, r"layout is a list, a Layout is expected: Layout.of\(weights\)"),
        ({"committee": 3}, r"committee is a int, a Committee is expected: Committee\(size\)"),
        ({"layout": flat(2**40 + 1)}, r"the layout's size d must be a whole number in \[1, 1099511627776\]"),
        (
            {"max_weight": 2**30, "clients": 2**18},
            r"INSECURE_N64_Q52: 2Δ·M \+ Δ/2 \+ E < q with Δ > 2E fails .*: W = 50 bits for max\(clients·C \+ noise, "
            r"clients·max_weight\)"
            r" = 281474976710656, log2 q = 52.0; use fewer value_bits",
        ),
        (
            {"max_weight": 2**31 - 1, "clients": 10**6, "parameters": "N2048_Q52"},
            r"N2048_Q52: .* W = 52 bits .* = 2147483647000000",
        ),
    ],
)
def test_what_cannot_work_is_refused_with_the_numbers(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        toy_plan(**changes)


@pytest.mark.parametrize(
    ("dtype", "changes", "reach"),
    [
        ("float16", {"l2_clip": 1e6, "value_bound": None}, r"1\.0005e\+06"),
        ("float16", {"l2_clip": 65504.0, "value_bound": None}, "65536"),  # a grid step above
        ("float32", {"l2_clip": 1e39, "value_bound": None}, r"1\.0005e\+39"),
        (
            "float16",
            {"l2_clip": 6e4, "value_bound": None, "noise": DistributedGaussian(epsilon=0.5, delta=1e-5, rounds=10)},
            r"\d",
        ),
    ],
)
def test_a_mean_that_its_dtype_could_not_hold_is_refused(dtype: str, changes: dict[str, Any], reach: str) -> None:
    """Honest clients would lose a round whose members have answered."""
    layout = Layout(((3,), (2,)), ("float64", dtype))
    with pytest.raises(ParameterError, match=rf"tensor 1 is {dtype}, which ends at .*, and a mean may reach {reach}"):
        toy_plan(layout=layout, **changes)
    toy_plan(layout=Layout(((3,), (2,)), ("float64", "float64")), **changes)


def test_the_largest_clip_that_a_dtype_holds() -> None:
    plan = toy_plan(layout=Layout(((3,),), ("float16",)), l2_clip=65504.0 - 32, value_bound=None)
    assert plan.quantiser.bound + 1 / plan.quantiser.scale <= 65504


def test_limits_themselves_are_allowed() -> None:
    for changes in (
        {"value_bound": 10.0},
        {"quorum": 2},
        {"quorum": 4, "assumed_corrupt_clients": 2},
        {"max_weight": 2**31 - 1},
    ):
        toy_plan(**changes, **({"parameters": "INSECURE_N64_Q208"} if "max_weight" in changes else {}))


def test_auto_says_why_no_set_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds_module, "SMOOTHING_BITS", 300)
    with pytest.raises(
        ParameterError, match=r"no parameter set fits: N2048_Q52: σ = 6.6 < 2√2·η for a single chunk.*; N8192"
    ):
        toy_plan(parameters="auto", allow_insecure=False)


@given(st.sampled_from(TOYS), st.integers(1, 400), st.integers(120, 145))
@settings(max_examples=100)
def test_as_few_keys_as_the_hint_allows(name: str, size: int, smoothing_bits: int) -> None:
    """With a stricter distance, one key serves fewer chunks; never fewer than it could."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds_module, "SMOOTHING_BITS", smoothing_bits)

        def allowed(chunks: int, degree: int) -> bool:
            exponent = smoothing_bits * math.log(2) + math.log(2 * degree * (1 + chunks))
            return 2 * math.sqrt(2) * math.sqrt(exponent / (2 * math.pi**2)) <= 6.6

        try:
            packing = toy_plan(parameters=name, layout=flat(size)).packing
        except ParameterError:
            assert not allowed(1, int(name.split("_")[1][1:]))
            return
        assert allowed(packing.chunks_per_key, packing.ring.degree)
        fewer = packing.keys - 1
        assert fewer == 0 or not allowed(-(-packing.chunks // fewer), packing.ring.degree)


def test_the_largest_model_is_planned_at_once() -> None:
    """d = 2^40 needs thousands of keys; finding how many takes no loop over them."""
    start = time.process_time()
    plan = toy_plan(layout=flat(2**40), parameters="N2048_Q52")
    assert plan.packing.keys > 1000
    assert RoundPlan.from_bytes(plan.to_bytes(), allow_insecure=True) == plan
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "altered",
    [
        lambda text: text.replace(b'":', b'": ', 1),
        lambda text: b" " + text,
        lambda text: text + b"\n",
        lambda text: text.replace(b'"clients":4', b'"clients":4,"clients":4'),
        lambda text: text.replace(b'"clients":4', b'"clients":4.0'),
        lambda text: text.replace(b'"clients":4', b'"clients":"4"'),
        lambda text: text.replace(b'"clients":4', b'"clients":1e400'),
        lambda text: text.replace(b'"clients":4', b'"clients":NaN'),
        lambda text: text.replace(b'"clients":4', b'"clients":' + b"9" * 5000),
        lambda text: text.replace(b'"clients":4,', b""),
        lambda text: text.replace(b'"clients":4', b'"clients":4,"surprise":1'),
        lambda text: text.replace(b'"proofs":false', b'"proofs":0'),
        lambda text: text.replace(b'"allow_insecure":true', b'"allow_insecure":1'),
        lambda text: text.replace(b'"noise":null', b'"noise":0'),
        lambda text: text.replace(b"0x1.4000000000000p+3", b"0x1.4p+3"),
        lambda text: text.replace(b"0x1.4000000000000p+3", b"0x1p+9999"),
        lambda text: text.replace(b'"0x1.4000000000000p+3"', b"10.0"),
        lambda text: text.replace(b'"threshold":3', b'"threshold":null'),
        lambda text: text.replace(b'"mode":"optimistic"', b'"mode":["optimistic"]'),
        lambda text: text.replace(b'"layout":"', b'"layout":"FF'),
        lambda text: text.replace(b'"layout":"', b'"layout":"zz'),
        lambda text: text.replace(b"plan v1", b"plan v2"),
        lambda text: text.replace(b"INSECURE_N64_Q52", b"auto"),
        lambda text: text.replace(b'"INSECURE_N64_Q52"', b"[]"),
        lambda text: text.replace(b"optimistic", b"optimist\\u0069c"),
        lambda text: text[:-1],
        lambda text: b"[" * 100_000,
        lambda text: b"[]",
        lambda text: b'"plan"',
        lambda text: b"null",
        lambda text: b"\xff\xfe",
        lambda text: b"",
    ],
)
def test_anything_but_the_canonical_form_is_refused(altered: Any) -> None:
    encoded = toy_plan().to_bytes()
    changed = altered(encoded)
    assert changed != encoded
    with pytest.raises(EncodingError, match=r"^(plan|layout): "):
        RoundPlan.from_bytes(changed, allow_insecure=True)


def test_bytes_per_client_by_hand() -> None:
    """N = 64, 3 fields: 19 coordinates fill 7 of the 64 coefficients of 52 bits; shares of 64 + 14 elements."""
    plan = toy_plan()
    assert (plan.packing.fields, plan.packing.coefficients, plan.sharing.repetitions) == (3, 64, 14)
    ciphertext, box, check = 64 * 52 // 8, (64 + 14) * 8 // 8 + 16, 3 * 14
    header = 4 + 1 + 32 + 4 + 64 + 32 + 32 * (1 + 3) + check
    assert (plan.header_bytes, plan.box_bytes) == (header, box)
    assert plan.bytes_per_client == header + ciphertext + 3 * box


def test_the_report_says_what_it_costs_and_does_not_do() -> None:
    report = toy_plan(max_weight=5).report()
    plan = toy_plan(max_weight=5)
    for text in (
        "18 values in 4 tensors, 4 clients, quorum 2",
        f"bytes per client: {plan.bytes_per_client:,}",
        "any 3 of 3 open the sum (optimistic)",
        "security: none, a toy set for tests",
        "nothing is differentially private",
        "3t > 2k + c: 9 > 6",
        f"Δ > 2E: {plan.packing.delta} > {2 * plan.error_bound}",
        "proofs: none",
    ):
        assert text in report
    secure = toy_plan(parameters="N4096_Q104").report()
    assert "134 bits classical in the MATZOV cost model, 105 in core-SVP" in secure


def test_a_plan_does_not_change() -> None:
    with pytest.raises(AttributeError):
        toy_plan().clients = 5  # type: ignore[misc]
    assert len({toy_plan(), toy_plan(), toy_plan(quorum=3)}) == 2


@pytest.mark.parametrize(("clients", "size"), [(100, 40_000), (1000, 250_000)])
def test_from_where_on_an_encrypted_update_is_smaller_than_the_plain_one(clients: int, size: int) -> None:
    """What the README says of 16 bits and five members."""
    plan = RoundPlan(layout=flat(size), clients=clients, quorum=2, l2_clip=1.0, value_bits=16, committee=Committee(5))
    assert plan.bytes_per_client < 4 * size
