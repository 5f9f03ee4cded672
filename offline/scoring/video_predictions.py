"""What the live way would say of a video file: the same windows, encoder, head and sign decoder.

A file in, predictions out, signs out of those: behind `offline.predict` and the demo.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from models.bundle import Bundle
from models.decoder import DecoderSettings, SignDecoder
from models.schema import Clip, Frame, Prediction, Sign
from models.window import FrameSampler, windows
from offline.data.videos import read_video

_HELD_FPS = 15


class VideoReader(Protocol):
    """What reads: `models.recognizer.Recognizer`, or something that has one at work elsewhere."""

    @property
    def bundle(self) -> Bundle: ...

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]: ...
    def forget(self, stream: str) -> None: ...


def read_predictions(
    reader: VideoReader,
    path: str | os.PathLike[str],
    *,
    hop_s: float | None = None,
    until_s: float | None = None,
    still_s: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Prediction]:
    """What `reader` says of each window of the file, in order, as each is read.

    Args:
        hop_s: media time between two windows; None: as the bundle says.
        until_s: what the file shows from then on is not read.
        still_s: see `held`; media time then counts from the first held picture.

    Raises:
        VideoError: see `offline.data.videos.read_video`.
    """
    stream, bundle = os.fspath(path), reader.bundle
    sampler = FrameSampler(bundle.encoder.fps)
    frames = read_video(stream, bundle.encoder.short_side, sampler.wants)
    if until_s is not None:
        frames = itertools.takewhile(lambda frame: frame.media_s < until_s, frames)
    frames = held(frames, *still_s)
    try:
        for clip in windows(stream, frames, bundle.encoder, hop_s or bundle.hop_s):
            yield from reader.recognise([clip])
    finally:
        reader.forget(stream)


def held(frames: Iterable[Frame], before_s: float, after_s: float) -> Iterator[Frame]:
    """A clip with its first picture held before it and its last one after, at 15 a second.

    As a camera would have gone on: clips are cut close to their sign.
    """
    last: Frame | None = None
    for frame in frames:
        if last is None:
            for n in range(round(before_s * _HELD_FPS)):
                yield replace(frame, media_s=n / _HELD_FPS)
        last = replace(frame, media_s=frame.media_s + before_s)
        yield last
    if last is not None:
        for n in range(1, round(after_s * _HELD_FPS) + 1):
            yield replace(last, media_s=last.media_s + n / _HELD_FPS)


def told(
    glosses: Sequence[str], predictions: Iterable[Prediction], settings: DecoderSettings
) -> Iterator[tuple[float, Sign]]:
    """Each sign each time it is told, with the end of the window that made it so, media time."""
    decoder = SignDecoder(glosses, settings)
    end_s = 0.0
    for prediction in predictions:
        end_s = prediction.end_s
        yield from ((end_s, sign) for sign in decoder.update(prediction))
    yield from ((end_s, sign) for sign in decoder.flush())


def signs_of(
    glosses: Sequence[str], predictions: Iterable[Prediction], settings: DecoderSettings
) -> list[Sign]:
    """The signs that the predictions of a file make: the last word on each, in order."""
    return list({sign.id: sign for _, sign in told(glosses, predictions, settings)}.values())
