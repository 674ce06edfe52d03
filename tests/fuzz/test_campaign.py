"""Ten thousand mutated messages: each is refused by a named check, or shown to be harmless by plain integers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.campaign import ROUNDS, SEED, Campaign, run
from tests.fuzz.mutations import CLASSES
from tests.fuzz.outcome import CHECKS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "fuzzing.md"


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    return run()


def test_every_mutation_is_refused_or_harmless(campaign: Campaign) -> None:
    assert not campaign.failures, "\n".join(campaign.failures[:20])


def test_there_are_enough_of_every_kind(campaign: Campaign) -> None:
    assert campaign.total >= 10_000
    assert campaign.signed >= campaign.total / 2
    by_message, by_class = campaign.by(0, 1), campaign.by(1, 2)
    for message in ROUNDS:
        for kind in CLASSES:
            assert by_message[(message, kind)] >= 12, f"{message}: {kind}"
    for kind in (*CLASSES, "fields swapped"):
        assert by_class[(kind, True)] >= 100, f"signed: {kind}"


def test_every_check_refuses_something(campaign: Campaign) -> None:
    """A check that no mutation meets would not be missed if it went."""
    met = campaign.by(3)
    assert not {check for check in CHECKS if not met[(check,)]}
    for outcome in ("harmless: right sum with it", "share check: right sum without it", "share check: complaint"):
        assert met[(outcome,)] >= 20


@pytest.mark.parametrize(
    ("message", "last"),
    [
        ("noisy contribution", "residual"),
        ("member's noise", "residual"),
        ("proven noisy contribution", "proof"),
        ("member's proven noise", "proof"),
    ],
)
def test_altered_noise_meets_every_check_of_a_contribution(campaign: Campaign, message: str, last: str) -> None:
    met = campaign.by(0, 3)
    for check in ("length", "signature", "digest of a part", "session id", "share check: right sum without it", last):
        assert met[(message, check)] >= 5, check


def test_the_page_is_of_this_campaign(campaign: Campaign) -> None:
    """docs/fuzzing.md is written by `python -m tests.fuzz`; single counts vary, messages, classes and checks do not."""
    page = PAGE.read_text()
    assert f"The seed is\n{SEED};" in page
    for names in (campaign.by(0), campaign.by(1)):
        assert " | ".join(str(name) for (name,) in names) in page
    for (check,) in campaign.by(3):
        assert f"| {check} |" in page
