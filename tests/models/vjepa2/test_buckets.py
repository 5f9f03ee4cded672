from __future__ import annotations

import itertools

import pytest

from models.vjepa2.runs import Buckets


def test_runs_that_cost_what_they_hold_leave_no_place_empty() -> None:
    buckets = Buckets({size: float(size) for size in (1, 2, 4, 8)})
    assert buckets.split(11) == [8, 2, 1]
    assert buckets.split(16) == [8, 8]
    assert buckets.split(1) == [1]
    assert buckets.split(0) == []


def test_a_padded_run_where_it_is_cheaper() -> None:
    buckets = Buckets({1: 3, 2: 4, 4: 6, 8: 11})  # small runs fill the device badly
    assert buckets.split(3) == [4]
    assert buckets.split(5) == [4, 1]
    assert buckets.split(7) == [8]
    assert buckets.split(11) == [8, 4]


def test_no_other_way_is_cheaper_and_only_the_last_run_has_room() -> None:
    costs = {1: 2.5, 3: 4.0, 4: 6.5}
    for count in range(1, 13):
        sizes = Buckets(costs).split(count)
        cheapest = min(
            sum(costs[size] for size in way)
            for runs in range(1, count + 1)
            for way in itertools.combinations_with_replacement(costs, runs)
            if sum(way) >= count
        )
        assert sum(costs[size] for size in sizes) == cheapest
        assert sum(sizes[:-1]) < count <= sum(sizes)


def test_without_the_largest() -> None:
    buckets = Buckets({2: 1.0, 4: 1.5})
    assert buckets.without_largest().split(4) == [2, 2]
    assert buckets.without_largest().without_largest().largest == 2


@pytest.mark.parametrize("costs", [{}, {0: 1.0, 1: 1.0}])
def test_no_sizes(costs: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Buckets(costs)
