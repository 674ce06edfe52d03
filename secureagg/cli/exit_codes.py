"""The numbers a command ends with, so that scripts can tell the causes apart."""

from __future__ import annotations

from enum import IntEnum

import fl_core.errors as engine
from secureagg import errors

__all__ = ["ExitCode"]


class ExitCode(IntEnum):
    """One number a cause. They are an interface: a number never changes its meaning."""

    OK = 0
    UNEXPECTED = 1
    USAGE = 2
    PARAMETERS = 3
    ENCODING = 4
    FAULTY_PARTY = 5
    QUORUM = 6
    BUDGET = 7
    MISSING_EXTRA = 8
    BROKEN_LAW = 9
    INTERRUPTED = 130  # 128 + SIGINT, as shells have it

    @property
    def meaning(self) -> str:
        """One line for the help."""
        return _MEANINGS[self]

    @classmethod
    def of(cls, error: BaseException) -> ExitCode:
        """Return the code of an error of either package; what neither raises on purpose is UNEXPECTED."""
        return next((code for kinds, code in _CAUSES if isinstance(error, kinds)), cls.UNEXPECTED)


_MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.UNEXPECTED: "unexpected error: a bug",
    ExitCode.USAGE: "an unknown command or option, a value it does not take, or a path that cannot be written",
    ExitCode.PARAMETERS: "these parameters cannot work",
    ExitCode.ENCODING: "a file or message is missing, damaged or of another kind, or could not be saved",
    ExitCode.FAULTY_PARTY: "a party at fault, or a fault nobody can be named for; or an audit refutes the claimed ε",
    ExitCode.QUORUM: "too few parties took part",
    ExitCode.BUDGET: "the privacy budget is exhausted",
    ExitCode.MISSING_EXTRA: "an optional dependency is not installed",
    ExitCode.BROKEN_LAW: "selfcheck found a broken law: this installation computes wrongly",
    ExitCode.INTERRUPTED: "interrupted",
}

_CAUSES: tuple[tuple[tuple[type[BaseException], ...], ExitCode], ...] = (
    ((KeyboardInterrupt,), ExitCode.INTERRUPTED),
    ((errors.MissingExtraError, engine.MissingExtraError), ExitCode.MISSING_EXTRA),
    ((errors.ParameterError, engine.ParameterError), ExitCode.PARAMETERS),
    ((errors.EncodingError, engine.DataError, engine.StateError), ExitCode.ENCODING),
    ((errors.FaultyClientError, errors.FaultyMemberError, errors.UnattributedFault), ExitCode.FAULTY_PARTY),
    ((engine.Refused, engine.ClientTrainingError), ExitCode.FAULTY_PARTY),
    ((errors.QuorumError, engine.QuorumError, engine.NoContributionsError), ExitCode.QUORUM),
    ((errors.BudgetExhausted,), ExitCode.BUDGET),
)
