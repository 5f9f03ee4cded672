"""Which frames make a window, and when one is due."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import EncoderSpec, Frame
from models.window import FrameSampler, WindowCutter, windows

SPEC = EncoderSpec(
    kind="test", source="test", revision="0", dim=1, frames=8, fps=10.0, short_side=16
)
PICTURE = np.zeros((16, 16, 3), np.uint8)


def frame(media_s: float) -> Frame:
    return Frame(image=PICTURE, media_s=media_s)


def sampled(times: list[float], fps: float = 10.0) -> list[float]:
    sampler = FrameSampler(fps)
    return [t for t in times if sampler.wants(t)]


def test_sampler_takes_the_first_frame_of_each_tick() -> None:
    thirty = [n / 30 for n in range(30)]
    assert sampled(thirty) == [n / 30 for n in range(0, 30, 3)]


def test_sampler_takes_every_frame_of_a_slow_camera() -> None:
    slow = [n / 7 for n in range(20)]
    assert sampled(slow) == slow


@given(st.integers(0, 100_000), st.sampled_from([8.0, 10.0, 12.0, 15.0, 29.97]))
def test_rounding_never_moves_a_frame_to_another_tick(n: int, fps: float) -> None:
    assert FrameSampler(fps).tick(n / fps) == n


def test_a_camera_at_the_encoder_s_rate_loses_no_frame_to_jitter() -> None:
    """As browsers' do: frames of a 15 fps camera, up to 12 ms early or late."""
    jitter = np.random.default_rng(0).uniform(-0.012, 0.012, 200)
    times = [0.0, *(n / 15 + jitter[n] for n in range(1, 200))]
    assert sampled(times, 15.0) == times


def test_rtp_s_rounding_loses_no_frame() -> None:
    times = [n * 5999 / 90_000 for n in range(60)]  # 11 microseconds early, each time
    assert sampled(times, 15.0) == times


def test_sampler_refuses_late_frames_but_follows_a_clock_set_back() -> None:
    sampler = FrameSampler(10.0)
    assert sampler.wants(50.0)
    assert not sampler.wants(49.9)
    assert sampler.wants(3.0)
    assert sampler.wants(3.1)


def test_a_window_has_a_frame_a_tick_and_ends_with_the_newest() -> None:
    cutter = WindowCutter("a", SPEC, 0.2)
    frames = [frame(n / 10) for n in range(20)]
    for one in frames:
        cutter.push(one)
    clip = cutter.cut()
    assert clip.frames == tuple(frames[-8:])
    assert clip.end_s == pytest.approx(1.9)
    assert clip.end_s - clip.start_s == pytest.approx(SPEC.window_s)


def test_a_young_window_stands_still_before_its_first_frame() -> None:
    cutter = WindowCutter("a", SPEC, 0.2)
    first, second = frame(5.0), frame(5.1)
    cutter.push(first)
    cutter.push(second)
    assert cutter.cut().frames == (first,) * 7 + (second,)


def test_a_tick_without_a_frame_repeats_the_one_before() -> None:
    cutter = WindowCutter("a", SPEC, 0.2)
    kept = [frame(t / 10) for t in (0, 1, 2, 6, 7)]
    for one in kept:
        cutter.push(one)
    a, b, c, g, h = kept
    assert cutter.cut().frames == (a, b, c, c, c, c, g, h)


def test_due_once_a_hop() -> None:
    cutter = WindowCutter("a", SPEC, 0.3)
    ends = []
    for n in range(10):
        cutter.push(frame(n / 10))
        if cutter.due():
            ends.append(round(cutter.cut().end_s, 3))
    assert ends == [0.0, 0.3, 0.6, 0.9]


def test_a_look_at_the_newest_frames_is_no_window() -> None:
    cutter = WindowCutter("a", SPEC, 0.3)
    cutter.push(frame(0.0))
    cutter.cut()
    for n in (1, 2, 3):
        cutter.push(frame(n / 10))
        newest = cutter.newest()
    assert cutter.due()
    assert cutter.cut().frames == newest.frames
    assert not cutter.due()


@pytest.mark.parametrize("jump_s", [-0.5, 0.9, 40.0])
def test_a_jump_of_the_clock_starts_over(jump_s: float) -> None:
    cutter = WindowCutter("a", SPEC, 0.2)
    for n in range(8):
        cutter.push(frame(100 + n / 10))
    cutter.cut()
    after = frame(100.7 + jump_s)
    cutter.push(after)
    assert cutter.due()
    assert cutter.cut().frames == (after,) * 8


def test_no_frame_no_window() -> None:
    cutter = WindowCutter("a", SPEC, 0.2)
    assert not cutter.due()
    with pytest.raises(LookupError):
        cutter.cut()


@given(
    st.lists(st.floats(0, 0.5), min_size=1, max_size=60),
    st.floats(0.02, 1.0),
)
def test_every_window_is_whole_ordered_and_never_older_than_a_window(
    steps: list[float], hop_s: float
) -> None:
    times = np.cumsum(steps).tolist()
    for clip in windows("a", map(frame, times), SPEC, hop_s):
        media = [one.media_s for one in clip.frames]
        assert len(media) == SPEC.frames
        assert media == sorted(media)
        assert media[-1] == clip.end_s


def test_the_same_frames_stand_in_overlapping_windows() -> None:
    """What lets an encoder compute each frame once."""
    cuts = list(windows("a", (frame(n / 29.97) for n in range(120)), SPEC, 0.1))
    used = {id(one) for clip in cuts for one in clip.frames}
    assert len(used) <= 120 / 29.97 * SPEC.fps + 1
