"""A camera without a person: the video that benchmarks and tests send to the server.

    pictures -> number written into each -> [camera] -> aiortc's sender

The camera keeps when it made each frame, so that latency counts from the picture to the result.
`SyntheticCamera` gives frames to an encoder. `RecordedCamera` sends frames that `record` encoded
beforehand: encoding costs a sender several times what receiving costs the server, so that live
senders would fill the machine before the server does.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import abstractmethod
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from aiortc import MediaStreamTrack
from aiortc.mediastreams import MediaStreamError
from numpy.typing import NDArray

from models.video_file import open_video_file
from streaming.bench import barcode

_CLOCK = Fraction(1, 90_000)  # s, of RTP video
_BITS_PER_PIXEL = 0.11  # 1 Mbit/s at 640x480 and 30 frames a second, as browsers send
_CLIP_FRAMES = 300  # of a video file; longer ones are cut

Pictures = Iterator[NDArray[np.uint8]]  # (H, W, 3) RGB


class _Camera(MediaStreamTrack):
    """A video track with a steady rate: late frames are made at once and keep their times."""

    kind = "video"

    def __init__(self, fps: float, numbers: int) -> None:
        super().__init__()
        self.fps = fps
        self.made_s: list[float] = []  # monotonic time of each frame
        self.numbers = numbers  # frame n shows the number n modulo this
        self._start_s: float | None = None

    async def recv(self) -> Any:
        """The next frame (an av.VideoFrame or an av.Packet), when it is due."""
        if self.readyState != "live":
            raise MediaStreamError
        count = len(self.made_s)
        if self._start_s is None:
            self._start_s = time.monotonic()
        await asyncio.sleep(max(0.0, self._start_s + count / self.fps - time.monotonic()))
        frame = self._made(count)
        frame.pts, frame.time_base = round(count / self.fps / _CLOCK), _CLOCK
        return frame

    @abstractmethod
    def _made(self, count: int) -> Any:
        """Frame `count`, whose time goes into `made_s`."""


class SyntheticCamera(_Camera):
    """Frames to be encoded live.

    Args:
        size: (width, height) px of the frames.
        clip: see `clip_pictures`.
    """

    def __init__(
        self, *, fps: float = 30.0, size: tuple[int, int], clip: str | None = None
    ) -> None:
        super().__init__(fps, barcode.NUMBERS)
        self._pictures = clip_pictures(clip, size)

    def _made(self, count: int) -> av.VideoFrame:
        image = next(self._pictures)
        self.made_s.append(time.monotonic())
        barcode.write(image, count)
        return _encodable(image)


class RecordedCamera(_Camera):
    """Plays a recording over and over; its numbers start again each time, its times do not."""

    def __init__(self, path: str | Path) -> None:
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        self._frames = [bytes(packet) for packet in packets]
        last = packets[-1]
        fps = (len(packets) - 1) / float((last.pts or 0) * last.time_base)
        super().__init__(fps, len(packets))

    def _made(self, count: int) -> Any:
        self.made_s.append(time.monotonic())
        return av.Packet(self._frames[count % self.numbers])


def record(path: str | Path, pictures: Pictures, *, frames: int, fps: int) -> None:
    """Write the first `frames` of `pictures`, numbered, to an IVF file, as VP8.

    It has a key frame each second: a recording can't make one when the receiver asks for it.
    """
    with av.open(str(path), "w", format="ivf") as container:
        stream = container.add_stream("libvpx", rate=fps)
        for number in range(frames):
            image = next(pictures)
            barcode.write(image, number)
            if number == 0:
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.bit_rate = round(_BITS_PER_PIXEL * fps * stream.height * stream.width)
                stream.gop_size = fps
                stream.thread_count = 1  # libvpx's threads spin while they wait for each other
                stream.options = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
            frame = _encodable(image)
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _encodable(image: NDArray[np.uint8]) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(image, format="rgb24")
    return frame.reformat(format="yuv420p", threads=1)


def clip_pictures(path: str | None, size: tuple[int, int]) -> Pictures:
    """The pictures of a video file at (width, height), over and over; drawn ones without a file.

    Raises:
        OSError, av.FFmpegError: the file cannot be read.
        ValueError: it has no pictures.
    """
    if path is None:
        return drawn_pictures(size)
    with open_video_file(path) as container:
        pictures = [
            np.asarray(frame.reformat(*size, format="rgb24", threads=1).to_ndarray(), np.uint8)
            for frame in itertools.islice(container.decode(video=0), _CLIP_FRAMES)
        ]
    if not pictures:
        raise ValueError(f"{path} has no pictures")
    return (picture.copy() for picture in itertools.cycle(pictures))


def drawn_pictures(size: tuple[int, int]) -> Pictures:
    """Grey pictures with a square that moves, so that each frame differs from the one before."""
    width, height = size
    side = max(8, height // 8)
    for number in itertools.count():
        image = np.full((height, width, 3), 112, np.uint8)
        left = number * 7 % (width - side)
        image[height - 2 * side : height - side, left : left + side] = (200, 90, 40)
        yield image
