"""Loss, delay, reordering, duplicates and wraparound at the jitter buffer, with time passed in."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming.webrtc.jitter_buffer import (
    EncodedFrame,
    JitterBuffer,
    JitterSettings,
    MediaPacket,
    is_key,
    starts_frame,
)

KEY = b"\x00\x00\x00\x9d\x01\x2a" + bytes(8)
DELTA = b"\x01" + bytes(13)


def stream(
    frames: int, packets: int = 3, first: int = 0, rtp: int = 0, keys: tuple[int, ...] = (0,)
) -> list[list[MediaPacket]]:
    """Frames of `packets` packets each, 3000 ticks apart; `keys` are key frames."""
    made: list[list[MediaPacket]] = []
    for number in range(frames):
        head = KEY if number in keys else DELTA
        made.append(
            [
                MediaPacket(
                    sequence=(first + number * packets + part) % 65536,
                    rtp=(rtp + 3000 * number) % (1 << 32),
                    marker=part == packets - 1,
                    codec="VP8",
                    data=head if part == 0 else bytes([number % 256, part]),
                    starts=part == 0,
                    arrival_s=number / 30,
                )
                for part in range(packets)
            ]
        )
    return made


def feed(
    buffer: JitterBuffer, packets: list[MediaPacket], now_s: float = 0.0
) -> list[EncodedFrame]:
    return [frame for packet in packets for frame in buffer.add(packet, now_s)]


def test_a_frame_leaves_at_its_marker() -> None:
    buffer = JitterBuffer()
    (packets,) = stream(1)
    assert feed(buffer, packets[:2]) == []
    (frame,) = buffer.add(packets[2], 0.0)
    assert frame.data == b"".join(packet.data for packet in packets)
    assert frame.key and frame.codec == "VP8" and frame.rtp == 0
    assert buffer.packets == buffer.bytes == 0
    assert buffer.deadline_s() is None


def test_a_sender_without_markers_gets_its_frames_at_the_next_one() -> None:
    buffer = JitterBuffer()
    packets = [replace(p, marker=False) for frame in stream(3) for p in frame]
    assert [frame.rtp for frame in feed(buffer, packets)] == [0, 3000]


def test_a_frame_is_as_old_as_its_last_packet() -> None:
    buffer = JitterBuffer()
    (packets,) = stream(1)
    late = [replace(packets[0], arrival_s=2.0), packets[1], replace(packets[2], arrival_s=1.0)]
    assert feed(buffer, late)[0].arrival_s == 2.0


def test_a_gap_gets_two_nacks_then_is_given_up_and_a_key_frame_is_requested() -> None:
    settings = JitterSettings(wait_s=0.18, nack_interval_s=0.06, key_interval_s=0.3)
    buffer = JitterBuffer(settings)
    frames = stream(20, first=100, keys=(0, 12))
    assert len(feed(buffer, frames[0])) == 1
    assert feed(buffer, [frames[1][0], frames[1][2]], 1.0) == []
    assert buffer.nacks(1.0) == [104]
    assert buffer.nacks(1.01) == []
    assert feed(buffer, frames[2], 1.03) == []
    assert buffer.nacks(1.2) == [104]
    assert buffer.nacks(2.0) == []
    assert buffer.deadline_s() == pytest.approx(1.18)
    assert buffer.poll(1.17) == []
    assert not buffer.asks_key(1.17)
    assert buffer.poll(1.18) == []
    assert buffer.asks_key(1.18)
    assert not buffer.asks_key(1.4)
    assert buffer.asks_key(1.5)
    assert feed(buffer, [p for frame in frames[3:12] for p in frame], 1.5) == []
    assert [frame.key for frame in feed(buffer, frames[12], 1.6)] == [True]
    assert not buffer.asks_key(3.0)
    assert len(feed(buffer, frames[13], 1.7)) == 1
    assert buffer.counters.gaps == 1
    assert buffer.counters.key_frames_asked == 2
    assert buffer.counters.dropped == {"partial": 1, "no_key": 10}


def test_a_repaired_gap_costs_no_frame() -> None:
    buffer = JitterBuffer()
    frames = stream(3)
    first = feed(buffer, [p for frame in frames for p in frame if p is not frames[1][1]], 1.0)
    assert len(first) == 1
    assert buffer.nacks(1.0) == [4]
    assert [frame.rtp for frame in buffer.add(frames[1][1], 1.04)] == [3000, 6000]
    assert buffer.counters.gaps_repaired == 1
    assert buffer.losses.rtt_s == pytest.approx(0.06 - 0.25 * 0.02)
    assert buffer.poll(9.0) == []
    assert buffer.deadline_s() is None


def test_gaps_of_a_far_peer_expire_later_but_within_the_maximum() -> None:
    settings = JitterSettings(wait_s=0.18, max_wait_s=0.35, max_nacks=1)
    buffer = JitterBuffer(settings)
    frames = stream(60, packets=2)
    assert len(feed(buffer, frames[0])) == 1
    now_s = 0.0
    for number in range(1, 50):  # each repair comes 0.26 s after it was asked for
        lost, rest = frames[number]
        now_s += 1.0
        feed(buffer, [rest], now_s)
        assert len(buffer.nacks(now_s)) == 1
        buffer.poll(now_s + 0.26)
        feed(buffer, [lost], now_s + 0.26)
    assert buffer.losses.rtt_s == pytest.approx(0.26, abs=0.01)
    assert buffer.counters.gaps < 20  # the first were given up, the later ones were not
    now_s += 1.0
    feed(buffer, [frames[50][1]], now_s)
    gaps = buffer.counters.gaps
    buffer.poll(now_s + 0.3)
    assert buffer.counters.gaps == gaps
    buffer.poll(now_s + 0.34)
    assert buffer.counters.gaps == gaps + 1


def test_the_last_packet_of_a_frame_is_missed_when_the_next_frame_begins() -> None:
    buffer = JitterBuffer()
    frames = stream(3, keys=(0, 2))
    assert len(feed(buffer, frames[0] + frames[1][:2] + frames[2], 0.0)) == 1
    assert [frame.key for frame in buffer.poll(0.5)] == [True]


def test_padding_between_frames_is_not_a_frame_and_holds_none_back() -> None:
    buffer = JitterBuffer()
    first, second = stream(2)
    padding = replace(first[0], sequence=3, data=b"", marker=False, starts=False)
    second = [replace(p, sequence=p.sequence + 1) for p in second]
    assert [f.rtp for f in feed(buffer, [*first, padding, *second])] == [0, 3000]


def test_a_stream_that_begins_in_the_middle_waits_for_a_key_frame() -> None:
    buffer = JitterBuffer()
    frames = stream(6, keys=(4,))
    assert feed(buffer, [p for frame in frames[:4] for p in frame][1:]) == []
    assert buffer.poll(0.2) == []
    assert buffer.asks_key(0.2)
    assert [f.key for f in feed(buffer, frames[4])] == [True]


def test_the_first_packets_may_come_in_any_order() -> None:
    buffer = JitterBuffer()
    (packets,) = stream(1)
    assert len(feed(buffer, [packets[1], packets[2], packets[0]])) == 1


def test_a_lost_decoder_state_needs_a_key_frame() -> None:
    buffer = JitterBuffer()
    frames = stream(4, keys=(0, 3))
    assert len(feed(buffer, frames[0])) == 1
    buffer.require_key()
    assert feed(buffer, frames[1] + frames[2]) == []
    assert buffer.asks_key(0.1)
    assert len(feed(buffer, frames[3])) == 1


@pytest.mark.parametrize("bound", [{"max_packets": 32}, {"max_bytes": 200}])
def test_an_overflow_drops_all_and_goes_on_at_a_key_frame(bound: dict[str, int]) -> None:
    buffer = JitterBuffer(JitterSettings(**bound))
    frames = stream(40, keys=(0, 39))
    packets = [p for frame in frames[:39] for p in frame]
    del packets[4]
    released = feed(buffer, packets)
    assert len(released) == 1
    assert buffer.counters.dropped["overflow"] >= 1
    assert buffer.packets <= buffer.settings.max_packets
    assert buffer.bytes <= buffer.settings.max_bytes
    buffer.poll(1.0)
    assert [f.key for f in feed(buffer, frames[39], 1.0)] == [True]


def test_one_packet_from_far_away_changes_nothing_and_two_in_a_row_are_followed() -> None:
    buffer = JitterBuffer()
    frames = stream(3)
    far = stream(2, first=30_000, keys=(0,))
    assert len(feed(buffer, frames[0])) == 1
    assert feed(buffer, far[1][:1]) == []
    assert len(feed(buffer, frames[1])) == 1
    assert feed(buffer, far[0][:1]) == []
    assert feed(buffer, far[0][1:]) == []  # its first packet was the stray one
    assert buffer.poll(0.2) == []
    assert buffer.asks_key(0.2)
    again = stream(1, first=30_003)
    assert len(feed(buffer, again[0])) == 1


def test_a_new_stream_begins_with_its_key_frame() -> None:
    buffer = JitterBuffer()
    assert len(feed(buffer, stream(1)[0])) == 1
    buffer.restart()
    assert len(feed(buffer, stream(1, first=4242)[0])) == 1


@given(
    first=st.integers(0, 65535),
    rtp=st.integers(0, (1 << 32) - 1),
    packets=st.integers(1, 4),
    swaps=st.lists(st.integers(0, 8), min_size=60, max_size=60),
    copies=st.sets(st.integers(0, 59)),
)
def test_reordered_and_doubled_packets_make_the_same_frames(
    first: int, rtp: int, packets: int, swaps: list[int], copies: set[int]
) -> None:
    frames = stream(15, packets=packets, first=first, rtp=rtp)
    sent = [p for frame in frames for p in frame]
    order = sorted(range(len(sent)), key=lambda place: place + swaps[place])
    buffer = JitterBuffer()
    released: list[EncodedFrame] = []
    for place in order:
        released += buffer.add(sent[place], place / 1000)
        if place in copies:
            released += buffer.add(sent[place], place / 1000)
    assert [f.rtp for f in released] == [frame[0].rtp for frame in frames]
    assert [f.data for f in released] == [b"".join(p.data for p in frame) for frame in frames]
    assert buffer.packets == buffer.bytes == 0


@given(st.data())
def test_whatever_comes_the_bounds_hold_and_only_whole_decodable_frames_leave(
    data: st.DataObject,
) -> None:
    settings = JitterSettings(max_packets=24, max_bytes=2000)
    buffer = JitterBuffer(settings)
    frames = stream(60, first=65_500, keys=(0, 20, 40))
    whole = {frame[0].rtp: b"".join(p.data for p in frame) for frame in frames}
    sent = [p for frame in frames for p in frame]
    lost = data.draw(st.sets(st.integers(0, len(sent) - 1), max_size=40))
    moved = data.draw(st.lists(st.integers(0, 30), min_size=len(sent), max_size=len(sent)))
    released: list[EncodedFrame] = []
    now_s = 0.0
    for place in sorted(set(range(len(sent))) - lost, key=lambda place: place + moved[place]):
        now_s += 0.011
        released += buffer.poll(now_s)
        buffer.nacks(now_s)
        released += buffer.add(sent[place], now_s)
        assert buffer.packets <= settings.max_packets
        assert buffer.bytes <= settings.max_bytes
        deadline_s = buffer.deadline_s()
        assert deadline_s is None or buffer.asks_key(now_s) or deadline_s > now_s - settings.wait_s
    numbers = [f.rtp // 3000 for f in released]
    assert numbers == sorted(set(numbers))
    assert all(f.data == whole[f.rtp] for f in released)
    for before, number in zip([-1, *numbers], numbers, strict=False):
        assert number == before + 1 or number in (0, 20, 40)  # after a gap: a key frame


@given(st.lists(st.tuples(st.integers(0, 65535), st.integers(0, 3), st.booleans()), max_size=200))
def test_garbage_is_bounded_and_never_waits_in_the_past(
    packets: list[tuple[int, int, bool]],
) -> None:
    settings = JitterSettings(max_packets=16, max_bytes=500)
    buffer = JitterBuffer(settings)
    now_s = 0.0
    for sequence, rtp, marker in packets:
        now_s += 0.05
        buffer.add(
            MediaPacket(
                sequence=sequence,
                rtp=rtp,
                marker=marker,
                codec="VP8",
                data=KEY,
                starts=marker,
                arrival_s=now_s,
            ),
            now_s,
        )
        buffer.poll(now_s)
        buffer.nacks(now_s)
        buffer.asks_key(now_s)
        deadline_s = buffer.deadline_s()
        assert deadline_s is None or deadline_s > now_s  # or the repair task would spin
        assert buffer.packets <= settings.max_packets
        assert buffer.bytes <= settings.max_bytes


def test_key_frames_and_beginnings_of_both_codecs() -> None:
    assert is_key("VP8", KEY) and not is_key("VP8", DELTA) and not is_key("VP8", b"")
    assert is_key("H264", b"\0\0\0\1\x67abc\0\0\0\1\x65abc")
    assert not is_key("H264", b"\0\0\0\1\x41abc") and not is_key("H264", b"\0\0\1")
    assert starts_frame("VP8", b"\x10", b"") and starts_frame("VP8", b"\x90\x80\x01", b"")
    assert not starts_frame("VP8", b"\x00", b"") and not starts_frame("VP8", b"\x11", b"")
    assert starts_frame("H264", b"", b"\0\0\0\1\x67a") and starts_frame(
        "H264", b"", b"\0\0\0\1\x09a"
    )
    assert not starts_frame("H264", b"", b"\0\0\0\1\x65a") and not starts_frame("H264", b"", b"ab")


@pytest.mark.parametrize(
    "wrong", [{"wait_s": 0.0}, {"max_packets": 0}, {"max_packets": 40_000}, {"max_nacks": -1}]
)
def test_settings_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not usable"):
        JitterSettings(**wrong)  # type: ignore[arg-type]
