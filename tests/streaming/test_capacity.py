"""How many more sessions fit, and the hop of all sessions over time."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.capacity import Cost, Load, Machine, Pace, device_s, free_sessions, fullness
from streaming.settings import LoadSettings

LIMITS = LoadSettings(recogniser_share=0.8, decode_share=0.8, loop_lag_s=0.1)
HOP_S, LONGEST_S = 0.125, 0.5
MOST = 100


def each(seconds: float) -> Cost:
    """A device to which every window costs as much as the first."""
    return lambda size: size * seconds


def machine(*devices: Cost, cores: float = 8) -> Machine:
    return Machine(devices=devices, max_batch=16, cores=cores)


def fit(of: Machine, load: Load, sessions: int, now_s: float = HOP_S) -> tuple[int, str | None]:
    return free_sessions(of, LIMITS, load, sessions, now_s, LONGEST_S, MOST)


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


def test_a_refusal_has_a_reason() -> None:
    def why(of: Machine, load: Load, sessions: int) -> str:
        none, words = fit(of, load, sessions)
        assert none == 0 and words is not None
        return words

    assert "recogniser" in why(machine(each(0.4)), Load(), 1)
    assert "video" in why(machine(each(0.001)), Load(sessions=4, decode=0.75), 4)
    assert "behind" in why(machine(each(0.001)), Load(sessions=4, loop_lag_s=0.11), 4)


def test_cheaper_batches_count_unless_they_take_longer_than_a_hop() -> None:
    assert device_s(machine(lambda size: 0.02), HOP_S) == pytest.approx(0.02 / 16)
    assert device_s(machine(lambda size: 0.02 + 0.01 * size), 0.1) == pytest.approx(0.1 / 8)
    assert device_s(machine(lambda size: 3.0), HOP_S) == 3.0


def test_slower_cameras_than_expected_leave_time_for_more_sessions() -> None:
    slow = machine(each(0.04))
    measured = Load(sessions=8, recogniser=0.4)
    assert fit(slow, measured, 8, now_s=LONGEST_S) == (8, None)
    used_up = replace(measured, recogniser=1.0)  # which may be any number of sessions
    assert fit(slow, used_up, 8, now_s=LONGEST_S) == (2, None)


def test_a_device_that_runs_windows_one_by_one_is_not_full() -> None:
    """20 ms a batch: alone windows fill it; together they would not."""
    full = fullness(
        machine(lambda size: 0.02), LIMITS, Load(sessions=6, recogniser=0.95), 6, HOP_S, HOP_S
    )
    assert full["recogniser"] < 0.1


def test_the_next_session_is_expected_to_cost_what_the_others_cost() -> None:
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


TICK_S = 1 / 15


def pace() -> Pace:
    return Pace(0.1, 0.5, TICK_S)


def play(pace: Pace, work: float, began_s: int, seconds: int, noise: float = 0.0) -> list[int]:
    """The hop, ticks, after each second of a load that fills the machine by `work` at one tick."""
    rng = random.Random(1)
    hops = []
    for now_s in range(began_s, began_s + seconds):
        full = work * TICK_S / pace.hop_s * (1 + rng.uniform(-noise, noise))
        pace.update(full, now_s)
        hops.append(round(pace.hop_s / TICK_S))
    return hops


def test_a_hop_is_whole_ticks_between_the_base_and_the_longest() -> None:
    assert pace().hop_s == pytest.approx(2 * TICK_S)
    assert pace().longest_s == pytest.approx(7 * TICK_S)
    assert pace().added_s == 0
    assert Pace(2 * TICK_S, 0.5, TICK_S).hop_s == pytest.approx(2 * TICK_S)
    slow = Pace(1.0, 0.5, TICK_S)
    assert slow.longest_s == slow.hop_s == pytest.approx(1.0)


def test_the_hop_grows_until_everybody_is_served() -> None:
    assert play(pace(), 2.0, 0, 3) == [2, 2, 2]
    assert play(pace(), 2.1, 0, 3) == [3, 3, 3]
    assert play(pace(), 4.5, 0, 4) == [4, 5, 5, 5]
    assert play(pace(), 50.0, 0, 4) == [4, 7, 7, 7]
    hasty = pace()
    hasty.update(50.0, 0.0)
    hasty.update(50.0, 0.2)  # what the longer hop did has not been seen yet
    assert hasty.hop_s == pytest.approx(4 * TICK_S)


def test_the_hop_shrinks_after_some_calm_seconds() -> None:
    one = pace()
    play(one, 50.0, 0, 10)
    hops = play(one, 1.0, 10, 30)
    assert hops[:5] == [7, 7, 7, 7, 6]
    assert hops[-1] == 2 and one.added_s == 0
    assert hops == sorted(hops, reverse=True)


def test_a_calm_moment_does_not_shrink_the_hop() -> None:
    one = pace()
    play(one, 6.9, 0, 10)
    for second in range(10, 40):
        assert play(one, 1.0 if second % 3 else 6.9, second, 1) == [7]


@given(work=st.floats(0.0, 12.0), noise=st.floats(0.0, 0.04))
def test_the_hop_does_not_flutter(work: float, noise: float) -> None:
    """Under a steady load, measured as badly as it is, it finds its hop and stays there."""
    one = pace()
    play(one, 12.0, 0, 10)
    play(one, work, 10, 40, noise)
    hops = play(one, work, 50, 120, noise)
    assert hops[-1] == max(hops)
    assert len(set(hops)) <= 2 and hops == sorted(hops)
    assert work / hops[-1] <= 1 + noise or hops[-1] == 7
