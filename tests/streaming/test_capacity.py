"""How many more sessions fit: numbers in, numbers out."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.capacity import Cost, Load, Machine, device_s, fullness, room
from streaming.settings import LoadSettings

LIMITS = LoadSettings(recogniser_share=0.8, decode_share=0.8, loop_lag_s=0.1)
HOP_S, LONGEST_S = 0.125, 0.5
MOST = 100


def each(seconds: float) -> Cost:
    """A device to which every window is as dear as the first."""
    return lambda size: size * seconds


def machine(*devices: Cost, cores: float = 8) -> Machine:
    return Machine(devices=devices, max_batch=16, cores=cores)


def fit(of: Machine, load: Load, sessions: int, now_s: float = HOP_S) -> tuple[int, str | None]:
    return room(of, LIMITS, load, sessions, now_s, LONGEST_S, MOST)


def test_an_idle_machine_takes_one_session_however_slow_it_is() -> None:
    swamped = Load(loop_lag_s=5.0)
    assert fit(machine(each(60.0), cores=0.01), swamped, 0) == (1, None)
    assert fit(machine(), Load(), 0) == (1, None)
    assert fit(machine(each(60.0)), Load(), 1)[0] == 0


def test_the_cost_model_says_how_many_fit_before_anything_was_measured() -> None:
    """40 ms of every half second at the longest hop, 0.8 of it to be had."""
    slow = machine(each(0.04))
    assert fit(slow, Load(), 0) == (10, None)
    assert fit(slow, Load(), 9) == (1, None)
    assert fit(slow, Load(), 10)[0] == 0
    assert fit(machine(each(0.04), each(0.04)), Load(), 0) == (20, None)


def test_who_is_refused_is_told_why() -> None:
    def why(of: Machine, load: Load, sessions: int) -> str:
        none, words = fit(of, load, sessions)
        assert none == 0 and words is not None
        return words

    assert "recogniser" in why(machine(each(0.4)), Load(), 1)
    assert "video" in why(machine(each(0.001)), Load(sessions=4, decode=0.75), 4)
    assert "behind" in why(machine(each(0.001)), Load(sessions=4, loop_lag_s=0.11), 4)


def test_batches_that_gain_are_counted_as_they_gain_unless_they_outlast_a_hop() -> None:
    assert device_s(machine(lambda size: 0.02), HOP_S) == pytest.approx(0.02 / 16)
    assert device_s(machine(lambda size: 0.02 + 0.01 * size), 0.1) == pytest.approx(0.1 / 8)
    assert device_s(machine(lambda size: 3.0), HOP_S) == 3.0


def test_a_camera_that_is_slower_than_was_thought_leaves_room_for_more() -> None:
    slow = machine(each(0.04))
    measured = Load(sessions=8, recogniser=0.4)
    assert fit(slow, measured, 8, now_s=LONGEST_S) == (8, None)
    used_up = replace(measured, recogniser=1.0)  # which may be any number of sessions
    assert fit(slow, used_up, 8, now_s=LONGEST_S) == (2, None)


def test_a_device_that_looks_busy_because_it_has_time_is_not_full() -> None:
    """20 ms a batch: alone windows fill it; together they would not."""
    full = fullness(
        machine(lambda size: 0.02), LIMITS, Load(sessions=6, recogniser=0.95), 6, HOP_S, HOP_S
    )
    assert full["recogniser"] < 0.1


def test_what_was_measured_of_a_session_is_expected_of_the_next() -> None:
    fast = machine(each(0.0001), cores=2)
    assert fit(fast, Load(), 0) == (32, None)  # by a first guess: 0.05 of a core each
    assert fit(fast, Load(sessions=4, decode=0.1), 4) == (28, None)
    assert fit(fast, Load(sessions=1.0, decode=0.025), 20) == (12, None)  # the rest came just now


@given(
    cost=st.floats(1e-4, 1.0),
    gain=st.floats(0, 0.9),
    sessions=st.integers(0, 30),
    recogniser=st.floats(0, 1),
    decode=st.floats(0, 1),
    lag=st.floats(0, 0.2),
)
def test_as_many_fit_as_it_says_and_not_one_more(
    cost: float, gain: float, sessions: int, recogniser: float, decode: float, lag: float
) -> None:
    of = machine(lambda size: cost * (1 + (1 - gain) * (size - 1)))
    load = Load(sessions=sessions, recogniser=recogniser, decode=decode, loop_lag_s=lag)
    more, why = fit(of, load, sessions)
    assert (more == 0) == (why is not None)

    def full(count: int) -> float:
        return max(fullness(of, LIMITS, load, count, HOP_S, LONGEST_S).values())

    if sessions + more > 1 and more:
        assert full(sessions + more) <= 1
    if more < MOST:
        assert full(sessions + more + 1) > 1
