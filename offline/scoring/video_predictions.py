"""What the live path predicts for a video file: the same windows, encoder, head and sign decoder.

    video file -> [windows] -> recogniser -> predictions -> sign decoder -> signs

`offline.predict`, `offline.time_to_decision` and the demo are built on it.
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
    """`models.recognizer.Recognizer`, or an object that passes clips on to one elsewhere."""

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
    hold_s: tuple[float, float] = (0.0, 0.0),
) -> Iterator[Prediction]:
    """The prediction for each window of the file, in order; a window every `hop_s` (the bundle's).

    Frames from media time `until_s` on are not read. The first and the last frame are held for
    `hold_s`, see `hold_ends`; media time starts at the first held frame.

    Raises:
        VideoError: see `offline.data.videos.read_video`.
    """
    stream, bundle = os.fspath(path), reader.bundle
    sampler = FrameSampler(bundle.encoder.fps)
    spec = bundle.encoder
    frames = read_video(stream, spec.short_side, sampler.wants, spec.resize)
    if until_s is not None:
        frames = itertools.takewhile(lambda frame: frame.media_s < until_s, frames)
    try:
        clips = windows(stream, hold_ends(frames, *hold_s), bundle.encoder, hop_s or bundle.hop_s)
        for clip in clips:
            yield from reader.recognise([clip])
    finally:
        reader.forget(stream)


def hold_ends(frames: Iterable[Frame], before_s: float, after_s: float) -> Iterator[Frame]:
    """A clip with its first frame held before it and its last frame after it, at 15 fps.

    Clips are cut close to their sign; a camera would have started earlier and gone on.
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


def sign_updates(
    glosses: Sequence[str], predictions: Iterable[Prediction], settings: DecoderSettings
) -> Iterator[tuple[float, Sign]]:
    """Each version of each sign, with the media time at which its last window ends."""
    decoder = SignDecoder(glosses, settings)
    end_s = 0.0
    for prediction in predictions:
        end_s = prediction.end_s
        yield from ((end_s, sign) for sign in decoder.update(prediction))
    yield from ((end_s, sign) for sign in decoder.flush())


def signs_of(
    glosses: Sequence[str], predictions: Iterable[Prediction], settings: DecoderSettings
) -> list[Sign]:
    """The signs in the predictions of a file: the last version of each, in order."""
    return list({s.id: s for _, s in sign_updates(glosses, predictions, settings)}.values())
