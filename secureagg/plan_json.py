"""A plan as JSON: the one canonical form, which is what parties exchange and hash (docs/wire-format.md)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from secureagg.checks import printable
from secureagg.dp.mechanisms import mechanism_from_json
from secureagg.electorate import Committee
from secureagg.errors import EncodingError
from secureagg.layout import Layout

if TYPE_CHECKING:
    from secureagg.plan import RoundPlan

__all__ = ["from_bytes", "to_bytes", "to_json"]

_FORMAT = "secureagg plan v1"


def to_json(plan: RoundPlan) -> dict[str, Any]:
    """Return the plan as JSON values; floats are written in hexadecimal, so that nothing is rounded."""
    return {
        "format": _FORMAT,
        "layout": plan.layout.to_bytes().hex(),
        "clients": plan.clients,
        "quorum": plan.quorum,
        "l2_clip": float(plan.l2_clip).hex(),
        "value_bits": plan.value_bits,
        "value_bound": None if plan.value_bound is None else float(plan.value_bound).hex(),
        "committee": {
            "size": plan.committee.size,
            "threshold": plan.committee.threshold,
            "assumed_corrupt": plan.committee.assumed_corrupt,
            "mode": plan.committee.mode,
        },
        "assumed_corrupt_clients": plan.assumed_corrupt_clients,
        "max_weight": plan.max_weight,
        "noise": None if plan.noise is None else plan.noise.to_json(),
        "proofs": plan.proofs,
        "rotate": plan.rotate,
        "parameters": plan.packing.ring.name,
        "allow_insecure": plan.allow_insecure,
    }


def to_bytes(plan: RoundPlan) -> bytes:
    """Return `to_json` with sorted keys, no spaces, in ASCII."""
    return json.dumps(to_json(plan), sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def from_bytes(kind: type[RoundPlan], encoded: bytes, *, allow_insecure: bool) -> RoundPlan:
    """Decode `to_bytes`; see `RoundPlan.from_bytes`."""
    try:
        fields = json.loads(encoded)
        if fields.pop("format") != _FORMAT:
            raise EncodingError(f"plan: unknown format, this library reads {_FORMAT!r}")
        bound = fields["value_bound"]
        fields |= {
            "layout": Layout.from_bytes(bytes.fromhex(fields["layout"])),
            "committee": Committee(**fields["committee"]),
            "l2_clip": float.fromhex(fields["l2_clip"]),
            "value_bound": None if bound is None else float.fromhex(bound),
            "noise": None if fields["noise"] is None else mechanism_from_json(fields["noise"]),
        }
        if (noise := fields["noise"]) is not None and (noise.noise_by is None or noise.noise_std_grid is None):
            raise EncodingError("plan: not in canonical form: who adds noise, and how much, is left open")
        plan = kind(**fields)
    except EncodingError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EncodingError(f"plan: {printable(str(error))}") from error
    if plan.allow_insecure and not allow_insecure:
        raise EncodingError("plan: allows toy parameters; only tests accept that, with allow_insecure=True")
    if to_bytes(plan) != encoded:
        raise EncodingError("plan: not in canonical form")
    return plan
