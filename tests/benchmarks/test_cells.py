"""The grid of the overhead suite: what is measured, of how many clients."""

from __future__ import annotations

from itertools import product

import pytest

from benchmarks.overhead.cells import (
    CLIENTS,
    OURS,
    VALUES,
    WAYS,
    Cell,
    expected_seconds,
    full,
    neighbours,
    quick,
    quorum,
    selected,
)
from benchmarks.overhead.one_shot_way import plan_of


def test_the_full_grid_has_every_combination_once():
    found = [(cell.way, cell.values, cell.clients) for cell in full()]
    assert sorted(found) == sorted(product(WAYS, VALUES, CLIENTS))


def test_quick_cells_are_those_of_the_full_run():
    assert set(quick()) <= set(full())
    assert {cell.way for cell in quick()} == set(WAYS)


@pytest.mark.parametrize("cell", full(), ids=lambda cell: cell.key)
def test_a_cell_measures_all_clients_or_enough(cell):
    least = neighbours(cell.clients) if cell.way == "SecAgg+" else 3
    assert least <= cell.contributions <= cell.clients


@pytest.mark.parametrize("way", [way for way in WAYS if way != "SecAgg+"])
def test_more_values_never_measure_more_clients(way):
    measured = [cell.contributions for cell in selected([way], VALUES, [1000])]
    assert measured == sorted(measured, reverse=True)


def test_ten_clients_of_a_million_values_are_all_measured():
    assert all(cell.contributions == 10 for cell in selected(WAYS, [10**6], [10]))


def test_what_crosses_to_the_server_stays_within_three_gigabytes():
    for cell in selected(OURS, VALUES, CLIENTS):
        assert 4 * cell.values * cell.contributions <= 3e9


def test_neighbours_are_all_of_ten_and_odd_and_few_of_more():
    assert [neighbours(clients) for clients in CLIENTS] == [10, 15, 21]


def test_the_quorum_is_four_fifths_and_two_at_least():
    assert [quorum(clients) for clients in (2, 10, 11, 1000)] == [2, 8, 9, 800]


def test_a_full_run_takes_25_minutes_at_most_and_a_quick_one_two():
    assert expected_seconds(full()) <= 25 * 60
    assert expected_seconds(quick()) <= 2 * 60


def test_a_cell_survives_its_process_argument():
    for cell in full():
        assert Cell.from_json(cell.to_json()) == cell


@pytest.mark.parametrize(
    "cell", selected([way for way in OURS if "DP" not in way], VALUES, CLIENTS), ids=lambda c: c.key
)
def test_every_cell_without_noise_has_a_plan_of_all_its_clients(cell):
    plan = plan_of(cell)
    assert (plan.layout.size, plan.clients, plan.proofs) == (cell.values, cell.clients, "proofs" in cell.way)
