"""Reads video files: pictures with their media time, in order.

    file -> [videos] -> pictures -> windows -> encoder, fingerprint

Media time is a frame's presentation time minus the first frame's. Files are often odd: metadata
that is not UTF-8, a rotation in the container, no time stamps, broken packets, a cut end. What can
be decoded is returned; a file with no picture at all is a `VideoError`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from models.picture import PictureScaler
from models.schema import Frame, Resize
from models.video_file import open_video_file

_MAX_SIDE = 8192  # px: larger pictures are not video of a person, but an attack or a mistake
_DEFAULT_FPS = 25.0  # where a file has neither times nor a rate


class VideoError(ValueError):
    """A file that can't be read as video; one line that names the file and says why."""


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
        try:
            return self.scaler_for(short_side, resize).rgb(decoded, self.aspect, self._upright)
        except av.FFmpegError as exc:
            raise VideoError(
                f"{self.file}: its pictures can't be converted ({_reason(exc)})"
            ) from exc

    def _upright(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """As players show it."""
        return np.rot90(image, round(self.decoded.rotation / 90))


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
        step_s = 1 / float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
        scaler_for = cache(PictureScaler)
        first_s: float | None = None
        last_s = -step_s
        for decoded in _decoded(name, container, stream):
            if decoded.time is None:
                media_s = last_s + step_s  # raw streams carry no times
            else:
                first_s = decoded.time - last_s - step_s if first_s is None else first_s
                media_s = float(decoded.time) - first_s
            if media_s <= last_s:
                continue  # a time stamp that goes back, or is repeated
            last_s = media_s
            yield Picture(
                media_s=media_s, file=name, decoded=decoded, aspect=aspect, scaler_for=scaler_for
            )


def container_times(path: str | os.PathLike[str]) -> list[float]:
    """The media times of a video's pictures in seconds, sorted, as the container states them.

    Nothing is decoded, so some of these pictures may turn out to be broken. Empty where the
    container states no times.

    Raises:
        VideoError: there is no such file, or no video in it.
    """
    times: list[float] = []
    with _opened(os.fspath(path)) as (container, stream), contextlib.suppress(av.FFmpegError):
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard:
                continue  # the end of the stream, or what an edit list cuts away
            if packet.pts is None:
                return []
            times.append(float(packet.pts * packet.time_base))
    first = min(times, default=0.0)
    return sorted(time_s - first for time_s in times)


@contextlib.contextmanager
def _opened(name: str) -> Iterator[tuple[av.container.InputContainer, av.VideoStream]]:
    if not Path(name).is_file():
        raise VideoError(f"{name}: no such file")
    if Path(name).stat().st_size == 0:
        raise VideoError(f"{name}: the file is empty")
    try:
        container = open_video_file(name)
    except av.ArgumentError as exc:  # FFmpeg knows it, but it is not one of ours
        raise VideoError(f"{name}: not a video file, but a playlist or another kind") from exc
    except (av.FFmpegError, OSError, ValueError) as exc:
        raise VideoError(f"{name}: not a video file ({_reason(exc)})") from exc
    with container:
        if not container.streams.video:
            raise VideoError(f"{name}: there is no video in it")
        stream = container.streams.video[0]
        stream.thread_count = 1
        yield container, stream


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
