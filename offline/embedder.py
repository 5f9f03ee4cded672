"""One video -> its embeddings, one for each variant: what a worker of `offline.encode` does.

    [videos] -> ticks of the encoder's rate -> [variants] -> encoder -> rows (T, D)

Frames are chosen by time, as the live windows choose them. An encoder that gives a row a frame
("landmarks") sees the whole video; one that looks at a window ("vjepa2") sees the middle one.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.schema import Clip, Encoder, EncoderSpec, Frame
from models.window import FrameSampler
from offline.variants import VARIANTS
from offline.videos import VideoError, read_video

_LONGEST_S = 600.0  # a longer video is no clip of a sign


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


def embed(encoder: Encoder, path: Path, variants: Sequence[str]) -> list[Embedded]:
    """The embeddings of the video at `path`, one a variant.

    Raises:
        VideoError: the video can't be read, or is longer than ten minutes.
    """
    if row_a_frame(encoder.spec):
        return [_whole(encoder, path, variant) for variant in variants]
    return _middle(encoder, path, variants)


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


def middle_window(path: Path, spec: EncoderSpec) -> tuple[Frame, ...]:
    """The frames of the window in the middle; a short video's begins with repeats, as live.

    Raises:
        VideoError: see `embed`.
    """
    first = max(0, (_count_ticks(path, spec) - spec.frames) // 2)
    frames = tuple(ticks(path, spec, first=first, count=spec.frames))
    return (frames[0],) * (spec.frames - len(frames)) + frames


def _middle(encoder: Encoder, path: Path, variants: Sequence[str]) -> list[Embedded]:
    frames = middle_window(path, encoder.spec)
    unlike = list(dict.fromkeys(frames))
    clips = []
    for variant in variants:
        change = VARIANTS[variant]
        changed = {id(frame): replace(frame, image=change(frame.image)) for frame in unlike}
        clips.append(_clip(variant, tuple(changed[id(frame)] for frame in frames)))
    return [
        Embedded(variant=variant, rows=embedding.features, frames=len(unlike))
        for variant, embedding in zip(variants, encoder.encode(clips), strict=True)
    ]


def ticks(
    path: Path,
    spec: EncoderSpec,
    change: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None,
    first: int = 0,
    count: int | None = None,
) -> Iterator[Frame]:
    """A frame for each tick from tick `first` on; one without a frame repeats the one before.

    Raises:
        VideoError: see `embed`.
    """
    sampler = FrameSampler(spec.fps)
    stop = None if count is None else first + count
    shown: Frame | None = None
    tick = first
    for frame in read_video(path, spec.short_side, _wants(path, sampler)):
        now = sampler.tick(frame.media_s)
        while shown is not None and tick < now and tick != stop:
            yield shown
            tick += 1
        if tick == stop:
            return
        shown = replace(frame, image=change(frame.image)) if change else frame
    if shown is not None and tick != stop:
        yield shown


def _count_ticks(path: Path, spec: EncoderSpec) -> int:
    """How many ticks the video at `path` has; pictures are decoded, but none is converted."""
    sampler = FrameSampler(spec.fps)
    last = 0

    def look(media_s: float) -> bool:
        nonlocal last
        _wants(path, sampler)(media_s)
        last = sampler.tick(media_s)
        return False

    for _ in read_video(path, spec.short_side, look):
        pass
    return last + 1


def _wants(path: Path, sampler: FrameSampler) -> Callable[[float], bool]:
    def wants(media_s: float) -> bool:
        if media_s > _LONGEST_S:
            raise VideoError(f"{path}: longer than {_LONGEST_S:.0f} s, so it is no clip of a sign")
        return sampler.wants(media_s)

    return wants


def _clip(stream: str, frames: tuple[Frame, ...]) -> Clip:
    return Clip(stream=stream, frames=frames, start_s=frames[0].media_s, end_s=frames[-1].media_s)
