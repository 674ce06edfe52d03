"""`secureagg plan`: which parameters a scheme would use, and why."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import typer

from secureagg.bounds import FAILURE_BITS
from secureagg.cli.failures import reported
from secureagg.cli.options import (
    L2_CLIP,
    MAGNITUDE,
    ONE_SHOT,
    PRECISION,
    TENSEAL,
    VALUE_BITS,
    DebugOption,
    JsonOption,
    MembersOption,
    flag,
    option,
    refuse_unused,
)
from secureagg.errors import ParameterError
from secureagg.layout import Layout
from secureagg.plan import Committee, RoundPlan

__all__ = ["plan"]


class PlannedScheme(StrEnum):
    ONE_SHOT = "one-shot"
    TENSEAL = "tenseal"


_VALUE_BOUND = "Largest |value| the grid holds, by default the L2 norm; smaller buys resolution."
_THRESHOLD = "Members that open a sum; by default as few as is safe."
_ASSUMED_CORRUPT = "Members that may collude with the aggregator; by default a quarter, or what --threshold allows."
_USED_BY = {
    **dict.fromkeys(
        (
            *("values", "quorum", "l2_clip", "value_bits", "value_bound", "proofs", "corrupt_clients"),
            *("members", "threshold", "assumed_corrupt", "parameters"),
        ),
        PlannedScheme.ONE_SHOT,
    ),
    **dict.fromkeys(("magnitude", "precision"), PlannedScheme.TENSEAL),
}
_ALIASES = {
    "assumed_corrupt_clients": "--corrupt-clients",
    "assumed_corrupt members": "--assumed-corrupt",
    "committee size": "--members",
}


@dataclass(frozen=True)
class OneShotPlan:
    """A `RoundPlan`, as `--json` prints it.

    grid_step: in the update's units, at max_weight. failure: probability that honest parties' sum is not the exact
    one. Security bits are classical. A box is one member's part of a contribution, an answer what a member sends.
    proof_bytes, soundness_bits: of a contribution's proof, 0 and None without.
    """

    scheme: str
    values: int
    clients: int
    quorum: int
    l2_clip: float
    value_bits: int
    grid_step: float
    max_weight: int
    members: int
    threshold: int
    assumed_corrupt: int
    parameters: str
    ring_degree: int
    modulus_bits: float
    security_bits: float
    core_svp_bits: float
    fields_per_coefficient: int
    field_bits: int
    delta: int
    chunks: int
    one_time_keys: int
    failure: float
    bytes_per_client: int
    value_bytes: float
    box_bytes: int
    answer_bytes: int
    proof_bytes: int
    soundness_bits: float | None
    report: str


@dataclass(frozen=True)
class TensealPlan:
    """The choice for the CKKS path, as `--json` prints it. Bits are of moduli, `step` and `mean_error` in units."""

    scheme: str
    clients: int
    magnitude: float
    precision: float
    max_weight: float
    step: float
    mean_error: float
    ring_degree: int
    prime_bits: tuple[int, ...]
    modulus_bits: int
    modulus_limit_bits: int
    scale_bits: int
    noise_std_grid: float
    value_bytes: float
    seeded_value_bytes: float
    report: str


def plan(
    context: typer.Context,
    scheme: Annotated[PlannedScheme, typer.Option(help="How updates are summed.")] = PlannedScheme.ONE_SHOT,
    clients: Annotated[int, option("N", "Most clients in one sum.")] = 10,
    max_weight: Annotated[float, option("W", "Largest weight of a client, such as its examples; 1 is uniform.")] = 1.0,
    values: Annotated[int, option("N", "Values (float32) in an update.", ONE_SHOT, least=1)] = 1_000_000,
    quorum: Annotated[int, option("N", "Fewest clients whose sum may be opened.", ONE_SHOT)] = 2,
    l2_clip: Annotated[float, option("X", L2_CLIP, ONE_SHOT)] = 10.0,
    value_bits: Annotated[int, option("B", VALUE_BITS, ONE_SHOT)] = 16,
    value_bound: Annotated[float | None, option("X", _VALUE_BOUND, ONE_SHOT)] = None,
    proofs: Annotated[bool, flag("--proofs", "Every contribution proves that it is valid.", ONE_SHOT)] = False,
    corrupt_clients: Annotated[int, option("N", "Clients assumed to be dishonest.", ONE_SHOT, least=0)] = 0,
    members: MembersOption = 5,
    threshold: Annotated[int | None, option("T", _THRESHOLD, ONE_SHOT)] = None,
    assumed_corrupt: Annotated[int | None, option("C", _ASSUMED_CORRUPT, ONE_SHOT)] = None,
    parameters: Annotated[str, option("NAME", "A ring parameter set; auto takes the fewest bytes.", ONE_SHOT)] = "auto",
    magnitude: Annotated[float, option("X", MAGNITUDE, TENSEAL)] = 1.0,
    precision: Annotated[float, option("X", PRECISION, TENSEAL)] = 1e-6,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Explain which encryption parameters a sum needs: bytes, bounds, security.

    Examples, a hundred clients weighted by up to 5000 examples:

    secureagg plan --clients 100 --values 2000000 --max-weight 5000

    secureagg plan --clients 100 --value-bits 13 --proofs --corrupt-clients 5 --quorum 60

    secureagg plan --clients 100 --scheme tenseal --magnitude 0.5 --precision 1e-5 --max-weight 5000
    """
    with reported(context, debug, _ALIASES):
        refuse_unused(context, scheme, _USED_BY)
        choice: OneShotPlan | TensealPlan
        match scheme:
            case PlannedScheme.ONE_SHOT:
                if not max_weight.is_integer():
                    raise ParameterError(f"max_weight={max_weight:g}: one-shot weights are whole numbers")
                chosen = RoundPlan(
                    layout=Layout(((values,),), ("float32",)),
                    clients=clients,
                    quorum=quorum,
                    l2_clip=l2_clip,
                    value_bits=value_bits,
                    committee=Committee(members, threshold, assumed_corrupt),
                    assumed_corrupt_clients=corrupt_clients,
                    max_weight=int(max_weight),
                    value_bound=value_bound,
                    proofs=proofs,
                    parameters=parameters,
                )
                choice = _one_shot(chosen)
            case PlannedScheme.TENSEAL:
                choice = _tenseal(clients, magnitude, precision, max_weight)
        typer.echo(json.dumps(asdict(choice), indent=2) if as_json else choice.report)


def _one_shot(chosen: RoundPlan) -> OneShotPlan:
    packing, ring, committee = chosen.packing, chosen.packing.ring, chosen.committee
    return OneShotPlan(
        scheme=PlannedScheme.ONE_SHOT,
        values=chosen.layout.size,
        clients=chosen.clients,
        quorum=chosen.quorum,
        l2_clip=chosen.l2_clip,
        value_bits=chosen.value_bits,
        grid_step=1 / chosen.quantiser.scale,
        max_weight=chosen.max_weight,
        members=committee.size,
        threshold=committee.members_needed,
        assumed_corrupt=committee.colluding,
        parameters=ring.name,
        ring_degree=ring.degree,
        modulus_bits=math.log2(ring.modulus),
        security_bits=ring.security_bits,
        core_svp_bits=ring.core_svp_bits,
        fields_per_coefficient=packing.fields,
        field_bits=packing.field_bits,
        delta=packing.delta,
        chunks=packing.chunks,
        one_time_keys=packing.keys,
        failure=2.0 ** (1 - FAILURE_BITS),
        bytes_per_client=chosen.bytes_per_client,
        value_bytes=chosen.bytes_per_client / chosen.layout.size,
        box_bytes=chosen.box_bytes,
        answer_bytes=chosen.sharing.answer_bytes,
        proof_bytes=chosen.proof_bytes,
        soundness_bits=None if chosen.statement is None else chosen.statement.soundness_bits,
        report=chosen.report(),
    )


def _tenseal(clients: int, magnitude: float, precision: float, max_weight: float) -> TensealPlan:
    from secureagg.he.tenseal import choose_parameters  # not needed for the scheme that is planned by default

    chosen = choose_parameters(clients, magnitude, precision, max_weight)
    return TensealPlan(
        scheme=PlannedScheme.TENSEAL,
        clients=clients,
        magnitude=magnitude,
        precision=precision,
        max_weight=max_weight,
        step=chosen.grid.step,
        mean_error=chosen.grid.mean_error,
        ring_degree=chosen.ring_degree,
        prime_bits=tuple(prime.bit_length() for prime in chosen.primes),
        modulus_bits=chosen.total_bits,
        modulus_limit_bits=chosen.modulus_cap,
        scale_bits=chosen.scale_bits,
        noise_std_grid=chosen.noise_std_grid,
        value_bytes=chosen.value_bytes,
        seeded_value_bytes=chosen.seeded_value_bytes,
        report=chosen.report(),
    )
