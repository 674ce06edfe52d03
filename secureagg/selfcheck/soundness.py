"""Attacks on proofs: every lie is told by a client who then goes on honestly, and is refused with its name."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from secureagg.aggregator import Aggregator
from secureagg.errors import FaultyClientError
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan
from secureagg.selfcheck.forgery import forged, truth
from secureagg.selfcheck.law import Case, Law, LawBroken, require
from secureagg.selfcheck.parties import Parties, gathered
from secureagg.zk.statement import Statement
from secureagg.zk.validity import Witness

__all__ = ["LAWS", "LIAR", "attack_plan", "honest_values", "require_refused"]

LIAR = 1  # the client that lies

_Integers = NDArray[np.int64]
_Tell = Callable[[Witness], Witness]


def attack_plan(
    random: np.random.Generator, *, max_weight: int = 3, ranged: bool = False, corrupt: int = 1
) -> RoundPlan:
    """Return a small plan with proofs: three clients, five members, any four of whom open the sum.

    ranged: with the range argument, which a plan asks for where it saves bytes: among many values, far smaller than
    the clip. corrupt: members assumed so.
    """
    return RoundPlan(
        layout=Layout(((3000 if ranged else int(random.integers(70, 130)),),), ("float64",)),
        clients=3,
        quorum=2,
        l2_clip=64.0 if ranged else 1.0,
        value_bound=1 / 64 if ranged else None,
        value_bits=8 if ranged else int(random.integers(8, 12)),
        committee=Committee(5, threshold=4, assumed_corrupt=corrupt),
        max_weight=max_weight,
        proofs=True,
        parameters="INSECURE_N64_Q52",
        allow_insecure=True,
    )


def honest_values(plan: RoundPlan, random: np.random.Generator) -> _Integers:
    """Return grid values of about half the clip's norm."""
    statement = _statement(plan)
    limit = max(1, int(math.sqrt(statement.norm_bound / statement.values) / 2))
    limit = min(limit, plan.value_limit)
    return random.integers(-limit, limit, statement.values, dtype=np.int64, endpoint=True)


def require_refused(parties: Parties, payload: bytes, what: str) -> None:
    """Raise LawBroken unless an aggregator refuses the payload for its proof, and blames the client that lied."""
    try:
        Aggregator(parties.session).admit(payload)
    except FaultyClientError as error:
        named = error.client_id == LIAR and error.reason.startswith("proof: ")
        require(named, f"{what}: refused, but not for the proof of client {LIAR}")
        return
    raise LawBroken(f"{what} was admitted")


def _statement(plan: RoundPlan) -> Statement:
    assert plan.statement is not None
    return plan.statement


def _attack(case: Case, parties: Parties, what: str, values: _Integers, weight: int = 1, tell: _Tell = truth) -> None:
    hiding = case.number % 2 == 1
    payload = forged(parties.session, parties.clients[LIAR], values, weight, tell=tell, hiding=hiding)
    require_refused(parties, payload, f"{what}, {'hidden in a digit' if hiding else 'with the lowest bits'}")


def _control(case: Case) -> None:
    plan = attack_plan(case.random, ranged=case.number % 2 == 1)
    with gathered(plan) as parties:
        values, weight = honest_values(plan, case.random), int(case.random.integers(1, 3, endpoint=True))
        payload = forged(parties.session, parties.clients[LIAR], values, weight, hiding=case.number % 4 < 2)
        require(Aggregator(parties.session).admit(payload) == LIAR, "an honest forgery was counted for another client")


def _long_vector(case: Case) -> None:
    """From one grid step beyond the bound to a thousand times it, spread in any way."""
    plan = attack_plan(case.random)
    statement = _statement(plan)
    direction = case.random.normal(size=statement.values) * (
        case.random.random(statement.values) < case.random.random()
    )
    direction[int(case.random.integers(statement.values))] += 1.0
    factor = 1 + float(10 ** case.random.uniform(-4, -1 if case.number % 4 < 2 else 3))
    length = factor * math.sqrt(statement.norm_bound) / float(np.linalg.norm(direction))
    values = np.rint(length * direction).astype(np.int64)
    where = int(np.abs(values).argmax())
    while int(values @ values) <= statement.norm_bound:
        values[where] += 1 if values[where] >= 0 else -1
    with gathered(plan) as parties:
        _attack(
            case, parties, f"a vector of {math.sqrt(int(values @ values) / statement.norm_bound):.4f} bounds", values
        )


def _short_mod_q(case: Case) -> None:
    """Vectors whose squared norm is small mod q alone: fractions, and multiples of a root of −1."""
    plan = attack_plan(case.random)
    statement = _statement(plan)
    q, places = statement.prime, case.random.permutation(statement.values)
    values = np.zeros(statement.values, dtype=np.int64)
    if case.random.random() < 0.5:
        power = int(case.random.integers(2, 4))
        count = 4**power
        values[places[:count]] = -((q - 1) // 2**power) * case.random.choice([-1, 1], count)  # 2^−power mod q
    else:
        root, other = pow(7, (q - 1) // 4, q), 1 << 51  # 7 is no square mod q
        while not abs(other) < 1 << 50:
            entry = int(case.random.integers(1 << 30, 1 << 50))
            other = entry * root % q
            other -= q if other > q // 2 else 0
        values[places[:2]] = entry, other
    require(sum(v * v for v in values.tolist()) % q <= statement.norm_bound, "this lie is none")
    with gathered(plan) as parties:
        _attack(case, parties, "a vector that is short mod q alone", values)


def _long_errors(case: Case) -> None:
    """Tell other values, and errors that make up for them: the ciphertext is what it should be of both."""
    plan = attack_plan(case.random)
    statement, values = _statement(plan), honest_values(plan, case.random)
    coordinate = int(case.random.integers(statement.values))
    chunk, within = divmod(coordinate, statement.fields * statement.degree)
    size = min(statement.degree, statement.coefficients - chunk * statement.degree)
    place, step = chunk * statement.degree + within % size, statement.delta << statement.field_bits * (within // size)
    sign = -1 if values[coordinate] > 0 else 1  # towards zero, so that the values stay within their bound
    moves = math.isqrt(statement.error_bound) // step + 2

    def tell(witness: Witness) -> Witness:
        told, errors = witness.values.copy(), witness.errors.copy()
        told[coordinate] += sign * moves
        errors[place] -= sign * moves * step
        return replace(witness, values=told, errors=errors)

    with gathered(plan) as parties:
        _attack(case, parties, "errors beyond their bound", values, tell=tell)


def _weight(case: Case) -> None:
    max_weight = int(case.random.choice([1, 3, 4, 100]))
    plan = attack_plan(case.random, max_weight=max_weight)
    weight = int(case.random.choice([0, -1, max_weight + 1, 2 * max_weight + 1, 1 << 40]))
    with gathered(plan) as parties:
        _attack(
            case, parties, f"a weight of {weight} within [1, {max_weight}]", honest_values(plan, case.random), weight
        )


def _range(case: Case) -> None:
    """One coordinate beyond the range, in a vector within the bound."""
    plan = attack_plan(case.random, ranged=True)
    statement = _statement(plan)
    require(plan.range_argument, "the plan asks for no range argument")
    values = np.zeros(statement.values, dtype=np.int64)
    beyond = plan.value_limit + int(case.random.choice([1, 2, 5]))
    values[int(case.random.integers(statement.values))] = beyond * int(case.random.choice([-1, 1]))
    require(beyond * beyond <= statement.norm_bound, "this lie is none")
    with gathered(plan) as parties:
        _attack(case, parties, f"a coordinate of {beyond}, beyond {plan.value_limit}", values)


def _two_faced(case: Case) -> None:
    """Commit to one thing, and encrypt or deal another that differs in one entry."""
    plan = attack_plan(case.random)
    what = ("values", "errors", "key", "polynomials", "masks", "weight")[case.number % 6]
    random, q = case.random, _statement(plan).prime

    def tell(witness: Witness) -> Witness:
        values, errors = witness.values.copy(), witness.errors.copy()
        polynomials, masks, weight = witness.polynomials.copy(), witness.masks.copy(), witness.weight
        match what:
            case "values":
                values[random.integers(values.size)] += 1
            case "errors":
                errors[random.integers(errors.size)] += 1
            case "weight":
                weight = 3 - weight
            case _:
                matrix = masks if what == "masks" else polynomials
                row = 0 if what == "key" else random.integers(1, len(matrix))
                column = random.integers(matrix.shape[1])
                matrix[row, column] = (int(matrix[row, column]) + 1) % q
        return Witness(values, errors, polynomials, masks, weight)

    with gathered(plan) as parties:
        _attack(case, parties, f"a proof of other {what} than were sent", honest_values(plan, random), 1, tell)


_SUBJECT = "soundness"
LAWS = (
    Law(
        _SUBJECT,
        "honest-forgery",
        "The forger of the attacks below, with nothing to lie about, is admitted.",
        "docs/proofs/completeness.md",
        _control,
        4,
        40,
    ),
    Law(
        _SUBJECT,
        "long-vector",
        "A vector beyond the L2 bound is refused, however little.",
        "docs/proofs/statement.md; docs/proofs/soundness.md",
        _long_vector,
        8,
        150,
    ),
    Law(
        _SUBJECT,
        "short-mod-q",
        "A vector whose norm is small mod q alone is refused.",
        "docs/proofs/projection.md, From residues to integers",
        _short_mod_q,
        6,
        100,
    ),
    Law(
        _SUBJECT,
        "long-errors",
        "Errors beyond their bound are refused, though they belong to the ciphertext.",
        "docs/proofs/statement.md",
        _long_errors,
        4,
        100,
    ),
    Law(
        _SUBJECT,
        "weight",
        "A weight outside [1, max_weight] is refused.",
        "docs/proofs/statement.md",
        _weight,
        5,
        100,
    ),
    Law(
        _SUBJECT,
        "range",
        "A coordinate beyond the range is refused where a plan proves ranges.",
        "docs/proofs/soundness.md",
        _range,
        3,
        60,
    ),
    Law(
        _SUBJECT,
        "two-faced",
        "A proof about other values, errors, keys, shares or weights than were sent is refused.",
        "docs/proofs/statement.md; docs/proofs/shares.md",
        _two_faced,
        12,
        180,
    ),
)
