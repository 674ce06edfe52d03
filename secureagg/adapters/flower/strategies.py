"""Which strategies cannot work on a sum, and what to use instead."""

from __future__ import annotations

from secureagg.adapters.flower.engine import strategy as flower
from secureagg.errors import ParameterError

__all__ = ["require_sum"]

_SERVER_CLIPPING = (
    flower.DifferentialPrivacyServerSideFixedClipping,
    flower.DifferentialPrivacyServerSideAdaptiveClipping,
)
_FIXED_CLIPPING = flower.DifferentialPrivacyClientSideFixedClipping
_ADAPTIVE_CLIPPING = flower.DifferentialPrivacyClientSideAdaptiveClipping
_SINGLE_UPDATES = (
    flower.Bulyan,
    flower.FedMedian,
    flower.FedTrimmedAvg,
    flower.FedXgbBagging,
    flower.FedXgbCyclic,
    flower.Krum,
    flower.MultiKrum,
    flower.QFedAvg,
)


def require_sum(strategy: flower.Strategy) -> None:
    """Return None unless this strategy, or one that it wraps, needs to see single updates.

    Raises: ParameterError with the reason and what to use instead.
    """
    seen: list[object] = []
    current: object = strategy
    while isinstance(current, flower.Strategy) and current not in seen:
        _require_sum(current)
        seen.append(current)
        current = getattr(current, "strategy", None)


def _require_sum(strategy: flower.Strategy) -> None:
    name = type(strategy).__name__
    if isinstance(strategy, _SERVER_CLIPPING):
        raise ParameterError(
            f"{name} clips each client's update on the server, which sees none of them: clip on the clients, by "
            f"secure_mod(Terms(l2_clip={getattr(strategy, 'clipping_norm', '…')}, …)); for noise, give these "
            "terms a noise=, or wrap the strategy in DifferentialPrivacyClientSideFixedClipping with the same norm"
        )
    if isinstance(strategy, _ADAPTIVE_CLIPPING):
        raise ParameterError(
            f"{name} counts, client by client, who was clipped, which nobody sees: fix the clip, by "
            "secure_mod(Terms(l2_clip=…, …)) and DifferentialPrivacyClientSideFixedClipping"
        )
    if isinstance(strategy, _FIXED_CLIPPING) and getattr(strategy, "accountant", None) is not None:
        raise ParameterError(
            f"{name}(accountant=…) asks for every client's own weight, which nobody sees; leave the accountant out "
            "and account for the noise by the number of clients in the terms"
        )
    if isinstance(strategy, _SINGLE_UPDATES):
        raise ParameterError(
            f"{name} compares single updates or models, which nobody sees: use a strategy that works on their mean, "
            "such as FedAvg, FedAvgM, FedAdam, FedYogi, FedAdagrad or FedProx; proofs=True bounds what a bad one does"
        )
