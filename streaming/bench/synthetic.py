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
