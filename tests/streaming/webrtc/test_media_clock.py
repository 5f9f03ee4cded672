"""RTP timestamps to media seconds."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.webrtc.video_decoder import MediaClock


def test_it_starts_at_zero_and_counts_in_90_khz() -> None:
    clock = MediaClock()
    assert clock.map(1_000_000, 5.0) == 0.0
    assert clock.map(1_090_000, 9.0) == pytest.approx(1.0)


def test_a_wrap_is_a_step_like_any_other() -> None:
    clock = MediaClock()
    clock.map((1 << 32) - 3000, 0.0)
    assert clock.map(3000, 0.1) == pytest.approx(6000 / 90_000)


@pytest.mark.parametrize("jump", [-90_000 * 5, 90_000 * 60, 1 << 31])
def test_a_jump_goes_on_by_what_passed_between_arrivals(jump: int) -> None:
    clock = MediaClock()
    clock.map(1 << 31, 10.0)
    assert clock.map(((1 << 31) + jump) % (1 << 32), 10.5) == pytest.approx(0.5)
    assert clock.map(((1 << 31) + jump + 9000) % (1 << 32), 10.6) == pytest.approx(0.6)


@given(st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.floats(0, 1e6))))
def test_it_never_goes_back(frames: list[tuple[int, float]]) -> None:
    clock = MediaClock()
    times = [clock.map(rtp, arrival_s) for rtp, arrival_s in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
