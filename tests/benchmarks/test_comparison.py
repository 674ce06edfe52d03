"""Ratios to the committed run: what is flagged, and what fails."""

from __future__ import annotations

import copy

import pytest

from benchmarks.overhead.comparison import Ratio, compared, fatal, flagged

KEY = "one-shot, 10000 values, 10 clients"
CELL = {
    "way": "one-shot",
    "values": 10_000,
    "clients": 10,
    "contributions": 10,
    "client": 0.010,
    "stages": {"protect": 0.009, "admit": 0.004, "open": 0.020},
    "upload_bytes": 44_000,
    "client_peak_bytes": 10**8,
    "server_peak_bytes": 10**8,
}


def against(key: str = KEY, **changes: object) -> list[Ratio]:
    """Return the ratios of a changed cell to the cell above."""
    return compared({key: copy.deepcopy(CELL) | changes}, {key: CELL})


def test_the_same_run_has_ratios_of_one_and_nothing_flagged():
    ratios = against()
    assert {ratio.what for ratio in ratios} == {"client", "bytes", "client memory", "server memory", "admit", "open"}
    assert all(ratio.ratio == 1 for ratio in ratios)
    assert flagged(ratios) == [] and not fatal(ratios)


@pytest.mark.parametrize(("seconds", "count"), [(0.0149, 0), (0.0151, 1)])
def test_half_as_slow_again_is_flagged_but_not_fatal(seconds, count):
    ratios = against(client=seconds)
    assert [ratio.what for ratio in flagged(ratios)] == ["client"] * count
    assert not fatal(ratios)


def test_stages_of_the_server_are_compared():
    ratios = against(stages={"protect": 1.0, "admit": 0.0061, "open": 0.020})
    assert [ratio.what for ratio in flagged(ratios)] == ["admit"]


def test_a_stage_of_less_than_two_milliseconds_is_not_flagged():
    short = CELL | {"stages": {"admit": 0.0019, "open": 0.020}}
    assert flagged(compared({KEY: CELL}, {KEY: short})) == []


def test_memory_is_flagged_at_the_same_ratio():
    assert [ratio.what for ratio in flagged(against(server_peak_bytes=1.6e8))] == ["server memory"]


def test_one_byte_more_of_ours_is_fatal_and_listed_first():
    ratios = against(upload_bytes=44_001, client=1.0)
    assert [ratio.what for ratio in flagged(ratios)] == ["bytes", "client"]
    assert fatal(ratios)
    assert str(flagged(ratios)[0]) == f"MORE BYTES: {KEY}: 44,001 and not 44,000"
    assert str(flagged(ratios)[1]) == f"FLAGGED: {KEY}: client 100.00 of the committed run's"


def test_fewer_bytes_are_not_flagged():
    assert flagged(against(upload_bytes=43_999)) == []


def test_more_bytes_of_a_peer_are_not_ours_to_answer_for():
    assert not fatal(against("TenSEAL, 10000 values, 10 clients", upload_bytes=50_000))


@pytest.mark.parametrize(
    "now",
    [
        {"another, 10 values, 10 clients": CELL},
        {KEY: {"skipped": "no peer"}},
        {KEY: CELL | {"contributions": 9}},
    ],
    ids=["cell", "skipped", "measured otherwise"],
)
def test_cells_that_cannot_be_compared_are_left_out(now):
    assert compared(now, {KEY: CELL}) == []


def test_a_cell_that_the_committed_run_skipped_is_left_out():
    assert compared({KEY: CELL}, {KEY: {"skipped": "no peer"}}) == []


def test_nothing_committed_is_an_infinite_ratio_and_two_zeros_are_one():
    assert Ratio(KEY, "open", 1.0, 0.0).ratio == float("inf")
    assert Ratio(KEY, "open", 0.0, 0.0).ratio == 1
