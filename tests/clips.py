"""Real clips for the tests: which there are, and how to play them to a recogniser or a server."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.decoder import DecoderSettings, SignDecoder, clip_probabilities
from models.recognizer import Recognizer
from models.schema import Frame, Prediction, Sign
from models.window import FrameSampler, windows
from offline.data.videos import read_video

HELD_OUT = Path(__file__).parent / "bundles" / "heldout"


@dataclass(frozen=True)
class LabelledClip:
    path: Path
    gloss: str


def held_out(data_dir: Path) -> list[LabelledClip]:
    """Clips of signers that the bundle tests/bundles/heldout did not learn from."""
    card = json.loads((HELD_OUT / "card.json").read_text())
    return [
        LabelledClip(data_dir / "clips" / one["video"], one["gloss"])
        for one in card["data"]["held_out_clips"]
        if Path(one["video"]).suffix == ".mp4"  # not landmarks
    ]


def one_a_gloss(clips: Iterable[LabelledClip]) -> list[LabelledClip]:
    """The first clip of each gloss, in the order of their names."""
    first: dict[str, LabelledClip] = {}
    for clip in sorted(clips, key=lambda clip: (clip.gloss, clip.path.name)):
        first.setdefault(clip.gloss, clip)
    return list(first.values())


def mirrored(frames: Iterable[Frame]) -> Iterator[Frame]:
    """As a left-handed signer would have done it."""
    for frame in frames:
        yield replace(frame, image=np.ascontiguousarray(frame.image[:, ::-1]))


def far_away(picture: NDArray[np.uint8], scale: float, grey: int) -> NDArray[np.uint8]:
    """The picture so much smaller, in the middle of a grey one's lower edge."""
    room = np.full_like(picture, grey)
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left = (room.shape[1] - small.shape[1]) // 2
    room[-len(small) :, left : left + small.shape[1]] = small
    return room


def frames_of(path: Path, recognizer: Recognizer) -> Iterator[Frame]:
    spec = recognizer.spec
    return read_video(path, spec.short_side, FrameSampler(spec.fps).wants)


def predictions(recognizer: Recognizer, frames: Iterable[Frame]) -> list[Prediction]:
    """What the recogniser says of each window of the frames, as the live half would cut them."""
    stream = "test"
    said = [
        recognizer.recognise([clip])[0]
        for clip in windows(stream, frames, recognizer.spec, recognizer.bundle.hop_s)
    ]
    recognizer.forget(stream)
    return said


def top_gloss(recognizer: Recognizer, said: list[Prediction]) -> str:
    return recognizer.bundle.glosses[int(clip_probabilities(said).argmax())]


def signs(recognizer: Recognizer, said: list[Prediction]) -> list[Sign]:
    """The final signs that the decoder makes of the predictions."""
    decoder = SignDecoder(
        recognizer.bundle.glosses, DecoderSettings(threshold=recognizer.bundle.threshold)
    )
    told = [sign for one in said for sign in decoder.update(one)] + decoder.flush()
    return [sign for sign in told if sign.final]
