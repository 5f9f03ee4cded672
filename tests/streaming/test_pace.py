"""The hop of all sessions over time, with the load that it makes."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.capacity import Pace

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


def test_a_hop_is_whole_ticks_between_what_is_wanted_and_the_longest() -> None:
    assert pace().hop_s == pytest.approx(2 * TICK_S)
    assert pace().longest_s == pytest.approx(7 * TICK_S)
    assert pace().added_s == 0
    assert Pace(2 * TICK_S, 0.5, TICK_S).hop_s == pytest.approx(2 * TICK_S)
    slow = Pace(1.0, 0.5, TICK_S)
    assert slow.longest_s == slow.hop_s == pytest.approx(1.0)


def test_it_grows_until_everybody_is_served() -> None:
    assert play(pace(), 2.0, 0, 3) == [2, 2, 2]
    assert play(pace(), 2.1, 0, 3) == [3, 3, 3]
    assert play(pace(), 4.5, 0, 4) == [4, 5, 5, 5]
    assert play(pace(), 50.0, 0, 4) == [4, 7, 7, 7]
    hasty = pace()
    hasty.update(50.0, 0.0)
    hasty.update(50.0, 0.2)  # what the longer hop did has not been seen yet
    assert hasty.hop_s == pytest.approx(4 * TICK_S)


def test_it_comes_back_once_it_has_looked_good_for_a_while() -> None:
    one = pace()
    play(one, 50.0, 0, 10)
    hops = play(one, 1.0, 10, 30)
    assert hops[:5] == [7, 7, 7, 7, 6]
    assert hops[-1] == 2 and one.added_s == 0
    assert hops == sorted(hops, reverse=True)


def test_a_quiet_moment_is_not_a_while() -> None:
    one = pace()
    play(one, 6.9, 0, 10)
    for second in range(10, 40):
        assert play(one, 1.0 if second % 3 else 6.9, second, 1) == [7]


@given(work=st.floats(0.0, 12.0), noise=st.floats(0.0, 0.04))
def test_it_does_not_flutter(work: float, noise: float) -> None:
    """Under a steady load, measured as badly as it is, it finds its hop and stays there."""
    one = pace()
    play(one, 12.0, 0, 10)
    play(one, work, 10, 40, noise)
    hops = play(one, work, 50, 120, noise)
    assert hops[-1] == max(hops)
    assert len(set(hops)) <= 2 and hops == sorted(hops)
    assert work / hops[-1] <= 1 + noise or hops[-1] == 7
