"""A camera and a peer without a person: what benchmarks and tests send to the server.

The camera's frames carry their number in their pixels (`barcode.py`), and the time at which they
were made is remembered, so that latency is counted from the picture to the result.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.mediastreams import MediaStreamError
from aiortc.rtp import RtpPacket, is_rtcp
from numpy.typing import NDArray

from streaming.bench import barcode

_CLOCK = 90_000  # Hz


class SyntheticCamera(MediaStreamTrack):
    """A video track at a steady rate.

    Late frames are made at once and keep their numbers, as a camera's would.

    Args:
        pictures: (H, W, 3) RGB pictures to draw the number over; None: grey ones.
        size: (width, height) px of the frames.
        frames: ends after so many; None: never.
    """

    kind = "video"

    def __init__(
        self,
        *,
        fps: float = 30.0,
        size: tuple[int, int] = (640, 480),
        pictures: Iterator[NDArray[np.uint8]] | None = None,
        frames: int | None = None,
    ) -> None:
        super().__init__()
        self.fps = fps
        self.size = size
        self.made_s: list[float] = []  # monotonic time of each frame, by its number
        self.pictures = barcode.NUMBERS  # numbers begin again then
        self._pictures = pictures or drawn_pictures(size)
        self._frames = frames
        self._start_s: float | None = None

    async def recv(self) -> av.VideoFrame:
        number = len(self.made_s)
        if self.readyState != "live" or (self._frames is not None and number >= self._frames):
            self.stop()
            raise MediaStreamError
        if self._start_s is None:
            self._start_s = time.monotonic()
        await asyncio.sleep(max(0.0, self._start_s + number / self.fps - time.monotonic()))
        image = next(self._pictures)
        self.made_s.append(time.monotonic())
        barcode.draw(image, number)
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame = frame.reformat(*self.size, format="yuv420p", threads=1)
        frame.pts = round(number * _CLOCK / self.fps)
        frame.time_base = Fraction(1, _CLOCK)
        return frame


def lossy(peer: RTCPeerConnection, drop: Callable[[RtpPacket], bool]) -> None:
    """Lose the media packets of a connected peer's video for which `drop` is true.

    Retransmissions pass `drop` as well, under their own SSRC and payload type.
    """
    transport: Any = peer.getSenders()[0].transport
    send = transport._send_rtp

    async def send_some(data: bytes) -> None:
        if is_rtcp(data) or not drop(RtpPacket.parse(data)):
            await send(data)

    transport._send_rtp = send_some


def clip_pictures(path: str, size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """The pictures of a video file at (width, height), over and over.

    Raises:
        OSError, av.FFmpegError: it can't be read.
        ValueError: it has no pictures.
    """
    with av.open(path, metadata_errors="ignore") as container:
        pictures = [
            np.asarray(frame.reformat(*size, format="rgb24", threads=1).to_ndarray(), np.uint8)
            for frame in itertools.islice(container.decode(video=0), 300)
        ]
    if not pictures:
        raise ValueError(f"{path} has no pictures")
    return (picture.copy() for picture in itertools.cycle(pictures))


def drawn_pictures(size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Grey pictures with a square that moves, so that every frame differs from the one before."""
    width, height = size
    side = max(8, height // 8)
    for number in itertools.count():
        image = np.full((height, width, 3), 112, np.uint8)
        left = number * 7 % (width - side)
        image[height - 2 * side : height - side, left : left + side] = (200, 90, 40)
        yield image


# MERGED from streaming.bench.recording: A camera whose pictures were encoded beforehand: a sender
# that costs next to nothing. Encoding takes a sender several times what receiving takes the
# server, so with live encoders the senders of a benchmark fill the machine before the server
# does. Recorded once, sent by many: each sends the same bytes, at a rate that nothing slows down.

_BITS_PER_PIXEL = 0.11  # 1 Mbit/s at 640x480 and 30 pictures a second, as browsers send


def record(
    path: str | Path, pictures: Iterator[NDArray[np.uint8]], *, frames: int, fps: int
) -> None:
    """Write the first `frames` of (H, W, 3) RGB `pictures` to an IVF file, as VP8.

    Each has its number drawn over it (`barcode.py`). A key frame each second: a
    recording can't make one when it is asked to.
    """
    with av.open(str(path), "w", format="ivf") as container:
        stream = container.add_stream("libvpx", rate=fps)
        for number in range(frames):
            image = next(pictures)
            barcode.draw(image, number)
            if number == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.bit_rate = round(_BITS_PER_PIXEL * fps * stream.height * stream.width)
                stream.gop_size = fps
                stream.thread_count = 1  # libvpx's threads spin while they wait for each other
                stream.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame = frame.reformat(format="yuv420p", threads=1)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


class RecordedCamera(MediaStreamTrack):
    """A video track that plays a recording over and over, at its own rate.

    Late frames are made at once, as a camera's would be; their numbers begin again with the
    recording (`pictures` of them), their times don't.
    """

    kind = "video"

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        self.made_s: list[float] = []  # monotonic time of each frame, by its number
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        self._frames = [bytes(packet) for packet in packets]
        last = packets[-1]
        self._fps = (len(packets) - 1) / float((last.pts or 0) * last.time_base)
        self.pictures = len(self._frames)
        self._start_s: float | None = None

    async def recv(self) -> Any:  # an av.Packet
        number = len(self.made_s)
        if self.readyState != "live":
            raise MediaStreamError
        if self._start_s is None:
            self._start_s = time.monotonic()
        time_s = number / self._fps
        await asyncio.sleep(max(0.0, self._start_s + time_s - time.monotonic()))
        self.made_s.append(time.monotonic())
        packet = av.Packet(self._frames[number % self.pictures])
        packet.pts = round(time_s * _CLOCK)
        packet.time_base = Fraction(1, _CLOCK)
        return packet
