"""Reads video files: the door of the offline way. A file in, frames with their media time out.

    [videos] -> windows or ticks -> encoder -> store

Media time is a frame's presentation time minus the first frame's. Files are often odd: metadata
that is not UTF-8, a rotation in the container, no time stamps, packets that are broken, a cut end.
What can be shown is shown; a file with no picture at all is a `VideoError`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from models.picture import PictureScaler
from models.schema import Frame

_MAX_SIDE = 8192  # px: larger pictures are not video of a person, but an attack or a mistake
_DEFAULT_FPS = 25.0  # where a file tells neither times nor a rate


class VideoError(ValueError):
    """A file that can't be read as video; one line that names the file and says why."""


def read_video(
    path: str | os.PathLike[str],
    short_side: int,
    wants: Callable[[float], bool] | None = None,
) -> Iterator[Frame]:
    """The frames of a video in the order of their media time, upright, RGB, as arrays.

    Args:
        short_side: pictures with a longer short side are scaled down to it, px.
        wants: told the media time of each frame in seconds; only frames for which it says True are
            converted and given. None: all.

    A file that breaks off gives the frames before the break.

    Raises:
        VideoError: there is no such file, no video in it, or not one picture can be decoded.
    """
    name = os.fspath(path)
    with _opened(name) as (container, stream):
        yield from _frames(name, container, stream, short_side, wants)


def told_times(path: str | os.PathLike[str]) -> list[float]:
    """The media times of a video's pictures in seconds, sorted, as the container tells them.

    Nothing is decoded, so a picture of them may turn out to be broken. Empty where the container
    tells no times.

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
        container = av.open(name, metadata_errors="ignore")
    except (av.FFmpegError, OSError, ValueError) as exc:
        raise VideoError(f"{name}: not a video file ({_reason(exc)})") from exc
    with container:
        if not container.streams.video:
            raise VideoError(f"{name}: there is no video in it")
        stream = container.streams.video[0]
        stream.thread_count = 1
        yield container, stream


def _frames(
    name: str,
    container: av.container.InputContainer,
    stream: av.VideoStream,
    short_side: int,
    wants: Callable[[float], bool] | None,
) -> Iterator[Frame]:
    scaler = PictureScaler(short_side)
    aspect = float(stream.sample_aspect_ratio or 1)
    aspect = aspect if 0.25 <= aspect <= 4 else 1.0
    rate = stream.average_rate or stream.guessed_rate
    step_s = 1 / float(rate) if rate else 1 / _DEFAULT_FPS
    first_s: float | None = None
    last_s = -step_s
    for picture in _decoded(name, container, stream):
        if picture.time is None:
            media_s = last_s + step_s  # raw streams carry no times
        else:
            first_s = picture.time - last_s - step_s if first_s is None else first_s
            media_s = float(picture.time) - first_s
        if media_s <= last_s:
            continue  # a time stamp that goes back, or twice the same
        last_s = media_s
        if wants is None or wants(media_s):
            image = _rgb(name, picture, scaler, aspect)
            yield Frame(image=image, media_s=media_s)


def _decoded(
    name: str, container: av.container.InputContainer, stream: av.VideoStream
) -> Iterator[av.VideoFrame]:
    """Pictures as the decoder gives them, until the file ends or breaks off.

    A packet that is broken costs its picture, and those that build on it.
    """
    shown, problem = 0, "there is not one picture in it"
    try:
        for packet in container.demux(stream):
            try:
                pictures = packet.decode()
            except av.InvalidDataError as exc:
                problem = f"not one picture can be decoded ({_reason(exc)})"
                continue
            for picture in pictures:
                yield picture
                shown += 1
    except av.FFmpegError as exc:
        problem = f"not one picture can be decoded ({_reason(exc)})"
    if shown == 0:
        raise VideoError(f"{name}: {problem}")


def _rgb(
    name: str, picture: av.VideoFrame, scaler: PictureScaler, aspect: float
) -> NDArray[np.uint8]:
    """(H, W, 3) upright RGB of its own memory, pixels square."""
    if max(picture.width * aspect, picture.height) > _MAX_SIDE:
        raise VideoError(f"{name}: pictures of {picture.width}x{picture.height} are too large")
    try:
        image = scaler.rgb(picture, aspect)
    except av.FFmpegError as exc:
        raise VideoError(f"{name}: its pictures can't be converted ({_reason(exc)})") from exc
    turned = np.rot90(image, round(picture.rotation / 90))
    return np.ascontiguousarray(turned)


def _reason(exc: BaseException) -> str:
    text = getattr(exc, "strerror", None) or str(exc)
    return " ".join(str(text).split())
