"""What the live way would say of a video file: the same windows, encoder, head and sign decoder.

A file in, predictions out, signs out of those: behind `offline.predict` and the demo.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from models.bundle import Bundle
from models.decoder import DecoderSettings, SignDecoder
from models.schema import Clip, Prediction, Sign
from models.window import FrameSampler, windows
from offline.videos import read_video


class Reader(Protocol):
    """What reads: `models.recognizer.Recognizer`, or something that has one at work elsewhere."""

    @property
    def bundle(self) -> Bundle: ...

    def recognise(self, clips: Sequence[Clip]) -> list[Prediction]: ...
    def forget(self, stream: str) -> None: ...


def read_predictions(
    reader: Reader,
    path: str | os.PathLike[str],
    *,
    hop_s: float | None = None,
    until_s: float | None = None,
) -> Iterator[Prediction]:
    """What `reader` says of each window of the file, in order, as each is read.

    Args:
        hop_s: media time between two windows; None: as the bundle says.
        until_s: what the file shows from then on is not read.

    Raises:
        VideoError: see `offline.videos.read_video`.
    """
    stream, bundle = os.fspath(path), reader.bundle
    sampler = FrameSampler(bundle.encoder.fps)
    frames = read_video(stream, bundle.encoder.short_side, sampler.wants)
    if until_s is not None:
        frames = itertools.takewhile(lambda frame: frame.media_s < until_s, frames)
    try:
        for clip in windows(stream, frames, bundle.encoder, hop_s or bundle.hop_s):
            yield from reader.recognise([clip])
    finally:
        reader.forget(stream)


def signs_of(
    glosses: Sequence[str], predictions: Iterable[Prediction], settings: DecoderSettings
) -> list[Sign]:
    """The signs that the predictions of a file make: the last word on each, in order."""
    decoder = SignDecoder(glosses, settings)
    last: dict[int, Sign] = {}
    for prediction in predictions:
        last |= {sign.id: sign for sign in decoder.update(prediction)}
    last |= {sign.id: sign for sign in decoder.flush()}
    return list(last.values())
