"""The report, rendered from the stored results of a few small cells."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import pytest

from benchmarks.overhead.page import page, round_seconds

RESULTS = json.loads(Path(__file__).with_name("small.json").read_text(encoding="utf-8"))


class Cells(HTMLParser):
    """Collects the rows of all tables, and every address that is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.addresses: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attributes if name in ("src", "href", "xlink:href")]
        if tag == "tr":
            self.rows.append([])
        self._inside = tag == "td"
        if self._inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, text: str) -> None:
        if self._inside:
            self.rows[-1][-1] += text


SMALLER = RESULTS | {"figures": {key: row for key, row in RESULTS["figures"].items() if row["clients"] == 100}}


def read(rendered: str) -> Cells:
    parser = Cells()
    parser.feed(rendered)
    return parser


@pytest.fixture(scope="module")
def rendered() -> str:
    return page(RESULTS)


def test_every_cell_stands_in_the_table_with_its_figures(rendered):
    rows = [row for row in read(rendered).rows if len(row) > 2]
    expected = [each for each in RESULTS["figures"].values() if "skipped" not in each]
    assert len(rows) == len(expected)
    for row, figures in zip(rows, expected, strict=True):
        assert row[:4] == [figures["way"], *(f"{figures[n]:,}" for n in ("values", "clients", "contributions"))]
        assert row[4] == f"{1e3 * figures['client']:.2f}"
        assert f"{figures['upload_bytes']:,}" in row


def test_pictures_are_inside_and_nothing_is_fetched(rendered):
    assert rendered.count("<svg") == 8  # three for each number of clients, one for each number of values
    assert all(address.startswith("#") for address in read(rendered).addresses)
    assert "<script" not in rendered and "@import" not in rendered


def test_equal_results_give_equal_bytes():
    assert page(SMALLER) == page(SMALLER)


def test_what_is_left_out_is_told_with_its_reason():
    key = "SecAgg+, 10000 values, 10 clients"
    without = SMALLER | {"figures": SMALLER["figures"] | {key: {"skipped": "no <Flower>"}}}
    assert [key, "no <Flower>"] in read(page(without)).rows


def test_a_round_that_was_not_opened_has_no_seconds():
    row = next(iter(RESULTS["figures"].values()))
    assert round_seconds(row) == pytest.approx(row["clients"] * row["stages"]["admit"] + row["stages"]["open"])
    assert round_seconds(row | {"stages": {"admit": 1.0}}) is None


def test_provenance_stands_on_the_page(rendered):
    for name, value in RESULTS["provenance"].items():
        assert name in rendered and str(value) in rendered
