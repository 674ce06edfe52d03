"""Errors survive the way between processes, and say who is to blame."""

from __future__ import annotations

import copy
import pickle

import pytest

from secureagg import errors
from secureagg.errors import FaultyClientError, FaultyMemberError, MissingExtraError, SecureAggError

EXAMPLES = [
    FaultyClientError(3, "the frame is wrong"),
    FaultyMemberError(2, "it answered twice"),
    MissingExtraError("typer", "cli"),
    *(getattr(errors, name)("why") for name in ("ParameterError", "EncodingError", "UnattributedFault", "QuorumError")),
]


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_errors_are_pickled_whole(error: SecureAggError) -> None:
    """Process pools pickle what a worker raised; an error that cannot come back breaks the pool."""
    for back in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(back), str(back), vars(back)) == (type(error), str(error), vars(error))


def test_messages_name_the_blamed() -> None:
    assert str(EXAMPLES[0]) == "client 3: the frame is wrong"
    assert (EXAMPLES[0].client_id, EXAMPLES[0].reason) == (3, "the frame is wrong")
    assert str(EXAMPLES[1]) == "committee member 2: it answered twice"
    assert (EXAMPLES[1].member_id, EXAMPLES[1].reason) == (2, "it answered twice")
    assert str(EXAMPLES[2]) == "typer is not installed; run: pip install 'secureagg[cli]'"


def test_every_error_has_one_root() -> None:
    assert all(issubclass(getattr(errors, name), SecureAggError) for name in errors.__all__)
