"""Reads video files: pictures with their media time, in order.

    file -> [videos] -> pictures -> windows -> encoder, fingerprint

Media time is a frame's presentation time minus the first frame's. Files are often odd: metadata
that is not UTF-8, a rotation or mirroring in the container, no time stamps, times that start anew,
broken packets, a cut end, a cover picture before the video. What can be decoded is returned; a file
with no video at all is a `VideoError`.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition
from numpy.typing import NDArray

from models.picture import PictureScaler
from models.schema import Frame, Resize
from models.video_file import open_video_file

_MAX_SIDE = 8192  # px: larger pictures are not video of a person, but an attack or a mistake
_DEFAULT_FPS = 25.0  # where a file has neither times nor a rate
_JUMP_S = 10.0  # s: a larger step forward is no pause, but the clock of another recording
_LATE_S = 0.25  # s: a smaller step back is no new start, but a picture with a wrong time
# Streams that hold pictures about the video: its cover, thumbnails.
_ABOUT = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
_PICTURE_BRANDS = ("avif", "heic", "heix", "mif1")  # of such files in the form of MP4
# Codecs of pictures, and of video too: a stream of one picture is none.
_PICTURE_CODECS = ("mjpeg", "png", "apng", "bmp", "tiff", "webp", "ljpeg", "jpeg2000")


class VideoError(ValueError):
    """A file that can't be read as video; one line that names the file and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPart(os.PathLike[str]):
    """Some pictures of a video file: from the `first` to the `last`, both counted from 1.

    Labels such as WLASL's count in the video as it was published, and nobody says of a file whether
    it was cut since. Its own number of pictures decides: one that has fewer than `last` (or, where
    that is None, fewer than `first`) was cut already, and is taken whole.
    """

    path: Path
    first: int = 1
    last: int | None = None  # None: to the end

    def __fspath__(self) -> str:
        return os.fspath(self.path)

    def __str__(self) -> str:
        return str(self.path)

    def of_pictures(self, count: int) -> tuple[int, float]:
        """The first and the last picture to take, from 1, of a file that has `count` pictures."""
        if count < (self.last or self.first):
            return 1, math.inf
        return self.first, self.last or math.inf


def part_of(path: Path, part: tuple[int, int | None] | None) -> Path | VideoPart:
    """What to read of a video: `part`, its first and last picture, or (None) all."""
    return path if part is None else VideoPart(path=path, first=part[0], last=part[1])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Picture:
    """A decoded picture, which is converted only when `rgb` is called."""

    media_s: float
    file: str
    decoded: av.VideoFrame
    aspect: float  # of a pixel
    scaler_for: Callable[[int, Resize], PictureScaler]  # by short side and rule

    def rgb(self, short_side: int, resize: Resize = "fast") -> NDArray[np.uint8]:
        """(H, W, 3) of its own memory, upright, with square pixels; see `read_video` on its size.

        Raises:
            VideoError: the picture is too large, or can't be converted.
        """
        decoded = self.decoded
        if max(decoded.width * self.aspect, decoded.height) > _MAX_SIDE:
            size = f"{decoded.width}x{decoded.height}"
            raise VideoError(f"{self.file}: pictures of {size} are too large")
        matrix: Any = decoded.side_data.get("DISPLAYMATRIX")
        turn = None
        if matrix is not None:
            turn = partial(upright, matrix=np.frombuffer(bytes(matrix), np.int32))
        try:
            scaler = self.scaler_for(short_side, resize)
            return np.ascontiguousarray(scaler.rgb(decoded, self.aspect, turn))
        except av.FFmpegError as exc:
            raise VideoError(
                f"{self.file}: its pictures can't be converted ({_reason(exc)})"
            ) from exc


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """A picture as a container's display matrix says that players show it.

    Quarter turns and mirrorings, as ffmpeg does them. `matrix` (9,) is of ISO/IEC 14496-12, by
    rows: a point (x, y) is shown at (a x + c y, b x + d y), y downwards; its scale and its shift
    are not applied.
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def read_video(
    path: str | os.PathLike[str],
    short_side: int,
    wants: Callable[[float], bool] | None = None,
    resize: Resize = "fast",
) -> Iterator[Frame]:
    """The frames of a video in the order of their media time, as upright RGB arrays.

    Args:
        short_side: pictures with a longer short side are scaled down to it, px.
        wants: called with each frame's media time in seconds; frames for which it returns False are
            not converted and left out. None: all.
        resize: the rule by which they are scaled down, see `models.picture`.

    A file that breaks off has the frames before the break.

    Raises:
        VideoError: there is no such file, no video in it, or not one picture can be decoded.
    """
    for picture in read_pictures(path):
        if wants is None or wants(picture.media_s):
            yield Frame(image=picture.rgb(short_side, resize), media_s=picture.media_s)


def read_pictures(path: str | os.PathLike[str]) -> Iterator[Picture]:
    """The pictures of a video in the order of their media time.

    Raises:
        VideoError: see `read_video`.
    """
    name = os.fspath(path)
    with _opened(name) as (container, stream):
        aspect = float(stream.sample_aspect_ratio or 1)
        aspect = aspect if 0.25 <= aspect <= 4 else 1.0
        clock = PictureClock(float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS))
        scaler_for = cache(PictureScaler)
        first, last = _pictures_of(path, lambda: _count(name, stream.index, None))
        for number, decoded in enumerate(_decoded(name, container, stream), 1):
            if number > last:
                return
            if number < first:
                continue
            media_s = clock.media_s(None if decoded.time is None else float(decoded.time))
            if media_s is None:
                continue
            yield Picture(
                media_s=media_s, file=name, decoded=decoded, aspect=aspect, scaler_for=scaler_for
            )


def is_video(path: str | os.PathLike[str]) -> bool:
    """True for a file that opens as a video; whether its pictures can be decoded is not tried."""
    try:
        with _opened(os.fspath(path)):
            return True
    except VideoError:
        return False


class PictureClock:
    """Turns the times that a file states for its pictures, in order, into media times from 0 on.

    Recordings that were joined (parts of a DVD, or of a broadcast) start their times anew: the next
    part goes on a step after the last picture. So does one whose time lies far ahead. A single
    picture with such a time moves nobody else's.
    """

    def __init__(self, fps: float) -> None:
        self._step_s = 1 / fps if 1 <= fps <= 1000 else 1 / _DEFAULT_FPS
        self._last_s = -self._step_s  # media time of the newest picture
        self._stated_s: float | None = None  # its stated time
        self._offset_s = 0.0  # media time of 0 as stated
        self._began_s = 0.0  # stated time of this part's first picture
        # Stated time and offset of the part before, at the first picture of a new one.
        self._before: tuple[float, float] | None = None

    def media_s(self, stated_s: float | None) -> float | None:
        """The next picture's media time, s; None where it is not after the one before it."""
        if stated_s is None:  # raw streams carry no times
            self._last_s += self._step_s
            return self._last_s
        before, self._before = self._before, None
        if self._stated_s is None:
            self._begin(stated_s)
        elif before and 0 < stated_s - before[0] <= _LATE_S < abs(stated_s - self._stated_s):
            self._offset_s = before[1]  # the newest picture alone had another time
        elif self._starts_anew(stated_s):
            self._before = self._stated_s, self._offset_s
            self._begin(stated_s)
        media_s = stated_s + self._offset_s
        if media_s <= self._last_s:
            return None  # a time stamp that goes back a little, or is repeated
        if self._stated_s is not None and 0 < stated_s - self._stated_s <= 1:
            self._step_s = stated_s - self._stated_s
        self._last_s, self._stated_s = media_s, stated_s
        return media_s

    def _begin(self, stated_s: float) -> None:
        self._offset_s = self._last_s + self._step_s - stated_s
        self._began_s = stated_s

    def _starts_anew(self, stated_s: float) -> bool:
        assert self._stated_s is not None
        step_s = stated_s - self._stated_s
        back_to_start = step_s < 0 and stated_s < self._began_s + self._step_s / 2
        return step_s > _JUMP_S or step_s < -_LATE_S or back_to_start


def container_times(path: str | os.PathLike[str]) -> list[float]:
    """The media times of a video's pictures in seconds, sorted, as the container states them.

    Nothing is decoded, so some of these pictures may turn out to be broken. Empty where the
    container states no times, or times that start anew.

    Raises:
        VideoError: there is no such file, or no video in it.
    """
    with _opened(os.fspath(path)) as (container, stream):
        packets = _packets(container, stream)
    first, last = _pictures_of(path, lambda: len(packets))
    if any(shown is None for _, shown in packets):
        return []
    order = [decoded for decoded, _ in packets if decoded is not None]
    if any(not 0 <= step <= _JUMP_S for step in np.diff(order).tolist()):
        return []
    times = sorted(shown for _, shown in packets if shown is not None)
    times = times[first - 1 : None if last == math.inf else int(last)]
    return [time_s - times[0] for time_s in times]


def _packets(
    container: av.container.InputContainer, stream: av.VideoStream, most: int | None = None
) -> list[tuple[float | None, float | None]]:
    """When each packet of a stream is to be decoded and shown, s, as the container states it."""
    times: list[tuple[float | None, float | None]] = []
    with contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue  # the end of the stream, or what an edit list cuts away
            scale = float(packet.time_base)
            dts, pts = packet.dts, packet.pts
            times.append(
                (None if dts is None else dts * scale, None if pts is None else pts * scale)
            )
            if len(times) == most:
                break
    return times


def _pictures_of(path: str | os.PathLike[str], count: Callable[[], int]) -> tuple[int, float]:
    """The numbers of the first and the last picture to take of a video, or of a part of it.

    count: how many there are in the file; only asked for a part.
    """
    return path.of_pictures(count()) if isinstance(path, VideoPart) else (1, math.inf)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    if not Path(name).is_file():
        raise VideoError(f"{name}: no such file")
    if Path(name).stat().st_size == 0:
        raise VideoError(f"{name}: the file is empty")
    try:
        container = open_video_file(name)
    except av.ArgumentError as exc:  # FFmpeg knows it, but it is not one of ours
        raise VideoError(
            f"{name}: not a video file, but a picture, a playlist or another kind"
        ) from exc
    except (av.FFmpegError, OSError, ValueError) as exc:
        raise VideoError(f"{name}: not a video file ({_reason(exc)})") from exc
    with container:
        stream = _video_stream(name, container)
        stream.thread_count = 1
        yield container, stream


def _video_stream(name: str, container: av.container.InputContainer) -> av.VideoStream:
    """The video of a file, which may have pictures about it in streams of their own.

    Raises:
        VideoError: there is none.
    """
    streams = [s for s in container.streams.video if s.codec_context is not None]
    if not streams:
        raise VideoError(f"{name}: there is no video in it")
    streams = [s for s in streams if not s.disposition & _ABOUT]
    brand = container.metadata.get("major_brand", "").strip().lower()
    still = [brand in _PICTURE_BRANDS or s.codec_context.name in _PICTURE_CODECS for s in streams]
    if not any(still) and len(streams) == 1:
        return streams[0]
    counts = [_count(name, s.index, 2 if len(streams) == 1 else None) for s in streams]
    for stream, count, picture in zip(streams, counts, still, strict=True):
        if 2 * count >= max(counts) and not (picture and count < 2):
            return stream
    raise VideoError(f"{name}: there is no video in it, only a picture")


def _count(name: str, stream: int, most: int | None) -> int:
    """How many packets a stream of a file has, or `most` if these are more."""
    with open_video_file(name) as container:
        return len(_packets(container, container.streams[stream], most))  # type: ignore[arg-type]


def _decoded(
    name: str, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Pictures in the decoder's order, until the file ends or breaks off.

    A broken packet loses its picture, and those that are predicted from it.
    """
    shown, problem = 0, "there is not one picture in it"
    try:
        for packet in container.demux(stream):
            try:
                pictures = packet.decode()
            except av.InvalidDataError as exc:
                problem = f"not one picture can be decoded ({_reason(exc)})"
                continue
            shown += len(pictures)
            yield from pictures
    except av.FFmpegError as exc:
        problem = f"not one picture can be decoded ({_reason(exc)})"
    if shown == 0:
        raise VideoError(f"{name}: {problem}")


def _reason(exc: BaseException) -> str:
    text = getattr(exc, "strerror", None) or str(exc)
    return " ".join(str(text).split())
