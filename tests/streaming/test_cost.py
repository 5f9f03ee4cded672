"""The cost of a batch, as measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.batching import CostModel

SECONDS = st.floats(0, 60)
BATCHES = st.lists(st.tuples(st.integers(1, 16), SECONDS), max_size=40)


def warmed(cost_s: dict[int, float]) -> CostModel:
    cost = CostModel()
    for size, seconds in cost_s.items():
        cost.warm(size, seconds)
    return cost


def test_costs_between_and_beyond_measured_sizes_are_linear() -> None:
    cost = warmed({1: 0.010, 2: 0.014, 4: 0.030})
    assert [cost(n) for n in (1, 2, 3, 4, 8)] == pytest.approx([0.010, 0.014, 0.022, 0.030, 0.060])


def test_the_cost_is_zero_before_any_measurement() -> None:
    assert CostModel()(3) == 0


@given(BATCHES)
def test_a_larger_batch_never_costs_less(batches: list[tuple[int, float]]) -> None:
    cost = CostModel()
    for size, seconds in batches:
        cost.learn(size, seconds)
    costs = [cost(size) for size in range(1, 33)]
    assert costs == sorted(costs) and all(one >= 0 for one in costs)


def test_one_slow_batch_changes_little_and_a_slower_device_is_noticed() -> None:
    cost = warmed({1: 0.010, 8: 0.040})
    cost.learn(1, 5.0)
    assert 0.010 < cost(1) < 0.0116 and 0.040 < cost(8) < 0.0416
    for _ in range(40):
        cost.learn(1, 0.025)
    assert cost(1) == pytest.approx(0.025, rel=0.05)
    assert cost(8) > 0.045  # came along, though none of its size ran


def test_each_size_is_learnt_by_itself() -> None:
    """Batches of both sizes run; only the large ones became slower."""
    cost = warmed({1: 0.010, 8: 0.020})
    for _ in range(100):
        cost.learn(1, 0.010)
        cost.learn(8, 0.080)
    assert cost(1) == pytest.approx(0.010, rel=0.1)
    assert cost(8) == pytest.approx(0.080, rel=0.1)
