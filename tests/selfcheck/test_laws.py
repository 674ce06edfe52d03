"""Every law holds of the library, and is broken by each fault that is planted for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from secureagg.selfcheck import BROKEN, FALSE_ALARM, HOLDS, LAWS, MOST_COMPARISONS, Law, check
from tests.selfcheck.mutants import MUTANTS, Plant, scaled_gaussian

SEED = 2026
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "selfcheck.md"
BY_TITLE = {law.title: law for law in LAWS}


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.title)
def test_a_law_holds(law: Law) -> None:
    found = check(replace(law, quick=min(law.quick, 4)), SEED, thorough=False)
    assert (found.status, found.reason) == (HOLDS, "")


@pytest.mark.parametrize(("title", "plant"), MUTANTS, ids=lambda value: value if isinstance(value, str) else None)
def test_a_fault_breaks_its_law(title: str, plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = check(BY_TITLE[title], SEED, thorough=False)
    assert found.status == BROKEN
    assert found.reason.startswith(f"case {found.cases - 1}: ") and found.cases <= BY_TITLE[title].quick


def test_every_law_can_fail() -> None:
    assert {title for title, _ in MUTANTS} == set(BY_TITLE) and len(BY_TITLE) == len(LAWS)


@pytest.mark.parametrize("factor", [0.96, 1.04])
def test_a_sampler_as_wrong_as_the_power_says_is_found(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """σ off by 2.4 % is 2ε, which is missed with probability ≤ 2.5·10^-8; by 4 %, a good deal more."""
    law = BY_TITLE["samplers/keys-and-errors"]
    assert "σ wrong by 2.4%" in law.power
    scaled_gaussian(factor)(monkeypatch)
    assert check(law, SEED, thorough=False).status == BROKEN


@pytest.mark.parametrize("thorough", [False, True])
def test_false_alarms_of_a_run_stay_below_one_in_a_million(thorough: bool) -> None:
    comparisons = sum(law.comparisons * law.cases(thorough) for law in LAWS)
    assert comparisons <= MOST_COMPARISONS and MOST_COMPARISONS * FALSE_ALARM <= 1e-6
    assert all(bool(law.comparisons) == bool(law.power) == (law.subject == "samplers") for law in LAWS)


def test_the_page_has_every_law_with_its_cases_and_power() -> None:
    page = PAGE.read_text()
    for law in LAWS:
        assert f"| `{law.title}` | {law.claim} | {law.quick} | {law.thorough} |\n" in page
        assert not law.power or f"| `{law.title}` | {law.power} |\n" in page


def test_every_law_says_where_it_is_stated() -> None:
    for law in LAWS:
        assert law.claim.endswith(".") and 1 <= law.quick <= law.thorough
        for source in law.source.split("; "):
            path, _, section = source.partition(", ")
            if "/" not in path and not path.endswith(".md"):
                continue  # a paper
            page = ROOT / path.removesuffix(" in the source")
            assert path == "microsoft/SEAL" or page.exists(), source
            assert not section or f"# {section}\n" in page.read_text(), source
