"""A task of one video -> its window or ticks, and the rows that an encoder makes of them.

    task -> [embed]: videos -> ticks of the encoder's rate -> variants -> encoder -> EncodedVideo

Frames are chosen by time, as the live windows choose them. An encoder of windows ("vjepa2") gets
the middle one: `decode_window` cuts it, and `encode_windows` encodes those of several videos at
once. An encoder with a row per frame ("landmarks") gets the whole video: `encode_whole_video`.
Both make the video's fingerprint of the same decoded pictures.
"""

from __future__ import annotations

import bisect
import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.schema import Clip, Encoder, EncoderSpec, Frame
from models.window import FrameSampler
from offline.data.fingerprints import Fingerprint, FingerprintBuilder
from offline.data.index import ORIGINAL
from offline.data.labels import LabelledVideo, holds_landmarks
from offline.data.videos import VideoError, VideoPart, container_times, read_pictures

_LONGEST_S = 600.0  # a longer video is no clip of a sign

Image = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeTask:
    """One video, and the variants that are still to be made of it."""

    video: LabelledVideo
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedWindow:
    """The middle window of a task's video: a clip per variant, in the order of the variants."""

    task: EncodeTask
    clips: tuple[Clip, ...]
    frames: int  # different pictures in each clip
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariantRows:
    """The rows of one variant, and how many different pictures of the video were encoded."""

    variant: str
    rows: NDArray[np.float32]  # (T, D)
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo:
    """The result of a task: rows per variant and the fingerprint, or why there are none."""

    video: LabelledVideo
    rows: tuple[VariantRows, ...] = ()
    fingerprint: Fingerprint | None = None
    error: str = ""


def row_per_frame(spec: EncoderSpec) -> bool:
    """True when the encoder returns one row per frame, so that windows may be cut from the rows."""
    return spec.kind == "landmarks"


def encoder_identity(spec: EncoderSpec, video: LabelledVideo | None = None) -> str:
    """All that rows depend on, as the index states it: rows of another encoder are made again.

    video: whose rows; those of a landmark file depend on what it is said to be, too.
    """
    rate = f"{spec.fps:g}fps" if row_per_frame(spec) else f"{spec.frames}@{spec.fps:g}fps"
    identity = f"{spec.kind}:{spec.source}@{spec.revision}/{rate}/{spec.short_side}px"
    if video is not None and video.frames:
        identity += "/frames={}-{}".format(*(n or "" for n in video.frames))
    if video is None or not holds_landmarks(video.path):
        return identity
    told = {"fps": video.fps, "aspect": video.aspect}
    return identity + "".join(f"/{name}={n:.6g}" for name, n in told.items() if n is not None)


def encode_whole_video(encoder: Encoder, task: EncodeTask) -> EncodedVideo:
    """The rows of a whole video by an encoder with a row per frame."""
    builder = FingerprintBuilder()
    try:
        rows = [
            _encode_variant(encoder, task.video.source, name, builder) for name in task.variants
        ]
    except (ValueError, OSError) as exc:
        return EncodedVideo(video=task.video, error=str(exc))
    return EncodedVideo(video=task.video, rows=tuple(rows), fingerprint=_built(builder))


def _encode_variant(
    encoder: Encoder, path: Path | VideoPart, variant: str, builder: FingerprintBuilder
) -> VariantRows:
    """A row per tick, chunk by chunk: the memory is bounded, and the rows are the same."""
    stream = f"{path}#{variant}"
    frames = ticks(path, encoder.spec, VARIANTS[variant], fingerprint=builder)
    rows: list[NDArray[np.float32]] = []
    count, last = 0, None
    try:
        while chunk := tuple(itertools.islice(frames, encoder.spec.frames)):
            rows += [e.features for e in encoder.encode([_clip(stream, chunk)])]
            for frame in chunk:  # a repeat is the same object, across chunks too
                count += frame is not last
                last = frame
    finally:
        encoder.forget(stream)
    return VariantRows(variant=variant, rows=np.concatenate(rows), frames=count)


def decode_window(task: EncodeTask, spec: EncoderSpec) -> DecodedWindow | EncodedVideo:
    """The middle window of a task's video; if it can't be read, the result already."""
    path, builder = task.video.source, FingerprintBuilder()
    try:
        frames = middle_window(path, spec, builder)
    except (ValueError, OSError) as exc:
        return EncodedVideo(video=task.video, error=str(exc))
    different = list(dict.fromkeys(frames))
    clips = []
    for variant in task.variants:
        change = VARIANTS[variant]
        changed = {id(frame): replace(frame, image=change(frame.image)) for frame in different}
        clips.append(_clip(f"{path}#{variant}", tuple(changed[id(frame)] for frame in frames)))
    return DecodedWindow(
        task=task, clips=tuple(clips), frames=len(different), fingerprint=_built(builder)
    )


def encode_windows(encoder: Encoder, decoded: Sequence[DecodedWindow]) -> list[EncodedVideo]:
    """The rows of several videos' windows by one call of the encoder."""
    embeddings = iter(encoder.encode([clip for window in decoded for clip in window.clips]))
    return [
        EncodedVideo(
            video=window.task.video,
            rows=tuple(
                VariantRows(variant=variant, rows=next(embeddings).features, frames=window.frames)
                for variant in window.task.variants
            ),
            fingerprint=window.fingerprint,
        )
        for window in decoded
    ]


def _built(builder: FingerprintBuilder) -> Fingerprint | None:
    """None when a picture can't be converted that the encoder may not even need."""
    with contextlib.suppress(VideoError):
        return builder.build()
    return None


def middle_window(
    path: Path | VideoPart, spec: EncoderSpec, fingerprint: FingerprintBuilder | None = None
) -> tuple[Frame, ...]:
    """The frames of the window in the middle; a short video's begins with repeats, as live.

    The container's times say where the middle is, so that the video is decoded once, and only the
    window's pictures are converted. If the container states no times, or wrong ones, the pictures
    are decoded once more to count them.

    Raises:
        VideoError: the video can't be read, or is longer than ten minutes.
    """
    sampler = FrameSampler(spec.fps)
    decoded_times = (picture.media_s for picture in read_pictures(path))
    for times in (container_times(path), decoded_times):
        there = [sampler.tick(_checked(path, media_s)) for media_s in times]
        if not there:
            continue
        first = max(0, (there[-1] + 1 - spec.frames) // 2)
        count = min(there[-1] + 1, spec.frames)
        # The tick that `first` repeats, if it has no frame of its own.
        before = there[bisect.bisect_right(there, first) - 1]
        frames = tuple(
            ticks(path, spec, first=first, count=count, before=before, fingerprint=fingerprint)
        )
        if len(frames) == count:
            break
    return (frames[0],) * (spec.frames - len(frames)) + frames


def ticks(
    path: Path | VideoPart,
    spec: EncoderSpec,
    change: Callable[[Image], Image] | None = None,
    *,
    first: int = 0,
    count: int | None = None,
    before: int = 0,
    fingerprint: FingerprintBuilder | None = None,
) -> Iterator[Frame]:
    """A frame for each tick from tick `first` on; a tick without a frame repeats the last one.

    Args:
        change: makes the variant of a picture.
        count: how many ticks; None: to the end of the video.
        before: frames of earlier ticks than this one are not even converted.
        fingerprint: gets the pictures too, and those after the last tick.

    Raises:
        VideoError: see `middle_window`.
    """
    sampler = FrameSampler(spec.fps)
    stop = None if count is None else first + count
    shown: Frame | None = None
    tick = first
    pictures = read_pictures(path)
    for picture in pictures:
        now = sampler.tick(_checked(path, picture.media_s))
        if fingerprint is not None:
            fingerprint.add(picture)
        if now < before or not sampler.wants(picture.media_s):
            continue
        while shown is not None and tick < now and tick != stop:
            yield shown
            tick += 1
        if tick == stop:
            break
        image = picture.rgb(spec.short_side)
        shown = Frame(image=change(image) if change else image, media_s=picture.media_s)
        if now + 1 == stop:  # the first frame of a tick stands for it: none has to be waited for
            break
    if shown is not None and tick != stop:
        yield shown
    if fingerprint is not None:
        all(map(fingerprint.add, pictures))  # until it needs no more


def _checked(path: Path | VideoPart, media_s: float) -> float:
    if media_s > _LONGEST_S:
        raise VideoError(f"{path}: longer than {_LONGEST_S:.0f} s, so it is no clip of a sign")
    return media_s


def _clip(stream: str, frames: tuple[Frame, ...]) -> Clip:
    return Clip(stream=stream, frames=frames, start_s=frames[0].media_s, end_s=frames[-1].media_s)


def _gaussian(image: Image) -> Image:
    """Out of focus: a blur of 1/128 of the short side (2.3 px of 292), 0.8 px at least."""
    sigma = max(0.8, min(image.shape[:2]) / 128)
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.uint8)


def _bw(image: Image) -> Image:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    return np.repeat(np.asarray(grey, np.uint8)[..., None], 3, axis=2)


VARIANTS: dict[str, Callable[[Image], Image]] = {
    ORIGINAL: lambda image: image,
    "gaussian": _gaussian,
    "bw": _bw,
}
