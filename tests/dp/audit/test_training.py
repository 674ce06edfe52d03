"""One-run audits of DP-SGD as it ships, and of every seeded bug of it. All seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest

from secureagg.dp.audit import AuditResult, Claim, Relation, audit
from secureagg.dp.audit.training import IN_SHARE, LonelySteps, PrivateTraining, TrainingBug
from secureagg.errors import ParameterError
from secureagg.ring.xof import SecretStream

FEWER = {TrainingBug.NO_NOISE_ALONE: 500, TrainingBug.ACTUAL_COUNT: 3000}  # of canaries: these two leak much


def claim(epsilon: float, relation: Relation = Relation.ZERO_OUT) -> Claim:
    return Claim(epsilon, 1e-5, relation)


def stream(number: int) -> SecretStream:
    return SecretStream(number.to_bytes(32, "little"))


def audited(epsilon: float, bug: TrainingBug | None, alone: bool) -> AuditResult:
    wrong = bug is TrainingBug.WRONG_RELATION
    claimed = claim(epsilon, Relation.REPLACE if wrong else Relation.ZERO_OUT)
    mechanism: LonelySteps | PrivateTraining
    if alone:
        mechanism = LonelySteps(claimed, bug, stream=stream(1))
    else:
        mechanism = PrivateTraining(claimed, bug, 1.0 if wrong else 0.5, stream=stream(1))
    count = 10_000 if bug is None else FEWER.get(bug, 10_000)
    share = 0.5 if alone or wrong else IN_SHARE
    return audit(
        mechanism,
        count,
        claimed=claimed,
        curves=mechanism.curves,
        in_share=share,
        independent=alone,
        stream=stream(2),
    )


def test_a_training_reaches_two_fifths_of_epsilon_and_is_not_accused() -> None:
    found = audited(8.0, None, alone=False)
    assert 0.4 * 8 <= found.curve_epsilon <= 8 and not found.violated
    assert 0.2 * 8 <= found.general_epsilon <= found.curve_epsilon


def test_single_steps_are_not_accused() -> None:
    found = audited(4.0, None, alone=True)
    assert 0.6 * 4 <= found.curve_epsilon <= 4 and not found.violated


def test_no_two_runs_have_the_same_noise() -> None:
    mechanism = LonelySteps(claim(4.0), stream=stream(1))
    first, second = (mechanism(np.zeros(3, dtype=bool)) for _ in range(2))
    assert len(np.unique([*first, *second])) == 6


@pytest.mark.parametrize("bug", TrainingBug)
@pytest.mark.parametrize("epsilon", [2.0, 4.0])
def test_every_seeded_bug_is_caught(epsilon: float, bug: TrainingBug) -> None:
    assert audited(epsilon, bug, bug.alone).violated


@pytest.mark.parametrize(
    "settings",
    [
        {"steps": 1},
        {"rate": 0.0},
        {"bug": TrainingBug.LESS_NOISE},
        {"bug": TrainingBug.WRONG_RELATION, "rate": 1.0},
        {"claim": claim(1.0, Relation.REPLACE)},
    ],
)
def test_refuses(settings: dict[str, object]) -> None:
    with pytest.raises(ParameterError):
        PrivateTraining(**({"claim": claim(1.0)} | settings))  # type: ignore[arg-type]


def test_refuses_lonely_steps_that_could_not_show_it() -> None:
    with pytest.raises(ParameterError, match="one training"):
        LonelySteps(claim(1.0), TrainingBug.SAME_SEED)
    with pytest.raises(ParameterError, match="ZERO_OUT"):
        LonelySteps(claim(1.0, Relation.REPLACE))
