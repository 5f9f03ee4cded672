"""The decoder thread: overflow, age, hostile sizes, shapes; RTP timestamps to media seconds."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Frame, Resize
from streaming.webrtc.jitter_buffer import EncodedFrame
from streaming.webrtc.video_decoder import MediaClock, VideoDecoder, VideoDecoderSettings

PATIENT_S = 60.0  # no frame is too old on a busy machine
RED, GREEN = (220, 30, 30), (30, 200, 40)


def encoded(
    colours: list[tuple[int, int, int]], size: tuple[int, int] = (320, 240), codec: str = "VP8"
) -> list[EncodedFrame]:
    """One frame a colour, 3000 ticks apart, read just now."""
    name = {"VP8": "libvpx", "H264": "libx264"}[codec]
    encoder: Any = av.CodecContext.create(name, "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.framerate = 30
    encoder.bit_rate = 500_000
    live = {"VP8": {"deadline": "realtime", "lag-in-frames": "0"}, "H264": {"tune": "zerolatency"}}
    encoder.options = live[codec]
    frames: list[EncodedFrame] = []
    for number, colour in enumerate(colours):
        image = np.full((size[1], size[0], 3), colour, np.uint8)
        picture = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        picture.pts = number
        for packet in encoder.encode(picture):
            frames.append(frame(bytes(packet), number, codec))
    return frames


def frame(data: bytes, number: int = 0, codec: str = "VP8") -> EncodedFrame:
    return EncodedFrame(
        data=data, codec=codec, rtp=3000 * number, key=number == 0, arrival_s=time.monotonic()
    )


class Receiver:
    """Collects frames from the decoder's thread; `came` is set on the loop."""

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.came = asyncio.Event()
        self.lost = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def __call__(self, frame: Frame) -> None:
        self.frames.append(frame)
        self._loop.call_soon_threadsafe(self.came.set)

    async def wait_for(self, count: int) -> list[Frame]:
        async with asyncio.timeout(10):
            while len(self.frames) < count:
                self.came.clear()
                await self.came.wait()
        return self.frames


@asynccontextmanager
async def decoding(
    *,
    short_side: int = 120,
    resize: Resize = "fast",
    settings: VideoDecoderSettings | None = None,
    wants: Callable[[float], bool] = lambda media_s: True,
) -> AsyncIterator[tuple[VideoDecoder, Receiver]]:
    receiver = Receiver()
    decoder = VideoDecoder(
        on_frame=receiver,
        wants=wants,
        on_loss=receiver.lost.set,
        short_side=short_side,
        resize=resize,
        settings=settings or VideoDecoderSettings(max_age_s=PATIENT_S),
    )
    decoder.start()
    try:
        yield decoder, receiver
    finally:
        await decoder.close()
    assert not [t for t in threading.enumerate() if t.name == "video-decoder"]


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize(
    ("size", "shape"), [((320, 240), (120, 160)), ((240, 426), (213, 120)), ((128, 96), (96, 128))]
)
async def test_pictures_keep_their_colours_and_shape(
    codec: str, size: tuple[int, int], shape: tuple[int, int]
) -> None:
    async with decoding() as (decoder, receiver):
        for item in encoded([RED, GREEN], size, codec):
            decoder.put(item)
        red, green = await receiver.wait_for(2)
    assert red.image.shape == green.image.shape == (*shape, 3)
    assert np.abs(red.image.astype(int) - RED).max() < 12
    assert np.abs(green.image.astype(int) - GREEN).mean() < 12
    assert red.media_s == 0.0
    assert green.media_s == pytest.approx(1 / 30)
    assert green.rtp == 3000


@pytest.mark.parametrize(("resize", "width"), [("fast", 136), ("exact", 135)])
async def test_pictures_are_resized_by_the_bundles_rule(resize: Resize, width: int) -> None:
    """The exact one rounds the long side down, as transformers' processor does."""
    async with decoding(short_side=100, resize=resize) as (decoder, receiver):
        for item in encoded([RED], (326, 240)):
            decoder.put(item)
        [red] = await receiver.wait_for(1)
    assert red.image.shape == (100, width, 3)
    assert np.abs(red.image.astype(int) - RED).max() < 12


async def test_a_full_queue_is_emptied_and_a_key_frame_is_requested() -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(media_s: float) -> bool:
        entered.set()
        return leave.wait(10)

    settings = VideoDecoderSettings(max_queued=4, max_age_s=PATIENT_S)
    async with decoding(settings=settings, wants=hold) as (decoder, receiver):
        items = encoded([RED] * 7)
        decoder.put(items[0])
        assert await asyncio.to_thread(entered.wait, 10)
        for item in items[1:5]:
            decoder.put(item)
        assert decoder.queued == 4 and not receiver.lost.is_set()
        decoder.put(items[5])
        assert decoder.queued == 0 and receiver.lost.is_set()
        assert decoder.counters.dropped == {"behind": 5}
        leave.set()


async def test_an_old_frame_is_not_converted_unless_none_was_for_a_while() -> None:
    settings = VideoDecoderSettings(max_age_s=30.0, max_pause_s=60.0)
    async with decoding(settings=settings) as (decoder, receiver):
        for number, item in enumerate(encoded([RED, RED, GREEN])):
            late_s = 31.0 if number < 2 else 0.0
            decoder.put(dataclasses.replace(item, arrival_s=item.arrival_s - late_s))
        first, second = await receiver.wait_for(2)
    assert (first.rtp, second.rtp) == (0, 6000)
    assert decoder.counters.frames_decoded == 3
    assert decoder.counters.dropped == {"stale": 1}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00" * 3,
        b"\x00\x00\x00\x9d\x01\x2a" + b"\xff" * 60,
        b"\x10\x02\x00\x9d\x01\x2a\xff\x3f\xff\x3f" + bytes(200),  # 16383 x 16383
    ],
)
async def test_garbage_and_giant_pictures_are_errors_that_end_nothing(data: bytes) -> None:
    async with decoding() as (decoder, receiver):
        decoder.put(frame(data))
        for item in encoded([GREEN]):
            decoder.put(item)
        (shown,) = await receiver.wait_for(1)
    assert np.abs(shown.image.astype(int) - GREEN).mean() < 12
    assert decoder.counters.decoder_errors == (1 if data else 0)
    assert receiver.lost.is_set() == bool(data)


async def test_a_picture_with_more_pixels_than_allowed_is_an_error() -> None:
    settings = VideoDecoderSettings(max_pixels=320 * 240, max_age_s=PATIENT_S)
    async with decoding(settings=settings) as (decoder, receiver):
        for item in encoded([RED], (640, 480)) + encoded([GREEN], (320, 240)):
            decoder.put(item)
        (shown,) = await receiver.wait_for(1)
    assert np.abs(shown.image.astype(int) - GREEN).mean() < 12
    assert decoder.counters.decoder_errors == 1


async def test_the_codec_may_change() -> None:
    async with decoding() as (decoder, receiver):
        for item in encoded([RED]) + encoded([GREEN], codec="H264"):
            decoder.put(item)
        red, green = await receiver.wait_for(2)
    assert np.abs(red.image.astype(int) - RED).max() < 12
    assert np.abs(green.image.astype(int) - GREEN).mean() < 12


async def test_frames_after_close_are_ignored_and_close_needs_no_start() -> None:
    decoder = VideoDecoder(
        on_frame=lambda frame: None, wants=lambda t: True, on_loss=lambda: None, short_side=120
    )
    await decoder.close()
    decoder.put(frame(b"x"))
    decoder.start()
    assert decoder.queued == 0
    assert not [t for t in threading.enumerate() if t.name == "video-decoder"]


def test_media_time_starts_at_zero_and_counts_in_90_khz() -> None:
    clock = MediaClock()
    assert clock.map(1_000_000, 5.0) == 0.0
    assert clock.map(1_090_000, 9.0) == pytest.approx(1.0)


def test_media_time_goes_on_where_the_timestamp_wraps() -> None:
    clock = MediaClock()
    clock.map((1 << 32) - 3000, 0.0)
    assert clock.map(3000, 0.1) == pytest.approx(6000 / 90_000)


@pytest.mark.parametrize("jump", [-90_000 * 5, 90_000 * 60, 1 << 31])
def test_after_a_jump_media_time_goes_on_by_the_time_between_arrivals(jump: int) -> None:
    clock = MediaClock()
    clock.map(1 << 31, 10.0)
    assert clock.map(((1 << 31) + jump) % (1 << 32), 10.5) == pytest.approx(0.5)
    assert clock.map(((1 << 31) + jump + 9000) % (1 << 32), 10.6) == pytest.approx(0.6)


@given(st.lists(st.tuples(st.integers(0, (1 << 32) - 1), st.floats(0, 1e6))))
def test_media_time_always_grows(frames: list[tuple[int, float]]) -> None:
    clock = MediaClock()
    times = [clock.map(rtp, arrival_s) for rtp, arrival_s in frames]
    assert all(later > earlier for earlier, later in pairwise(times))
