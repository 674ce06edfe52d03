"""The committee's rules: who must answer, and that no two sums can be opened."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from secureagg.electorate import Committee
from secureagg.errors import ParameterError


@pytest.mark.parametrize(
    ("size", "corrupt", "threshold"),
    [
        (1, 0, 1),
        (2, 0, 2),
        (3, 0, 3),
        (4, 0, 3),
        (5, 1, 4),
        (7, 0, 5),
        (7, 2, 6),
        (254, 0, 170),
    ],
)
def test_the_threshold_that_withstands_c(size: int, corrupt: int, threshold: int) -> None:
    committee = Committee(size, assumed_corrupt=corrupt)
    assert committee.members_needed == threshold
    assert committee == Committee(size, threshold, corrupt)


@pytest.mark.parametrize(
    ("size", "corrupt", "threshold"),
    [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 0, 3), (5, 1, 4), (6, 1, 5), (9, 2, 7), (10, 2, 8), (254, 63, 191)],
)
def test_by_default_a_quarter_may_collude_or_stay_away(size: int, corrupt: int, threshold: int) -> None:
    committee = Committee(size)
    assert (committee.colluding, committee.members_needed) == (corrupt, threshold)
    assert committee == Committee(size, threshold, corrupt)
    assert size - threshold >= corrupt


@pytest.mark.parametrize(("size", "threshold", "corrupt"), [(3, 3, 2), (4, 3, 0), (5, 4, 1), (7, 5, 0), (1, 1, 0)])
def test_a_threshold_withstands_as_many_as_it_can(size: int, threshold: int, corrupt: int) -> None:
    assert Committee(size, threshold) == Committee(size, threshold, corrupt)
    with pytest.raises(ParameterError, match="3t > 2k"):
        Committee(size, threshold, corrupt + 1)


P = 359


def null_space(rows: list[list[int]], columns: int) -> list[list[int]]:
    """Return a basis of the vectors that all rows map to 0, mod P."""
    rows, pivots = [row[:] for row in rows], []
    for column in range(columns):
        rank = len(pivots)
        pivot = next((r for r in range(rank, len(rows)) if rows[r][column] % P), None)
        if pivot is None:
            continue
        rows[rank], rows[pivot] = rows[pivot], rows[rank]
        inverse = pow(rows[rank][column], -1, P)
        rows[rank] = [value * inverse % P for value in rows[rank]]
        for r in range(len(rows)):
            if r != rank:
                rows[r] = [(a - rows[r][column] * b) % P for a, b in zip(rows[r], rows[rank], strict=True)]
        pivots.append(column)
    basis = []
    for free in (column for column in range(columns) if column not in pivots):
        vector = [0] * columns
        vector[free] = 1
        for r, column in enumerate(pivots):
            vector[column] = -rows[r][free] % P
        basis.append(vector)
    return basis


def learns_more_than_one_sum(size: int, threshold: int, corrupt: int) -> bool:
    """Whether an aggregator that asks each honest member about X, about Y or about both learns more than one sum.

    The corrupt members' shares are known to it, which leaves polynomials of degree < r = t − c; what it learns of their
    values at 0 are the combinations of answers in which their other coefficients cancel, for X and for Y.
    """
    r = threshold - corrupt
    for honest in itertools.combinations(range(1, size + 1), size - corrupt):
        for asked in itertools.product((1, 2, 3), repeat=len(honest)):
            rows = [
                [pow(x, power, P) if sets & side else 0 for x, sets in zip(honest, asked, strict=True)]
                for side in (1, 2)
                for power in range(1, r)
            ]
            learnt = {
                tuple(sum(v for v, sets in zip(vector, asked, strict=True) if sets & side) % P for side in (1, 2))
                for vector in null_space(rows, len(honest))
            } - {(0, 0)}
            directions = {(0, 1) if not a else (1, b * pow(a, -1, P) % P) for a, b in learnt}
            if len(directions) > 1 or not directions <= {(1, 0), (0, 1), (1, 1)}:
                return True
    return False


@pytest.mark.parametrize("committee", [(3, 2, 0), (4, 3, 1), (5, 3, 0), (6, 4, 1), (7, 5, 2)])
def test_a_committee_that_only_forbids_two_full_answers_can_be_played_off_against_itself(
    committee: tuple[int, int, int],
) -> None:
    """2t − k > c holds for these; the attack is why it is not the rule."""
    size, threshold, corrupt = committee
    assert 2 * threshold - size > corrupt and learns_more_than_one_sum(*committee)
    with pytest.raises(ParameterError, match="3t > 2k"):
        Committee(size, threshold, corrupt)


@pytest.mark.parametrize(
    "committee", [(2, 2, 0), (3, 3, 0), (3, 3, 2), (4, 3, 0), (4, 4, 2), (5, 4, 0), (5, 4, 1), (6, 5, 1)]
)
def test_a_committee_that_is_accepted_gives_one_sum_only(committee: tuple[int, int, int]) -> None:
    Committee(*committee)
    assert not learns_more_than_one_sum(*committee)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, r"committee size must be a whole number in \[1, 254\], not 0"),
        ({"size": 255}, r"committee size must be a whole number in \[1, 254\], not 255"),
        ({"size": 3.0}, "committee size must be a whole number"),
        ({"size": True}, "committee size must be a whole number"),
        ({"size": 3, "threshold": 4}, "threshold t=4 > size k=3"),
        ({"size": 3, "threshold": 0}, "threshold must be a whole number"),
        ({"size": 3, "threshold": 2.0}, "threshold must be a whole number"),
        ({"size": 4, "threshold": 2}, r"3t > 2k \+ c fails: 3·2 = 6, 2·4 \+ 0 = 8: .* use threshold ≥ 3"),
        ({"size": 5, "threshold": 3, "assumed_corrupt": 1}, r"3·3 = 9, 2·5 \+ 1 = 11: .* use threshold ≥ 4"),
        ({"size": 3, "assumed_corrupt": -1}, r"assumed_corrupt members must be a whole number in \[0, 3\], not -1"),
        ({"size": 3, "assumed_corrupt": 4}, r"in \[0, 3\], not 4"),
        ({"size": 3, "assumed_corrupt": 3}, "threshold t=4 > size k=3"),
        ({"size": 3, "mode": "paranoid"}, "committee mode is 'optimistic' or 'robust', not 'paranoid'"),
    ],
)
def test_impossible_committees_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        Committee(**fields)
