"""Errors, by who is to blame.

No message ever holds a client's values: messages carry positions, counts and limits only.
"""

from __future__ import annotations

__all__ = [
    "BudgetExhausted",
    "EncodingError",
    "FaultyClientError",
    "FaultyMemberError",
    "MissingExtraError",
    "ParameterError",
    "QuorumError",
    "SecureAggError",
    "UnattributedFault",
]


class SecureAggError(Exception):
    """The root of every error this package raises on purpose."""


class ParameterError(SecureAggError, ValueError):
    """The caller asked for something that cannot work; the message quotes the inequality and what to change."""


class EncodingError(SecureAggError, ValueError):
    """Bytes are not the canonical encoding of what they were read as."""


class FaultyClientError(SecureAggError):
    """A client's contribution was refused; nothing of it has been counted."""

    def __init__(self, client_id: int, reason: str) -> None:
        super().__init__(client_id, reason)  # all arguments, so that the error can be pickled between processes
        self.client_id = client_id
        self.reason = reason

    def __str__(self) -> str:
        return f"client {self.client_id}: {self.reason}"


class FaultyMemberError(SecureAggError):
    """A committee member broke the protocol."""

    def __init__(self, member_id: int, reason: str) -> None:
        super().__init__(member_id, reason)
        self.member_id = member_id
        self.reason = reason

    def __str__(self) -> str:
        return f"committee member {self.member_id}: {self.reason}"


class UnattributedFault(SecureAggError):
    """The result is not what an honest run gives, and nobody can be named for it. Nothing was decoded."""


class QuorumError(SecureAggError):
    """Too few parties took part for the round to be opened."""


class BudgetExhausted(SecureAggError):
    """Starting this round would overspend the privacy budget."""


class MissingExtraError(SecureAggError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(package, extra)
        self.package = package
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.package} is not installed; run: pip install 'secureagg[{self.extra}]'"
