"""One video -> what the encoder gets of it, and the embeddings that come of that.

    [videos] -> ticks of the encoder's rate -> [variants] -> encoder -> rows (T, D)

Frames are chosen by time, as the live windows choose them. An encoder that looks at a window
("vjepa2") sees the middle one: `look` cuts it, and windows of several videos are encoded at once.
One that gives a row a frame ("landmarks") sees the whole video: `whole` hands it over in chunks.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.schema import Clip, Encoder, EncoderSpec, Frame
from models.window import FrameSampler
from offline.data.videos import VideoError, read_video, told_times

_LONGEST_S = 600.0  # a longer video is no clip of a sign


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Looked:
    """What a video shows an encoder of windows: a clip a variant, in their order."""

    clips: tuple[Clip, ...]
    frames: int  # pictures of the video that are in each


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Embedded:
    """The rows of one variant, and how many pictures of the video went into them."""

    variant: str
    rows: NDArray[np.float32]  # (T, D)
    frames: int


def row_a_frame(spec: EncoderSpec) -> bool:
    """True when the encoder gives one row a frame, so that windows may be cut from the rows."""
    return spec.kind == "landmarks"


def identity(spec: EncoderSpec) -> str:
    """What rows depend on, as the index tells it: rows of another identity are made again."""
    rate = f"{spec.fps:g}fps" if row_a_frame(spec) else f"{spec.frames}@{spec.fps:g}fps"
    return f"{spec.kind}:{spec.source}@{spec.revision}/{rate}/{spec.short_side}px"


def whole(encoder: Encoder, path: Path, variants: Sequence[str]) -> list[Embedded]:
    """The embeddings of the video at `path` by an encoder that gives a row a frame.

    Raises:
        VideoError: the video can't be read, or is longer than ten minutes.
    """
    return [_whole(encoder, path, variant) for variant in variants]


def _whole(encoder: Encoder, path: Path, variant: str) -> Embedded:
    """A row a tick, chunk by chunk: the memory is bounded, and the rows are the same."""
    stream = f"{path}#{variant}"
    shown = ticks(path, encoder.spec, VARIANTS[variant])
    rows: list[NDArray[np.float32]] = []
    seen, last = 0, None
    try:
        while chunk := tuple(itertools.islice(shown, encoder.spec.frames)):
            rows += [e.features for e in encoder.encode([_clip(stream, chunk)])]
            for frame in chunk:  # a repeat is the same object, across chunks too
                seen += frame is not last
                last = frame
    finally:
        encoder.forget(stream)
    return Embedded(variant=variant, rows=np.concatenate(rows), frames=seen)


def look(path: Path, spec: EncoderSpec, variants: Sequence[str]) -> Looked:
    """The middle window of the video at `path`, once a variant.

    Raises:
        VideoError: see `whole`.
    """
    frames = middle_window(path, spec)
    unlike = list(dict.fromkeys(frames))
    clips = []
    for variant in variants:
        change = VARIANTS[variant]
        changed = {id(frame): replace(frame, image=change(frame.image)) for frame in unlike}
        clips.append(_clip(f"{path}#{variant}", tuple(changed[id(frame)] for frame in frames)))
    return Looked(clips=tuple(clips), frames=len(unlike))


def middle_window(path: Path, spec: EncoderSpec) -> tuple[Frame, ...]:
    """The frames of the window in the middle; a short video's begins with repeats, as live.

    The container's times say where the middle is, so that the video is decoded once, up to the
    window's end, and only the window's pictures are converted. Where they say nothing, or more than
    there is, the pictures are counted.

    Raises:
        VideoError: see `whole`.
    """
    sampler = FrameSampler(spec.fps)
    for times_of in (_told, _shown):
        there = [sampler.tick(media_s) for media_s in times_of(path)]
        if not there:
            continue
        first = max(0, (there[-1] + 1 - spec.frames) // 2)
        count = min(there[-1] + 1, spec.frames)
        # The tick that `first` repeats, if it has no frame of its own.
        before = there[bisect.bisect_right(there, first) - 1]
        frames = tuple(ticks(path, spec, first=first, count=count, before=before))
        if len(frames) == count:
            break
    return (frames[0],) * (spec.frames - len(frames)) + frames


def ticks(
    path: Path,
    spec: EncoderSpec,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    first: int = 0,
    count: int | None = None,
    before: int | None = None,
) -> Iterator[Frame]:
    """A frame for each tick from tick `first` on; one without a frame repeats the one before.

    `before`: frames of earlier ticks than this one are not even converted.

    Raises:
        VideoError: see `whole`.
    """
    sampler = FrameSampler(spec.fps)
    stop = None if count is None else first + count
    shown: Frame | None = None
    tick = first

    def wants(media_s: float) -> bool:
        _check_length(path, media_s)
        return sampler.tick(media_s) >= (before or 0) and sampler.wants(media_s)

    for frame in read_video(path, spec.short_side, wants):
        now = sampler.tick(frame.media_s)
        while shown is not None and tick < now and tick != stop:
            yield shown
            tick += 1
        if tick == stop:
            return
        shown = replace(frame, image=change(frame.image)) if change else frame
        if now + 1 == stop:  # the first frame of a tick stands for it: none has to be waited for
            break
    if shown is not None and tick != stop:
        yield shown


def _told(path: Path) -> list[float]:
    times = told_times(path)
    _check_length(path, times[-1] if times else 0.0)
    return times


def _shown(path: Path) -> list[float]:
    """The media times of the pictures that can be decoded; none is converted."""
    times: list[float] = []

    def note(media_s: float) -> bool:
        _check_length(path, media_s)
        times.append(media_s)
        return False

    for _ in read_video(path, 16, note):
        pass
    return times


def _check_length(path: Path, media_s: float) -> None:
    if media_s > _LONGEST_S:
        raise VideoError(f"{path}: longer than {_LONGEST_S:.0f} s, so it is no clip of a sign")


def _clip(stream: str, frames: tuple[Frame, ...]) -> Clip:
    return Clip(stream=stream, frames=frames, start_s=frames[0].media_s, end_s=frames[-1].media_s)


# MERGED from offline.encoding.variants: Other looks of the same video, made before encoding: a
# blurred one, one in black and white.

Image = NDArray[np.uint8]  # (H, W, 3) RGB


def _original(image: Image) -> Image:
    return image


def _gaussian(image: Image) -> Image:
    """As out of focus: a blur of 1/128 of the short side (2.3 px of 292), 0.8 px at least."""
    sigma = max(0.8, min(image.shape[:2]) / 128)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _bw(image: Image) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


VARIANTS: dict[str, Callable[[Image], Image]] = {
    "original": _original,
    "gaussian": _gaussian,
    "bw": _bw,
}
