"""A task of one video -> its window or ticks, and the rows that an encoder makes of them.

    task -> [embed]: videos -> ticks of the encoder's rate -> variants -> encoder -> EncodedVideo

Frames are chosen by time, as the live windows choose them. An encoder of windows ("vjepa2") gets
those of a `WindowPlan`: `decode_windows` cuts them, and `encode_windows` encodes those of several
videos at once. An encoder with a row per frame ("landmarks") gets the whole video:
`encode_whole_video`. Both make the video's fingerprint of the same decoded pictures.
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
from offline.data.index import ORIGINAL, part_name
from offline.data.labels import LabelledVideo, holds_landmarks
from offline.data.videos import VideoError, VideoPart, container_times, read_pictures

_LONGEST_S = 600.0  # a longer video is no clip of a sign

Image = NDArray[np.uint8]  # (H, W, 3) RGB


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowPlan:
    """Which windows of a video are encoded: V-JEPA 2's authors evaluate by such, and average.

    Segments are spread evenly from the video's start to its end; one segment is the middle. Of each
    there are `views`: squares along the picture's long side. A video no longer than a window has
    one segment, a square picture one view.
    """

    segments: int = 1
    views: int = 1

    def __str__(self) -> str:
        return f"{self.segments}x{self.views}"

    def windows(self, ticks: int, frames: int) -> list[range]:
        """The ticks of each window of `frames` in a video of `ticks`; below 0: before its start."""
        room, steps = ticks - frames, self.segments - 1
        if room < 0 or not steps:
            firsts = {room if room < 0 else room // 2}
        else:
            firsts = {round(n * room / steps) for n in range(self.segments)}
        return [range(first, first + frames) for first in sorted(firsts)]


MIDDLE_WINDOW = WindowPlan()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeTask:
    """One video, and the variants that are still to be made of it."""

    video: LabelledVideo
    variants: tuple[str, ...]
    plan: WindowPlan = MIDDLE_WINDOW

    @property
    def clips(self) -> int:
        """How many windows are encoded for it at most."""
        return len(self.variants) * self.plan.segments * self.plan.views


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodedWindows:
    """The windows of a task's video: as many clips per variant, in the order of the variants."""

    task: EncodeTask
    clips: tuple[Clip, ...]
    windows: int  # per variant: segment by segment, and of each its views
    frames: int  # different pictures in the clips of a variant
    fingerprint: Fingerprint | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class VariantRows:
    """The rows of one variant, and how many different pictures of the video were encoded."""

    variant: str
    rows: NDArray[np.float32]  # (windows * T, D)
    frames: int
    windows: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo:
    """The result of a task: rows per variant and the fingerprint, or why there are none."""

    video: LabelledVideo
    rows: tuple[VariantRows, ...] = ()
    fingerprint: Fingerprint | None = None
    error: str = ""
    plan: WindowPlan = MIDDLE_WINDOW


def row_per_frame(spec: EncoderSpec) -> bool:
    """True when the encoder returns one row per frame, so that windows may be cut from the rows."""
    return spec.kind == "landmarks"


def encoder_identity(
    spec: EncoderSpec, video: LabelledVideo | None = None, plan: WindowPlan = MIDDLE_WINDOW
) -> str:
    """All that rows depend on, as the index states it: rows of another encoder are made again.

    video: whose rows; those of a landmark file depend on what it is said to be, too.
    """
    rate = f"{spec.fps:g}fps" if row_per_frame(spec) else f"{spec.frames}@{spec.fps:g}fps"
    identity = f"{spec.kind}:{spec.source}@{spec.revision}/{rate}/{spec.short_side}px"
    if spec.resize != "fast":
        identity += f"/{spec.resize}"
    if plan != MIDDLE_WINDOW:
        identity += f"/windows={plan}"
    if video is not None and video.frames:
        identity += part_name(video.frames)
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


def decode_windows(task: EncodeTask, spec: EncoderSpec) -> DecodedWindows | EncodedVideo:
    """The windows of a task's video; if it can't be read, the result already."""
    path, builder = task.video.source, FingerprintBuilder()
    try:
        windows = window_frames(path, spec, task.plan, builder)
    except (ValueError, OSError) as exc:
        return EncodedVideo(video=task.video, error=str(exc))
    different = list(dict.fromkeys(frame for window in windows for frame in window))
    height, width = different[0].image.shape[:2]
    views = 1 if height == width else task.plan.views
    clips = []
    for variant in task.variants:
        change = VARIANTS[variant]
        changed = {id(frame): replace(frame, image=change(frame.image)) for frame in different}
        seen = [{i: _view(f, n, views) for i, f in changed.items()} for n in range(views)]
        clips += [
            _clip(f"{path}#{variant}", tuple(view[id(frame)] for frame in window))
            for window in windows
            for view in seen
        ]
    return DecodedWindows(
        task=task,
        clips=tuple(clips),
        windows=len(windows) * views,
        frames=len(different),
        fingerprint=_built(builder),
    )


def encode_windows(encoder: Encoder, decoded: Sequence[DecodedWindows]) -> list[EncodedVideo]:
    """The rows of several videos' windows by one call of the encoder."""
    embeddings = iter(encoder.encode([clip for video in decoded for clip in video.clips]))
    return [
        EncodedVideo(
            video=video.task.video,
            rows=tuple(
                VariantRows(
                    variant=variant,
                    rows=np.concatenate([next(embeddings).features for _ in range(video.windows)]),
                    frames=video.frames,
                    windows=video.windows,
                )
                for variant in video.task.variants
            ),
            fingerprint=video.fingerprint,
            plan=video.task.plan,
        )
        for video in decoded
    ]


def _built(builder: FingerprintBuilder) -> Fingerprint | None:
    """None when a picture can't be converted that the encoder may not even need."""
    with contextlib.suppress(VideoError):
        return builder.build()
    return None


def middle_window(path: Path | VideoPart, spec: EncoderSpec) -> tuple[Frame, ...]:
    """The frames of the window in the middle of a video; see `window_frames`."""
    [frames] = window_frames(path, spec, MIDDLE_WINDOW)
    return frames


def window_frames(
    path: Path | VideoPart,
    spec: EncoderSpec,
    plan: WindowPlan,
    fingerprint: FingerprintBuilder | None = None,
) -> list[tuple[Frame, ...]]:
    """The frames of each window of the plan; a short video's begins with repeats, as live.

    The container's times say where the windows are, so that the video is decoded once, and only
    their pictures are converted. If the container states no times, or wrong ones, the pictures are
    decoded once more to count them.

    Raises:
        VideoError: the video can't be read, or is longer than ten minutes.
    """
    sampler = FrameSampler(spec.fps)
    decoded_times = (picture.media_s for picture in read_pictures(path))
    for times in (container_times(path), decoded_times):
        there = [sampler.tick(_checked(path, media_s)) for media_s in times]
        if not there:
            continue
        # Of each tick of each window the tick whose picture it shows: its own, or one before.
        shown = [
            [there[bisect.bisect_right(there, max(0, tick)) - 1] for tick in window]
            for window in plan.windows(there[-1] + 1, spec.frames)
        ]
        wanted = {tick for window in shown for tick in window}
        frames, read = _frames_at(path, spec, wanted, fingerprint)
        if wanted <= frames.keys() and read <= {*there}:
            return [tuple(frames[tick] for tick in window) for window in shown]
    raise VideoError(f"{path}: its pictures and their times do not belong together")


def _frames_at(
    path: Path | VideoPart,
    spec: EncoderSpec,
    wanted: set[int],
    fingerprint: FingerprintBuilder | None,
) -> tuple[dict[int, Frame], set[int]]:
    """The first frame of each tick in `wanted` that has one; all ticks that have one.

    Of the latter those up to the first after `wanted`: no more is read, but for the fingerprint.
    """
    sampler, frames, read = FrameSampler(spec.fps), dict[int, Frame](), set[int]()
    pictures, newest = read_pictures(path), max(wanted)
    for picture in pictures:
        now = sampler.tick(_checked(path, picture.media_s))
        read.add(now)
        if fingerprint is not None:
            fingerprint.add(picture)
        if now in wanted and now not in frames:
            image = picture.rgb(spec.short_side, spec.resize)
            frames[now] = Frame(image=image, media_s=picture.media_s)
        if now > newest:
            break
    if fingerprint is not None:
        all(map(fingerprint.add, pictures))  # until it needs no more
    return frames, read


def _view(frame: Frame, number: int, count: int) -> Frame:
    """A square of the frame's short side: of `count` along the long side, number `number`.

    The one in the middle is the frame itself: encoders crop it, as live.
    """
    height, width = frame.image.shape[:2]
    side, room = min(height, width), abs(height - width)
    if 2 * number == count - 1 or not room:
        return frame
    first = round(number * room / (count - 1))
    cut = slice(first, first + side)
    return replace(frame, image=frame.image[cut] if height > width else frame.image[:, cut])


def ticks(
    path: Path | VideoPart,
    spec: EncoderSpec,
    change: Callable[[Image], Image] | None = None,
    *,
    fingerprint: FingerprintBuilder | None = None,
) -> Iterator[Frame]:
    """A frame for each tick of a whole video; a tick without a frame repeats the last one.

    Args:
        change: makes the variant of a picture.
        fingerprint: gets the pictures too.

    Raises:
        VideoError: see `window_frames`.
    """
    sampler = FrameSampler(spec.fps)
    shown: Frame | None = None
    tick = 0
    for picture in read_pictures(path):
        now = sampler.tick(_checked(path, picture.media_s))
        if fingerprint is not None:
            fingerprint.add(picture)
        if not sampler.wants(picture.media_s):
            continue
        while shown is not None and tick < now:
            yield shown
            tick += 1
        image = picture.rgb(spec.short_side, spec.resize)
        shown = Frame(image=change(image) if change else image, media_s=picture.media_s)
    if shown is not None:
        yield shown


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
