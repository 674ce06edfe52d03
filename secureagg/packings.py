"""Which packing a plan takes of those that hold its sums: the one with the fewest bytes, with proofs or without."""

from __future__ import annotations

from secureagg.bounds import Demand, Proven, fit, fit_proven, fit_sharing
from secureagg.electorate import Committee
from secureagg.errors import ParameterError
from secureagg.he.packing import Packing
from secureagg.ring.params import PARAMETER_NAMES, ring_parameters

__all__ = ["cheapest", "cheapest_proven", "proven_choices"]

_PROVEN_PARAMETERS = "N2048_Q52"


def cheapest(parameters: str, demand: Demand, committee: Committee, *, allow_insecure: bool) -> Packing:
    """Return the packing of the named set, or for "auto" of the set with the fewest bytes.

    Raises: ParameterError quoting what fails, for "auto" of every set.
    """
    if parameters != "auto":
        return fit(ring_parameters(parameters, allow_insecure=allow_insecure), demand)
    found: list[tuple[int, int, Packing]] = []
    refusals = []
    for order, name in enumerate(PARAMETER_NAMES):
        try:
            packing = fit(ring_parameters(name), demand)
        except ParameterError as error:
            refusals.append(str(error))
            continue
        shares = fit_sharing(packing, demand.contributions, committee, proofs=False).share_bytes
        found.append((packing.ciphertext_bytes + committee.size * shares, order, packing))
    if not found:
        raise ParameterError("no parameter set fits: " + "; ".join(refusals))
    return min(found, key=lambda choice: choice[:2])[2]


def cheapest_proven(parameters: str, demand: Demand, committee: Committee, *, allow_insecure: bool) -> Proven:
    """Return what has fewer bytes in all, with the range argument or, if it saves nothing, without.

    Raises: ParameterError quoting what fails.
    """
    found, refusals = proven_choices(parameters, demand, committee, allow_insecure=allow_insecure)
    if not found:
        raise ParameterError("; ".join(dict.fromkeys(refusals)))
    return min(found, key=lambda choice: choice.total_bytes(committee))


def proven_choices(
    parameters: str, demand: Demand, committee: Committee, *, allow_insecure: bool
) -> tuple[list[Proven], list[str]]:
    """Return what fits, without the range argument before with it, and why the others do not fit."""
    ring = ring_parameters(_PROVEN_PARAMETERS if parameters == "auto" else parameters, allow_insecure=allow_insecure)
    if len(ring.primes) > 1:
        raise ParameterError(
            f"{ring.name}: proofs need a modulus of one prime, since they speak about ciphertexts in its field; "
            f'use {_PROVEN_PARAMETERS} or "auto"'
        )
    found, refusals = [], []
    for range_argument in (False, True):
        try:
            found.append(fit_proven(ring, demand, committee.members_needed, range_argument=range_argument))
        except ParameterError as error:
            refusals.append(str(error))
    return found, refusals
