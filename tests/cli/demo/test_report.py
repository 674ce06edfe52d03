"""The report: self-contained, complete, the same for the same figures."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from tests.cli.runs import SMALL, Invoke, SmallRun

LOADING = {"src", "href", "xlink:href", "action", "data", "poster", "srcset"}


class Loads(HTMLParser):
    """Collects what a browser would fetch, and counts elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in LOADING]


def test_fetches_nothing(small_run: SmallRun) -> None:
    loads = Loads(small_run.page)
    assert all(address.startswith("#") for address in loads.addresses)
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(loads.tags)
    assert all(target.startswith("#") for target in re.findall(r"url\(['\"]?([^)'\"]*)", small_run.page))
    assert "@import" not in small_run.page


def test_has_the_pictures_and_their_letters(small_run: SmallRun) -> None:
    assert Loads(small_run.page).tags.count("svg") == 6
    for title in (
        *("Accuracy on the test examples, %", "Loss on the test examples", "traffic in a round", "by stage, s"),
        *("Distance to the plain mean", "Examples each client holds"),
    ):
        assert title in small_run.page


def test_rounds_are_numbered_without_fractions(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("report") / "report.html"
    assert invoke(*SMALL, "--rounds", "2", "--report", str(path)).code == 0
    pictures = re.findall(r"<svg.*?</svg>", path.read_text(), re.DOTALL)
    for title in ("Accuracy on the test", "Loss on the test", "Distance to the plain mean"):
        (picture,) = (each for each in pictures if title in each)
        axis = picture[picture.index('id="matplotlib.axis_1"') : picture.index('id="matplotlib.axis_2"')]
        assert re.findall(r">\s*([\d.]+)\s*</text>", axis) == ["1", "2"]


def test_tells_what_was_run_and_what_is_not_protected(small_run: SmallRun) -> None:
    for text in (
        *("Trained on encrypted updates to", "The mean carries no noise", "vanished before sending"),
        *("<td>seed</td><td>0</td>", "tensorflow", "5 members, 1 of them always away", "3t &gt; 2k + c"),
    ):
        assert text in small_run.page
    assert small_run.page.index("Not protected") < small_run.page.index("<svg")


def test_every_tag_is_closed(small_run: SmallRun) -> None:
    for tag in ("section", "div", "figure", "table", "tr", "td", "svg", "details", "ul", "pre", "main", "body"):
        assert len(re.findall(rf"<{tag}[\s>]", small_run.page)) == small_run.page.count(f"</{tag}>"), tag


@pytest.mark.parametrize("scheme", ["plain", "tenseal", "one-shot"])
def test_without_drops_says_so(invoke: Invoke, tmp_path_factory: pytest.TempPathFactory, scheme: str) -> None:
    path = tmp_path_factory.mktemp("report") / "report.html"
    ended = invoke(*SMALL, "--rounds", "1", "--drop", "0", "--scheme", scheme, "--report", str(path))
    assert ended.code == 0
    assert ended.err.splitlines()[-1] == f"Report: {path}"
    page = path.read_text()
    assert "every client was in every round" in page
    assert Loads(page).tags.count("svg") == (5 if scheme == "plain" else 6)
    assert ("bytes to each client, once" in page) == (scheme == "tenseal")
