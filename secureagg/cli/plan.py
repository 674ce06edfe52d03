"""`secureagg plan`: which parameters a scheme would use, and why."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated

import typer

from secureagg.cli.failures import DebugOption, debugging, reported
from secureagg.he.tenseal import choose_parameters

__all__ = ["plan"]


class PlannedScheme(StrEnum):
    TENSEAL = "tenseal"


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
    scheme: Annotated[PlannedScheme, typer.Option(help="How updates are summed.")] = PlannedScheme.TENSEAL,
    clients: Annotated[int, typer.Option(metavar="N", help="Most clients in one sum.")] = 10,
    magnitude: Annotated[
        float, typer.Option(metavar="X", help="Largest |value| in an update, in the weights' own units.")
    ] = 1.0,
    precision: Annotated[
        float, typer.Option(metavar="X", help="Largest error of a value of the mean, in the same units.")
    ] = 1e-6,
    max_weight: Annotated[
        float, typer.Option(metavar="W", help="Largest weight of a client, such as its examples; 1 is uniform.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    debug: DebugOption = False,
) -> None:
    """Explain which encryption parameters a sum needs: bytes, noise, security.

    Example, a hundred clients weighted by up to 5000 examples:

    secureagg plan --clients 100 --magnitude 0.5 --precision 1e-5 --max-weight 5000
    """
    with reported(debugging(context, debug)):
        match scheme:
            case PlannedScheme.TENSEAL:
                choice = _plan_tenseal(clients, magnitude, precision, max_weight)
        typer.echo(json.dumps(asdict(choice), indent=2) if as_json else choice.report)


def _plan_tenseal(clients: int, magnitude: float, precision: float, max_weight: float) -> TensealPlan:
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
